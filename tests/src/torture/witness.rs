//! What one client has been told so far, and whether what it is told next can be.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Result, bail, ensure};

use super::TOPICS;
use super::truth::{Change, Truth};
use super::world::Half;

/// How much of a difference is shown.
const SHOWN: usize = 5;
/// The truth's own stream is no more than this behind what the API server answers.
const DELETION_HEARD: Duration = Duration::from_millis(20);
const DELETIONS_TRIED: usize = 100;

/// A client was told this RV.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    pub(super) version: u64,
    /// How, and at which kill.
    by: String,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} by {}", self.version, self.by)
    }
}

/// Of one collection.
#[derive(Default)]
struct Seen {
    /// By a list of all, or by what a stream has reached.
    all: Told,
    /// By lists of a half: another scope, of which another state may be known.
    halves: HashMap<Half, Told>,
    objects: HashMap<String, Told>,
}

fn newer<'t>(one: Option<&'t Told>, other: &'t Told) -> &'t Told {
    one.filter(|one| one.version > other.version)
        .unwrap_or(other)
}

/// One client's memory; its reader and its streams share it.
#[derive(Default)]
pub(super) struct Witness {
    seen: Mutex<[Seen; TOPICS]>,
}

impl Witness {
    fn seen(&self) -> MutexGuard<'_, [Seen; TOPICS]> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a list that is asked for now must not be older than.
    pub(super) fn of_scope(&self, topic: usize, half: Option<Half>) -> Told {
        let seen = &self.seen()[topic];
        let of_half = half.and_then(|half| seen.halves.get(&half));
        newer(of_half, &seen.all).clone()
    }

    /// What a GET that is sent now must not be older than.
    pub(super) fn of_object(&self, topic: usize, name: &str) -> Told {
        let seen = &self.seen()[topic];
        let of_half = Half::of(name).and_then(|half| seen.halves.get(&half));
        let listed = newer(of_half, &seen.all);
        newer(seen.objects.get(name), listed).clone()
    }

    pub(super) fn tell_scope(
        &self,
        topic: usize,
        half: Option<Half>,
        version: u64,
        by: impl FnOnce() -> String,
    ) {
        let seen = &mut self.seen()[topic];
        let told = match half {
            Some(half) => seen.halves.entry(half).or_default(),
            None => &mut seen.all,
        };
        if version > told.version {
            *told = Told { version, by: by() };
        }
    }

    pub(super) fn tell_object(
        &self,
        topic: usize,
        name: &str,
        version: u64,
        by: impl FnOnce() -> String,
    ) {
        let seen = &mut self.seen()[topic];
        if version > seen.objects.get(name).map_or(0, |told| told.version) {
            let told = Told { version, by: by() };
            seen.objects.insert(name.to_owned(), told);
        }
    }

    /// What this client has been shown of single objects, however it was shown.
    pub(super) fn of_objects(&self, topic: usize) -> HashMap<String, Told> {
        self.seen()[topic].objects.clone()
    }

    /// A list shows each of its objects.
    pub(super) fn tell_objects(
        &self,
        topic: usize,
        items: &BTreeMap<String, u64>,
        by: impl Fn() -> String,
    ) {
        for (name, version) in items {
            self.tell_object(topic, name, *version, &by);
        }
    }
}

/// A list was told to a client that had been shown these objects.
pub(super) fn nothing_older(
    items: &BTreeMap<String, u64>,
    shown: &HashMap<String, Told>,
) -> Result<()> {
    for (name, version) in items {
        if let Some(before) = shown.get(name) {
            ensure!(
                before.version <= *version,
                "{name} went back: told at {version}; told before: {before}"
            );
        }
    }
    Ok(())
}

/// An object at `version` was told to a client that had been told `floor`.
pub(super) async fn object(truth: &Truth, name: &str, version: u64, floor: &Told) -> Result<()> {
    truth.until(version.max(floor.version)).await?;
    match truth.ended(name, version)? {
        Some(ended) if ended <= floor.version => bail!(
            "{name} went back: told at {version}, which ended at {ended}; told before: {floor}"
        ),
        _ => Ok(()),
    }
}

/// A client that had been told `floor` was told that the object is not there; since when that can be.
pub(super) async fn absence(truth: &Truth, name: &str, floor: &Told) -> Result<u64> {
    truth.until(floor.version).await?;
    // The client may hear of a deletion before the truth does.
    for _ in 0..DELETIONS_TRIED {
        if let Some(absent) = truth.absent_since(name, floor.version) {
            return Ok(absent);
        }
        tokio::time::sleep(DELETION_HEARD).await;
    }
    bail!("{name} is said not to exist; it does since before {floor}, and to this day")
}

/// A list at `version` was told to a client that had been told `floor`; of it the objects with these names.
pub(super) async fn list(
    truth: &Truth,
    (version, items): (u64, &BTreeMap<String, u64>),
    floor: &Told,
    is_selected: impl Fn(&str) -> bool,
) -> Result<()> {
    ensure!(
        version >= floor.version,
        "a list went back: told at {version}; told before: {floor}"
    );
    truth.until(version).await?;
    let mut there = truth.at(version);
    there.retain(|name, _| is_selected(name));
    let differing = |(name, version): &(&String, &u64)| there.get(*name) != Some(version);
    let told: Vec<_> = items.iter().filter(differing).take(SHOWN).collect();
    let untold = |(name, _): &(&String, &u64)| !items.contains_key(*name);
    let missing: Vec<_> = there.iter().filter(untold).take(SHOWN).collect();
    ensure!(
        told.is_empty() && missing.is_empty(),
        "the list at {version} has {} items and not {}; wrong: {told:?}, missing: {missing:?}",
        items.len(),
        there.len()
    );
    Ok(())
}

/// A stream that had reached `after` was told this next (a bookmark: that nothing more happened): nothing is left out, and
/// nothing made up. In what the cache replays an object is told once, as it became.
pub(super) async fn event(
    truth: &Truth,
    after: u64,
    told: &Change,
    replay: &RangeInclusive<u64>,
) -> Result<()> {
    let is_bookmark = told.kind == "BOOKMARK";
    ensure!(
        told.version > after || (is_bookmark && told.version == after),
        "a stream went back: {told:?} after {after}"
    );
    truth.until(told.version).await?;
    let mut there = truth.between(after, told.version);
    if !is_bookmark {
        let last = there.pop();
        let is_it = last
            .as_ref()
            .is_some_and(|last| is_told(last, told, replay));
        ensure!(
            is_it,
            "a stream was told {told:?}, but what happened is {last:?}"
        );
    }
    there.retain(|left_out| !truth.is_superseded(left_out, replay));
    ensure!(
        there.is_empty(),
        "a stream that had reached {after} was told {told:?}, without {:?} ({} in all; replayed: {replay:?})",
        &there[..there.len().min(SHOWN)],
        there.len()
    );
    Ok(())
}

/// To whom an object is new, its last change is its coming.
fn is_told(change: &Change, told: &Change, replay: &RangeInclusive<u64>) -> bool {
    let kinds = [change.kind.as_str(), told.kind.as_str()];
    let is_new = kinds == ["MODIFIED", "ADDED"] && replay.contains(&told.version);
    (change.version, &change.name) == (told.version, &told.name)
        && (change.kind == told.kind || is_new)
}
