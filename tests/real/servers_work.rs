//! The real store does what the tests that use it lean on.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::servers::{Options, Redis};

/// Whether a new connection gets an answer; a server that hangs accepts it and says nothing.
fn answers(redis: &Redis) -> bool {
    let mut stream = TcpStream::connect(("127.0.0.1", redis.port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    stream.write_all(b"PING\r\n").unwrap();
    stream.read(&mut [0; 64]).is_ok_and(|length| length > 0)
}

#[test]
#[ignore = "needs redis-server: scripts/test"]
fn redis_is_watched_dumped_hung_and_started_again() {
    let mut redis = Redis::start(Options::default().user("app", "s3cret").database(3));
    assert_eq!(redis.url(), format!("redis://app:s3cret@127.0.0.1:{}/3", redis.port));
    let monitor = redis.monitor();
    assert_eq!(redis.cli(&["SET", "a:b", "written in full"]), "OK");
    let lines = monitor.lines();
    assert!(lines.iter().any(|line| line.contains(r#"[3 127.0.0.1:"#)), "{lines:?}");
    assert!(lines.iter().any(|line| line.ends_with(r#""SET" "a:b" "written in full""#)));
    drop(monitor);

    let dump = redis.dump();
    assert!(dump.file.windows(15).any(|window| window == b"written in full"));
    assert_eq!(dump.entries.len(), 1);
    assert_eq!(dump.entries["a:b"], b"written in full");

    redis.hang();
    assert!(!answers(&redis));
    redis.resume();
    assert_eq!(redis.cli(&["PING"]), "PONG");

    redis.stop();
    assert!(TcpStream::connect(("127.0.0.1", redis.port)).is_err());
    redis.start_again();
    assert_eq!(redis.cli(&["GET", "a:b"]), "written in full", "the dump is what was on its disk");
}

#[test]
#[ignore = "needs redis-server: scripts/test"]
fn redis_asks_for_a_password_speaks_tls_and_refuses_when_full() {
    let redis = Redis::start(Options::default().password("s3cret").tls().set("maxmemory", "1kb"));
    assert_eq!(redis.url(), format!("rediss://:s3cret@localhost:{}/0", redis.port));
    assert_eq!(redis.cli(&["PING"]), "PONG");
    assert!(!answers(&redis), "without TLS nothing is answered");
    assert!(redis.cli(&["SET", "a", "b"]).starts_with("OOM"));
    assert_eq!(redis.cli(&["CONFIG", "SET", "maxmemory", "0"]), "OK");
    assert_eq!(redis.cli(&["SET", "a", "b"]), "OK");
}
