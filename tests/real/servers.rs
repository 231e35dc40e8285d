//! The real store: Debian's `redis-server` as a process of its own.
//!
//! It listens on a free port of 127.0.0.1, keeps its files in a temporary folder and is ended with
//! its handle, by its own process id. Nothing here needs another file of the tests, so that any of
//! them can say `#[path = "real/servers.rs"] mod servers;`. Tests that use it are `#[ignore]`d:
//! `scripts/test` installs the server and runs them.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

/// What a server is started with. The default: no password, no TLS, database 0, nothing written to
/// disk, and a full memory refuses writes.
#[derive(Clone, Debug, Default)]
pub struct Options {
    user: Option<String>,
    password: Option<String>,
    database: u32,
    tls: bool,
    settings: Vec<(String, String)>,
}

impl Options {
    /// A password for everybody (`requirepass`).
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    /// An ACL user; the default one is then switched off.
    pub fn user(mut self, name: &str, password: &str) -> Self {
        self.user = Some(name.to_owned());
        self.password(password)
    }

    /// The database that [`Redis::url`] names.
    pub fn database(mut self, number: u32) -> Self {
        self.database = number;
        self
    }

    /// TLS alone, with the certificate for `localhost` that `tests/tls/ca.pem` has signed.
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// A line of `redis.conf`, such as `("maxmemory", "2mb")`.
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    fn configuration(&self, port: u16, folder: &Path) -> String {
        let mut lines = format!("bind 127.0.0.1\ndir {}\n", folder.display());
        // Written out in full, so that what is looked for in a dump can be seen there.
        lines.push_str("save \"\"\nappendonly no\nrdbcompression no\n");
        lines.push_str("maxmemory-policy noeviction\n");
        if self.tls {
            let tls = root().join("tests/tls");
            let file = |name: &str| tls.join(name).display().to_string();
            let (certificate, key, ca) = (file("good.pem"), file("server.key"), file("ca.pem"));
            let _ = write!(lines, "port 0\ntls-port {port}\ntls-auth-clients no\n");
            let _ = write!(lines, "tls-cert-file {certificate}\ntls-key-file {key}\n");
            let _ = writeln!(lines, "tls-ca-cert-file {ca}");
        } else {
            let _ = writeln!(lines, "port {port}");
        }
        match (&self.user, &self.password) {
            (Some(user), Some(password)) => {
                let _ = write!(lines, "user default off\nuser {user} on >{password} ~* &* +@all\n");
            }
            (_, Some(password)) => {
                let _ = writeln!(lines, "requirepass {password}");
            }
            _ => {}
        }
        for (name, value) in &self.settings {
            let _ = writeln!(lines, "{name} {value}");
        }
        lines
    }
}

/// A running server. A thread that panics while it holds one ends the server all the same.
pub struct Redis {
    process: Child,
    options: Options,
    folder: Folder,
    pub port: u16,
}

impl Redis {
    /// Starts one, and returns when it takes connections.
    pub fn start(options: Options) -> Self {
        let folder = Folder::new("redis");
        for _ in 0..TRIES {
            let port = free_port();
            if let Some(process) = launch(&options, port, &folder) {
                return Self { process, options, folder, port };
            }
        }
        panic!("redis-server does not start:\n{}", folder.read_text("log"));
    }

    /// Where it is, with user, password and database, as `--store` and `RedisStore` take it.
    pub fn url(&self) -> String {
        let Options { user, password, database, tls, .. } = &self.options;
        // The certificate names `localhost`.
        let (scheme, host) = if *tls { ("rediss", "localhost") } else { ("redis", "127.0.0.1") };
        let who = match password {
            Some(password) => format!("{}:{password}@", user.as_deref().unwrap_or_default()),
            None => String::new(),
        };
        format!("{scheme}://{who}{host}:{}/{database}", self.port)
    }

    /// Runs one command by `redis-cli` in the database of the options; its answer, or its error.
    pub fn cli(&self, command: &[&str]) -> String {
        String::from_utf8_lossy(&self.cli_bytes(command)).trim_end_matches('\n').to_owned()
    }

