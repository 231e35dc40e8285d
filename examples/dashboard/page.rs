//! The example's pages: what they show, as HTML. Nothing here knows of sign-in or of axum.
//!
//! The figures are fixed sample data and say so on the page; who is signed in, the claims and the
//! lifetimes are real. Every value that comes from outside goes through [`escape`].

use std::fmt::Write as _;

/// What the dashboard shows of the session.
pub struct View<'a> {
    pub subject: &'a str,
    pub name: Option<&'a str>,
    /// Only an address that the provider calls verified.
    pub email: Option<&'a str>,
    pub issuer: &'a str,
    /// Names and values, shown in this order.
    pub claims: Vec<(String, String)>,
    /// When the person signed in, in seconds since 1970, as the moments below.
    pub signed_in_at: u64,
    /// When the session ends whatever is done.
    pub absolute_end: u64,
    /// When the session ends if nothing more is done.
    pub idle_end: u64,
    /// The server's time; the countdowns start from it.
    pub now: u64,
}

/// The protected start page.
pub fn dashboard(view: &View<'_>) -> String {
    let figures = figures();
    let chart = chart();
    let orders = orders();
    let person = person(view);
    let lifetimes = lifetimes(view);
    let claims = claims(&view.claims);
    let main = format!(
        r#"<div class="heading"><h1>Overview</h1><span class="pill">Sample data</span></div>
<p class="banner" id="ended" hidden>Your session has ended. The next page you open signs you in again: <a href="/">open the overview</a>.</p>
<section class="figures" aria-label="Key figures (sample data)">
{figures}</section>
<div class="columns">
<div class="column">
{chart}{orders}{claims}</div>
<div class="column">
{person}{lifetimes}{THINGS_TO_TRY}</div>
</div>
"#
    );
    document("dashboard", "Overview", Some(view.subject), &main)
}

/// A protected page that shows which of its many addresses was opened.
pub fn deep_link(path_and_query: &str, subject: &str) -> String {
    let path_and_query = escape(path_and_query);
    document(
        "deep-link",
        "A deep link",
        Some(subject),
        &format!(
            r#"<section class="card note">
<h1>You are where you wanted to be</h1>
<p>If you had to sign in first, this address waited for you, query and all:</p>
<p class="code" data-testid="deep-link">{path_and_query}</p>
<p><a class="button" href="/">Back to the overview</a></p>
</section>
"#
        ),
    )
}

/// The open page: no session is looked up for it.
pub fn public() -> String {
    document(
        "public",
        "Status",
        None,
        r#"<section class="card note">
<p class="up"><span class="dot"></span>All systems are up</p>
<h1>This page is open to everybody</h1>
<p>Its path is open, so the layer hands the request straight on: no session is looked up, and this
page does not know whether you are signed in.</p>
<p><a class="button" href="/">Go to the dashboard</a></p>
</section>
"#,
    )
}

/// The page to open with a session that ran out.
///
/// `session_started_at` is when *this* session began, not when the provider last asked for a
/// password; a session of a few seconds is one that was made on the way here.
pub fn expired(subject: &str, session_started_at: u64, now: u64) -> String {
    let age = now.saturating_sub(session_started_at);
    let (title, lead) = if age <= 3 {
        (
            "You were signed in again silently",
            "There was no live session when you opened this page. You were sent to the provider \
             and back, and landed here and nowhere else.",
        )
    } else {
        (
            "Your session is still live",
            "There was nothing to renew. Start the example with <code>--session-idle 20</code>, \
             leave the page alone for that long, and open this one again.",
        )
    };
    let age = lasting(age);
    document(
        "expired",
        title,
        Some(subject),
        &format!(
            r#"<section class="card note">
<h1>{title}</h1>
<p>{lead}</p>
<p>This session is <strong>{age}</strong> old.</p>
<p><a class="button" href="/">Back to the overview</a></p>
</section>
"#
        ),
    )
}

