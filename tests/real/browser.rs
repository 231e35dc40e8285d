//! The real browser: Debian's Chromium signs in to `examples/dashboard`.

use std::path::PathBuf;
use std::process::Command;

use axum::http::Method;
use axum::routing::get;
use tower_pkce_auth::StoreErrorKind;

use crate::kept::Kept;
use crate::parts::{Dashboard, Provider, root};
use crate::support::{World, navigation};

/// Where the screenshots of every page are kept, light, dark and narrow.
fn screenshots(name: &str) -> PathBuf {
    root().join("target/screenshots").join(name)
}

fn run(dashboard: &Dashboard, provider: Option<&Provider>, out: &str, arguments: &[&str]) {
    drive(&dashboard.origin, provider, out, arguments);
}

/// Runs scenarios of `tests/browser` against whatever is at `base`.
pub fn drive(base: &str, provider: Option<&Provider>, out: &str, arguments: &[&str]) {
    let mut command = Command::new("node");
    command
        .arg(root().join("tests/browser/run.mjs"))
        .args(["--base", base])
        .arg("--out")
        .arg(screenshots(out))
        .args(arguments);
    match provider {
        Some(provider) => {
            command.args(["--provider", "oidc-provider", "--control", &provider.control]);
        }
        None => {
            command.args(["--provider", "in-process"]);
        }
    }
    let output = command.output().expect("node is installed; scripts/test sees to it");
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{out}");
    assert!(output.status.success(), "{arguments:?}\n{out}\n{err}");
}

async fn with_real_provider(arguments: &[&str]) -> (Provider, Dashboard) {
    let provider = Provider::start(&[]);
    let dashboard = Dashboard::start(arguments, Some(&provider));
    provider.register(&dashboard.origin).await;
    (provider, dashboard)
}

#[tokio::test]
#[ignore = "needs Node.js and Chromium: scripts/test"]
async fn chromium_uses_the_dashboard_with_its_own_provider() {
    let dashboard = Dashboard::start(&[], None);
    run(&dashboard, None, "in-process", &["--scenario", "all"]);
}

#[tokio::test]
#[ignore = "needs Node.js, oidc-provider and Chromium: scripts/test"]
async fn chromium_uses_the_dashboard_with_the_certified_provider() {
    let (provider, dashboard) = with_real_provider(&[]).await;
    run(&dashboard, Some(&provider), "oidc-provider", &["--scenario", "all"]);
}

#[tokio::test]
#[ignore = "needs Node.js, oidc-provider and Chromium: scripts/test"]
async fn chromium_meets_the_end_of_a_session_in_the_middle_of_work() {
    let (provider, dashboard) = with_real_provider(&["--session-absolute", "6"]).await;
    let arguments = ["--scenario", "expiry", "--expiry-seconds", "6"];
    run(&dashboard, Some(&provider), "expiry", &arguments);
}

#[tokio::test]
#[ignore = "needs Node.js, oidc-provider and Chromium: scripts/test"]
async fn chromium_in_two_tabs_20_of_20_and_login_csrf_0_of_20() {
    let (provider, dashboard) = with_real_provider(&[]).await;
    for scenario in ["two-tabs", "callback-before-session-lost"] {
        let arguments = ["--scenario", scenario, "--repeat", "20"];
        run(&dashboard, Some(&provider), scenario, &arguments);
    }
}

/// The pages that a browser cannot bring about by itself: a request of another site, a store that
/// is away. They are made by the layer, and shown to the browser with the headers they came with.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Node.js and Chromium: scripts/test"]
async fn chromium_shows_the_pages_that_need_trouble() {
    let world = World::new().await;
    let (app, store) = Kept::StoredShared.pod(&world, |builder| builder);
    let mut browser = world.browser(&app, "alice");
    browser.sign_in("/").await;
    let mut cross_site = navigation(Method::POST, "/transfer");
    cross_site.headers_mut().insert("sec-fetch-site", "cross-site".parse().unwrap());
    let forbidden = browser.send(cross_site).await;
    store.fail(StoreErrorKind::Unavailable);
    let unavailable = browser.get("/").await;
    let here_only = browser.post("/auth/logout").await;

    let answers = [forbidden, unavailable, here_only];
    let names: Vec<_> = answers.iter().map(|answer| answer.page().unwrap().to_owned()).collect();
    assert_eq!(names, ["forbidden", "unavailable", "signed-out-here-only"]);
    let mut server = axum::Router::new().route("/answers", get(async move || axum::Json(names)));
    for answer in answers {
        let path = format!("/answers/{}", answer.page().unwrap());
        let shown = (answer.headers, answer.body);
        server = server.route(&path, get(async move || shown));
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, server).await });
    tokio::task::spawn_blocking(move || {
        drive(&base, None, "answers", &["--scenario", "answers", "--answers"]);
    })
    .await
    .unwrap();
}
