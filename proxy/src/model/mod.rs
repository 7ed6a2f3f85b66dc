//! Random histories against a model of the API server: whatever happens, what clients are told can be.
//!
//! A failure names its seed; `HOLDFAST_MODEL_SEED` runs that one alone and prints the history.

mod answers;
mod apiserver;
mod clients;
mod encode;
mod rig;

use std::cell::Cell;
use std::env;

use holdfast_history::plan::Plan;

use crate::tls::tests::Files;

/// Seeds of a run that is not told how many.
const SEEDS: u64 = 200;

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

fn number(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text} is no number")),
    )
}

#[test]
fn random_histories_can_be() {
    let files = Files::new(&["kubernetes"]);
    if let Some(seed) = number("HOLDFAST_MODEL_SEED") {
        let outcome = rig::run(&files, &Plan::new(seed));
        println!("{}", outcome.record);
        for violation in &outcome.violations {
            println!("{violation}");
        }
        assert!(outcome.violations.is_empty(), "seed {seed}");
        return;
    }
    let seeds = number("HOLDFAST_MODEL_SEEDS").unwrap_or(SEEDS);
    let mut failed = Vec::new();
    for seed in 0..seeds {
        let outcome = rig::run(&files, &Plan::new(seed));
        if let Some(first) = outcome.violations.first() {
            println!("seed {seed}: {first}");
            failed.push(seed);
        }
    }
    assert!(
        failed.is_empty(),
        "{} of {seeds} seeds: {failed:?}",
        failed.len()
    );
}
