//! The real parts: the certified provider from npm, and the examples as processes of their own.
//!
//! Each is started on a free port of 127.0.0.1 and ended with its handle, by its own process id.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use serde_json::Value;
use tower_pkce_auth::{HttpClient, HyperClient};

use crate::servers::end;

/// `oidc-provider` with its control server.
pub struct Provider {
    process: Child,
    /// The provider ends when this closes, so that it never outlives the test.
    _stdin: ChildStdin,
    pub issuer: String,
    pub control: String,
    pub secret: String,
}

impl Provider {
    /// Starts it; `environment` is what `tests/provider/README.md` describes.
    pub fn start(environment: &[(&str, &str)]) -> Self {
        let mut process = Command::new("node")
            .arg(root().join("tests/provider/server.mjs"))
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node is installed; scripts/test sees to it");
        let stdin = process.stdin.take().unwrap();
        let line = first_line(&mut process, |line| line.starts_with('{'));
        let ready: Value = serde_json::from_str(&line).expect("the provider says where it is");
        let text = |name: &str| ready[name].as_str().unwrap().to_owned();
        Self {
            issuer: text("issuer"),
            control: text("control"),
            secret: text("client_secret"),
            process,
            _stdin: stdin,
        }
    }

    pub async fn counts(&self) -> Value {
        let body = call(Request::get(format!("{}/counts", self.control))).await.1;
        serde_json::from_slice(&body).unwrap()
    }

    pub async fn count(&self, name: &str) -> u64 {
        self.counts().await[name].as_u64().unwrap_or_else(|| panic!("no count {name}"))
    }

    /// Asks the control server to do something.
    pub async fn order(&self, path: &str) {
        let (status, body) = call(Request::post(format!("{}{path}", self.control))).await;
        assert_eq!(status, 200, "{path}: {}", String::from_utf8_lossy(&body));
    }

    /// Registers the callback and the landing page of an application.
    pub async fn register(&self, origin: &str) {
        self.change_clients(&serde_json::json!({
            "redirect_uris": [format!("{origin}/auth/callback")],
            "post_logout_redirect_uris": [format!("{origin}/auth/signed-out")],
        }))
        .await;
    }

    /// Registers where sign-outs are reported to, of this client only.
    pub async fn register_backchannel(&self, client: &str, uri: &str) {
        self.change_clients(&serde_json::json!({
            "client_id": client,
            "backchannel_logout_uri": uri,
        }))
        .await;
    }

    async fn change_clients(&self, body: &Value) {
        let request = Request::post(format!("{}/clients/redirects", self.control))
            .header("content-type", "application/json")
            .body(Bytes::from(body.to_string()))
            .unwrap();
        let response = HyperClient::new().send(request, 1 << 20).await.unwrap();
        assert_eq!(response.status(), 200);
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        end(&mut self.process);
    }
}

/// `examples/dashboard` as a process.
pub struct Dashboard {
    process: Child,
    pub origin: String,
}

impl Dashboard {
    /// Starts it with a provider of its own, or with a real one.
    pub fn start(arguments: &[&str], provider: Option<&Provider>) -> Self {
        let mut command = Command::new(example("dashboard"));
        command.args(["--listen", "127.0.0.1:0"]).args(arguments).stdout(Stdio::piped());
        if let Some(provider) = provider {
            command
                .env("DASHBOARD_ISSUER", &provider.issuer)
                .env("DASHBOARD_CLIENT_ID", "dashboard")
                .env("DASHBOARD_CLIENT_SECRET", &provider.secret);
        }
        let mut process = command.spawn().expect("cargo has built the examples");
        let line = first_line(&mut process, |line| line.starts_with("open "));
        let origin = line["open ".len()..].trim_end_matches('/').to_owned();
        Self { process, origin }
    }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        end(&mut self.process);
    }
}

/// `examples/gateway` as a process, before an upstream.
pub struct Gateway {
    process: Child,
    pub origin: String,
}

impl Gateway {
    /// Starts it as a client of the provider, and registers it there.
    pub async fn start(upstream: &str, provider: &Provider, arguments: &[&str]) -> Self {
        let client = ["--issuer", &provider.issuer, "--client-id", "dashboard"];
        let gateway = Self::launch(upstream, &provider.secret, &[&client, arguments].concat());
        provider.register(&gateway.origin).await;
        gateway
    }

