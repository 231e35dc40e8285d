//! D08, F31: what is trusted on the way to the provider, and which way that is.
//!
//! The certificates in `tests/tls/` are signed by `ca.pem`, whose key was thrown away; they bear the
//! public key of `server.key`, which is good for nothing else.

mod support;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use rustls::{ServerConfig, ServerConnection, StreamOwned, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use support::{World, navigation, parameter, send};
use tower_pkce_auth::testing::provider::{Endpoint, SigningAlg, SigningKey, TestProvider};
use tower_pkce_auth::{ClientId, HyperClient, HyperClientBuilder, PkceAuthLayer, Userinfo};

const CA: &[u8] = include_bytes!("tls/ca.pem");
const KEY: &[u8] = include_bytes!("tls/server.key");
const GOOD: &[u8] = include_bytes!("tls/good.pem");
const WRONG_NAME: &[u8] = include_bytes!("tls/wrong_name.pem");
const EXPIRED: &[u8] = include_bytes!("tls/expired.pem");
const FUTURE: &[u8] = include_bytes!("tls/future.pem");
const SELF_SIGNED: &[u8] = include_bytes!("tls/self_signed.pem");
const BOTH: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12, &rustls::version::TLS13];

/// A provider behind TLS, as far as the start of a login needs one.
struct Server {
    port: u16,
    /// Requests that came through a handshake.
    requests: Arc<AtomicUsize>,
}

fn serve(certificate: &[u8], versions: &[&'static SupportedProtocolVersion], host: &str) -> Server {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(certificate).unwrap()],
            PrivateKeyDer::from_pem_slice(KEY).unwrap(),
        )
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let requests = Arc::new(AtomicUsize::new(0));
    let (count, issuer) = (requests.clone(), format!("https://{host}:{port}"));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (config, count, issuer) = (config.clone(), count.clone(), issuer.clone());
            // An error is a client that went away, as it should.
            thread::spawn(move || answer(stream.ok()?, config, &count, &issuer).ok());
        }
    });
    Server { port, requests }
}

fn answer(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    count: &AtomicUsize,
    issuer: &str,
) -> std::io::Result<()> {
    let connection = ServerConnection::new(config).map_err(std::io::Error::other)?;
    let mut reader = BufReader::new(StreamOwned::new(connection, stream));
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head)? == 0 {
                return Ok(());
            }
        }
        count.fetch_add(1, Ordering::SeqCst);
        let body = if head.contains("openid-configuration") {
            serde_json::json!({
                "issuer": issuer,
                "authorization_endpoint": format!("{issuer}/authorize"),
                "token_endpoint": format!("{issuer}/token"),
                "jwks_uri": format!("{issuer}/jwks"),
            })
        } else {
            serde_json::json!({"keys": [SigningKey::generate(SigningAlg::Es256).public_jwk()]})
        };
        let body = body.to_string();
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length:";
        write!(reader.get_mut(), "{head} {}\r\n\r\n{body}", body.len())?;
        reader.get_mut().flush()?;
    }
}

/// Starts a login; returns the status, the reason, and where it leads.
async fn start(world: &World, issuer: &str, client: HyperClient) -> (u16, String, String) {
    let layer = PkceAuthLayer::builder(
        issuer.parse().unwrap(),
        ClientId::new("app"),
        support::ORIGIN.parse().unwrap(),
    )
    .public_client()
    .http_client(client)
    .build()
    .unwrap();
    let app = world.app(&layer);
    let reply = send(&app, navigation(http::Method::GET, "/auth/login")).await;
    let location = reply.header("location").to_owned();
    (reply.status.as_u16(), reply.reason(), location)
}

fn private() -> HyperClient {
    HyperClient::builder().ca_pem(CA).unwrap().build()
}

