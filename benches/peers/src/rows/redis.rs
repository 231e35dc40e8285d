//! A Redis server of this run's own.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::Failed;

/// A server on a free port of loopback, in a folder of its own; it ends when this is dropped.
pub struct Server {
    child: Child,
    port: u16,
    _folder: TempDir,
}

impl Server {
    /// Starts it and waits until it answers.
    pub fn start() -> Result<Self, Failed> {
        let folder = TempDir::new()?;
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let child = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
            .args(["--save", "", "--appendonly", "no", "--daemonize", "no"])
            .arg("--dir")
            .arg(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| format!("redis-server does not start: {error}"))?;
        let mut server = Self { child, port, _folder: folder };
        let begun = Instant::now();
        while !server.answers() {
            if let Some(status) = server.child.try_wait()? {
                return Err(format!("redis-server ended at once: {status}").into());
            }
            if begun.elapsed() > START {
                return Err("redis-server does not answer".into());
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(server)
    }

    /// Returns its address for a client.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    fn answers(&self) -> bool {
        let ask = || {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
            stream.set_read_timeout(Some(START))?;
            stream.write_all(b"PING\r\n")?;
            let mut answer = [0; 7];
            stream.read_exact(&mut answer)?;
            std::io::Result::Ok(answer == *b"+PONG\r\n")
        };
        ask().unwrap_or(false)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const START: Duration = Duration::from_secs(30);
