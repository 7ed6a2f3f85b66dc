//! What a line measured.

use std::time::Duration;

use serde::Serialize;

/// Rows of one line.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    pub rows: Vec<Row>,
}

/// One thing that was seen or measured.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub what: String,
    pub seen: String,
    /// For a duration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub milliseconds: Option<f64>,
}

impl Report {
    /// Notes what was seen.
    pub fn saw(&mut self, what: impl Into<String>, seen: impl ToString) {
        self.rows.push(Row {
            what: what.into(),
            seen: seen.to_string(),
            milliseconds: None,
        });
    }

    /// Notes how long it took.
    pub fn took(&mut self, what: impl Into<String>, time: Duration) {
        let milliseconds = time.as_secs_f64() * 1000.0;
        self.rows.push(Row {
            what: what.into(),
            seen: shown(milliseconds),
            milliseconds: Some((milliseconds * 1000.0).round() / 1000.0),
        });
    }
}

fn shown(milliseconds: f64) -> String {
    if milliseconds < 10.0 {
        format!("{milliseconds:.1} ms")
    } else {
        format!("{milliseconds:.0} ms")
    }
}

/// The middle of some durations, and the longest.
pub(super) fn middle_and_longest(times: &[Duration]) -> (Duration, Duration) {
    let mut sorted = times.to_vec();
    sorted.sort();
    let last = sorted.last().copied().unwrap_or_default();
    (
        sorted.get(sorted.len() / 2).copied().unwrap_or_default(),
        last,
    )
}
