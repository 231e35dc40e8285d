//! What `tonic-prost-build` makes of a small `.proto`, written by hand so that no protobuf compiler
//! is needed to run the example:
//!
//! ```proto
//! package greeter;
//! message Who { string name = 1; }
//! message Greeting { string text = 1; }
//! service Greeter { rpc Greet(Who) returns (Greeting); }
//! ```

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::task::{Context, Poll};

use tonic::body::Body;
use tonic::codegen::http::{Request, Response, uri::PathAndQuery};
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::transport::Channel;
use tonic::{GrpcMethod, Status};
use tonic_prost::ProstCodec;
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

/// The service itself: it greets in the name of who is signed in.
#[derive(Clone, Copy)]
struct Greet;

impl UnaryService<Who> for Greet {
    type Response = Greeting;
    type Future = Ready<Result<tonic::Response<Greeting>, Status>>;

    fn call(&mut self, request: tonic::Request<Who>) -> Self::Future {
        // The layer has put the identity there; without it no request comes so far.
        let Some(identity) = request.extensions().get::<Identity>() else {
            return ready(Err(Status::internal("no sign-in layer is before this service")));
        };
        let text = format!("{} says hello to {}", identity.subject(), request.get_ref().name);
        ready(Ok(tonic::Response::new(Greeting { text })))
    }
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
            if request.uri().path() != "/greeter.Greeter/Greet" {
                return Ok(Status::unimplemented("no such method").into_http());
            }
            Ok(Grpc::new(ProstCodec::default()).unary(Greet, request).await)
        })
    }
}

/// The client side.
pub async fn greet(channel: Channel, mut request: tonic::Request<Who>) -> Result<Greeting, Status> {
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    request.extensions_mut().insert(GrpcMethod::new("greeter.Greeter", "Greet"));
    let path = PathAndQuery::from_static("/greeter.Greeter/Greet");
    let response = client.unary(request, path, ProstCodec::default()).await?;
    Ok(response.into_inner())
}
