//! The token and revocation endpoints.

use bytes::Bytes;
use http::HeaderValue;
use http::Response;
use http::StatusCode;
use http::header;
use serde_json::Value;
use serde_json::json;

use super::AuthMethod;
use super::RecordedRequest;
use super::builder::Config;
use super::encoding;
use super::endpoints;
use super::fault::IdTokenDraft;
use super::record;
use super::state::Access;
use super::state::Grant;
use super::state::Inner;
use super::state::Refresh;
use super::state::State;

/// RFC 6749 4.1.3 and 6, OIDC Core 3.1.3.
pub(super) fn token(inner: &Inner, request: &RecordedRequest) -> Response<Bytes> {
    let rotation = inner.faults().rotate_before_token.take();
    if let Some(alg) = rotation {
        inner.state().rotate(alg);
    }
    let granted = authenticate(&inner.config, request).and_then(|()| {
        match required(request, "grant_type")? {
            "authorization_code" => redeem(inner, request),
            "refresh_token" => refresh(inner, request),
            _ => Err(Refusal::new("unsupported_grant_type", "unknown grant_type")),
        }
    });
    match granted {
        Ok(granted) => issue(inner, granted),
        Err(refusal) => refusal.into_reply(),
    }
}

/// RFC 7009.
pub(super) fn revoke(inner: &Inner, request: &RecordedRequest) -> Response<Bytes> {
    let token = authenticate(&inner.config, request).and_then(|()| required(request, "token"));
    match token {
        Ok(token) => {
            let mut state = inner.state();
            let grant = state.refresh.get(token).map(|refresh| refresh.grant.clone());
            if let Some(grant) = grant {
                state.revoke_family(&grant);
            }
            state.access.retain(|known, _| known != token);
            // An unknown token is as good as revoked (RFC 7009 2.2).
            endpoints::no_store(Response::new(Bytes::new()))
        }
        Err(refusal) => refusal.into_reply(),
    }
}

/// What a token request may have.
struct Granted {
    grant: Grant,
    /// The scope that later refreshes may ask for (RFC 6749 6); `None` at a login.
    refreshed_scope: Option<String>,
}

/// An error answer of the token endpoint.
struct Refusal {
    status: StatusCode,
    code: &'static str,
    description: String,
}

impl Refusal {
    fn new(code: &'static str, description: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code, description: description.into() }
    }

    fn client(description: &str) -> Self {
        Self { status: StatusCode::UNAUTHORIZED, ..Self::new("invalid_client", description) }
    }

    fn into_reply(self) -> Response<Bytes> {
        let mut reply = endpoints::error(self.status, self.code, &self.description);
        if self.status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Basic realm=\"test provider\"");
            reply.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        reply
    }
}

fn required<'a>(request: &'a RecordedRequest, name: &str) -> Result<&'a str, Refusal> {
    let value = request.form_value(name).filter(|value| !value.is_empty());
    value.ok_or_else(|| Refusal::new("invalid_request", format!("{name} is missing")))
}

/// RFC 6749 2.3: exactly one method, and one that is configured.
fn authenticate(config: &Config, request: &RecordedRequest) -> Result<(), Refusal> {
    if let Some(name) = record::duplicate(&request.form) {
        return Err(Refusal::new("invalid_request", format!("{name} occurs twice")));
    }
    let id = request.form_value("client_id");
    let secret = request.form_value("client_secret");
    let (method, id, secret) = match (request.header("authorization"), secret) {
        (Some(_), Some(_)) => {
            return Err(Refusal::new("invalid_request", "two ways of authentication"));
        }
        (Some(_), None) => {
            let (user, password) = request
                .basic_credentials()
                .ok_or_else(|| Refusal::client("malformed Authorization"))?;
            if id.is_some_and(|id| id != user) {
                return Err(Refusal::new("invalid_request", "two client identifiers"));
            }
            (AuthMethod::Basic, Some(user), Some(password))
        }
        (None, Some(secret)) => (AuthMethod::Post, id.map(str::to_owned), Some(secret.to_owned())),
        (None, None) => (AuthMethod::None, id.map(str::to_owned), None),
    };
    if !config.methods().contains(&method) {
        return Err(Refusal::client("this authentication method is not accepted"));
    }
    // A client without a secret that may use basic sends an empty password, if any.
    let expected = match method {
        AuthMethod::None => None,
        AuthMethod::Basic | AuthMethod::Post => {
            Some(config.client_secret.clone().unwrap_or_default())
        }
    };
    if id.as_deref() == Some(&*config.client_id) && secret == expected {
        Ok(())
    } else {
        Err(Refusal::client("unknown client or wrong secret"))
    }
}

