//! Group D: what goes to the token endpoint, and what may come back from it.

mod hostile;
mod support;

#[path = "token_endpoint/bounds.rs"]
mod bounds;
#[path = "token_endpoint/request.rs"]
mod request;

use std::fmt;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use hostile::{accepted, clean, refused};
use serde_json::{Map, Value, json};
use support::{App, World};
use tower_pkce_auth::testing::provider::{Behaviour, Endpoint};
use tower_pkce_auth::{HttpClient, HttpFuture, HyperClient, Userinfo};

/// Userinfo is asked for, so that a call too early would show.
fn strict(world: &World) -> App {
    world.app(&world.builder().userinfo(Userinfo::Required).build().unwrap())
}

/// The token endpoint answers so, once, and nobody is signed in.
async fn refuse(world: &World, app: &App, name: &str, behaviour: Behaviour, reason: &str) {
    world.provider.set_behaviour(Endpoint::Token, behaviour);
    refused_as(world, app, name, reason).await;
}

async fn refused_as(world: &World, app: &App, name: &str, reason: &str) {
    let refused = refused(world, app, name).await;
    assert_eq!(refused.reply.reason(), reason, "{name}");
    assert_eq!((refused.token, refused.userinfo), (1, 0), "{name}: D12, D22, D26");
    let temporary = reason.starts_with("provider_unavailable/");
    assert_eq!(refused.reply.status.as_u16() == 503, temporary, "{name}");
    clean(world, app, name).await;
}

/// What becomes of a body.
#[derive(Clone, Copy)]
struct Rewrite(fn(String) -> String);

/// Rewrites the bytes of token responses on their way in.
#[derive(Clone)]
struct Rewriter {
    client: HyperClient,
    how: Arc<Mutex<Rewrite>>,
}

impl fmt::Debug for Rewriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rewriter")
    }
}

impl HttpClient for Rewriter {
    fn send(&self, request: http::Request<Bytes>, max_body: usize) -> HttpFuture {
        let is_token = request.uri().path().ends_with("/token");
        let Rewrite(how) = *self.how.lock().unwrap();
        let answer = self.client.send(request, max_body);
        HttpFuture::new(async move {
            let answer = answer.await?;
            if !is_token {
                return Ok(answer);
            }
            Ok(answer.map(|body| how(String::from_utf8(body.into()).unwrap()).into()))
        })
    }
}

#[tokio::test]
async fn d10_a_good_answer_of_another_media_type_is_refused() {
    let world = World::new().await;
    let app = strict(&world);
    for media in ["text/html", "text/plain", "application/jwt", "application/jsonx", "json", ""] {
        world.provider.on_response_headers(Endpoint::Token, move |headers| {
            headers.remove("content-type");
            if !media.is_empty() {
                headers.insert("content-type", media.parse().unwrap());
            }
        });
        let name = format!("D10: {media:?}");
        refused_as(&world, &app, &name, "token_endpoint/content_type").await;
    }
    for media in ["application/json;charset=UTF-8", "Application/JSON", "application/json ; x=y"] {
        world.provider.on_response_headers(Endpoint::Token, move |headers| {
            headers.insert("content-type", media.parse().unwrap());
        });
        accepted(&world, &app, media).await;
    }
}

#[tokio::test]
async fn d10_d15_d18_a_body_that_is_no_strict_object_is_refused() {
    let world = World::new().await;
    let how = Arc::new(Mutex::new(Rewrite(std::convert::identity)));
    let client = Rewriter { client: HyperClient::new(), how: how.clone() };
    let builder = world.builder().userinfo(Userinfo::Required).http_client(client);
    let app = world.app(&builder.build().unwrap());
    accepted(&world, &app, "the rewriter at rest").await;
    let row = |name, how| (name, Rewrite(how));
    let table = [
        row("D10: a list", |body| format!("[{body}]")),
        row("D10: a string", |body| serde_json::to_string(&body).unwrap()),
        row("D10: null", |_| "null".to_owned()),
        row("D10: nothing", |_| String::new()),
        row("D10: cut short", |body| body[..body.len() - 1].to_owned()),
        row("D10: something behind", |body| body + "{}"),
        row("D10: a byte order mark", |body| format!("\u{feff}{body}")),
        row("D15: beyond a number", |body| body.replacen('{', "{\"expires_in\":1e400,", 1)),
        row("D18: a bad ID token first", |body| body.replacen('{', "{\"id_token\":\"a.b.c\",", 1)),
        row("D18: a bad ID token last", |body| {
            format!("{},\"id_token\":\"a.b.c\"}}", &body[..body.len() - 1])
        }),
        row("D18: two access tokens", |body| body.replacen('{', "{\"access_token\":\"x\",", 1)),
        row("D10: nested without end", |body| {
            body.replacen('{', &format!("{{\"x\":{}", "[".repeat(10_000)), 1)
        }),
    ];
    for (name, rewrite) in table {
        *how.lock().unwrap() = rewrite;
        let refused = refused(&world, &app, name).await;
        assert_eq!(refused.reply.reason(), "token_endpoint/malformed", "{name}");
        assert_eq!((refused.token, refused.userinfo), (1, 0), "{name}");
        *how.lock().unwrap() = Rewrite(std::convert::identity);
        clean(&world, &app, name).await;
    }
}

