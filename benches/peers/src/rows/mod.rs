//! The rows of the table: an application each, ready to be called.

mod axum_login;
mod bare;
mod huskarl;
mod layer;
mod redis;

use std::any::Any;
use std::pin::Pin;

use axum::Router;
use axum::routing::{MethodRouter, get};

use crate::browser::{self, ORIGIN, PATH, WHO};

/// Why a row cannot be measured.
pub type Failed = Box<dyn std::error::Error>;

/// An application to be measured.
pub struct Row {
    /// The application.
    pub app: Router,
    /// The session cookies that requests carry in turn, each a `name=value` or several of them.
    pub cookies: Vec<String>,
    /// Whom [`WHO`] must name; nobody for rows without sign-in.
    pub who: Option<&'static str>,
    /// What must live as long as the application, such as a server.
    _alongside: Option<Box<dyn Any>>,
}

/// How a row is called, described and made.
pub struct Kind {
    /// Its name on the command line.
    pub id: &'static str,
    /// What the table calls it.
    pub title: &'static str,
    /// Makes the application and signs in.
    pub make: fn() -> Making,
}

/// A row that is being made.
pub type Making = Pin<Box<dyn Future<Output = Result<Row, Failed>>>>;

/// Every row, in the order of the table.
pub const KINDS: &[Kind] = &[
    Kind { id: BARE, title: "bare axum", make: || Box::pin(async { bare::bare() }) },
    Kind { id: "no-op", title: "no-op layer", make: || Box::pin(async { bare::no_op() }) },
    Kind {
        id: REFERENCE,
        title: "no-op layer that inserts an extension",
        make: || Box::pin(async { bare::extension() }),
    },
    Kind { id: "open", title: "this layer, open path", make: || Box::pin(layer::open()) },
    Kind {
        id: MEMORY,
        title: "this layer, signed in, stored in memory",
        make: || Box::pin(layer::memory()),
    },
    Kind {
        id: "sealed",
        title: "this layer, signed in, sealed, seen before",
        make: || Box::pin(layer::sealed()),
    },
    Kind {
        id: "sealed-new",
        title: "this layer, signed in, sealed, first time",
        make: || Box::pin(layer::sealed_new()),
    },
    Kind {
        id: "redis",
        title: "this layer, signed in, stored in Redis",
        make: || Box::pin(layer::redis()),
    },
    Kind {
        id: "axum-login",
        title: "tower-sessions + axum-login, memory",
        make: || Box::pin(axum_login::memory()),
    },
    Kind {
        id: "huskarl-memory",
        title: "huskarl-axum, stored in memory",
        make: || Box::pin(huskarl::memory()),
    },
    Kind {
        id: "huskarl-cookie",
        title: "huskarl-axum, sealed in cookies",
        make: || Box::pin(huskarl::cookie()),
    },
];

/// The row without anything.
pub const BARE: &str = "bare";

/// The row that the aim is measured by.
pub const REFERENCE: &str = "extension";

/// The row that has an aim.
pub const MEMORY: &str = "memory";

impl Row {
    fn new(app: Router, cookies: Vec<String>) -> Self {
        // As a server does it once: without it axum applies the layers anew at each request.
        let app = app.with_state(());
        Self { app, cookies, who: None, _alongside: None }
    }

    fn signed_in(app: Router, cookies: Vec<String>) -> Self {
        Self { who: Some(ALICE), ..Self::new(app, cookies) }
    }

    /// Sees that the application does what its row says: the measured path is answered, the person
    /// is known by every session, and nobody is known without one.
    pub async fn prove(&self) -> Result<(), Failed> {
        for cookie in &self.cookies {
            let mut jar = vec![cookie.clone()];
            let status = browser::visit(&self.app, PATH, &mut jar).await?.status();
            if status != http::StatusCode::OK {
                return Err(format!("{PATH} was answered {status}").into());
            }
            let Some(who) = self.who else { continue };
            let (status, text) =
                browser::text(browser::visit(&self.app, WHO, &mut jar).await?).await?;
            if text != who {
                return Err(format!("{WHO} should name {who}: {status} {text}").into());
            }
        }
        if self.who.is_some() {
            let status = browser::visit(&self.app, PATH, &mut Vec::new()).await?.status();
            if status.is_success() {
                return Err(format!("{PATH} was answered {status} without a session").into());
            }
        }
        Ok(())
    }
}

/// The same application in every row; `who` says how its handlers learn who is signed in.
fn application(who: MethodRouter) -> Router {
    Router::new().route(PATH, get(async || "three orders")).route(WHO, who)
}

/// The same without sign-in.
fn anonymous() -> Router {
    application(get(async || "-"))
}

/// A cookie as long as a session of this layer in a store, where no session is needed.
fn no_session() -> Vec<String> {
    vec![format!("__Host-session=v1.{}", "A".repeat(64))]
}

/// Who is signed in.
const ALICE: &str = "alice";

/// The redirect URI below the public origin.
fn redirect_uri() -> String {
    format!("{ORIGIN}/callback")
}
