//! The main job in one command: a dashboard behind the layer, and a provider in this process.
//!
//! ```text
//! cargo run --example dashboard
//! ```
//!
//! Open the address it prints and choose who you are. `--listen 127.0.0.1:0` takes a free port;
//! `--session-idle` and `--session-absolute` (seconds) shorten the session. With
//! `DASHBOARD_ISSUER`, `DASHBOARD_CLIENT_ID` and `DASHBOARD_CLIENT_SECRET` in the environment it
//! signs in at that provider instead.

mod page;

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::{OriginalUri, Request};
use axum::http::header::{COOKIE, LOCATION, REFERRER_POLICY, SET_COOKIE};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use tower_pkce_auth::testing::provider::TestProvider;
use tower_pkce_auth::{
    ClientId, ClientSecret, Clock, Identity, PkceAuthLayer, SystemClock, Userinfo,
};

struct Options {
    listen: SocketAddr,
    idle: Duration,
    absolute: Duration,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let options = options()?;
    let listener = tokio::net::TcpListener::bind(options.listen).await?;
    let address = listener.local_addr()?;

    // A provider of your own, or one that lives as long as this process.
    let (issuer, client_id, secret, own_provider) = match std::env::var("DASHBOARD_ISSUER") {
        Ok(issuer) => (
            issuer,
            std::env::var("DASHBOARD_CLIENT_ID")?,
            std::env::var("DASHBOARD_CLIENT_SECRET")?,
            None,
        ),
        Err(_) => {
            let provider = TestProvider::builder().auto_sign_in(None).start().await?;
            let secret = provider.client_secret().unwrap_or_default().to_owned();
            let issuer = provider.issuer().to_owned();
            (issuer, provider.client_id().to_owned(), secret, Some(provider))
        }
    };

    let layer = PkceAuthLayer::builder(
        issuer.parse()?,
        ClientId::new(client_id),
        format!("http://{address}").parse()?,
    )
    .client_secret(ClientSecret::new(secret))
    .scope("profile")
    .scope("email")
    .userinfo(Userinfo::Optional)
    .session_idle(options.idle)
    .session_absolute(options.absolute)
    .open("/public".parse()?)
    .build()?;

    let (idle, absolute) = (options.idle, options.absolute);
    let app = Router::new()
        .route("/", get(move |identity| dashboard(identity, idle)))
        .route("/deep/link", get(deep_link))
        .route("/expired", get(move |identity| expired(identity, absolute)))
        .route("/no-referrer", get(no_referrer))
        .route("/api/me", get(me))
        .route("/public", get(async || Html(page::public())))
        .layer(layer)
        // Outside the layer, so that it may play a browser that lost its session.
        .layer(from_fn(simulate_expiry));

    println!("provider {issuer}");
    if own_provider.is_none() {
        println!(
            "register http://{address}/auth/callback and http://{address}/auth/signed-out there"
        );
    }
    println!("open http://{address}/");
    axum::serve(listener, app).await?;
    Ok(())
}

async fn dashboard(identity: Identity, idle: Duration) -> Html<String> {
    let now = SystemClock.now();
    let claims = identity
        .claims()
        .iter()
        .map(|(name, value)| match value.as_str() {
            Some(text) => (name.clone(), text.to_owned()),
            None => (name.clone(), value.to_string()),
        })
        .collect();
    let idle_end = (now + idle).min(identity.expires_at());
    Html(page::dashboard(&page::View {
        subject: identity.subject(),
        name: identity.name(),
        email: identity.email(),
        issuer: identity.issuer(),
        claims,
        signed_in_at: identity.authenticated_at().unwrap_or(now).as_secs(),
        absolute_end: identity.expires_at().as_secs(),
        idle_end: idle_end.as_secs(),
        now: now.as_secs(),
    }))
}

async fn deep_link(identity: Identity, OriginalUri(uri): OriginalUri) -> Html<String> {
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    Html(page::deep_link(target, identity.subject()))
}

async fn expired(identity: Identity, absolute: Duration) -> Html<String> {
    let started = (identity.expires_at() - absolute).as_secs();
    Html(page::expired(identity.subject(), started, SystemClock.now().as_secs()))
}

async fn no_referrer(identity: Identity) -> impl IntoResponse {
    let page = Html(page::no_referrer(identity.subject()));
    ([(REFERRER_POLICY, "no-referrer")], page)
}

async fn me(identity: Identity) -> Json<serde_json::Value> {
    Json(serde_json::json!({
        "subject": identity.subject(),
        "name": identity.name(),
        "email": identity.email(),
        "groups": identity.groups(),
    }))
}

/// Lets the browser forget its session, as if its time were over, and goes to a protected page.
async fn simulate_expiry(request: Request, next: Next) -> Response {
    if request.uri().path() != "/simulate-expiry" {
        return next.run(request).await;
    }
    let mut response = (StatusCode::SEE_OTHER, [(LOCATION, "/expired")]).into_response();
    for name in session_cookies(request.headers()) {
        let removal = format!("{name}=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax");
        if let Ok(removal) = removal.parse() {
            response.headers_mut().append(SET_COOKIE, removal);
        }
    }
    response
}

fn session_cookies(headers: &HeaderMap) -> Vec<String> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .map(|(name, _)| name.to_owned())
        .filter(|name| name.starts_with("auth_"))
        .collect()
}

fn options() -> Result<Options, Box<dyn Error>> {
    let mut options = Options {
        listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
        idle: Duration::from_secs(3600),
        absolute: Duration::from_secs(12 * 3600),
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} wants a value"))?;
        match name.as_str() {
            "--listen" => options.listen = value.parse()?,
            "--session-idle" => options.idle = Duration::from_secs(value.parse()?),
            "--session-absolute" => options.absolute = Duration::from_secs(value.parse()?),
            _ => return Err(format!("unknown option {name}").into()),
        }
    }
    Ok(options)
}
