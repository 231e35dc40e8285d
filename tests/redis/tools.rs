//! What the tests of the store share.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::error::Error;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tower_pkce_auth::{Key, RedisStore, StoreError};

/// The certificate authority of the servers with TLS.
pub const CA: &[u8] = include_bytes!("../tls/ca.pem");
/// A time to live that no test outlasts.
pub const LONG: Duration = Duration::from_secs(600);
/// Ten times the second in which everything is to be answered.
pub const HANG: Duration = Duration::from_secs(10);

pub fn store(url: &str) -> RedisStore {
    RedisStore::new(url).unwrap()
}

/// A store behind TLS whose authority is one's own.
pub fn private(url: &str) -> RedisStore {
    RedisStore::builder(url).ca_pem(CA).build().unwrap()
}

/// A key that nothing has used before.
pub fn key() -> Key {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    Key::new("suite", "tools", &number.to_be_bytes())
}

/// Everything that an error shows: itself, its causes, and all that is in it.
pub fn shown(error: &StoreError) -> String {
    let mut text = format!("{error}\n{error:?}");
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = write!(text, "\n{error}\n{error:?}");
        cause = error.source();
    }
    text
}

/// Waits for an answer, and says what it took; one that takes ten times the aim hangs.
pub async fn bounded<T>(what: &str, answer: impl Future<Output = T>) -> T {
    let begun = Instant::now();
    let answer = tokio::time::timeout(HANG, answer).await;
    let answer = answer.unwrap_or_else(|_| panic!("{what}: hangs"));
    println!("{what}: answered after {:?}", begun.elapsed());
    answer
}
