//! A Redis of our own on a free port, with nothing on disk.
//!
//! A shell stands between: it ends Redis by its process id as soon as its standard input closes,
//! so that Redis does not outlive this process even if that is killed.

use std::error::Error;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A guard against hanging; Redis is up in no time.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long to wait before asking again whether Redis is up.
const PAUSE: Duration = Duration::from_millis(5);

const SCRIPT: &str = r#"
trap '' HUP INT TERM
redis-server "$@" </dev/null >/dev/null 2>&1 &
echo $!
read -r _
kill -KILL $!
wait $!
rmdir "$PODS_FOLDER"
"#;

/// A running `redis-server`; it ends with its handle.
pub struct RedisServer {
    port: u16,
    folder: PathBuf,
    running: Option<Running>,
}

struct Running {
    guard: Child,
    pid: String,
}

impl RedisServer {
    /// Starts one; `None` if there is no `redis-server` on this machine.
    pub async fn start() -> Result<Option<Self>, Box<dyn Error>> {
        let found = Command::new("redis-server")
            .arg("--version")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if !found.is_ok_and(|status| status.success()) {
            return Ok(None);
        }
        let port = TcpListener::bind(("127.0.0.1", 0)).await?.local_addr()?.port();
        let folder = std::env::temp_dir().join(format!("pods-redis-{}-{port}", std::process::id()));
        let mut server = Self { port, folder, running: None };
        server.start_again().await?;
        Ok(Some(server))
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Starts it, empty, on the same port; returns when it answers.
    pub async fn start_again(&mut self) -> Result<(), Box<dyn Error>> {
        self.stop();
        std::fs::create_dir(&self.folder)?;
        self.running = Some(Running::start(self.port, &self.folder)?);
        let up = async {
            while !self.answers().await {
                tokio::time::sleep(PAUSE).await;
            }
        };
        let up = tokio::time::timeout(PATIENCE, up).await;
        Ok(up.map_err(|_| "redis-server does not answer")?)
    }

    /// Ends it at once, without a word to its clients, as a crash does.
    pub fn stop(&mut self) {
        drop(self.running.take());
    }

    /// Lets it hang: connections stay open and nothing is answered.
    pub fn freeze(&self) -> Result<(), Box<dyn Error>> {
        self.signal("STOP")
    }

    /// Lets it go on where it stood.
    pub fn thaw(&self) -> Result<(), Box<dyn Error>> {
        self.signal("CONT")
    }

    fn signal(&self, name: &str) -> Result<(), Box<dyn Error>> {
        let running = self.running.as_ref().ok_or("redis-server is not running")?;
        let kill = ["-c", r#"kill -"$1" "$2""#, "sh", name, &running.pid];
        let status = Command::new("sh").args(kill).status()?;
        if status.success() { Ok(()) } else { Err(format!("kill -{name}: {status}").into()) }
    }

    async fn answers(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)).await else {
            return false;
        };
        let mut answer = [0; 7];
        stream.write_all(b"PING\r\n").await.is_ok()
            && stream.read_exact(&mut answer).await.is_ok()
            && &answer == b"+PONG\r\n"
    }
}

impl Running {
    fn start(port: u16, folder: &Path) -> Result<Self, Box<dyn Error>> {
        let port = port.to_string();
        let mut guard = Command::new("sh")
            .args(["-c", SCRIPT, "redis-server", "--port", &port, "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no", "--dir"])
            .arg(folder)
            .env("PODS_FOLDER", folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let output = guard.stdout.take().ok_or("a shell without output")?;
        let mut pid = String::new();
        BufReader::new(output.take(32)).read_line(&mut pid)?;
        let pid = pid.trim().to_owned();
        let running = Self { guard, pid };
        if running.pid.is_empty() || !running.pid.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err("the shell does not say which process Redis is".into());
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