    /// Starts it as any client of any provider.
    pub fn launch(upstream: &str, secret: &str, arguments: &[&str]) -> Self {
        let mut process = Command::new(example("gateway"))
            .args(["--listen", "127.0.0.1:0", "--upstream", upstream])
            .args(arguments)
            .env("GATEWAY_CLIENT_SECRET", secret)
            .env("RUST_LOG", "warn")
            .stdout(Stdio::piped())
            .spawn()
            .expect("cargo has built the examples");
        let line = first_line(&mut process, |line| line.starts_with("open "));
        let origin = line["open ".len()..].trim_end_matches('/').to_owned();
        Self { process, origin }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        end(&mut self.process);
    }
}

/// Reads a process's output up to the first line that fits, for at most a minute.
pub fn first_line(process: &mut Child, fits: impl Fn(&str) -> bool + Send + 'static) -> String {
    let output = process.stdout.take().expect("the output is piped");
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        // Reads on to the end, so that the process never blocks on a full pipe.
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if fits(&line) {
                let _ = sender.send(line);
            }
        }
    });
    match receiver.recv_timeout(Duration::from_secs(60)) {
        Ok(line) => line,
        Err(error) => {
            end(process);
            panic!("the process did not say that it is ready: {error}");
        }
    }
}

/// Where cargo puts examples: beside the folder of this test.
pub fn example(name: &str) -> PathBuf {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    path.join("examples").join(name)
}

pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

async fn call(request: http::request::Builder) -> (u16, Bytes) {
    let request = request.body(Bytes::new()).unwrap();
    let response = HyperClient::new().send(request, 1 << 20).await.unwrap();
    (response.status().as_u16(), response.into_body())
}

/// A browser at the provider, without a window: keeps its cookies and follows its redirects until
/// they leave it. The provider must sign in by itself (`AUTO_LOGIN`).
#[derive(Clone, Default)]
pub struct AtProvider {
    cookies: std::collections::BTreeMap<String, String>,
}

impl AtProvider {
    /// Signs out at the provider's end-session page, as if the person pressed its button.
    pub async fn sign_out(&mut self, url: &str) {
        let page = self.ask(Request::get(url), Bytes::new()).await;
        let body = String::from_utf8_lossy(page.body()).into_owned();
        let between = |before: &str, after: &str| {
            let (_, rest) =
                body.split_once(before).unwrap_or_else(|| panic!("no {before}: {body}"));
            rest.split_once(after).unwrap().0.to_owned()
        };
        let (action, xsrf) = (between("action=\"", "\""), between("name=\"xsrf\" value=\"", "\""));
        let form = format!("xsrf={xsrf}&logout=yes");
        let request = Request::post(action).header("content-type", FORM);
        let reply = self.ask(request, Bytes::from(form)).await;
        assert!(reply.status().is_redirection(), "{} {:?}", reply.status(), reply.body());
    }

    async fn ask(&mut self, request: http::request::Builder, body: Bytes) -> http::Response<Bytes> {
        let cookies: Vec<_> =
            self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let request = request.header("accept", "text/html").header("cookie", cookies.join("; "));
        let response = HyperClient::new().send(request.body(body).unwrap(), 1 << 20).await.unwrap();
        for value in response.headers().get_all("set-cookie") {
            let pair = value.to_str().unwrap().split(';').next().unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
        response
    }

    /// Follows an authorization URL; returns where the provider sends the browser back to.
    pub async fn authorize(&mut self, url: &str, issuer: &str) -> String {
        let mut url = url.to_owned();
        for _ in 0..12 {
            let response = self.ask(Request::get(&url), Bytes::new()).await;
            let Some(location) = response.headers().get("location") else {
                let body = String::from_utf8_lossy(response.body()).into_owned();
                panic!("the provider shows a page: {} {body}", response.status());
            };
            let location = location.to_str().unwrap();
            url = if location.starts_with('/') {
                format!("{issuer}{location}")
            } else {
                location.to_owned()
            };
            if !url.starts_with(issuer) {
                return url;
            }
        }
        panic!("the provider's redirects never end");
    }
}

const FORM: &str = "application/x-www-form-urlencoded";
