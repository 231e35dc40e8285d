//! axum without sign-in: the yardsticks.

use std::sync::Arc;
use std::task::{Context, Poll};

use axum::extract::Request;
use tower::{Layer, Service};

use super::{Failed, Row, anonymous, no_session};

/// axum as it is.
pub fn bare() -> Result<Row, Failed> {
    Ok(Row::new(anonymous(), no_session()))
}

/// A layer that does nothing.
pub fn no_op() -> Result<Row, Failed> {
    Ok(Row::new(anonymous().layer(NoOp), no_session()))
}

/// A layer that inserts one `Arc` into the extensions of the request: the least that any layer
/// does which says who is signed in.
pub fn extension() -> Result<Row, Failed> {
    Ok(Row::new(anonymous().layer(Insert(Arc::new(Somebody("alice")))), no_session()))
}

#[derive(Clone)]
struct NoOp;

#[derive(Clone)]
struct NoOpService<S>(S);

impl<S> Layer<S> for NoOp {
    type Service = NoOpService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        NoOpService(inner)
    }
}

impl<S: Service<Request>> Service<Request> for NoOpService<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        self.0.call(request)
    }
}

#[derive(Clone)]
struct Insert(Arc<Somebody>);

#[allow(dead_code, reason = "stands for what a handler would read")]
struct Somebody(&'static str);

#[derive(Clone)]
struct InsertService<S> {
    inner: S,
    extension: Arc<Somebody>,
}

impl<S> Layer<S> for Insert {
    type Service = InsertService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        InsertService { inner, extension: self.0.clone() }
    }
}

impl<S: Service<Request>> Service<Request> for InsertService<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        request.extensions_mut().insert(self.extension.clone());
        self.inner.call(request)
    }
}
