//! A history that cannot be, for the reader.

use std::fmt::Write as _;

use super::Violation;
use crate::record::Record;

/// Of a history that cannot be, what is shown around the first entry that cannot: what led there, and what came after.
const BEFORE: usize = 400;
const AFTER: usize = 10;

/// The history around its first violation, then every violation.
pub fn explain(record: &Record, violations: &[Violation]) -> String {
    let mut text = String::new();
    let at = violations.first().map(|first| first.entry);
    let from = at.map_or(0, |at| at.saturating_sub(BEFORE));
    let until = at.map_or(usize::MAX, |at| at + AFTER);
    for (index, line) in record.to_string().lines().enumerate() {
        if (from..=until).contains(&index) {
            let mark = if at == Some(index) { ">>" } else { "  " };
            let _ = writeln!(text, "{mark}{line}");
        }
    }
    for violation in violations {
        let _ = writeln!(text, "{violation}");
    }
    text
}
