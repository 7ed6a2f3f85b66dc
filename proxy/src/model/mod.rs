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
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use holdfast_history::check::{Violation, explain};
use holdfast_history::plan::Plan;
use tokio::time::Instant;

use crate::bugs::{Bug, Switched};
use crate::tls::tests::Files;

/// Seeds of a run that is not told how many.
const SEEDS: u64 = 200;

/// Seeds whose histories are compared with themselves.
const SEEDS_TWICE: u64 = 40;

/// Each bug is found within so many; most are within a few.
const SEEDS_OF_A_BUG: u64 = 1000;

/// A long run says so often that it is still there.
const PROGRESS: u64 = 500;

/// The time of day when a history begins, in seconds since 1970: any will do.
const BEGINNING: Duration = Duration::from_secs(2_000_000_000);

thread_local! {
    static BEGAN: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// The time of day, if this thread runs a history. That is the same each time, so nothing in it may hang on a clock of the
/// machine, nor wait for another thread.
pub(crate) fn now() -> Option<SystemTime> {
    let began = BEGAN.get()?;
    Some(UNIX_EPOCH + BEGINNING + began.elapsed())
}

struct Running;

impl Running {
    fn begin() -> Self {
        BEGAN.set(Some(Instant::now()));
        Self
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        BEGAN.set(None);
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

#[test]
fn random_histories_can_be() {
    let files = Files::new(&["kubernetes"]);
    let _switched = told("HOLDFAST_MODEL_BUG", bug).map(Switched::on);
    if let Some(seed) = told("HOLDFAST_MODEL_SEED", number) {
        let outcome = rig::run(&files, &Plan::new(seed));
        println!("{}", explain(&outcome.record, &outcome.violations));
        assert!(outcome.violations.is_empty(), "seed {seed}");
        return;
    }
    let seeds = told("HOLDFAST_MODEL_SEEDS", number).unwrap_or(SEEDS);
    let mut failed: Vec<(u64, Violation)> = Vec::new();
    for seed in 0..seeds {
        let outcome = rig::run(&files, &Plan::new(seed));
        if let Some(first) = outcome.violations.first() {
            if failed.is_empty() {
                println!("{}", explain(&outcome.record, &outcome.violations));
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
fn a_history_is_the_same_each_time() {
    let seeds = told("HOLDFAST_MODEL_SEEDS", number).unwrap_or(SEEDS_TWICE);
    let records = move || -> Vec<String> {
        let files = Files::new(&["kubernetes"]);
        let record = |seed| rig::run(&files, &Plan::new(seed)).record.to_string();
        (0..seeds).map(record).collect()
    };
    // Another thread has other hash keys, and beside this one other delays.
    let again = std::thread::spawn(records);
    let (first, again) = (records(), again.join().expect("histories"));
    for (seed, (first, again)) in first.iter().zip(&again).enumerate() {
        let mut lines = first.lines().zip(again.lines());
        let apart = lines.find(|(first, again)| first != again);
        assert_eq!(apart, None, "of seed {seed}");
        assert_eq!(first.len(), again.len(), "of seed {seed}");
    }
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
