//! The flows: what happens at each of our own paths, and to a request that is not signed in.
//!
//! Each is one async function from a request's head to an [`Answer`] without a body. What cannot
//! be undone (taking a login, spending a code, ending a session) runs in a task of its own, so that
//! a client that goes away leaves nothing half done.

pub(crate) mod admin;
pub(crate) mod backchannel;
pub(crate) mod callback;
pub(crate) mod deny;
pub(crate) mod endings;
pub(crate) mod frontchannel;
pub(crate) mod login;
pub(crate) mod logout;
pub(crate) mod params;
mod sign_in;
pub(crate) mod status;

use std::future::Future;
use std::sync::Arc;

use http::HeaderMap;
use http::header::{ALLOW, HeaderName, HeaderValue, RETRY_AFTER};
use http::request::Parts;
use http::{Method, StatusCode};

use crate::access::{self, Kind};
use crate::clock::Clock;
use crate::cookies::{Cookies, Own};
use crate::error::{AuthError, ErrorKind};
use crate::limit::ClientLimit;
use crate::names::PublicUrl;
use crate::oidc::provider::Provider;
use crate::paths::Endpoint;
use crate::pending::PendingLogins;
use crate::respond::pages::PageContent;
use crate::respond::{Answer, Content, grpc};
use crate::return_to::ReturnTo;
use crate::session::keeper::{Found, Keeper, Patience};
use crate::session::refresher::Refresher;

/// Everything the flows work with; one for all requests of a layer.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) provider: Arc<Provider>,
    pub(crate) keeper: Arc<Keeper>,
    pub(crate) refresher: Arc<Refresher>,
    pub(crate) pending: PendingLogins,
    /// How many logins one client may start.
    pub(crate) client_limit: Option<ClientLimit>,
    pub(crate) cookies: Arc<Cookies>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) public_url: PublicUrl,
    /// The prefix of our endpoints, below the mount.
    pub(crate) prefix: String,
    /// Names of the claims that applications see.
    pub(crate) claims: Vec<String>,
    /// The header that shows same-origin intent where a client sends no `Origin`.
    pub(crate) csrf_header: Option<HeaderName>,
    /// Sign-outs that wait for the store.
    pub(crate) endings: endings::Endings,
    /// How often a logout without a signature may still be believed.
    pub(crate) unsigned: frontchannel::Allowance,
}

impl Core {
    /// Finds the session of a request; one that its person makes (`touch`) prolongs it, and
    /// refreshes it if that is due.
    pub(crate) async fn find(&self, headers: &HeaderMap, touch: bool, patience: Patience) -> Found {
        match self.keeper.look(headers, touch, patience).await {
            Found::Live(live) if touch => self.refresher.settle(live, headers, patience).await,
            found => found,
        }
    }

    /// Returns the path of one of our endpoints as browsers see it.
    pub(crate) fn path(&self, endpoint: &str) -> String {
        format!("{}{}{endpoint}", self.public_url.mount(), self.prefix)
    }

    /// Returns where a visitor goes who wanted nothing in particular.
    pub(crate) fn home(&self) -> String {
        self.public_path("/")
    }

    /// Returns a path and query of the inner service as browsers see it. The root of a mount is
    /// the mount itself: axum's `nest` knows no other name for it.
    pub(crate) fn public_path(&self, path_and_query: &str) -> String {
        let mount = self.public_url.mount();
        match path_and_query.strip_prefix('/') {
            Some(rest) if !mount.is_empty() && (rest.is_empty() || rest.starts_with('?')) => {
                format!("{mount}{rest}")
            }
            _ => format!("{mount}{path_and_query}"),
        }
    }

    /// Returns the link that starts a login and leads to `target` afterwards. It consists of plain
    /// path characters, `?`, `=` and `%`: it needs no escaping in JSON or HTML.
    pub(crate) fn login_path(&self, target: Option<&ReturnTo>) -> String {
        let mut path = String::new();
        self.write_login_path(target, &mut path);
        path
    }

    pub(crate) fn write_login_path(&self, target: Option<&ReturnTo>, out: &mut String) {
        for part in [self.public_url.mount(), &self.prefix, "/login"] {
            out.push_str(part);
        }
        if let Some(target) = target {
            out.push_str("?return_to=");
            out.extend(params::encoded(target.as_str()));
        }
    }

