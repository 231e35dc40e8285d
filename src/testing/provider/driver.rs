//! A browser's part without a browser.

use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use http::Method;
use http::Request;
use http::Response;
use http::StatusCode;
use http::header;
use http_body_util::BodyExt;
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use url::Url;

use super::authorize::USER_HEADER;
use super::pages;
use super::state::Inner;

/// What a browser would post to the application, for `response_mode=form_post`.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct FormPost {
    /// The redirect URI.
    pub action: String,
    /// The fields of the form.
    pub fields: Vec<(String, String)>,
}

/// Asks the authorization endpoint and returns the `Location` of its redirect.
pub(super) async fn location(inner: &Inner, url: &str, user: Option<&str>) -> io::Result<String> {
    let reply = ask(inner, url, user).await?;
    let location = reply.headers().get(header::LOCATION);
    match location.and_then(|value| value.to_str().ok()) {
        Some(location) if reply.status().is_redirection() => Ok(location.to_owned()),
        _ => Err(unexpected(&reply, "a redirect")),
    }
}

/// Asks the authorization endpoint and returns the form it wants posted.
pub(super) async fn form(inner: &Inner, url: &str, user: Option<&str>) -> io::Result<FormPost> {
    let reply = ask(inner, url, user).await?;
    let form = std::str::from_utf8(reply.body()).ok().and_then(pages::read_form_post);
    match form {
        Some((action, fields)) if reply.status() == StatusCode::OK => {
            Ok(FormPost { action, fields })
        }
        _ => Err(unexpected(&reply, "a form")),
    }
}

fn unexpected(reply: &Response<Bytes>, wanted: &str) -> io::Error {
    let text: String = String::from_utf8_lossy(reply.body()).chars().take(4000).collect();
    let page = text.split_once("<body data-page=\"").and_then(|(_, rest)| rest.split('"').next());
    let message = pages::read_message(&text).unwrap_or_default();
    io::Error::other(format!(
        "wanted {wanted}, the authorization endpoint answered {} (page `{}`) {message}",
        reply.status(),
        page.unwrap_or("none"),
    ))
}

async fn ask(inner: &Inner, url: &str, user: Option<&str>) -> io::Result<Response<Bytes>> {
    let invalid = |source| io::Error::new(io::ErrorKind::InvalidInput, source);
    let base = Url::parse(&inner.issuer).map_err(|error| invalid(error.to_string()))?;
    let url = base.join(url).map_err(|error| invalid(error.to_string()))?;
    let target = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    let mut request = Request::builder()
        .method(Method::GET)
        .uri(target)
        .header(header::HOST, inner.address.to_string())
        .header(header::ACCEPT, "text/html");
    if let Some(user) = user {
        request = request.header(USER_HEADER, user);
    }
    let request =
        request.body(Full::new(Bytes::new())).map_err(|error| invalid(error.to_string()))?;
    send(inner, request).await
}

/// Posts a logout token; returns status and body of the answer.
pub(super) async fn post_logout_token(url: &str, token: &str) -> io::Result<(u16, String)> {
    let invalid = |source: String| io::Error::new(io::ErrorKind::InvalidInput, source);
    let url = Url::parse(url).map_err(|error| invalid(error.to_string()))?;
    let address = url.socket_addrs(|| None)?;
    let address = address.first().ok_or_else(|| invalid("no address".to_owned()))?;
    let form = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("logout_token", token)
        .finish();
    let host = &url[url::Position::BeforeHost..url::Position::AfterPort];
    let request = Request::post(url.path())
        .header(header::HOST, host)
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Full::new(Bytes::from(form)))
        .map_err(|error| invalid(error.to_string()))?;
    let reply = send_to(*address, request).await?;
    Ok((reply.status().as_u16(), String::from_utf8_lossy(reply.body()).into_owned()))
}

/// Sends one request to the provider over a connection of its own.
pub(super) async fn send(
    inner: &Inner,
    request: Request<Full<Bytes>>,
) -> io::Result<Response<Bytes>> {
    send_to(inner.address, request).await
}

async fn send_to(
    address: SocketAddr,
    request: Request<Full<Bytes>>,
) -> io::Result<Response<Bytes>> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    let exchange = async {
        let reply = sender.send_request(request).await?;
        let (parts, body) = reply.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Response::from_parts(parts, body))
    };
    // The connection makes the exchange progress; it ends after the exchange, or by an error that
    // the exchange reports better.
    let driving = async {
        let _ = connection.await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        result = exchange => result.map_err(|error: hyper::Error| io::Error::other(error)),
        () = driving => Err(io::Error::other("the connection outlived its exchange")),
    }
}
