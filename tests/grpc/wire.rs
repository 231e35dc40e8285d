//! gRPC without a gRPC client: HTTP/1.1, and the frames of HTTP/2 as they come.

#![allow(dead_code, missing_docs, reason = "each test uses a part of it")]

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::echo::Note;
use crate::person::Person;
use crate::server::soon;

/// A response, read to its end.
#[derive(Debug)]
pub struct Whole {
    pub response: Response<Bytes>,
}

impl Whole {
    pub fn header(&self, name: &str) -> &str {
        self.response.headers().get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The status of a trailers-only response; it is in the head.
    pub fn grpc_status(&self) -> &str {
        self.header("grpc-status")
    }
}

/// Sends a request over HTTP/1.1.
pub async fn http1(address: SocketAddr, request: Request<Full<Bytes>>) -> Whole {
    try_http1(address, request).await.unwrap()
}

/// The same, where the answer may break off.
///
/// # Errors
///
/// The body does not come to its end.
pub async fn try_http1(
    address: SocketAddr,
    request: Request<Full<Bytes>>,
) -> Result<Whole, hyper::Error> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    whole(sender.send_request(request)).await
}

/// Sends a request over HTTP/2; returns the frames of its stream too.
pub async fn http2<B>(address: SocketAddr, mut request: Request<B>) -> (Whole, Vec<Frame>)
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let uri = format!("http://{address}{}", request.uri());
    *request.uri_mut() = uri.parse().unwrap();
    let tap = Tap { stream: TcpStream::connect(address).await.unwrap(), read: Arc::default() };
    let read = tap.read.clone();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tap))
            .await
            .unwrap();
    tokio::spawn(connection);
    let whole = whole(sender.send_request(request)).await.unwrap();
    let frames = frames(&read.lock().unwrap());
    (whole, frames.into_iter().filter(|frame| frame.stream != 0).collect())
}

/// Reads a response to its end.
async fn whole(
    response: impl Future<Output = Result<Response<Incoming>, hyper::Error>>,
) -> Result<Whole, hyper::Error> {
    let (head, body) = soon("an answer", response).await?.into_parts();
    let body = soon("the end of the answer", body.collect()).await?.to_bytes();
    Ok(Whole { response: Response::from_parts(head, body) })
}

/// A frame of HTTP/2 (RFC 9113 section 4.1).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const RST_STREAM: u8 = 3;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const END_STREAM: u8 = 1;
    pub const END_HEADERS: u8 = 4;
    pub const NO_ERROR: [u8; 4] = [0; 4];
}

fn frames(mut bytes: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    while let Some((head, rest)) = bytes.split_first_chunk::<9>() {
        let [a, b, c, kind, flags, stream @ ..] = *head;
        let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap();
        let Some((payload, rest)) = rest.split_at_checked(length) else { break };
        let stream = u32::from_be_bytes(stream) & 0x7fff_ffff;
        frames.push(Frame { kind, flags, stream, payload: payload.to_vec() });
        bytes = rest;
    }
    frames
}

/// A connection that writes down what it reads.
struct Tap {
    stream: TcpStream,
    read: Arc<Mutex<Vec<u8>>>,
}

impl AsyncRead for Tap {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        self.read.lock().unwrap().extend_from_slice(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tap {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A call as bytes.
pub fn call(path: &str, person: Option<&Person>) -> Request<Full<Bytes>> {
    let mut request = Request::post(path)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(framed(&Note::text("hello"))))
        .unwrap();
    if let Some(person) = person {
        request.headers_mut().extend(person.metadata());
    }
    request
}

/// A message as gRPC sends it: a flag, a length, and so many bytes.
pub fn framed(note: &Note) -> Bytes {
    let message = note.encode_to_vec();
    let mut bytes = vec![0];
    bytes.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    bytes.extend(message);
    bytes.into()
}
