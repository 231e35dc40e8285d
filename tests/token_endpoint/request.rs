//! The request: its form, its client authentication, and where it goes.

use serde_json::json;
use tower_pkce_auth::ClientAuth;
use tower_pkce_auth::testing::provider::{
    AuthMethod, Behaviour, Endpoint, RecordedRequest, TestProvider,
};

use crate::hostile::{accepted, refused};
use crate::strict;
use crate::support::{World, parameter};

fn names(request: &RecordedRequest) -> Vec<&str> {
    let mut names: Vec<&str> = request.form.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    names
}

#[tokio::test]
async fn d01_d02_d09_the_request_is_the_one_of_the_standard() {
    let world = World::new().await;
    let app = strict(&world);
    let mut browser = world.browser(&app, "alice");
    let url = browser.to_provider("/").await;
    let location = world.provider.authorize_as(&url, "alice").await.unwrap();
    let callback = browser.local(&location);
    browser.get(&callback).await;
    let requests = world.provider.token_requests();
    let [request] = &requests[..] else { panic!("D22: one request") };
    assert_eq!(request.method, "POST", "D01");
    let media = request.header("content-type").unwrap();
    assert!(media.starts_with("application/x-www-form-urlencoded"), "D01: {media}");
    assert_eq!(request.uri, "/token", "D01: nothing in the query");
    assert_eq!(names(request), ["code", "code_verifier", "grant_type", "redirect_uri"], "D03");
    assert_eq!(request.form_value("grant_type"), Some("authorization_code"), "D02");
    let code = parameter(&callback, "code");
    assert_eq!(request.form_value("code"), code.as_deref(), "D02");
    let redirect = parameter(&url, "redirect_uri");
    assert_eq!(request.form_value("redirect_uri"), redirect.as_deref(), "D02");
    let verifier = request.form_value("code_verifier").unwrap();
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, verifier.as_bytes());
    let challenge = crate::hostile::base64url(hash);
    assert_eq!(parameter(&url, "code_challenge"), Some(challenge), "D02");
    assert_eq!(request.header("accept"), Some("application/json"), "D09");
    let agent = request.header("user-agent").unwrap();
    assert!(!agent.is_empty() && agent.len() < 64, "D09: {agent}");
    assert_eq!(request.header("accept-encoding"), None, "D20: nothing compressed is asked for");
}

#[tokio::test]
async fn d03_d04_d05_exactly_one_way_of_authentication() {
    for (id, secret) in
        [("app", "app-secret"), ("a:b/ü", "p+q%r:s t&=é~"), ("lab-client_1.x~", "%41+%2B\\\"';<>")]
    {
        for (auth, method) in [
            (ClientAuth::Basic, AuthMethod::Basic),
            (ClientAuth::Post, AuthMethod::Post),
            (ClientAuth::None, AuthMethod::None),
        ] {
            let name = format!("{auth:?}: {id} {secret}");
            let builder = TestProvider::builder().client_id(id).auth_methods([method]);
            let public = auth == ClientAuth::None;
            let builder =
                if public { builder.public_client() } else { builder.client_secret(secret) };
            let world = World::with_provider(builder).await;
            let builder = world.builder();
            let builder = if public { builder } else { builder.client_auth(auth) };
            let app = world.app(&builder.build().unwrap());
            accepted(&world, &app, &name).await;
            let request = world.provider.token_requests().pop().unwrap();
            assert_eq!(request.form_value("client_assertion"), None, "{name}");
            let in_body = (request.form_value("client_id"), request.form_value("client_secret"));
            if auth == ClientAuth::Basic {
                let both = Some((id.to_owned(), secret.to_owned()));
                assert_eq!(request.basic_credentials(), both, "D04: {name}");
                assert_eq!(in_body, (None, None), "D03: {name}");
            } else {
                assert_eq!(request.header("authorization"), None, "D03: {name}");
                let sent = (!public).then_some(secret);
                assert_eq!(in_body, (Some(id), sent), "D05: {name}");
            }
        }
    }
}

