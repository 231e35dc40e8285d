//! The client of `echo`, over a real connection.

#![allow(dead_code, missing_docs, reason = "each test uses a part of it")]

use http::HeaderMap;
use http::uri::PathAndQuery;
use tokio_stream::Stream;
use tonic::client::Grpc;
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;

use crate::echo::{CHAT, COLLECT, Note, SAY, WATCH};
use crate::server::soon;

/// The client side; `metadata` goes with every call.
#[derive(Clone)]
pub struct Client {
    grpc: Grpc<Channel>,
    pub metadata: HeaderMap,
}

impl Client {
    pub fn new(channel: Channel) -> Self {
        let grpc = Grpc::new(channel).max_decoding_message_size(64 * 1024 * 1024);
        Self { grpc, metadata: HeaderMap::new() }
    }

    /// The same client with more metadata.
    pub fn with(mut self, metadata: &[(&'static str, &str)]) -> Self {
        for (name, value) in metadata {
            self.metadata.append(*name, value.parse().unwrap());
        }
        self
    }

    pub async fn say(&self, text: &str) -> Result<Note, Status> {
        let (mut grpc, request) = self.prepare(Note::text(text)).await?;
        let reply = grpc.unary(request, path(SAY), ProstCodec::default());
        Ok(soon("a unary call", reply).await?.into_inner())
    }

    pub async fn watch(&self, note: Note) -> Result<Streaming<Note>, Status> {
        let (mut grpc, request) = self.prepare(note).await?;
        let codec = ProstCodec::default();
        let reply = grpc.server_streaming(request, path(WATCH), codec);
        Ok(soon("a stream begins", reply).await?.into_inner())
    }

    pub async fn collect(
        &self,
        notes: impl Stream<Item = Note> + Send + 'static,
    ) -> Result<Note, Status> {
        let (mut grpc, request) = self.prepare(notes).await?;
        let codec = ProstCodec::default();
        let reply = grpc.client_streaming(request, path(COLLECT), codec);
        Ok(soon("a client-streaming call", reply).await?.into_inner())
    }

    pub async fn chat(
        &self,
        notes: impl Stream<Item = Note> + Send + 'static,
    ) -> Result<Streaming<Note>, Status> {
        let (mut grpc, request) = self.prepare(notes).await?;
        let reply = grpc.streaming(request, path(CHAT), ProstCodec::default());
        Ok(soon("a bidirectional stream begins", reply).await?.into_inner())
    }

    async fn prepare<M>(&self, message: M) -> Result<(Grpc<Channel>, Request<M>), Status> {
        let mut grpc = self.grpc.clone();
        grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let metadata = MetadataMap::from_headers(self.metadata.clone());
        let request = Request::from_parts(metadata, http::Extensions::new(), message);
        Ok((grpc, request))
    }
}

/// The next message of a stream, or its end.
pub async fn next(notes: &mut Streaming<Note>) -> Result<Option<Note>, Status> {
    soon("the next message", notes.message()).await
}

fn path(path: &'static str) -> PathAndQuery {
    PathAndQuery::from_static(path)
}