#[tokio::test]
async fn d11_d23_error_answers_end_the_login_and_are_not_repeated() {
    let world = World::new().await;
    let app = strict(&world);
    let json = |code: u16, error: &str| {
        let text = "CANARY <script>";
        let body = json!({"error": error, "error_description": text, "error_uri": text});
        Behaviour::json(code, body.to_string())
    };
    let html = |code| Behaviour::Status {
        code,
        content_type: "text/html".to_owned(),
        body: "<h1>CANARY</h1>".into(),
    };
    for (name, behaviour, reason) in [
        ("a spent code", json(400, "invalid_grant"), "token_endpoint/invalid_grant"),
        ("a wrong secret", json(401, "invalid_client"), "token_endpoint/invalid_client"),
        ("an unknown error", json(400, "CANARY"), "token_endpoint/refused"),
        ("Glewlwyd: 403", json(403, "invalid_code"), "token_endpoint/refused"),
        ("Glewlwyd: an empty body", Behaviour::status(400), "token_endpoint/refused"),
        ("a page", html(404), "token_endpoint/refused"),
        ("Canaille: a page", html(500), "provider_unavailable/token_status"),
        ("created", json(201, "x"), "token_endpoint/refused"),
        ("no content", Behaviour::status(204), "token_endpoint/refused"),
        ("D23: too many", json(429, "slow_down"), "provider_unavailable/token_status"),
        ("D23: away", json(503, "temporarily_unavailable"), "provider_unavailable/token_status"),
        ("D10: an empty page", html(200), "token_endpoint/content_type"),
    ] {
        refuse(&world, &app, &format!("D11: {name}"), behaviour, reason).await;
    }
}

/// Rewrites the tokens of every answer.
fn respond(world: &World, how: impl Fn(&mut Map<String, Value>) + Send + Sync + 'static) {
    world.provider.on_token_response(how);
}

#[tokio::test]
async fn d12_d13_d14_members_that_are_missing_or_odd_are_refused() {
    let world = World::new().await;
    let app = strict(&world);
    let odd = [None, Some(json!(null)), Some(json!("")), Some(json!(5)), Some(json!(["x"]))];
    let mut table: Vec<(&str, Option<Value>, &str)> = Vec::new();
    for value in odd {
        table.push(("access_token", value.clone(), "access_token"));
        table.push(("token_type", value.clone(), "token_type"));
        // Null and empty are as good as absent: at a refresh they must not cost the new tokens.
        let absent = value.as_ref().is_none_or(|value| value.is_null() || *value == "");
        let missing = if absent { "id_token_missing" } else { "id_token" };
        table.push(("id_token", value, missing));
    }
    for kind in ["mac", "N_A", "DPoP", "Bearer ", "Bearerx"] {
        table.push(("token_type", Some(json!(kind)), "token_type"));
    }
    for error in [json!("invalid_grant"), json!(null), json!("")] {
        table.push(("error", Some(error), "error_with_200"));
    }
    for (member, value, detail) in table {
        let name = format!("D12, D13, D14: {member} = {value:?}");
        respond(&world, move |tokens| match &value {
            Some(value) => drop(tokens.insert(member.to_owned(), value.clone())),
            None => drop(tokens.remove(member)),
        });
        refused_as(&world, &app, &name, &format!("token_endpoint/{detail}")).await;
    }
}

#[tokio::test]
async fn d14_d15_d16_d17_what_is_tolerated() {
    let world = World::new().await;
    let app = strict(&world);
    let mut table: Vec<(&str, Value)> = Vec::new();
    for kind in ["bearer", "bEARER", "BEARER", "Bearer"] {
        table.push(("token_type", json!(kind)));
    }
    for text in ["\"3600\"", "-1", "0", "9223372036854775807", "3599.5", "null", "1e300", "\"x\""] {
        table.push(("expires_in", serde_json::from_str(text).unwrap()));
    }
    for scope in [json!("openid"), json!(""), json!(null), json!(["openid"])] {
        table.push(("scope", scope));
    }
    table.push(("refresh_token", json!(5)));
    table.push(("nested", json!({"deep": [{"er": null}]})));
    for (member, value) in table {
        let name = format!("{member} = {value}");
        respond(&world, move |tokens| drop(tokens.insert(member.to_owned(), value.clone())));
        accepted(&world, &app, &name).await;
    }
    respond(&world, |tokens| tokens.retain(|name, _| name != "expires_in" && name != "scope"));
    accepted(&world, &app, "D15, D16: neither expires_in nor scope").await;
    respond(&world, |tokens| {
        (0..1000).for_each(|n| drop(tokens.insert(format!("x{n}"), n.into())))
    });
    accepted(&world, &app, "D17: a thousand members").await;
}

#[tokio::test]
async fn d27_headers_of_the_provider_stay_with_us() {
    let world = World::new().await;
    let app = strict(&world);
    let taint = || {
        for endpoint in Endpoint::ALL {
            world.provider.on_response_headers(endpoint, |headers| {
                headers.insert("set-cookie", "evil=1; Path=/".parse().unwrap());
                headers.insert("www-authenticate", "Basic realm=evil".parse().unwrap());
                headers.insert("x-evil", "evil".parse().unwrap());
                headers.insert("refresh", "0; url=http://evil".parse().unwrap());
            });
        }
    };
    taint();
    for _ in 0..2 {
        let mut browser = world.browser(&app, "alice");
        let callback = browser.to_callback("/").await;
        let reply = browser.get(&callback).await;
        assert_eq!(reply.status, 303);
        assert!(!format!("{:?}", reply.headers).contains("evil"), "{:?}", reply.headers);
        assert_eq!(browser.who().await.as_deref(), Some("alice"));
    }
    for endpoint in [Endpoint::Discovery, Endpoint::Jwks, Endpoint::Token, Endpoint::Userinfo] {
        for request in world.provider.requests(endpoint) {
            assert_eq!(request.header("cookie"), None, "D27: no cookie jar, {endpoint:?}");
        }
    }
    world.provider.set_behaviour(Endpoint::Token, Behaviour::json(401, "{}"));
    let refused = refused(&world, &app, "D27").await;
    assert!(!format!("{:?}", refused.reply.headers).contains("evil"));
}
