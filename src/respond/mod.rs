//! Answers of our own: what the flows decide, and how it is written out.
//!
//! A flow returns an [`Answer`], which has no body. A responder makes the response from it:
//! [`Pages`] writes HTML, JSON and gRPC statuses, [`EmptyBody`] serves bodies that cannot be made
//! from bytes. The layer then applies what no responder may forget: status, `Location`,
//! `Cache-Control`, `Set-Cookie` and the security headers.

pub(crate) mod grpc;
pub(crate) mod html;
pub(crate) mod pages;

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION,
    REFERRER_POLICY, SET_COOKIE, X_CONTENT_TYPE_OPTIONS,
};
use http::{Response, StatusCode};

pub use self::pages::Page;
use self::pages::PageContent;
use crate::error::AuthError;
use crate::seal::sha256;
use crate::secret::base64;

/// Makes responses from the layer's own answers.
///
/// Implement it to show pages of your own. Whatever it returns, the layer sets status, `Location`,
/// `Cache-Control: no-store`, `X-Content-Type-Options`, `Referrer-Policy` and the cookies afterwards.
/// A page without a `Content-Security-Policy` gets ours, which allows no style but our own.
///
/// # Examples
///
/// ```
/// use bytes::Bytes;
/// use http::Response;
/// use tower_pkce_auth::{Answer, Page, Pages, Respond};
///
/// #[derive(Clone)]
/// struct Branded;
///
/// impl<B: From<Bytes>> Respond<B> for Branded {
///     fn respond(&self, answer: &Answer) -> Response<B> {
///         match answer.page() {
///             Some(Page::SignedOut) => Response::new(Bytes::from("Bye!").into()),
///             _ => Pages.respond(answer),
///         }
///     }
/// }
/// ```
pub trait Respond<B> {
    /// Writes an answer out.
    fn respond(&self, answer: &Answer) -> Response<B>;
}

/// The default responder: pages for people, JSON for scripts, statuses for gRPC.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pages;

impl<B: From<Bytes>> Respond<B> for Pages {
    fn respond(&self, answer: &Answer) -> Response<B> {
        let (content_type, body) = answer.content.write();
        let mut response = Response::new(Bytes::from(body).into());
        // Room for what is added to every answer.
        response.headers_mut().reserve(8);
        if let Some(content_type) = content_type {
            let value = HeaderValue::from_static(content_type);
            response.headers_mut().insert(CONTENT_TYPE, value);
        }
        response
    }
}

/// A responder for bodies that can only be empty, as tonic's; gRPC callers lose nothing by it.
///
/// # Examples
///
/// ```
/// use tower_pkce_auth::{ClientId, EmptyBody, PkceAuthLayer};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let layer = PkceAuthLayer::builder(
///     "https://login.example".parse()?,
///     ClientId::new("app"),
///     "http://localhost:8080".parse()?,
/// )
/// .public_client()
/// .responder(EmptyBody)
/// .build()?;
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct EmptyBody;

impl<B: Default> Respond<B> for EmptyBody {
    fn respond(&self, answer: &Answer) -> Response<B> {
        let mut response = Response::new(B::default());
        if let Content::Grpc(status) = &answer.content {
            let value = HeaderValue::from_static(status.content_type());
            response.headers_mut().insert(CONTENT_TYPE, value);
        }
        response
    }
}

/// What the layer itself answers to a request.
#[derive(Debug)]
pub struct Answer {
    status: StatusCode,
    content: Content,
    location: Option<HeaderValue>,
    /// A few, so that a refusal need not allocate for them.
    headers: [Option<(HeaderName, HeaderValue)>; 3],
    set_cookies: Vec<HeaderValue>,
    error: Option<AuthError>,
}

