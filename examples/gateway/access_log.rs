//! One line in the log for every request, under the target `gateway::access`.
//!
//! It holds who asked (address and subject), for what (method and path) and what came of it. It
//! never holds a query, a header field, a cookie or an e-mail address.

use std::net::IpAddr;
use std::time::Instant;

use http::{Method, Request, Response, Uri};
use tower_pkce_auth::Identity;

/// A request that is not answered yet.
pub struct Entry {
    client: IpAddr,
    method: Method,
    target: Uri,
    begun: Instant,
    answered: bool,
}

impl Entry {
    pub fn begin<B>(request: &Request<B>, client: IpAddr) -> Self {
        Self {
            client,
            method: request.method().clone(),
            target: request.uri().clone(),
            begun: Instant::now(),
            answered: false,
        }
    }

    /// Writes the line; the proxy says by an extension of the response who was signed in.
    pub fn answered<B>(mut self, response: &Response<B>) {
        self.answered = true;
        let subject = response.extensions().get::<Identity>().map(Identity::subject);
        tracing::info!(
            target: "gateway::access",
            client = %self.client,
            method = %self.method,
            path = self.target.path(),
            status = response.status().as_u16(),
            subject,
            ms = self.milliseconds(),
        );
    }

    fn milliseconds(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if !self.answered {
            tracing::info!(
                target: "gateway::access",
                client = %self.client,
                method = %self.method,
                path = self.target.path(),
                ms = self.milliseconds(),
                "the client left before the answer",
            );
        }
    }
}
