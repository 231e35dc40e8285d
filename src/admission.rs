//! Who is let in: what becomes of a request once its session is known.

use std::sync::Arc;

use http::Request;
use http::header::HeaderName;

use crate::access::{self, Kind};
use crate::after::After;
use crate::csrf;
use crate::error::AuthError;
use crate::flow::{Core, deny};
use crate::headers;
use crate::paths::Paths;
use crate::respond::Answer;
use crate::rules::Rules;
use crate::session::keeper::Found;

/// What the service asks at its door, beside the core of the flows.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) paths: Paths,
    pub(crate) rules: Rules,
    /// Headers that say who is signed in, beside the well-known ones.
    pub(crate) identity_headers: Vec<HeaderName>,
    pub(crate) forward_authorization: bool,
    pub(crate) allow_preflight: bool,
    pub(crate) anonymous_on_outage: bool,
    /// Whether every look-up is answered by this process's memory.
    pub(crate) at_once: bool,
}

/// What becomes of a request whose session is known.
#[allow(clippy::large_enum_variant, reason = "it is moved once; a box would cost more")]
pub(crate) enum Verdict<B> {
    /// The layer answers it.
    Answer(Answer),
    /// The inner service gets it.
    Pass(Request<B>, After),
}

/// What is known of a request while its session is looked up.
pub(crate) struct Admission {
    pub(crate) optional: bool,
    /// Whether it may act with a session, by where it comes from.
    pub(crate) crossing: Result<(), AuthError>,
}

/// Judges where a request comes from, before it may prolong anything.
pub(crate) fn judge_crossing<B>(core: &Core, request: &Request<B>) -> Result<(), AuthError> {
    let (method, headers) = (request.method(), request.headers());
    let upgrade = access::is_upgrade(method, headers);
    csrf::judge(method, headers, upgrade, core.public_url.origin(), core.csrf_header.as_ref())
}

/// Decides what becomes of a request once its session is known.
pub(crate) fn admit<B>(
    core: &Arc<Core>,
    gate: &Gate,
    admission: Admission,
    mut request: Request<B>,
    found: Found,
) -> Verdict<B> {
    let Admission { optional, crossing } = admission;
    match found {
        Found::Live(live) => {
            if let Err(error) = crossing {
                let kind = access::kind(request.method(), request.headers());
                return Verdict::Answer(core.refuse(kind, error, None));
            }
            if let Err(error) = gate.rules.judge(&live.opened.facts) {
                if optional {
                    // Here a stranger is served, and so is somebody who is one to us.
                    core.cookies.strip(request.headers_mut());
                    return Verdict::Pass(request, After::anonymous(core, true));
                }
                let (parts, _) = request.into_parts();
                return Verdict::Answer(deny::not_allowed(core, &parts, live, error));
            }
            core.cookies.strip(request.headers_mut());
            if !gate.forward_authorization {
                headers::strip_authorization(request.headers_mut());
            }
            request.extensions_mut().insert(live.identity());
            Verdict::Pass(request, After::signed_in(core, live.set_cookies, optional))
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
                core.cookies.strip(request.headers_mut());
                return Verdict::Pass(request, After::anonymous(core, optional));
            }
            let cookie = !matches!(found, Found::Absent);
            let (parts, _) = request.into_parts();
            Verdict::Answer(deny::deny(core, &parts, cookie))
        }
    }
}
