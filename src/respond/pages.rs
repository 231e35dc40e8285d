//! The pages: what each of them says and offers.

use std::borrow::Cow;

use super::html::{self, Action};
use crate::error::{AuthError, Blame, ErrorKind};
use crate::identity::Identity;

/// A page of the layer's own.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Page {
    /// The request cannot be served as it is.
    BadRequest,
    /// Asks whether to sign out.
    ConfirmSignOut,
    /// The request came from another site.
    Forbidden,
    /// What the provider's frame shows after a front-channel logout; nobody sees it.
    FrontchannelLogout,
    /// The browser did not keep the session cookie.
    NoCookie,
    /// Somebody is signed in whom the access rules do not let in.
    NotAllowed,
    /// The provider said no, or its answer cannot be used.
    ProviderError,
    /// The login could not be finished; it can be started again.
    Restart,
    /// Somebody is signed out.
    SignedOut,
    /// Somebody is signed out in this browser; the store was away.
    SignedOutHereOnly,
    /// Too many logins were started from one network.
    TooMany,
    /// The store or the provider does not answer.
    Unavailable,
}

impl Page {
    /// Returns the name of the page, as in its `data-page` attribute.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::BadRequest => "bad-request",
            Self::ConfirmSignOut => "confirm-sign-out",
            Self::Forbidden => "forbidden",
            Self::FrontchannelLogout => "frontchannel-logout",
            Self::NoCookie => "no-cookie",
            Self::NotAllowed => "not-allowed",
            Self::ProviderError => "provider-error",
            Self::Restart => "restart",
            Self::SignedOut => "signed-out",
            Self::SignedOutHereOnly => "signed-out-here-only",
            Self::TooMany => "too-many",
            Self::Unavailable => "unavailable",
        }
    }
}

/// A page with everything it shows, before it is written out.
#[derive(Debug)]
pub(crate) struct PageContent {
    pub(crate) id: Page,
    title: &'static str,
    lead: Cow<'static, str>,
    details: Vec<(&'static str, String)>,
    action: Option<Offer>,
    secondary: Option<Offer>,
    further: Option<Offer>,
    /// The value of the policy's `form-action`, if the page holds a form.
    pub(crate) form_action: Option<String>,
}

/// What a page offers to do.
#[derive(Debug)]
struct Offer {
    target: String,
    label: &'static str,
    name: &'static str,
    post: bool,
}

impl Offer {
    fn link(target: impl Into<String>, label: &'static str, name: &'static str) -> Self {
        Self { target: target.into(), label, name, post: false }
    }

    fn form(target: impl Into<String>, label: &'static str, name: &'static str) -> Self {
        Self { target: target.into(), label, name, post: true }
    }

    fn action(&self) -> Action<'_> {
        if self.post {
            Action::Post { action: &self.target, label: self.label, name: self.name, fields: &[] }
        } else {
            Action::Link { href: &self.target, label: self.label, name: self.name }
        }
    }
}

impl PageContent {
    fn new(id: Page, title: &'static str, lead: impl Into<Cow<'static, str>>) -> Self {
        Self {
            id,
            title,
            lead: lead.into(),
            details: Vec::new(),
            action: None,
            secondary: None,
            further: None,
            form_action: None,
        }
    }

    pub(crate) fn render(&self) -> String {
        html::render(&html::Page {
            id: self.id.name(),
            title: self.title,
            lead: &self.lead,
            details: self
                .details
                .iter()
                .map(|(label, value)| (*label, Cow::Borrowed(value.as_str())))
                .collect(),
            action: self.action.as_ref().map(Offer::action),
            secondary: self.secondary.as_ref().map(Offer::action),
            further: self.further.as_ref().map(Offer::action),
        })
    }

    pub(crate) fn action_target(&self) -> Option<&str> {
        self.action.as_ref().map(|offer| offer.target.as_str())
    }

    /// "You are signed out."
    pub(crate) fn signed_out(login: &str) -> Self {
        let mut page = Self::new(
            Page::SignedOut,
            "You are signed out",
            "Your session here has ended. On a shared computer, also close the browser window.",
        );
        page.action = Some(Offer::link(login, "Sign in again", "continue"));
        page
    }

    /// Asks before a sign-out that was not asked for by a form of ours.
    pub(crate) fn confirm_sign_out(
        who: &str,
        logout: &str,
        everywhere: Option<String>,
        home: &str,
        forms: String,
    ) -> Self {
        let lead = if everywhere.is_some() {
            "This ends your session in this application and at the sign-in service. You can also \
             end your sessions with this application in all other browsers and on all devices."
        } else {
            "This ends your session in this application and at the sign-in service."
        };
        let mut page = Self::new(Page::ConfirmSignOut, "Sign out?", lead);
        page.details.push(("Signed in as", who.to_owned()));
        page.action = Some(Offer::form(logout, "Sign out", "sign-out"));
        let stay = Offer::link(home, "Stay signed in", "stay");
        (page.secondary, page.further) = match everywhere {
            Some(target) => {
                let all = Offer::form(target, "Sign out everywhere", "sign-out-everywhere");
                (Some(all), Some(stay))
            }
            None => (Some(stay), None),
        };
        page.form_action = Some(forms);
        page
    }

