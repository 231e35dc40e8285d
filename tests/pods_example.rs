//! `examples/pods`, as the process that `cargo run --example pods` starts.
//!
//! With `redis-server` installed all of its table is run, else what needs no server. `cargo test`
//! builds the examples before it runs tests; with `--test pods_example` alone, say
//! `cargo build --example pods` before.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;
use tower_pkce_auth::CookieKeys;

/// A guard against hanging; all of it takes seconds.
const PATIENCE: Duration = Duration::from_secs(300);

fn pods() -> Command {
    // Cargo puts examples beside the folder of this test.
    let test = std::env::current_exe().unwrap();
    let path: PathBuf = test.ancestors().nth(2).unwrap().join("examples").join("pods");
    let mut command = Command::new(path);
    command.kill_on_drop(true).stdin(Stdio::null());
    command
}

/// The exit code, and what was printed: the table, and the rest.
async fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = tokio::time::timeout(PATIENCE, pods().args(arguments).output()).await;
    let output = output.expect("it hangs").expect("cargo builds the examples");
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn the_table_misses_nothing() {
    let (code, table, log) = run(&["--logins", "20"]).await;
    assert_eq!(code, Some(0), "{table}\n{log}");
    assert!(table.contains("\n20 logins, random pod, sealed,  20/20 at the first try"), "{table}");
    let last = table.lines().last().unwrap();
    let whole = ["23 runs, 0 missed, 0 not run", "9 runs, 0 missed, 14 not run"];
    assert!(whole.contains(&last), "{last}");
    if last == whole[1] {
        assert!(table.contains("redis-server is not installed"), "{table}");
    }
}

#[tokio::test]
async fn what_is_not_asked_for_is_not_run_and_said_so() {
    let (code, table, log) = run(&["--logins", "4", "--pods", "3", "--store", "sealed"]).await;
    assert_eq!(code, Some(0), "{table}\n{log}");
    assert!(!table.contains("memory"), "{table}");
    assert!(table.contains("no Redis among the stores"), "{table}");
    assert_eq!(table.lines().last(), Some("7 runs, 0 missed, 14 not run"), "{table}");
}

#[tokio::test]
async fn a_store_that_is_not_there_is_a_miss() {
    // Nobody listens on port 1.
    let arguments = ["--logins", "2", "--store", "redis://127.0.0.1:1/"];
    let (code, table, log) = run(&arguments).await;
    assert_eq!(code, Some(1), "{table}\n{log}");
    assert_eq!(table.lines().last(), Some("9 runs, 9 missed, 10 not run"), "{table}");
    assert!(table.contains("broke off: 503 Service Unavailable"), "{table}");
}

#[tokio::test]
async fn what_it_does_not_know_it_refuses() {
    let cases: [&[&str]; 9] = [
        &["--faults", "--soak", "20"],
        &["--write", "page.md"],
        &["--soak", "0"],
        &["--soak", "soon"],
        &["--store", "rocksdb"],
        &["--logins", "0"],
        &["--logins", "many"],
        &["--pods", "1"],
        &["extra"],
    ];
    for arguments in cases {
        let (code, table, log) = run(arguments).await;
        assert_eq!(code, Some(2), "{arguments:?}: {log}");
        assert_eq!(table, "", "{arguments:?}");
    }
    let (code, help, _) = run(&["--help"]).await;
    assert_eq!(code, Some(0));
    for option in ["--faults", "--logins <N>", "--pods <N>", "--soak <SECONDS>", "--store <STORE>"]
    {
        assert!(help.contains(option), "{help}");
    }
    assert!(!help.contains("--pod\n") && !help.contains("--pod "), "hidden: {help}");
}

#[tokio::test]
async fn what_is_not_ours_is_never_killed() {
    let (code, table, log) = run(&["--soak", "5", "--store", "redis://127.0.0.1:1/"]).await;
    assert_eq!((code, table.as_str()), (Some(1), ""), "{log}");
    assert!(log.contains("must be our own"), "{log}");
}

#[tokio::test]
async fn a_pod_ends_with_the_process_that_started_it() {
    let settings = json!({
        "issuer": "http://127.0.0.1:1",
        "client_id": "app",
        "client_secret": "app-secret",
        "public_url": "http://127.0.0.1:2",
        "cookie_keys": CookieKeys::new_key_line(),
        "pending": "Sealed",
        "redis": null,
    });
    let mut pod = pods();
    pod.arg("--pod").env("PODS_SETTINGS", settings.to_string());
    let mut pod = pod.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(pod.stdout.take().unwrap()).lines();
    let line = tokio::time::timeout(PATIENCE, lines.next_line()).await;
    let address = line.expect("it hangs").unwrap().expect("it says where it listens");
    assert!(address.starts_with("127.0.0.1:"), "{address}");
    assert_eq!(pod.try_wait().unwrap(), None);
    drop(pod.stdin.take());
    let ended = tokio::time::timeout(PATIENCE, pod.wait()).await;
    assert!(ended.expect("it lives on").unwrap().success());
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}
