//! What holds of every answer to a visitor who is not signed in, whatever was sent.

#![allow(dead_code, reason = "each test uses a part of it")]

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{COOKIE, HeaderName, HeaderValue};
use axum::http::{Method, Uri};
use proptest::strategy::Strategy;
use proptest::test_runner::{Config, TestRunner};
use tokio::runtime::Runtime;
use tower_pkce_auth::testing::provider::TestProvider;
use tower_pkce_auth::{Builder, MemoryStore, PkceAuthLayer, Sessions};

use crate::support::{App, Browser, Reply, Seen, World, navigation, parameter};

/// Which part of the layer a request is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum At {
    Open,
    Optional,
    Ours,
    Protected,
    /// Whatever the layer makes of an odd path; [`is_open`] says what it must not make of it.
    Unknown,
}

/// One path of every part, as strings of a request line.
pub const PLACES: [(At, &str); 12] = [
    (At::Protected, "/secret"),
    (At::Protected, "/auth/nothing"),
    (At::Optional, "/maybe/x"),
    (At::Open, "/public/x"),
    (At::Ours, "/auth/callback"),
    (At::Ours, "/auth/callback?state=x&code=y"),
    (At::Ours, "/auth/login?return_to=/x"),
    (At::Ours, "/auth/logout"),
    (At::Ours, "/auth/session"),
    (At::Ours, "/auth/signed-out"),
    (At::Ours, "/auth/health/live"),
    (At::Ours, "/auth/health/ready"),
];

/// An application with somebody signed in, and genuine material that others may have stolen.
pub struct Hostile {
    pub runtime: Runtime,
    pub world: World,
    pub layer: PkceAuthLayer,
    pub app: App,
    pub member: Browser,
    /// The cookies of `member`, and the one of a pending login: name and value.
    pub cookies: Vec<(String, String)>,
    /// `state` and code of that login.
    pub state: String,
    pub code: String,
    /// A ticket to start over with.
    pub ticket: String,
}

impl Hostile {
    pub fn new(set: impl Fn(&World, Builder) -> Builder) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (world, layer, app, member) = runtime.block_on(async {
            let world = World::with_provider(TestProvider::builder()).await;
            let builder = world
                .builder()
                .open("/public/*".parse().unwrap())
                .optional("/maybe/*".parse().unwrap())
                .health(true);
            let layer = set(&world, builder).build().unwrap();
            let app = world.app(&layer);
            let member = world.browser(&app, "alice");
            (world, layer, app, member)
        });
        let (cookies, state, code, ticket) = Default::default();
        Self { runtime, world, layer, app, member, cookies, state, code, ticket }
    }

    /// Signs `member` in and collects the material.
    pub fn with_member(mut self) -> Self {
        let mut member = self.member.clone();
        self.runtime.block_on(async {
            assert_eq!(member.sign_in("/secret").await.body, "alice", "a control");
            let mut other = self.world.browser(&self.app, "alice");
            let callback = other.to_callback("/secret").await;
            self.state = parameter(&callback, "state").unwrap();
            self.code = parameter(&callback, "code").unwrap();
            let jars = member.jar.0.iter().chain(&other.jar.0);
            self.cookies = jars.map(|((name, _), value)| (name.clone(), value.clone())).collect();
            let stranger = self.world.browser(&self.app, "alice").get(&callback).await;
            self.ticket = parameter(&stranger.location(), "again").unwrap();
        });
        self.member = member;
        self.world.reached();
        self
    }

    fn prefix(&self) -> String {
        format!("{}-", self.base())
    }

    pub fn stored(world: &World, builder: Builder) -> Builder {
        let store = MemoryStore::shared_between_pods(world.clock.clone());
        builder.store(store).sessions(Sessions::Stored)
    }

    /// What all names of our cookies begin with.
    pub fn base(&self) -> &str {
        let (name, _) = self.cookies.first().expect("somebody is signed in");
        &name[..name.find('-').unwrap()]
    }

    /// Starts a login; returns its cookie as a pair, and its `state`.
    pub async fn start(&self) -> (String, String) {
        let mut browser = self.world.browser(&self.app, "alice");
        let reply = browser.get("/auth/login?return_to=/secret").await;
        let state = parameter(&reply.location(), "state").unwrap();
        (browser.jar.header("/").unwrap(), state)
    }

    /// Sends a request and judges the answer.
    pub async fn judge(&self, at: At, request: Request) -> Reply {
        self.judge_with(at, request, false).await
    }

    /// `provider` says that a login of this browser is pending, so that the provider may be asked
    /// and may refuse: DESIGN, Errors, "Provider → 502/503".
    pub async fn judge_with(&self, at: At, request: Request, provider: bool) -> Reply {
        let path = request.uri().path().to_owned();
        let what = format!("{at:?} {} {} {:?}", request.method(), request.uri(), request.headers());
        let what: String = what.chars().take(2_000).collect();
        self.world.reached();
        let reply = crate::support::send(&self.app, request).await;
        let seen: Vec<Seen> = std::mem::take(&mut *self.world.seen.lock().unwrap());
        let status = reply.status.as_u16();
        let what = format!("{what}\n-> {status} {} {:?}", reply.reason(), reply.headers);

        let expected = match at {
            At::Open | At::Optional => 1,
            At::Ours | At::Protected => 0,
            At::Unknown => usize::from(is_open(&path)).min(seen.len()),
        };
        assert_eq!(seen.len(), expected, "the application is reached as it should: {what}");
        for seen in &seen {
            assert_eq!(seen.subject, None, "nobody is signed in: {what}");
            let fields = seen.headers.get_all(COOKIE).iter();
            for pair in fields.flat_map(|value| value.as_bytes().split(|&b| b == b';')) {
                let name = String::from_utf8_lossy(pair.split(|&b| b == b'=').next().unwrap());
                let name = name.trim().trim_start_matches("__Host-");
                let ours = !self.cookies.is_empty() && name.starts_with(&self.prefix());
                assert!(!ours, "H24: our cookies stay with us: {name} of {what}");
            }
            for name in ["x-forwarded-user", "x_user_id", "remote-user"] {
                assert!(!seen.headers.contains_key(name), "M01 {name}: {what}");
            }
        }
        let of_provider = provider && matches!(status, 502 | 503);
        assert!((200..500).contains(&status) || of_provider, "no trouble: {what}");
        for cookie in reply.set_cookies() {
            let (name, _) = cookie.split_once('=').unwrap();
            let gone = cookie.contains("; Max-Age=0");
            assert!(gone || name.contains("-p-"), "only a pending login may be begun: {what}");
        }
        for name in ["location", "hx-redirect"] {
            let location = reply.header(name);
            assert!(location.is_empty() || self.is_ours(location), "L01 {name}: {what}");
        }
        if seen.is_empty() {
            assert_eq!(reply.header("cache-control"), "no-store", "M12: {what}");
            // `session` answers a question; it does not refuse.
            let told = path == "/auth/session" && status == 401;
            let refused = at == At::Protected || (status >= 400 && !told);
            let reason = reply.error.as_ref().map(|error| error.detail());
            assert!(!refused || reason.is_some_and(|it| !it.is_empty()), "a reason: {what}");
        }
        reply
    }

    /// A redirect leads to the provider's authorization endpoint or to a path of ours.
    fn is_ours(&self, location: &str) -> bool {
        let provider = format!("{}/", self.world.provider.issuer());
        location.starts_with(&provider)
            || (location.starts_with('/')
                && !location.starts_with("//")
                && !location.contains('\\'))
    }
}

