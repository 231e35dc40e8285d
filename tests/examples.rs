//! The examples, as the processes that `cargo run --example` starts: they do what they show.
//!
//! `cargo test` builds the examples before it runs tests; with `--test examples` alone, say
//! `cargo test --examples --test examples`.

mod support;

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use http::header::{COOKIE, LOCATION};
use http::{HeaderMap, Method, Request, Response};
use serde_json::{Value, json};
use support::{Jar, parameter};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tower_pkce_auth::{HttpClient as _, HyperClient};

/// A guard against hanging; nothing here takes long.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running example. The process ends with the handle, by its own id.
struct Example {
    process: Child,
    /// What it asks to open, as it is printed.
    home: String,
}

impl Example {
    async fn start(name: &str) -> Self {
        let mut process = command(name)
            .args(["--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {error}; build it: cargo build --examples"));
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let ready = async {
            while let Some(line) = lines.next_line().await.unwrap() {
                if let Some(home) = line.strip_prefix("open ") {
                    return home.to_owned();
                }
            }
            panic!("{name} ends without saying where it is");
        };
        let home = tokio::time::timeout(PATIENCE, ready).await;
        let home = home.unwrap_or_else(|_| panic!("{name} does not say that it is ready"));
        // Reads on, so that the process never meets a closed pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { process, home }
    }

    fn origin(&self) -> String {
        self.home.split('/').take(3).collect::<Vec<_>>().join("/")
    }

    async fn end(mut self) {
        self.process.kill().await.unwrap();
    }
}

fn command(name: &str) -> Command {
    // Cargo puts examples beside the folder of this test.
    let test = std::env::current_exe().unwrap();
    let path: PathBuf = test.ancestors().nth(2).unwrap().join("examples").join(name);
    let mut command = Command::new(path);
    for name in ["DASHBOARD_ISSUER", "DASHBOARD_CLIENT_ID", "DASHBOARD_CLIENT_SECRET", "RUST_LOG"] {
        command.env_remove(name);
    }
    command.kill_on_drop(true);
    command
}

/// A browser without a window. All ports of one host share its cookies, as in any browser.
#[derive(Clone, Default)]
struct Person {
    jar: Jar,
}

/// An answer, and the address that gave it.
struct Shown {
    url: String,
    response: Response<Bytes>,
}

impl Person {
    async fn request(
        &mut self,
        method: Method,
        url: &str,
        set: &[(&str, &str)],
        body: &str,
    ) -> Shown {
        let path =
            format!("/{}", url.split('?').next().unwrap().splitn(4, '/').nth(3).unwrap_or(""));
        let mut request = Request::builder().method(method).uri(url);
        if let Some(cookies) = self.jar.header(&path) {
            request = request.header(COOKIE, cookies);
        }
        for (name, value) in set {
            request = request.header(*name, *value);
        }
        let request = request.body(Bytes::from(body.to_owned())).unwrap();
        let sent = tokio::time::timeout(PATIENCE, HyperClient::new().send(request, 1 << 20)).await;
        let response = sent.unwrap_or_else(|_| panic!("{url} does not answer")).unwrap();
        self.jar.keep(response.headers());
        Shown { url: url.to_owned(), response }
    }

    async fn get(&mut self, url: &str) -> Shown {
        let navigation = [
            ("accept", "text/html,*/*;q=0.8"),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "document"),
            ("sec-fetch-site", "none"),
        ];
        self.request(Method::GET, url, &navigation, "").await
    }

    async fn script(&mut self, method: Method, url: &str, site: &str) -> Shown {
        let headers =
            [("sec-fetch-mode", "cors"), ("sec-fetch-dest", "empty"), ("sec-fetch-site", site)];
        self.request(method, url, &headers, "").await
    }

    async fn submit(&mut self, url: &str, fields: &[(&str, &str)]) -> Shown {
        let body =
            url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let headers = [
            ("content-type", "application/x-www-form-urlencoded"),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "document"),
            ("sec-fetch-site", "same-origin"),
        ];
        self.request(Method::POST, url, &headers, &body).await
    }

    /// Follows redirects by hand until something is shown; returns every address on the way too.
    async fn follow(&mut self, mut shown: Shown) -> (Shown, Vec<String>) {
        let mut way = vec![shown.url.clone()];
        while shown.response.status().is_redirection() {
            assert!(way.len() < 10, "the redirects never end: {way:#?}");
            shown = self.get(&shown.location()).await;
            way.push(shown.url.clone());
        }
        (shown, way)
    }

    /// Opens an address, chooses an account at the provider, and returns what is shown in the end,
    /// with the addresses visited after the chooser.
    async fn sign_in(&mut self, url: &str, user: &str) -> (Shown, Vec<String>) {
        let shown = self.get(url).await;
        let (chooser, _) = self.follow(shown).await;
        let html = chooser.body();
        assert!(html.contains("data-page=\"chooser\""), "{} shows {html}", chooser.url);
        let action = attribute(&html, "<form method=\"post\" action=\"");
        let request = attribute(&html, "name=\"request\" value=\"");
        assert!(html.contains(&format!("data-user=\"{user}\"")), "{user} can be chosen");
        let chosen = self.submit(&action, &[("request", &request), ("user", user)]).await;
        self.follow(chosen).await
    }
}

