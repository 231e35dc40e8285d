//! Plain hyper behind the layer, without any framework.
//!
//! ```text
//! cargo run --example hyper_minimal
//! ```

use std::convert::Infallible;
use std::error::Error;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tower::{Layer, service_fn};
use tower_pkce_auth::testing::provider::TestProvider;
use tower_pkce_auth::{ClientId, ClientSecret, Identity, PkceAuthLayer};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let listener = tokio::net::TcpListener::bind(listen_address()?).await?;
    let address = listener.local_addr()?;
    let provider = TestProvider::builder().auto_sign_in(None).start().await?;

    let layer = PkceAuthLayer::builder(
        provider.issuer().parse()?,
        ClientId::new(provider.client_id()),
        format!("http://{address}").parse()?,
    )
    .client_secret(ClientSecret::new(provider.client_secret().unwrap_or_default()))
    .open("/public".parse()?)
    .build()?;
    let service = layer.layer(service_fn(greet));

    println!("open http://{address}/");
    loop {
        let (stream, _) = listener.accept().await?;
        let service = TowerToHyperService::new(service.clone());
        tokio::spawn(async move {
            let connection = auto::Builder::new(TokioExecutor::new());
            let io = TokioIo::new(stream);
            if let Err(error) = connection.serve_connection_with_upgrades(io, service).await {
                eprintln!("connection: {error}");
            }
        });
    }
}

async fn greet(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let text = match request.extensions().get::<Identity>() {
        Some(identity) => format!("Hello {}\n", identity.subject()),
        None => "Hello stranger\n".to_owned(),
    };
    Ok(Response::new(Full::new(text.into())))
}

/// Where to listen: `--listen 127.0.0.1:0` takes a free port.
fn listen_address() -> Result<String, Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [] => Ok("127.0.0.1:8082".to_owned()),
        [name, address] if name == "--listen" => Ok(address.clone()),
        _ => Err("usage: [--listen ADDRESS]".into()),
    }
}
