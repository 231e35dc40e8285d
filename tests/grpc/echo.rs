//! A tonic service with the four kinds of methods; `client` calls them.
//!
//! What `tonic-prost-build` would make of it is written by hand: no protobuf compiler is needed.

#![allow(dead_code, missing_docs, reason = "each test uses a part of it")]

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use tokio::sync::Semaphore;
use tokio_stream::{Stream, StreamExt as _, iter, once, pending};
use tonic::body::Body;
use tonic::server::{Grpc, NamedService};
use tonic::{Code, Status, Streaming};
use tonic_prost::ProstCodec;
use tower::service_fn;
use tower_pkce_auth::Identity;

/// The message of all methods.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Note {
    #[prost(string, tag = "1")]
    pub text: String,
    #[prost(bytes = "vec", tag = "2")]
    pub data: Vec<u8>,
}

impl Note {
    pub fn text(text: &str) -> Self {
        Self { text: text.to_owned(), data: Vec::new() }
    }

    pub fn of_size(size: usize) -> Self {
        Self { text: String::new(), data: vec![b'x'; size] }
    }
}

/// A call as the service saw it.
#[derive(Clone, Debug)]
pub struct Call {
    pub path: String,
    pub headers: HeaderMap,
    /// The subject of the identity in the extensions.
    pub subject: Option<String>,
}

/// The server side; clones share what they saw.
#[derive(Clone, Default)]
pub struct Echo(Arc<Shared>);

struct Shared {
    calls: Mutex<Vec<Call>>,
    /// Calls of `Say` with the text `wait` take a permit from here before they answer.
    gate: Semaphore,
    /// The bytes of data that were read from requests, and that were written to responses.
    taken: AtomicUsize,
    given: AtomicUsize,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            calls: Mutex::default(),
            gate: Semaphore::new(0),
            taken: AtomicUsize::new(0),
            given: AtomicUsize::new(0),
        }
    }
}

type Notes = Pin<Box<dyn Stream<Item = Result<Note, Status>> + Send>>;

impl Echo {
    /// The calls since it was asked last.
    pub fn calls(&self) -> Vec<Call> {
        std::mem::take(&mut *self.0.calls.lock().unwrap())
    }

    /// How many calls there were since then.
    pub fn count(&self) -> usize {
        self.0.calls.lock().unwrap().len()
    }

    pub fn note<B>(&self, request: &Request<B>) {
        self.0.calls.lock().unwrap().push(Call {
            path: request.uri().path().to_owned(),
            headers: request.headers().clone(),
            subject: subject(request.extensions()),
        });
    }

    /// Lets a call that waits go on.
    pub fn let_one_go(&self) {
        self.0.gate.add_permits(1);
    }

    pub fn taken(&self) -> usize {
        self.0.taken.load(Ordering::Relaxed)
    }

    pub fn given(&self) -> usize {
        self.0.given.load(Ordering::Relaxed)
    }

    async fn say(self, request: tonic::Request<Note>) -> Result<tonic::Response<Note>, Status> {
        let subject = subject(request.extensions());
        let note = request.into_inner();
        match &*note.text {
            "wait" => self.0.gate.acquire().await.expect("it is never closed").forget(),
            "fail" => return Err(failure()),
            _ => {}
        }
        let text = format!("{}: {}", subject.as_deref().unwrap_or("-"), note.text);
        Ok(tonic::Response::new(Note { text, data: note.data }))
    }

    async fn watch(self, request: tonic::Request<Note>) -> Result<tonic::Response<Notes>, Status> {
        let asked = request.into_inner();
        let notes: Notes = match &*asked.text {
            "fail" => Box::pin(once(Ok(asked)).chain(once(Err(failure())))),
            // As many as are asked for, as fast as they are taken.
            "many" => Box::pin(iter(0..).map(move |_: usize| {
                self.0.given.fetch_add(asked.data.len(), Ordering::Relaxed);
                Ok(asked.clone())
            })),
            // One, and then nothing for ever.
            _ => Box::pin(once(Ok(asked)).chain(pending())),
        };
        Ok(tonic::Response::new(notes))
    }

    async fn collect(
        self,
        request: tonic::Request<Streaming<Note>>,
    ) -> Result<tonic::Response<Note>, Status> {
        let mut notes = request.into_inner();
        let mut count = 0;
        while let Some(note) = notes.message().await? {
            self.0.taken.fetch_add(note.data.len(), Ordering::Relaxed);
            if note.text == "stop reading" {
                std::future::pending::<()>().await;
            }
            count += 1;
        }
        Ok(tonic::Response::new(Note::text(&count.to_string())))
    }

    async fn chat(
        self,
        request: tonic::Request<Streaming<Note>>,
    ) -> Result<tonic::Response<Notes>, Status> {
        Ok(tonic::Response::new(Box::pin(request.into_inner())))
    }
}

impl NamedService for Echo {
    const NAME: &'static str = "echo.Echo";
}

impl tower::Service<Request<Body>> for Echo {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let echo = self.clone();
        echo.note(&request);
        Box::pin(async move {
            let mut grpc =
                Grpc::new(ProstCodec::default()).max_decoding_message_size(64 * 1024 * 1024);
            Ok(match request.uri().path() {
                SAY => grpc.unary(service_fn(|note| echo.clone().say(note)), request).await,
                WATCH => {
                    let watch = service_fn(|note| echo.clone().watch(note));
                    grpc.server_streaming(watch, request).await
                }
                COLLECT => {
                    let collect = service_fn(|notes| echo.clone().collect(notes));
                    grpc.client_streaming(collect, request).await
                }
                CHAT => grpc.streaming(service_fn(|notes| echo.clone().chat(notes)), request).await,
                _ => Status::unimplemented("no such method").into_http(),
            })
        })
    }
}

fn subject(extensions: &http::Extensions) -> Option<String> {
    extensions.get::<Identity>().map(|identity| identity.subject().to_owned())
}

/// A failure with all that a status can carry.
pub fn failure() -> Status {
    let mut status = Status::with_details(Code::FailedPrecondition, FAILURE, Bytes::from(DETAILS));
    status.metadata_mut().insert("x-reason", "because".parse().unwrap());
    status
}

pub const SAY: &str = "/echo.Echo/Say";
pub const WATCH: &str = "/echo.Echo/Watch";
pub const COLLECT: &str = "/echo.Echo/Collect";
pub const CHAT: &str = "/echo.Echo/Chat";

/// What must be encoded to pass as a header field.
pub const FAILURE: &str = "50 % naïve\r\n";
pub const DETAILS: &[u8] = &[0, 255, 10, 13, b'%'];
