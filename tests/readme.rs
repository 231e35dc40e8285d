//! The README says what works: the commands that put `gateway` before a dashboard are run.
//!
//! Its Rust is compiled by rustdoc.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use axum::Router;
use axum::http::HeaderMap;
use axum::routing::get;
use bytes::Bytes;
use http::Request;
use tower_pkce_auth::testing::provider::{TestProvider, TestUser};
use tower_pkce_auth::{HttpClient as _, HyperClient};

/// The block after `<!-- gateway -->`.
fn commands() -> String {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let (_, rest) = readme.split_once("<!-- gateway -->\n```sh\n").expect("the README has it");
    rest.split_once("```").unwrap().0.to_owned()
}

#[test]
fn ten_lines_put_gateway_before_a_dashboard() {
    let count = commands().lines().count();
    assert!(count <= 10, "{count} lines");
}

#[tokio::test]
async fn the_commands_of_the_readme_put_gateway_before_a_dashboard() {
    let provider = TestProvider::builder()
        .user(TestUser::new("ann").email("ann@example.com", true))
        .start()
        .await
        .unwrap();
    let upstream = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream_address = upstream.local_addr().unwrap();
    let whoami =
        async |headers: HeaderMap| headers["x-auth-request-email"].to_str().unwrap().to_owned();
    let dashboard = Router::new().fallback(get(whoami));
    tokio::spawn(async { axum::serve(upstream, dashboard).await });

    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let origin = format!("http://127.0.0.1:{port}");
    let mut script = "shopt -s expand_aliases\nset -eu\n".to_owned();
    for line in commands().lines() {
        // The example is built already; everything else is run as it stands, with the names of
        // this test for those of the README.
        let line = match line.strip_prefix("cargo build --release --example gateway && ") {
            Some(rest) => rest.replace("target/release/examples/gateway", &gateway()),
            None => line.to_owned(),
        };
        script += &line
            .replace("=...", &format!("={}", provider.client_secret().unwrap()))
            .replace("0.0.0.0:8080", &format!("127.0.0.1:{port}"))
            .replace("https://metrics.example.com", &origin)
            .replace("http://127.0.0.1:9090", &format!("http://{upstream_address}"))
            .replace("https://login.example.com/realms/staff", provider.issuer())
            .replace("--client-id metrics", &format!("--client-id {}", provider.client_id()));
        script.push('\n');
    }
    // So that the process that is ended is the gateway and no shell.
    let script = script.replace("\ngateway --listen", &format!("\nexec {} --listen", gateway()));
    assert!(script.contains("\nexec "), "{script}");

    let folder = Folder::new();
    let mut child = Running(
        Command::new("bash")
            .args(["-c", &script])
            .current_dir(&folder.0)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let output = BufReader::new(child.0.stdout.take().unwrap());
    let ready = tokio::task::spawn_blocking(|| {
        output.lines().map_while(Result::ok).find(|line| line.starts_with("open "))
    });
    assert_eq!(ready.await.unwrap().as_deref(), Some(&*format!("open {origin}/")), "{script}");
    assert_eq!(sign_in(&provider, &origin).await, "ann@example.com");
}

/// Signs in as a browser does; returns what the dashboard shows.
async fn sign_in(provider: &TestProvider, origin: &str) -> String {
    let client = HyperClient::new();
    let mut cookies = Vec::<String>::new();
    let mut url = format!("{origin}/graph");
    for _ in 0..8 {
        if url.starts_with(provider.issuer()) {
            url = provider.authorize_as(&url, "ann").await.unwrap();
        }
        let request = Request::get(&url).header("accept", "text/html");
        let request = request.header("cookie", cookies.join("; ")).body(Bytes::new()).unwrap();
        let response = client.send(request, 1 << 20).await.unwrap();
        for value in response.headers().get_all("set-cookie") {
            let pair = value.to_str().unwrap().split(';').next().unwrap();
            cookies.retain(|known| known.split('=').next() != pair.split('=').next());
            cookies.push(pair.to_owned());
        }
        let Some(location) = response.headers().get("location") else {
            return String::from_utf8(response.into_body().to_vec()).unwrap();
        };
        let location = location.to_str().unwrap();
        url =
            if location.starts_with('/') { format!("{origin}{location}") } else { location.into() };
    }
    panic!("the redirects never end");
}

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A folder of its own that ends with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("readme-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Where cargo puts examples: beside the folder of this test.
fn gateway() -> String {
    let test = std::env::current_exe().unwrap();
    let path = test.ancestors().nth(2).unwrap().join("examples").join("gateway");
    path.to_str().unwrap().to_owned()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
