//! The layer before any HTTP service: a reverse proxy that asks people to sign in.
//!
//! ```text
//! cargo run --example gateway -- --help
//! ```
//!
//! The way of a request: [`serve`] takes the connection, [`front`] judges the head and logs,
//! `PkceAuthLayer` finds out who is signed in, [`proxy`] sends the request on by [`upstream`] and
//! brings the answer back. [`forwarding`] says which header fields pass, [`identity_headers`] how
//! the upstream learns who is signed in.
//!
//! The upstream is asked for the path and query as they were received, byte for byte. If the
//! public URL has a path (`https://intranet.example/app`), the gateway serves what lies below it
//! and nothing else; the upstream sees that path too and must be told of it (`--web.external-url`
//! of Prometheus, `base_url` of Jupyter). The paths of `--public` are those below it.

mod access_log;
mod body;
mod client_address;
mod client_stream;
mod drain;
mod environment;
mod errors;
mod forwarding;
mod front;
mod identity_headers;
mod options;
mod patience;
mod problems;
mod proxy;
mod serve;
mod setup;
mod sign_in;
mod site;
mod slots;
mod upgrade;
mod upload;
mod upstream;

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;

use tokio::net::TcpSocket;
use tower_pkce_auth::CookieKeys;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use self::drain::Drain;
use self::options::Options;
use self::serve::End;

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::read();
    if options.new_key {
        println!("{}", CookieKeys::new_key_line());
        return ExitCode::SUCCESS;
    }
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into());
    tracing_subscriber::fmt()
        .with_env_filter(filter.from_env_lossy())
        .with_writer(io::stderr)
        .init();
    match run(&options).await {
        Ok(End::Drained) => ExitCode::SUCCESS,
        Ok(End::Cut | End::Hurried) => ExitCode::FAILURE,
        Err(Failure::Configuration(problems)) => {
            for problem in problems {
                eprintln!("error: {problem}");
            }
            ExitCode::from(2)
        }
        Err(Failure::Io(what, error)) => {
            eprintln!("error: {what}: {error}");
            ExitCode::FAILURE
        }
    }
}

enum Failure {
    Configuration(Vec<String>),
    Io(String, io::Error),
}

async fn run(options: &Options) -> Result<End, Failure> {
    let cannot_listen = |error| Failure::Io(format!("cannot listen on {}", options.listen), error);
    // The port is taken before anything is set up, as the public URL may be made of it; nobody is
    // listened to until all is well.
    let (socket, address) = bind(options.listen).map_err(cannot_listen)?;
    let drain = Drain::new();
    let (front, public_url) =
        setup::set_up(options, address, drain.runs()).map_err(Failure::Configuration)?;
    let listener = socket.listen(1024).map_err(cannot_listen)?;
    announce(address, &public_url.to_string());
    serve::serve(listener, front, drain, options.grace())
        .await
        .map_err(|error| Failure::Io("cannot listen for signals".to_owned(), error))
}

fn bind(address: SocketAddr) -> io::Result<(TcpSocket, SocketAddr)> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    // Accepted connections inherit it.
    socket.set_keepalive(true)?;
    socket.bind(address)?;
    let address = socket.local_addr()?;
    Ok((socket, address))
}

/// Tells who waits for it that requests are served from now on.
fn announce(address: SocketAddr, public_url: &str) {
    println!("listening {address}");
    println!("open {public_url}/");
}
