//! `tower-sessions` and `axum-login`, as the documentation of axum-login puts them together.

use std::collections::HashMap;
use std::convert::Infallible;

use axum::Router;
use axum::body::Body;
use axum::routing::{get, post};
use axum_login::{
    AuthManagerLayerBuilder, AuthSession, AuthUser, AuthnBackend, UserId, login_required,
};
use http::{Request, StatusCode};
use tower::ServiceExt;
use tower_sessions::{MemoryStore, SessionManagerLayer};

use super::{ALICE, Failed, Row};
use crate::browser::{self, PATH, WHO};

/// A session in memory; the person is loaded from a map in memory at each request.
pub async fn memory() -> Result<Row, Failed> {
    let sessions = SessionManagerLayer::new(MemoryStore::default());
    let manager = AuthManagerLayerBuilder::new(Backend::default(), sessions).build();
    let who = get(async |session: AuthSession<Backend>| {
        session.user.map_or_else(String::new, |user| user.name)
    });
    let app = Router::new()
        .route(PATH, get(async || "three orders"))
        .route(WHO, who)
        .route_layer(login_required!(Backend, login_url = "/login"))
        .route("/login", post(login))
        .layer(manager);

    let response = app.clone().oneshot(Request::post("/login").body(Body::empty())?).await?;
    let mut jar = Vec::new();
    browser::keep(&mut jar, response.headers())?;
    Ok(Row::signed_in(app, vec![jar.join("; ")]))
}

async fn login(mut session: AuthSession<Backend>) -> StatusCode {
    match session.authenticate(Credentials { user_id: 1 }).await {
        Ok(Some(user)) => match session.login(&user).await {
            Ok(()) => StatusCode::NO_CONTENT,
            Err(_) => StatusCode::INTERNAL_SERVER_ERROR,
        },
        Ok(None) => StatusCode::UNAUTHORIZED,
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[derive(Clone, Debug)]
struct User {
    id: i64,
    name: String,
    pw_hash: Vec<u8>,
}

impl AuthUser for User {
    type Id = i64;

    fn id(&self) -> Self::Id {
        self.id
    }

    fn session_auth_hash(&self) -> &[u8] {
        &self.pw_hash
    }
}

#[derive(Clone)]
struct Backend {
    users: HashMap<i64, User>,
}

impl Default for Backend {
    fn default() -> Self {
        let alice = User { id: 1, name: ALICE.to_owned(), pw_hash: vec![7; 32] };
        Self { users: HashMap::from([(1, alice)]) }
    }
}

#[derive(Clone)]
struct Credentials {
    user_id: i64,
}

impl AuthnBackend for Backend {
    type User = User;
    type Credentials = Credentials;
    type Error = Infallible;

    async fn authenticate(&self, credentials: Credentials) -> Result<Option<User>, Infallible> {
        Ok(self.users.get(&credentials.user_id).cloned())
    }

    async fn get_user(&self, user_id: &UserId<Self>) -> Result<Option<User>, Infallible> {
        Ok(self.users.get(user_id).cloned())
    }
}
