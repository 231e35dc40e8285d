//! Where and with what was measured.

use std::process::Command;

/// Says which machine it was, in one line.
pub fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let cpu = std::fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    });
    let cpu = cpu.unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let rustc = first_line("rustc", &["--version"]);
    let redis = first_line("redis-server", &["--version"]);
    let redis = redis.split_whitespace().find_map(|word| word.strip_prefix("v="));
    let redis = redis.map(|version| format!(", Redis {version} on loopback")).unwrap_or_default();
    format!("{cores} cores of {cpu}, {}{redis}", rustc.split(" (").next().unwrap_or_default())
}

/// Names the versions of the crates that are compared.
pub fn versions() -> String {
    let named: Vec<String> =
        CRATES.iter().filter_map(|name| Some(format!("{name} {}", locked(name)?))).collect();
    named.join(", ")
}

/// Looks a version up in the lock file this was built from.
fn locked(name: &str) -> Option<&'static str> {
    let (_, rest) = LOCK.split_once(&format!("\nname = \"{name}\"\nversion = \""))?;
    rest.split('"').next()
}

fn first_line(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    text.unwrap_or_default().lines().next().unwrap_or_default().to_owned()
}

const LOCK: &str = include_str!("../Cargo.lock");

const CRATES: &[&str] =
    &["tower-pkce-auth", "axum", "tower-sessions", "axum-login", "huskarl-axum", "huskarl-login"];