    fn cli_bytes(&self, command: &[&str]) -> Vec<u8> {
        let output = self.client().args(command).output().expect("redis-cli is there");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "redis-cli {command:?}: {error}");
        output.stdout
    }

    fn client(&self) -> Command {
        let mut client = Command::new("redis-cli");
        let Options { user, password, database, tls, .. } = &self.options;
        client.args(["-p", &self.port.to_string(), "-n", &database.to_string()]);
        if *tls {
            client.args(["-h", "localhost", "--tls", "--cacert"]);
            client.arg(root().join("tests/tls/ca.pem"));
        }
        if let Some(user) = user {
            client.args(["--user", user]);
        }
        if let Some(password) = password {
            client.env("REDISCLI_AUTH", password);
        }
        client.stdin(Stdio::null());
        client
    }

    /// Ends it without warning. What it held is lost, but for what [`Redis::dump`] has written.
    pub fn stop(&mut self) {
        end(&mut self.process);
    }

    /// Starts it again where it was, after [`Redis::stop`].
    pub fn start_again(&mut self) {
        self.process = launch(&self.options, self.port, &self.folder)
            .unwrap_or_else(|| panic!("the port is taken:\n{}", self.folder.read_text("log")));
    }

    /// It no longer answers, but its connections stay open and new ones are accepted by the kernel.
    pub fn hang(&self) {
        signal("STOP", &self.process);
    }

    /// It goes on after [`Redis::hang`].
    pub fn resume(&self) {
        signal("CONT", &self.process);
    }

    /// Writes down every command that it gets from here on.
    pub fn monitor(&self) -> Monitor<'_> {
        Monitor::start(self)
    }

    /// All it holds: the file that a thief of its disk gets, and each key with its value.
    pub fn dump(&self) -> Dump {
        assert_eq!(self.cli(&["SAVE"]), "OK");
        let file = std::fs::read(self.folder.0.join("dump.rdb")).unwrap();
        let keys = self.cli(&["--scan"]);
        let entries = keys.lines().map(|key| {
            let command = if self.cli(&["TYPE", key]) == "string" { "GET" } else { "DUMP" };
            let mut value = self.cli_bytes(&[command, key]);
            value.pop(); // The newline of redis-cli.
            (key.to_owned(), value)
        });
        Dump { file, entries: entries.collect() }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        end(&mut self.process);
    }
}

/// What [`Redis::dump`] found.
pub struct Dump {
    /// The RDB file, uncompressed.
    pub file: Vec<u8>,
    /// Keys and values of the database of the options.
    pub entries: BTreeMap<String, Vec<u8>>,
}

/// `MONITOR` of one server.
pub struct Monitor<'a> {
    redis: &'a Redis,
    process: Child,
    lines: Arc<Mutex<Vec<String>>>,
    news: mpsc::Receiver<()>,
}

impl<'a> Monitor<'a> {
    fn start(redis: &'a Redis) -> Self {
        let mut process =
            redis.client().arg("MONITOR").stdout(Stdio::piped()).spawn().expect("redis-cli");
        let output = process.stdout.take().unwrap();
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let (sender, news) = mpsc::channel();
        let kept = lines.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                kept.lock().unwrap().push(line);
                let _ = sender.send(());
            }
        });
        let monitor = Self { redis, process, lines, news };
        monitor.wait_for(|line| line == "OK");
        monitor
    }

    /// Every command up to now; arguments as `MONITOR` writes them (bytes as `\xNN`).
    pub fn lines(&self) -> Vec<String> {
        static MARKS: AtomicU32 = AtomicU32::new(0);
        // All that came before this mark has been written down when the mark has.
        let mark = format!("mark-{}", MARKS.fetch_add(1, Ordering::Relaxed));
        self.redis.cli(&["ECHO", &mark]);
        let ends = format!("\"{mark}\"");
        self.wait_for(|line| line.ends_with(&ends));
        let mut lines = self.lines.lock().unwrap().clone();
        lines.retain(|line| line != "OK" && !line.contains("\"ECHO\" \"mark-"));
        lines
    }

    fn wait_for(&self, fits: impl Fn(&str) -> bool) {
        while !self.lines.lock().unwrap().iter().any(|line| fits(line)) {
            self.news.recv_timeout(PATIENCE).expect("MONITOR goes on");
        }
    }
}

impl Drop for Monitor<'_> {
    fn drop(&mut self) {
        end(&mut self.process);
    }
}

/// A temporary folder, removed with its handle.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("tower-pkce-auth-{name}-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).expect("a new folder");
        Self(path)
    }

    pub fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    /// A file that may not be there.
    pub fn read_text(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.join(name)).unwrap_or_default()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A port that nobody listens on just now. Another process may take it first: try again then.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Ends a process at once, also one that hangs.
pub fn end(process: &mut Child) {
    let _ = process.kill();
    let _ = process.wait();
}

/// Sends a signal by name; the shell has `kill` wherever Debian runs.
pub fn signal(name: &str, process: &Child) {
    let command = format!("kill -{name} {}", process.id());
    assert!(Command::new("sh").args(["-c", &command]).status().unwrap().success(), "{command}");
}

/// Starts the process; nothing if it ended instead of taking connections.
fn launch(options: &Options, port: u16, folder: &Folder) -> Option<Child> {
    let file = folder.write("redis.conf", &options.configuration(port, &folder.0));
    let mut process = Command::new("redis-server")
        .arg(file)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("redis-server is installed; scripts/test sees to it");
    let mut output = BufReader::new(process.stdout.take().unwrap());
    let mut log = String::new();
    while output.read_line(&mut log).is_ok_and(|length| length > 0) {
        if log.contains("Ready to accept connections") {
            // Reads on to the end, so that the process never blocks on a full pipe.
            std::thread::spawn(move || output.read_to_end(&mut Vec::new()));
            return Some(process);
        }
    }
    end(&mut process);
    folder.write("log", &log);
    None
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

const TRIES: u32 = 5;
const PATIENCE: Duration = Duration::from_secs(60);
