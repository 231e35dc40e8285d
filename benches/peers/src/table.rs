//! The figures as Markdown.

use std::fmt::Write as _;

use crate::measure::Measured;
use crate::rows::{BARE, KINDS, Kind, MEMORY, REFERENCE};

/// What is known of a row: figures, or why there are none.
pub struct Line {
    /// Which row.
    pub kind: &'static Kind,
    /// Time and allocations.
    pub measured: Result<Measured, String>,
    /// Instructions per request; `None` if they were not counted.
    pub instructions: Option<Result<f64, String>>,
}

/// Writes the table, the verdict on the aim, and notes on what is missing.
pub fn table(lines: &[Line]) -> String {
    let mut text = String::from(
        "| GET, five cookies | time (p10–p90) | × reference | × bare | instructions | allocations | bytes |\n\
         |---|---|---|---|---|---|---|\n",
    );
    let mut notes = Vec::new();
    for line in lines {
        let title = match line.kind.id {
            REFERENCE => format!("{} (the reference)", line.kind.title),
            _ => line.kind.title.to_owned(),
        };
        let figures = match &line.measured {
            Ok(measured) => format!(
                "{} | {} | {} | {} | {} | {}",
                time(&measured.nanoseconds),
                ratio(measured, figures(lines, REFERENCE)),
                ratio(measured, figures(lines, BARE)),
                match &line.instructions {
                    Some(Ok(count)) => thousands(*count),
                    _ => "–".to_owned(),
                },
                thousands(measured.allocations),
                thousands(measured.bytes),
            ),
            Err(_) => "– | – | – | – | – | –".to_owned(),
        };
        let _ = writeln!(text, "| {title} | {figures} |");
        if let Err(reason) = &line.measured {
            notes.push(format!("{}: not measured, {reason}.", line.kind.title));
        }
        if let Some(Err(reason)) = &line.instructions {
            notes.push(format!("{}: instructions not counted, {reason}.", line.kind.title));
        }
    }
    if lines.iter().all(|line| line.instructions.is_none()) {
        notes.push("Instructions were not counted: they need valgrind.".to_owned());
    }
    let _ = write!(text, "\n{}", verdict(lines));
    for note in notes {
        let _ = write!(text, "\n{note}");
    }
    text
}

/// Says whether the aim is met; it is for people, no test fails by it.
fn verdict(lines: &[Line]) -> String {
    let title = KINDS.iter().find(|kind| kind.id == MEMORY).map_or("", |kind| kind.title);
    let Some((memory, reference)) = figures(lines, MEMORY).zip(figures(lines, REFERENCE)) else {
        return format!("Aim: {title}: at most {AIM} × the reference: not measured.");
    };
    let ratio = paired(memory, reference);
    let word = if ratio <= AIM { "PASS" } else { "MISS" };
    format!("Aim: {title}: at most {AIM} × the reference: {ratio:.2}, {word}.")
}

fn figures<'a>(lines: &'a [Line], id: &str) -> Option<&'a Measured> {
    lines.iter().find(|line| line.kind.id == id)?.measured.as_ref().ok()
}

fn ratio(measured: &Measured, other: Option<&Measured>) -> String {
    other.map_or_else(|| "–".to_owned(), |other| format!("{:.2}", paired(measured, other)))
}

/// The median of the ratios of each round: what slows a whole round down cancels out.
fn paired(measured: &Measured, other: &Measured) -> f64 {
    let rounds = measured.nanoseconds.iter().zip(&other.nanoseconds);
    quantile(&rounds.map(|(one, other)| one / other).collect::<Vec<_>>(), 0.5)
}

fn time(nanoseconds: &[f64]) -> String {
    let [low, median, high] = [0.1, 0.5, 0.9].map(|at| quantile(nanoseconds, at));
    if median < 10_000.0 {
        format!("{median:.0} ns ({low:.0}–{high:.0})")
    } else {
        format!("{:.1} µs ({:.1}–{:.1})", median / 1e3, low / 1e3, high / 1e3)
    }
}

fn quantile(values: &[f64], at: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * at).round() as usize).copied().unwrap_or(f64::NAN)
}

/// A whole number with commas; below ten, one digit more where it is not whole.
fn thousands(value: f64) -> String {
    if value < 10.0 && (value - value.round()).abs() > 0.05 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

const AIM: f64 = 1.5;
