//! The layer: one sign-in for all services it is put before.

use std::sync::Arc;

use tower_layer::Layer;

use crate::admission::Gate;
use crate::builder::Builder;
use crate::flow::Core;
use crate::flow::admin::SessionAdmin;
use crate::names::{ClientId, Issuer, PublicUrl};
use crate::respond::Pages;
use crate::service::PkceAuth;

/// A Tower layer that puts OpenID Connect sign-in before any HTTP service.
///
/// See the [crate documentation](crate) for what happens to a request. Clones share everything:
/// the provider's keys, the sessions in memory, the cache.
///
/// # Examples
///
/// ```
/// use tower_pkce_auth::{ClientId, ClientSecret, PkceAuthLayer};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let layer = PkceAuthLayer::builder(
///     "https://login.example".parse()?,
///     ClientId::new("dashboard"),
///     "http://localhost:8080".parse()?,
/// )
/// .client_secret(ClientSecret::new("from a file"))
/// .open("/assets/*".parse()?)
/// .build()?;
///
/// let app: axum::Router = axum::Router::new()
///     .route("/", axum::routing::get(|| async { "signed in" }))
///     .layer(layer);
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use]
pub struct PkceAuthLayer<R = Pages> {
    pub(crate) core: Arc<Core>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) responder: R,
}

impl PkceAuthLayer {
    /// Begins to set up a layer from what every sign-in needs: who vouches for people, under which
    /// id this application is known there, and where browsers reach it.
    pub fn builder(issuer: Issuer, client_id: ClientId, public_url: PublicUrl) -> Builder {
        Builder::new(issuer, client_id, public_url)
    }
}

impl<R> PkceAuthLayer<R> {
    /// Returns a handle by which the application lists and ends sessions of people.
    #[must_use]
    pub fn sessions(&self) -> SessionAdmin {
        SessionAdmin::new(self.core.clone())
    }
}

impl<R: Clone> Clone for PkceAuthLayer<R> {
    fn clone(&self) -> Self {
        Self { core: self.core.clone(), gate: self.gate.clone(), responder: self.responder.clone() }
    }
}

impl<S, R: Clone> Layer<S> for PkceAuthLayer<R> {
    type Service = PkceAuth<S, R>;

    fn layer(&self, inner: S) -> Self::Service {
        PkceAuth {
            inner,
            core: self.core.clone(),
            gate: self.gate.clone(),
            responder: self.responder.clone(),
        }
    }
}
