//! Where a store is, read from its URL.

use ::redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, RedisConnectionInfo};

use crate::names::InvalidName;

/// A URL as it was understood.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) servers: Servers,
    /// User, password and database.
    pub(super) settings: RedisConnectionInfo,
    pub(super) tls: bool,
}

/// Whom to connect to.
#[derive(Clone)]
pub(super) enum Servers {
    Cluster(Vec<ConnectionAddr>),
    One(ConnectionAddr),
    Sentinel { sentinels: Vec<ConnectionAddr>, service: String },
}

const FORMS: &str = "redis://[user[:password]@]host[:port][/database], rediss://, redis+unix:///path, \
                     redis+sentinel://[user[:password]@]host[:port],…/service[/database] or \
                     redis+cluster://[user[:password]@]host[:port],… (rediss+… with TLS)";
const SENTINEL_PORT: u16 = 26_379;
const SERVER_PORT: u16 = 6_379;

impl Place {
    /// Reads a URL; the error does not repeat it, as it may hold a password.
    pub(super) fn parse(url: &str) -> Result<Self, InvalidName> {
        match url.split_once("://") {
            Some((scheme @ ("redis+sentinel" | "rediss+sentinel"), rest)) => {
                sentinel(scheme.starts_with("rediss"), rest)
            }
            Some((scheme @ ("redis+cluster" | "rediss+cluster"), rest)) => {
                cluster(scheme.starts_with("rediss"), rest)
            }
            _ => one(url),
        }
    }
}

fn one(url: &str) -> Result<Place, InvalidName> {
    let info = url.into_connection_info().map_err(|_| bad(FORMS))?;
    let tls = match info.addr() {
        ConnectionAddr::TcpTls { insecure: true, .. } => {
            return Err(bad("a server whose certificate is not checked is not supported"));
        }
        ConnectionAddr::TcpTls { .. } => true,
        _ => false,
    };
    let settings = info.redis_settings().clone();
    if settings.db() < 0 {
        return Err(bad("databases are numbered from 0"));
    }
    Ok(Place { servers: Servers::One(info.addr().clone()), settings, tls })
}

fn sentinel(tls: bool, rest: &str) -> Result<Place, InvalidName> {
    let Several { hosts, path, who } = several(rest)?;
    let (service, database) = path.split_once('/').unwrap_or((path, ""));
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if service.is_empty() || !service.bytes().all(plain) {
        return Err(bad("the name of the service that the sentinels watch follows the hosts"));
    }
    // The redis crate reads user, password and database of an ordinary URL.
    let settings = settings(who, database)?;
    let sentinels = addresses(&hosts, tls, SENTINEL_PORT)?;
    Ok(Place {
        servers: Servers::Sentinel { sentinels, service: service.to_owned() },
        settings,
        tls,
    })
}

fn cluster(tls: bool, rest: &str) -> Result<Place, InvalidName> {
    let Several { hosts, path, who } = several(rest)?;
    if !matches!(path, "" | "0") {
        return Err(bad("a cluster has no databases"));
    }
    let servers = Servers::Cluster(addresses(&hosts, tls, SERVER_PORT)?);
    Ok(Place { servers, settings: settings(who, "")?, tls })
}

/// The parts of a URL that names several hosts.
struct Several<'a> {
    hosts: Vec<&'a str>,
    path: &'a str,
    who: &'a str,
}

fn several(rest: &str) -> Result<Several<'_>, InvalidName> {
    if rest.contains(['?', '#']) {
        return Err(bad("neither a query nor a fragment is understood here"));
    }
    // A slash of the password is percent-encoded, as in every URL.
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (who, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
    Ok(Several { hosts: hosts.split(',').collect(), path, who })
}

fn settings(who: &str, database: &str) -> Result<RedisConnectionInfo, InvalidName> {
    let url = format!("redis://{who}{}localhost/{database}", if who.is_empty() { "" } else { "@" });
    let info = parsed(&url)?;
    if info.redis_settings().db() < 0 {
        return Err(bad("databases are numbered from 0"));
    }
    Ok(info.redis_settings().clone())
}

fn addresses(
    hosts: &[&str],
    tls: bool,
    default_port: u16,
) -> Result<Vec<ConnectionAddr>, InvalidName> {
    let address = |host: &&str| {
        let unsaid =
            !host.trim_end_matches(']').rsplit(']').next().is_some_and(|end| end.contains(':'))
                || host.ends_with(']');
        let port = if unsaid { format!(":{default_port}") } else { String::new() };
        let info = parsed(&format!("redis://{host}{port}"))?;
        match info.addr() {
            ConnectionAddr::Tcp(host, port) if tls => Ok(ConnectionAddr::TcpTls {
                host: host.clone(),
                port: *port,
                insecure: false,
                tls_params: None,
            }),
            ConnectionAddr::Tcp(..) => Ok(info.addr().clone()),
            _ => Err(bad(FORMS)),
        }
    };
    hosts.iter().map(address).collect()
}

fn parsed(url: &str) -> Result<ConnectionInfo, InvalidName> {
    url.into_connection_info().map_err(|_| bad(FORMS))
}

pub(super) fn bad(why: &'static str) -> InvalidName {
    InvalidName::new("Redis URL", why, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(addresses: &[ConnectionAddr]) -> Vec<String> {
        addresses.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn urls_that_name_several_hosts_are_read() {
        let place =
            Place::parse("redis+sentinel://app:p%40ss@a:1,b,[::1]:3,[::2]/primary/4").unwrap();
        let Servers::Sentinel { sentinels, service } = place.servers else { panic!("a sentinel") };
        assert_eq!(shown(&sentinels), ["a:1", "b:26379", "::1:3", "::2:26379"]);
        assert_eq!(service, "primary");
        assert_eq!(place.settings.username(), Some("app"));
        assert_eq!(place.settings.password(), Some("p@ss"));
        assert_eq!((place.settings.db(), place.tls), (4, false));

        let place = Place::parse("rediss+cluster://:secret@a:7000,b").unwrap();
        let Servers::Cluster(seeds) = place.servers else { panic!("a cluster") };
        assert_eq!(shown(&seeds), ["a:7000", "b:6379"]);
        assert_eq!((place.settings.password(), place.tls), (Some("secret"), true));
    }

    #[test]
    fn what_cannot_be_used_is_refused_and_not_repeated() {
        for url in [
            "redis+sentinel://user:s3cret@a:1",
            "redis+sentinel://user:s3cret@a:1/",
            "redis+sentinel://user:s3cret@a:1//2",
            "redis+sentinel://user:s3cret@/primary",
            "redis+sentinel://user:s3cret@a:1,,b/primary",
            "redis+sentinel://user:s3cret@a:port/primary",
            "redis+sentinel://user:s3cret@a/primary/database",
            "redis+sentinel://user:s3cret@a/primary/-1",
            "redis+sentinel://user:s3cret@a/primary?x=y",
            "redis+sentinel://user:s3cret@a/pri mary",
            "redis+cluster://user:s3cret@a:7000/1",
            "redis+cluster://user:s3cret@",
            "redis+cluster://",
            "redis+cluster://user:s3cret@a:99999",
            "redis+cluster://user:s3cret@0.0.0.0:7000",
            "rediss+cluster://user:s3cret@a#insecure",
        ] {
            let error = Place::parse(url).err().unwrap_or_else(|| panic!("{url} is accepted"));
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{url}: {error}");
        }
    }
}