/// A protected page for `Referrer-Policy: no-referrer`, under which signing out must work too.
pub fn no_referrer(subject: &str) -> String {
    document(
        "no-referrer",
        "No referrer",
        Some(subject),
        &format!(
            r#"<section class="card note">
<h1>Sent with no-referrer</h1>
<p>Under this policy the browser hides where a form was sent from: it says
<code>Origin: null</code>. <code>Sec-Fetch-Site: same-origin</code> still tells that it came from
here, so this button signs you out all the same.</p>
{SIGN_OUT}<p><a href="/">Back to the overview</a></p>
</section>
"#
        ),
    )
}

/// Writes out a page: head, bar, `main`, foot. `subject` says who the bar greets.
fn document(id: &str, title: &str, subject: Option<&str>, main: &str) -> String {
    let who = subject.map_or_else(
        || r#"<a class="button small" href="/">Sign in</a>"#.to_owned(),
        |subject| format!("<span class=\"who\">{}</span>", escape(subject)),
    );
    format!(
        r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title} · Harbour</title>
<link rel="icon" href="data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'><circle cx='8' cy='8' r='7' fill='%230c6656'/></svg>">
<style>{STYLE}</style>
</head>
<body data-page="{id}">
<header class="bar">
<a class="brand" href="/">{LOGO}Harbour <span>Operations</span></a>
<nav aria-label="Pages"><a href="/">Overview</a><a href="/public">Status</a></nav>
{who}
</header>
<main>
{main}</main>
<footer>An example of <code>tower-pkce-auth</code>. Figures and orders are sample data.</footer>
<script>{SCRIPT}</script>
</body>
</html>
"#
    )
}

fn figures() -> String {
    let mut out = String::new();
    for figure in &FIGURES {
        let Figure { label, value, unit, change, good, days } = figure;
        let tone = if *good { "good" } else { "bad" };
        let points = daily(days);
        let line = line(&points);
        let (x, y) = points[points.len() - 1];
        // A path of no length with a round cap stays a round dot however the drawing is stretched.
        let _ = write!(
            out,
            r#"<article class="card figure">
<h2>{label}</h2>
<p class="value">{value}<small>{unit}</small></p>
<p class="change {tone}">{change} <span>on last week</span></p>
<svg viewBox="0 -4 103 42" preserveAspectRatio="none" role="img" aria-label="{label}, last 14 days">
<path class="area" d="{line}H103V38H0Z"/><path class="line" d="{line}"/><path class="end" d="M{x:.1} {y:.1}h0"/>
</svg>
</article>
"#
        );
    }
    out
}

fn chart() -> String {
    let today = line(&hourly(&TODAY));
    let yesterday = line(&hourly(&YESTERDAY));
    let (last, end) = hourly(&TODAY)[TODAY.len() - 1];
    let mut hours = String::new();
    for (hour, before) in YESTERDAY.iter().enumerate() {
        let x = (hour as f64 - 0.5) * 480.0 / 23.0;
        let tip = match TODAY.get(hour) {
            Some(now) => format!("{hour:02}:00 · {now} today, {before} yesterday"),
            None => format!("{hour:02}:00 · {before} yesterday"),
        };
        let _ = writeln!(
            hours,
            r#"<rect class="hour" x="{x:.1}" y="0" width="20.9" height="160"><title>{tip}</title></rect>"#
        );
    }
    format!(
        r#"<section class="card">
<div class="top"><h2>Orders by the hour</h2><p class="legend"><span class="key today"></span>Today<span class="key before"></span>Yesterday</p></div>
<div class="chart">
<div class="scale" aria-hidden="true"><span>160</span><span>120</span><span>80</span><span>40</span><span>0</span></div>
<svg viewBox="0 0 480 160" preserveAspectRatio="none" role="img" aria-label="Orders by the hour: today until 15:00, against yesterday. Sample data.">
<path class="area" d="{today}V160H0Z"/><path class="grid" d="M0 0H480M0 40H480M0 80H480M0 120H480M0 160H480"/>
<path class="before" d="{yesterday}"/><path class="line" d="{today}"/><path class="end" d="M{last:.1} {end:.1}h0"/>
{hours}</svg>
<div class="hours" aria-hidden="true"><span>00</span><span>06</span><span>12</span><span>18</span><span>23</span></div>
</div>
</section>
"#
    )
}

