//! The program `gateway` says who a client is: the peer, or what a trusted proxy says of it.
//!
//! `cargo test` builds the examples before it runs tests; alone it is
//! `cargo build --example gateway && cargo test --test floods`.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use bytes::Bytes;
use http::Request;
use tower_pkce_auth::testing::provider::TestProvider;
use tower_pkce_auth::{HttpClient as _, HyperClient};

/// A running one, ended by its own id.
struct Gateway {
    process: Child,
    home: String,
}

impl Gateway {
    fn start(provider: &TestProvider, flags: &[&str]) -> Self {
        // Cargo puts examples beside the folder of this test.
        let test = std::env::current_exe().unwrap();
        let path = test.ancestors().nth(2).unwrap().join("examples").join("gateway");
        let mut process = Command::new(path)
            .args(["--listen", "127.0.0.1:0", "--upstream", "http://127.0.0.1:9"])
            .args(["--issuer", provider.issuer(), "--client-id", provider.client_id()])
            .args(flags)
            .env("GATEWAY_CLIENT_SECRET", provider.client_secret().unwrap())
            .env("RUST_LOG", "warn")
            .stdout(Stdio::piped())
            .spawn()
            .expect("the example is built");
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let home = lines.map_while(Result::ok).find_map(|line| {
            line.strip_prefix("open ").map(|home| home.trim_end_matches('/').to_owned())
        });
        Self { process, home: home.expect("it says where it is") }
    }

    /// Starts four logins; returns what became of them.
    async fn starts(&self, forwarded: Option<&str>) -> Vec<u16> {
        let mut statuses = Vec::new();
        for _ in 0..4 {
            let mut request = Request::get(format!("{}/auth/login", self.home));
            request = request.header("accept", "text/html");
            if let Some(forwarded) = forwarded {
                request = request.header("x-forwarded-for", forwarded);
            }
            let request = request.body(Bytes::new()).unwrap();
            let response = HyperClient::new().send(request, 1 << 20).await.unwrap();
            statuses.push(response.status().as_u16());
        }
        statuses
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

const LIMITED: [u16; 4] = [302, 302, 429, 429];
const FREE: [u16; 4] = [302; 4];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateway_limits_its_peers_and_those_a_trusted_proxy_names() {
    let provider = TestProvider::builder().start().await.unwrap();
    let gateway = Gateway::start(&provider, &["--client-limit", "2"]);
    assert_eq!(gateway.starts(Some("192.0.2.1")).await, FREE, "a proxy nobody told us of");
    assert_eq!(gateway.starts(None).await, LIMITED);

    let gateway =
        Gateway::start(&provider, &["--client-limit", "2", "--trusted-proxy", "127.0.0.1"]);
    assert_eq!(gateway.starts(Some("192.0.2.1")).await, LIMITED);
    assert_eq!(gateway.starts(Some("192.0.2.2")).await, LIMITED, "another client's are its own");
    assert_eq!(gateway.starts(Some("1.2.3.4, 192.0.2.1")).await, [429; 4], "hearsay counts not");
    assert_eq!(gateway.starts(None).await, FREE, "the proxy is no client");

    let gateway = Gateway::start(&provider, &["--client-limit", "off"]);
    assert_eq!(gateway.starts(None).await, FREE);
}
