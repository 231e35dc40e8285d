//! Sets up a store in Redis.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ::redis::{Client, ClientTlsConfig, ConnectionAddr, RedisConnectionInfo, TlsCertificates};
use rustls::crypto::aws_lc_rs;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::cluster::Cluster;
use super::connect::{Access, Address, TimeOuts};
use super::pair::Pair;
use super::place::{Place, Servers, bad};
use super::sentinel::{Sentinel, without_database};
use super::{RedisStore, Way};
use crate::names::InvalidName;

/// Sets up a [`RedisStore`].
///
/// # Examples
///
/// ```no_run
/// use std::time::Duration;
/// use tower_pkce_auth::RedisStore;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = RedisStore::builder("rediss://auth:password@redis.internal/3")
///     .ca_pem(&std::fs::read("/etc/redis/ca.pem")?)
///     .response_timeout(Duration::from_millis(500))
///     .build()?;
/// # Ok(()) }
/// ```
#[must_use]
pub struct RedisStoreBuilder {
    url: String,
    ca: Option<Vec<u8>>,
    client: Option<(Vec<u8>, Vec<u8>)>,
    sentinel: Option<(Option<String>, String)>,
    cached: usize,
    time_outs: TimeOuts,
}

impl RedisStoreBuilder {
    pub(super) fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            ca: None,
            client: None,
            sentinel: None,
            cached: 50_000,
            time_outs: TimeOuts {
                connect: Duration::from_secs(1),
                response: Duration::from_millis(900),
            },
        }
    }

    /// Trusts the certificate authorities of a PEM file for `rediss://`, and no others. The web's
    /// are trusted otherwise.
    pub fn ca_pem(mut self, pem: &[u8]) -> Self {
        self.ca = Some(pem.to_vec());
        self
    }

    /// Shows this certificate to the server, with its key; both in PEM, the certificate first with
    /// those that lead to its authority.
    pub fn client_certificate_pem(mut self, certificate: &[u8], key: &[u8]) -> Self {
        self.client = Some((certificate.to_vec(), key.to_vec()));
        self
    }

    /// Sets user and password for the sentinels. They are asked with those of the URL by default.
    pub fn sentinel_password(mut self, user: Option<&str>, password: &str) -> Self {
        self.sentinel = Some((user.map(str::to_owned), password.to_owned()));
        self
    }

    /// Sets how many entries each server's local cache holds at most (default 50,000; zero for
    /// none). A session takes about five, with those of its sign-out marks, and in all what its
    /// record takes in the store (1 KB to 5 KB) and 500 bytes.
    pub const fn cached_entries(mut self, entries: usize) -> Self {
        self.cached = entries;
        self
    }

    /// Gives up on a command after this time (default 900 ms); after two such in a row the
    /// server counts as away until a probe succeeds.
    ///
    /// Keep it below the layer's own limit ([`Builder::store_timeout`](crate::Builder::store_timeout),
    /// 1 s): a call that the layer gives up first does not tell that the link swallows commands.
    pub const fn response_timeout(mut self, time_out: Duration) -> Self {
        self.time_outs.response = time_out;
        self
    }

    /// Gives up on a connection that is not made after this time (default 1 s).
    pub const fn connect_timeout(mut self, time_out: Duration) -> Self {
        self.time_outs.connect = time_out;
        self
    }

    /// Makes the store; nothing is connected yet.
    ///
    /// For TLS in a process without a default rustls provider, the one of aws-lc-rs becomes it: the
    /// redis crate takes none as an argument.
    ///
    /// # Errors
    ///
    /// If the URL or the certificates cannot be used. The message does not repeat the URL, which
    /// may hold a password.
    pub fn build(self) -> Result<RedisStore, InvalidName> {
        let place = Place::parse(&self.url)?;
        if place.tls {
            install_crypto_provider();
        } else if self.ca.is_some() {
            return Err(bad("a certificate authority is given, but the URL is not rediss://"));
        } else if self.client.is_some() {
            return Err(bad("a client certificate is given, but the URL is not rediss://"));
        }
        if self.time_outs.response.is_zero() || self.time_outs.connect.is_zero() {
            return Err(bad("a time-out of zero lets no call succeed"));
        }
        if self.sentinel.is_some() && !matches!(place.servers, Servers::Sentinel { .. }) {
            return Err(bad("a password for sentinels is given, but the URL names none"));
        }
        self.judge_certificates()?;
        let access = Access {
            settings: place.settings,
            tls: place.tls.then(|| TlsCertificates {
                client_tls: self
                    .client
                    .clone()
                    .map(|(client_cert, client_key)| ClientTlsConfig { client_cert, client_key }),
                root_cert: self.ca.clone(),
            }),
            time_outs: self.time_outs,
        };
        let unusable = |_| InvalidName::new("Redis TLS", "a certificate cannot be used", "");
        // Made once here, so that what is wrong with certificates is said now.
        let client = |addr: &ConnectionAddr| access.client(addr.clone()).map_err(unusable);
        let way = match place.servers {
            Servers::Cluster(seeds) => {
                client(&seeds[0])?;
                Way::Cluster(Arc::new(Cluster::new(seeds, access, self.cached)))
            }
            Servers::One(addr) => {
                let client: Client = client(&addr)?;
                let address = Address::server(client, false, self.time_outs);
                Way::One(Pair::new(&address, self.cached))
            }
            Servers::Sentinel { sentinels, service } => {
                client(&sentinels[0])?;
                let settings = match &self.sentinel {
                    None => without_database(access.settings.clone()),
                    Some((user, password)) => {
                        let settings = RedisConnectionInfo::default().set_password(password);
                        match user {
                            Some(user) => settings.set_username(user),
                            None => settings,
                        }
                    }
                };
                let asked = Access { settings, ..access.clone() };
                let sentinel =
                    Sentinel::new(service, &sentinels, &asked, access).map_err(unusable)?;
                Way::One(Pair::new(
                    &Address::master(Arc::new(sentinel), self.time_outs),
                    self.cached,
                ))
            }
        };
        Ok(RedisStore(Arc::new(way)))
    }

    fn judge_certificates(&self) -> Result<(), InvalidName> {
        let certificates = |pem: &[u8]| {
            let mut found = CertificateDer::pem_slice_iter(pem).peekable();
            found.peek().is_some() && found.all(|certificate| certificate.is_ok())
        };
        if self.ca.as_ref().is_some_and(|pem| !certificates(pem)) {
            return Err(InvalidName::new("Redis CA file", "no PEM certificate", ""));
        }
        if let Some((certificate, key)) = &self.client {
            let bad = |what, why| InvalidName::new(what, why, "");
            if !certificates(certificate) {
                return Err(bad("Redis client certificate", "no PEM certificate"));
            }
            let chain = CertificateDer::pem_slice_iter(certificate).flatten().collect();
            let key = PrivateKeyDer::from_pem_slice(key)
                .map_err(|_| bad("Redis client key", "no PEM key"))?;
            CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())
                .map_err(|_| bad("Redis client key", "it is not the certificate's"))?;
        }
        Ok(())
    }
}

impl fmt::Debug for RedisStoreBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStoreBuilder").finish_non_exhaustive()
    }
}

/// The redis crate builds its TLS configuration with the process's default provider and panics
/// where there is none, or two.
fn install_crypto_provider() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Somebody else may have been quicker; theirs will do.
        let _ = aws_lc_rs::default_provider().install_default();
    }
}