#[tokio::test]
async fn d04_basic_leaves_unreserved_letters_as_they_are() {
    let builder = TestProvider::builder().client_id("lab-client").client_secret("a-b.c_d~e f");
    let world = World::with_provider(builder).await;
    let app = world.app(&world.builder().build().unwrap());
    accepted(&world, &app, "D04").await;
    let request = world.provider.token_requests().pop().unwrap();
    let sent = request.header("authorization").unwrap().strip_prefix("Basic ").unwrap();
    use base64::Engine as _;
    let text = base64::prelude::BASE64_STANDARD.decode(sent).unwrap();
    assert_eq!(String::from_utf8(text).unwrap(), "lab-client:a-b.c_d~e%20f", "PROVIDERS");
}

#[tokio::test]
async fn d06_the_way_of_authentication_is_never_changed_unasked() {
    let world =
        World::with_provider(TestProvider::builder().auth_methods([AuthMethod::Post])).await;
    // The provider does not say what it takes, and takes another way than the default one.
    let silent = || {
        world.provider.on_discovery(|document| {
            document.remove("token_endpoint_auth_methods_supported");
        });
    };
    silent();
    let app = strict(&world);
    let refused = refused(&world, &app, "D06").await;
    assert_eq!(refused.reply.reason(), "token_endpoint/invalid_client");
    assert_eq!(refused.token, 1, "D06: no second attempt");
    let request = world.provider.token_requests().pop().unwrap();
    assert!(request.basic_credentials().is_some(), "D06: basic is the default");
    let builder = world.builder().client_auth(ClientAuth::Post);
    accepted(&world, &world.app(&builder.build().unwrap()), "D06: as configured").await;

    for listed in [json!(["private_key_jwt"]), json!(["client_secret_post", "none"])] {
        world.provider.on_discovery(move |document| {
            document.insert("token_endpoint_auth_methods_supported".to_owned(), listed.clone());
        });
        let app = strict(&world);
        let before = world.provider.counts();
        let reply = world.browser(&app, "alice").get("/auth/login").await;
        assert_eq!(reply.reason(), "provider_error/client_auth_not_supported", "D06");
        assert_eq!(reply.status, 502, "D06: nobody is sent to the provider");
        assert_eq!(world.provider.counts().token, before.token);
    }
}

#[tokio::test]
async fn d07_redirects_are_never_followed() {
    let world = World::new().await;
    let app = strict(&world);
    let evil = TestProvider::start().await.unwrap();
    for code in [300, 301, 302, 303, 307, 308] {
        for to in [format!("{}/token", evil.issuer()), "//evil.example/token".to_owned()] {
            let name = format!("D07: {code} {to}");
            let behaviour = Behaviour::Redirect { code, to };
            crate::refuse(&world, &app, &name, behaviour, "token_endpoint/refused").await;
        }
    }
    // Nor on the own host, where the credentials would be good.
    let to = format!("{}/token?again", world.provider.issuer());
    let behaviour = Behaviour::Redirect { code: 307, to };
    crate::refuse(&world, &app, "D07: same host", behaviour, "token_endpoint/refused").await;
    assert!(Endpoint::ALL.iter().all(|endpoint| evil.counts().of(*endpoint) == 0), "D07");
}

#[tokio::test]
async fn d25_a_query_of_the_token_endpoint_is_kept() {
    let world = World::new().await;
    world.provider.on_discovery(|document| {
        let url = document["token_endpoint"].as_str().unwrap();
        let url = format!("{url}?tenant=a%20b&x");
        document.insert("token_endpoint".to_owned(), url.into());
    });
    accepted(&world, &strict(&world), "D25").await;
    let request = world.provider.token_requests().pop().unwrap();
    assert_eq!(request.uri, "/token?tenant=a%20b&x");
    assert_eq!(request.query().len(), 2, "D01: nothing else in the query");
}
