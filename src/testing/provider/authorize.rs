//! The front channel: authorization, the account chooser, logout.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::HeaderValue;
use http::Response;
use http::StatusCode;
use http::header;
use serde_json::Value;
use url::form_urlencoded;

use super::RecordedRequest;
use super::ask;
use super::ask::Ask;
use super::encoding;
use super::pages;
use super::record;
use super::state::Inner;
use super::state::Session;

/// The header by which [`authorize_as`](super::TestProvider::authorize_as) names the person.
pub(super) const USER_HEADER: &str = "x-test-provider-user";
/// The name of the person who refuses.
pub(super) const DENY: &str = "deny";
const COOKIE: &str = "test-provider";

/// OIDC Core 3.1.2.
pub(super) fn authorize(inner: &Inner, request: &RecordedRequest) -> Response<Bytes> {
    let pairs = request.parameters();
    let ask = match Ask::parse(&inner.config, &pairs) {
        Ok(ask) => ask,
        Err(refusal) => return refusal.into_reply(inner),
    };
    let now = inner.now();
    let session = {
        let state = inner.state();
        let session = request.cookie(COOKIE).and_then(|id| state.sessions.get(id));
        session.cloned()
    };
    let session = session.filter(|session| {
        let too_old =
            ask.max_age.is_some_and(|max_age| now.since(session.auth_time).as_secs() >= max_age);
        !ask.wants_interaction && !too_old
    });
    let chosen = match request.header(USER_HEADER) {
        Some(user) => Some(user.to_owned()),
        None => inner.state().auto_sign_in.clone(),
    };
    match (chosen, session) {
        (Some(user), Some(session)) if session.sub == user => ask.grant(inner, &session),
        (Some(user), _) => sign_in(inner, &ask, &user),
        (None, Some(session)) => ask.grant(inner, &session),
        (None, None) if ask.prompt_none => {
            ask.target.refuse(inner, "login_required", "nobody is signed in")
        }
        (None, None) => {
            let encoded =
                form_urlencoded::Serializer::new(String::new()).extend_pairs(&pairs).finish();
            let users = inner.state().users.clone();
            pages::chooser(&inner.base, &inner.config.client_id, &ask.scope, &users, &encoded)
        }
    }
}

/// Takes the answer of the account chooser.
pub(super) fn choose(inner: &Inner, request: &RecordedRequest) -> Response<Bytes> {
    let asked = request.form_value("request").unwrap_or_default();
    let pairs = record::parse_pairs(asked.as_bytes());
    match Ask::parse(&inner.config, &pairs) {
        Ok(ask) => sign_in(inner, &ask, request.form_value("user").unwrap_or_default()),
        Err(refusal) => refusal.into_reply(inner),
    }
}

/// Signs a person in anew, or refuses for them.
fn sign_in(inner: &Inner, ask: &Ask, user: &str) -> Response<Bytes> {
    if user == DENY {
        return ask.target.refuse(inner, "access_denied", "the person refused");
    }
    let id = encoding::random_token(16);
    let session =
        Session { sub: user.to_owned(), sid: encoding::random_token(12), auth_time: inner.now() };
    {
        let mut state = inner.state();
        if state.user(user).is_none() {
            return pages::error(StatusCode::BAD_REQUEST, "This person is not known here.");
        }
        state.sessions.insert(id.clone(), session.clone());
    }
    with_cookie(ask.grant(inner, &session), &format!("{COOKIE}={id}; {COOKIE_ATTRIBUTES}"))
}

/// OIDC RP-Initiated Logout 1.0.
pub(super) fn end_session(inner: &Inner, request: &RecordedRequest) -> Response<Bytes> {
    let pairs = request.parameters();
    let hint = record::find(&pairs, "id_token_hint");
    let client = record::find(&pairs, "client_id");
    let issued = hint.is_some_and(|hint| inner.state().id_tokens.iter().any(|t| t == hint));
    let hinted_sid = hint.filter(|_| issued).and_then(sid_of);
    let cookie = request.cookie(COOKIE);
    inner
        .state()
        .sessions
        .retain(|id, session| cookie != Some(id) && hinted_sid.as_deref() != Some(&*session.sid));
    let config = &inner.config;
    let ours = match (client, hint) {
        (Some(client), Some(_)) => client == config.client_id && issued,
        (Some(client), None) => client == config.client_id,
        (None, _) => issued,
    };
    let back = record::find(&pairs, "post_logout_redirect_uri")
        .filter(|uri| ours && ask::is_registered(&config.post_logout_redirect_uris, uri));
    let state = record::find(&pairs, "state").map(|state| ("state".to_owned(), state.to_owned()));
    let reply = match back {
        Some(uri) => ask::see_other(&ask::with_query(uri, state.as_slice())),
        None => pages::signed_out(),
    };
    with_cookie(reply, &format!("{COOKIE}=; Max-Age=0; {COOKIE_ATTRIBUTES}"))
}

fn with_cookie(mut reply: Response<Bytes>, cookie: &str) -> Response<Bytes> {
    if let Ok(value) = HeaderValue::from_str(cookie) {
        reply.headers_mut().append(header::SET_COOKIE, value);
    }
    reply
}

/// Reads the `sid` of a token this provider issued.
fn sid_of(token: &str) -> Option<String> {
    let payload = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: Value = serde_json::from_slice(&payload).ok()?;
    claims["sid"].as_str().map(str::to_owned)
}

const COOKIE_ATTRIBUTES: &str = "Path=/; HttpOnly; SameSite=Lax";