    /// The store was away when somebody signed out.
    pub(crate) fn signed_out_here_only(error: &AuthError, login: &str, tried_again: bool) -> Self {
        let lead = if tried_again {
            "Your session was removed from this browser, but the service that keeps sessions did \
             not answer, so it could not be ended everywhere yet. This is being tried again."
        } else {
            "Your session was removed from this browser, but the service that keeps sessions did \
             not answer. Your sessions in other browsers go on: sign in again in a moment, and \
             sign out everywhere then."
        };
        let mut page = Self::new(Page::SignedOutHereOnly, "Signed out in this browser only", lead);
        page.with_reference(error);
        page.action = Some(Offer::link(login, "Sign in again", "continue"));
        page
    }

    /// For the frame of a provider that signs somebody out everywhere.
    pub(crate) fn frontchannel_logout() -> Self {
        Self::new(
            Page::FrontchannelLogout,
            "Sign-out received",
            "A session that this request names, if there was one, has ended.",
        )
    }

    /// Says who is signed in, and offers another account.
    pub(crate) fn not_allowed(
        error: &AuthError,
        identity: &Identity,
        switch: &str,
        logout: &str,
    ) -> Self {
        let lead = if error.detail() == "email_not_verified" {
            "You are signed in, but the sign-in service has not confirmed an e-mail address of \
             yours, and this application goes by it."
        } else {
            "You are signed in, but this account has no access to this application. If it should, \
             ask the people who run it."
        };
        let mut page = Self::new(Page::NotAllowed, "You have no access", lead);
        let name = identity.name().unwrap_or(identity.subject());
        page.detail("Signed in as", name);
        if let Some(email) = identity.email() {
            page.detail("E-mail", email);
        }
        page.detail(html::REASON, error.kind().code());
        page.with_reference(error);
        page.action = Some(Offer::link(switch, "Use another account", "switch"));
        page.secondary = Some(Offer::link(logout, "Sign out", "sign-out"));
        page
    }

    /// The page for a refusal; `login` starts over, `switch` asks for another account.
    pub(crate) fn error(error: &AuthError, login: &str, switch: &str) -> Self {
        let kind = error.kind();
        let mut page = match kind {
            ErrorKind::AccessDenied => {
                let mut page = Self::new(
                    Page::ProviderError,
                    "Sign-in was refused",
                    "The sign-in service reports that access was denied, or that you cancelled. \
                     Nothing was changed; you can try again.",
                );
                page.secondary = Some(Offer::link(switch, "Use another account", "switch"));
                page
            }
            ErrorKind::CookieNotKept if error.detail() == "session_dead_at_once" => {
                let mut page = Self::new(
                    Page::NoCookie,
                    "Your session ended at once",
                    "You signed in a moment ago, but the session is not valid any more.",
                );
                page.detail("Cause", "It was ended elsewhere, or its cookies came back in part.");
                page.detail("Cure", "Sign in again. If it ends again, remove this site's cookies.");
                page
            }
            ErrorKind::CookieNotKept => {
                let mut page = Self::new(
                    Page::NoCookie,
                    "Your browser did not keep our cookie",
                    "You signed in, but the cookie that remembers it did not come back.",
                );
                page.detail(
                    "Cause",
                    "Cookies are blocked for this site, by a setting, an extension or private mode.",
                );
                page.detail("Cure", "Allow cookies for this site, then sign in again.");
                page
            }
            ErrorKind::LoginExpired => Self::new(
                Page::Restart,
                "Sign-in could not be finished",
                "It took too long, was finished in another tab, or was started in another \
                 browser. Starting again takes a moment.",
            ),
            ErrorKind::SignedOutMeanwhile => Self::new(
                Page::Restart,
                "Sign-in could not be finished",
                "You were signed out while the sign-in was under way.",
            ),
            ErrorKind::TooManyLogins => Self::new(
                Page::TooMany,
                "Too many sign-ins at once",
                "Many sign-ins were started from your network within a minute. Wait a moment, then \
                 try again; who is signed in already is not concerned.",
            ),
            ErrorKind::CrossSite => Self::new(
                Page::Forbidden,
                "Request refused",
                "This request came from another site, so it was not carried out.",
            ),
            _ => match kind.blame() {
                Blame::Visitor => Self::new(
                    Page::BadRequest,
                    "This request cannot be served",
                    "It is incomplete or was changed on its way. Starting the sign-in again helps \
                     in most cases.",
                ),
                Blame::Store | Blame::Inside => Self::new(
                    Page::Unavailable,
                    "Sign-in is not available just now",
                    "A part of this service does not answer. You have not been signed out; please \
                     try again in a moment.",
                ),
                Blame::Provider if kind == ErrorKind::ProviderUnavailable => Self::new(
                    Page::Unavailable,
                    "Sign-in is not available just now",
                    "The sign-in service does not answer. Please try again in a moment.",
                ),
                Blame::Provider => Self::new(
                    Page::ProviderError,
                    "Sign-in failed",
                    "The sign-in service gave an answer that cannot be accepted. If trying again \
                     does not help, tell the people who run this application, with the reference.",
                ),
            },
        };
        page.details.push((html::REASON, kind.code().to_owned()));
        if let Some(hint) = error.hint() {
            page.details.push(("Hint", hint.to_owned()));
        }
        page.with_reference(error);
        page.action = Some(Offer::link(login, "Try again", "continue"));
        page
    }

    fn detail(&mut self, label: &'static str, text: &str) {
        self.details.push((label, text.to_owned()));
    }

    fn with_reference(&mut self, error: &AuthError) {
        self.details.push((html::REFERENCE, error.reference()));
    }
}
