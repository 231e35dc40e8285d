//! From the flags to the layer.

use std::path::Path;
use std::time::Duration;

use tower_pkce_auth::{
    Builder, ClientAuth, ClientId, ClientSecret, CookieKeys, HyperClient, MemoryStore, PathRule,
    Pending, PkceAuthLayer, PublicUrl, RedisStore, Sessions, Userinfo,
};

use crate::environment::CLIENT_SECRET;
use crate::options::{ClientAuthentication, Options, PendingPlace, ResponseMode, SessionPlace};
use crate::problems::{Problems, parse_url, read, read_secret, stand_in, text};

/// Makes the layer, as far as the flags allow.
pub fn layer(
    options: &Options,
    public_url: PublicUrl,
    ca: Option<&[u8]>,
    problems: &mut Problems,
) -> Option<PkceAuthLayer> {
    let issuer = options.issuer.as_deref().unwrap_or_default();
    let issuer = problems.keep(parse_url("issuer", issuer)).unwrap_or_else(stand_in);
    let client_id = ClientId::new(options.client_id.clone().unwrap_or_default());
    let mut builder = PkceAuthLayer::builder(issuer, client_id, public_url)
        .userinfo(Userinfo::Optional)
        .health(true)
        .forward_authorization(options.pass_authorization)
        .frontchannel_logout(options.frontchannel_logout)
        .logout_token_without_exp(options.logout_token_without_exp)
        .client_auth(match options.client_auth {
            ClientAuthentication::Basic => ClientAuth::Basic,
            ClientAuthentication::None => ClientAuth::None,
            ClientAuthentication::Post => ClientAuth::Post,
        });
    // A stand-in for what is wrong keeps the builder from saying that there is none.
    if let Some(secret) = client_secret(options).transpose() {
        let secret = problems.keep(secret).unwrap_or_else(|| "stand-in".to_owned());
        builder = builder.client_secret(ClientSecret::new(secret));
    }
    if options.response_mode == ResponseMode::FormPost {
        builder = builder.form_post();
    }
    for scope in &options.scope {
        builder = builder.scope(scope);
    }
    for rule in &options.public {
        if let Some(rule) = problems.keep(rule.parse::<PathRule>().map_err(text)) {
            builder = builder.open(rule);
        }
    }
    if let Some(path) = &options.cookie_key_file {
        let keys = problems.keep(cookie_keys(path)).unwrap_or_else(CookieKeys::random);
        builder = builder.cookie_keys(keys);
    }
    if let Some(issuer) = &options.internal_issuer
        && let Some(issuer) = problems.keep(parse_url("internal issuer", issuer))
    {
        builder = builder.internal_issuer(issuer);
    }
    for domain in &options.allow_email_domain {
        builder = builder.allow_email_domain(domain);
    }
    for group in &options.allow_group {
        builder = builder.allow_group(group);
    }
    if let Some(client) = problems.keep(provider_client(ca)) {
        builder = builder.http_client(client);
    }
    builder = store(builder, options, ca, problems);
    builder = lifetimes(builder, options);
    builder = match options.client_limit.0 {
        Some(per_minute) => builder.client_limit(per_minute),
        None => builder.no_client_limit(),
    };
    match builder.build() {
        Ok(layer) => Some(layer),
        Err(error) => {
            error.problems().iter().for_each(|problem| problems.add(problem));
            None
        }
    }
}

/// Makes the client for the provider, which goes through the proxy of `HTTPS_PROXY`.
fn provider_client(ca: Option<&[u8]>) -> Result<HyperClient, String> {
    let mut client = HyperClient::builder().proxy_from_env().map_err(text)?;
    // A file that cannot be used is a problem of the upstream's too, and named there.
    if let Some(trusting) = ca.and_then(|ca| client.clone().ca_pem(ca).ok()) {
        client = trusting;
    }
    Ok(client.build())
}

