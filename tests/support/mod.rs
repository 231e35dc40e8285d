//! A browser without a window: cookies, redirects, and the headers browsers send.

#![allow(dead_code, missing_docs, reason = "each test uses a part of it")]
#![allow(clippy::wrong_self_convention, reason = "a browser goes to the provider")]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{COOKIE, HOST, LOCATION, SET_COOKIE};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::Response;
use axum::routing::{any, get};
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;
use tower::util::BoxCloneSyncService;
use tower_pkce_auth::testing::TestClock;
use tower_pkce_auth::testing::provider::TestProvider;
use tower_pkce_auth::{
    AuthError, Builder, ClientId, ClientSecret, CookieKeys, Identity, PkceAuthLayer,
};

pub const ORIGIN: &str = "http://localhost:8080";

/// The application behind the layer, as a service to call.
pub type App = BoxCloneSyncService<Request, Response, Infallible>;

/// A provider, a clock, keys: what the pods of a test share.
pub struct World {
    pub provider: TestProvider,
    pub clock: Arc<TestClock>,
    pub keys: CookieKeys,
    /// Every request that reached the application, with its head as it arrived.
    pub seen: Arc<Mutex<Vec<Seen>>>,
}

/// A request as the application saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: Method,
    pub uri: String,
    pub headers: HeaderMap,
    pub subject: Option<String>,
}

impl World {
    pub async fn new() -> Self {
        Self::with_provider(TestProvider::builder()).await
    }

    /// The builder's clock is set here: provider and layer share it.
    pub async fn with_provider(
        builder: tower_pkce_auth::testing::provider::TestProviderBuilder,
    ) -> Self {
        let clock = Arc::new(TestClock::new());
        let provider = builder.clock(clock.clone()).start().await.unwrap();
        Self { provider, clock, keys: CookieKeys::random(), seen: Arc::default() }
    }

    /// A builder with everything that has no default.
    pub fn builder(&self) -> Builder {
        self.builder_at(ORIGIN)
    }

    pub fn builder_at(&self, public_url: &str) -> Builder {
        let builder = PkceAuthLayer::builder(
            self.provider.issuer().parse().unwrap(),
            ClientId::new(self.provider.client_id()),
            public_url.parse().unwrap(),
        )
        .cookie_keys(self.keys.clone())
        .clock(self.clock.clone());
        match self.provider.client_secret() {
            Some(secret) => builder.client_secret(ClientSecret::new(secret)),
            None => builder.public_client(),
        }
    }

    /// An application that answers every path with the subject of who is signed in, or `-`.
    pub fn app<R>(&self, layer: &PkceAuthLayer<R>) -> App
    where
        R: tower_pkce_auth::Respond<Body> + Clone + Send + Sync + 'static,
    {
        let seen = self.seen.clone();
        let handler = move |identity: Option<Identity>, request: Request| async move {
            let subject = identity.map(|identity| identity.subject().to_owned());
            let text = subject.clone().unwrap_or_else(|| "-".to_owned());
            seen.lock().unwrap().push(Seen {
                method: request.method().clone(),
                uri: request.uri().to_string(),
                headers: request.headers().clone(),
                subject,
            });
            text
        };
        let router = Router::new()
            .route("/claims", get(async |identity: Identity| axum::Json(identity.claims().clone())))
            .fallback(any(handler))
            .layer(layer.clone());
        BoxCloneSyncService::new(router)
    }

    /// A browser of a person who is known to the provider as `user`.
    pub fn browser(&self, app: &App, user: &str) -> Browser {
        Browser {
            app: app.clone(),
            provider: self.provider.clone(),
            jar: Jar::default(),
            user: user.to_owned(),
            origin: ORIGIN.to_owned(),
        }
    }

    /// How often the application was reached since it was asked last.
    pub fn reached(&self) -> usize {
        std::mem::take(&mut *self.seen.lock().unwrap()).len()
    }
}

#[derive(Clone)]
pub struct Browser {
    pub app: App,
    pub provider: TestProvider,
    pub jar: Jar,
    pub user: String,
    pub origin: String,
}

