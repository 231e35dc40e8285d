//! A browser without a window: cookies, redirects, and the headers that browsers send.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, COOKIE, HOST, LOCATION, ORIGIN, SET_COOKIE};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tower_pkce_auth::testing::provider::TestProvider;

use crate::jar::Jar;

/// A guard against hanging, far above every time-out of a pod.
const PATIENCE: Duration = Duration::from_secs(60);

/// The most redirects followed, as in Chromium.
const REDIRECTS: u32 = 20;

/// How often somebody reloads at most, and how soon.
const RELOADS: u32 = 1_000;
const PAUSE: Duration = Duration::from_millis(10);

/// Somebody's browser; clones are tabs of it and share its cookies.
#[derive(Clone)]
pub struct Browser {
    client: Client<HttpConnector, Empty<Bytes>>,
    provider: TestProvider,
    origin: String,
    /// Where requests are sent, if not to the origin.
    pod: Option<SocketAddr>,
    jar: Arc<Mutex<Jar>>,
    user: String,
    /// Whether a page that the balancer cannot get is asked for again.
    reloads: bool,
}

/// A response, read to its end.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
}

/// What a browser shows in the end.
#[derive(Debug)]
pub struct Shown {
    /// Path and query in the address bar.
    pub path: String,
    pub reply: Reply,
    /// How often the provider was visited on the way.
    pub visits: u32,
}

impl Browser {
    pub fn new(provider: TestProvider, origin: &str, user: &str) -> Self {
        Self {
            client: Client::builder(TokioExecutor::new()).build_http(),
            provider,
            origin: origin.to_owned(),
            pod: None,
            jar: Arc::default(),
            user: user.to_owned(),
            reloads: false,
        }
    }

    /// Another person's browser before the same origin, without cookies.
    pub fn another(&self, user: &str) -> Self {
        Self { jar: Arc::default(), user: user.to_owned(), ..self.clone() }
    }

    /// This browser as it is now, in a world of its own: what it gets changes nothing here.
    pub fn snapshot(&self) -> Self {
        Self { jar: Arc::new(Mutex::new(self.jar().clone())), ..self.clone() }
    }

    /// This browser, with all requests to one pod.
    pub fn sending_to(&self, pod: SocketAddr) -> Self {
        Self { pod: Some(pod), ..self.clone() }
    }

    /// This browser, of somebody who reloads while the balancer says 502.
    pub fn reloading(&self) -> Self {
        Self { reloads: true, ..self.clone() }
    }

    /// Types an address: a path of the application. Redirects are not followed.
    pub async fn open(&self, path: &str) -> Result<Reply, Box<dyn Error>> {
        self.navigate(Method::GET, path, "none").await
    }

    /// Submits a form of a page of this application. Redirects are not followed.
    pub async fn post(&self, path: &str) -> Result<Reply, Box<dyn Error>> {
        self.navigate(Method::POST, path, "same-origin").await
    }

    /// Comes from the provider to a path of the application. Redirects are not followed.
    pub async fn arrive(&self, path: &str) -> Result<Reply, Box<dyn Error>> {
        self.navigate(Method::GET, path, "cross-site").await
    }

    /// Types an address and goes wherever it leads, through the provider too.
    pub async fn travel(&self, path: &str) -> Result<Shown, Box<dyn Error>> {
        let reply = self.open(path).await?;
        self.follow(path, reply).await
    }

    /// Goes on from an answer until there is something to show.
    pub async fn follow(&self, path: &str, mut reply: Reply) -> Result<Shown, Box<dyn Error>> {
        let mut path = path.to_owned();
        let mut visits = 0;
        for _ in 0..REDIRECTS {
            if !reply.status.is_redirection() {
                return Ok(Shown { path, reply, visits });
            }
            let location = reply.location()?;
            if self.is_provider(location) {
                visits += 1;
                path = self.agree(location).await?;
                reply = self.arrive(&path).await?;
            } else {
                path = self.local(location)?;
                reply = self.open(&path).await?;
            }
        }
        Err(format!("more than {REDIRECTS} redirects, the last one to {path}").into())
    }

    /// Begins at a path of the application and stops at the door of the provider, whose
    /// authorization URL is returned; or where something is shown before.
    pub async fn to_provider(&self, path: &str) -> Result<Result<String, Shown>, Box<dyn Error>> {
        let mut path = path.to_owned();
        for _ in 0..REDIRECTS {
            let reply = self.open(&path).await?;
            if !reply.status.is_redirection() {
                return Ok(Err(Shown { path, reply, visits: 0 }));
            }
            let location = reply.location()?;
            if self.is_provider(location) {
                return Ok(Ok(location.to_owned()));
            }
            path = self.local(location)?;
        }
        Err("the redirects never reach the provider".into())
    }

    /// Signs in at the provider; returns the callback, which is not visited.
    pub async fn to_callback(&self, path: &str) -> Result<String, Box<dyn Error>> {
        match self.to_provider(path).await? {
            Ok(url) => self.agree(&url).await,
            Err(shown) => Err(shown.describe().into()),
        }
    }

