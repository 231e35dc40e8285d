//! The real browser: Debian's Chromium signs in to `examples/dashboard`.

use std::path::PathBuf;
use std::process::Command;

use crate::parts::{Dashboard, Provider, root};

/// Where the screenshots of every page are kept, light, dark and narrow.
fn screenshots(name: &str) -> PathBuf {
    root().join("target/screenshots").join(name)
}

fn run(dashboard: &Dashboard, provider: Option<&Provider>, out: &str, arguments: &[&str]) {
    let mut command = Command::new("node");
    command
        .arg(root().join("tests/browser/run.mjs"))
        .args(["--base", &dashboard.origin])
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