/// A response, read to its end.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
    pub error: Option<AuthError>,
}

impl Browser {
    /// Sends a request as it is, with the cookies of this browser, and keeps what is set.
    pub async fn send(&mut self, mut request: Request) -> Reply {
        let path = request.uri().path().to_owned();
        if let Some(value) = self.jar.header(&path) {
            request.headers_mut().append(COOKIE, value.parse().unwrap());
        }
        let reply = send(&self.app, request).await;
        self.jar.keep(&reply.headers);
        reply
    }

    /// Navigates to a path of the application, without following redirects.
    pub async fn get(&mut self, path: &str) -> Reply {
        self.send(navigation(Method::GET, path)).await
    }

    /// Submits a form of a page of this origin.
    pub async fn post(&mut self, path: &str) -> Reply {
        let mut request = navigation(Method::POST, path);
        request.headers_mut().insert("sec-fetch-site", "same-origin".parse().unwrap());
        request.headers_mut().insert("origin", self.origin.parse().unwrap());
        self.send(request).await
    }

    /// Navigates until the provider is reached; returns the authorization URL.
    pub async fn to_provider(&mut self, path: &str) -> String {
        let mut path = path.to_owned();
        for _ in 0..4 {
            let reply = self.get(&path).await;
            let location = reply.location();
            if location.starts_with(self.provider.issuer()) {
                return location;
            }
            path = self.local(&location);
        }
        panic!("the provider is never reached");
    }

    /// Signs in at the provider; returns the callback as a path of the application, not visited.
    pub async fn to_callback(&mut self, path: &str) -> String {
        let url = self.to_provider(path).await;
        let location = self.provider.authorize_as(&url, &self.user).await.unwrap();
        self.local(&location)
    }

    /// The whole sign-in: from a protected path to what the browser shows at the end.
    pub async fn sign_in(&mut self, path: &str) -> Reply {
        let callback = self.to_callback(path).await;
        let reply = self.get(&callback).await;
        self.follow(reply).await
    }

    /// Follows redirects, through the provider too, until there is something to show.
    pub async fn follow(&mut self, mut reply: Reply) -> Reply {
        for _ in 0..12 {
            if !reply.status.is_redirection() {
                return reply;
            }
            let location = reply.location();
            let path = if location.starts_with(self.provider.issuer()) {
                let back = self.provider.authorize_as(&location, &self.user).await.unwrap();
                self.local(&back)
            } else {
                self.local(&location)
            };
            reply = self.get(&path).await;
        }
        panic!("the redirects never end");
    }

    /// Who the application says is signed in: the subject, or `None` if it asks to sign in.
    pub async fn who(&mut self) -> Option<String> {
        let reply = self.get("/who").await;
        (reply.status == StatusCode::OK).then_some(reply.body)
    }

    /// The path and query of a URL of this application.
    pub fn local(&self, location: &str) -> String {
        let path = location.strip_prefix(&self.origin).unwrap_or(location);
        assert!(path.starts_with('/'), "leaves the application: {location}");
        path.to_owned()
    }
}

