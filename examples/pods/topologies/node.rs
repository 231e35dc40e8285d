//! One `redis-server` as a process that may be killed, hung and started again.
//!
//! A shell stands between: it ends Redis by its process id as soon as its standard input closes,
//! so that Redis does not outlive this process even if that is killed.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::resp::{Reply, exchange};

const SCRIPT: &str = r#"
trap '' HUP INT TERM
redis-server "$@" </dev/null >>"$0" 2>&1 &
echo $!
read -r _
kill -KILL $!
wait $!
"#;

/// A server, or a sentinel.
pub struct Node {
    pub port: u16,
    folder: PathBuf,
    mode: Mode,
    running: Option<Running>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Mode {
    Data,
    Sentinel,
}

struct Running {
    guard: Child,
    pid: String,
}

impl Node {
    /// Starts one that holds data, on a free port, with more lines of `redis.conf`.
    pub(super) fn start(folder: &Path, name: &str, more: &str) -> io::Result<Self> {
        let port = free_port()?;
        let settings = format!(
            "save \"\"\nappendonly no\nmaxmemory-policy noeviction\n\
             repl-diskless-sync yes\nrepl-diskless-sync-delay 0\n\
             user {OPERATOR} on >{OPERATOR} ~* &* +@all\n{more}"
        );
        Self::start_as(Mode::Data, folder.join(name), port, &settings)
    }

    /// Starts a sentinel on a free port.
    pub(super) fn sentinel(folder: &Path, name: &str, settings: &str) -> io::Result<Self> {
        Self::start_as(Mode::Sentinel, folder.join(name), free_port()?, settings)
    }

    fn start_as(mode: Mode, folder: PathBuf, port: u16, settings: &str) -> io::Result<Self> {
        std::fs::create_dir(&folder)?;
        let place = format!("port {port}\nbind 127.0.0.1\ndir {}\n{settings}", folder.display());
        std::fs::write(folder.join(CONFIGURATION), place)?;
        let mut node = Self { port, folder, mode, running: None };
        node.run(None)?;
        Ok(node)
    }

    pub const fn address(&self) -> SocketAddr {
        SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), self.port)
    }

    /// Runs it where it was, as a replica of the server on that port; returns when it answers.
    pub(super) fn run(&mut self, master: Option<u16>) -> io::Result<()> {
        self.kill();
        self.running = Some(Running::start(&self.folder, self.mode, master)?);
        wait_for(|| self.answers()).map_err(|_| {
            io::Error::other(format!("redis-server does not answer\n{}", self.last_words()))
        })
    }

    pub(super) fn kill(&mut self) {
        drop(self.running.take());
    }

    pub(super) fn signal(&self, name: &str) -> io::Result<()> {
        let running = self.running.as_ref().ok_or_else(|| io::Error::other("it does not run"))?;
        let kill = ["-c", r#"kill -"$1" "$2""#, "sh", name, &running.pid];
        let status = Command::new("sh").args(kill).status()?;
        if status.success() { Ok(()) } else { Err(io::Error::other(format!("kill: {status}"))) }
    }

    /// Asks one command over a connection of its own, as somebody who may do everything, whatever
    /// becomes of the password of the others.
    ///
    /// # Errors
    ///
    /// If there is no answer within a second, or an error.
    pub fn ask(&self, command: &[&str]) -> io::Result<Reply> {
        self.ask_in_turn(&[command])
    }

    /// Asks commands over one connection; the answer is that to the last.
    ///
    /// # Errors
    ///
    /// As [`Node::ask`].
    pub fn ask_in_turn(&self, commands: &[&[&str]]) -> io::Result<Reply> {
        let login: &[&str] = &["AUTH", OPERATOR, OPERATOR];
        match self.mode {
            Mode::Data => exchange(self.address(), &[&[login], commands].concat()),
            Mode::Sentinel => exchange(self.address(), commands),
        }
    }

    /// Tells whether it is up.
    pub fn answers(&self) -> bool {
        self.ask(&["PING"]).is_ok_and(|reply| reply.text() == "PONG")
    }

    /// Tells whether it is a master, and how many replicas follow it; or a replica, and whether it
    /// follows its master.
    pub(super) fn role(&self) -> Option<Role> {
        let reply = self.ask(&["ROLE"]).ok()?;
        let parts = reply.list();
        match parts.first()?.text() {
            "master" => Some(Role::Master { replicas: parts.get(2)?.list().len() }),
            _ => Some(Role::Replica { follows: parts.get(3)?.text() == "connected" }),
        }
    }

    /// Returns how far a master is, and how far all its replicas have confirmed to be.
    pub(super) fn copied(&self) -> Option<(i64, i64)> {
        let reply = self.ask(&["INFO", "replication"]).ok()?;
        let number = |line: &str, name: &str| -> Option<i64> {
            let (_, rest) = line.split_once(name)?;
            rest.split([',', '\r']).next()?.parse().ok()
        };
        let lines = || reply.text().lines();
        let offset = lines().find_map(|line| number(line, "master_repl_offset:"))?;
        let online = lines().filter(|line| line.contains("state=online"));
        Some((offset, online.filter_map(|line| number(line, ",offset=")).min()?))
    }

    /// The end of its log, for an error message.
    pub(super) fn last_words(&self) -> String {
        let log = std::fs::read(self.folder.join(LOG)).unwrap_or_default();
        let log = String::from_utf8_lossy(&log[log.len().saturating_sub(LAST)..]).into_owned();
        format!("--- {}:\n{log}", self.folder.display())
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Role {
    Master { replicas: usize },
    Replica { follows: bool },
}

impl Running {
    fn start(folder: &Path, mode: Mode, master: Option<u16>) -> io::Result<Self> {
        let log = folder.join(LOG);
        File::options().create(true).append(true).open(&log)?;
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT]).arg(log).arg(folder.join(CONFIGURATION));
        if mode == Mode::Sentinel {
            command.arg("--sentinel");
        }
        if let Some(port) = master {
            command.args(["--replicaof", "127.0.0.1", &port.to_string()]);
        }
        // The shell says there that Redis was killed.
        command.stderr(Stdio::null());
        let mut guard = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let output = guard.stdout.take().ok_or_else(|| io::Error::other("no output"))?;
        let mut pid = String::new();
        BufReader::new(output.take(32)).read_line(&mut pid)?;
        let pid = pid.trim().to_owned();
        let running = Self { guard, pid };
        if running.pid.is_empty() || !running.pid.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(io::Error::other("the shell does not say which process Redis is"));
        }
        Ok(running)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}

/// A port that nobody listens on just now.
pub(super) fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Asks again until it is so.
pub(super) fn wait_for(fits: impl Fn() -> bool) -> Result<(), TooLong> {
    let begun = Instant::now();
    while !fits() {
        if begun.elapsed() > PATIENCE {
            return Err(TooLong);
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// It never was.
#[derive(Debug)]
pub(super) struct TooLong;

/// A guard against hanging; fail-overs take seconds.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(20);
const CONFIGURATION: &str = "redis.conf";
const LOG: &str = "log";
/// So many bytes of a log are shown.
const LAST: usize = 4000;
/// Who looks after the servers.
const OPERATOR: &str = "operator";
