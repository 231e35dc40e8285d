//! Who is let in: what becomes of a request once its session is known.

use std::mem;
use std::sync::Arc;

use http::header::HeaderName;
use http::request::Parts;
use http::{Method, Request};

use crate::access::{self, Kind};
use crate::after::After;
use crate::csrf;
use crate::error::AuthError;
use crate::flow::{Core, deny};
use crate::headers::{self, Noticed};
use crate::identity::Identity;
use crate::paths::Paths;
use crate::respond::Answer;
use crate::rules::Rules;
use crate::session::keeper::Found;

/// What the service asks at its door, beside the core of the flows.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) paths: Paths,
    pub(crate) rules: Arc<Rules>,
    /// Headers that say who is signed in, beside the well-known ones.
    pub(crate) identity_headers: Vec<HeaderName>,
    pub(crate) forward_authorization: bool,
    pub(crate) allow_preflight: bool,
    pub(crate) anonymous_on_outage: bool,
}

/// What becomes of a request whose session is known.
#[allow(clippy::large_enum_variant, reason = "it is moved once; a box would cost more")]
pub(crate) enum Verdict {
    /// The layer answers it; of the request only its body may be left.
    Answer(Answer),
    /// The inner service gets it.
    Pass(After),
}

/// What is known of a request while its session is looked up.
pub(crate) struct Admission {
    pub(crate) optional: bool,
    /// Whether it may act with a session, by where it comes from.
    pub(crate) crossing: Result<(), AuthError>,
    /// Whether it has credentials beside its cookie.
    pub(crate) authorization: bool,
}

/// Judges where a request comes from, before it may prolong anything.
pub(crate) fn judge_crossing<B>(
    core: &Core,
    request: &Request<B>,
    noticed: Noticed,
) -> Result<(), AuthError> {
    let (method, headers) = (request.method(), request.headers());
    // Most requests have no such header, and need not be searched for it again.
    let may_upgrade = noticed.upgrade || method == Method::CONNECT;
    let upgrade = may_upgrade && access::is_upgrade(method, headers);
    csrf::judge(method, headers, upgrade, core.public_url.origin(), core.csrf_header.as_ref())
}

/// Decides what becomes of a request once its session is known.
pub(crate) fn admit<B>(
    core: &Arc<Core>,
    gate: &Gate,
    admission: Admission,
    request: &mut Request<B>,
    found: Found,
) -> Verdict {
    let Admission { optional, crossing, authorization } = admission;
    match found {
        Found::Live(live) => {
            if let Err(error) = crossing {
                let kind = access::kind(request.method(), request.headers());
                return Verdict::Answer(core.refuse(kind, error, None));
            }
            if let Err(error) = gate.rules.judge(&live.opened.facts) {
                if optional {
                    // Here a stranger is served, and so is somebody who is one to us.
                    core.cookies.strip(request.headers_mut(), live.only);
                    return Verdict::Pass(After::anonymous(core, true));
                }
                return Verdict::Answer(deny::not_allowed(core, &head(request), live, error));
            }
            core.cookies.strip(request.headers_mut(), live.only);
            if authorization && !gate.forward_authorization {
                headers::strip_authorization(request.headers_mut());
            }
            let after = After::signed_in(core, live.set_cookies, optional);
            request.extensions_mut().insert(Identity::new(live.opened));
            Verdict::Pass(after)
        }
        Found::Unknown(error) if !(optional && gate.anonymous_on_outage) => {
            let kind = access::kind(request.method(), request.headers());
            Verdict::Answer(core.refuse(kind, error, None))
        }
        found => {
            let passes = optional
                || (gate.allow_preflight
                    && access::kind(request.method(), request.headers()) == Kind::Preflight);
            if passes {
                core.cookies.strip(request.headers_mut(), None);
                return Verdict::Pass(After::anonymous(core, optional));
            }
            let cookie = !matches!(found, Found::Absent);
            Verdict::Answer(deny::deny(core, &head(request), cookie))
        }
    }
}

/// Takes the head out of a request that nobody else will get.
fn head<B>(request: &mut Request<B>) -> Parts {
    let (mut parts, ()) = Request::default().into_parts();
    parts.version = request.version();
    parts.method = mem::take(request.method_mut());
    parts.uri = mem::take(request.uri_mut());
    parts.headers = mem::take(request.headers_mut());
    parts.extensions = mem::take(request.extensions_mut());
    parts
}
