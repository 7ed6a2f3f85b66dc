//! The histories of the model test against the real thing: Holdfast's binary, a kube-apiserver and an etcd, and the same judge.
//!
//! `HOLDFAST_HISTORY_SEEDS=50 cargo xtask test histories` runs the plans of the seeds 0 to 49, `HOLDFAST_HISTORY_SEED=N` that
//! of one. What is done is the same each time; when what meets what is not.

mod clients;
mod peer;
mod plane;
mod run;
mod stage;

use std::env;
use std::io::Write as _;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use holdfast_history::check::{check, explain};
use holdfast_history::plan::{Plan, Step};
use holdfast_history::record::{Entry, Record, What};
use holdfast_history::wire::Told;
use holdfast_tests::Node;

use stage::{Outcome, Stage};

/// Seeds of a run that is told none: a minute, and every kind of step.
const SEEDS: u64 = 6;

/// So many events are enough to say how many of them would be missed.
const ENOUGH: usize = 50;

#[test]
fn random_histories_against_a_real_api_server_can_be() -> Result<()> {
    let node = Node::new()?;
    let mut stage = Stage::new(&node)?;
    let (mut all, mut missed) = (0, 0);
    for seed in seeds()? {
        let (plan, began) = (Plan::new(seed), Instant::now());
        let outcome = stage
            .run(&plan)
            .with_context(|| format!("the history of seed {seed}"))?;
        say(&format!(
            "seed {seed}: {} steps, {} entries in {:.1} s, {} cannot be",
            plan.steps.len(),
            outcome.record.entries.len(),
            began.elapsed().as_secs_f64(),
            outcome.violations.len(),
        ));
        if !outcome.violations.is_empty() {
            println!("{}", explain(&outcome.record, &outcome.violations));
            println!("{}", stage.story());
        }
        ensure!(
            outcome.violations.is_empty(),
            "the history of seed {seed} cannot be"
        );
        let events = each_event(&outcome.record);
        all += events.len();
        missed += events
            .into_iter()
            .filter(|event| is_missed(*event, &plan, &outcome))
            .count();
    }
    // The judge is not blind. What a stream told last before it broke nobody need miss: over many seeds that is one in seven, of
    // one seed it was more than half.
    ensure!(
        all < ENOUGH || 4 * missed > all,
        "of {all} events {missed} would be missed"
    );
    Ok(())
}

/// The places of all events that clients were told.
fn each_event(record: &Record) -> Vec<usize> {
    let entries = record.entries.iter().enumerate();
    let is_event =
        |entry: &Entry| matches!(entry, Entry::Exchange(_, _, What::Told(Told::Event(..))));
    entries
        .filter(|(_, (_, entry))| is_event(entry))
        .map(|(index, _)| index)
        .collect()
}

/// Without this one event the same history could not be.
fn is_missed(event: usize, plan: &Plan, outcome: &Outcome) -> bool {
    let mut record = outcome.record.clone();
    record.entries.remove(event);
    !check(&plan.clients, &outcome.truth, &record).is_empty()
}

/// `HOLDFAST_HISTORY_SEED` and `HOLDFAST_HISTORY_SEEDS`.
fn seeds() -> Result<Vec<u64>> {
    let number = |name: &str| -> Result<Option<u64>> {
        let text = env::var(name).ok();
        let parse = |text: String| text.parse().with_context(|| format!("{name}={text}"));
        text.map(parse).transpose()
    };
    if let Some(seed) = number("HOLDFAST_HISTORY_SEED")? {
        return Ok(vec![seed]);
    }
    let count = number("HOLDFAST_HISTORY_SEEDS")?;
    Ok((0..count.unwrap_or(SEEDS)).collect())
}

/// Minutes may pass: this is not kept back until the end, as the output of a test is that passes.
fn say(line: &str) {
    // A closed standard error is no reason to fail.
    let _ = writeln!(std::io::stderr(), "history: {line}");
}

#[test]
fn the_default_histories_hold_every_kind_of_step() {
    let plans: Vec<Plan> = (0..SEEDS).map(Plan::new).collect();
    let has = |wanted: fn(&Step) -> bool| plans.iter().flat_map(|plan| &plan.steps).any(wanted);
    assert!(has(|step| matches!(step, Step::Cut(_))));
    assert!(has(|step| *step == Step::RestartApi));
    assert!(has(|step| *step == Step::Compact));
    assert!(has(|step| *step == Step::RestartHoldfast { killed: true }));
    assert!(has(|step| *step == Step::RestartHoldfast { killed: false }));
}
