//! What can go wrong with a sign-in, sorted by whose fault it is.

use std::fmt;

use http::StatusCode;
use tracing::field;

use crate::secret::random;

/// Whose fault a refusal is; it decides the status and how loudly it is logged.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Blame {
    /// This crate failed; the request is refused all the same.
    Inside,
    /// The provider failed, lied, or said no.
    Provider,
    /// The store did not answer; cookies are kept and nobody is signed out.
    Store,
    /// The request itself cannot be served as it is.
    Visitor,
}

/// Why a request was refused, as a stable code for logs and for people who ask for help.
///
/// The codes (see [`ErrorKind::code`]) are part of the public contract: they do not change their
/// meaning between releases.
///
/// # Examples
///
/// ```
/// use tower_pkce_auth::{Blame, ErrorKind};
///
/// assert_eq!(ErrorKind::StoreUnavailable.code(), "store_unavailable");
/// assert_eq!(ErrorKind::StoreUnavailable.blame(), Blame::Store);
/// assert_eq!(ErrorKind::StoreUnavailable.status(), 503);
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The person or the provider refused the sign-in (`access_denied` and its kin).
    AccessDenied,
    /// The parameters of the callback are missing, repeated or malformed.
    CallbackMalformed,
    /// The browser did not keep the session cookie that was set at the callback.
    CookieNotKept,
    /// The request came from another site and would have used this site's session.
    CrossSite,
    /// The ID token was refused; the detail names the check.
    IdToken,
    /// Something inside broke; the log has more.
    Internal,
    /// The `iss` of the callback is not the provider this login was started at (RFC 9207).
    IssuerMismatch,
    /// The login took so long, or was finished already, that it cannot be completed.
    LoginExpired,
    /// The logout token was refused; the detail names the check.
    LogoutToken,
    /// The method is not one this endpoint serves.
    MethodNotAllowed,
    /// Somebody is signed in whom the access rules do not let in.
    NotAllowed,
    /// The request is not signed in.
    NotSignedIn,
    /// The provider answered with an error that is not the visitor's.
    ProviderError,
    /// The provider could not be reached, or not in time.
    ProviderUnavailable,
    /// The session does not fit into cookies; a store is the cure.
    SessionTooLarge,
    /// A logout arrived while the login was being completed.
    SignedOutMeanwhile,
    /// The state parameter is not one of ours.
    StateMalformed,
    /// The store is out of reach.
    StoreUnavailable,
    /// The token endpoint refused the code, or its answer is not a token response.
    TokenEndpoint,
    /// The client starts more logins than one may.
    TooManyLogins,
    /// The userinfo endpoint failed, or spoke of another person.
    Userinfo,
}

