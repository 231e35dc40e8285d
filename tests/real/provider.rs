//! The layer against the certified provider, without a browser.

use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::Response;
use tower_pkce_auth::testing::TestClock;
use tower_pkce_auth::{
    Builder, ClientAuth, ClientId, ClientSecret, MemoryStore, Pending, PkceAuthLayer, RedisStore,
    Sessions, SigningAlgorithm, SystemClock, Userinfo,
};

use crate::parts::{AtProvider, Provider};
use crate::servers::{Options, Redis};
use crate::support::{App, Jar, ORIGIN, Reply, navigation, send, with_parameter};
use axum::http::{Method, header::COOKIE};

fn builder(provider: &Provider, client: &str) -> Builder {
    PkceAuthLayer::builder(
        provider.issuer.parse().unwrap(),
        ClientId::new(client),
        ORIGIN.parse().unwrap(),
    )
    .scope("email")
    .userinfo(Userinfo::Required)
}

fn confidential(provider: &Provider) -> Builder {
    builder(provider, "dashboard").client_secret(ClientSecret::new(&provider.secret))
}

fn app(layer: &PkceAuthLayer) -> App {
    let router = axum::Router::new()
        .fallback(axum::routing::any(async |who: tower_pkce_auth::Identity| {
            format!("{} {}", who.subject(), who.email().unwrap_or("-"))
        }))
        .layer(layer.clone());
    App::new(router)
}

async fn provider() -> Provider {
    let provider = Provider::start(&[("AUTO_LOGIN", "alice")]);
    provider.register(ORIGIN).await;
    provider
}

/// A browser that is known to the provider.
#[derive(Clone, Default)]
struct Visitor {
    jar: Jar,
    at_provider: AtProvider,
}

impl Visitor {
    async fn get(&mut self, app: &App, path: &str) -> Reply {
        self.request(app, Method::GET, path).await
    }

    async fn request(&mut self, app: &App, method: Method, path: &str) -> Reply {
        let mut request = navigation(method, path);
        if let Some(cookies) = self.jar.header(path.split('?').next().unwrap()) {
            request.headers_mut().insert(COOKIE, cookies.parse().unwrap());
        }
        let reply = send(app, request).await;
        self.jar.keep(&reply.headers);
        reply
    }

    /// Up to the callback, not visited yet.
    async fn until_callback(&mut self, app: &App, provider: &Provider, path: &str) -> String {
        let login = self.get(app, path).await.location();
        let url = self.get(app, &login).await.location();
        let back = self.at_provider.authorize(&url, &provider.issuer).await;
        back.strip_prefix(ORIGIN).expect("the provider sends the browser back").to_owned()
    }

