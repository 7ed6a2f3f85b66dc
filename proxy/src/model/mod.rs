//! Random histories against a model of the API server: whatever happens, what clients are told can be.
//!
//! `cargo xtask model` runs more of them, one alone, or with a bug switched on.

mod answers;
mod apiserver;
mod clients;
mod encode;
mod rig;

use std::cell::Cell;
use std::env;
use std::fmt::Write as _;

use holdfast_history::check::Violation;
use holdfast_history::plan::Plan;

use crate::bugs::{Bug, Switched};
use crate::tls::tests::Files;
use rig::Outcome;

/// Seeds of a run that is not told how many.
const SEEDS: u64 = 200;

/// Each bug is found within so many; most are within a few.
const SEEDS_OF_A_BUG: u64 = 1000;

/// A long run says so often that it is still there.
const PROGRESS: u64 = 500;

/// Of a history that cannot be, what is shown around the first entry that cannot: what led there, and what came after.
const BEFORE: usize = 400;
const AFTER: usize = 10;

thread_local! {
    static RUNNING: Cell<bool> = const { Cell::new(false) };
}

/// This thread runs a history, the same each time: nothing in it may wait for another thread.
pub(crate) fn is_running() -> bool {
    RUNNING.get()
}

struct Running;

impl Running {
    fn begin() -> Self {
        RUNNING.set(true);
        Self
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING.set(false);
    }
}

/// `HOLDFAST_MODEL_SEEDS`, `_SEED` and `_BUG`, as `cargo xtask model` sets them.
fn told<T>(name: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
    let text = env::var(name).ok()?;
    Some(parse(&text).unwrap_or_else(|| panic!("{name} cannot be {text:?}")))
}

fn bug(name: &str) -> Option<Bug> {
    Bug::ALL.into_iter().find(|bug| format!("{bug:?}") == name)
}

fn number(text: &str) -> Option<u64> {
    text.parse().ok()
}

/// The history around its first violation, then every violation.
fn explain(outcome: &Outcome) -> String {
    let mut text = String::new();
    let at = outcome.violations.first().map(|first| first.entry);
    let from = at.map_or(0, |at| at.saturating_sub(BEFORE));
    let until = at.map_or(usize::MAX, |at| at + AFTER);
    for (index, line) in outcome.record.to_string().lines().enumerate() {
        if (from..=until).contains(&index) {
            let mark = if at == Some(index) { ">>" } else { "  " };
            let _ = writeln!(text, "{mark}{line}");
        }
    }
    for violation in &outcome.violations {
        let _ = writeln!(text, "{violation}");
    }
    text
}

#[test]
fn random_histories_can_be() {
    let files = Files::new(&["kubernetes"]);
    let _switched = told("HOLDFAST_MODEL_BUG", bug).map(Switched::on);
    if let Some(seed) = told("HOLDFAST_MODEL_SEED", number) {
        let outcome = rig::run(&files, &Plan::new(seed));
        println!("{}", explain(&outcome));
        assert!(outcome.violations.is_empty(), "seed {seed}");
        return;
    }
    let seeds = told("HOLDFAST_MODEL_SEEDS", number).unwrap_or(SEEDS);
    let mut failed: Vec<(u64, Violation)> = Vec::new();
    for seed in 0..seeds {
        let outcome = rig::run(&files, &Plan::new(seed));
        if let Some(first) = outcome.violations.first() {
            if failed.is_empty() {
                println!("{}", explain(&outcome));
            }
            println!("seed {seed}: {first}");
            failed.push((seed, first.clone()));
        }
        if (seed + 1).is_multiple_of(PROGRESS) {
            println!(
                "{} of {seeds} histories, {} cannot be",
                seed + 1,
                failed.len()
            );
        }
    }
    let seeds_failed: Vec<u64> = failed.iter().map(|(seed, _)| *seed).collect();
    assert!(
        failed.is_empty(),
        "{} of {seeds} histories cannot be; replay one with `cargo xtask model --seed N`: {seeds_failed:?}",
        failed.len()
    );
}

#[test]
fn each_bug_is_found() {
    let files = Files::new(&["kubernetes"]);
    for bug in Bug::ALL {
        let _switched = Switched::on(bug);
        let found = (0..SEEDS_OF_A_BUG).find_map(|seed| {
            let outcome = rig::run(&files, &Plan::new(seed));
            Some((seed, outcome.violations.into_iter().next()?))
        });
        match found {
            Some((seed, first)) => println!("{bug:?}: seed {seed}: {first}"),
            None => panic!("{bug:?} is not found in {SEEDS_OF_A_BUG} histories"),
        }
    }
}
