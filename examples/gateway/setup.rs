//! From the flags to the services, with all that is wrong with them named at once.

use std::net::SocketAddr;

use http::Response;
use http::uri::Authority;
use hyper::body::Incoming;
use rustls::RootCertStore;
use tower::ServiceBuilder;
use tower::util::{BoxCloneSyncService, MapResponseLayer};
use tower_pkce_auth::{Guarded, PublicUrl, SessionGuardLayer};

use crate::body::Passed;
use crate::client_address::{TrustedProxies, parse_network};
use crate::drain::Runs;
use crate::forwarding::PublicOrigin;
use crate::front::Front;
use crate::options::Options;
use crate::problems::{Problems, parse_url, read, stand_in};
use crate::proxy::Proxy;
use crate::sign_in;
use crate::site::Site;
use crate::upstream::{self, Upstream, UpstreamUrl};

/// The body of every answer: of the layer's own pages, or the upstream's until the session ends.
pub type Answered = Passed<Guarded<Passed<Incoming>>>;

/// Makes the services, for a gateway that listens on `address`.
///
/// # Errors
///
/// Every problem of the flags and of the files they name.
pub fn set_up(
    options: &Options,
    address: SocketAddr,
    runs: Runs,
) -> Result<(Front, PublicUrl), Vec<String>> {
    let mut problems = Problems::default();
    let ca = options.ca_file.as_deref();
    let ca = ca.and_then(|path| problems.keep(read("CA file", path)));
    let upstream = options.upstream.as_deref().unwrap_or_default();
    let upstream = problems.keep(UpstreamUrl::parse(upstream));
    let roots =
        problems.keep(upstream::roots(ca.as_deref()).map_err(|why| format!("CA file: {why}")));
    let networks = options.trusted_proxy.iter().map(|text| parse_network(text));
    let networks: Vec<_> = networks.filter_map(|network| problems.keep(network)).collect();
    let public_url = public_url(options, address, &mut problems);
    let layer = sign_in::layer(options, public_url.clone(), ca.as_deref(), &mut problems);
    let problems = problems.found();
    let (Some(layer), Some(upstream), Some(roots), true) =
        (layer, upstream, roots, problems.is_empty())
    else {
        return Err(problems);
    };
    if options.allow_email_domain.is_empty() && options.allow_group.is_empty() {
        let issuer = options.issuer.as_deref().unwrap_or_default();
        tracing::warn!("everybody whom {issuer} signs in is let in");
    }
    let proxy = proxy(options, &upstream, roots, &public_url, runs.clone());
    let signed_in = ServiceBuilder::new()
        .layer(layer)
        .layer(MapResponseLayer::new(|response: Response<Guarded<Passed<Incoming>>>| {
            response.map(Passed::on)
        }))
        .layer(SessionGuardLayer::new())
        .service(proxy);
    let front = Front {
        trusted: TrustedProxies::new(networks),
        site: Site::new(&public_url),
        runs,
        inner: BoxCloneSyncService::new(signed_in),
    };
    Ok((front, public_url))
}

fn proxy(
    options: &Options,
    upstream: &UpstreamUrl,
    roots: RootCertStore,
    public_url: &PublicUrl,
    runs: Runs,
) -> Proxy {
    let public = PublicOrigin::new(public_url);
    let authority = Authority::try_from(public.host.as_bytes())
        .expect("the host and port of a URL are an authority");
    let upstream = Upstream::new(upstream, authority, roots);
    Proxy::new(upstream, public, options.upstream_timeout(), runs)
}

fn public_url(options: &Options, address: SocketAddr, problems: &mut Problems) -> PublicUrl {
    let given = match &options.public_url {
        Some(given) => problems.keep(parse_url("public URL", given)),
        None if address.ip().is_loopback() => format!("http://{address}").parse().ok(),
        None => problems.keep(Err(format!(
            "public URL: none given; it can be guessed on loopback only, not for {address}"
        ))),
    };
    given.unwrap_or_else(stand_in)
}
