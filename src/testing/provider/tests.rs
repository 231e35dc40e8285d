//! The provider over real HTTP.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use aws_lc_rs::signature::RSA_PKCS1_2048_8192_SHA256;
use aws_lc_rs::signature::UnparsedPublicKey;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::Request;
use http::Response;
use http_body_util::Full;
use serde_json::Value;
use url::Url;
use url::form_urlencoded;

use crate::clock::Clock;
use crate::clock::UnixTime;

use super::*;

const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CALLBACK: &str = "http://localhost:9/cb";

fn encode(pairs: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

fn url(provider: &TestProvider, extra: &[(&str, &str)]) -> String {
    let challenge = encoding::s256(VERIFIER);
    let mut pairs = vec![
        ("client_id", provider.client_id()),
        ("response_type", "code"),
        ("scope", "openid email"),
        ("redirect_uri", CALLBACK),
        ("state", "s t"),
        ("nonce", "n"),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
    ];
    pairs.retain(|(name, _)| !extra.iter().any(|(other, _)| other == name));
    pairs.extend(extra);
    format!("{}/authorize?{}", provider.issuer(), encode(&pairs))
}

fn parameter(location: &str, name: &str) -> Option<String> {
    let url = Url::parse(location).expect("a URL");
    let mut pairs = url.query_pairs();
    pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

async fn send(
    provider: &TestProvider,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: String,
) -> std::io::Result<Response<Bytes>> {
    let mut request = Request::builder().method(method).uri(path).header("host", "provider");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::from(body)).expect("a request");
    driver::send(provider.inner(), request).await
}

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

async fn post_token(provider: &TestProvider, pairs: &[(&str, &str)]) -> (u16, Value) {
    let basic = format!("Basic {}", BASE64_STANDARD.encode("app:app-secret"));
    let headers = [FORM, ("authorization", &*basic)];
    let reply = send(provider, "POST", "/token", &headers, encode(pairs)).await.expect("an answer");
    let body = serde_json::from_slice(reply.body()).expect("JSON");
    (reply.status().as_u16(), body)
}

async fn redeem(provider: &TestProvider, code: &str, verifier: &str) -> (u16, Value) {
    let pairs = [
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", CALLBACK),
        ("code_verifier", verifier),
    ];
    post_token(provider, &pairs).await
}

async fn code(provider: &TestProvider, extra: &[(&str, &str)]) -> String {
    let location = provider.authorize(&url(provider, extra)).await.expect("a redirect");
    parameter(&location, "code").unwrap_or_else(|| panic!("no code in {location}"))
}

async fn refresh(provider: &TestProvider, token: &Value) -> (u16, Value) {
    let token = token["refresh_token"].as_str().expect("a refresh token");
    post_token(provider, &[("grant_type", "refresh_token"), ("refresh_token", token)]).await
}

async fn userinfo(provider: &TestProvider, token: &Value) -> u16 {
    let bearer = format!("Bearer {}", token["access_token"].as_str().expect("a token"));
    let headers = [("authorization", &*bearer)];
    let reply = send(provider, "GET", "/userinfo", &headers, String::new()).await;
    reply.expect("an answer").status().as_u16()
}

fn part(token: &Value, index: usize) -> Value {
    let jwt = token["id_token"].as_str().expect("an ID Token");
    let part = jwt.split('.').nth(index).expect("a part");
    let json = BASE64_URL_SAFE_NO_PAD.decode(part).expect("base64url");
    serde_json::from_slice(&json).expect("JSON")
}

#[derive(Debug)]
struct Stopped(Mutex<UnixTime>);

impl Clock for Stopped {
    fn now(&self) -> UnixTime {
        *self.0.lock().expect("unpoisoned")
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

#[tokio::test]
async fn a_login_gives_a_verifiable_id_token_and_userinfo() {
    let provider = TestProvider::start().await.expect("started");
    let location = provider.authorize(&url(&provider, &[("acr_values", "mfa x")])).await;
    let location = location.expect("a redirect");
    assert!(location.starts_with("http://localhost:9/cb?code="));
    assert_eq!(parameter(&location, "state").as_deref(), Some("s t"));
    assert_eq!(parameter(&location, "iss").as_deref(), Some(provider.issuer()));

    let code = parameter(&location, "code").expect("a code");
    let (status, token) = redeem(&provider, &code, VERIFIER).await;
    assert_eq!(status, 200, "{token}");
    assert!(token.get("refresh_token").is_none());
    let claims = part(&token, 1);
    assert_eq!(claims["sub"], "alice");
    assert_eq!(claims["aud"], "app");
    assert_eq!(claims["nonce"], "n");
    assert_eq!(claims["acr"], "mfa");
    assert_eq!(claims["email"], "alice@example.com");
    assert!(claims.get("name").is_none(), "profile was not asked for");
    let access = token["access_token"].as_str().expect("a token");
    assert_eq!(claims["at_hash"], SigningAlg::Rs256.at_hash(access));

    let jwt = token["id_token"].as_str().expect("an ID Token");
    let (input, signature) = jwt.rsplit_once('.').expect("three parts");
    let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).expect("base64url");
    let key =
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, provider.signing_key().public_der());
    assert!(key.verify(input.as_bytes(), &signature).is_ok());
    assert_eq!(part(&token, 0)["kid"], provider.signing_key().kid());

    assert_eq!(userinfo(&provider, &token).await, 200);
    let counts = provider.counts();
    assert_eq!((counts.authorize, counts.token, counts.userinfo), (1, 1, 1));
    let recorded = provider.token_requests();
    assert_eq!(recorded[0].form_value("code_verifier"), Some(VERIFIER));
    assert_eq!(provider.issued_id_tokens(), [jwt]);
}

#[tokio::test]
async fn pkce_is_required_and_verified_unless_lenient() {
    let provider = TestProvider::start().await.expect("started");
    for extra in [("code_challenge_method", "plain"), ("code_challenge", "short")] {
        let location = provider.authorize(&url(&provider, &[extra])).await.expect("a redirect");
        assert_eq!(parameter(&location, "error").as_deref(), Some("invalid_request"));
    }
    let wrong = "a".repeat(43);
    for verifier in [&*wrong, "", "short"] {
        let (status, body) = redeem(&provider, &code(&provider, &[]).await, verifier).await;
        assert_eq!(status, 400, "{verifier} {body}");
    }
    let lenient = TestProvider::builder().lenient_pkce().start().await.expect("started");
    let (status, _) = redeem(&lenient, &code(&lenient, &[]).await, &wrong).await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn a_code_is_redeemed_once_and_the_second_time_revokes() {
    let provider = TestProvider::start().await.expect("started");
    let code = code(&provider, &[]).await;
    let (_, token) = redeem(&provider, &code, VERIFIER).await;
    assert_eq!(userinfo(&provider, &token).await, 200);
    let (status, body) = redeem(&provider, &code, VERIFIER).await;
    assert_eq!((status, &body["error"]), (400, &Value::from("invalid_grant")));
    assert_eq!(provider.counts().double_redemptions, 1);
    assert_eq!(userinfo(&provider, &token).await, 401);
}

#[tokio::test]
async fn codes_and_access_tokens_expire_by_the_clock() {
    let clock = Arc::new(Stopped(Mutex::new(UnixTime::from_secs(1_000_000))));
    let builder = TestProvider::builder().clock(Arc::clone(&clock) as Arc<dyn Clock>);
    let provider = builder.start().await.expect("started");
    let advance = |secs| {
        let mut now = clock.0.lock().expect("unpoisoned");
        *now = *now + Duration::from_secs(secs);
    };
    let old = code(&provider, &[]).await;
    advance(61);
    assert_eq!(redeem(&provider, &old, VERIFIER).await.0, 400);
    let (_, token) = redeem(&provider, &code(&provider, &[]).await, VERIFIER).await;
    assert_eq!(part(&token, 1)["iat"], 1_000_061);
    assert_eq!(part(&token, 1)["exp"], 1_003_661);
    advance(3600);
    assert_eq!(userinfo(&provider, &token).await, 401);
}

#[tokio::test]
async fn refresh_tokens_rotate_and_a_reused_one_revokes_the_family() {
    let provider = TestProvider::start().await.expect("started");
    let scope = ("scope", "openid offline_access");
    let (_, first) = redeem(&provider, &code(&provider, &[scope]).await, VERIFIER).await;
    let (status, second) = refresh(&provider, &first).await;
    assert_eq!(status, 200, "{second}");
    assert_ne!(first["refresh_token"], second["refresh_token"]);
    assert!(part(&second, 1).get("nonce").is_none());
    assert_eq!(part(&first, 1)["sid"], part(&second, 1)["sid"]);

    assert_eq!(refresh(&provider, &first).await.0, 400);
    assert_eq!(provider.counts().refresh_reuses, 1);
    assert_eq!(refresh(&provider, &second).await.1["error"], "invalid_grant");
    assert_eq!(userinfo(&provider, &second).await, 401);
}

#[tokio::test]
async fn revocation_ends_the_family_and_ignores_unknown_tokens() {
    let provider = TestProvider::builder().refresh_tokens(true).start().await.expect("started");
    let (_, token) = redeem(&provider, &code(&provider, &[]).await, VERIFIER).await;
    let basic = format!("Basic {}", BASE64_STANDARD.encode("app:app-secret"));
    let headers = [FORM, ("authorization", &*basic)];
    for value in ["unknown", token["refresh_token"].as_str().expect("a token")] {
        let body = encode(&[("token", value)]);
        let reply = send(&provider, "POST", "/revoke", &headers, body).await.expect("an answer");
        assert_eq!(reply.status(), 200);
    }
    assert_eq!(refresh(&provider, &token).await.0, 400);
    assert_eq!(userinfo(&provider, &token).await, 401);
}

#[tokio::test]
async fn rotation_replaces_every_key() {
    let provider = TestProvider::start().await.expect("started");
    let kids = |provider: &TestProvider| -> Vec<String> {
        provider.published_keys().iter().map(|key| key.kid().to_owned()).collect()
    };
    let before = kids(&provider);
    assert_eq!(before.len(), 3);
    provider.rotate_keys(SigningAlg::EdDsa);
    let after = kids(&provider);
    assert!(after.iter().all(|kid| !before.contains(kid)));
    let (_, token) = redeem(&provider, &code(&provider, &[]).await, VERIFIER).await;
    assert_eq!(part(&token, 0)["alg"], "EdDSA");
    provider.rotate_keys_before_next_token(SigningAlg::Es256);
    let (_, token) = redeem(&provider, &code(&provider, &[]).await, VERIFIER).await;
    assert_eq!(part(&token, 0)["alg"], "ES256");
    assert!(!after.contains(&part(&token, 0)["kid"].as_str().expect("a kid").to_owned()));
    provider.set_signing_alg(SigningAlg::Es384);
    assert_eq!(provider.published_keys().len(), 4);

    let document = send(&provider, "GET", "/.well-known/openid-configuration", &[], String::new());
    let document = document.await.expect("an answer");
    let document: Value = serde_json::from_slice(document.body()).expect("JSON");
    assert_eq!(document["issuer"], provider.issuer());
    let jwks = document["jwks_uri"].as_str().expect("a URI").replace(provider.issuer(), "");
    let jwks = send(&provider, "GET", &jwks, &[], String::new()).await.expect("an answer");
    let jwks: Value = serde_json::from_slice(jwks.body()).expect("JSON");
    assert_eq!(jwks["keys"].as_array().map(Vec::len), Some(4));
}

#[tokio::test]
async fn a_browser_chooses_once_and_is_remembered_until_logout() {
    let provider = TestProvider::builder().auto_sign_in(None).start().await.expect("started");
    let url = url(&provider, &[]);
    let path = url.replace(provider.issuer(), "");
    let page = send(&provider, "GET", &path, &[], String::new()).await.expect("an answer");
    let page = String::from_utf8(page.body().to_vec()).expect("UTF-8");
    for user in ["alice", "bob", "mallory", "deny"] {
        assert!(page.contains(&format!("data-user=\"{user}\"")), "{user}");
    }
    let (_, query) = path.split_once('?').expect("a query");

    let denied = encode(&[("request", query), ("user", "deny")]);
    let reply = send(&provider, "POST", "/choose", &[FORM], denied).await.expect("an answer");
    let location = reply.headers()["location"].to_str().expect("ASCII");
    assert_eq!(parameter(location, "error").as_deref(), Some("access_denied"));

    let bob = encode(&[("request", query), ("user", "bob")]);
    let reply = send(&provider, "POST", "/choose", &[FORM], bob).await.expect("an answer");
    let cookie = reply.headers()["set-cookie"].to_str().expect("ASCII");
    assert!(cookie.ends_with("; Path=/; HttpOnly; SameSite=Lax"), "{cookie}");
    let cookie = cookie.split(';').next().expect("a pair").to_owned();
    let jar = [("cookie", &*cookie)];
    let location = reply.headers()["location"].to_str().expect("ASCII");
    let code = parameter(location, "code").expect("a code");
    let (_, first) = redeem(&provider, &code, VERIFIER).await;
    assert_eq!(part(&first, 1)["sub"], "bob");

    // The second login asks nothing and belongs to the same session.
    let quiet = format!("{path}&prompt=none");
    let reply = send(&provider, "GET", &quiet, &jar, String::new()).await.expect("an answer");
    let location = reply.headers()["location"].to_str().expect("ASCII");
    let code = parameter(location, "code").expect("a code");
    let (_, second) = redeem(&provider, &code, VERIFIER).await;
    assert_eq!(part(&first, 1)["sid"], part(&second, 1)["sid"]);
    for switch in ["&prompt=select_account", "&prompt=login", "&max_age=0"] {
        let path = format!("{path}{switch}");
        let reply = send(&provider, "GET", &path, &jar, String::new()).await.expect("an answer");
        assert_eq!(reply.status(), 200, "{switch}");
    }

    let hint = second["id_token"].as_str().expect("an ID Token");
    let logout = encode(&[
        ("id_token_hint", hint),
        ("client_id", "app"),
        ("post_logout_redirect_uri", "http://localhost:9/bye"),
        ("state", "x"),
    ]);
    let logout = format!("/end_session?{logout}");
    let reply = send(&provider, "GET", &logout, &jar, String::new()).await.expect("an answer");
    assert_eq!(reply.headers()["location"], "http://localhost:9/bye?state=x");
    let reply = send(&provider, "GET", &quiet, &jar, String::new()).await.expect("an answer");
    let location = reply.headers()["location"].to_str().expect("ASCII");
    assert_eq!(parameter(location, "error").as_deref(), Some("login_required"));
}

#[tokio::test]
async fn unknown_clients_and_addresses_get_a_page_not_a_redirect() {
    let provider = TestProvider::start().await.expect("started");
    let table = [
        ("client_id", "other"),
        ("redirect_uri", "http://evil.example/cb"),
        ("redirect_uri", "https://localhost/cb"),
        ("redirect_uri", "http://localhost/cb#f"),
        ("redirect_uri", "http://localhost/\r\nx: y"),
        ("redirect_uri", ""),
    ];
    for extra in table {
        let error = provider.authorize(&url(&provider, &[extra])).await.expect_err("a page");
        assert!(error.to_string().contains("400"), "{extra:?}: {error}");
    }
    let logout = "/end_session?client_id=app&post_logout_redirect_uri=https://evil.example/";
    let reply = send(&provider, "GET", logout, &[], String::new()).await.expect("an answer");
    assert_eq!(reply.status(), 200);
}

#[tokio::test]
async fn form_post_carries_the_same_response() {
    let provider = TestProvider::start().await.expect("started");
    let url = url(&provider, &[("response_mode", "form_post")]);
    let form = provider.authorize_form_as(&url, "bob").await.expect("a form");
    assert_eq!(form.action, CALLBACK);
    let names: Vec<&str> = form.fields.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["code", "state", "iss"]);
    let denied = provider.authorize_form_as(&url, "deny").await.expect("a form");
    assert_eq!(denied.fields[0], ("error".to_owned(), "access_denied".to_owned()));
}

#[tokio::test]
async fn client_authentication_is_one_configured_method() {
    let provider = TestProvider::start().await.expect("started");
    let public = TestProvider::builder().public_client().start().await.expect("started");
    let basic = |text: &str| format!("Basic {}", BASE64_STANDARD.encode(text));
    let (good, bad) = (basic("app:app-secret"), basic("app:wrong"));
    let post = [("client_id", "app"), ("client_secret", "app-secret")];
    let (all, id, none) = (&post[..], &post[..1], &post[..0]);
    let table = [
        (&provider, Some(&*good), none, "unsupported_grant_type"),
        (&provider, Some(&*bad), none, "invalid_client"),
        (&provider, Some("Basic %"), none, "invalid_client"),
        (&provider, None, all, "unsupported_grant_type"),
        (&provider, Some(&*good), all, "invalid_request"),
        (&provider, None, id, "invalid_client"),
        (&public, None, id, "unsupported_grant_type"),
    ];
    for (provider, authorization, form, expected) in table {
        let mut headers = vec![FORM];
        headers.extend(authorization.map(|value| ("authorization", value)));
        let form = [&[("grant_type", "x")], form].concat();
        let reply = send(provider, "POST", "/token", &headers, encode(&form)).await;
        let body: Value = serde_json::from_slice(reply.expect("an answer").body()).expect("JSON");
        assert_eq!(body["error"], expected, "{authorization:?} {form:?}");
    }
}

#[tokio::test]
async fn id_tokens_lie_on_demand() {
    let provider = TestProvider::start().await.expect("started");
    let stranger = SigningKey::generate(SigningAlg::Es256);
    let table: [(Signer, &str, usize); 5] = [
        (Signer::Unsigned, "none", 0),
        (Signer::Hmac(b"app-secret".to_vec()), "HS256", 32),
        (Signer::Key(stranger.clone()), "ES256", 64),
        (Signer::Literal(vec![0; 64]), "RS256", 64),
        (Signer::Der(stranger), "ES256", 70),
    ];
    for (signer, alg, len) in table {
        provider.on_id_token(move |draft| {
            draft.set("iss", "https://evil.example");
            draft.sign_with(signer.clone());
        });
        let (_, token) = redeem(&provider, &code(&provider, &[]).await, VERIFIER).await;
        assert_eq!(part(&token, 0)["alg"], alg);
        assert_eq!(part(&token, 1)["iss"], "https://evil.example");
        let jwt = token["id_token"].as_str().expect("an ID Token");
        let signature = jwt.rsplit('.').next().expect("a part");
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).expect("base64url");
        // DER drops or adds leading zeros.
        assert!(signature.len().abs_diff(len) <= if len == 70 { 2 } else { 0 }, "{alg}");
    }
    provider.on_id_token(|draft| draft.raw = Some("raw".to_owned()));
    provider.on_token_response(|response| {
        response.remove("expires_in");
    });
    let (_, token) = redeem(&provider, &code(&provider, &[]).await, VERIFIER).await;
    assert_eq!(token["id_token"], "raw");
    assert!(token.get("expires_in").is_none());
    provider.clear_faults();
    let (_, token) = redeem(&provider, &code(&provider, &[]).await, VERIFIER).await;
    assert_eq!(part(&token, 0)["alg"], "RS256");
}

