//! Somebody with a browser, who reloads what the balancer cannot get.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tower_pkce_auth::{HttpClient as _, HyperClient};

use crate::support::Jar;

/// Those who are known to the provider.
pub const PEOPLE: [&str; 3] = ["alice", "bob", "mallory"];

/// A browser with its cookies, here and at the provider.
#[derive(Clone)]
pub struct Visitor {
    client: HyperClient,
    origin: String,
    issuer: String,
    pub user: &'static str,
    jar: Jar,
    at_provider: BTreeMap<String, String>,
    /// What was seen last, for the message of a failure.
    last: String,
}

/// An answer, read to its end.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
}

impl Visitor {
    pub fn new(client: HyperClient, origin: &str, issuer: &str, user: &'static str) -> Self {
        let (origin, issuer) = (origin.to_owned(), issuer.to_owned());
        let (jar, at_provider) = (Jar::default(), BTreeMap::new());
        Self { client, origin, issuer, user, jar, at_provider, last: String::new() }
    }

    /// Opens a protected path and goes wherever that leads; tells whether the page is shown in the
    /// end, to nobody else.
    pub async fn sign_in(&mut self, path: &str) -> bool {
        let mut url = format!("{}{path}", self.origin);
        for _ in 0..REDIRECTS {
            url = if let Some(here) = url.strip_prefix(&self.origin) {
                let answer = self.ask(here).await;
                self.jar.keep(&answer.headers);
                let Some(to) = answer.location() else {
                    self.last = format!("{} at {here}: {}", answer.status, answer.body);
                    let good = answer.status == StatusCode::OK;
                    assert!(!good || answer.body == format!("{} {path}", self.user), "{self:?}");
                    return good;
                };
                if to.starts_with('/') { format!("{}{to}", self.origin) } else { to }
            } else {
                assert!(url.starts_with(&self.issuer), "a redirect to {url}");
                self.agree(&url).await
            };
        }
        self.last = "the redirects never end".to_owned();
        false
    }

    /// Asks for a path with the cookies that there are. A 502 of the balancer, or a connection that
    /// breaks, is no answer: it is asked again.
    pub async fn ask(&self, path: &str) -> Answer {
        for _ in 0..RELOADS {
            let mut request = Request::get(format!("{}{path}", self.origin))
                .header("accept", "text/html")
                .header("sec-fetch-mode", "navigate")
                .header("sec-fetch-dest", "document")
                .header("sec-fetch-site", "none");
            if let Some(cookies) = self.jar.header(path.split('?').next().unwrap()) {
                request = request.header("cookie", cookies);
            }
            let request = request.body(Bytes::new()).unwrap();
            match self.client.send(request, 1 << 20).await {
                Ok(response) => {
                    let (parts, body) = response.into_parts();
                    let body = String::from_utf8_lossy(&body).into_owned();
                    let balancer = parts.status == StatusCode::BAD_GATEWAY
                        && body == "this pod does not answer\n";
                    if !balancer {
                        return Answer { status: parts.status, headers: parts.headers, body };
                    }
                }
                Err(error) => assert!(!error.to_string().is_empty()),
            }
            tokio::time::sleep(PAUSE).await;
        }
        panic!("{}: no answer to {path}", self.user);
    }

    /// Sends a request to a pod itself, and resets the connection after a while.
    pub async fn reset(&self, pod: SocketAddr, path: &str, after: Duration) {
        let host = self.origin.trim_start_matches("http://");
        let cookies = self.jar.header(path).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\ncookie: {cookies}\r\n\r\n");
        let mut stream = TcpStream::connect(pod).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        tokio::time::sleep(after).await;
        stream.set_zero_linger().unwrap();
    }

    /// Signs in at the provider where it asks; returns where that sends the browser to.
    async fn agree(&mut self, url: &str) -> String {
        let mut request = Request::get(url);
        let mut body = Bytes::new();
        for _ in 0..REDIRECTS {
            let cookies: Vec<_> =
                self.at_provider.iter().map(|(name, value)| format!("{name}={value}")).collect();
            request = request.header("accept", "text/html").header("cookie", cookies.join("; "));
            let sent = self.client.send(request.body(body).unwrap(), 1 << 20).await;
            let response = sent.expect("the provider answers");
            for value in response.headers().get_all("set-cookie") {
                let pair = value.to_str().unwrap().split(';').next().unwrap();
                let (name, value) = pair.split_once('=').unwrap();
                self.at_provider.insert(name.to_owned(), value.to_owned());
            }
            let page = String::from_utf8_lossy(response.body());
            (request, body) = match response.headers().get("location") {
                Some(location) => {
                    let to = location.to_str().unwrap();
                    if !to.starts_with('/') && !to.starts_with(&self.issuer) {
                        return to.to_owned();
                    }
                    (Request::get(self.provider(to)), Bytes::new())
                }
                // The page that asks who somebody is.
                None => {
                    let (_, rest) = page.split_once("action=\"").expect("a form");
                    let action = rest.split('"').next().unwrap().to_owned();
                    let form = Request::post(self.provider(&action))
                        .header("content-type", "application/x-www-form-urlencoded");
                    (form, Bytes::from(format!("user={}", self.user)))
                }
            };
        }
        panic!("the provider's redirects never end");
    }

    fn provider(&self, to: &str) -> String {
        if to.starts_with('/') { format!("{}{to}", self.issuer) } else { to.to_owned() }
    }
}

impl fmt::Debug for Visitor {
    /// Without cookies.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, who saw {}", self.user, self.last)
    }
}

impl Answer {
    fn location(&self) -> Option<String> {
        Some(self.headers.get("location")?.to_str().unwrap().to_owned())
    }
}

const REDIRECTS: u32 = 20;
const RELOADS: u32 = 1_000;
const PAUSE: Duration = Duration::from_millis(10);
