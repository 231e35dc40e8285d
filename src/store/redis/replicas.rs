//! What is known of the replicas of a server: whether there are any, and whether they keep up with
//! what is written. A write that waits for a replica must not wait in vain each time.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ::redis::Value;

use super::connect::{is_master, text};
use crate::clock::{Clock as _, SystemClock};
use crate::store::cache::millis;

/// So long a server counts as one with replicas after some were seen: one that has left may be
/// master now.
const RECENT: Duration = Duration::from_secs(3);
/// None is waited for so long after one did not confirm a write in time, unless it is seen to have
/// caught up before.
const FORBEARANCE: Duration = Duration::from_secs(15);
/// So long several replicas are remembered: one of them may have left to become master.
const MEMORY: Duration = Duration::from_secs(60);
/// The log is told of it once in so long.
const QUIET: Duration = Duration::from_secs(60);

/// The replicas of one server.
pub(super) struct Replicas {
    /// Whether there should be some.
    expected: bool,
    /// Until then there are some, in monotonic milliseconds.
    until: AtomicU64,
    /// When one did not confirm a write in time; 0 if they keep up.
    behind_since: AtomicU64,
    /// Whether the server refuses to wait for them.
    refused: AtomicBool,
    /// Until then there may be more than one, in monotonic milliseconds.
    several_until: AtomicU64,
    /// When the log was told last that they do not keep up.
    told: AtomicU64,
    /// When the master's offset was looked at, and what it was.
    target: Mutex<Option<(u64, i64)>>,
}

impl Replicas {
    pub(super) fn new(expected: bool) -> Self {
        let replicas = Self {
            expected,
            until: AtomicU64::new(0),
            behind_since: AtomicU64::new(0),
            refused: AtomicBool::new(false),
            several_until: AtomicU64::new(if expected { now() + millis(MEMORY) } else { 0 }),
            told: AtomicU64::new(0),
            target: Mutex::default(),
        };
        replicas.forget();
        replicas
    }

    /// Forgets what was known: it may be another server now.
    pub(super) fn forget(&self) {
        self.behind_since.store(0, Ordering::Release);
        self.refused.store(false, Ordering::Release);
        *self.target.lock().unwrap_or_else(PoisonError::into_inner) = None;
        if self.expected {
            self.are_there(RECENT);
        }
    }

    /// Tells whether there are some, or were a moment ago.
    pub(super) fn exist(&self) -> bool {
        now() < self.until.load(Ordering::Acquire)
    }

    /// Notes that there are some, and for how long that is believed.
    pub(super) fn are_there(&self, believed: Duration) {
        self.until.fetch_max(now() + millis(believed), Ordering::AcqRel);
    }

    /// Tells whether they keep up, as far as is known, and may be waited for.
    pub(super) fn keep_up(&self) -> bool {
        let since = self.behind_since.load(Ordering::Acquire);
        let behind = since != 0 && now() < since + millis(FORBEARANCE);
        !behind && !self.refused.load(Ordering::Acquire)
    }

    /// Tells whether there may be more than one, or were a while ago.
    pub(super) fn are_several(&self) -> bool {
        now() < self.several_until.load(Ordering::Acquire)
    }

    /// Notes that none has confirmed a write in time; tells whether the log should be told.
    pub(super) fn fell_behind(&self) -> bool {
        let now = now().max(1);
        self.behind_since.store(now, Ordering::Release);
        let told = self.told.load(Ordering::Acquire);
        let tell = told == 0 || now.saturating_sub(told) > millis(QUIET);
        if tell {
            self.told.store(now, Ordering::Release);
        }
        tell
    }

    /// Notes that the server does not wait for them.
    pub(super) fn refused(&self) {
        self.refused.store(true, Ordering::Release);
    }

    /// Reads an answer to `ROLE`: `["master", offset, [[host, port, offset], …]]`.
    ///
    /// Replicas say each second how far they are, so what they have is compared with what the
    /// master had a while ago.
    pub(super) fn hear(&self, role: &Value) {
        let Value::Array(parts) = role else { return };
        let [_, offset, Value::Array(replicas)] = &parts[..] else { return };
        if !is_master(role) || replicas.is_empty() {
            return;
        }
        self.are_there(RECENT);
        if replicas.len() > 1 {
            self.several_until.store(now() + millis(MEMORY), Ordering::Release);
        }
        let Some(offset) = number(offset) else { return };
        let furthest = replicas.iter().filter_map(|replica| match replica {
            Value::Array(fields) => fields.get(2).and_then(number),
            _ => None,
        });
        let furthest = furthest.max().unwrap_or_default();
        let mut target = self.target.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, wanted) = *target.get_or_insert((now(), offset));
        if furthest >= wanted {
            let since = self.behind_since.load(Ordering::Acquire);
            if since != 0 && since < at {
                // Unless it was noted again meanwhile.
                let _ = self.behind_since.compare_exchange(
                    since,
                    0,
                    Ordering::AcqRel,
                    Ordering::Acquire,
                );
            }
            *target = Some((now(), offset));
        }
    }
}

fn number(value: &Value) -> Option<i64> {
    match value {
        Value::Int(number) => Some(*number),
        other => text(other)?.parse().ok(),
    }
}

fn now() -> u64 {
    millis(SystemClock.monotonic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(offset: i64, replicas: &[i64]) -> Value {
        let bulk = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let replica = |offset: &i64| {
            Value::Array(vec![bulk("10.0.0.2"), bulk("6379"), bulk(&offset.to_string())])
        };
        let replicas = Value::Array(replicas.iter().map(replica).collect());
        Value::Array(vec![bulk("master"), Value::Int(offset), replicas])
    }

    #[test]
    fn replicas_are_known_by_what_the_master_says_of_them() {
        let replicas = Replicas::new(false);
        assert!(!replicas.exist());
        replicas.hear(&role(10, &[]));
        replicas.hear(&Value::Array(vec![Value::BulkString(b"slave".to_vec())]));
        replicas.hear(&Value::Okay);
        assert!(!replicas.exist());
        replicas.hear(&role(10, &[10]));
        assert!(replicas.exist());
        assert!(Replicas::new(true).exist(), "until it is known better");
    }

    #[test]
    fn one_that_has_caught_up_is_waited_for_again() {
        let replicas = Replicas::new(true);
        replicas.hear(&role(100, &[100]));
        assert!(replicas.keep_up());
        assert!(replicas.fell_behind(), "the log is told");
        assert!(!replicas.fell_behind(), "once");
        std::thread::sleep(Duration::from_millis(2));
        // What it had before says nothing of what it has not confirmed.
        replicas.hear(&role(200, &[100]));
        assert!(!replicas.keep_up());
        replicas.hear(&role(200, &[150]));
        replicas.hear(&role(300, &[150]));
        assert!(!replicas.keep_up(), "150 of 200");
        replicas.hear(&role(300, &[90, 300]));
        assert!(replicas.keep_up());
    }

    #[test]
    fn a_server_that_refuses_to_wait_is_not_asked_again_until_it_is_another() {
        let replicas = Replicas::new(true);
        replicas.refused();
        replicas.hear(&role(1, &[1]));
        assert!(!replicas.keep_up());
        replicas.forget();
        assert!(replicas.keep_up());
    }
}