#[tokio::test]
async fn endpoints_misbehave_on_demand_and_still_count() {
    let provider = TestProvider::start().await.expect("started");
    let ask = || send(&provider, "GET", "/jwks/x", &[], String::new());
    provider.set_behaviour(Endpoint::Jwks, Behaviour::json(503, "{}"));
    provider.on_response_headers(Endpoint::Jwks, |headers| {
        headers.insert("retry-after", http::HeaderValue::from_static("9"));
    });
    let reply = ask().await.expect("an answer");
    assert_eq!((reply.status().as_u16(), &reply.body()[..]), (503, &b"{}"[..]));
    assert_eq!(reply.headers()["retry-after"], "9");
    let to = "http://localhost:1/".to_owned();
    provider.set_behaviour(Endpoint::Jwks, Behaviour::Redirect { code: 307, to });
    assert_eq!(ask().await.expect("an answer").status(), 307);
    for behaviour in [Behaviour::Refuse, Behaviour::ResetAfterBody] {
        provider.set_behaviour(Endpoint::Jwks, behaviour);
        assert!(ask().await.is_err());
    }
    let stuck =
        [Behaviour::Drip, Behaviour::Endless, Behaviour::Hang, Behaviour::HugeContentLength];
    for behaviour in stuck {
        provider.set_behaviour(Endpoint::Jwks, behaviour.clone());
        let wait = tokio::time::timeout(Duration::from_millis(50), ask()).await;
        assert!(wait.is_err(), "{behaviour:?}");
    }
    provider.clear_faults();
    assert_eq!(ask().await.expect("an answer").status(), 200);
    assert_eq!(provider.counts().jwks, 9);
    assert_eq!(provider.counts().of(Endpoint::Jwks), 9);
    provider.reset_counts();
    assert_eq!(provider.counts(), Counts::default());
}

