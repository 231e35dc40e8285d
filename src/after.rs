//! What is done to a response of the inner service.

use std::sync::Arc;
use std::time::Duration;

use http::Response;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, SET_COOKIE, VARY};

use crate::flow::Core;

/// What is done to a response of the inner service.
///
/// It is small, as it travels with every response; what only few need is in a box.
#[derive(Debug)]
pub(crate) struct After {
    core: Arc<Core>,
    signed_in: bool,
    /// Whether the same path answers differently without a session.
    varies: bool,
    prolonged: Option<Box<Prolonged>>,
}

/// The cookies that prolong a session.
#[derive(Debug)]
struct Prolonged {
    set_cookies: Vec<HeaderValue>,
    /// When the request was admitted, on the monotonic clock, and the epoch of sign-outs then.
    admitted: (Duration, u64),
}

/// Cookies that prolong a session are not sent with an answer that took longer: the browser may
/// have another session by then, and the next request prolongs it all the same.
const FRESH: Duration = Duration::from_secs(2);

impl After {
    pub(crate) fn anonymous(core: &Arc<Core>, varies: bool) -> Self {
        Self { core: core.clone(), signed_in: false, varies, prolonged: None }
    }

    pub(crate) fn signed_in(core: &Arc<Core>, set_cookies: Vec<HeaderValue>, varies: bool) -> Self {
        let prolonged = (!set_cookies.is_empty()).then(|| {
            let admitted = (core.clock.monotonic(), core.keeper.revocation().epoch());
            Box::new(Prolonged { set_cookies, admitted })
        });
        Self { core: core.clone(), signed_in: true, varies, prolonged }
    }

    /// Takes the cookies, if the session is still what it was when the request was admitted.
    fn prolong(&mut self) -> Option<Vec<HeaderValue>> {
        let Prolonged { set_cookies, admitted: (at, epoch) } = *self.prolonged.take()?;
        let same = self.core.clock.monotonic().saturating_sub(at) <= FRESH
            && self.core.keeper.revocation().epoch() == epoch;
        same.then_some(set_cookies)
    }

    pub(crate) fn apply<B>(&mut self, response: &mut Response<B>) {
        let set_cookies = self.prolong();
        let headers = response.headers_mut();
        // One pass is cheaper than a look-up for each of them.
        let (mut forged, mut cached, mut grpc) = (false, false, None);
        for (name, value) in headers.iter() {
            if name == SET_COOKIE {
                forged |= self.core.cookies.is_forged(value);
            } else if name == CACHE_CONTROL {
                cached = true;
            } else if name == CONTENT_TYPE && grpc.is_none() {
                grpc = Some(value.as_bytes().starts_with(b"application/grpc"));
            }
        }
        // The inner service must not speak in our name.
        if forged {
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
        if let Some(set_cookies) = set_cookies {
            // Whatever the inner service says of caches: a shared one must not keep this.
            for name in CACHE_FIELDS {
                headers.remove(*name);
            }
            headers.insert(CACHE_CONTROL, PRIVATE);
            headers.append(VARY, COOKIE);
            for cookie in set_cookies {
                headers.append(SET_COOKIE, cookie);
            }
            return;
        }
        if self.signed_in && !cached && grpc != Some(true) {
            headers.insert(CACHE_CONTROL, PRIVATE);
        }
        if self.varies {
            headers.append(VARY, COOKIE);
        }
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

const COOKIE: HeaderValue = HeaderValue::from_static("Cookie");
const PRIVATE: HeaderValue = HeaderValue::from_static("private, no-store");
