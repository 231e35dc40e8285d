//! What `tonic-prost-build` makes of a small `.proto`, written by hand so that no protobuf compiler
//! is needed to run the example:
//!
//! ```proto
//! package greeter;
//! message Who { string name = 1; }
//! message Greeting { string text = 1; }
//! service Greeter {
//!   rpc Greet(Who) returns (Greeting);
//!   rpc Watch(Who) returns (stream Greeting);
//! }
//! ```

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::interval;
use tokio_stream::wrappers::IntervalStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::body::Body;
use tonic::codegen::http::{Request, Response, uri::PathAndQuery};
use tonic::server::{Grpc, NamedService};
use tonic::transport::Channel;
use tonic::{Status, Streaming};
use tonic_prost::ProstCodec;
use tower::service_fn;
use tower_pkce_auth::Identity;

#[derive(Clone, PartialEq, prost::Message)]
pub struct Who {
    #[prost(string, tag = "1")]
    pub name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Greeting {
    #[prost(string, tag = "1")]
    pub text: String,
}

/// Greets in the name of who is signed in.
async fn greet(request: tonic::Request<Who>) -> Result<tonic::Response<Greeting>, Status> {
    // The layer has put the identity there; without it no request comes so far.
    let Some(identity) = request.extensions().get::<Identity>() else {
        return Err(Status::internal("no sign-in layer is before this service"));
    };
    let text = format!("{} says hello to {}", identity.subject(), request.get_ref().name);
    Ok(tonic::Response::new(Greeting { text }))
}

/// Greets again and again, and knows of no end.
async fn watch(
    request: tonic::Request<Who>,
) -> Result<tonic::Response<impl Stream<Item = Result<Greeting, Status>>>, Status> {
    let name = request.into_inner().name;
    let ticks = IntervalStream::new(interval(Duration::from_millis(100)));
    Ok(tonic::Response::new(ticks.map(move |_| Ok(Greeting { text: format!("hello {name}") }))))
}

/// The server side.
#[derive(Clone, Copy)]
pub struct GreeterServer;

impl NamedService for GreeterServer {
    const NAME: &'static str = "greeter.Greeter";
}

impl tower::Service<Request<Body>> for GreeterServer {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(async move {
            let mut grpc = Grpc::new(ProstCodec::default());
            Ok(match request.uri().path() {
                GREET => grpc.unary(service_fn(greet), request).await,
                WATCH => grpc.server_streaming(service_fn(watch), request).await,
                _ => Status::unimplemented("no such method").into_http(),
            })
        })
    }
}

/// The client side.
#[derive(Clone)]
pub struct GreeterClient(tonic::client::Grpc<Channel>);

impl GreeterClient {
    pub fn new(channel: Channel) -> Self {
        Self(tonic::client::Grpc::new(channel))
    }

    pub async fn greet(&mut self, request: tonic::Request<Who>) -> Result<Greeting, Status> {
        self.ready().await?;
        let path = PathAndQuery::from_static(GREET);
        Ok(self.0.unary(request, path, ProstCodec::default()).await?.into_inner())
    }

    pub async fn watch(
        &mut self,
        request: tonic::Request<Who>,
    ) -> Result<Streaming<Greeting>, Status> {
        self.ready().await?;
        let path = PathAndQuery::from_static(WATCH);
        Ok(self.0.server_streaming(request, path, ProstCodec::default()).await?.into_inner())
    }

    async fn ready(&mut self) -> Result<(), Status> {
        self.0.ready().await.map_err(|error| Status::unavailable(error.to_string()))
    }
}

const GREET: &str = "/greeter.Greeter/Greet";
const WATCH: &str = "/greeter.Greeter/Watch";