#[tokio::test]
async fn a_stopped_provider_gives_its_port_back() {
    let provider = TestProvider::start().await.expect("started");
    let address = provider.address();
    provider.stop().await;
    assert!(provider.authorize(&url(&provider, &[])).await.is_err());
    let again = TestProvider::builder().listen(address).start().await.expect("started");
    let error = TestProvider::builder().listen(address).start().await.expect_err("taken");
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    assert_eq!(again.issuer(), provider.issuer());
    assert!(again.authorize(&url(&again, &[])).await.is_ok());
}

#[tokio::test]
async fn issuers_keep_their_path_and_slash() {
    for (path, base) in [("/", ""), ("/t", "/t"), ("/test/a/x/", "/test/a/x")] {
        let builder = TestProvider::builder().host("localhost").issuer_path(path);
        let provider = builder.start().await.expect("started");
        let expected = format!("http://localhost:{}{path}", provider.address().port());
        assert_eq!(provider.issuer(), expected);
        let path = format!("{base}/.well-known/openid-configuration");
        let reply = send(&provider, "GET", &path, &[], String::new()).await.expect("an answer");
        let document: Value = serde_json::from_slice(reply.body()).expect("JSON");
        assert_eq!(document["issuer"], expected);
        let token = document["token_endpoint"].as_str().expect("a URI");
        assert!(token.ends_with(&format!("{base}/token")) && !token.contains("//token"));
    }
    for path in ["/a/../b", "/ä", "/a?b", "/a b"] {
        assert!(TestProvider::builder().issuer_path(path).start().await.is_err(), "{path}");
    }
}
