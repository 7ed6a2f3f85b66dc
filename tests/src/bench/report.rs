//! The figures: repeats with their median and spread, as a table and as CSV, under a line that says where they are from.

use std::fmt::Write as _;
use std::fs;

use anyhow::Result;

/// One figure of one arm.
pub struct Row {
    /// What is measured.
    pub what: String,
    /// `direct`, `holdfast`, ...
    pub arm: &'static str,
    pub unit: &'static str,
    /// One for each repeat.
    pub values: Vec<f64>,
    /// What the project wants it to be.
    pub aim: &'static str,
}

/// How one figure is spread, for a plot.
pub struct Curve {
    /// What is measured: the curves of one plot.
    pub what: String,
    pub arm: &'static str,
    /// Of all repeats, in ascending order.
    pub values: Vec<f64>,
}

/// The rows of one run.
#[derive(Default)]
pub struct Report {
    rows: Vec<Row>,
    curves: Vec<Curve>,
}

impl Report {
    pub fn add(&mut self, row: Row) {
        eprintln!("  {}", row.line());
        self.rows.push(row);
    }

    pub fn draw(&mut self, curve: Curve) {
        self.curves.push(curve);
    }

    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    pub fn curves(&self) -> &[Curve] {
        &self.curves
    }

    /// A table in Markdown.
    pub fn table(&self) -> String {
        let mut text = String::from(
            "| what | arm | median | spread | of | aim |\n|---|---|---|---|---|---|\n",
        );
        for row in &self.rows {
            // Writing to a String does not fail.
            let _ = writeln!(text, "| {} |", row.cells().join(" | "));
        }
        text
    }

    /// One line for each row, the repeats in their order.
    pub fn csv(&self) -> String {
        let mut text = String::from("what,arm,unit,median,min,max,aim,repeats\n");
        for row in &self.rows {
            let (median, min, max) = row.summary();
            let repeats: Vec<String> = row.values.iter().map(f64::to_string).collect();
            let _ = writeln!(
                text,
                "\"{}\",{},{},{median},{min},{max},\"{}\",{}",
                row.what,
                row.arm,
                row.unit,
                row.aim,
                repeats.join(";")
            );
        }
        text
    }
}

impl Curve {
    /// Of values in any order.
    pub fn new(what: String, arm: &'static str, mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        Self { what, arm, values }
    }
}

impl Row {
    /// Median, least and greatest.
    pub fn summary(&self) -> (f64, f64, f64) {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        let at = |share: f64| percentile(&sorted, share);
        (at(0.5), at(0.0), at(1.0))
    }

    fn cells(&self) -> [String; 6] {
        let (median, min, max) = self.summary();
        let spread = match self.values.len() {
            0 | 1 => String::new(),
            _ => format!("{} to {}", shown(min), shown(max)),
        };
        [
            self.what.clone(),
            self.arm.to_owned(),
            format!("{} {}", shown(median), self.unit),
            spread,
            self.values.len().to_string(),
            self.aim.to_owned(),
        ]
    }

    fn line(&self) -> String {
        let (median, min, max) = self.summary();
        format!(
            "{} ({}): {} {} ({} to {})",
            self.what,
            self.arm,
            shown(median),
            self.unit,
            shown(min),
            shown(max)
        )
    }
}

/// The value below which this share of `sorted` is; between two, the nearer one. NaN of nothing.
pub fn percentile(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    let index = (last as f64 * share).round() as usize;
    sorted.get(index).copied().unwrap_or(f64::NAN)
}

/// The median of values in any order.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    percentile(&values, 0.5)
}

/// Three digits that count.
fn shown(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 || size == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// Machine, kernel and commit, in one line. The commit comes from `cargo xtask bench`.
pub fn origin() -> Result<String> {
    let cpus = fs::read_to_string("/proc/cpuinfo")?;
    let names: Vec<&str> = cpus
        .lines()
        .filter(|line| line.starts_with("model name"))
        .filter_map(|line| line.split(": ").nth(1))
        .collect();
    let memory = fs::read_to_string("/proc/meminfo")?;
    let kib: u64 = memory
        .split_whitespace()
        .nth(1)
        .and_then(|word| word.parse().ok())
        .unwrap_or_default();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    Ok(format!(
        "{} CPUs ({}), {} GB, Linux {}, Holdfast {}",
        names.len(),
        names.first().unwrap_or(&"unknown"),
        kib.div_ceil(1024 * 1024),
        kernel.trim(),
        std::env::var("HOLDFAST_COMMIT").unwrap_or_else(|_| "of an unknown commit".to_owned())
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_its_median_and_its_extremes() {
        let row = Row {
            what: "start".to_owned(),
            arm: "holdfast",
            unit: "ms",
            values: vec![3.0, 1.0, 250.4],
            aim: "150",
        };
        assert_eq!(
            row.cells(),
            ["start", "holdfast", "3.00 ms", "1.00 to 250", "3", "150"]
        );
        assert!(median(Vec::new()).is_nan());
    }
}
