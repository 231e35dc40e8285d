//! An API and a page in axum behind the layer: open, optional and protected paths, a rule by group,
//! and a router under another path.
//!
//! ```text
//! cargo run --example axum_api
//! ```

use std::error::Error;

use axum::http::StatusCode;
use axum::response::Html;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tower_pkce_auth::testing::provider::TestProvider;
use tower_pkce_auth::{ClientId, ClientSecret, Identity, PkceAuthLayer};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let listener = tokio::net::TcpListener::bind(listen_address()?).await?;
    let address = listener.local_addr()?;

    // Yours comes from your provider's administration pages; this one lives in this process.
    let provider = TestProvider::builder().auto_sign_in(None).start().await?;

    let layer = PkceAuthLayer::builder(
        provider.issuer().parse()?,
        ClientId::new(provider.client_id()),
        // The mount: the router is served under /app, and the layer sits inside.
        format!("http://{address}/app").parse()?,
    )
    .client_secret(ClientSecret::new(provider.client_secret().unwrap_or_default()))
    .scope("profile")
    .open("GET /api/status".parse()?)
    .optional("/".parse()?)
    .build()?;

    let app = Router::new()
        .route("/", get(home))
        .route("/api/status", get(async || Json(json!({"status": "ok"}))))
        .route("/api/me", get(me))
        .route("/api/orders", post(order))
        .route("/api/admin", get(admin))
        .layer(layer);

    println!("open http://{address}/app");
    axum::serve(listener, Router::new().nest_service("/app", app)).await?;
    Ok(())
}

/// Optional: everybody may come, and who is signed in is greeted by name.
async fn home(identity: Option<Identity>) -> Html<String> {
    let escape = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;");
    Html(match identity {
        Some(identity) => format!(
            "<p>Hello {}.</p><form method=post action=/app/auth/logout><button>Sign out</button></form>",
            escape(identity.name().unwrap_or(identity.subject()))
        ),
        None => "<p>Hello stranger. <a href=/app/auth/login>Sign in</a></p>".to_owned(),
    })
}

/// Protected: a script without a session gets 401 and never comes here.
async fn me(identity: Identity) -> Json<Value> {
    Json(json!({"subject": identity.subject(), "groups": identity.groups()}))
}

/// Protected, and changes something: a request of another site gets 403 and never comes here.
async fn order(identity: Identity) -> Json<Value> {
    Json(json!({"ordered_by": identity.subject()}))
}

/// What somebody may do is the application's to say.
async fn admin(identity: Identity) -> Result<Json<Value>, StatusCode> {
    if identity.groups().iter().any(|group| group == "admin") {
        Ok(Json(json!({"secrets": 42})))
    } else {
        Err(StatusCode::FORBIDDEN)
    }
}

/// Where to listen: `--listen 127.0.0.1:0` takes a free port.
fn listen_address() -> Result<String, Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [] => Ok("127.0.0.1:8081".to_owned()),
        [name, address] if name == "--listen" => Ok(address.clone()),
        _ => Err("usage: [--listen ADDRESS]".into()),
    }
}
