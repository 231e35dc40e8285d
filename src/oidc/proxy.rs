//! The way out: straight to the provider, or through a proxy by `CONNECT` (RFC 9110 section 9.3.6).

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::Matcher;
use tower_service::Service;

use crate::names::InvalidName;

/// Which requests go through which proxy; by default none does.
#[derive(Clone, Default)]
pub(super) struct Proxies(Option<Arc<Matcher>>);

impl Proxies {
    /// Sends everything that is `https` through one proxy.
    pub(super) fn one(url: &str) -> Result<Self, InvalidName> {
        Self::judge(Matcher::builder().https(url).build(), url)
    }

    /// Takes `https_proxy`, `HTTPS_PROXY`, `all_proxy` or `ALL_PROXY`, the first that says
    /// something, and the exceptions of `no_proxy` or `NO_PROXY`.
    pub(super) fn from_env() -> Result<Self, InvalidName> {
        let first = |names: &[&str]| {
            names.iter().find_map(|name| std::env::var(name).ok().filter(|text| !text.is_empty()))
        };
        match first(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]) {
            Some(url) => {
                let exceptions = first(&["no_proxy", "NO_PROXY"]).unwrap_or_default();
                Self::judge(Matcher::builder().https(&*url).no(exceptions).build(), &url)
            }
            None => Ok(Self::default()),
        }
    }

    fn judge(matcher: Matcher, url: &str) -> Result<Self, InvalidName> {
        // The value is not repeated: it may hold a password.
        let bad = |why| Err(InvalidName::new("outbound proxy", why, ""));
        // Without a scheme it is an HTTP proxy, as everywhere.
        match url.split_once("://").map_or("http", |(scheme, _)| scheme) {
            scheme if scheme.eq_ignore_ascii_case("http") => {}
            _ => return bad("only http:// proxies are supported"),
        }
        // Asked of the rules without exceptions: those may well name this host.
        let rules = Matcher::builder().https(url).build();
        match rules.intercept(&Uri::from_static("https://provider.invalid/")) {
            Some(found) if found.uri().host().is_some() => Ok(Self(Some(Arc::new(matcher)))),
            _ => bad("not a URL"),
        }
    }
}

impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Proxies(some)" } else { "Proxies(none)" })
    }
}

/// Connects, through a proxy where one is set for the destination. Plain `http`, which only serves
/// providers on this machine, never goes through one.
#[derive(Clone, Debug)]
pub(super) struct Route {
    pub(super) direct: HttpConnector,
    pub(super) proxies: Proxies,
}

type Connection = <HttpConnector as Service<Uri>>::Response;
type Failure = Box<dyn Error + Send + Sync>;

impl Service<Uri> for Route {
    type Response = Connection;
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<Connection, Failure>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.direct.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, destination: Uri) -> Self::Future {
        let secure = destination.scheme_str() == Some("https");
        let proxy = self.proxies.0.as_ref().filter(|_| secure);
        let Some(proxy) = proxy.and_then(|proxies| proxies.intercept(&destination)) else {
            let connecting = self.direct.call(destination);
            return Box::pin(async move { Ok(connecting.await?) });
        };
        let mut tunnel = Tunnel::new(proxy.uri().clone(), self.direct.clone());
        if let Some(credentials) = proxy.basic_auth() {
            tunnel = tunnel.with_auth(credentials.clone());
        }
        let connecting = tunnel.call(destination);
        Box::pin(async move { Ok(connecting.await?) })
    }
}
