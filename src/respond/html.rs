//! How one of our own pages looks: a complete HTML document from a few plain values.
//!
//! 1. The caller says what is on the page: which one it is, its words, rows of detail, and up to
//!    two things to do next.
//! 2. [`render`] escapes every one of these values and writes them into the one template. Nothing
//!    is trusted, not even what this crate wrote itself.
//! 3. The document needs nothing from outside and runs nothing: no script, no image, no `style`
//!    attribute. [`STYLE`] stands between `<style>` and `</style>` to the byte, so the policy
//!    `default-src 'none'; style-src 'sha256-…'` with the hash of [`STYLE`] lets it through and
//!    nothing else (ASVS 3.4.3, RFC 9700 section 4.16).
//!
//! Escaping keeps a value inside its attribute; it does not judge where a link leads. Whoever
//! fills in [`Action`] passes a path of ours or a return target that was parsed as one.

use std::borrow::Cow;

/// One page of ours, before it is written out.
#[derive(Clone, Debug)]
pub(crate) struct Page<'a> {
    /// Which page it is, for tests and for the tone of its mark; written as `data-page`.
    pub(crate) id: &'static str,
    /// The heading, and the name of the browser's tab.
    pub(crate) title: &'a str,
    /// What happened, in a sentence or two.
    pub(crate) lead: &'a str,
    /// Rows of label and value. Under [`REASON`] and [`REFERENCE`] a value is set as code.
    pub(crate) details: Vec<(&'a str, Cow<'a, str>)>,
    /// What most visitors want next.
    pub(crate) action: Option<Action<'a>>,
    /// The other way out.
    pub(crate) secondary: Option<Action<'a>>,
    /// One more.
    pub(crate) further: Option<Action<'a>>,
}

/// Something to do on a page.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Action<'a> {
    /// A link, shown as a button.
    Link {
        /// Where it leads.
        href: &'a str,
        /// What it says.
        label: &'a str,
        /// What it is called by tests; written as `data-action`.
        name: &'static str,
    },
    /// A form that is one button.
    Post {
        /// Where it is sent.
        action: &'a str,
        /// What the button says.
        label: &'a str,
        /// What the button is called by tests; written as `data-action`.
        name: &'static str,
        /// Hidden fields, as name and value.
        fields: &'a [(&'a str, &'a str)],
    },
}

/// Writes out a page as a complete document.
pub(crate) fn render(page: &Page<'_>) -> String {
    let id = escape(page.id);
    let title = escape(page.title);
    let lead = escape(page.lead);
    let glyph = glyph(page.id);
    let details = details(&page.details);
    let actions = actions(page.action.as_ref(), [page.secondary, page.further]);
    format!(
        r#"<!doctype html>
<html lang="en" data-page="{id}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{STYLE}</style>
</head>
<body>
<main>
{MARK}{glyph}</svg>
<h1>{title}</h1>
<p>{lead}</p>
{details}{actions}</main>
</body>
</html>
"#
    )
}

/// Makes a value safe in text and in a double- or single-quoted attribute.
///
/// The five characters with a meaning become references. Control characters are dropped, and with
/// them the marks that reorder text, which could make a name read as another one.
pub(crate) fn escape(value: &str) -> Cow<'_, str> {
    if !value.chars().any(|c| is_dropped(c) || reference(c).is_some()) {
        return Cow::Borrowed(value);
    }
    let mut out = String::with_capacity(value.len() + 16);
    for c in value.chars().filter(|c| !is_dropped(*c)) {
        match reference(c) {
            Some(reference) => out.push_str(reference),
            None => out.push(c),
        }
    }
    Cow::Owned(out)
}

impl Action<'_> {
    /// Writes the action out; `class` is one of the style sheet's.
    fn markup(&self, class: &'static str) -> String {
        match *self {
            Self::Link { href, label, name } => {
                let (href, label, name) = (escape(href), escape(label), escape(name));
                format!("<a class=\"{class}\" href=\"{href}\" data-action=\"{name}\">{label}</a>\n")
            }
            Self::Post { action, label, name, fields } => {
                let (action, label, name) = (escape(action), escape(label), escape(name));
                let fields: String = fields.iter().map(|field| hidden(*field)).collect();
                // Without autocomplete="off" Firefox puts the values from before a reload back
                // into hidden fields.
                format!(
                    r#"<form method="post" action="{action}" autocomplete="off">
{fields}<button class="{class}" type="submit" data-action="{name}">{label}</button>
</form>
"#
                )
            }
        }
    }
}

