//! An application that is mounted below a path: browsers see the mount, the layer does not.
//!
//! DESIGN: `public_url` is the only source of our origin, its path is the mount, "prepended to
//! redirect_uri, return targets and links".

mod support;

use axum::Router;
use axum::http::{Method, StatusCode};
use axum::routing::{any, get};
use support::{App, Browser, Reply, World, fetch, parameter};
use tower::util::BoxCloneSyncService;
use tower_pkce_auth::testing::provider::Endpoint;
use tower_pkce_auth::{Builder, Identity, PkceAuthLayer};

const PUBLIC: &str = "http://localhost:8080/app";
const ORIGIN: &str = "http://localhost:8080";

fn layer(world: &World, set: impl Fn(Builder) -> Builder) -> PkceAuthLayer {
    set(world.builder_at(PUBLIC)).build().unwrap()
}

/// An application below `/app`, beside pages that the layer knows nothing of.
fn mounted(layer: &PkceAuthLayer) -> App {
    let who = async |identity: Option<Identity>| {
        identity.map_or_else(|| "-".to_owned(), |identity| identity.subject().to_owned())
    };
    let inner = Router::new().fallback(any(who)).layer(layer.clone());
    let outer = Router::new().nest("/app", inner).fallback(async || "outside");
    BoxCloneSyncService::new(outer)
}

fn encode(target: &str) -> String {
    url::form_urlencoded::byte_serialize(target.as_bytes()).collect()
}

/// Where a link to the sign-in leads afterwards.
fn target_of(login: &str) -> Option<String> {
    assert!(login == "/app/auth/login" || login.starts_with("/app/auth/login?"), "{login}");
    parameter(login, "return_to")
}

/// Every link and form of a page of ours.
fn links(reply: &Reply) -> Vec<&str> {
    [" href=\"", " action=\""]
        .iter()
        .flat_map(|before| reply.body.split(before).skip(1))
        .map(|rest| rest.split('"').next().unwrap())
        .filter(|link| !link.starts_with("data:"))
        .collect()
}

async fn signed_in(world: &World, app: &App) -> Browser {
    let mut browser = world.browser(app, "alice");
    assert_eq!(browser.sign_in("/app/page").await.body, "alice");
    browser
}

#[tokio::test]
async fn a03_h03_l07_a_login_bears_the_mount_from_end_to_end() {
    let world = World::new().await;
    let app = mounted(&layer(&world, |builder| builder));
    let mut browser = world.browser(&app, "alice");

    let reply = browser.get("/app/deep/link?x=%26&y=a%2Fb").await;
    assert_eq!(reply.status, StatusCode::FOUND);
    let login = reply.location();
    assert_eq!(target_of(&login).as_deref(), Some("/app/deep/link?x=%26&y=a%2Fb"), "L07");

    let reply = browser.get(&login).await;
    let ours = format!("{PUBLIC}/auth/callback");
    assert_eq!(parameter(&reply.location(), "redirect_uri"), Some(ours.clone()), "A03");
    let [pending] = reply.set_cookies()[..] else { panic!("{:?}", reply.set_cookies()) };
    assert!(pending.contains("; Path=/;"), "B13: {pending}");

    let back = world.provider.authorize_as(&reply.location(), "alice").await.unwrap();
    assert!(back.starts_with(&ours), "{back}");
    let reply = browser.get(&browser.local(&back)).await;
    assert_eq!(reply.status, StatusCode::SEE_OTHER, "{}", reply.reason());
    assert_eq!(reply.location(), "/app/deep/link?x=%26&y=a%2Fb", "L07");
    let token = world.provider.token_requests().pop().unwrap();
    assert_eq!(token.form_value("redirect_uri"), Some(ours.as_str()), "A03: the same again");

    let mut kinds = Vec::new();
    for cookie in reply.set_cookies() {
        let (name, _) = cookie.split_once('=').unwrap();
        let hint = name.ends_with("-o");
        let path = if hint { "; Path=/app/auth/logout;" } else { "; Path=/;" };
        assert!(cookie.contains(path), "H03, DESIGN Sessions: {cookie}");
        kinds.push(name.rsplit('-').next().unwrap().to_owned());
    }
    for kind in ["s", "o", "n"] {
        assert!(kinds.iter().any(|found| found == kind), "-{kind} is missing: {kinds:?}");
    }
    assert_eq!(browser.get("/app/deep/link").await.body, "alice");
}

