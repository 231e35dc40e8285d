//! What is done to a response of the inner service.

use std::sync::Arc;
use std::time::Duration;

use http::Response;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, SET_COOKIE, VARY};

use crate::flow::Core;

/// What is done to a response of the inner service.
#[derive(Debug)]
pub(crate) struct After {
    core: Arc<Core>,
    signed_in: bool,
    /// Whether the same path answers differently without a session.
    varies: bool,
    set_cookies: Vec<HeaderValue>,
    /// When the request was admitted, on the monotonic clock, and the epoch of sign-outs then.
    admitted: (Duration, u64),
}

/// Cookies that prolong a session are not sent with an answer that took longer: the browser may
/// have another session by then, and the next request prolongs it all the same.
const FRESH: Duration = Duration::from_secs(2);

impl After {
    pub(crate) fn anonymous(core: &Arc<Core>, varies: bool) -> Self {
        Self {
            core: core.clone(),
            signed_in: false,
            varies,
            set_cookies: Vec::new(),
            admitted: (Duration::ZERO, 0),
        }
    }

    pub(crate) fn signed_in(core: &Arc<Core>, set_cookies: Vec<HeaderValue>, varies: bool) -> Self {
        let admitted = if set_cookies.is_empty() {
            (Duration::ZERO, 0)
        } else {
            (core.clock.monotonic(), core.keeper.revocation().epoch())
        };
        Self { core: core.clone(), signed_in: true, varies, set_cookies, admitted }
    }

    /// Tells whether the session is still what it was when the request was admitted.
    fn may_prolong(&self) -> bool {
        let (at, epoch) = self.admitted;
        !self.set_cookies.is_empty()
            && self.core.clock.monotonic().saturating_sub(at) <= FRESH
            && self.core.keeper.revocation().epoch() == epoch
    }

    pub(crate) fn apply<B>(&mut self, mut response: Response<B>) -> Response<B> {
        let may_prolong = self.may_prolong();
        let headers = response.headers_mut();
        // The inner service must not speak in our name.
        if headers.get_all(SET_COOKIE).iter().any(|value| self.core.cookies.is_forged(value)) {
            let kept: Vec<_> = headers
                .get_all(SET_COOKIE)
                .iter()
                .filter(|value| !self.core.cookies.is_forged(value))
                .cloned()
                .collect();
            headers.remove(SET_COOKIE);
            for value in kept {
                headers.append(SET_COOKIE, value);
            }
        }
        if may_prolong {
            // Whatever the inner service says of caches: a shared one must not keep this.
            for name in CACHE_FIELDS {
                headers.remove(*name);
            }
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
            headers.append(VARY, HeaderValue::from_static("Cookie"));
            for cookie in self.set_cookies.drain(..) {
                headers.append(SET_COOKIE, cookie);
            }
        } else if self.signed_in && !headers.contains_key(CACHE_CONTROL) && !is_grpc(headers) {
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
        }
        if self.varies && !may_prolong {
            headers.append(VARY, HeaderValue::from_static("Cookie"));
        }
        response
    }
}

/// Other fields by which caches are told to keep a response.
const CACHE_FIELDS: &[&str] = &[
    "cdn-cache-control",
    "cloudflare-cdn-cache-control",
    "expires",
    "surrogate-control",
    "x-accel-expires",
];

fn is_grpc(headers: &http::HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}