impl ErrorKind {
    /// Returns the stable code, in `snake_case`.
    #[must_use]
    pub const fn code(self) -> &'static str {
        self.row().0
    }

    /// Returns whose fault this is.
    #[must_use]
    pub const fn blame(self) -> Blame {
        self.row().1
    }

    /// Returns the status of an HTML or JSON answer; gRPC is answered with 200 and a status of its
    /// own, and a navigation without a session is redirected.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        self.row().2
    }

    /// The one table: code, blame and status of every kind.
    const fn row(self) -> (&'static str, Blame, StatusCode) {
        use Blame::{Inside, Provider, Store, Visitor};
        match self {
            Self::AccessDenied => ("access_denied", Visitor, StatusCode::FORBIDDEN),
            Self::CallbackMalformed => ("callback_malformed", Visitor, StatusCode::BAD_REQUEST),
            Self::CookieNotKept => ("cookie_not_kept", Visitor, StatusCode::BAD_REQUEST),
            Self::CrossSite => ("cross_site", Visitor, StatusCode::FORBIDDEN),
            Self::IdToken => ("id_token", Provider, StatusCode::BAD_GATEWAY),
            Self::Internal => ("internal", Inside, StatusCode::INTERNAL_SERVER_ERROR),
            Self::IssuerMismatch => ("issuer_mismatch", Visitor, StatusCode::BAD_REQUEST),
            Self::LoginExpired => ("login_expired", Visitor, StatusCode::BAD_REQUEST),
            Self::LogoutToken => ("logout_token", Visitor, StatusCode::BAD_REQUEST),
            Self::MethodNotAllowed => {
                ("method_not_allowed", Visitor, StatusCode::METHOD_NOT_ALLOWED)
            }
            Self::NotAllowed => ("not_allowed", Visitor, StatusCode::FORBIDDEN),
            Self::NotSignedIn => ("not_signed_in", Visitor, StatusCode::UNAUTHORIZED),
            Self::ProviderError => ("provider_error", Provider, StatusCode::BAD_GATEWAY),
            Self::ProviderUnavailable => {
                ("provider_unavailable", Provider, StatusCode::SERVICE_UNAVAILABLE)
            }
            Self::SessionTooLarge => ("session_too_large", Provider, StatusCode::BAD_GATEWAY),
            Self::SignedOutMeanwhile => ("signed_out_meanwhile", Visitor, StatusCode::BAD_REQUEST),
            Self::StateMalformed => ("state_malformed", Visitor, StatusCode::BAD_REQUEST),
            Self::StoreUnavailable => ("store_unavailable", Store, StatusCode::SERVICE_UNAVAILABLE),
            Self::TokenEndpoint => ("token_endpoint", Provider, StatusCode::BAD_GATEWAY),
            Self::TooManyLogins => ("too_many_logins", Visitor, StatusCode::TOO_MANY_REQUESTS),
            Self::Userinfo => ("userinfo", Provider, StatusCode::BAD_GATEWAY),
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// A refusal: what went wrong, a detail code, and a reference to look for in the log.
///
/// It holds no secret and no text of the provider's, so it can be shown and logged. The layer puts
/// it into the extensions of every response that refuses a request.
///
/// # Examples
///
/// ```
/// use tower_pkce_auth::{AuthError, ErrorKind};
///
/// # fn look(response: http::Response<()>) {
/// if let Some(error) = response.extensions().get::<AuthError>() {
///     println!("{} ({})", error.kind().code(), error.reference());
/// }
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct AuthError {
    kind: ErrorKind,
    detail: &'static str,
    hint: Option<&'static str>,
    reference: [u8; 4],
}

/// The reference as text.
#[derive(Clone, Copy)]
struct Reference([u8; 4]);

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", u32::from_be_bytes(self.0))
    }
}

impl AuthError {
    /// Makes a refusal with a detail code, which names the check that failed.
    pub(crate) fn new(kind: ErrorKind, detail: &'static str) -> Self {
        Self { kind, detail, hint: None, reference: random() }
    }

    /// Adds one line that says what to try.
    pub(crate) const fn with_hint(mut self, hint: &'static str) -> Self {
        self.hint = Some(hint);
        self
    }

    /// Returns what went wrong.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Returns the code of the check that failed, in `snake_case`.
    #[must_use]
    pub const fn detail(&self) -> &'static str {
        self.detail
    }

    /// Returns one line that says what to try, if there is one.
    #[must_use]
    pub const fn hint(&self) -> Option<&'static str> {
        self.hint
    }

    /// Returns a short random reference, shown to the visitor and written to the log.
    #[must_use]
    pub fn reference(&self) -> String {
        Reference(self.reference).to_string()
    }

    /// Writes the refusal to the log: rejections quietly, trouble of provider and store loudly.
    pub(crate) fn log(&self) {
        let (code, detail) = (self.kind.code(), self.detail);
        // Written out only where somebody listens.
        let reference = field::display(Reference(self.reference));
        match self.kind.blame() {
            Blame::Visitor => {
                tracing::debug!(reason = code, detail, reference, "request refused");
            }
            Blame::Provider => {
                tracing::warn!(reason = code, detail, reference, "sign-in failed at the provider");
            }
            Blame::Inside => {
                tracing::error!(reason = code, detail, reference, "something inside broke");
            }
            Blame::Store => {
                tracing::warn!(reason = code, detail, reference, "the store did not answer");
            }
        }
    }
}

impl fmt::Display for AuthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} (reference {})", self.kind.code(), self.detail, Reference(self.reference))
    }
}

impl std::error::Error for AuthError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_code_detail_and_reference() {
        let error = AuthError::new(ErrorKind::IdToken, "nonce").with_hint("check the clock");
        assert_eq!(error.reference().len(), 8);
        assert!(error.to_string().starts_with("id_token: nonce (reference "));
        assert_eq!(error.hint(), Some("check the clock"));
        assert_eq!(error.kind().status(), 502);
    }
}
