//! The authorization request, parsed, and the way back to the application.

use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::HeaderValue;
use http::Response;
use http::StatusCode;
use http::header;
use url::Host;
use url::Url;
use url::form_urlencoded;

use super::builder::Config;
use super::encoding;
use super::endpoints;
use super::pages;
use super::record;
use super::state::Code;
use super::state::Grant;
use super::state::Inner;
use super::state::Session;

/// A checked authorization request.
pub(super) struct Ask {
    pub(super) target: Target,
    pub(super) scope: String,
    pub(super) challenge: Option<String>,
    pub(super) nonce: Option<String>,
    pub(super) acr: Option<String>,
    pub(super) max_age: Option<u64>,
    pub(super) prompt_none: bool,
    pub(super) wants_interaction: bool,
}

impl Ask {
    pub(super) fn parse(config: &Config, pairs: &[(String, String)]) -> Result<Self, Refusal> {
        let find = |name| record::find(pairs, name).filter(|value: &&str| !value.is_empty());
        let owned = |name| find(name).map(str::to_owned);
        let duplicate = record::duplicate(pairs);
        // RFC 6749 4.1.2.1: no redirect unless client and redirect URI are known good.
        if find("client_id") != Some(&*config.client_id) {
            return Err(Refusal::Page("This client is not registered here."));
        }
        let redirect_uri = owned("redirect_uri")
            .filter(|uri| is_registered(&config.redirect_uris, uri))
            .filter(|_| !matches!(duplicate, Some("client_id" | "redirect_uri")))
            .ok_or(Refusal::Page("This redirect URI is not registered here."))?;
        let target = Target {
            redirect_uri,
            form_post: find("response_mode") == Some("form_post"),
            state: record::find(pairs, "state").map(str::to_owned),
        };
        let prompts: Vec<&str> = find("prompt").unwrap_or_default().split(' ').collect();
        let prompt_none = prompts.contains(&"none");
        let scope = owned("scope").unwrap_or_default();
        let challenge = owned("code_challenge");
        let challenge_is_sound = challenge.as_ref().is_some_and(|challenge| {
            BASE64_URL_SAFE_NO_PAD.decode(challenge).is_ok_and(|hash| hash.len() == 32)
        });
        let is_s256 = challenge_is_sound && find("code_challenge_method") == Some("S256");
        let max_age = find("max_age").map(str::parse::<u64>).transpose();
        let problem = if duplicate.is_some() {
            Some(("invalid_request", "a parameter occurs twice"))
        } else if find("request").is_some() {
            Some(("request_not_supported", "no request objects here"))
        } else if find("request_uri").is_some() {
            Some(("request_uri_not_supported", "no request objects here"))
        } else if find("response_type").is_none() {
            Some(("invalid_request", "response_type is missing"))
        } else if find("response_type") != Some("code") {
            Some(("unsupported_response_type", "only code"))
        } else if !matches!(find("response_mode"), None | Some("form_post" | "query")) {
            Some(("invalid_request", "only query and form_post"))
        } else if !scope.split(' ').any(|name| name == "openid") {
            Some(("invalid_scope", "openid is missing"))
        } else if !is_s256 && !config.lenient_pkce {
            Some(("invalid_request", "PKCE with S256 is required"))
        } else if prompt_none && prompts.len() > 1 {
            Some(("invalid_request", "prompt none stands alone"))
        } else if max_age.is_err() {
            Some(("invalid_request", "max_age is no number"))
        } else {
            None
        };
        if let Some((code, description)) = problem {
            return Err(Refusal::Redirect { target, code, description });
        }
        Ok(Self {
            scope,
            challenge,
            nonce: owned("nonce"),
            acr: find("acr_values").and_then(|values| values.split(' ').next()).map(str::to_owned),
            max_age: max_age.unwrap_or_default(),
            prompt_none,
            wants_interaction: prompts.iter().any(|p| matches!(*p, "login" | "select_account")),
            target,
        })
    }

    /// Issues a code for a signed-in person.
    pub(super) fn grant(&self, inner: &Inner, session: &Session) -> Response<Bytes> {
        let code = encoding::random_token(24);
        let record = Code {
            grant: Grant {
                sub: session.sub.clone(),
                scope: self.scope.clone(),
                sid: session.sid.clone(),
                auth_time: session.auth_time,
                acr: self.acr.clone(),
                nonce: self.nonce.clone(),
                family: encoding::random_token(12),
            },
            redirect_uri: self.target.redirect_uri.clone(),
            challenge: self.challenge.clone(),
            issued: inner.now(),
            redeemed: false,
        };
        inner.state().codes.insert(code.clone(), record);
        self.target.deliver(inner, vec![("code".to_owned(), code)])
    }
}

/// Where an authorization response goes.
pub(super) struct Target {
    redirect_uri: String,
    form_post: bool,
    state: Option<String>,
}

impl Target {
    pub(super) fn refuse(&self, inner: &Inner, code: &str, description: &str) -> Response<Bytes> {
        let pairs = [("error", code), ("error_description", description)];
        let owned = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
        self.deliver(inner, owned.to_vec())
    }

    pub(super) fn deliver(
        &self,
        inner: &Inner,
        mut pairs: Vec<(String, String)>,
    ) -> Response<Bytes> {
        if let Some(state) = &self.state {
            pairs.push(("state".to_owned(), state.clone()));
        }
        pairs.push(("iss".to_owned(), inner.issuer.clone()));
        inner.hook(|faults| faults.authorization_response.clone(), &mut pairs);
        if self.form_post {
            return endpoints::no_store(pages::form_post(&self.redirect_uri, &pairs));
        }
        see_other(&with_query(&self.redirect_uri, &pairs))
    }
}

/// Why an authorization request gets nowhere.
pub(super) enum Refusal {
    Page(&'static str),
    Redirect { target: Target, code: &'static str, description: &'static str },
}

impl Refusal {
    pub(super) fn into_reply(self, inner: &Inner) -> Response<Bytes> {
        match self {
            Self::Page(message) => pages::error(StatusCode::BAD_REQUEST, message),
            Self::Redirect { target, code, description } => target.refuse(inner, code, description),
        }
    }
}

/// Tells whether a URI may be redirected to: a registered one, or, when none is registered, any
/// `http` loopback one.
pub(super) fn is_registered(registered: &[String], uri: &str) -> bool {
    if HeaderValue::from_str(uri).is_err() {
        return false;
    }
    if !registered.is_empty() {
        return registered.iter().any(|known| known == uri);
    }
    Url::parse(uri).is_ok_and(|url| {
        let is_loopback = match url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => Ipv4Addr::is_loopback(&address),
            Some(Host::Ipv6(address)) => Ipv6Addr::is_loopback(&address),
            None => false,
        };
        url.scheme() == "http" && is_loopback && url.fragment().is_none()
    })
}

/// Appends pairs to a URI's query, leaving the URI as it is otherwise.
pub(super) fn with_query(uri: &str, pairs: &[(String, String)]) -> String {
    if pairs.is_empty() {
        return uri.to_owned();
    }
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    let joint = if uri.contains('?') { '&' } else { '?' };
    format!("{uri}{joint}{query}")
}

pub(super) fn see_other(to: &str) -> Response<Bytes> {
    let Ok(location) = HeaderValue::from_str(to) else {
        return pages::error(StatusCode::BAD_REQUEST, "This address cannot be redirected to.");
    };
    let mut reply = Response::new(Bytes::new());
    *reply.status_mut() = StatusCode::SEE_OTHER;
    reply.headers_mut().insert(header::LOCATION, location);
    endpoints::no_store(reply)
}