fn orders() -> String {
    let rows: String = ORDERS
        .iter()
        .map(|(number, customer, total, state)| {
            let tone = match *state {
                "Held" => "bad",
                "Packing" => "mid",
                _ => "good",
            };
            format!(
                "<tr><td class=\"mono\">{number}</td><td>{customer}</td><td class=\"right\">{total}</td>\
                 <td><span class=\"tag {tone}\">{state}</span></td></tr>\n"
            )
        })
        .collect();
    format!(
        r#"<section class="card">
<div class="top"><h2>Latest orders</h2><p>Sample data</p></div>
<div class="wide"><table>
<thead><tr><th>Order</th><th>Customer</th><th class="right">Total</th><th>State</th></tr></thead>
<tbody>
{rows}</tbody>
</table></div>
</section>
"#
    )
}

fn person(view: &View<'_>) -> String {
    let shown = view.name.unwrap_or(view.subject);
    let initials: String = shown
        .split_whitespace()
        .filter_map(|word| word.chars().find(|c| c.is_alphanumeric()))
        .take(2)
        .flat_map(char::to_uppercase)
        .collect();
    let name = view.name.map_or_else(|| "<span class=\"none\">No name</span>".to_owned(), escape);
    let email = view
        .email
        .map_or_else(|| "<span class=\"none\">No verified address</span>".to_owned(), escape);
    let subject = escape(view.subject);
    let issuer = escape(view.issuer);
    format!(
        r#"<section class="card">
<h2>Signed in</h2>
<div class="person"><span class="face" aria-hidden="true">{initials}</span>
<p><strong data-testid="name" dir="auto">{name}</strong><span data-testid="email" dir="auto">{email}</span></p></div>
<dl>
<div><dt>Subject</dt><dd class="mono" data-testid="subject">{subject}</dd></div>
<div><dt>Provider</dt><dd class="mono" data-testid="issuer">{issuer}</dd></div>
</dl>
{SIGN_OUT}</section>
"#
    )
}

fn lifetimes(view: &View<'_>) -> String {
    let now = view.now;
    let since = lasting(now.saturating_sub(view.signed_in_at));
    let clock = time_of_day(view.signed_in_at);
    let absolute = lifetime(
        ("Signed in until", "expires-in"),
        view.absolute_end,
        view.absolute_end.saturating_sub(view.signed_in_at),
        now,
    );
    let idle = lifetime(
        ("Ends if left alone", "idle-in"),
        view.idle_end,
        view.idle_end.saturating_sub(now),
        now,
    );
    format!(
        r#"<section class="card" id="lifetimes" data-now="{now}">
<h2>Lifetime of this session</h2>
{absolute}{idle}<p class="fine">Signed in at {clock}, {since} ago. All times are UTC.</p>
</section>
"#
    )
}

/// One countdown. The text stands without the script; the script only lets it run.
fn lifetime((label, id): (&str, &str), end: u64, whole: u64, now: u64) -> String {
    let left = end.saturating_sub(now);
    let whole = whole.max(left).max(1);
    let text = lasting(left);
    let clock = time_of_day(end);
    format!(
        r#"<div class="life"><p><span>{label} <time>{clock}</time></span><strong data-testid="{id}" data-end="{end}" data-left="{left}">{text}</strong></p>
<progress max="{whole}" value="{left}" aria-label="{label}">{text}</progress></div>
"#
    )
}