fn redeem(inner: &Inner, request: &RecordedRequest) -> Result<Granted, Refusal> {
    let code = required(request, "code")?;
    let now = inner.now();
    let mut state = inner.state();
    let Some(known) = state.codes.get_mut(code) else {
        return Err(Refusal::new("invalid_grant", "unknown code"));
    };
    let again = std::mem::replace(&mut known.redeemed, true);
    let known = known.clone();
    if again {
        // RFC 6749 4.1.2: revoke what the first redemption got.
        state.counts.double_redemptions += 1;
        state.revoke_family(&known.grant);
        return Err(Refusal::new("invalid_grant", "the code was redeemed before"));
    }
    if now.since(known.issued) > CODE_LIFETIME {
        return Err(Refusal::new("invalid_grant", "the code has expired"));
    }
    if request.form_value("redirect_uri") != Some(&*known.redirect_uri) {
        return Err(Refusal::new("invalid_grant", "another redirect_uri than before"));
    }
    if !inner.config.lenient_pkce {
        let verifier = required(request, "code_verifier")?;
        let well_formed = (43..=128).contains(&verifier.len())
            && verifier.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte));
        if !well_formed || known.challenge.as_deref() != Some(&*encoding::s256(verifier)) {
            return Err(Refusal::new("invalid_grant", "the code_verifier does not match"));
        }
    }
    Ok(Granted { grant: known.grant, refreshed_scope: None })
}

fn refresh(inner: &Inner, request: &RecordedRequest) -> Result<Granted, Refusal> {
    let token = required(request, "refresh_token")?;
    let mut state = inner.state();
    let Some(known) = state.refresh.get_mut(token) else {
        return Err(Refusal::new("invalid_grant", "unknown refresh token"));
    };
    let again = std::mem::replace(&mut known.used, true);
    let mut grant = known.grant.clone();
    if again {
        // RFC 9700 4.14.2: a used token that comes back was stolen from somebody.
        state.counts.refresh_reuses += 1;
        state.revoke_family(&grant);
        return Err(Refusal::new("invalid_grant", "the refresh token was used before"));
    }
    if state.is_revoked(&grant) {
        return Err(Refusal::new("invalid_grant", "the refresh token was revoked"));
    }
    let refreshed_scope = Some(grant.scope.clone());
    if let Some(scope) = request.form_value("scope") {
        if !scope.split(' ').all(|name| grant.has_scope(name)) {
            return Err(Refusal::new("invalid_scope", "more than was granted"));
        }
        scope.clone_into(&mut grant.scope);
    }
    // OIDC Core 12.2: a refreshed ID Token should have no nonce.
    grant.nonce = None;
    Ok(Granted { grant, refreshed_scope })
}

/// Issues the tokens of a grant.
fn issue(inner: &Inner, granted: Granted) -> Response<Bytes> {
    let Granted { grant, refreshed_scope } = granted;
    let refreshed = refreshed_scope.is_some();
    let config = &inner.config;
    let access = encoding::random_token(24);
    let Some(mut draft) = draft(inner, &inner.state(), &grant, &access, refreshed) else {
        return Refusal::new("invalid_grant", "this person is gone").into_reply();
    };
    let mut response = endpoints::object(json!({
        "access_token": access,
        "token_type": "Bearer",
        "expires_in": config.expires_in.as_secs(),
        "scope": grant.scope,
    }));
    {
        let mut state = inner.state();
        let expires = inner.now() + config.expires_in;
        if refreshed || config.refresh_tokens || grant.has_scope("offline_access") {
            let refresh = encoding::random_token(24);
            response.insert("refresh_token".to_owned(), json!(refresh));
            let mut grant = grant.clone();
            grant.scope = refreshed_scope.unwrap_or(grant.scope);
            state.refresh.insert(refresh, Refresh { grant, used: false });
        }
        state.access.insert(access, Access { grant, expires });
    }
    inner.hook(|faults| faults.id_token.clone(), &mut draft);
    let id_token = draft.finish();
    inner.state().remember_id_token(id_token.clone());
    response.insert("id_token".to_owned(), json!(id_token));
    inner.hook(|faults| faults.token_response.clone(), &mut response);
    endpoints::no_store(endpoints::json_reply(StatusCode::OK, response.into()))
}

/// Drafts the ID Token (OIDC Core 2).
fn draft(
    inner: &Inner,
    state: &State,
    grant: &Grant,
    access: &str,
    refreshed: bool,
) -> Option<IdTokenDraft> {
    let user = state.user(&grant.sub)?;
    let key = state.ring.current();
    let now = inner.now();
    let mut claims = if inner.config.lean_id_token {
        serde_json::Map::new()
    } else {
        endpoints::person(user, grant)
    };
    claims.extend(endpoints::object(json!({
        "iss": inner.issuer,
        "sub": grant.sub,
        "aud": inner.config.client_id,
        "exp": (now + inner.config.id_token_ttl).as_secs(),
        "iat": now.as_secs(),
        "auth_time": grant.auth_time.as_secs(),
        "sid": grant.sid,
        "at_hash": key.alg().at_hash(access),
    })));
    let optional = [("acr", &grant.acr), ("nonce", &grant.nonce)];
    for (name, value) in optional {
        if let Some(value) = value {
            claims.insert(name.to_owned(), Value::from(value.as_str()));
        }
    }
    Some(IdTokenDraft::new(state.ring.keys.clone(), key.clone(), claims, refreshed))
}

/// How long a code is good for.
const CODE_LIFETIME: std::time::Duration = std::time::Duration::from_secs(60);
