//! The ways in which a Redis server is away, and how it comes back.

use std::time::Duration;

use crate::servers::{Options, Redis, free_port};

/// What is wrong with the server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outage {
    /// It serves nothing until its master, which is gone, has been copied.
    Demoted,
    /// Its process is stopped; the kernel still takes connections for it.
    Hung,
    /// It reads its data from disk.
    Loading,
    /// It takes no writes without a replica.
    NoReplicas,
    /// It is a replica now: reads work, on what it had.
    ReadOnly,
    /// Its process is gone.
    Stopped,
    /// Its password is another one, and connections are ended.
    WrongPassword,
}

const PASSWORD: &str = "s3cret";
const OTHER: &str = "an0ther";

impl Outage {
    /// A server that can have any of these outages.
    pub fn server() -> Redis {
        let options = Options::default()
            .password(PASSWORD)
            .set("enable-debug-command", "local")
            .set("loading-process-events-interval-bytes", "1024");
        Redis::start(options)
    }

    /// Whether what is there can be read all the same.
    pub fn is_readable(self) -> bool {
        matches!(self, Self::NoReplicas | Self::ReadOnly)
    }

    /// Takes the server away.
    pub fn begin(self, redis: &mut Redis) {
        match self {
            Self::Demoted => {
                ok(redis, &["CONFIG", "SET", "replica-serve-stale-data", "no"]);
                demote(redis);
            }
            Self::Hung => redis.hang(),
            Self::Loading => load(redis),
            Self::NoReplicas => ok(redis, &["CONFIG", "SET", "min-replicas-to-write", "1"]),
            Self::ReadOnly => demote(redis),
            Self::Stopped => {
                ok(redis, &["SAVE"]);
                redis.stop();
            }
            Self::WrongPassword => {
                ok(redis, &["CONFIG", "SET", "requirepass", OTHER]);
                redis.cli(&["-a", OTHER, "CLIENT", "KILL", "TYPE", "normal"]);
            }
        }
    }

    /// Brings it back, with all that it had.
    pub fn end(self, redis: &mut Redis) {
        match self {
            Self::Demoted | Self::ReadOnly => ok(redis, &["REPLICAOF", "NO", "ONE"]),
            Self::Hung => redis.resume(),
            Self::Loading => {
                ok(redis, &["CONFIG", "SET", "key-load-delay", "0"]);
                wait(|| redis.cli(&["PING"]) == "PONG");
            }
            Self::NoReplicas => ok(redis, &["CONFIG", "SET", "min-replicas-to-write", "0"]),
            Self::Stopped => redis.start_again(),
            Self::WrongPassword => {
                ok(redis, &["-a", OTHER, "CONFIG", "SET", "requirepass", PASSWORD]);
            }
        }
    }
}

pub fn ok(redis: &Redis, command: &[&str]) {
    let answer = redis.cli(command);
    assert!(answer.contains("OK"), "{command:?}: {answer}");
}

fn demote(redis: &Redis) {
    ok(redis, &["REPLICAOF", "127.0.0.1", &free_port().to_string()]);
}

/// Lets the server read its data anew, so slowly that it does not end by itself.
fn load(redis: &Redis) {
    let fill = "for n = 1, 400 do redis.call('SET', 'fill:' .. n, string.rep('x', 2048)) end";
    redis.cli(&["EVAL", fill, "0"]);
    ok(redis, &["CONFIG", "SET", "key-load-delay", "100000"]);
    // Answered when everything is read: nobody waits for that.
    let port = redis.port.to_string();
    let mut client = std::process::Command::new("redis-cli")
        .args(["--no-auth-warning", "-a", PASSWORD, "-p", &port, "DEBUG", "RELOAD"])
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("redis-cli is there");
    std::thread::spawn(move || client.wait());
    wait(|| redis.cli(&["PING"]).starts_with("LOADING"));
}

/// Waits for a condition that only asking can tell.
pub fn wait(is_so: impl Fn() -> bool) {
    let begun = std::time::Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(60), "it never happens");
        std::thread::sleep(Duration::from_millis(10));
    }
}
