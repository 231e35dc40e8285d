//! The plain endpoints: discovery, keys, userinfo; and the shape of JSON answers.

use bytes::Bytes;
use http::HeaderValue;
use http::Response;
use http::StatusCode;
use http::header;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use super::AuthMethod;
use super::RecordedRequest;
use super::TestUser;
use super::encoding;
use super::state::Grant;
use super::state::Inner;

/// OIDC Discovery 3 and 4.2.
pub(super) fn discovery(inner: &Inner) -> Response<Bytes> {
    let base = &inner.base;
    let algs: Vec<&str> = {
        let state = inner.state();
        state.ring.keys.iter().map(|key| key.alg().as_str()).collect()
    };
    let methods: Vec<&str> =
        inner.config.methods().iter().copied().map(AuthMethod::as_str).collect();
    let mut document = object(json!({
        "issuer": inner.issuer,
        "authorization_endpoint": format!("{base}/authorize"),
        "token_endpoint": format!("{base}/token"),
        "userinfo_endpoint": format!("{base}/userinfo"),
        "jwks_uri": format!("{base}/jwks/{}", inner.jwks_name),
        "end_session_endpoint": format!("{base}/end_session"),
        "revocation_endpoint": format!("{base}/revoke"),
        "scopes_supported": ["openid", "profile", "email", "offline_access"],
        "response_types_supported": ["code"],
        "response_modes_supported": ["query", "form_post"],
        "grant_types_supported": ["authorization_code", "refresh_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": algs,
        "token_endpoint_auth_methods_supported": methods,
        "revocation_endpoint_auth_methods_supported": methods,
        "code_challenge_methods_supported": ["S256"],
        "prompt_values_supported": ["none", "login", "select_account"],
        "claims_supported": [
            "sub", "name", "email", "email_verified", "groups", "acr", "auth_time", "sid",
        ],
        "claims_parameter_supported": false,
        "request_parameter_supported": false,
        "request_uri_parameter_supported": false,
        "authorization_response_iss_parameter_supported": true,
    }));
    inner.hook(|faults| faults.discovery.clone(), &mut document);
    json_reply(StatusCode::OK, document.into())
}

/// RFC 7517 5.
pub(super) fn jwks(inner: &Inner) -> Response<Bytes> {
    let mut jwks: Vec<Value> = {
        let state = inner.state();
        state.ring.keys.iter().map(super::SigningKey::public_jwk).collect()
    };
    inner.hook(|faults| faults.jwks.clone(), &mut jwks);
    json_reply(StatusCode::OK, json!({ "keys": jwks }))
}

/// OIDC Core 5.3.
pub(super) fn userinfo(inner: &Inner, request: &RecordedRequest) -> Response<Bytes> {
    let claims = request.bearer().and_then(|token| {
        let now = inner.now();
        let state = inner.state();
        let access = state.access.get(token)?;
        if access.expires <= now || state.is_revoked(&access.grant) {
            return None;
        }
        let mut claims = person(state.user(&access.grant.sub)?, &access.grant);
        claims.insert("sub".to_owned(), access.grant.sub.clone().into());
        Some(claims)
    });
    let Some(mut claims) = claims else {
        let mut reply = error(StatusCode::UNAUTHORIZED, "invalid_token", "unknown or expired");
        let challenge = HeaderValue::from_static("Bearer error=\"invalid_token\"");
        reply.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        return reply;
    };
    inner.hook(|faults| faults.userinfo.clone(), &mut claims);
    no_store(json_reply(StatusCode::OK, claims.into()))
}

/// Returns the claims about a person that the granted scope releases (OIDC Core 5.4).
pub(super) fn person(user: &TestUser, grant: &Grant) -> Map<String, Value> {
    let mut claims = Map::new();
    if grant.has_scope("profile") {
        claims.insert("name".to_owned(), json!(user.name));
    }
    if grant.has_scope("email") {
        claims.insert("email".to_owned(), json!(user.email));
        claims.insert("email_verified".to_owned(), json!(user.email_verified));
    }
    if !user.groups.is_empty() {
        claims.insert("groups".to_owned(), json!(user.groups));
    }
    claims.extend(user.claims.clone());
    claims
}

/// Makes an OAuth error answer (RFC 6749 5.2).
pub(super) fn error(status: StatusCode, code: &str, description: &str) -> Response<Bytes> {
    let body = json!({"error": code, "error_description": description});
    no_store(json_reply(status, body))
}

pub(super) fn json_reply(status: StatusCode, value: Value) -> Response<Bytes> {
    let mut reply = Response::new(Bytes::from(encoding::to_json(&object(value))));
    *reply.status_mut() = status;
    let value = HeaderValue::from_static("application/json");
    reply.headers_mut().insert(header::CONTENT_TYPE, value);
    reply
}

pub(super) fn no_store<B>(mut reply: Response<B>) -> Response<B> {
    let value = HeaderValue::from_static("no-store");
    reply.headers_mut().insert(header::CACHE_CONTROL, value);
    reply
}

/// Takes the object out of a value that is one.
pub(super) fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
