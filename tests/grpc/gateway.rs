//! `examples/gateway` as a process before a tonic server, and a provider beside them.

use std::net::SocketAddr;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::runtime::{Builder, Runtime};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic_web::GrpcWebLayer;
use tower_pkce_auth::testing::provider::TestProvider;

use crate::client::Client;
use crate::echo::Echo;
use crate::person::Person;
use crate::server::{HANG, client, soon};

/// A gateway and its provider. The process ends with the handle, by its own id.
pub struct Gateway {
    _process: Child,
    pub provider: TestProvider,
    pub address: SocketAddr,
    pub origin: String,
}

impl Gateway {
    pub async fn start(upstream: &str, arguments: &[&str]) -> Self {
        let provider = TestProvider::start().await.unwrap();
        // Cargo puts examples beside the folder of this test.
        let test = std::env::current_exe().unwrap();
        let path = test.ancestors().nth(2).unwrap().join("examples/gateway");
        let mut process = Command::new(path)
            .args(["--listen", "127.0.0.1:0", "--upstream", upstream])
            .args(["--issuer", provider.issuer(), "--client-id", provider.client_id()])
            .args(arguments)
            .env("GATEWAY_CLIENT_SECRET", provider.client_secret().unwrap())
            .env("RUST_LOG", "error")
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{error}; build it: cargo build --examples"));
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let address = soon("the gateway starts", async {
            loop {
                let line = lines.next_line().await.unwrap().expect("it says where it is");
                if let Some(address) = line.strip_prefix("listening ") {
                    return address.parse().unwrap();
                }
            }
        })
        .await;
        // Reads on, so that the process never meets a closed pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { _process: process, provider, address, origin: format!("http://{address}") }
    }

    /// A client without a session.
    pub async fn client(&self) -> Client {
        client(self.address).await
    }

    pub async fn client_of(&self, person: &Person) -> Client {
        let mut client = self.client().await;
        client.metadata = person.metadata();
        client
    }

    /// Signs somebody in, by their browser.
    pub async fn signed_in(&self, user: &str) -> Person {
        let mut person = Person::at(&self.origin);
        person.sign_in(&self.provider, user).await;
        person
    }
}

/// A tonic server that knows nothing of sign-in. It has a runtime of its own, so that it goes away
/// as a process does: with all its connections.
pub struct Upstream {
    pub address: SocketAddr,
    pub echo: Echo,
    runtime: Option<Runtime>,
}

impl Upstream {
    pub fn start() -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    pub fn start_at(address: SocketAddr) -> Self {
        let listener = std::net::TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let echo = Echo::default();
        let router = Server::builder()
            .accept_http1(true)
            .layer(GrpcWebLayer::new())
            .add_service(echo.clone());
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            router.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
        });
        Self { address, echo, runtime: Some(runtime) }
    }

    /// Ends it, and waits until its port is free.
    pub async fn stop(mut self) {
        let runtime = self.runtime.take().expect("it runs");
        let stopped = tokio::task::spawn_blocking(move || runtime.shutdown_timeout(HANG));
        stopped.await.unwrap();
    }

    /// Where it is, for gRPC.
    pub fn h2c(&self) -> String {
        format!("h2c://{}", self.address)
    }

    /// The ways the gateway can be told of it; gRPC-Web passes by both.
    pub fn urls(&self) -> [String; 2] {
        [self.h2c(), format!("http://{}", self.address)]
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
