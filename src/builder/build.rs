//! From settings to a layer: what is wrong with them, and what is made of them.

use std::sync::Arc;

use super::{BuildError, Builder, Config};
use crate::admission::Gate;
use crate::cookies::Cookies;
use crate::flow::Core;
use crate::flow::endings::Endings;
use crate::flow::frontchannel::Allowance;
use crate::layer::PkceAuthLayer;
use crate::limit::ClientLimit;
use crate::names::is_loopback;
use crate::oidc::http::{HttpClient, Outbound};
use crate::oidc::keys::SigningAlgorithm;
use crate::oidc::metadata::Metadata;
use crate::oidc::provider::Provider;
use crate::oidc::settings::Settings;
use crate::paths::Paths;
use crate::pending::{self, Pending, PendingLogins};
use crate::seal::{CookieKeys, Sealer};
use crate::session::Sessions;
use crate::session::keeper::{self, Keeper};
use crate::session::refresher::Refresher;
use crate::session::revocation::Revocation;
use crate::store::{BoundedStore, MemoryStore, Store};

impl<R> Builder<R> {
    /// Makes the layer. Nothing is fetched: it starts while the provider is down.
    ///
    /// # Errors
    ///
    /// [`BuildError`] with every problem of the settings, each with the value that causes it.
    pub fn build(self) -> Result<PkceAuthLayer<R>, BuildError> {
        let (core, gate) = self.config.build()?;
        Ok(PkceAuthLayer { core: Arc::new(core), gate: Arc::new(gate), responder: self.responder })
    }
}

impl Config {
    fn build(self) -> Result<(Core, Gate), BuildError> {
        let mut problems = Vec::new();
        self.judge(&mut problems);
        let allow_http = self.danger_http_provider
            || (self.public_url.is_loopback() && !self.public_url.is_https());
        let metadata = match self.endpoints.as_ref().map(|given| given.judge(allow_http)) {
            None => None,
            Some(Ok(metadata)) => Some(metadata),
            Some(Err(error)) => {
                problems.push(error.to_string());
                None
            }
        };
        for (what, issuer) in
            [("issuer", Some(&self.issuer)), ("internal issuer", self.internal_issuer.as_ref())]
        {
            let Some(issuer) = issuer else { continue };
            let url = url::Url::parse(issuer.as_str()).ok();
            let plain = url.as_ref().is_some_and(|url| url.scheme() == "http");
            let local = url.as_ref().is_some_and(is_loopback);
            if plain && !(allow_http && local) && self.endpoints.is_none() {
                problems.push(format!(
                    "{what} {:?}: https is needed, except on loopback beside a public URL on \
                     loopback",
                    issuer.as_str()
                ));
            }
        }
        if let (Some(internal), Some(_)) = (&self.internal_issuer, &self.endpoints) {
            problems.push(format!(
                "internal issuer {:?}: endpoints are given by hand, so it is never asked",
                internal.as_str()
            ));
        }
        let http_client = self.http_client.clone().or_else(default_client);
        if http_client.is_none() {
            problems.push("HTTP client: none given, and feature `hyper-client` is off".to_owned());
        }
        let (Some(http_client), true) = (http_client, problems.is_empty()) else {
            return Err(BuildError { problems });
        };
        Ok(self.assemble(metadata, http_client, allow_http))
    }