#[derive(Debug)]
pub(crate) enum Content {
    Empty,
    Grpc(grpc::Status),
    Json(String),
    Page(Box<PageContent>),
    Text(&'static str),
}

impl Content {
    fn write(&self) -> (Option<&'static str>, String) {
        match self {
            Self::Empty => (None, String::new()),
            Self::Grpc(status) => (Some(status.content_type()), String::new()),
            Self::Json(text) => (Some("application/json"), text.clone()),
            Self::Page(page) => (Some("text/html; charset=utf-8"), page.render()),
            Self::Text(text) => (Some("text/plain; charset=utf-8"), (*text).to_owned()),
        }
    }
}

impl Answer {
    pub(crate) const fn new(status: StatusCode, content: Content) -> Self {
        Self {
            status,
            content,
            location: None,
            headers: [const { None }; 3],
            set_cookies: Vec::new(),
            error: None,
        }
    }

    /// Sends the browser elsewhere: 302 or 303, never a status that repeats a POST or is cached.
    pub(crate) fn redirect(status: StatusCode, location: &str) -> Self {
        let mut answer = Self::new(status, Content::Empty);
        match HeaderValue::from_str(location) {
            Ok(location) => answer.location = Some(location),
            // Every location is ASCII by construction; were one not, nobody is sent anywhere.
            Err(_) => answer.status = StatusCode::INTERNAL_SERVER_ERROR,
        }
        answer.header(REFERRER_POLICY, "no-referrer")
    }

    pub(crate) fn header(self, name: HeaderName, value: &'static str) -> Self {
        self.header_value(name, HeaderValue::from_static(value))
    }

    pub(crate) fn header_value(mut self, name: HeaderName, value: HeaderValue) -> Self {
        let free = self.headers.iter_mut().find(|slot| slot.is_none());
        *free.expect("no answer has more than three headers of its own") = Some((name, value));
        self
    }

    pub(crate) fn cookies(mut self, cookies: impl IntoIterator<Item = HeaderValue>) -> Self {
        self.set_cookies.extend(cookies);
        self
    }

    pub(crate) const fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    pub(crate) fn with_error(mut self, error: AuthError) -> Self {
        self.error = Some(error);
        self
    }

    /// Returns the status the response will have.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// Returns why the request was refused, if it was.
    #[must_use]
    pub const fn error(&self) -> Option<&AuthError> {
        self.error.as_ref()
    }

    /// Returns which page this is, if the answer is one.
    #[must_use]
    pub fn page(&self) -> Option<Page> {
        match &self.content {
            Content::Page(page) => Some(page.id),
            _ => None,
        }
    }

    /// Returns where the page's main link or form leads, if the answer is a page that has one.
    #[must_use]
    pub fn page_action(&self) -> Option<&str> {
        match &self.content {
            Content::Page(page) => page.action_target(),
            _ => None,
        }
    }

    /// Applies to a response what no responder may forget.
    pub(crate) fn finish<B>(self, mut response: Response<B>) -> Response<B> {
        *response.status_mut() = self.status;
        if let Some(error) = self.error {
            response.extensions_mut().insert(error);
        }
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if let Content::Page(page) = &self.content {
            headers
                .entry(CONTENT_SECURITY_POLICY)
                .or_insert_with(|| policy(page.form_action.as_deref()));
            // A form page says where it comes from, or browsers send `Origin: null` with the form.
            let referrer = if page.form_action.is_some() { "same-origin" } else { "no-referrer" };
            headers.insert(REFERRER_POLICY, HeaderValue::from_static(referrer));
        }
        if let Content::Grpc(status) = &self.content {
            status.write_headers(headers);
        }
        for (name, value) in self.headers.into_iter().flatten() {
            headers.insert(name, value);
        }
        if let Some(location) = self.location {
            headers.insert(LOCATION, location);
        }
        for cookie in self.set_cookies {
            headers.append(SET_COOKIE, cookie);
        }
        response
    }
}

/// The content security policy of our pages: nothing but our own style, and forms that go to us
/// and, through the logout, to the provider.
fn policy(form_action: Option<&str>) -> HeaderValue {
    let policy = policy_text(form_action.unwrap_or("'none'"), "'none'");
    HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
}

/// The policy of the one page that others may show in a frame, and who may.
pub(crate) fn framed_policy(ancestors: &str) -> String {
    policy_text("'none'", ancestors)
}

fn policy_text(forms: &str, ancestors: &str) -> String {
    let style = base64(sha256(html::STYLE.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{style}'; form-action {forms}; base-uri 'none'; \
         frame-ancestors {ancestors}"
    )
}
