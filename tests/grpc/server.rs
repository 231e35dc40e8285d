//! The tonic server of the tests, over a real socket, with every layer in its place.

#![allow(dead_code, missing_docs, reason = "each test uses a part of it")]

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::transport::{Channel, Server};
use tonic_web::GrpcWebLayer;
use tower_pkce_auth::{Builder, EmptyBody, PkceAuthLayer, SessionGuardLayer};

use crate::client::Client;
use crate::echo::Echo;
use crate::person::Person;
use crate::support::World;

/// Everything here happens within a second or two; this only ends a test that hangs.
pub const HANG: Duration = Duration::from_secs(20);

/// A server behind the layer. It ends with its handle.
pub struct Running {
    pub address: SocketAddr,
    pub origin: String,
    pub echo: Echo,
    pub layer: PkceAuthLayer<EmptyBody>,
    task: JoinHandle<()>,
}

impl Running {
    /// Starts it with the layers in the order that serves everybody:
    ///
    /// 1. `PkceAuthLayer` outermost: it answers browsers over HTTP/1.1, which `GrpcWebLayer` would
    ///    refuse with 400, and it sees gRPC-Web as what it is.
    /// 2. `GrpcWebLayer`.
    /// 3. `SessionGuardLayer` innermost: it sees gRPC only, and what it ends with, trailers, is
    ///    translated to gRPC-Web, binary or text.
    pub async fn start(world: &World, set: impl FnOnce(Builder) -> Builder) -> Self {
        let (listener, address) = listen().await;
        Self::serve(world, listener, address, format!("http://{address}"), set)
    }

    /// Another pod: it listens elsewhere, and browsers see the same.
    pub async fn start_elsewhere(
        world: &World,
        origin: &str,
        set: impl FnOnce(Builder) -> Builder,
    ) -> Self {
        let (listener, address) = listen().await;
        Self::serve(world, listener, address, origin.to_owned(), set)
    }

    fn serve(
        world: &World,
        listener: TcpListenerStream,
        address: SocketAddr,
        origin: String,
        set: impl FnOnce(Builder) -> Builder,
    ) -> Self {
        let layer = layer(world, &origin, set);
        let echo = Echo::default();
        let server = Server::builder()
            .accept_http1(true)
            .layer(layer.clone())
            .layer(GrpcWebLayer::new())
            .layer(SessionGuardLayer::new())
            .add_service(echo.clone())
            .add_service(Health(echo.clone()))
            .serve_with_incoming(listener);
        Self::spawn(address, origin, echo, layer, server)
    }

    /// Starts it the wrong way round: `GrpcWebLayer` sees browsers first.
    pub async fn start_behind_grpc_web(world: &World) -> Self {
        let (listener, address) = listen().await;
        let origin = format!("http://{address}");
        let layer = layer(world, &origin, |builder| builder);
        let echo = Echo::default();
        let server = Server::builder()
            .accept_http1(true)
            .layer(GrpcWebLayer::new())
            .layer(layer.clone())
            .layer(SessionGuardLayer::new())
            .add_service(echo.clone())
            .serve_with_incoming(listener);
        Self::spawn(address, origin, echo, layer, server)
    }

    fn spawn(
        address: SocketAddr,
        origin: String,
        echo: Echo,
        layer: PkceAuthLayer<EmptyBody>,
        server: impl Future<Output = Result<(), tonic::transport::Error>> + Send + 'static,
    ) -> Self {
        let task = tokio::spawn(async move { server.await.unwrap() });
        Self { address, origin, echo, layer, task }
    }

    /// A client with a connection of its own.
    pub async fn client(&self) -> Client {
        client(self.address).await
    }

    /// A client that is signed in, as web pages of this origin are.
    pub async fn client_of(&self, person: &Person) -> Client {
        let mut client = self.client().await;
        client.metadata = person.metadata();
        client
    }

    pub fn person(&self) -> Person {
        Person::at(&self.origin)
    }

    /// Signs somebody in, by their browser.
    pub async fn signed_in(&self, world: &World, user: &str) -> Person {
        let mut person = self.person();
        person.sign_in(&world.provider, user).await;
        person
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A client of any server.
pub async fn client(address: SocketAddr) -> Client {
    let channel = Channel::from_shared(format!("http://{address}")).unwrap();
    Client::new(channel.connect().await.unwrap())
}

/// Waits for a condition.
pub async fn until(what: &str, condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(HANG, waiting).await.is_ok(), "{what} never happens");
}

/// Ends a test that hangs.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(HANG, future).await;
    done.unwrap_or_else(|_| panic!("{what}: it hangs"))
}

async fn listen() -> (TcpListenerStream, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (TcpListenerStream::new(listener), address)
}

fn layer(
    world: &World,
    origin: &str,
    set: impl FnOnce(Builder) -> Builder,
) -> PkceAuthLayer<EmptyBody> {
    set(world.builder_at(origin)).responder(EmptyBody).build().unwrap()
}

/// The health service: it answers whatever it is asked with the status 0.
#[derive(Clone)]
struct Health(Echo);

impl NamedService for Health {
    const NAME: &'static str = "grpc.health.v1.Health";
}

impl tower::Service<Request<Body>> for Health {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.0.note(&request);
        ready(Ok(tonic::Status::ok("").into_http()))
    }
}
