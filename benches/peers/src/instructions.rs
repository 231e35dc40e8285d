//! Instructions per request, counted by valgrind in a process of its own for each figure.

use std::process::{Command, Stdio};

use crate::rows::Failed;

/// Tells whether valgrind is there.
pub fn available() -> bool {
    let version = Command::new("valgrind")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    version.is_ok_and(|status| status.success())
}

/// Counts the instructions of a request: those of many requests less those of few, so that the
/// warm-up and whatever is done once does not count.
pub fn count(id: &str) -> Result<f64, Failed> {
    let (few, many) = (collected(id, FEW)?, collected(id, MANY)?);
    Ok((many as f64 - few as f64) / (MANY - FEW) as f64)
}

fn collected(id: &str, requests: usize) -> Result<u64, Failed> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--collect-atstart=no"])
        .arg("--toggle-collect=peers::measure::drive")
        .arg(std::env::current_exe()?)
        .args(["once", id, &requests.to_string()])
        .output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("under valgrind: {}", last_lines(&text)).into());
    }
    let collected = text
        .lines()
        .find_map(|line| line.split_once("Collected :"))
        .and_then(|(_, figure)| figure.trim().parse().ok())
        .ok_or("valgrind says no figure")?;
    if collected == 0 {
        return Err("valgrind did not find what to count".into());
    }
    Ok(collected)
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("==")).collect();
    lines[lines.len().saturating_sub(3)..].join(" / ")
}

const FEW: usize = 512;
const MANY: usize = 2560;
