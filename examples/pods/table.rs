//! The table that is printed at the end.

use std::error::Error;
use std::fmt;

/// What was run, found and wanted.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    scenario: String,
    result: String,
    peer: &'static str,
    wanted: String,
    verdict: Verdict,
}

/// What a run showed.
#[derive(Debug)]
pub struct Found {
    pub result: String,
    /// Whether it is what is wanted.
    pub good: bool,
}

/// What a run is called, what LiteLLM showed in it, and what is wanted.
pub struct Scenario {
    pub name: String,
    pub peer: &'static str,
    pub wanted: String,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Verdict {
    Left,
    Miss,
    Ok,
}

impl Scenario {
    pub fn new(name: impl Into<String>, peer: &'static str, wanted: impl Into<String>) -> Self {
        Self { name: name.into(), peer, wanted: wanted.into() }
    }
}

impl Table {
    /// Adds a run; one that could not be finished is a miss.
    pub fn ran(&mut self, scenario: Scenario, found: Result<Found, Box<dyn Error>>) {
        let (result, verdict) = match found {
            Ok(Found { result, good: true }) => (result, Verdict::Ok),
            Ok(Found { result, good: false }) => (result, Verdict::Miss),
            Err(error) => (format!("broke off: {error}"), Verdict::Miss),
        };
        let Scenario { name, peer, wanted } = scenario;
        self.rows.push(Row { scenario: name, result, peer, wanted, verdict });
    }

    /// Adds a run that was left out, and why.
    pub fn left_out(&mut self, scenario: Scenario, why: &str) {
        let Scenario { name, peer, wanted } = scenario;
        let result = format!("not run: {why}");
        self.rows.push(Row { scenario: name, result, peer, wanted, verdict: Verdict::Left });
    }

    /// How many runs missed what is wanted.
    pub fn misses(&self) -> usize {
        self.count(Verdict::Miss)
    }

    fn count(&self, verdict: Verdict) -> usize {
        self.rows.iter().filter(|row| row.verdict == verdict).count()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        line(f, HEADINGS)?;
        rule(f)?;
        for row in &self.rows {
            let verdict = match row.verdict {
                Verdict::Left => "-",
                Verdict::Miss => "MISS",
                Verdict::Ok => "ok",
            };
            line(f, [&row.scenario, &row.result, row.peer, &row.wanted, verdict])?;
            rule(f)?;
        }
        let (misses, left) = (self.misses(), self.count(Verdict::Left));
        writeln!(f, "{} runs, {misses} missed, {left} not run", self.rows.len() - left)
    }
}

const HEADINGS: [&str; 5] =
    ["scenario", "result", "LiteLLM: before the fix / 1.81.14 / 1.106.2", "wanted", ""];
const WIDTHS: [usize; 5] = [30, 40, 26, 26, 4];

fn line(f: &mut fmt::Formatter<'_>, cells: [&str; 5]) -> fmt::Result {
    let columns: Vec<Vec<String>> =
        cells.iter().zip(WIDTHS).map(|(cell, width)| wrapped(cell, width)).collect();
    let height = columns.iter().map(Vec::len).max().unwrap_or_default();
    for row in 0..height {
        let mut text = String::new();
        for (column, width) in columns.iter().zip(WIDTHS) {
            let cell = column.get(row).map_or("", String::as_str);
            text.push_str(&format!("{cell:width$}  "));
        }
        writeln!(f, "{}", text.trim_end())?;
    }
    Ok(())
}

fn rule(f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let width = WIDTHS.iter().sum::<usize>() + 2 * (WIDTHS.len() - 1);
    writeln!(f, "{}", "-".repeat(width))
}

/// Breaks a text between words; a word that is longer than a line stays whole.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.last_mut().expect("there is a first line");
        if last.is_empty() {
            last.push_str(word);
        } else if last.chars().count() + 1 + word.chars().count() <= width {
            last.push(' ');
            last.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}