fn hidden((name, value): (&str, &str)) -> String {
    let (name, value) = (escape(name), escape(value));
    format!("<input type=\"hidden\" name=\"{name}\" value=\"{value}\">\n")
}

fn actions(first: Option<&Action<'_>>, others: [Option<Action<'_>>; 2]) -> String {
    let first = first.map(|action| action.markup("main"));
    let others = others.into_iter().flatten().map(|action| action.markup("other"));
    let all: String = first.into_iter().chain(others).collect();
    if all.is_empty() {
        return all;
    }
    format!("<div class=\"actions\">\n{all}</div>\n")
}

fn details(rows: &[(&str, Cow<'_, str>)]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let rows: String = rows.iter().map(|(label, value)| row(label, value)).collect();
    format!("<dl>\n{rows}</dl>\n")
}

fn row(label: &str, value: &str) -> String {
    let (open, close) = match label {
        REASON | REFERENCE => ("<code>", "</code>"),
        _ => ("", ""),
    };
    let (label, value) = (escape(label), escape(value));
    format!(
        "<div><dt>{label}</dt><dd dir=\"auto\" data-detail=\"{label}\">{open}{value}{close}</dd></div>\n"
    )
}

/// Returns what stands for a character that HTML gives a meaning to.
const fn reference(c: char) -> Option<&'static str> {
    match c {
        '&' => Some("&amp;"),
        '<' => Some("&lt;"),
        '>' => Some("&gt;"),
        '"' => Some("&quot;"),
        '\'' => Some("&#39;"),
        _ => None,
    }
}

/// Says whether a character never reaches a page: controls, and what embeds or overrides direction.
fn is_dropped(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Returns what is drawn on the lock: a tick where all went well, a keyhole where nothing is
/// wrong, else a stroke and a dot.
fn glyph(id: &str) -> &'static str {
    match id {
        "signed-out" => r#"<path d="m9 15.8 2.2 2.1 3.8-4.2"/>"#,
        "confirm-sign-out" => r#"<circle cx="12" cy="14.7" r="1.1"/><path d="M12 15.8v2"/>"#,
        _ => r#"<path d="M12 13.4v2.3M12 18.2v.01"/>"#,
    }
}

/// The label of a row that holds a reason code.
pub(crate) const REASON: &str = "Reason";

/// The label of a row that holds a reference id.
pub(crate) const REFERENCE: &str = "Reference";

/// The style sheet, exactly as it stands in every document.
pub(crate) const STYLE: &str = include_str!("page.css");

/// The lock, still open for its [`glyph`]. It says nothing that the heading does not say.
const MARK: &str = r#"<svg viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="1.7" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true">
<rect x="4" y="10" width="16" height="11.5" rx="2.6"/><path d="M7.5 10V7a4.5 4.5 0 0 1 9 0v3"/>
"#;

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "a\"><script>alert('x')</script>&\u{0}\r\n\u{85}\u{202e}z";
    const TAMED: &str = "a&quot;&gt;&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&amp;z";

    #[test]
    fn escapes_what_has_a_meaning_and_drops_what_has_no_face() {
        let table = [
            ("nothing", "", ""),
            ("plain", "Grüße, 東京 🙂", "Grüße, 東京 🙂"),
            ("ampersand", "a&b", "a&amp;b"),
            ("already escaped", "&lt;", "&amp;lt;"),
            ("tag", "<b>", "&lt;b&gt;"),
            ("quotes", "\"'", "&quot;&#39;"),
            ("c0, delete and c1", "a\u{0}b\tc\r\nd\u{7f}e\u{85}f", "abcdef"),
            ("override and isolate", "\u{202e}evil\u{2066}!", "evil!"),
            ("marks that people write", "א\u{200f}1", "א\u{200f}1"),
            ("return_to out of an attribute", "/x\"><script>", "/x&quot;&gt;&lt;script&gt;"),
            ("return_to out of a string", "/x'-alert(1)-'", "/x&#39;-alert(1)-&#39;"),
            ("return_to out of a script", "/x</script>", "/x&lt;/script&gt;"),
            ("all of it", HOSTILE, TAMED),
        ];
        for (name, value, expected) in table {
            assert_eq!(escape(value), expected, "{name}");
        }
    }

    #[test]
    fn does_not_copy_a_harmless_value() {
        assert!(matches!(escape("/reports?week=7"), Cow::Borrowed(_)));
    }

    #[test]
    fn no_raw_value_survives() {
        let post = Action::Post {
            action: HOSTILE,
            label: HOSTILE,
            name: "sign-out",
            fields: &[(HOSTILE, HOSTILE)],
        };
        let link = Action::Link { href: HOSTILE, label: HOSTILE, name: "continue" };
        let page = Page {
            id: "bad-request",
            title: HOSTILE,
            lead: HOSTILE,
            details: vec![(HOSTILE, HOSTILE.into()), (REFERENCE, HOSTILE.into())],
            action: Some(post),
            secondary: Some(link),
            further: None,
        };
        let html = render(&page);
        assert!(!html.contains("<script"));
        assert!(!html.contains("alert('x')"));
        assert!(!html.chars().any(|c| is_dropped(c) && c != '\n'));
        // Title twice, lead, label twice, value, reference, form and link with two each, and a
        // field's name and value.
        assert_eq!(html.matches(TAMED).count(), 13);
    }

    #[test]
    fn document_says_what_browsers_and_tests_look_for() {
        let page = Page {
            id: "confirm-sign-out",
            title: "Sign out?",
            lead: "You are signed in.",
            details: vec![("Signed in as", "Alice".into()), (REFERENCE, "k3v9".into())],
            action: Some(Action::Post {
                action: "/auth/logout",
                label: "Sign out",
                name: "sign-out",
                fields: &[("return_to", "/")],
            }),
            secondary: Some(Action::Post {
                action: "/auth/logout?everywhere=1",
                label: "Sign out everywhere",
                name: "sign-out-everywhere",
                fields: &[],
            }),
            further: Some(Action::Link { href: "/", label: "Stay", name: "stay" }),
        };
        let html = render(&page);
        for part in [
            "<!doctype html>\n<html lang=\"en\" data-page=\"confirm-sign-out\">\n<head>\n",
            "<meta charset=\"utf-8\">",
            "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">",
            "<meta name=\"robots\" content=\"noindex\">",
            "<meta name=\"color-scheme\" content=\"light dark\">",
            "<title>Sign out?</title>",
            "<h1>Sign out?</h1>\n<p>You are signed in.</p>",
            "<dd dir=\"auto\" data-detail=\"Signed in as\">Alice</dd>",
            "<dd dir=\"auto\" data-detail=\"Reference\"><code>k3v9</code></dd>",
            "<form method=\"post\" action=\"/auth/logout\" autocomplete=\"off\">",
            "<input type=\"hidden\" name=\"return_to\" value=\"/\">",
            "<button class=\"main\" type=\"submit\" data-action=\"sign-out\">Sign out</button>",
            "<a class=\"other\" href=\"/\" data-action=\"stay\">Stay</a>",
        ] {
            assert!(html.contains(part), "missing: {part}");
        }
        assert!(html.ends_with("</html>\n"));
    }

    #[test]
    fn leaves_out_what_is_not_there() {
        let html = render(&Page {
            id: "signed-out",
            title: "You are signed out",
            lead: "See you.",
            details: Vec::new(),
            action: None,
            secondary: None,
            further: None,
        });
        let (_, body) = html.split_once("<body>").expect("a document has a body");
        for absent in ["<dl", "class=\"actions\"", "<form", "<a "] {
            assert!(!body.contains(absent), "found: {absent}");
        }
    }

    #[test]
    fn style_is_embedded_to_the_byte_and_asks_for_nothing() {
        let html = render(&Page {
            id: "unavailable",
            title: "",
            lead: "",
            details: Vec::new(),
            action: None,
            secondary: None,
            further: None,
        });
        let (_, rest) = html.split_once("<style>").expect("a document has a style");
        let (style, rest) = rest.split_once("</style>").expect("the style ends");
        assert_eq!(style, STYLE);
        // Browsers turn CR LF into LF before they hash, and `</` could end the element.
        for forbidden in ["\r", "</", "@import", "url("] {
            assert!(!STYLE.contains(forbidden), "found: {forbidden:?}");
        }
        for forbidden in [" style=", " src=", "<script", "data:", "http:", "https:"] {
            assert!(!rest.contains(forbidden), "found: {forbidden:?}");
        }
        assert!(STYLE.len() <= 4096);
    }
}
