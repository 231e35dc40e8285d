//! How much memory a pod holds.

use std::fmt;

use crate::fleet::Fleet;

/// Resident memory (`VmRSS`), where the system tells.
#[derive(Clone, Copy, Debug)]
pub struct Memory(Option<u64>);

impl Memory {
    pub fn of(fleet: &Fleet, pod: usize) -> Self {
        let status = fleet.process(pod).map(|pid| format!("/proc/{pid}/status"));
        let status = status.and_then(|path| std::fs::read_to_string(path).ok());
        Self(status.and_then(|status| {
            let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
            line.split_whitespace().nth(1)?.parse().ok()
        }))
    }

    /// Tells whether no more has been added since than the sessions, connections and spare pages of
    /// a process that goes on as before: a quarter and 16 MiB.
    ///
    /// What leaks at each request or login is far beyond that after an hour.
    pub fn is_flat_since(self, before: Self) -> bool {
        match (before.0, self.0) {
            (Some(before), Some(after)) => after <= before + before / 4 + 16 * 1024,
            _ => true,
        }
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(kilobytes) => write!(f, "{:.1} MiB", kilobytes as f64 / 1024.0),
            None => f.write_str("unknown"),
        }
    }
}