fn claims(claims: &[(String, String)]) -> String {
    let rows: String = claims
        .iter()
        .map(|(name, value)| {
            let (name, value) = (escape(name), escape(value));
            format!("<tr><th scope=\"row\" class=\"mono\">{name}</th><td class=\"mono\" dir=\"auto\">{value}</td></tr>\n")
        })
        .collect();
    let rows = if rows.is_empty() {
        "<tr><td class=\"none\">The provider sent none that are let through.</td></tr>\n"
    } else {
        &rows
    };
    format!(
        r#"<section class="card">
<div class="top"><h2>Claims</h2><p>What the handler sees, by allow-list</p></div>
<table class="claims" data-testid="claims">
<tbody>
{rows}</tbody>
</table>
</section>
"#
    )
}

/// Places a figure's days on a field of 100 by 30, the lowest at the foot, the highest at the top.
fn daily(days: &[u16; 14]) -> Vec<(f64, f64)> {
    let low = days.iter().copied().fold(u16::MAX, u16::min);
    let high = days.iter().copied().fold(low + 1, u16::max);
    let scale = 30.0 / f64::from(high - low);
    (0_u16..)
        .zip(days)
        .map(|(day, value)| {
            let x = f64::from(day) * 100.0 / 13.0;
            (x, 30.0 - f64::from(value - low) * scale)
        })
        .collect()
}

/// Places orders by the hour on a field of 480 by 160, one order a unit of height.
fn hourly(orders: &[u16]) -> Vec<(f64, f64)> {
    (0_u16..)
        .zip(orders)
        .map(|(hour, value)| (f64::from(hour) * 480.0 / 23.0, 160.0 - f64::from(*value)))
        .collect()
}

/// Draws a line through points, as the data of an SVG path.
fn line(points: &[(f64, f64)]) -> String {
    let mut out = String::new();
    for (x, y) in points {
        let step = if out.is_empty() { 'M' } else { 'L' };
        let _ = write!(out, "{step}{x:.1} {y:.1}");
    }
    out
}

