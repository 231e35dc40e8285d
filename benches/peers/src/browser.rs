//! What a browser sends: the same for every row but for the last cookie.

use axum::body::Body;
use http::header::{COOKIE, HeaderMap, HeaderValue, LOCATION, SET_COOKIE};
use http::request::Parts;
use http::{Request, Response, StatusCode};
use tower::ServiceExt;

use crate::rows::Failed;

/// Where browsers see the application.
pub const ORIGIN: &str = "https://orders.example.com";

/// The path that is measured.
pub const PATH: &str = "/orders";

/// The path whose answer names who is signed in.
pub const WHO: &str = "/who";

/// A navigation to `path` with four cookies of other parties and then `cookie`, the last one.
///
/// Clones are cheap, as requests of hyper are: their values share the bytes that were read.
pub fn navigation(path: &str, cookie: Option<&str>) -> Result<Parts, Failed> {
    let (mut parts, ()) = Request::get(path).body(())?.into_parts();
    for (name, value) in HEADERS {
        parts.headers.insert(*name, HeaderValue::from_static(value));
    }
    let cookies = match cookie {
        Some(cookie) => format!("{OTHER_COOKIES}; {cookie}"),
        None => OTHER_COOKIES.to_owned(),
    };
    parts.headers.insert(COOKIE, HeaderValue::from_str(&cookies)?);
    Ok(parts)
}

/// Asks the application as a browser would, with the cookies of `jar`, which keeps what is set.
pub async fn visit(
    app: &axum::Router,
    path: &str,
    jar: &mut Vec<String>,
) -> Result<Response<Body>, Failed> {
    let cookies = jar.join("; ");
    let parts = navigation(path, (!jar.is_empty()).then_some(cookies.as_str()))?;
    let response = app.clone().oneshot(Request::from_parts(parts, Body::empty())).await?;
    keep(jar, response.headers())?;
    Ok(response)
}

/// Keeps the cookies that a response sets, and drops those it removes.
pub fn keep(jar: &mut Vec<String>, headers: &HeaderMap) -> Result<(), Failed> {
    for set in headers.get_all(SET_COOKIE) {
        let set = set.to_str()?;
        let pair = set.split(';').next().unwrap_or_default().trim();
        let Some((name, value)) = pair.split_once('=') else { continue };
        jar.retain(|known| known.split_once('=').is_none_or(|(known, _)| known != name));
        if !value.is_empty() && !set.to_ascii_lowercase().contains("max-age=0") {
            jar.push(pair.to_owned());
        }
    }
    Ok(())
}

/// Returns where a redirect leads.
pub fn redirect(response: &Response<Body>) -> Result<String, Failed> {
    let status = response.status();
    match response.headers().get(LOCATION) {
        Some(location) if status.is_redirection() => Ok(location.to_str()?.to_owned()),
        _ => Err(format!("a redirect was expected, the answer was {status}").into()),
    }
}

/// Reads a short answer.
pub async fn text(response: Response<Body>) -> Result<(StatusCode, String), Failed> {
    let status = response.status();
    let body = axum::body::to_bytes(response.into_body(), 64 * 1024).await?;
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

/// What Chromium sends with a navigation.
const HEADERS: &[(&str, &str)] = &[
    ("host", "orders.example.com"),
    ("cache-control", "max-age=0"),
    ("sec-ch-ua", r#""Chromium";v="140", "Not=A?Brand";v="24""#),
    ("sec-ch-ua-mobile", "?0"),
    ("sec-ch-ua-platform", r#""Linux""#),
    ("upgrade-insecure-requests", "1"),
    (
        "user-agent",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
    ),
    (
        "accept",
        "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    ),
    ("sec-fetch-site", "same-origin"),
    ("sec-fetch-mode", "navigate"),
    ("sec-fetch-user", "?1"),
    ("sec-fetch-dest", "document"),
    ("accept-encoding", "gzip, deflate, br, zstd"),
    ("accept-language", "en-GB,en;q=0.9"),
];

const OTHER_COOKIES: &str =
    "theme=dark; lang=en-GB; _ga=GA1.1.1234567890.1700000000; consent=a%3D1%26b%3D0%26c%3D1";