/// Tells whether every reading of a path lies in the open or optional part: however often it is
/// decoded, whatever separates segments, wherever dots lead.
pub fn is_open(path: &str) -> bool {
    let mut bytes = path.as_bytes().to_vec();
    for _ in 0..4 {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        for whole in [text.as_str(), text.split([';', '?', '#', '\0']).next().unwrap()] {
            let mut segments: Vec<&str> = Vec::new();
            for segment in whole.split(['/', '\\']) {
                match segment {
                    "" | "." => {}
                    ".." => drop(segments.pop()),
                    segment => segments.push(segment),
                }
            }
            if !matches!(segments.first(), Some(&("public" | "maybe"))) {
                return false;
            }
        }
        bytes = url::form_urlencoded::parse(&[b"x=", &*bytes.clone()].concat())
            .next()
            .map_or(bytes, |(_, value)| value.into_owned().into_bytes());
    }
    true
}

/// Checks a property on random inputs and shrinks what breaks it.
pub fn property<S: Strategy>(cases: u32, inputs: S, holds: impl Fn(S::Value)) {
    let config =
        Config { cases, failure_persistence: None, max_shrink_iters: 300, ..Config::default() };
    let result = TestRunner::new(config).run(&inputs, |input| {
        holds(input);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

/// A navigation to a target that may be odd; `None` if no HTTP server would pass it on.
pub fn request_to(method: &str, target: &[u8]) -> Option<Request> {
    let uri = Uri::try_from(target).ok()?;
    let mut request = navigation(Method::GET, "/");
    *request.method_mut() = Method::from_bytes(method.as_bytes()).unwrap();
    *request.uri_mut() = uri;
    Some(request)
}

/// A target with a query: bytes that cannot be in one are replaced.
pub fn with_query(path: &str, query: &[u8]) -> Request {
    let target = [path.as_bytes(), b"?", query].concat();
    request_to("GET", &target).unwrap_or_else(|| {
        let odd =
            |b: &u8| if b.is_ascii_graphic() && !b"#<>`^{}|\"\\".contains(b) { *b } else { b'%' };
        let query: Vec<u8> = query.iter().map(odd).collect();
        request_to("GET", &[path.as_bytes(), b"?", &query].concat()).unwrap()
    })
}

/// Adds a header field; bytes that cannot be in one are replaced.
pub fn add(request: &mut Request, name: &str, value: &[u8]) {
    let value: Vec<u8> =
        value.iter().map(|&b| if b < b' ' || b == 0x7f { b | 0x80 } else { b }).collect();
    let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
    request.headers_mut().append(name, HeaderValue::from_bytes(&value).unwrap());
}

/// A POST of a form with this body, as the provider's page sends it.
pub fn form(path: &str, content_type: &str, body: Body) -> Request {
    let mut request = navigation(Method::POST, path);
    request.headers_mut().insert("sec-fetch-site", HeaderValue::from_static("cross-site"));
    add(&mut request, "content-type", content_type.as_bytes());
    *request.body_mut() = body;
    request
}