#[tokio::test]
async fn l10_targets_may_lie_anywhere_on_the_origin_but_not_among_our_endpoints() {
    let world = World::new().await;
    let app = mounted(&layer(&world, |builder| builder));
    let mut member = signed_in(&world, &app).await;
    let home = member.get("/app/auth/login").await.location();
    assert_eq!(home.trim_end_matches('/'), "/app", "who wants nothing goes to the start page");
    for (name, target, allowed) in [
        ("below the mount", "/app/deep?x=1", true),
        ("the mount itself", "/app", true),
        ("another application of this origin", "/other/page", true),
        ("the origin's start page", "/", true),
        ("begins like the mount", "/application", true),
        ("begins like our prefix", "/app/authors", true),
        ("the prefix outside the mount is not ours", "/auth/login", true),
        ("the prefix", "/app/auth", false),
        ("the login", "/app/auth/login", false),
        ("the logout", "/app/auth/logout", false),
        ("the callback", "/app/auth/callback?code=x&state=y", false),
        ("a future endpoint", "/app/auth/x", false),
        ("ours by a detour", "/other/../app/auth/logout", false),
        ("ours by an encoded detour", "/other/%2e%2e/app/auth/logout", false),
        ("ours by a dot", "/app/./auth/logout", false),
        ("another origin", "//evil.example/app", false),
        ("another origin by a detour", "/app/..//evil.example", false),
        ("an absolute URL", "http://localhost:8080/app/page", false),
    ] {
        let path = format!("/app/auth/login?return_to={}", encode(target));
        let expected = if allowed { target } else { home.as_str() };
        assert_eq!(member.get(&path).await.location(), expected, "{name}: with a session");
        let mut visitor = world.browser(&app, "alice");
        let callback = visitor.to_callback(&path).await;
        assert_eq!(visitor.get(&callback).await.location(), expected, "{name}: after a login");
    }
}

#[tokio::test]
async fn l12_o10_scripts_and_htmx_are_told_the_mounted_login() {
    let world = World::new().await;
    let app = mounted(&layer(&world, |builder| builder));
    for (name, page, target) in [
        ("a page below the mount", format!("{PUBLIC}/page?x=1"), Some("/app/page?x=1")),
        ("a page beside the mount", format!("{ORIGIN}/other"), Some("/other")),
        ("a page of ours", format!("{PUBLIC}/auth/signed-out"), None),
        ("a page of another origin", "http://localhost:8081/app/page".to_owned(), None),
        ("a longer port", "http://localhost:80800/app/page".to_owned(), None),
    ] {
        let mut request = fetch(Method::GET, "/app/api");
        request.headers_mut().insert("referer", page.parse().unwrap());
        let reply = support::send(&app, request).await;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{name}");
        let (_, login) = reply.body.split_once("\"login_url\":\"").unwrap();
        let login = login.split('"').next().unwrap();
        assert_eq!(target_of(login).as_deref(), target, "{name}: login_url");

        let mut request = fetch(Method::GET, "/app/fragment");
        request.headers_mut().insert("hx-request", "true".parse().unwrap());
        request.headers_mut().insert("hx-current-url", page.parse().unwrap());
        let reply = support::send(&app, request).await;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{name}");
        let login = reply.header("hx-redirect");
        assert_eq!(target_of(login).as_deref(), target, "{name}: HX-Redirect");
    }
    let reply = support::send(&app, fetch(Method::GET, "/app/auth/session")).await;
    assert!(reply.body.contains("\"login_url\":\"/app/auth/login\""), "{}", reply.body);
}

#[tokio::test]
async fn j04_a_logout_bears_the_mount() {
    let world = World::new().await;
    let app = mounted(&layer(&world, |builder| builder));
    let mut browser = signed_in(&world, &app).await;
    let hint = browser.jar.header("/app/auth/logout").unwrap();
    assert!(hint.contains("-o="), "the hint goes to the mounted logout");
    for path in ["/app/page", "/auth/logout", "/app/auth/logoutx"] {
        assert!(!browser.jar.header(path).unwrap().contains("-o="), "and not to {path}");
    }

    let confirm = browser.get("/app/auth/logout").await;
    assert_eq!(confirm.page(), Some("confirm-sign-out"));
    let mut all: Vec<_> =
        links(&confirm).iter().map(|link| link.trim_end_matches('/').to_owned()).collect();
    all.sort();
    assert_eq!(all, ["/app", "/app/auth/logout"], "{}", confirm.body);

    let reply = browser.post("/app/auth/logout").await;
    let location = reply.location();
    assert!(location.starts_with(&format!("{}/end_session", world.provider.issuer())));
    let back = parameter(&location, "post_logout_redirect_uri");
    assert_eq!(back, Some(format!("{PUBLIC}/auth/signed-out")), "J04");
    assert!(parameter(&location, "id_token_hint").is_some(), "J03: the cookie's path was right");
    assert!(browser.jar.names().is_empty(), "J02: removed by path: {:?}", browser.jar.names());

    let page = browser.get("/app/auth/signed-out").await;
    assert_eq!(page.page(), Some("signed-out"));
    assert_eq!(links(&page), ["/app/auth/login"]);
    let reply = browser.get("/app/page").await;
    assert_eq!(target_of(&reply.location()).as_deref(), Some("/app/page"), "signed out");
}

#[tokio::test]
async fn j05_without_a_logout_at_the_provider_the_mounted_page_is_shown() {
    let world = World::new().await;
    world.provider.on_discovery(|document| {
        document.remove("end_session_endpoint");
    });
    let app = mounted(&layer(&world, |builder| builder));
    let mut browser = signed_in(&world, &app).await;
    let reply = browser.post("/app/auth/logout").await;
    assert_eq!(reply.status, StatusCode::SEE_OTHER);
    assert_eq!(reply.location(), "/app/auth/signed-out");
    assert!(world.provider.requests(Endpoint::EndSession).is_empty());
}

