//! The pages people see: plain HTML and CSS, light and dark, no script but the form that posts
//! itself.

use bytes::Bytes;
use http::HeaderValue;
use http::Response;
use http::StatusCode;
use http::header;

use super::TestUser;
use super::authorize::DENY;
use super::endpoints;

/// The account chooser; `request` is the authorization request, form-urlencoded.
pub(super) fn chooser(
    base: &str,
    client_id: &str,
    scope: &str,
    users: &[TestUser],
    request: &str,
) -> Response<Bytes> {
    let people: String =
        users.iter().enumerate().map(|(index, user)| person(index, user)).collect();
    let scopes: String = scope
        .split(' ')
        .filter(|name| !name.is_empty())
        .map(|name| format!("<li>{}</li>", escape(name)))
        .collect();
    let body = format!(
        "<h1>Choose an account</h1>\n\
         <p class=\"lead\">to continue to <strong>{client}</strong></p>\n\
         <form method=\"post\" action=\"{base}/choose\">\n\
         <input type=\"hidden\" name=\"request\" value=\"{request}\">\n\
         <div class=\"people\">\n{people}</div>\n\
         <button class=\"plain\" name=\"user\" value=\"{DENY}\" data-user=\"{DENY}\">\
         Refuse and go back</button>\n</form>\n\
         <div class=\"scopes\"><span>It asks for</span><ul>{scopes}</ul></div>\n",
        client = escape(client_id),
        base = escape(base),
        request = escape(request),
    );
    page(StatusCode::OK, "chooser", "Choose an account", &body)
}

fn person(index: usize, user: &TestUser) -> String {
    let initial = user.name.chars().next().map(String::from).unwrap_or_default();
    let groups: String = user
        .groups
        .iter()
        .map(|group| format!("<span class=\"chip\">{}</span>", escape(group)))
        .collect();
    let unverified =
        if user.email_verified { "" } else { "<span class=\"chip warn\">unverified</span>" };
    let sub = escape(&user.sub);
    format!(
        "<button class=\"person\" name=\"user\" value=\"{sub}\" data-user=\"{sub}\">\
         <span class=\"face f{face}\" aria-hidden=\"true\">{initial}</span>\
         <span class=\"who\"><span class=\"name\">{name}</span>\
         <span class=\"mail\">{mail}</span></span>\
         <span class=\"chips\">{groups}{unverified}</span></button>\n",
        face = index % 4,
        initial = escape(&initial),
        name = escape(&user.name),
        mail = escape(&user.email),
    )
}

/// A page that says what is wrong.
pub(super) fn error(status: StatusCode, message: &str) -> Response<Bytes> {
    let body = format!("<h1>That did not work</h1>\n<p class=\"lead\">{}</p>\n", escape(message));
    page(status, "error", "That did not work", &body)
}

/// The page after a logout that leads nowhere.
pub(super) fn signed_out() -> Response<Bytes> {
    let body = "<h1>You are signed out</h1>\n\
                <p class=\"lead\">The test provider has forgotten this browser. \
                You can close the tab.</p>\n";
    page(StatusCode::OK, "provider-signed-out", "You are signed out", body)
}

/// The page at the issuer itself.
pub(super) fn home(issuer: &str, base: &str, client_id: &str) -> Response<Bytes> {
    let body = format!(
        "<h1>Test provider</h1>\n\
         <p class=\"lead\">An OpenID provider for the client <strong>{}</strong>. \
         Start at the application; it will send you here.</p>\n\
         <p class=\"lead\">Issuer <code>{}</code><br>\
         <a href=\"{}/.well-known/openid-configuration\">Discovery document</a></p>\n",
        escape(client_id),
        escape(issuer),
        escape(base),
    );
    page(StatusCode::OK, "provider-home", "Test provider", &body)
}