#[tokio::test]
async fn d08_only_a_trusted_valid_certificate_of_this_very_name_will_do() {
    let world = World::new().await;
    for (name, certificate, host, client, good) in [
        ("the configured CA", GOOD, "localhost", private(), true),
        ("no CA configured", GOOD, "localhost", HyperClient::new(), false),
        ("the default client", GOOD, "localhost", HyperClient::default(), false),
        ("another name", WRONG_NAME, "localhost", private(), false),
        ("an address", GOOD, "127.0.0.1", private(), false),
        ("expired", EXPIRED, "localhost", private(), false),
        ("not yet valid", FUTURE, "localhost", private(), false),
        ("self-signed", SELF_SIGNED, "localhost", private(), false),
        ("self-signed, no CA", SELF_SIGNED, "localhost", HyperClient::new(), false),
    ] {
        let server = serve(certificate, BOTH, host);
        let issuer = format!("https://{host}:{}", server.port);
        let (status, reason, location) = start(&world, &issuer, client).await;
        let requests = server.requests.load(Ordering::SeqCst);
        if good {
            assert_eq!(status, 302, "D08: {name}: {reason}");
            assert!(location.starts_with(&issuer), "D08: {name}");
            assert!(parameter(&location, "state").is_some());
            assert_eq!(requests, 2, "D08: {name}");
        } else {
            assert_eq!(status, 503, "D08: {name}");
            assert_eq!(reason, "provider_unavailable/discovery_unreachable", "D08: {name}");
            assert_eq!(requests, 0, "D08: {name}: nothing is sent");
        }
    }
    assert!(HyperClient::builder().ca_pem(KEY).is_err(), "D08: a key is no CA");
}

#[tokio::test]
async fn f31_tls_1_2_and_1_3_are_spoken() {
    let world = World::new().await;
    for version in BOTH {
        let server = serve(GOOD, &[version], "localhost");
        let issuer = format!("https://localhost:{}", server.port);
        let (status, reason, _) = start(&world, &issuer, private()).await;
        assert_eq!(status, 302, "F31: {version:?}: {reason}");
    }
}

#[tokio::test]
async fn f31_nothing_older_is_spoken() {
    let world = World::new().await;
    for minor in [1, 2] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let issuer = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut hello = [0; 5];
            stream.read_exact(&mut hello).unwrap();
            let mut rest = vec![0; usize::from(u16::from_be_bytes([hello[3], hello[4]]))];
            stream.read_exact(&mut rest).unwrap();
            // A ServerHello of TLS 1.0 or 1.1: version, random, no session, AES-CBC, no extension.
            let mut body = vec![3, minor];
            body.extend([7; 32]);
            body.extend([0, 0xc0, 0x14, 0]);
            let length = u8::try_from(body.len()).unwrap();
            let record = [&[22, 3, minor, 0, length + 4, 2, 0, 0, length], &body[..]].concat();
            stream.write_all(&record).unwrap();
            let mut reply = [0; 7];
            stream.read_exact(&mut reply).unwrap();
            reply
        });
        let (status, _, _) = start(&world, &issuer, private()).await;
        assert_eq!(status, 503, "F31: 3.{minor}");
        let reply = server.join().unwrap();
        assert_eq!((reply[0], reply[5]), (21, 2), "F31: 3.{minor}: a fatal alert");
    }
}

/// A proxy that lets `CONNECT` through and notes what it was asked.
fn proxy() -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let heads = Arc::new(Mutex::new(Vec::new()));
    let noted = heads.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let noted = noted.clone();
            thread::spawn(move || tunnel(stream.ok()?, &noted).ok());
        }
    });
    (port, heads)
}

fn tunnel(stream: TcpStream, noted: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut client = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if client.read_line(&mut head)? == 0 {
            return Ok(());
        }
    }
    let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
    noted.lock().unwrap().push(head);
    // The provider is known to the proxy alone.
    let target = target.replace("provider.internal", "127.0.0.1");
    let server = TcpStream::connect(target)?;
    let mut client = client.into_inner();
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
    let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    thread::spawn(move || std::io::copy(&mut from_client, &mut to_server));
    std::io::copy(&mut &server, &mut client)?;
    Ok(())
}

