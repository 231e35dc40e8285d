//! A few words with a server: commands, and answers as RESP2 writes them.

use std::io::{self, BufRead, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// An answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Reply {
    List(Vec<Reply>),
    Nothing,
    Number(i64),
    Text(String),
}

impl Reply {
    /// The text; empty if it is none.
    pub fn text(&self) -> &str {
        if let Self::Text(text) = self { text } else { "" }
    }

    /// The number, also of a text.
    pub fn number(&self) -> Option<i64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Text(text) => text.parse().ok(),
            Self::List(_) | Self::Nothing => None,
        }
    }

    /// The parts; none if it is no list.
    pub fn list(&self) -> &[Self] {
        if let Self::List(list) = self { list } else { &[] }
    }
}

/// Sends commands over a connection of their own, and returns the answer to the last.
pub(super) fn exchange(address: SocketAddr, commands: &[&[&str]]) -> io::Result<Reply> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut bytes = Vec::new();
    for command in commands {
        write!(bytes, "*{}\r\n", command.len())?;
        for word in *command {
            write!(bytes, "${}\r\n{word}\r\n", word.len())?;
        }
    }
    stream.write_all(&bytes)?;
    let mut stream = BufReader::new(stream);
    let mut last = Reply::Nothing;
    for _ in commands {
        last = read(&mut stream)?;
    }
    Ok(last)
}

fn read(stream: &mut impl BufRead) -> io::Result<Reply> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let line = line.trim_end();
    let bad = || io::Error::other(format!("no answer of Redis: {line:?}"));
    let (kind, rest) = line.split_at_checked(1).ok_or_else(bad)?;
    let number = || rest.parse::<i64>().map_err(|_| bad());
    match kind {
        "+" => Ok(Reply::Text(rest.to_owned())),
        "-" => Err(io::Error::other(rest.to_owned())),
        ":" => Ok(Reply::Number(number()?)),
        "$" => {
            let Ok(length) = usize::try_from(number()?) else { return Ok(Reply::Nothing) };
            let mut bytes = vec![0; length + 2];
            stream.read_exact(&mut bytes)?;
            bytes.truncate(length);
            Ok(Reply::Text(String::from_utf8_lossy(&bytes).into_owned()))
        }
        "*" => {
            let Ok(length) = usize::try_from(number()?) else { return Ok(Reply::Nothing) };
            (0..length).map(|_| read(stream)).collect::<io::Result<_>>().map(Reply::List)
        }
        _ => Err(bad()),
    }
}

const PATIENCE: Duration = Duration::from_secs(1);
