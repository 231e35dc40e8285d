//! The table, and the page of the manual that it goes into.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use super::outage::Outage;
use super::probe::Seen;

const BEGIN: &str = "<!-- faults -->";
const END: &str = "<!-- /faults -->";

/// One outage, and what was seen of it.
pub struct Row {
    pub outage: Outage,
    /// By somebody with a stored session, with a sealed one, and by those who signed in.
    pub seen: Vec<Seen>,
}

impl Row {
    pub fn is_good(&self) -> bool {
        self.seen.iter().all(|seen| seen.wrong == 0 && seen.back.is_some())
    }
}

/// Writes the table in Markdown.
pub fn table(rows: &[Row]) -> String {
    let mut text = "| outage | signed in, stored session | signed in, sealed session | signs in | \
                    longest wait | after its end |\n|---|---|---|---|---|---|\n"
        .to_owned();
    for Row { outage, seen } in rows {
        let _ = write!(text, "| {} |", outage.name());
        for seen in seen {
            let _ = write!(text, " {} |", answers(&seen.during));
        }
        let longest = seen.iter().map(|seen| seen.longest).max().unwrap_or_default();
        let _ = write!(text, " {} |", seconds(longest));
        let back = if !seen.iter().any(|seen| seen.noticed) {
            "–".to_owned()
        } else if seen.iter().any(|seen| seen.back.is_none()) {
            "never".to_owned()
        } else {
            let noticed = seen.iter().filter(|seen| seen.noticed);
            seconds(noticed.filter_map(|seen| seen.back).max().unwrap_or_default())
        };
        let _ = writeln!(text, " {back} |");
    }
    text
}

/// The most frequent first; how often, where there were others.
fn answers(seen: &BTreeMap<String, u32>) -> String {
    let mut answers: Vec<_> = seen.iter().collect();
    answers.sort_by_key(|(_, times)| std::cmp::Reverse(**times));
    match &answers[..] {
        [(answer, _)] => (*answer).clone(),
        answers => {
            let parts: Vec<_> =
                answers.iter().map(|(answer, times)| format!("{answer} ({times}×)")).collect();
            parts.join(", ")
        }
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

/// Puts the table between the marks of a page.
pub fn write(path: &Path, table: &str) -> Result<(), Box<dyn Error>> {
    let page = std::fs::read_to_string(path)?;
    let marks = (page.find(BEGIN), page.find(END));
    let (Some(begin), Some(end)) = marks else {
        return Err(format!("{} has no {BEGIN} and {END}", path.display()).into());
    };
    let (before, after) = (&page[..begin + BEGIN.len()], &page[end..]);
    Ok(std::fs::write(path, format!("{before}\n{table}{after}"))?)
}
