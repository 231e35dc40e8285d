//! Puts the figures into a Markdown file, between two markers.

use std::path::Path;

use crate::rows::Failed;

/// Sees that the markers are there, before the minutes that the figures take.
pub fn expect_markers(file: &Path) -> Result<(), Failed> {
    replaced(&std::fs::read_to_string(file)?, "").map(drop)
}

/// Replaces what lies between `<!-- bench -->` and `<!-- /bench -->`.
pub fn write(file: &Path, figures: &str) -> Result<(), Failed> {
    let text = std::fs::read_to_string(file)?;
    std::fs::write(file, replaced(&text, figures)?)?;
    Ok(())
}

fn replaced(text: &str, figures: &str) -> Result<String, Failed> {
    let missing = || Failed::from(format!("the markers {BEGIN} and {END} are not in the file"));
    let (before, rest) = text.split_once(BEGIN).ok_or_else(missing)?;
    let (_, after) = rest.split_once(END).ok_or_else(missing)?;
    Ok(format!("{before}{BEGIN}\n\n{}\n\n{END}{after}", figures.trim()))
}

const BEGIN: &str = "<!-- bench -->";
const END: &str = "<!-- /bench -->";

#[cfg(test)]
mod tests {
    use super::replaced;

    #[test]
    fn only_what_lies_between_the_markers_is_replaced() {
        let text = "a\n<!-- bench -->\nold\n<!-- /bench -->\nb\n";
        let once = replaced(text, "new").unwrap();
        assert_eq!(once, "a\n<!-- bench -->\n\nnew\n\n<!-- /bench -->\nb\n");
        assert_eq!(replaced(&once, "new").unwrap(), once);
        assert!(replaced("no markers", "new").is_err());
    }
}
