//! Group L: nobody is ever sent to a place that is not ours.

#[path = "return_targets/corpus.rs"]
mod corpus;
mod support;

use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use corpus::{GOOD, hostile};
use support::{App, ORIGIN, World, fetch, navigation, parameter};
use tower_pkce_auth::{Builder, MemoryStore, Pending};
use url::Url;

/// The three places a pending login may lie in.
fn backends(world: &World) -> [(&'static str, Builder); 3] {
    let store = MemoryStore::shared_between_pods(world.clock.clone());
    let builder = |pending| world.builder().pending(pending);
    [
        ("memory", builder(Pending::Memory)),
        ("sealed", builder(Pending::Sealed)),
        ("store", builder(Pending::Store).store(store)),
    ]
}

fn app(world: &World) -> App {
    world.app(&world.builder().build().unwrap())
}

fn encode(value: &str) -> String {
    url::form_urlencoded::byte_serialize(value.as_bytes()).collect()
}

/// Resolves it as a browser would, and as a proxy that decodes once would have a browser do.
fn assert_ours(location: &str, case: &str) {
    let base = Url::parse(ORIGIN).unwrap();
    let at = base.join("/auth/login").unwrap();
    let url = at.join(location).unwrap_or_else(|error| panic!("{case}: {location}: {error}"));
    assert_eq!(url.origin(), base.origin(), "L01 {case}: {location}");
    assert!(!url.path().starts_with("//"), "L02 {case}: {location}");
    assert!(location.bytes().all(|b| (0x21..0x7f).contains(&b)), "L13 {case}: {location:?}");
}

#[tokio::test]
async fn l01_l02_l04_l05_l09_l10_l12_l13_a_hostile_target_is_as_good_as_none() {
    let corpus = hostile();
    assert!(corpus.len() > 200);
    let world = World::new().await;
    let app = app(&world);
    let mut member = world.browser(&app, "alice");
    member.sign_in("/").await;
    for target in &corpus {
        let case = format!("{:?}", target.chars().take(60).collect::<String>());
        for (name, escape) in [
            ("return_to", encode(target)),
            ("again", encode(target)),
            // L04: encoded once more, it is another value, and decoded once it is no target.
            ("return_to", encode(&encode(target))),
        ] {
            if escape.len() > 60_000 {
                continue;
            }
            let path = format!("/auth/login?{name}={escape}");
            // Signed in: the target would show at once.
            let reply = member.get(&path).await;
            assert_eq!(reply.status, StatusCode::SEE_OTHER, "L15 {name} {case}");
            assert_eq!(reply.location(), "/", "L01 {name} {case}");
            // Not signed in: to the provider, and it shows nowhere.
            let reply = support::send(&app, navigation(Method::GET, &path)).await;
            let location = reply.location();
            assert_eq!(reply.status, StatusCode::FOUND, "L15 {name} {case}");
            assert!(location.starts_with(world.provider.issuer()), "L01 {name} {case}");
            for part in ["evil", "script", "alert"] {
                let shows =
                    reply.body.contains(part) || format!("{:?}", reply.headers).contains(part);
                assert!(!shows, "L05 {name} {case}: {part}");
            }
        }
    }
    assert_eq!(member.who().await.as_deref(), Some("alice"), "nothing was done on the way");
}

#[tokio::test]
async fn l01_l03_a_hostile_target_ends_at_home_after_the_whole_login() {
    let world = World::new().await;
    let sample: Vec<_> = hostile().into_iter().step_by(9).collect();
    for (backend, builder) in backends(&world) {
        let app = world.app(&builder.build().unwrap());
        for target in sample.iter().filter(|target| target.len() < 20_000) {
            let mut browser = world.browser(&app, "alice");
            let path = format!("/auth/login?return_to={}", encode(target));
            let callback = browser.to_callback(&path).await;
            let reply = browser.get(&callback).await;
            assert_eq!(reply.location(), "/", "C33 {backend} {target:?}: {}", reply.reason());
        }
    }
}

#[tokio::test]
async fn l06_l07_l14_c33_a_good_target_survives_to_the_byte() {
    let world = World::new().await;
    for (backend, builder) in backends(&world) {
        let app = world.app(&builder.build().unwrap());
        for target in GOOD {
            let case = format!("L06 {backend} {target}");
            let path = format!("/auth/login?return_to={}", encode(target));
            let mut browser = world.browser(&app, "alice");
            let callback = browser.to_callback(&path).await;
            let mut denied = world.browser(&app, "deny");
            let refused = denied.to_callback(&path).await;
            // L14: on a page it is escaped, and the link leads to where it says.
            let reply = denied.get(&refused).await;
            assert_eq!(reply.status, StatusCode::FORBIDDEN, "{case}");
            assert!(
                !reply.body.contains("<script") && !reply.body.contains("alert(1)-'"),
                "{case}"
            );
            let link = format!("href=\"/auth/login?return_to={}\"", encode(target));
            assert!(reply.body.contains(&link), "L14 {case}");
            let reply = browser.get(&callback).await;
            assert_eq!(reply.status, StatusCode::SEE_OTHER, "L15 {case}");
            assert_eq!(reply.location(), target, "{case}");
            assert_ours(target, &case);
            // L04: whoever decodes it once more is still with us.
            let decoded = url::form_urlencoded::parse(target.as_bytes()).next();
            let decoded = decoded.map_or_else(String::new, |(name, _)| name.into_owned());
            let resolved = Url::parse(ORIGIN).unwrap().join(&decoded).unwrap();
            assert_eq!(resolved.origin().ascii_serialization(), ORIGIN, "L04 {case}");
        }
        // L07: as an address that was asked for.
        for target in GOOD.iter().filter(|target| Request::get(**target).body(()).is_ok()) {
            let mut browser = world.browser(&app, "alice");
            world.reached();
            let reply = browser.sign_in(target).await;
            assert_eq!(reply.body, "alice", "L07 {backend} {target}: {}", reply.reason());
            let seen = world.seen.lock().unwrap().pop().unwrap();
            let sent = Request::get(*target).body(()).unwrap().uri().to_string();
            assert_eq!(seen.uri, sent, "L07 {backend}");
        }
    }
}

#[tokio::test]
async fn l01_l08_an_address_nobody_may_return_to_is_forgotten() {
    let world = World::new().await;
    let app = app(&world);
    for (method, path, remembered) in [
        (Method::GET, "/deep?x=1", Some("/deep?x=1")),
        (Method::GET, "//evil.example/x", None),
        (Method::GET, "/.//evil.example", None),
        (Method::GET, "/..//evil.example", None),
        (Method::GET, "/a/..//evil.example", None),
        (Method::GET, "/%2e//evil.example", None),
        (Method::GET, "/auth/unknown", None),
        (Method::GET, "/auth/callback/", None),
        (Method::GET, "http://evil.example/deep", Some("/deep")),
        (Method::GET, "http://evil.example//evil.example", None),
        (Method::POST, "/transfer", None),
    ] {
        let reply = support::send(&app, navigation(method, path)).await;
        assert!(matches!(reply.status.as_u16(), 302 | 303), "L15 {path}");
        let location = reply.location();
        assert_ours(&location, path);
        assert_eq!(location.split('?').next(), Some("/auth/login"), "L01 {path}");
        assert_eq!(parameter(&location, "return_to").as_deref(), remembered, "L08 {path}");
        assert!(!location.contains("evil"), "L05 {path}");
    }
}

#[tokio::test]
async fn l11_our_origin_is_a_setting_whatever_the_request_says() {
    let world = World::new().await;
    let app = app(&world);
    let mut member = world.browser(&app, "alice");
    member.sign_in("/").await;
    for target in ["https://evil.example/", "http://evil.example:8080/x", "//evil.example/"] {
        for (name, value) in [
            ("host", "evil.example"),
            ("host", "evil.example:8080"),
            ("x-forwarded-host", "evil.example"),
            ("forwarded", "host=evil.example"),
        ] {
            let path = format!("/auth/login?return_to={}", encode(target));
            let mut request = navigation(Method::GET, &path);
            request.headers_mut().insert(name, value.parse().unwrap());
            let reply = member.send(request).await;
            assert_eq!(reply.location(), "/", "L11 {name}: {value}, {target}");
        }
        let mut request = fetch(Method::GET, "/api");
        request.headers_mut().insert("host", "evil.example".parse().unwrap());
        request.headers_mut().insert("referer", target.parse().unwrap());
        let reply = support::send(&app, request).await;
        assert!(reply.body.contains("\"login_url\":\"/auth/login\""), "L11 {}", reply.body);
    }
}

/// `Referer` of a script, `HX-Current-URL` of htmx: the page it runs in.
fn scripted(name: &'static str, value: &str) -> Option<Request<Body>> {
    let mut request = fetch(Method::GET, "/api");
    let headers = request.headers_mut();
    if name == "hx-current-url" {
        headers.insert("hx-request", "true".parse().unwrap());
    }
    // What no header can hold never arrives.
    headers.insert(name, axum::http::HeaderValue::from_bytes(value.as_bytes()).ok()?);
    Some(request)
}

#[tokio::test]
async fn l01_l12_the_page_of_a_script_is_remembered_if_it_is_ours() {
    let world = World::new().await;
    let app = app(&world);
    let mut sent = 0;
    for name in ["referer", "hx-current-url"] {
        for target in hostile() {
            // As it is; behind our origin; and behind something that begins like it.
            for value in [
                target.clone(),
                format!("{ORIGIN}{target}"),
                format!("https://evil.example{target}"),
                format!("{ORIGIN}.evil.example{target}"),
                format!("{ORIGIN}@evil.example{target}"),
            ] {
                let case = format!("{name} {:?}", value.chars().take(80).collect::<String>());
                // An own page at the root, which is what an empty path behind our origin is.
                let Some(request) = scripted(name, &value) else { continue };
                sent += 1;
                let reply = support::send(&app, request).await;
                assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{case}");
                let body: serde_json::Value = serde_json::from_str(&reply.body).unwrap();
                let mut logins = vec![body["login_url"].as_str().unwrap().to_owned()];
                if name == "hx-current-url" {
                    logins.push(reply.header("hx-redirect").to_owned());
                }
                for login in logins {
                    assert_ours(&login, &case);
                    assert_eq!(login.split('?').next(), Some("/auth/login"), "L01 {case}");
                    if let Some(target) = parameter(&login, "return_to") {
                        // `http://localhost:8080/` is in the corpus, and is a page of ours.
                        assert_eq!(target, "/", "L12 {case}");
                        assert_eq!(value, format!("{ORIGIN}/"), "L12 {case}");
                    }
                }
            }
        }
        for target in GOOD {
            let request = scripted(name, &format!("{ORIGIN}{target}")).unwrap();
            let reply = support::send(&app, request).await;
            let body: serde_json::Value = serde_json::from_str(&reply.body).unwrap();
            let login = body["login_url"].as_str().unwrap();
            assert_eq!(parameter(login, "return_to").as_deref(), Some(target), "L06 {name}");
        }
    }
    assert!(sent > 1_000, "{sent}");
}

#[tokio::test]
async fn l10_below_a_mount_targets_and_links_bear_it() {
    let world = World::new().await;
    let layer = world.builder_at("http://localhost:8080/app").build().unwrap();
    let mut member = world.browser(&world.app(&layer), "alice");
    // The layer sees paths below the mount; browsers see it before them.
    let reply = member.get("/deep").await;
    assert_eq!(reply.location(), "/app/auth/login?return_to=%2Fapp%2Fdeep");
    let url = member.to_provider("/auth/login?return_to=%2Fapp%2Fdeep").await;
    let ours = "http://localhost:8080/app/auth/callback";
    assert_eq!(parameter(&url, "redirect_uri").as_deref(), Some(ours), "A03");
    let callback = world.provider.authorize(&url).await.unwrap();
    let callback = callback.strip_prefix("http://localhost:8080/app").unwrap().to_owned();
    assert_eq!(member.get(&callback).await.location(), "/app/deep");
    for target in ["/app/auth/logout", "//evil.example", ""] {
        let path = format!("/auth/login?return_to={}", encode(target));
        assert_eq!(member.get(&path).await.location(), "/app", "L10 {target}");
    }
}

/// Behind a proxy that decodes the path once, a target is still a path of ours.
#[tokio::test]
async fn l04_an_encoded_target_does_not_leave_through_a_proxy_that_decodes() {
    let world = World::new().await;
    let app = app(&world);
    let mut member = world.browser(&app, "alice");
    member.sign_in("/").await;
    let mut elsewhere = Vec::new();
    for target in [
        "/%2fevil.example",
        "/%2Fevil.example",
        "/%2f%2fevil.example",
        "/%2f/evil.example",
        "/%5cevil.example",
        "/%5Cevil.example",
        "/%09/evil.example",
        "/%0a/evil.example",
        "/%0d%0a/evil.example",
        "/%2e%2f/evil.example",
        "/%252fevil.example",
        "/%255cevil.example",
        "/%2509/evil.example",
        "/%25252fevil.example",
        "/%2525252fevil.example",
    ] {
        let path = format!("/auth/login?return_to={}", encode(target));
        let location = member.get(&path).await.location();
        assert_ours(&location, target);
        let decoded = percent_decoded(&location);
        let base = Url::parse(ORIGIN).unwrap();
        if base.join(&decoded).map(|url| url.origin()) != Ok(base.origin()) {
            elsewhere.push(target);
        }
    }
    assert!(elsewhere.is_empty(), "L04 they lead elsewhere: {elsewhere:?}");
}

/// Decodes each escape once, as a proxy does to a path.
fn percent_decoded(path: &str) -> String {
    let plus = path.replace('+', "%2b");
    let pair = format!("x={plus}");
    let (_, value) = url::form_urlencoded::parse(pair.as_bytes()).next().unwrap();
    value.into_owned()
}
