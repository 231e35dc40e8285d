//! A Redis server that says what a test wants, on a free port of 127.0.0.1.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::io::{BufReader, Error, Result};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What comes after a command.
pub enum Act {
    /// The connection ends.
    Close,
    /// Nothing, for ever; the connection stays.
    Hang,
    /// These bytes.
    Say(String),
}

/// A listening server; it ends with its handle.
pub struct Fake {
    pub port: u16,
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    connections: usize,
    commands: Vec<Vec<String>>,
}

impl Fake {
    /// Answers each command by what `answer` makes of it.
    pub async fn start(answer: impl Fn(&[String]) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::<Mutex<Seen>>::default();
        let (answer, noted) = (Arc::new(answer), seen.clone());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                noted.lock().unwrap().connections += 1;
                let (answer, noted) = (answer.clone(), noted.clone());
                // An error is a client that went away, as it may.
                tokio::spawn(async move { serve(stream, &*answer, &noted).await.ok() });
            }
        });
        Self { port, seen, task }
    }

    /// A server of this name and version that is well and empty.
    pub async fn of_version(name: &'static str, version: &'static str) -> Self {
        Self::start(move |command| Act::Say(well(command, name, version))).await
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// How often somebody connected.
    pub fn connections(&self) -> usize {
        self.seen.lock().unwrap().connections
    }

    /// How often this command came.
    pub fn count(&self, name: &str) -> usize {
        let seen = self.seen.lock().unwrap();
        seen.commands.iter().filter(|command| command[0] == name).count()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What a server of that version answers. Before 6.2 a `HELLO` had to name a protocol, and before
/// 7.2 there was no `CLIENT SETINFO`.
pub fn well(command: &[String], name: &str, version: &str) -> String {
    let old = version.starts_with("6.0.");
    match command[0].as_str() {
        "HELLO" if old && command.len() == 1 => {
            "-ERR wrong number of arguments for 'hello' command\r\n".to_owned()
        }
        "HELLO" => format!(
            "%7\r\n$6\r\nserver\r\n{}$7\r\nversion\r\n{}$5\r\nproto\r\n:3\r\n$2\r\nid\r\n:7\r\n\
             $4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n",
            bulk(name),
            bulk(version),
        ),
        "CLIENT" if version.starts_with("8.") => "+OK\r\n".to_owned(),
        "CLIENT" => "-ERR Unknown subcommand or wrong number of arguments for 'SETINFO'. Try \
                     CLIENT HELP.\r\n"
            .to_owned(),
        "GET" | "GETDEL" => "_\r\n".to_owned(),
        _ => "+OK\r\n".to_owned(),
    }
}

fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

async fn serve(
    mut stream: TcpStream,
    answer: &(impl Fn(&[String]) -> Act + Send + Sync),
    seen: &Mutex<Seen>,
) -> Result<()> {
    let (reader, mut writer) = stream.split();
    let mut reader = BufReader::new(reader);
    loop {
        let command = read(&mut reader).await?;
        let act = answer(&command);
        seen.lock().unwrap().commands.push(command);
        match act {
            Act::Close => return Ok(()),
            Act::Hang => std::future::pending().await,
            Act::Say(text) => writer.write_all(text.as_bytes()).await?,
        }
    }
}

/// Reads an array of bulk strings, the only form in which clients send commands.
async fn read(reader: &mut (impl AsyncBufRead + Unpin)) -> Result<Vec<String>> {
    let count = number(reader, '*').await?;
    let mut command = Vec::new();
    for _ in 0..count {
        let mut bytes = vec![0; number(reader, '$').await? + 2];
        reader.read_exact(&mut bytes).await?;
        bytes.truncate(bytes.len() - 2);
        command.push(String::from_utf8_lossy(&bytes).into_owned());
    }
    Ok(command)
}

async fn number(reader: &mut (impl AsyncBufRead + Unpin), kind: char) -> Result<usize> {
    let mut line = String::new();
    reader.read_line(&mut line).await?;
    let number = line.strip_prefix(kind).and_then(|number| number.trim_end().parse().ok());
    number.ok_or_else(|| Error::other("no command"))
}