#[tokio::test]
async fn a_restart_and_the_error_pages_stay_below_the_mount() {
    let world = World::new().await;
    let app = mounted(&layer(&world, |builder| builder));
    let callback = world.browser(&app, "alice").to_callback("/app/deep").await;

    // DESIGN, Pending logins: without the cookie one restart, whose ticket knows the target.
    let mut stranger = world.browser(&app, "alice");
    let reply = stranger.get(&callback).await;
    assert_eq!(reply.status, StatusCode::SEE_OTHER);
    let again = reply.location();
    assert!(again.starts_with("/app/auth/login?again="), "{again}");
    let reply = stranger.follow(reply).await;
    assert_eq!((reply.status, reply.body.as_str()), (StatusCode::OK, "alice"), "restarted");

    let mut visitor = world.browser(&app, "alice");
    let reply = visitor.get("/app/auth/callback?state=x").await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST);
    let all = links(&reply);
    assert!(!all.is_empty(), "the page has a way on: {}", reply.body);
    for link in all {
        target_of(link);
    }
    let callback = visitor.to_callback("/app/deep").await;
    let denied = support::with_parameter(&callback, "code", None) + "&error=access_denied";
    let reply = visitor.get(&denied).await;
    assert_eq!(reply.status, StatusCode::FORBIDDEN, "{}", reply.reason());
    for link in links(&reply) {
        target_of(&link.replace("&amp;", "&"));
    }
}

#[tokio::test]
async fn c01_outside_the_mount_nothing_is_ours() {
    let world = World::new().await;
    let app = mounted(&layer(&world, |builder| builder));
    let mut browser = world.browser(&app, "alice");
    for path in ["/", "/page", "/auth/login", "/auth/callback?state=x", "/application"] {
        let reply = browser.get(path).await;
        assert_eq!((reply.status, reply.body.as_str()), (StatusCode::OK, "outside"), "{path}");
    }
    // Below the mount the mount is not repeated: this is a page of the application.
    let reply = browser.get("/app/app/auth/login").await;
    assert_eq!(target_of(&reply.location()).as_deref(), Some("/app/app/auth/login"));
}

/// Where a visitor is sent who wanted the start page, or nothing in particular, there must be one.
///
/// axum serves the route `/` of a router nested at `/app` as `/app`; `/app/` reaches neither that
/// route nor the nested fallback. By `nest_service` both arrive. (A nested router without a
/// fallback of its own never calls the layer for the layer's endpoints: axum drops its default
/// fallback, layers and all.)
#[tokio::test]
async fn l10_the_start_page_is_found_again_after_the_login() {
    let world = World::new().await;
    let layer = layer(&world, |builder| builder);
    let start = async |identity: Identity| identity.subject().to_owned();
    let missing = async || (StatusCode::NOT_FOUND, "missing");
    let router = || Router::new().route("/", get(start)).fallback(missing).layer(layer.clone());
    let apps: [(&str, Router); 2] = [
        ("nest_service", Router::new().nest_service("/app", router())),
        ("nest", Router::new().nest("/app", router())),
    ];
    let mut lost = Vec::new();
    for (name, app) in apps {
        let app: App = BoxCloneSyncService::new(app);
        for path in ["/app", "/app?x=1", "/app/auth/login", "/app/auth/login?return_to=//evil"] {
            let mut browser = world.browser(&app, "alice");
            let reply = browser.get(path).await;
            let reply = browser.follow(reply).await;
            if (reply.status, reply.body.as_str()) != (StatusCode::OK, "alice") {
                lost.push(format!("{name} {path}: {} {:?}", reply.status, reply.body));
            }
        }
    }
    assert!(lost.is_empty(), "{lost:#?}");
}

#[tokio::test]
async fn another_prefix_below_the_mount_is_honoured_everywhere() {
    let world = World::new().await;
    let app = mounted(&layer(&world, |builder| builder.prefix("/-/sign")));
    let mut browser = world.browser(&app, "alice");
    let reply = browser.get("/app/x").await;
    assert_eq!(reply.location(), "/app/-/sign/login?return_to=%2Fapp%2Fx");
    let url = browser.to_provider("/app/x").await;
    let ours = format!("{PUBLIC}/-/sign/callback");
    assert_eq!(parameter(&url, "redirect_uri"), Some(ours));
    assert_eq!(browser.sign_in("/app/x").await.body, "alice");
    assert!(browser.jar.header("/app/-/sign/logout").unwrap().contains("-o="));
    assert_eq!(
        browser.get("/app/-/sign/login?return_to=/app/auth/x").await.location(),
        "/app/auth/x"
    );
    let home = browser.get("/app/-/sign/login?return_to=/app/-/sign/x").await.location();
    assert_eq!(home.trim_end_matches('/'), "/app");
}
