//! A browser without a window that talks to a real server over HTTP/1.1.

#![allow(dead_code, missing_docs, reason = "each test uses a part of it")]

use std::net::SocketAddr;

use bytes::Bytes;
use http::header::{COOKIE, HOST, LOCATION, ORIGIN};
use http::{HeaderMap, Request};
use http_body_util::Full;
use tower_pkce_auth::testing::provider::TestProvider;

use crate::support::Jar;
use crate::wire::{self, Whole};

#[derive(Clone, Debug)]
pub struct Person {
    address: SocketAddr,
    pub origin: String,
    pub jar: Jar,
}

impl Person {
    /// Somebody who has not been here yet.
    pub fn at(origin: &str) -> Self {
        let address = origin.strip_prefix("http://").unwrap().parse().unwrap();
        Self { address, origin: origin.to_owned(), jar: Jar::default() }
    }

    /// Opens a page, without following redirects.
    pub async fn open(&mut self, path: &str) -> Whole {
        let request = Request::get(path)
            .header("accept", "text/html,*/*;q=0.8")
            .header("sec-fetch-mode", "navigate")
            .header("sec-fetch-dest", "document")
            .header("sec-fetch-site", "none");
        self.send(path, request).await
    }

    /// Signs in by the redirects.
    pub async fn sign_in(&mut self, provider: &TestProvider, user: &str) {
        let start = self.open("/auth/login").await;
        let authorization = location(&start);
        assert!(authorization.starts_with(provider.issuer()), "{authorization}");
        let callback = provider.authorize_as(&authorization, user).await.unwrap();
        let path = callback.strip_prefix(&self.origin).expect("it comes back here").to_owned();
        let end = self.open(&path).await;
        assert_eq!((end.response.status().as_u16(), &*location(&end)), (303, "/"), "{end:?}");
    }

    /// Signs out as a page of this origin does.
    pub async fn sign_out(&self) {
        let request = Request::post("/auth/logout").header(ORIGIN, &self.origin);
        let reply = self.clone().send("/auth/logout", request).await;
        assert_eq!(reply.response.status(), 303, "{reply:?}");
    }

    /// What a web page of this origin sends along with each call.
    pub fn metadata(&self) -> HeaderMap {
        let mut metadata = HeaderMap::new();
        metadata.insert(COOKIE, self.cookie().parse().unwrap());
        metadata.insert(ORIGIN, self.origin.parse().unwrap());
        metadata
    }

    pub fn cookie(&self) -> String {
        self.jar.header("/").expect("signed in")
    }

    async fn send(&mut self, path: &str, mut request: http::request::Builder) -> Whole {
        request = request.header(HOST, self.address.to_string());
        if let Some(cookie) = self.jar.header(path.split('?').next().unwrap()) {
            request = request.header(COOKIE, cookie);
        }
        let request = request.body(Full::new(Bytes::new())).unwrap();
        let reply = wire::http1(self.address, request).await;
        self.jar.keep(reply.response.headers());
        reply
    }
}

fn location(reply: &Whole) -> String {
    let location = reply.response.headers().get(LOCATION);
    location.unwrap_or_else(|| panic!("no redirect: {reply:?}")).to_str().unwrap().to_owned()
}