fn store(
    mut builder: Builder,
    options: &Options,
    ca: Option<&[u8]>,
    problems: &mut Problems,
) -> Builder {
    match &*options.store.0 {
        "sealed" => {}
        "memory" => {
            builder = builder
                .store(MemoryStore::new())
                .sessions(Sessions::Sealed)
                .pending(Pending::Memory);
        }
        url if is_redis(url) => {
            if let Some(redis) = redis(url, options, ca, problems) {
                builder = builder.store(redis);
            }
        }
        // It is not repeated: it may be a URL with a password, misspelt.
        _ => problems.add(format!("store: {STORES} is needed")),
    }
    builder = match options.sessions {
        None => builder,
        Some(SessionPlace::Sealed) => builder.sessions(Sessions::Sealed),
        Some(SessionPlace::Stored) => builder.sessions(Sessions::Stored),
    };
    match options.pending {
        None => builder,
        Some(PendingPlace::Sealed) => builder.pending(Pending::Sealed),
        Some(PendingPlace::Store) => builder.pending(Pending::Store),
    }
}

const STORES: &str = "memory, sealed, redis://…, redis+sentinel://…, redis+cluster://… or one of \
                      these with rediss for TLS";

fn is_redis(url: &str) -> bool {
    let scheme = url.split_once("://").map(|(scheme, _)| scheme);
    let kind = scheme
        .and_then(|scheme| scheme.strip_prefix("rediss").or_else(|| scheme.strip_prefix("redis")));
    matches!(kind, Some("" | "+sentinel" | "+cluster"))
}

fn redis(
    url: &str,
    options: &Options,
    ca: Option<&[u8]>,
    problems: &mut Problems,
) -> Option<RedisStore> {
    let mut redis = RedisStore::builder(url);
    if let Some(ca) = ca.filter(|_| url.starts_with("rediss")) {
        redis = redis.ca_pem(ca);
    }
    match (&options.store_cert_file, &options.store_key_file) {
        (None, None) => {}
        (Some(certificate), Some(key)) => {
            let certificate = problems.keep(read("store certificate file", certificate));
            let key = problems.keep(read_secret("store key file", key));
            redis = redis.client_certificate_pem(&certificate?, &key?);
        }
        _ => problems.add("store: a certificate file and a key file go together"),
    }
    problems.keep(redis.build().map_err(text))
}

fn lifetimes(mut builder: Builder, options: &Options) -> Builder {
    if let Some(seconds) = options.session_idle {
        builder = builder.session_idle(Duration::from_secs(seconds));
    }
    if let Some(seconds) = options.session_absolute {
        builder = builder.session_absolute(Duration::from_secs(seconds));
    }
    if let Some(seconds) = options.login_ttl {
        builder = builder.login_ttl(Duration::from_secs(seconds));
    }
    builder
}

/// Reads the secret from its file or the environment; an editor's last line end is no part of it.
fn client_secret(options: &Options) -> Result<Option<String>, String> {
    let bad = |why: &str| format!("client secret: {why}");
    let secret = match (&options.client_secret_file, std::env::var(CLIENT_SECRET).ok()) {
        (None, None) => return Ok(None),
        (None, Some(secret)) => secret,
        (Some(path), None) => String::from_utf8(read_secret("client secret file", path)?)
            .map_err(|_| bad("the file holds no text"))?,
        (Some(_), Some(_)) => return Err(bad("both a file and GATEWAY_CLIENT_SECRET are given")),
    };
    let secret = secret.trim_end_matches(['\r', '\n']);
    if secret.is_empty() { Err(bad("it is empty")) } else { Ok(Some(secret.to_owned())) }
}

fn cookie_keys(path: &Path) -> Result<CookieKeys, String> {
    let file = read_secret("cookie key file", path)?;
    String::from_utf8_lossy(&file).parse().map_err(|error| format!("{}: {error}", path.display()))
}