    async fn sign_in(&mut self, app: &App, provider: &Provider, path: &str) -> Reply {
        let callback = self.until_callback(app, provider, path).await;
        let reply = self.get(app, &callback).await;
        assert_eq!(reply.status, StatusCode::SEE_OTHER, "{} {}", reply.reason(), reply.body);
        let location = reply.location();
        self.get(app, &location).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Node.js and oidc-provider: scripts/test"]
async fn every_kind_of_client_and_key_signs_in() {
    let provider = provider().await;
    let secret = || ClientSecret::new(&provider.secret);
    for (name, builder) in [
        ("basic", confidential(&provider)),
        (
            "post",
            builder(&provider, "dashboard-post")
                .client_secret(secret())
                .client_auth(ClientAuth::Post),
        ),
        ("public", builder(&provider, "dashboard-public").public_client()),
        (
            "ES256",
            builder(&provider, "dashboard-es256")
                .client_secret(secret())
                .id_token_algorithm(SigningAlgorithm::Es256),
        ),
        (
            "EdDSA",
            builder(&provider, "dashboard-eddsa")
                .client_secret(secret())
                .id_token_algorithm(SigningAlgorithm::EdDsa),
        ),
    ] {
        let app = app(&builder.build().unwrap());
        let reply = Visitor::default().sign_in(&app, &provider, "/a?b=c%20d").await;
        assert_eq!(reply.body, "alice alice@example.com", "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Node.js and oidc-provider: scripts/test"]
async fn e22_a_token_signed_by_another_algorithm_is_refused() {
    let provider = provider().await;
    let layer = builder(&provider, "dashboard-es256")
        .client_secret(ClientSecret::new(&provider.secret))
        .build()
        .unwrap();
    let app = app(&layer);
    let mut visitor = Visitor::default();
    let callback = visitor.until_callback(&app, &provider, "/").await;
    let reply = visitor.get(&app, &callback).await;
    assert_eq!(reply.reason(), "id_token/alg");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Node.js and oidc-provider: scripts/test"]
async fn b05_the_same_callback_200_times_in_pairs_redeems_each_code_once() {
    let provider = provider().await;
    let stores: [(&str, Builder); 3] = [
        ("memory", confidential(&provider).pending(Pending::Memory)),
        ("sealed", confidential(&provider).pending(Pending::Sealed)),
        (
            "store",
            confidential(&provider)
                .store(MemoryStore::shared_between_pods(Arc::new(SystemClock)))
                .pending(Pending::Store),
        ),
    ];
    for (name, builder) in stores {
        provider.order("/reset").await;
        let app = app(&builder.build().unwrap());
        let mut signed_in = 0;
        for _ in 0..200 {
            let mut visitor = Visitor::default();
            let callback = visitor.until_callback(&app, &provider, "/").await;
            let pair = [visitor.clone(), visitor].map(|mut visitor| {
                let (app, callback) = (app.clone(), callback.clone());
                tokio::spawn(async move {
                    visitor.get(&app, &callback).await;
                    visitor.jar.ending("-s").is_some()
                })
            });
            for tab in pair {
                signed_in += u64::from(tab.await.unwrap());
            }
        }
        let counts = provider.counts().await;
        println!(
            "{name}: 200 pairs, {} code redemptions, {} double, {signed_in} sessions",
            counts["code_redemptions"], counts["double_redemptions"]
        );
        assert_eq!(counts["double_redemptions"], 0, "{name}");
        assert_eq!(counts["code_redemptions"], 200, "{name}");
        assert_eq!(signed_in, 200, "{name}: one of each pair");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Node.js and oidc-provider: scripts/test"]
async fn b01_login_csrf_0_of_20_and_two_tabs_20_of_20() {
    let provider = provider().await;
    let app = app(&confidential(&provider).build().unwrap());
    let (mut taken_over, mut both) = (0, 0);
    for _ in 0..20 {
        let mut attacker = Visitor::default();
        let callback = attacker.until_callback(&app, &provider, "/").await;
        let mut victim = Visitor::default();
        let reply = victim.get(&app, &callback).await;
        assert!(reply.location().starts_with("/auth/login?again="), "it starts over");
        taken_over += u32::from(victim.jar.ending("-s").is_some());

        let mut browser = Visitor::default();
        let first = browser.until_callback(&app, &provider, "/one").await;
        let second = browser.until_callback(&app, &provider, "/two").await;
        let one = browser.get(&app, &first).await.location();
        let two = browser.get(&app, &second).await.location();
        both += u32::from(one == "/one" && two == "/two");
    }
    println!("login CSRF {taken_over}/20, two tabs {both}/20");
    assert_eq!((taken_over, both), (0, 20));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Node.js and oidc-provider: scripts/test"]
async fn f16_keys_are_rotated_between_two_logins() {
    let provider = provider().await;
    let app = app(&confidential(&provider).build().unwrap());
    Visitor::default().sign_in(&app, &provider, "/").await;
    provider.order("/rotate-keys").await;
    let reply = Visitor::default().sign_in(&app, &provider, "/").await;
    assert_eq!(reply.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Node.js and oidc-provider: scripts/test"]
async fn i05_fifty_requests_on_an_expiring_session_refresh_once() {
    let provider = Provider::start(&[("AUTO_LOGIN", "alice"), ("ACCESS_TOKEN_TTL", "120")]);
    provider.register(ORIGIN).await;
    let clock = Arc::new(TestClock::new());
    let layer = confidential(&provider)
        .scope("offline_access")
        .store(MemoryStore::with_clock(clock.clone(), 1_000))
        .sessions(Sessions::Stored)
        .clock(clock.clone())
        .build()
        .unwrap();
    let app = app(&layer);
    let mut visitor = Visitor::default();
    visitor.sign_in(&app, &provider, "/").await;
    for round in 1..=5 {
        // Only this process's clock is moved; the provider's tokens are then a few minutes old,
        // which is within what is accepted.
        clock.advance(std::time::Duration::from_secs(91));
        let requests: Vec<_> = (0..50)
            .map(|_| {
                let (app, mut visitor) = (app.clone(), visitor.clone());
                tokio::spawn(async move { visitor.get(&app, "/").await.status })
            })
            .collect();
        for request in requests {
            assert_eq!(request.await.unwrap(), StatusCode::OK, "nobody is signed out");
        }
        assert_eq!(provider.count("refreshes").await, round, "one refresh a round");
        assert_eq!(provider.count("refresh_reuse").await, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Node.js and oidc-provider: scripts/test"]
async fn j03_the_provider_accepts_the_logout_request() {
    let provider = provider().await;
    let app = app(&confidential(&provider).build().unwrap());
    let mut visitor = Visitor::default();
    visitor.sign_in(&app, &provider, "/").await;
    let mut request = navigation(Method::POST, "/auth/logout");
    request.headers_mut().insert("sec-fetch-site", "same-origin".parse().unwrap());
    let cookies = visitor.jar.header("/auth/logout").unwrap();
    request.headers_mut().insert(COOKIE, cookies.parse().unwrap());
    let reply = send(&app, request).await;
    let url = reply.location();
    assert!(url.starts_with(&format!("{}/session/end", provider.issuer)), "{url}");
    assert!(url.contains("id_token_hint="), "{url}");
    // A page that asks the person is what a certified provider answers; a bad hint is a 400.
    let client = tower_pkce_auth::HyperClient::new();
    let ask = |url: String| {
        let request = http::Request::get(url).body(bytes::Bytes::new()).unwrap();
        tower_pkce_auth::HttpClient::send(&client, request, 1 << 20)
    };
    assert_eq!(ask(url.clone()).await.unwrap().status(), 200);
    let bad = with_parameter(&url, "id_token_hint", Some("x.y.z"));
    assert_eq!(ask(bad).await.unwrap().status(), 400, "the provider does look at the hint");
}

/// The provider reports a sign-out to one pod, under the pod's own address, while the person waits
/// at its end-session page; the session is over on the other pod too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Node.js, oidc-provider and redis-server: scripts/test"]
async fn j17_j22_j42_the_provider_reports_a_sign_out() {
    let provider = provider().await;
    let redis = Redis::start(Options::default());
    for sessions in [Sessions::Stored, Sessions::Sealed] {
        let keys = tower_pkce_auth::CookieKeys::random();
        let pod = || {
            let store = RedisStore::new(&redis.url()).unwrap();
            let builder = confidential(&provider).store(store).sessions(sessions);
            app(&builder.cookie_keys(keys.clone()).build().unwrap())
        };
        let (one, two) = (pod(), pod());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let reports = Arc::new(std::sync::Mutex::new(Vec::new()));
        let sink = reports.clone();
        let heard = tower::ServiceExt::map_response(two.clone(), move |reply: Response| {
            sink.lock().unwrap().push(reply.status());
            reply
        });
        let router = axum::Router::new().fallback_service(heard);
        let server = tokio::spawn(async move { axum::serve(listener, router).await });
        let uri = format!("http://{address}/auth/backchannel-logout");
        provider.register_backchannel("dashboard", &uri).await;

        let mut alice = Visitor::default();
        let reply = alice.sign_in(&one, &provider, "/").await;
        assert_eq!(reply.status, StatusCode::OK, "{sessions:?}");
        let mut elsewhere = Visitor::default();
        elsewhere.sign_in(&one, &provider, "/").await;

        // She signs out at the provider, not here.
        let url = format!("{}/session/end", provider.issuer);
        alice.at_provider.sign_out(&url).await;
        assert_eq!(*reports.lock().unwrap(), [StatusCode::OK], "{sessions:?}");
        for pod in [&one, &two] {
            let reply = alice.clone().get(pod, "/").await;
            assert_ne!(reply.status, StatusCode::OK, "J42 {sessions:?}");
            let reply = elsewhere.clone().get(pod, "/").await;
            assert_eq!(reply.status, StatusCode::OK, "J37 {sessions:?}: another sid");
        }

        // J17: she signs out here, and the provider reports it while she is at its page.
        let mut request = navigation(Method::POST, "/auth/logout");
        request.headers_mut().insert("sec-fetch-site", "same-origin".parse().unwrap());
        let cookies = elsewhere.jar.header("/auth/logout").unwrap();
        request.headers_mut().insert(COOKIE, cookies.parse().unwrap());
        let reply = send(&one, request).await;
        elsewhere.at_provider.sign_out(&reply.location()).await;
        assert_eq!(*reports.lock().unwrap(), [StatusCode::OK; 2], "J17 {sessions:?}");
        server.abort();
    }
}
