//! A tonic service behind the layer, and a client that is refused and then served.
//!
//! ```text
//! cargo run --example tonic_service
//! ```
//!
//! Without a session the call ends with the status `UNAUTHENTICATED`, in gRPC's own way. With one
//! it arrives, and the service knows who calls.

mod greeter;

use std::error::Error;

use greeter::{GreeterServer, Who};
use http::HeaderName;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Channel, Server};
use tower_pkce_auth::testing::SignedIn;
use tower_pkce_auth::testing::provider::TestProvider;
use tower_pkce_auth::{ClientId, ClientSecret, EmptyBody, PkceAuthLayer};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let provider = TestProvider::start().await?;

    let layer = PkceAuthLayer::builder(
        provider.issuer().parse()?,
        ClientId::new(provider.client_id()),
        format!("http://{address}").parse()?,
    )
    .client_secret(ClientSecret::new(provider.client_secret().unwrap_or_default()))
    // A gRPC client sends no `Origin`; this header shows that no web page made the call.
    .csrf_header(HeaderName::from_static("x-greeter-client"))
    // tonic's bodies cannot be made from bytes, and gRPC needs none to refuse.
    .responder(EmptyBody)
    .build()?;

    let server = Server::builder().layer(layer.clone()).add_service(GreeterServer);
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));

    let channel = Channel::from_shared(format!("http://{address}"))?.connect().await?;
    let request = || tonic::Request::new(Who { name: "Bob".to_owned() });

    match greeter::greet(channel.clone(), request()).await {
        Ok(_) => return Err("nobody is signed in, and yet the call was served".into()),
        Err(status) => println!("without a session: {:?}: {}", status.code(), status.message()),
    }

    // A browser would have signed in; this session comes from the test kit.
    let cookie = SignedIn::new("alice").cookie(&layer).await;
    let mut signed_in = request();
    let metadata = signed_in.metadata_mut();
    metadata.insert("cookie", cookie.to_str()?.parse()?);
    metadata.insert("x-greeter-client", "1".parse()?);
    let greeting = greeter::greet(channel, signed_in).await?;
    println!("with a session: {}", greeting.text);
    Ok(())
}