#[tokio::test]
async fn https_goes_through_the_proxy_and_is_checked_all_the_same() {
    let world = World::new().await;
    let (port, heads) = proxy();
    let client = |url: &str| {
        HyperClient::builder().ca_pem(CA).unwrap().proxy(url).map(HyperClientBuilder::build)
    };
    let url = format!("http://gate:k%3Ay@127.0.0.1:{port}");

    let server = serve(GOOD, BOTH, "localhost");
    let issuer = format!("https://localhost:{}", server.port);
    let (status, reason, _) = start(&world, &issuer, client(&url).unwrap()).await;
    assert_eq!(status, 302, "{reason}");
    let seen = std::mem::take(&mut *heads.lock().unwrap());
    assert!(!seen.is_empty(), "nothing went through the proxy");
    for head in &seen {
        assert!(head.starts_with(&format!("CONNECT localhost:{} ", server.port)), "{head}");
        assert!(head.contains("Proxy-Authorization: Basic Z2F0ZTprOnk=\r\n"), "{head}");
    }

    // A name that only the proxy can resolve; its certificate is another's, so it is refused.
    let (status, reason, _) =
        start(&world, &format!("https://provider.internal:{}", server.port), client(&url).unwrap())
            .await;
    assert_eq!((status, &*reason), (503, "provider_unavailable/discovery_unreachable"));
    assert_eq!(heads.lock().unwrap().len(), 1, "the proxy was asked");

    // What is not encrypted, and so on this machine, never goes through it.
    heads.lock().unwrap().clear();
    let (_, reason, _) = start(&world, world.provider.issuer(), client(&url).unwrap()).await;
    assert_eq!(reason, "provider_error/client_auth_not_supported", "its discovery was read");
    assert!(heads.lock().unwrap().is_empty());

    for wrong in ["https://proxy:1", "socks5://proxy:1", "http://", "", "http://a b"] {
        let error = client(wrong).unwrap_err().to_string();
        assert!(error.starts_with("outbound proxy"), "{wrong}: {error}");
    }
    let secret = client("socks5://user:hunter2@proxy:1").unwrap_err().to_string();
    assert!(!secret.contains("hunter2"), "{secret}");
}

#[tokio::test]
async fn a_proxy_that_is_away_is_an_outage_of_the_provider() {
    let world = World::new().await;
    let server = serve(GOOD, BOTH, "localhost");
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let proxy = format!("http://127.0.0.1:{free}");
    let client = HyperClient::builder().ca_pem(CA).unwrap().proxy(&proxy).unwrap().build();
    let (status, reason, _) =
        start(&world, &format!("https://localhost:{}", server.port), client).await;
    assert_eq!((status, &*reason), (503, "provider_unavailable/discovery_unreachable"));
    assert_eq!(server.requests.load(Ordering::SeqCst), 0, "nobody goes around it");
}

#[tokio::test]
async fn a_split_horizon_shows_browsers_the_public_issuer_and_calls_the_internal_one() {
    let builder = TestProvider::builder().host("localhost").issuer_path("/realm");
    let world = World::with_provider(builder).await;
    let address = world.provider.address();
    let internal = format!("http://{address}/realm");
    let layer = world
        .builder()
        .internal_issuer(internal.parse().unwrap())
        .userinfo(Userinfo::Required)
        .build()
        .unwrap();
    let app = world.app(&layer);
    let mut browser = world.browser(&app, "alice");
    let url = browser.to_provider("/").await;
    assert!(url.starts_with(&format!("http://localhost:{}/realm/", address.port())), "{url}");
    assert_eq!(browser.sign_in("/").await.body, "alice");
    for endpoint in [Endpoint::Discovery, Endpoint::Jwks, Endpoint::Token, Endpoint::Userinfo] {
        let requests = world.provider.requests(endpoint);
        assert!(!requests.is_empty(), "{endpoint:?}");
        for request in requests {
            assert_eq!(request.header("host"), Some(&*address.to_string()), "{endpoint:?}");
        }
    }

    // Whoever answers there must still be the public issuer.
    let elsewhere = TestProvider::start().await.unwrap();
    let layer = world.builder().internal_issuer(elsewhere.issuer().parse().unwrap());
    let app = world.app(&layer.build().unwrap());
    let reply = send(&app, navigation(http::Method::GET, "/auth/login")).await;
    assert_eq!(reply.reason(), "provider_error/discovery_issuer");

    let error = world.builder().internal_issuer("http://op.internal".parse().unwrap());
    let error = error.build().unwrap_err();
    assert!(error.problems()[0].starts_with("internal issuer"), "{error}");
}
