//! Chance.

/// A number below `end`; 0 where there is no chance to be had.
pub fn below(end: u32) -> u32 {
    getrandom::u32().unwrap_or_default() % end.max(1)
}