    /// Signs in at the provider, or denies as `deny`, and returns the way back as a path.
    pub async fn agree_as(&self, url: &str, user: &str) -> Result<String, Box<dyn Error>> {
        let back = self.provider.authorize_as(url, user).await?;
        self.local(&back)
    }

    async fn agree(&self, url: &str) -> Result<String, Box<dyn Error>> {
        self.agree_as(url, &self.user).await
    }

    /// Time goes by until the browser drops the note that a login was just completed.
    pub fn a_minute_later(&self) {
        self.jar().drop_ending("-n");
    }

    /// The value of the session cookie.
    pub fn session(&self) -> Option<String> {
        self.jar().session().map(str::to_owned)
    }

    async fn navigate(
        &self,
        method: Method,
        path: &str,
        site: &str,
    ) -> Result<Reply, Box<dyn Error>> {
        for _ in 0..RELOADS {
            let reply = self.ask(&method, path, site).await?;
            if !self.reloads || reply.status != StatusCode::BAD_GATEWAY || reply.page().is_some() {
                return Ok(reply);
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(format!("502 for {path}, {RELOADS} times").into())
    }

    async fn ask(&self, method: &Method, path: &str, site: &str) -> Result<Reply, Box<dyn Error>> {
        let host = self.origin.trim_start_matches("http://");
        let to = self.pod.map_or_else(|| host.to_owned(), |pod| pod.to_string());
        let mut request = Request::builder()
            .method(method)
            .uri(format!("http://{to}{path}"))
            .header(HOST, host)
            .header(ACCEPT, "text/html,application/xhtml+xml,*/*;q=0.8")
            .header("sec-fetch-mode", "navigate")
            .header("sec-fetch-dest", "document")
            .header("sec-fetch-site", site);
        if method == Method::POST {
            request = request.header(ORIGIN, &self.origin);
        }
        let without_query = path.split('?').next().unwrap_or(path);
        if let Some(cookies) = self.jar().header(without_query) {
            request = request.header(COOKIE, cookies);
        }
        let request = request.body(Empty::new())?;
        let exchange = async {
            let (parts, body) = self.client.request(request).await?.into_parts();
            Ok::<_, Box<dyn Error>>((parts, body.collect().await?.to_bytes()))
        };
        let exchanged = tokio::time::timeout(PATIENCE, exchange).await;
        let (parts, body) = exchanged.map_err(|_| format!("no answer to {path}"))??;
        self.jar().keep(&parts.headers);
        let body = String::from_utf8_lossy(&body).into_owned();
        Ok(Reply { status: parts.status, headers: parts.headers, body })
    }

    fn is_provider(&self, location: &str) -> bool {
        location.starts_with(self.provider.issuer())
    }

    /// The path and query of a URL of the application.
    fn local(&self, location: &str) -> Result<String, Box<dyn Error>> {
        let path = location.strip_prefix(&self.origin).unwrap_or(location);
        if path.starts_with('/') && !path.starts_with("//") {
            Ok(path.to_owned())
        } else {
            Err(format!("a redirect away from the application: {location}").into())
        }
    }

    fn jar(&self) -> MutexGuard<'_, Jar> {
        self.jar.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reply {
    /// Returns where the answer leads.
    pub fn location(&self) -> Result<&str, Box<dyn Error>> {
        let location = self.headers.get(LOCATION).ok_or("a redirect without Location")?;
        Ok(location.to_str()?)
    }

    /// Tells whether the answer leads exactly there.
    pub fn leads_to(&self, path: &str) -> bool {
        self.status.is_redirection() && self.location().is_ok_and(|location| location == path)
    }

    /// Tells whether a session is made.
    pub fn makes_session(&self) -> bool {
        self.sets_session(|rest| !rest.contains("Max-Age=0"))
    }

    /// Tells whether the cookie of a session is taken away.
    pub fn takes_session(&self) -> bool {
        self.sets_session(|rest| rest.contains("Max-Age=0"))
    }

    fn sets_session(&self, fits: impl Fn(&str) -> bool) -> bool {
        let lines = self.headers.get_all(SET_COOKIE).iter().filter_map(|line| line.to_str().ok());
        let mut cookies = lines.filter_map(|line| line.split_once('='));
        cookies.any(|(name, rest)| name.ends_with("-s") && fits(rest))
    }

    /// The name of the page, from its `data-page`.
    pub fn page(&self) -> Option<&str> {
        let (_, rest) = self.body.split_once("data-page=\"")?;
        rest.split('"').next()
    }
}

impl Shown {
    /// Tells whether this is what somebody gets who is signed in.
    pub fn is_for(&self, user: &str, path: &str) -> bool {
        self.reply.status == StatusCode::OK && self.reply.body == format!("{user} {path}")
    }

    /// Who the application says is signed in.
    pub fn user(&self) -> Option<&str> {
        if self.reply.status != StatusCode::OK {
            return None;
        }
        self.reply.body.split(' ').next()
    }

    /// In short, for a line of the table.
    pub fn describe(&self) -> String {
        let path = self.path.split('?').next().unwrap_or_default();
        match self.reply.page() {
            Some(page) => format!("{} ({page}) at {path}", self.reply.status),
            None => format!("{} at {path}", self.reply.status),
        }
    }
}