/// OAuth 2.0 Form Post Response Mode: a page that posts the response by itself.
pub(super) fn form_post(action: &str, pairs: &[(String, String)]) -> Response<Bytes> {
    let fields: String = pairs
        .iter()
        .map(|(name, value)| {
            let (name, value) = (escape(name), escape(value));
            format!("<input type=\"hidden\" name=\"{name}\" value=\"{value}\">\n")
        })
        .collect();
    let body = format!(
        "<h1>One moment</h1>\n<form method=\"post\" action=\"{}\">\n{fields}\
         <button class=\"plain\">Continue</button>\n</form>\n\
         <script>document.forms[0].submit()</script>\n",
        escape(action),
    );
    page(StatusCode::OK, "form-post", "One moment", &body)
}

/// Reads a [`form_post`] page back: its action and fields.
pub(super) fn read_form_post(html: &str) -> Option<(String, Vec<(String, String)>)> {
    let (_, body) = html.split_once("<body data-page=\"form-post\">")?;
    let (action, rest) = quoted(body, "action=\"")?;
    let mut fields = Vec::new();
    let mut rest = rest;
    while let Some((name, after)) = quoted(rest, "name=\"") {
        let (value, after) = quoted(after, "value=\"")?;
        fields.push((name, value));
        rest = after;
    }
    Some((action, fields))
}

/// Reads the message of a page back.
pub(super) fn read_message(html: &str) -> Option<&str> {
    let (_, rest) = html.split_once("<p class=\"lead\">")?;
    rest.split("</p>").next()
}

fn quoted<'a>(text: &'a str, before: &str) -> Option<(String, &'a str)> {
    let (_, rest) = text.split_once(before)?;
    let (value, rest) = rest.split_once('"')?;
    // `&amp;` last, or `&amp;quot;` would be decoded twice.
    let mut value = value.to_owned();
    for (letter, entity) in ENTITIES.iter().rev() {
        value = value.replace(entity, letter);
    }
    Some((value, rest))
}

fn page(status: StatusCode, name: &str, title: &str, body: &str) -> Response<Bytes> {
    let html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <link rel=\"icon\" href=\"data:,\">\n\
         <title>{title} – test provider</title>\n<style>{STYLE}</style>\n</head>\n\
         <body data-page=\"{name}\">\n<main>\n\
         <p class=\"badge\">Test provider</p>\n{body}</main>\n\
         <footer>This is a <strong>test provider</strong> for development: it asks for no \
         password, and its people are made up. Never let a real application trust it.</footer>\n\
         </body>\n</html>\n",
    );
    let mut reply = Response::new(Bytes::from(html));
    *reply.status_mut() = status;
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    reply.headers_mut().insert(header::CONTENT_TYPE, html);
    endpoints::no_store(reply)
}

fn escape(text: &str) -> String {
    let mut escaped = text.to_owned();
    for (letter, entity) in ENTITIES {
        escaped = escaped.replace(letter, entity);
    }
    escaped
}

/// Letters that HTML does not take literally; `&` first, as the others contain it afterwards.
const ENTITIES: [(&str, &str); 5] =
    [("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("\"", "&quot;"), ("'", "&#39;")];

