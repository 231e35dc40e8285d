//! Who is signed in, for scripts (`<prefix>/session`), and whether this pod works.

use std::sync::Arc;

use http::header::HeaderName;
use http::request::Parts;
use http::{Method, StatusCode};
use serde_json::json;

use super::{Core, method_not_allowed};
use crate::access;
use crate::error::{AuthError, ErrorKind};
use crate::respond::{Answer, Content};
use crate::session::keeper::Found;

/// Answers with JSON: who is signed in and for how long, never a token. It does not prolong.
pub(crate) async fn session(core: &Arc<Core>, parts: &Parts) -> Answer {
    if parts.method != Method::GET && parts.method != Method::HEAD {
        return method_not_allowed(core, parts, "GET");
    }
    let answer = match core.keeper.find(&parts.headers, false).await {
        Found::Live(live) => {
            let (identity, record) = (live.identity(), &live.opened.record);
            let idle_end = record.idle_end(core.keeper.lifetimes().idle);
            let body = json!({
                "authenticated": true,
                "allowed": core.keeper.admits(&live),
                "issuer": identity.issuer(),
                "subject": identity.subject(),
                "name": identity.name(),
                "email": identity.email(),
                "groups": identity.groups(),
                "expires_at": record.absolute_end.as_secs(),
                "idle_expires_at": idle_end.as_secs(),
            });
            Answer::new(StatusCode::OK, Content::Json(body.to_string()))
        }
        Found::Absent | Found::Dead => {
            let body = json!({"authenticated": false, "login_url": core.login_path(None)});
            Answer::new(StatusCode::UNAUTHORIZED, Content::Json(body.to_string()))
                .with_error(AuthError::new(ErrorKind::NotSignedIn, "no_session"))
        }
        Found::Unknown(error) => {
            let kind = access::kind(&parts.method, &parts.headers);
            core.refuse(kind, error, None)
        }
    };
    // Nobody else's page may read it, not even as a script or an image.
    answer.header(HeaderName::from_static("cross-origin-resource-policy"), "same-origin")
}

/// Answers with a bare word. Trouble of the store or the provider does not show here: no other pod
/// would do better, and an emptied cluster serves nobody.
pub(crate) fn health(core: &Core, parts: &Parts, word: &'static str) -> Answer {
    if parts.method != Method::GET && parts.method != Method::HEAD {
        return method_not_allowed(core, parts, "GET");
    }
    Answer::new(StatusCode::OK, Content::Text(word))
}
