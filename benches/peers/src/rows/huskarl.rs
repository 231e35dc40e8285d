//! `huskarl-axum`, set up as its login example does and signed in at a real provider on loopback.

use axum::Router;
use axum::routing::get;
use huskarl::core::client_auth::NoAuth;
use huskarl::core::crypto::seal::AeadV1Sealer;
use huskarl::core::jwk::{JwksSource, OctBytes};
use huskarl::core::secrets::{ProvidedSecret, Secret as _, SecretBytes};
use huskarl::core::server_metadata::AuthorizationServerMetadata;
use huskarl::core::url_mapping::PublicUrlMapping;
use huskarl::grant::authorization_code::AuthorizationCodeGrant;
use huskarl_axum::login::{
    CookieSession, CookieSessionStore, LoginConfig, LoginLayer, LoginSession, SessionLifetime,
};
use huskarl_crypto_native::aead::AesGcmKey;
use huskarl_login::testing::InMemoryExternalSessionStore;
use huskarl_login::{PersistedSessionState, Session, SessionDriver, StoreBackedSessionStore};
use huskarl_reqwest::ReqwestClient;
use tower_pkce_auth::testing::provider::TestProvider;

use super::{Failed, Row, application, redirect_uri};
use crate::browser::{self, ORIGIN, PATH};

/// The session lies in a map in memory (the in-memory store of its test support), its id sealed in
/// a cookie.
pub async fn memory() -> Result<Row, Failed> {
    let store = StoreBackedSessionStore::builder()
        .external(InMemoryExternalSessionStore::<PersistedSessionState>::default())
        .sealer(AeadV1Sealer::new(key().await?))
        .cookie_name("session".parse()?)
        .build();
    signed_in::<_, PersistedSessionState>(store).await
}

/// The session lies sealed in cookies, as in its example.
pub async fn cookie() -> Result<Row, Failed> {
    let store: CookieSessionStore = CookieSessionStore::builder()
        .sealer(AeadV1Sealer::new(key().await?))
        .cookie_name("session".parse()?)
        .build();
    signed_in::<_, CookieSession>(store).await
}

async fn key() -> Result<AesGcmKey, Failed> {
    let secret = ProvidedSecret::new(SecretBytes::new(vec![7; 32]));
    Ok(AesGcmKey::from_secret(secret.mapped(OctBytes::new("A256GCM"))).await?)
}

async fn signed_in<D, S>(store: D) -> Result<Row, Failed>
where
    D: SessionDriver<SessionType = S> + Send + Sync + 'static,
    S: Session + Clone + Send + Sync + 'static,
{
    let provider =
        TestProvider::builder().public_client().redirect_uri(redirect_uri()).start().await?;
    let grant = grant(&provider).await?;
    let config = LoginConfig::builder()
        .url_mapping(PublicUrlMapping::new(ORIGIN, "/")?)
        .callback_path("/callback".to_owned())
        .scope(vec!["openid".to_owned()])
        .session_lifetime(SessionLifetime::DelegatedToAuthorizationServer)
        .build()?;
    let layer = LoginLayer::builder().config(config).grant(grant).session_store(store).build()?;
    let who = get(async |session: LoginSession<S>| session.state().sub.clone().unwrap_or_default());
    let app = application(who).layer(layer);
    let cookies = sign_in(&app, &provider).await?;
    Ok(Row { _alongside: Some(Box::new(provider)), ..Row::signed_in(app, vec![cookies]) })
}

async fn grant(provider: &TestProvider) -> Result<AuthorizationCodeGrant, Failed> {
    let client = ReqwestClient::builder().mtls(huskarl_reqwest::mtls::NoMtls).build().await?;
    let metadata = AuthorizationServerMetadata::oidc_fetch()
        .http_client(&client)
        .issuer(provider.issuer())
        .call()
        .await?;
    Ok(AuthorizationCodeGrant::builder_from_metadata(&metadata)?
        .client_id(provider.client_id().to_owned())
        .client_auth(NoAuth)
        .http_client(client.clone())
        .redirect_uri(redirect_uri())
        .jws_verifier_factory(JwksSource::builder().http_client(client).build())
        .build()
        .await?)
}

/// Plays the browser: to the provider, back to the callback, and returns the session's cookies.
async fn sign_in(app: &Router, provider: &TestProvider) -> Result<String, Failed> {
    let mut jar = Vec::new();
    let login = browser::redirect(&browser::visit(app, PATH, &mut jar).await?)?;
    let back = provider.authorize(&login).await?;
    let callback = back.strip_prefix(ORIGIN).ok_or("the provider redirects elsewhere")?;
    browser::redirect(&browser::visit(app, callback, &mut jar).await?)?;
    Ok(jar.join("; "))
}
