//! A tonic service behind the layer, and a client that is refused, served, and signed out.
//!
//! ```text
//! cargo run --example tonic_service
//! ```
//!
//! Without a session the call ends with the status `UNAUTHENTICATED`, in gRPC's own way. With one
//! it arrives, and the service knows who calls. A stream ends with the session it was opened with.

mod greeter;

use std::error::Error;

use bytes::Bytes;
use greeter::{GreeterClient, GreeterServer, Who};
use http::HeaderName;
use http::header::{COOKIE, HeaderValue, ORIGIN};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Channel, Server};
use tonic::{Code, Status};
use tower_pkce_auth::testing::SignedIn;
use tower_pkce_auth::testing::provider::TestProvider;
use tower_pkce_auth::{
    ClientId, ClientSecret, EmptyBody, HttpClient as _, HyperClient, PkceAuthLayer,
    SessionGuardLayer,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let auth = sign_in(&TestProvider::start().await?, &url)?;
    let server = Server::builder()
        .accept_http1(true) // people sign in and out here too, with their browsers
        .layer(auth.clone())
        .layer(SessionGuardLayer::new())
        .add_service(GreeterServer);
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));

    let channel = Channel::from_shared(url.clone())?.connect().await?;
    let mut client = GreeterClient::new(channel);
    let status = refused(client.greet(call(None)?).await)?;
    println!("without a session: {:?}: {}", status.code(), status.message());

    // A browser would have signed in; this session comes from the test kit.
    let cookie = SignedIn::new("alice").cookie(&auth).await;
    let greeting = client.greet(call(Some(&cookie))?).await?;
    println!("with a session: {}", greeting.text);

    let mut stream = client.watch(call(Some(&cookie))?).await?;
    let greeting = stream.message().await?.ok_or("the stream ends at once")?;
    println!("a stream: {}", greeting.text);
    sign_out(&url, cookie).await?;
    let status = refused(loop {
        match stream.message().await {
            Ok(Some(_)) => {}
            end => break end,
        }
    })?;
    println!("after the sign-out: {:?}: {}", status.code(), status.message());
    Ok(())
}

/// Makes the layer.
fn sign_in(provider: &TestProvider, url: &str) -> Result<PkceAuthLayer<EmptyBody>, Box<dyn Error>> {
    let client_id = ClientId::new(provider.client_id());
    let secret = ClientSecret::new(provider.client_secret().unwrap_or_default());
    let layer = PkceAuthLayer::builder(provider.issuer().parse()?, client_id, url.parse()?)
        .client_secret(secret)
        // A gRPC client sends no `Origin`; this header shows that no web page made the call.
        .csrf_header(HeaderName::from_static("x-greeter-client"))
        // tonic's bodies cannot be made from bytes, and gRPC needs none to refuse.
        .responder(EmptyBody)
        .build()?;
    Ok(layer)
}

/// A request, with or without a session.
fn call(cookie: Option<&HeaderValue>) -> Result<tonic::Request<Who>, Box<dyn Error>> {
    let mut request = tonic::Request::new(Who { name: "Bob".to_owned() });
    if let Some(cookie) = cookie {
        request.metadata_mut().insert("cookie", cookie.to_str()?.parse()?);
        request.metadata_mut().insert("x-greeter-client", "1".parse()?);
    }
    Ok(request)
}

/// Returns why a call was refused; anything but the lack of a session is an error here.
fn refused<T>(result: Result<T, Status>) -> Result<Status, Box<dyn Error>> {
    match result {
        Ok(_) => Err("nobody is signed in, and yet the call was served".into()),
        Err(status) if status.code() == Code::Unauthenticated => Ok(status),
        Err(status) => Err(status.into()),
    }
}

/// Does what the button of a page does.
async fn sign_out(url: &str, cookie: HeaderValue) -> Result<(), Box<dyn Error>> {
    let request = http::Request::post(format!("{url}/auth/logout"))
        .header(COOKIE, cookie)
        .header(ORIGIN, url)
        .body(Bytes::new())?;
    let response = HyperClient::new().send(request, 1 << 16).await?;
    if response.status() != http::StatusCode::SEE_OTHER {
        return Err(format!("the sign-out is answered with {}", response.status()).into());
    }
    Ok(())
}