const STYLE: &str = "
:root { --bg: #eef1f6; --card: #fff; --ink: #1a2233; --soft: #5b6579; --line: #dbe1ea;
  --hover: #f4f7fc; --accent: #3457d5; --badge: #fff3d1; --badge-ink: #7a5200;
  --chip: #e8edf7; --warn: #fde4e1; --warn-ink: #98261b; --shadow: 0 12px 40px #1a223314; }
@media (prefers-color-scheme: dark) {
  :root { --bg: #10141c; --card: #1a202c; --ink: #e8ecf4; --soft: #a0aabd; --line: #2e3748;
    --hover: #222a39; --accent: #8ba6ff; --badge: #3b2f10; --badge-ink: #ffd978;
    --chip: #2a3447; --warn: #4a211d; --warn-ink: #ffb4ab; --shadow: none; }
}
* { box-sizing: border-box; }
body { margin: 0; min-height: 100vh; padding: 2rem 1rem; background: var(--bg); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; display: flex; flex-direction: column;
  align-items: center; justify-content: center; }
main { width: 100%; max-width: 27rem; padding: 2rem; background: var(--card);
  border: 1px solid var(--line); border-radius: 1rem; box-shadow: var(--shadow); }
.badge { display: inline-block; margin: 0 0 1.25rem; padding: .15rem .7rem; border-radius: 1rem;
  background: var(--badge); color: var(--badge-ink); font-size: .8rem; font-weight: 600; }
h1 { margin: 0; font-size: 1.5rem; line-height: 1.25; }
.lead { margin: .35rem 0 0; color: var(--soft); overflow-wrap: anywhere; }
.lead strong { color: var(--ink); }
a { color: var(--accent); }
form { margin-top: 1.5rem; }
button { font: inherit; color: inherit; cursor: pointer; }
button:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
.people { border: 1px solid var(--line); border-radius: .75rem; overflow: hidden; }
.person { display: flex; align-items: center; gap: .85rem; width: 100%; padding: .8rem 1rem;
  border: 0; background: none; text-align: left; }
.person + .person { border-top: 1px solid var(--line); }
.person:hover { background: var(--hover); }
.person:focus-visible { outline-offset: -3px; border-radius: .75rem; }
.face { flex: none; width: 2.5rem; height: 2.5rem; border-radius: 50%; display: grid;
  place-items: center; color: #fff; font-weight: 600; }
.f0 { background: #3457d5; } .f1 { background: #0b7a67; }
.f2 { background: #a8325e; } .f3 { background: #8a5a00; }
.who { display: flex; flex-direction: column; min-width: 0; flex: 1; }
.name { font-weight: 600; }
.mail { color: var(--soft); font-size: .875rem; overflow-wrap: anywhere; }
.chips { display: flex; flex-wrap: wrap; gap: .3rem; justify-content: flex-end;
  max-width: 38%; }
@media (max-width: 30rem) { .chips { max-width: 30%; } }
.chip { padding: .05rem .5rem; border-radius: 1rem; background: var(--chip); font-size: .75rem; }
.warn { background: var(--warn); color: var(--warn-ink); }
.plain { width: 100%; margin-top: .85rem; padding: .65rem 1rem; border: 1px solid var(--line);
  border-radius: .75rem; background: none; color: var(--soft); }
.plain:hover { background: var(--hover); color: var(--ink); }
.scopes { margin-top: 1.25rem; display: flex; flex-wrap: wrap; gap: .3rem .6rem;
  align-items: center; color: var(--soft); font-size: .8rem; }
.scopes ul { display: contents; list-style: none; }
.scopes li { padding: .05rem .5rem; border: 1px solid var(--line); border-radius: 1rem; }
footer { max-width: 27rem; margin-top: 1.25rem; color: var(--soft); font-size: .8rem;
  text-align: center; }
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn form_post_reads_back_what_it_wrote() {
        let pairs = vec![("state".to_owned(), "a\"b<c>&amp;'\u{e9}".to_owned())];
        let reply = form_post("http://localhost/cb?x=1&y=2", &pairs);
        let html = std::str::from_utf8(reply.body()).expect("UTF-8");
        let (action, fields) = read_form_post(html).expect("an own page");
        assert_eq!(action, "http://localhost/cb?x=1&y=2");
        assert_eq!(fields, pairs);
    }

    #[test]
    fn people_cannot_write_markup() {
        let user = TestUser::new("x\"><script>").name("<b>");
        let reply = chooser("http://h", "<i>", "openid", &[user], "a=\"");
        let html = std::str::from_utf8(reply.body()).expect("UTF-8");
        for text in ["<script>", "<b>", "<i>", "=\"\""] {
            assert!(!html.contains(text), "{text}");
        }
    }
}
