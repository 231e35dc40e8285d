//! Extractors for axum: who is signed in, as an argument of a handler.

use std::convert::Infallible;

use axum_core::extract::{FromRequestParts, OptionalFromRequestParts};
use axum_core::response::{IntoResponse, Response};
use http::StatusCode;
use http::request::Parts;

use crate::identity::Identity;

/// The refusal of the [`Identity`] extractor: the handler is not behind the layer, or on a path
/// that is open.
///
/// The answer is 500 and not 401: nobody could sign in there, so it is a mistake of the
/// application's routes, and the request is not let in.
#[derive(Debug)]
#[non_exhaustive]
pub struct NotBehindLayer;

impl IntoResponse for NotBehindLayer {
    fn into_response(self) -> Response {
        tracing::error!("a handler wants an Identity, but no sign-in layer is before it");
        StatusCode::INTERNAL_SERVER_ERROR.into_response()
    }
}

impl std::fmt::Display for NotBehindLayer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("no sign-in layer is before this handler")
    }
}

impl std::error::Error for NotBehindLayer {}

impl<S: Sync> FromRequestParts<S> for Identity {
    type Rejection = NotBehindLayer;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        parts.extensions.get::<Self>().cloned().ok_or(NotBehindLayer)
    }
}

impl<S: Sync> OptionalFromRequestParts<S> for Identity {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Infallible> {
        Ok(parts.extensions.get::<Self>().cloned())
    }
}