impl Shown {
    fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    fn body(&self) -> String {
        String::from_utf8(self.response.body().to_vec()).unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(self.response.body()).unwrap_or_else(|_| {
            panic!("{} is no JSON: {} {}", self.url, self.status(), self.body())
        })
    }

    /// Where a redirect leads, as an absolute address.
    fn location(&self) -> String {
        let location = self.headers().get(LOCATION);
        let location = location.unwrap_or_else(|| panic!("{} is no redirect", self.url));
        let base = url::Url::parse(&self.url).unwrap();
        base.join(location.to_str().unwrap()).unwrap().to_string()
    }
}

/// The value of an attribute, by what stands before it.
fn attribute(html: &str, before: &str) -> String {
    let (_, rest) = html.split_once(before).unwrap_or_else(|| panic!("no {before} in {html}"));
    let value = rest.split('"').next().unwrap();
    value.replace("&quot;", "\"").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

/// Without a session: a navigation is sent to sign in, a script is told.
async fn is_protected(origin: &str, mount: &str, path: &str) {
    let mut visitor = Person::default();
    let login = format!("{mount}/auth/login");
    let shown = visitor.get(&format!("{origin}{mount}{path}")).await;
    assert_eq!(shown.status(), 302, "{path}: {}", shown.body());
    let location = shown.location();
    assert!(location.starts_with(&format!("{origin}{login}?return_to=")), "{location}");
    assert_eq!(parameter(&location, "return_to"), Some(format!("{mount}{path}")));
    assert!(visitor.jar.names().is_empty(), "nothing is begun yet");

    let shown = visitor.script(Method::GET, &format!("{origin}{mount}{path}"), "same-origin").await;
    assert_eq!(shown.status(), 401, "O10 {path}");
    let expected = json!({"error": "not_signed_in", "login_url": login});
    assert_eq!(shown.json(), expected, "O10 {path}");
}

#[tokio::test]
async fn dashboard_is_open_where_it_says_so_and_signs_in_by_the_chooser() {
    let example = Example::start("dashboard").await;
    let origin = example.origin();
    assert_eq!(example.home, format!("{origin}/"), "it prints what to open");
    is_protected(&origin, "", "/").await;
    is_protected(&origin, "", "/api/me").await;
    let mut person = Person::default();
    let shown = person.get(&format!("{origin}/public")).await;
    assert_eq!(shown.status(), 200);
    assert!(shown.body().contains("This page is open to everybody"));

    let (shown, way) = person.sign_in(&format!("{origin}/deep/link?x=%26&y=a%2Fb"), "bob").await;
    assert_eq!(shown.status(), 200, "{way:#?}");
    assert_eq!(shown.url, format!("{origin}/deep/link?x=%26&y=a%2Fb"), "L07: byte for byte");
    assert!(shown.body().contains("data-page=\"deep-link\""));
    let me = person.script(Method::GET, &format!("{origin}/api/me"), "same-origin").await.json();
    assert_eq!(me["subject"], "bob");
    assert_eq!(me["name"], "Bob Baker");
    assert_eq!(me["email"], "bob@example.com");
    let shown = person.get(&example.home).await;
    assert!(shown.body().contains("data-page=\"dashboard\""), "{}", shown.body());
    example.end().await;
}

#[tokio::test]
async fn hyper_minimal_greets_strangers_and_members() {
    let example = Example::start("hyper_minimal").await;
    let origin = example.origin();
    is_protected(&origin, "", "/").await;
    let mut person = Person::default();
    assert_eq!(person.get(&format!("{origin}/public")).await.body(), "Hello stranger\n");
    let (shown, _) = person.sign_in(&example.home, "alice").await;
    assert_eq!((shown.url.as_str(), shown.body().as_str()), (&*example.home, "Hello alice\n"));
    let shown = person.get(&format!("{origin}/public")).await;
    assert_eq!(shown.body(), "Hello stranger\n", "nothing is looked up on an open path");
    example.end().await;
}

#[tokio::test]
async fn axum_api_has_open_optional_and_protected_paths_below_its_mount() {
    let example = Example::start("axum_api").await;
    let origin = example.origin();
    let mut visitor = Person::default();
    let status = visitor.get(&format!("{origin}/app/api/status")).await;
    assert_eq!((status.status(), status.json()), (200, json!({"status": "ok"})), "open");
    is_protected(&origin, "/app", "/api/me").await;
    is_protected(&origin, "/app", "/api/admin").await;
    let orders = format!("{origin}/app/api/orders");
    let order = visitor.script(Method::POST, &orders, "cross-site").await;
    assert_eq!(order.status(), 401, "nobody's order");
    assert_eq!(example.home.trim_end_matches('/'), format!("{origin}/app"), "what to open");
    for home in ["/app", "/app/"] {
        let shown = visitor.get(&format!("{origin}{home}")).await;
        assert_eq!(shown.status(), 200, "the layer leads to {home}, so it must exist");
        assert!(shown.body().contains("Hello stranger"), "optional: {}", shown.body());
    }
    example.end().await;
}

/// The layer's own endpoints below the mount, over real HTTP, from the first redirect to the
/// logout.
#[tokio::test]
async fn axum_api_signs_in_and_out_below_its_mount() {
    let example = Example::start("axum_api").await;
    let origin = example.origin();
    let at = |path: &str| format!("{origin}/app{path}");
    let mut alice = Person::default();
    let (shown, way) = alice.sign_in(&at("/api/me?x=%26"), "alice").await;
    assert_eq!(shown.url, at("/api/me?x=%26"), "L07: with the mount, byte for byte: {way:#?}");
    assert!(way[1].starts_with(&at("/auth/callback?")), "A03: {way:#?}");
    assert_eq!(shown.json(), json!({"subject": "alice", "groups": ["admin", "staff"]}));

    let hint: Vec<_> = alice.jar.0.keys().filter(|(name, _)| name.ends_with("-o")).collect();
    assert!(matches!(&hint[..], [(_, path)] if path == "/app/auth/logout"), "{hint:?}");
    for home in [at(""), at("/")] {
        let shown = alice.get(&home).await;
        assert!(shown.body().contains("Hello Alice Archer."), "{home}: {}", shown.body());
    }
    assert_eq!(alice.get(&at("/api/admin")).await.json(), json!({"secrets": 42}));
    for (site, status) in [("same-origin", 200), ("cross-site", 403), ("same-site", 403)] {
        let order = alice.script(Method::POST, &at("/api/orders"), site).await;
        assert_eq!(order.status(), status, "O03 {site}");
    }
    let session = alice.script(Method::GET, &at("/auth/session"), "same-origin").await.json();
    assert_eq!((&session["authenticated"], &session["subject"]), (&json!(true), &json!("alice")));

    let mut bob = Person::default();
    let (shown, _) = bob.sign_in(&at("/api/admin"), "bob").await;
    assert_eq!((shown.url, shown.response.status().as_u16()), (at("/api/admin"), 403), "by group");

    let left = alice.submit(&at("/auth/logout"), &[]).await;
    let end = left.location();
    let back = parameter(&end, "post_logout_redirect_uri");
    assert_eq!(back, Some(at("/auth/signed-out")), "J04: {end}");
    let (shown, _) = alice.follow(left).await;
    let landed = shown.url.split('?').next().unwrap();
    assert_eq!(landed, at("/auth/signed-out"), "J04: the provider sends back below the mount");
    assert!(shown.body().contains("data-page=\"signed-out\""), "{}", shown.body());
    let shown = alice.script(Method::GET, &at("/api/me"), "same-origin").await;
    assert_eq!(shown.status(), 401, "signed out");
    let me = bob.script(Method::GET, &at("/api/me"), "same-origin").await.json();
    assert_eq!(me["subject"], "bob", "and nobody else");
    example.end().await;
}

#[tokio::test]
async fn tonic_service_refuses_and_serves_in_grpcs_way() {
    let output = tokio::time::timeout(PATIENCE, command("tonic_service").output());
    let output = output.await.expect("it comes to its end");
    let output = output.unwrap_or_else(|error| panic!("{error}; build it: cargo build --examples"));
    let text = String::from_utf8(output.stdout).unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {text}{complaints}", output.status);
    let lines: Vec<_> = text.lines().collect();
    let expected = [
        "without a session: Unauthenticated: not signed in",
        "with a session: alice says hello to Bob",
        "a stream: hello Bob",
        "after the sign-out: Unauthenticated: the session ended",
    ];
    assert_eq!(lines, expected, "K34: {complaints}");
}

#[tokio::test]
async fn an_option_that_is_none_is_refused() {
    for name in ["dashboard", "axum_api", "hyper_minimal"] {
        for arguments in
            [&["--lissten", "127.0.0.1:0"][..], &["--listen"], &["--listen", "nowhere"]]
        {
            let ended = tokio::time::timeout(PATIENCE, command(name).args(arguments).output());
            let ended = ended.await.unwrap_or_else(|_| panic!("{name} {arguments:?} starts"));
            assert!(!ended.unwrap().status.success(), "{name} {arguments:?}");
        }
    }
}
