//! Where a request comes from: for the log, `X-Forwarded-For` and the limit of logins, never for who
//! may come in.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::HeaderMap;
use ipnet::IpNet;
use tower_pkce_auth::ClientAddress;

/// Proxies whose `X-Forwarded-For` is believed.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies(Arc<[IpNet]>);

/// Where one request comes from.
#[derive(Clone, Debug)]
pub struct Client {
    /// The other end of the connection.
    pub peer: IpAddr,
    /// What our own proxies say of the way before that: from who asked to the last hop. What stands
    /// before who asked in `X-Forwarded-For` is hearsay, and not here.
    pub hops: Vec<IpAddr>,
    /// Who asked, as far as can be known.
    pub address: IpAddr,
    /// Whether that is one client, and no proxy that speaks for many.
    alone: bool,
}

impl Client {
    /// Returns whose logins are counted together, if that is known.
    pub fn counted(&self) -> Option<ClientAddress> {
        self.alone.then(|| ClientAddress::new(self.address))
    }
}

impl TrustedProxies {
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks.into())
    }

    /// Tells who asked: the peer, or what a trusted proxy says of it.
    ///
    /// Each proxy adds its own peer at the end of the list, so the list is read from its end, as
    /// far as it was written by proxies that are trusted.
    pub fn client(&self, peer: SocketAddr, headers: &HeaderMap) -> Client {
        let peer = peer.ip().to_canonical();
        let mut hops = Vec::new();
        if self.trusts(peer) {
            for hop in forwarded_for(headers).rev() {
                let Some(hop) = hop else { break };
                hops.push(hop);
                if !self.trusts(hop) {
                    break;
                }
            }
        }
        hops.reverse();
        let address = hops.first().copied().unwrap_or(peer);
        // A neighbour that speaks for somebody may be a proxy that nobody told us of: to limit it
        // would be to limit everybody.
        let proxy = address == peer && is_near(peer) && headers.contains_key("x-forwarded-for");
        let alone = !self.trusts(address) && !proxy;
        Client { peer, hops, address, alone }
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// Tells whether an address is of a private network, where proxies stand.
fn is_near(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let shared = v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64;
            v4.is_private() || v4.is_loopback() || v4.is_link_local() || shared
        }
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

/// Reads a network, or one address.
///
/// # Errors
///
/// A text that says what is wrong.
pub fn parse_network(text: &str) -> Result<IpNet, String> {
    text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).map_err(|_| {
        format!("trusted proxy {text:?}: neither a network (10.0.0.0/8) nor an address")
    })
}

fn forwarded_for(headers: &HeaderMap) -> impl DoubleEndedIterator<Item = Option<IpAddr>> {
    headers
        .get_all("x-forwarded-for")
        .iter()
        .collect::<Vec<_>>()
        .into_iter()
        .flat_map(|value| value.to_str().unwrap_or("").split(','))
        .map(|hop| parse_hop(hop.trim()))
}

/// Some proxies write the port too.
fn parse_hop(hop: &str) -> Option<IpAddr> {
    let address = hop
        .parse::<IpAddr>()
        .or_else(|_| hop.parse::<SocketAddr>().map(|address| address.ip()))
        .or_else(|_| hop.trim_start_matches('[').trim_end_matches(']').parse());
    address.ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m06_only_a_trusted_proxy_says_who_asked() {
        let trusted = ["10.0.0.0/8", "127.0.0.1", "fd00::/8"];
        let trusted = trusted.map(|text| parse_network(text).unwrap());
        let trusted = TrustedProxies::new(trusted.into());
        for (peer, fields, address) in [
            ("192.0.2.1:5", &["1.2.3.4"][..], "192.0.2.1"),
            ("10.0.0.1:5", &["1.2.3.4"], "1.2.3.4"),
            ("[::ffff:10.0.0.1]:5", &["1.2.3.4"], "1.2.3.4"),
            ("10.0.0.1:5", &["6.6.6.6, 1.2.3.4"], "1.2.3.4"),
            ("10.0.0.1:5", &["6.6.6.6, 1.2.3.4, 10.0.0.2", "127.0.0.1"], "1.2.3.4"),
            ("10.0.0.1:5", &["10.0.0.3"], "10.0.0.3"),
            ("10.0.0.1:5", &["6.6.6.6, what"], "10.0.0.1"),
            ("10.0.0.1:5", &["1.2.3.4:567"], "1.2.3.4"),
            ("10.0.0.1:5", &["[2001:db8::1]:567"], "2001:db8::1"),
            ("10.0.0.1:5", &["[2001:db8::1]"], "2001:db8::1"),
            ("[fd00::1]:5", &["2001:db8::1"], "2001:db8::1"),
            ("10.0.0.1:5", &[], "10.0.0.1"),
        ] {
            let mut headers = HeaderMap::new();
            for field in fields {
                headers.append("x-forwarded-for", field.parse().unwrap());
            }
            let client = trusted.client(peer.parse().unwrap(), &headers);
            assert_eq!(client.address.to_string(), address, "{peer} {fields:?}");
            let first = client.hops.first().unwrap_or(&client.peer);
            assert_eq!(first.to_string(), address, "{peer} {fields:?}");
        }
        assert!(parse_network("10.0.0.0/33").is_err());
    }

    #[test]
    fn only_a_client_is_counted_and_never_a_proxy_for_all_behind_it() {
        let trusted = TrustedProxies::new(vec![parse_network("10.0.0.0/8").unwrap()]);
        for (peer, field, counted) in [
            ("192.0.2.1:5", None, Some("192.0.2.1")),
            // Whoever comes from afar cannot hide by a field of their own.
            ("192.0.2.1:5", Some("1.2.3.4"), Some("192.0.2.1")),
            ("10.0.0.1:5", Some("1.2.3.4"), Some("1.2.3.4")),
            ("10.0.0.1:5", Some("192.168.7.7"), Some("192.168.7.7")),
            ("10.0.0.1:5", None, None),
            ("10.0.0.1:5", Some("what"), None),
            ("10.0.0.1:5", Some("10.0.0.3"), None),
            ("192.168.0.1:5", None, Some("192.168.0.1")),
            ("127.0.0.1:5", None, Some("127.0.0.1")),
            // Proxies that were not named.
            ("192.168.0.1:5", Some("1.2.3.4"), None),
            ("100.64.0.1:5", Some("1.2.3.4"), None),
            ("[::1]:5", Some("1.2.3.4"), None),
            ("[fd00::1]:5", Some("1.2.3.4"), None),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(field) = field {
                headers.append("x-forwarded-for", field.parse().unwrap());
            }
            let client = trusted.client(peer.parse().unwrap(), &headers);
            let expected = counted.map(|address| ClientAddress::new(address.parse().unwrap()));
            assert!(client.counted() == expected, "{peer} {field:?}");
        }
    }
}