    fn assemble(
        self,
        endpoints: Option<Metadata>,
        http_client: Arc<dyn HttpClient>,
        allow_http: bool,
    ) -> (Core, Gate) {
        let keys = self.cookie_keys.unwrap_or_else(|| {
            tracing::warn!("no cookie keys given: sessions end with this process");
            CookieKeys::random()
        });
        let bounded =
            |store| -> Arc<dyn Store> { Arc::new(BoundedStore::new(store, self.store_time_out)) };
        let store = self.store.map(bounded);
        let shared = store.as_ref().is_some_and(|store| store.shared());
        let sessions =
            self.sessions.unwrap_or(if shared { Sessions::Stored } else { Sessions::Sealed });
        let pending = self.pending.unwrap_or(if shared { Pending::Store } else { Pending::Sealed });
        if shared && pending == Pending::Memory {
            tracing::warn!("pending logins in memory: a callback must reach the pod of its start");
        }
        let clock = self.clock;
        let sealer = Sealer::new(
            keys,
            &[
                // Another provider is another application: its logins and sessions are not ours.
                self.issuer.as_str(),
                self.client_id.as_str(),
                self.public_url.origin(),
                self.public_url.mount(),
                &self.prefix,
            ],
        );
        let own_paths = format!("{}{}", self.public_url.mount(), self.prefix);
        let cookies = Arc::new(Cookies::new(
            sealer.instance(),
            self.public_url.is_https(),
            self.form_post,
            &format!("{own_paths}/logout"),
        ));
        let mut scopes = vec!["openid".to_owned()];
        scopes.extend(self.scopes.into_iter().filter(|scope| scope != "openid"));
        let algorithms = match self.algorithms {
            given if given.is_empty() => vec![SigningAlgorithm::default()],
            given => given,
        };
        let provider = Arc::new(Provider::new(
            Settings {
                issuer: self.issuer.clone(),
                internal_issuer: self.internal_issuer,
                client_id: self.client_id,
                client_secret: self.client_secret,
                client_auth: self.client_auth,
                redirect_uri: self.public_url.absolute(&format!("{}/callback", self.prefix)),
                // `openidconnect` adds `openid` itself.
                scopes: scopes.split_off(1),
                extra_parameters: self.extra_parameters,
                algorithms,
                trusted_audiences: self.trusted_audiences,
                userinfo: self.userinfo,
                form_post: self.form_post,
                max_age: self.max_age,
                acr: self.acr,
                leeway: self.leeway,
                logout_type_required: self.logout_type_required,
                logout_without_exp: self.logout_without_exp,
                allow_http,
                endpoints,
            },
            Outbound::new(http_client, self.time_out),
            clock.clone(),
        ));
        // Marks need a place even where there is no store: a logout then holds in this process.
        let marks: Arc<dyn Store> = store
            .clone()
            .unwrap_or_else(|| Arc::new(MemoryStore::with_clock(clock.clone(), 1_000_000)));
        let revocation =
            Revocation::new(marks, *sealer.instance(), &self.store_prefix, clock.clone());
        let rules = Arc::new(self.rules);
        let keeper = Keeper::new(
            keeper::Settings {
                kind: sessions,
                issuer: self.issuer.as_str().to_owned(),
                prefix: self.store_prefix.clone(),
                lifetimes: self.lifetimes,
                max_cookie_bytes: self.max_cookie_bytes,
                revocation_grace: self.revocation_grace,
                cache_capacity: self.cached_sessions,
                record_sids: self.frontchannel_logout,
                rules: rules.clone(),
            },
            store.clone(),
            revocation,
            sealer.clone(),
            cookies.clone(),
            clock.clone(),
        );
        let refresher = Arc::new(Refresher::new(
            keeper.clone(),
            provider.clone(),
            clock.clone(),
            self.after_crash,
            self.refresh_failure,
            self.claims.clone(),
        ));
        let pending = PendingLogins::new(pending::Settings {
            kind: pending,
            store,
            sealer,
            cookies: cookies.clone(),
            clock: clock.clone(),
            prefix: self.store_prefix,
            origin: self.public_url.origin().to_owned(),
            own_paths,
            ttl: self.login_ttl,
            leeway: self.leeway,
            most_stored: self.stored_logins,
        });
        let gate = Gate {
            paths: Paths::new(&self.prefix, self.open, self.optional, self.health)
                .with_logouts(self.backchannel_logout.unwrap_or(shared), self.frontchannel_logout),
            rules,
            identity_headers: self.identity_headers,
            forward_authorization: self.forward_authorization,
            allow_preflight: self.allow_preflight,
            anonymous_on_outage: self.anonymous_on_outage,
        };
        let core = Core {
            provider,
            keeper,
            refresher,
            pending,
            client_limit: self.client_limit.map(|limit| ClientLimit::new(limit, clock.clone())),
            cookies,
            clock,
            public_url: self.public_url,
            prefix: self.prefix,
            claims: self.claims,
            csrf_header: self.csrf_header,
            endings: Endings::default(),
            unsigned: Allowance::default(),
        };
        (core, gate)
    }
}

#[cfg(feature = "hyper-client")]
#[allow(clippy::unnecessary_wraps, reason = "without the feature there is none")]
fn default_client() -> Option<Arc<dyn HttpClient>> {
    Some(Arc::new(crate::oidc::hyper_client::HyperClient::new()))
}

#[cfg(not(feature = "hyper-client"))]
fn default_client() -> Option<Arc<dyn HttpClient>> {
    None
}