    /// Returns the link that asks for another account and leads to `target` afterwards.
    pub(crate) fn switch_path(&self, target: Option<&ReturnTo>) -> String {
        let mut path = self.login_path(target);
        path.push_str(if target.is_some() { "&switch=1" } else { "?switch=1" });
        path
    }

    /// Makes the answer to a refusal, in the form the sender of the request understands.
    pub(crate) fn refuse(&self, kind: Kind, error: AuthError, target: Option<&ReturnTo>) -> Answer {
        error.log();
        let status = error.kind().status();
        let content = match kind {
            Kind::Grpc(grpc) => {
                let status = grpc::Status::of(error.kind(), grpc);
                let answer = Answer::new(StatusCode::OK, Content::Grpc(status));
                return answer.with_error(error);
            }
            Kind::Navigation | Kind::Embedded => {
                let switch = self.switch_path(target);
                let page = PageContent::error(&error, &self.login_path(target), &switch);
                Content::Page(Box::new(page))
            }
            _ => Content::Json(format!(
                r#"{{"error":"{}","reference":"{}"}}"#,
                error.kind().code(),
                error.reference(),
            )),
        };
        let mut answer = Answer::new(status, content).with_error(error);
        if status == StatusCode::SERVICE_UNAVAILABLE {
            answer = answer.header(RETRY_AFTER, "2");
        }
        answer
    }

    /// Returns the cookies that go with the deletion of a session.
    pub(crate) fn clear_session(&self, headers: &HeaderMap) -> Vec<HeaderValue> {
        self.keeper.clear(headers)
    }

    /// Returns the removal of the note of a completed login, if the request has one.
    pub(crate) fn forget_notice(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let noticed = self.cookies.read(headers).any(|(own, _)| own == Own::Notice);
        noticed.then(|| self.cookies.remove(Own::Notice))
    }
}

/// Serves one of our endpoints; `form` is the body of a form, where one is accepted.
pub(crate) async fn serve(
    core: Arc<Core>,
    endpoint: Endpoint,
    parts: Arc<Parts>,
    form: Option<Form>,
) -> Answer {
    match endpoint {
        Endpoint::BackchannelLogout => backchannel::logout(&core, &parts, form).await,
        Endpoint::Callback => callback::callback(&core, &parts, form).await,
        Endpoint::FrontchannelLogout => frontchannel::logout(&core, &parts).await,
        Endpoint::HealthLive => status::health(&core, &parts, "live"),
        Endpoint::HealthReady => status::health(&core, &parts, "ready"),
        Endpoint::Login => login::login(&core, &parts).await,
        Endpoint::Logout => logout::logout(&core, &parts).await,
        Endpoint::Session => status::session(&core, &parts).await,
        Endpoint::SignedOut => logout::signed_out(&core, &parts),
    }
}

/// The body of a form as it was received.
#[derive(Debug)]
pub(crate) enum Form {
    /// All of it.
    Body(Vec<u8>),
    /// More than is read, or it broke off.
    Unreadable,
}

/// Tells whether an endpoint takes the body of this request as a form.
pub(crate) fn takes_form(core: &Core, endpoint: Endpoint, method: &Method) -> bool {
    method == Method::POST
        && match endpoint {
            Endpoint::BackchannelLogout => true,
            Endpoint::Callback => core.provider.settings().form_post,
            _ => false,
        }
}

/// Runs a step that must not stop half-way, and waits for it.
pub(crate) async fn finish<T: Send + 'static>(
    step: impl Future<Output = T> + Send + 'static,
) -> Result<T, AuthError> {
    tokio::spawn(step).await.map_err(|_| AuthError::new(ErrorKind::Internal, "task"))
}

/// The answer to a method that an endpoint does not serve.
pub(crate) fn method_not_allowed(core: &Core, parts: &Parts, allow: &'static str) -> Answer {
    let kind = access::kind(&parts.method, &parts.headers);
    let error = AuthError::new(ErrorKind::MethodNotAllowed, "method");
    core.refuse(kind, error, None).header(ALLOW, allow)
}