impl Reply {
    pub fn location(&self) -> String {
        let location = self.headers.get(LOCATION);
        let location =
            location.unwrap_or_else(|| panic!("no redirect: {} {}", self.status, self.body));
        location.to_str().unwrap().to_owned()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The name of the page, from its `data-page`.
    pub fn page(&self) -> Option<&str> {
        let (_, rest) = self.body.split_once("data-page=\"")?;
        rest.split('"').next()
    }

    /// Kind and detail of the refusal, as `kind/detail`.
    pub fn reason(&self) -> String {
        self.error
            .as_ref()
            .map_or_else(String::new, |error| format!("{}/{}", error.kind().code(), error.detail()))
    }

    pub fn set_cookies(&self) -> Vec<&str> {
        let values = self.headers.get_all(SET_COOKIE);
        values.iter().map(|value| value.to_str().unwrap()).collect()
    }
}

/// The cookies a browser keeps: by name and path, deleted by `Max-Age=0`.
#[derive(Clone, Debug, Default)]
pub struct Jar(pub BTreeMap<(String, String), String>);

impl Jar {
    pub fn keep(&mut self, headers: &HeaderMap) {
        for value in headers.get_all(SET_COOKIE) {
            let text = value.to_str().unwrap();
            let mut parts = text.split("; ");
            let (name, value) = parts.next().unwrap().split_once('=').unwrap();
            assert!(name.len() + value.len() <= 4096, "{name} is too large for a browser");
            let mut path = "/".to_owned();
            let mut gone = false;
            for part in parts {
                if let Some(given) = part.strip_prefix("Path=") {
                    path = given.to_owned();
                }
                gone |= part == "Max-Age=0";
            }
            let key = (name.to_owned(), path);
            if gone {
                self.0.remove(&key);
            } else {
                self.0.insert(key, value.to_owned());
            }
        }
    }

    /// The `Cookie` header for a path, or nothing.
    pub fn header(&self, path: &str) -> Option<String> {
        let pairs: Vec<_> = self
            .0
            .iter()
            .filter(|((_, scope), _)| {
                scope == "/" || path == scope || path.starts_with(&format!("{scope}/"))
            })
            .map(|((name, _), value)| format!("{name}={value}"))
            .collect();
        (!pairs.is_empty()).then(|| pairs.join("; "))
    }

    pub fn names(&self) -> Vec<&str> {
        self.0.keys().map(|(name, _)| name.as_str()).collect()
    }

    /// The value of the first cookie whose name ends so (`-s`, `-n`, `-o`).
    pub fn ending(&self, end: &str) -> Option<&str> {
        self.0.iter().find(|((name, _), _)| name.ends_with(end)).map(|(_, value)| value.as_str())
    }

    /// The cookies of pending logins.
    pub fn pending(&self) -> usize {
        self.0.keys().filter(|(name, _)| name.contains("-p-")).count()
    }
}

/// A request as a browser makes it when somebody types an address or clicks a link.
pub fn navigation(method: Method, path: &str) -> Request {
    Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, "localhost:8080")
        .header("accept", "text/html,application/xhtml+xml,*/*;q=0.8")
        .header("sec-fetch-mode", "navigate")
        .header("sec-fetch-dest", "document")
        .header("sec-fetch-site", "none")
        .body(Body::empty())
        .unwrap()
}

/// A request as a script makes it.
pub fn fetch(method: Method, path: &str) -> Request {
    Request::builder()
        .method(method)
        .uri(path)
        .header("accept", "*/*")
        .header("sec-fetch-mode", "cors")
        .header("sec-fetch-dest", "empty")
        .header("sec-fetch-site", "same-origin")
        .body(Body::empty())
        .unwrap()
}

/// Sends a request without any cookies but its own.
pub async fn send(app: &App, request: Request) -> Reply {
    let Ok(response) = app.clone().oneshot(request).await;
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Reply {
        status: parts.status,
        headers: parts.headers,
        body: String::from_utf8_lossy(&body).into_owned(),
        error: parts.extensions.get::<AuthError>().cloned(),
    }
}

/// The value of a parameter of a URL, decoded.
pub fn parameter(url: &str, name: &str) -> Option<String> {
    let (_, query) = url.split_once('?')?;
    url::form_urlencoded::parse(query.as_bytes())
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
}

/// A URL with a parameter set to another value, or removed.
pub fn with_parameter(url: &str, name: &str, value: Option<&str>) -> String {
    let (path, query) = url.split_once('?').unwrap();
    let mut pairs: Vec<(String, String)> = url::form_urlencoded::parse(query.as_bytes())
        .filter(|(key, _)| key != name)
        .map(|(key, value)| (key.into_owned(), value.into_owned()))
        .collect();
    if let Some(value) = value {
        pairs.push((name.to_owned(), value.to_owned()));
    }
    let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    format!("{path}?{query}")
}