/// Makes a value safe in text and attributes, and drops what controls or reorders text.
fn escape(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {}
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

/// Spells a span of time with its two largest units; the script spells it the same way.
fn lasting(secs: u64) -> String {
    let (days, hours, minutes) = (secs / 86_400, secs / 3_600 % 24, secs / 60 % 60);
    match secs {
        0..60 => format!("{secs} s"),
        60..3_600 => format!("{minutes} min {} s", secs % 60),
        3_600..86_400 => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

fn time_of_day(secs: u64) -> String {
    format!("{:02}:{:02}", secs / 3_600 % 24, secs / 60 % 60)
}

struct Figure {
    label: &'static str,
    value: &'static str,
    unit: &'static str,
    change: &'static str,
    good: bool,
    days: [u16; 14],
}

const FIGURES: [Figure; 4] = [
    Figure {
        label: "Orders today",
        value: "1,284",
        unit: "",
        change: "▲ 8.2 %",
        good: true,
        days: [61, 58, 66, 72, 70, 49, 45, 64, 69, 75, 73, 82, 79, 91],
    },
    Figure {
        label: "Error rate",
        value: "0.42",
        unit: "%",
        change: "▼ 0.1 points",
        good: true,
        days: [62, 58, 60, 71, 88, 64, 57, 55, 59, 52, 54, 50, 46, 42],
    },
    Figure {
        label: "Answer time, p95",
        value: "182",
        unit: "ms",
        change: "▲ 11 ms",
        good: false,
        days: [168, 171, 166, 170, 169, 174, 171, 172, 178, 175, 173, 180, 177, 182],
    },
    Figure {
        label: "Parcels out",
        value: "967",
        unit: "",
        change: "▲ 5.1 %",
        good: true,
        days: [70, 74, 69, 78, 83, 60, 52, 76, 79, 77, 85, 88, 86, 93],
    },
];

/// Orders by the hour, none above 160, the height of the chart.
const TODAY: [u16; 16] = [18, 12, 9, 7, 8, 14, 31, 58, 92, 118, 131, 139, 126, 134, 148, 143];

const YESTERDAY: [u16; 24] = [
    21, 14, 10, 8, 7, 12, 26, 49, 81, 104, 119, 124, 112, 117, 125, 121, 116, 108, 99, 104, 96, 71,
    46, 29,
];

const ORDERS: [(&str, &str, &str, &str); 5] = [
    ("#40412", "Lindqvist Boats", "€ 1,240.00", "Packing"),
    ("#40411", "Café Meridian", "€ 86.40", "Sent"),
    ("#40410", "Osei &amp; Daughters", "€ 412.75", "Sent"),
    ("#40409", "Tanaka Rigging", "€ 2,905.10", "Held"),
    ("#40408", "North Pier Hostel", "€ 158.20", "Sent"),
];

const SIGN_OUT: &str = r#"<form method="post" action="/auth/logout"><button class="button" type="submit" data-testid="sign-out">Sign out</button></form>
"#;

const THINGS_TO_TRY: &str = r#"<section class="card">
<h2>Things to try</h2>
<ul class="try">
<li><a href="/simulate-expiry" data-testid="try-expired">Come back with an expired session</a>
<p>This browser forgets its session, as if its time were over. You are signed in again silently and land on a protected page.</p></li>
<li><button type="button" class="link" data-testid="try-fetch">Call the API without a session</button>
<p>A script gets <code>401</code> and JSON, never a redirect to a login page.</p>
<pre data-testid="fetch-result" aria-live="polite"></pre></li>
<li><a href="/deep/link?tab=2" target="_blank" rel="noopener" data-testid="try-second-tab">Open a deep link in a second tab</a>
<p>Sign out first and open several: each tab comes back to its own address.</p></li>
<li><a href="/public" data-testid="try-public">Open the public page</a>
<p>Nothing is looked up for it.</p></li>
<li><a href="/no-referrer" data-testid="try-no-referrer">Sign out from a page without referrer</a>
<p>The form then says <code>Origin: null</code>, and signing out still works.</p></li>
</ul>
</section>
"#;

const LOGO: &str = r#"<svg viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="1.8" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true"><circle cx="12" cy="5" r="2.2"/><path d="M12 7.2V21M7.5 11h9M4 14c.4 4.2 3.6 7 8 7s7.6-2.8 8-7"/></svg>"#;

/// Lets the countdowns run, and asks the server only when they may be wrong: at zero, until it has
/// said that the session is over, and when the tab comes back into view; never twice within 30
/// seconds. `data-left` keeps the seconds, for tests.
const SCRIPT: &str = r#"
(() => {
  const find = (id) => document.querySelector(`[data-testid="${id}"]`);
  const spell = (s) => s < 60 ? `${s} s`
    : s < 3600 ? `${Math.floor(s / 60)} min ${s % 60} s`
    : s < 86400 ? `${Math.floor(s / 3600)} h ${Math.floor(s / 60) % 60} min`
    : `${Math.floor(s / 86400)} d ${Math.floor(s / 3600) % 24} h`;

  const card = document.getElementById("lifetimes");
  if (card) {
    const here = () => Date.now() / 1000;
    // The server's clock counts, not this machine's.
    const ahead = Number(card.dataset.now) - here();
    const clocks = [find("expires-in"), find("idle-in")];
    let asked = 0;
    let told = false;

    const draw = () => {
      let ended = false;
      for (const clock of clocks) {
        const left = Math.max(0, Math.round(Number(clock.dataset.end) - here() - ahead));
        const bar = clock.closest(".life").querySelector("progress");
        clock.textContent = spell(left);
        clock.dataset.left = left;
        bar.max = Math.max(bar.max, left);
        bar.value = left;
        ended ||= left === 0;
      }
      document.getElementById("ended").hidden = !ended;
      return ended;
    };
    const correct = async () => {
      if (document.hidden || here() - asked < 30) return;
      asked = here();
      try {
        const answer = await fetch("/auth/session", { headers: { accept: "application/json" } });
        if (!answer.ok && answer.status !== 401) return;
        const session = await answer.json();
        const live = answer.ok && session.authenticated;
        told = !live;
        const ends = live ? [session.expires_at, session.idle_expires_at] : [0, 0];
        clocks.forEach((clock, i) => { if (Number.isFinite(ends[i])) clock.dataset.end = ends[i]; });
        draw();
      } catch { /* The server is away; the countdown goes on as it was. */ }
    };
    setInterval(() => { if (draw() && !told) correct(); }, 1000);
    document.addEventListener("visibilitychange", correct);
  }

  find("try-fetch")?.addEventListener("click", async () => {
    const result = find("fetch-result");
    try {
      const answer = await fetch("/api/me", { credentials: "omit", headers: { accept: "application/json" } });
      const text = await answer.text();
      let shown = text;
      try { shown = JSON.stringify(JSON.parse(text), null, 2); } catch { /* Not JSON. */ }
      result.textContent = `HTTP ${answer.status}\n${shown}`;
    } catch (error) {
      result.textContent = String(error);
    }
  });
})();
"#;

const STYLE: &str = r#"
:root {
  color-scheme: light dark;
  --paper: #f3f4f0; --card: #fff; --line: #dfe2dc; --edge: #7d8782;
  --ink: #1b2421; --soft: #56625d; --pine: #0c6656; --pine-deep: #084c40; --on-pine: #fff;
  --wash: #e3f0ec; --amber: #855200; --amber-wash: #faefd9; --red: #a12c38; --red-wash: #fae8e7;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #101514; --card: #19201e; --line: #2d3734; --edge: #75827d;
    --ink: #e9efec; --soft: #a5b2ad; --pine: #62cdb7; --pine-deep: #8adfcd; --on-pine: #05231c;
    --wash: #1b332e; --amber: #e9b85c; --amber-wash: #352a15; --red: #f2959a; --red-wash: #3a2123;
  }
}
* { box-sizing: border-box; margin: 0; }
body {
  min-height: 100vh; display: flex; flex-direction: column;
  background: var(--paper); color: var(--ink); overflow-wrap: anywhere;
  font: 0.9375rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
}
a { color: var(--pine); text-underline-offset: 0.2em; }
:focus-visible { outline: 3px solid var(--pine); outline-offset: 3px; border-radius: 0.3rem; }
code, pre, .mono, .code { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; font-size: 0.875em; }
.none { color: var(--soft); }

.bar {
  display: flex; flex-wrap: wrap; align-items: center; gap: 0.5rem 1.75rem;
  padding: 0.8rem max(clamp(1rem, 4vw, 2.5rem), calc(50% - 39rem + clamp(1rem, 4vw, 2.5rem))); background: var(--card); border-bottom: 1px solid var(--line);
}
.brand { display: flex; align-items: center; gap: 0.5rem; color: var(--ink); font-weight: 650; text-decoration: none; }
.brand svg { width: 1.5rem; height: 1.5rem; color: var(--pine); }
.brand span { color: var(--soft); font-weight: 400; }
nav { display: flex; gap: 1.25rem; margin-right: auto; }
nav a { color: var(--soft); text-decoration: none; }
nav a:hover { color: var(--ink); text-decoration: underline; }
.who { color: var(--soft); font-size: 0.875rem; }
main { flex: 1; width: 100%; max-width: 78rem; margin: 0 auto; padding: 1.75rem clamp(1rem, 4vw, 2.5rem) 1rem; }
footer { padding: 1rem clamp(1rem, 4vw, 2.5rem) 1.75rem; color: var(--soft); font-size: 0.8125rem; text-align: center; }

.heading { display: flex; flex-wrap: wrap; align-items: center; gap: 0.75rem; margin-bottom: 1.25rem; }
h1 { font-size: 1.5rem; font-weight: 650; line-height: 1.25; letter-spacing: -0.015em; }
h2 { font-size: 0.9375rem; font-weight: 600; }
.pill { padding: 0.1rem 0.6rem; border: 1px solid var(--edge); border-radius: 1rem; color: var(--soft); font-size: 0.75rem; }
.banner { margin-bottom: 1.25rem; padding: 0.75rem 1rem; border-radius: 0.6rem; background: var(--amber-wash); color: var(--amber); }
.banner a { color: inherit; }
.card { min-width: 0; padding: 1.25rem; background: var(--card); border: 1px solid var(--line); border-radius: 0.9rem; }
.columns { display: grid; grid-template-columns: minmax(0, 1fr) 22rem; gap: 1rem; align-items: start; margin-top: 1rem; }
.column { display: grid; gap: 1rem; min-width: 0; }
.top { display: flex; flex-wrap: wrap; justify-content: space-between; gap: 0.25rem 1rem; margin-bottom: 0.9rem; }
.top p, .fine { color: var(--soft); font-size: 0.8125rem; }

.figures { display: grid; grid-template-columns: repeat(4, minmax(0, 1fr)); gap: 1rem; }
.figure { display: flex; flex-direction: column; padding-bottom: 0; overflow: hidden; }
.figure h2 { color: var(--soft); font-weight: 500; }
.figure svg { display: block; width: calc(100% + 2.5rem); height: 3.25rem; margin: auto -1.25rem 0; }
.value { font-size: 1.9rem; font-weight: 650; line-height: 1.25; letter-spacing: -0.02em; }
.value small { margin-left: 0.25rem; color: var(--soft); font-size: 1rem; font-weight: 400; letter-spacing: 0; }
.change { margin-bottom: 0.75rem; font-size: 0.8125rem; font-weight: 550; }
.change span { color: var(--soft); font-weight: 400; }
.change.good { color: var(--pine); }
.change.bad { color: var(--amber); }

svg path { fill: none; vector-effect: non-scaling-stroke; stroke-linejoin: round; stroke-linecap: round; }
svg .line { stroke: var(--pine); stroke-width: 2; }
svg .area { fill: var(--wash); opacity: 0.7; }
svg .end { stroke: var(--pine); stroke-width: 7; }
svg .grid { stroke: var(--line); stroke-width: 1; }
svg .before { stroke: var(--edge); stroke-width: 1.5; stroke-dasharray: 4 4; }
svg .hour { fill: transparent; }
svg .hour:hover { fill: var(--ink); fill-opacity: 0.08; }
.chart { display: grid; grid-template-columns: auto minmax(0, 1fr); gap: 0.4rem 0.75rem; color: var(--soft); font-size: 0.75rem; font-variant-numeric: tabular-nums; }
.chart svg { width: 100%; height: 13rem; overflow: visible; }
.scale { display: flex; flex-direction: column; justify-content: space-between; margin: -0.55rem 0; text-align: right; }
.hours { grid-column: 2; display: flex; justify-content: space-between; }
.legend { display: flex; align-items: center; }
.key { width: 1.1rem; margin: 0 0.4rem 0 1rem; border-top: 2px solid var(--pine); }
.key.before { border-top: 2px dashed var(--edge); }

.wide { overflow-x: auto; }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 0.55rem 1rem 0.55rem 0; border-top: 1px solid var(--line); text-align: left; vertical-align: top; }
th:last-child, td:last-child { padding-right: 0; }
thead th { border-top: 0; padding-top: 0; color: var(--soft); font-size: 0.8125rem; font-weight: 500; }
.wide td { white-space: nowrap; }
th.right, td.right { text-align: right; }
.claims th { width: 34%; color: var(--soft); font-weight: 400; }
.tag { padding: 0.1rem 0.55rem; border-radius: 1rem; background: var(--wash); color: var(--pine); font-size: 0.8125rem; }
.tag.mid { background: var(--amber-wash); color: var(--amber); }
.tag.bad { background: var(--red-wash); color: var(--red); }

.person { display: flex; align-items: center; gap: 0.85rem; margin: 0.9rem 0; }
.person p { display: grid; min-width: 0; }
.person span:not(.face) { color: var(--soft); font-weight: 400; }
.face {
  flex: none; display: grid; place-items: center; width: 2.9rem; height: 2.9rem; border-radius: 50%;
  background: var(--wash); color: var(--pine); font-weight: 650;
}
dl { font-size: 0.875rem; }
dl div { display: grid; grid-template-columns: 5rem 1fr; gap: 0.75rem; padding: 0.5rem 0; border-top: 1px solid var(--line); }
dt { color: var(--soft); }
.button {
  display: inline-block; min-height: 2.6rem; padding: 0.5rem 1.05rem; border: 1px solid var(--edge); border-radius: 0.6rem;
  background: none; color: var(--ink); font: inherit; font-weight: 550; text-decoration: none; cursor: pointer;
}
.button:hover { border-color: var(--ink); }
.button.small { min-height: 0; padding: 0.25rem 0.8rem; }
.card > form { margin-top: 0.75rem; }
.life { margin-top: 0.9rem; }
.life p { display: flex; flex-wrap: wrap; justify-content: space-between; gap: 0 1rem; font-variant-numeric: tabular-nums; }
.life span { color: var(--soft); }
progress { display: block; width: 100%; height: 0.4rem; margin-top: 0.35rem; border: 0; border-radius: 1rem; background: var(--line); appearance: none; overflow: hidden; }
progress::-webkit-progress-bar { background: var(--line); }
progress::-webkit-progress-value { background: var(--pine); }
progress::-moz-progress-bar { background: var(--pine); }
.fine { margin-top: 0.9rem; }
.try { padding: 0; margin-top: 0.25rem; list-style: none; }
.try li { padding: 0.7rem 0; border-top: 1px solid var(--line); }
.try li:first-child { border-top: 0; }
.try li:last-child { padding-bottom: 0; }
.try p { color: var(--soft); font-size: 0.8125rem; }
.link { padding: 0; border: 0; background: none; color: var(--pine); font: inherit; text-align: left; text-decoration: underline; text-underline-offset: 0.2em; cursor: pointer; }
pre { margin-top: 0.5rem; padding: 0.75rem; border-radius: 0.5rem; background: var(--paper); font-size: 0.75rem; white-space: pre-wrap; }
pre:empty { display: none; }

.note { display: grid; gap: 0.9rem; max-width: 38rem; margin: 6vh auto; padding: clamp(1.5rem, 5vw, 2.5rem); }
.note p { color: var(--soft); }
.note strong { color: var(--ink); }
.note .code { padding: 0.75rem 1rem; border-radius: 0.5rem; background: var(--paper); color: var(--ink); }
.note .up { display: flex; align-items: center; gap: 0.6rem; color: var(--pine); font-weight: 550; }
.dot { width: 0.6rem; height: 0.6rem; border-radius: 50%; background: currentColor; }

@media (max-width: 58rem) {
  .columns { grid-template-columns: minmax(0, 1fr); }
  .figures { grid-template-columns: repeat(2, minmax(0, 1fr)); }
}
@media (max-width: 30rem) {
  .change span { display: block; }
  .wide :is(th, td):first-child { display: none; }
  .wide td:nth-child(2) { white-space: normal; }
  .wide :is(th, td) { padding-right: 0.6rem; }
}
@media (prefers-reduced-motion: no-preference) { .button, nav a { transition: border-color 0.15s, color 0.15s; } }
"#;
