//! What is wrong with settings, judged together: every problem with the value that causes it.

use std::time::Duration;

use super::Config;
use crate::oidc::authorize::RESERVED;
use crate::oidc::client_auth::ClientAuth;
use crate::paths::is_plain;
use crate::pending::Pending;
use crate::rules::is_domain;
use crate::session::Sessions;
use crate::session::revocation::MARK_TTL;

/// No leeway for clocks may exceed this: a token that expired longer ago is expired.
const MAX_LEEWAY: Duration = Duration::from_secs(300);
/// No session outlives the marks that may end it.
const MAX_LIFETIME: Duration = MARK_TTL;

impl Config {
    pub(super) fn judge(&self, problems: &mut Vec<String>) {
        let mut problem = |text: String| problems.push(text);
        match (&self.client_secret, self.client_auth) {
            (None, auth) if auth != ClientAuth::None => problem(format!(
                "client secret: none given, and `{}` needs one; a client without says \
                 `public_client`",
                auth.name()
            )),
            (Some(_), ClientAuth::None) => {
                problem("client authentication: `none` sends no secret, but one is given".into());
            }
            _ => {}
        }
        if let Some(name) = &self.csrf_header
            && !name.as_str().starts_with("x-")
        {
            problem(format!(
                "CSRF header {name:?}: a name beginning with \"x-\" is needed; others a page may send \
                 unasked"
            ));
        }
        if self.client_id.as_str().is_empty() {
            problem("client id \"\": it is empty".into());
        }
        if self.cookie_keys.is_none() && !self.public_url.is_loopback() {
            problem(format!(
                "cookie keys: none given; every pod of {} needs the same ring",
                self.public_url
            ));
        }
        if !self.public_url.is_https() && !self.public_url.is_loopback() && !self.danger_http {
            problem(format!(
                "public URL \"{}\": without TLS only loopback will do; it is what \
                 browsers ask for, not the address listened on",
                self.public_url
            ));
        }
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"/-_.~".contains(&b);
        if !is_plain(&self.prefix)
            || !self.prefix.bytes().all(plain)
            || self.prefix.len() < 2
            || self.prefix.ends_with('/')
        {
            problem(format!("prefix {:?}: a plain path such as \"/auth\" is needed", self.prefix));
        }
        for (name, value) in &self.extra_parameters {
            if name.is_empty() {
                problem(format!("extra parameter {name:?} = {value:?}: it has no name"));
            }
            if RESERVED.contains(&name.as_str()) {
                problem(format!("extra parameter {name:?} = {value:?}: the layer sets it itself"));
            }
        }
        for (what, values) in [
            ("claim", &self.claims),
            ("trusted audience", &self.trusted_audiences),
            ("acr", &self.acr),
        ] {
            for value in values {
                if value.is_empty() || (what == "acr" && value.contains(' ')) {
                    problem(format!("{what} {value:?}: one value that is not empty is needed"));
                }
            }
        }
        for scope in &self.scopes {
            let valid =
                |b: u8| b == b'!' || (b'#'..=b'[').contains(&b) || (b']'..=b'~').contains(&b);
            if scope.is_empty() || !scope.bytes().all(valid) {
                problem(format!("scope {scope:?}: one word of RFC 6749 section 3.3 is needed"));
            }
        }
        for domain in &self.rules.email_domains {
            if !is_domain(domain) {
                problem(format!("e-mail domain {domain:?}: a domain such as \"example.com\""));
            }
        }
        if self.rules.groups.iter().any(String::is_empty) {
            problem("group \"\": the name of a group is needed".into());
        }
        let store = self.store.as_ref();
        if store.is_none() && self.sessions == Some(Sessions::Stored) {
            problem("sessions: stored ones need a store".into());
        }
        if store.is_none() && self.pending == Some(Pending::Store) {
            problem("pending logins: no store is given to keep them in".into());
        }
        if !store.is_some_and(|store| store.shared()) {
            for (what, asked) in [
                ("back-channel", self.backchannel_logout == Some(true)),
                ("front-channel", self.frontchannel_logout),
            ] {
                if asked {
                    problem(format!(
                        "{what} logout: it needs a shared store; without one it would reach the \
                         sessions of one process and promise more"
                    ));
                }
            }
        }
        if self.store_prefix.is_empty()
            || !self.store_prefix.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        {
            problem(format!("store prefix {:?}: letters, digits, `-_.`", self.store_prefix));
        }
        if self.client_limit == Some(0) {
            problem(
                "client limit 0: nobody could sign in; `no_client_limit` switches it off".into(),
            );
        }
        if self.leeway > MAX_LEEWAY {
            problem(format!("leeway {:?}: at most {MAX_LEEWAY:?}", self.leeway));
        }
        if self.max_cookie_bytes > 12 * 1024 || self.max_cookie_bytes < 512 {
            problem(format!("cookie bytes {}: from 512 to 12288", self.max_cookie_bytes));
        }
        let second = Duration::from_secs(1);
        for (name, value) in [
            ("login lifetime", self.login_ttl),
            ("idle lifetime", self.lifetimes.idle),
            ("absolute lifetime", self.lifetimes.absolute),
        ] {
            if value < second || value > MAX_LIFETIME {
                problem(format!("{name} {value:?}: from 1 s to 30 days"));
            }
        }
        for (name, time_out) in [("provider", self.time_out), ("store", self.store_time_out)] {
            if time_out.is_zero() {
                problem(format!("{name} time-out: zero lets no call succeed"));
            }
        }
    }
}
