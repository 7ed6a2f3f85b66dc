//! What a program holds, asked of the program itself, and watched while an outage lasts.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use holdfast_tests::Process;
use serde::Deserialize;
use serde_json::{Value, json};

use super::kinds::{KINDS, MOVER};

/// A program answers from memory; the machine is a busy one.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How often programs are asked while an outage lasts.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Objects by uid with their resourceVersion.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Objects {
    by_uid: BTreeMap<String, u64>,
    /// Those that a selector may let go of.
    movers: BTreeSet<String>,
}

impl Objects {
    pub(super) fn of_list(list: &Value) -> Result<Self> {
        let mut objects = Self::default();
        for item in list["items"].as_array().context("a list has items")? {
            let metadata = &item["metadata"];
            let text = |key: &str| metadata[key].as_str().context("an object has it");
            objects
                .by_uid
                .insert(text("uid")?.to_owned(), text("resourceVersion")?.parse()?);
            if text("name")? == MOVER {
                objects.movers.insert(text("uid")?.to_owned());
            }
        }
        Ok(objects)
    }

    pub(super) fn len(&self) -> usize {
        self.by_uid.len()
    }

    /// Nothing if both are the same, else what is wrong with `held`.
    pub(super) fn difference(&self, held: &BTreeMap<String, u64>) -> Option<String> {
        let missing = self
            .by_uid
            .keys()
            .filter(|uid| !held.contains_key(*uid))
            .count();
        let ghosts = held
            .keys()
            .filter(|uid| !self.by_uid.contains_key(*uid))
            .count();
        let other = self
            .by_uid
            .iter()
            .filter(|(uid, rv)| held.get(*uid).is_some_and(|held| held != *rv))
            .count();
        (missing + ghosts + other > 0).then(|| {
            format!("of {} objects {missing} are missing and {other} of another resourceVersion, {ghosts} are held that are gone", self.len())
        })
    }

    /// True if no change from one to the other was made.
    pub(super) fn same(&self, other: &Self) -> bool {
        self.by_uid == other.by_uid
    }
}

/// A running program that holds some of the kinds.
pub(super) struct Program {
    pub(super) name: &'static str,
    /// Its service account, which no other program has.
    pub(super) account: &'static str,
    pub(super) resources: Vec<&'static str>,
    pub(super) process: Process,
    pub(super) socket: PathBuf,
}

/// What it says.
#[derive(Debug, Deserialize)]
pub(super) struct Report {
    pub(super) kinds: BTreeMap<String, Held>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Held {
    pub(super) synced: bool,
    objects: Vec<String>,
    /// Unix milliseconds.
    pub(super) changed: u64,
    /// How often it began anew, with a LIST or with a watch that asks for what is there already.
    pub(super) lists: u64,
}

impl Held {
    fn by_uid(&self) -> Result<BTreeMap<String, u64>> {
        self.objects
            .iter()
            .map(|object| {
                let (uid, rv) = object
                    .split_once(' ')
                    .context("a uid and a resourceVersion")?;
                Ok((uid.to_owned(), rv.parse()?))
            })
            .collect()
    }
}

impl Program {
    pub(super) fn report(&self) -> Result<Report> {
        let ask = || -> Result<Report> {
            let mut stream = UnixStream::connect(&self.socket)?;
            stream.set_read_timeout(Some(ANSWER_WITHIN))?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(serde_json::from_str(&text)?)
        };
        ask().with_context(|| format!("{} does not tell: {}", self.name, self.process.tail()))
    }

    /// Fails while what it holds is not what `listed` says, in the order of [`KINDS`].
    pub(super) fn equals(&self, listed: &[Objects]) -> Result<()> {
        let report = self.report()?;
        let mut wrong = Vec::new();
        for (resource, objects) in self.watched(listed) {
            let held = report
                .kinds
                .get(resource)
                .context("it tells of every kind")?;
            if let Some(difference) = objects.difference(&held.by_uid()?) {
                wrong.push(format!(
                    "{resource}: {difference} (changed {})",
                    held.changed
                ));
            } else if !held.synced {
                wrong.push(format!("{resource}: not synced"));
            }
        }
        ensure!(wrong.is_empty(), "{}: {}", self.name, wrong.join("; "));
        Ok(())
    }

    /// How often it began anew so far, over all kinds.
    pub(super) fn lists(&self) -> Result<u64> {
        Ok(self.report()?.kinds.values().map(|held| held.lists).sum())
    }

    fn watched<'l>(
        &self,
        listed: &'l [Objects],
    ) -> impl Iterator<Item = (&'static str, &'l Objects)> {
        KINDS
            .iter()
            .zip(listed)
            .map(|(kind, objects)| (kind.resource, objects))
            .filter(|(resource, _)| self.resources.contains(resource))
    }
}

/// What was seen of one program over an outage.
#[derive(Default)]
pub(super) struct Seen {
    looks: usize,
    /// By kind: objects that it was without at one look or more.
    without: BTreeMap<String, BTreeSet<String>>,
    last: BTreeMap<String, BTreeMap<String, u64>>,
    /// Objects that were older at one look than at the look before. Not a failure yet: in the dark a collection that had
    /// fallen behind a stream is told to those, too, who have seen that stream.
    pub(super) backwards: Vec<String>,
}

impl Seen {
    /// Looks at what `program` holds until `over`; it begins with what `before` lists.
    pub(super) fn watch(program: &Program, before: &[Objects], over: &AtomicBool) -> Result<Self> {
        let mut seen = Self::default();
        while !over.load(Ordering::Relaxed) {
            seen.look(program, before)?;
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(seen)
    }

    fn look(&mut self, program: &Program, before: &[Objects]) -> Result<()> {
        let report = program.report()?;
        self.looks += 1;
        for (resource, objects) in program.watched(before) {
            let held = report.kinds.get(resource);
            let held = held.context("it tells of every kind")?.by_uid()?;
            self.note(resource, objects, held);
        }
        Ok(())
    }

    fn note(&mut self, resource: &str, before: &Objects, held: BTreeMap<String, u64>) {
        let missing = before.by_uid.keys().filter(|uid| !held.contains_key(*uid));
        let without = self.without.entry(resource.to_owned()).or_default();
        without.extend(missing.cloned());
        let last = self.last.entry(resource.to_owned()).or_default();
        for (uid, rv) in &held {
            if let Some(earlier) = last.get(uid).filter(|earlier| *earlier > rv) {
                let backwards = format!("{resource} {uid}: {earlier}, then {rv}");
                self.backwards.push(backwards);
            }
        }
        *last = held;
    }

    /// Objects that outlived the outage and were gone for a while.
    fn lost(&self, resource: &str, after: &Objects) -> Vec<&String> {
        let without = self.without.get(resource).into_iter().flatten();
        without
            .filter(|uid| after.by_uid.contains_key(*uid) && !after.movers.contains(*uid))
            .collect()
    }

    /// Fails if an object that outlived the outage was ever gone.
    pub(super) fn judge(&self, program: &Program, after: &[Objects]) -> Result<()> {
        ensure!(self.looks > 0, "{} was never looked at", program.name);
        for (resource, objects) in program.watched(after) {
            let lost = self.lost(resource, objects);
            ensure!(
                lost.is_empty(),
                "{}: {resource} that were there all the time were gone from it for a while: {lost:?}",
                program.name
            );
        }
        Ok(())
    }
}

#[test]
fn an_object_that_was_gone_for_a_while_or_went_back_is_found() -> Result<()> {
    let listed = |objects: &[(&str, &str)]| {
        let item = |(name, rv): &(&str, &str)| json!({"metadata": {"name": name, "uid": name, "resourceVersion": rv}});
        Objects::of_list(&json!({"items": objects.iter().map(item).collect::<Vec<_>>()}))
    };
    let before = listed(&[("stays", "1"), ("blinks", "2"), ("goes", "3"), (MOVER, "4")])?;
    let after = listed(&[("stays", "8"), ("blinks", "2"), (MOVER, "9")])?;
    let mut seen = Seen::default();
    for held in [&before, &listed(&[("stays", "8")])?, &after] {
        seen.note("configmaps", &before, held.by_uid.clone());
    }
    ensure!(seen.backwards.is_empty(), "{:?}", seen.backwards);
    ensure!(seen.lost("configmaps", &after) == ["blinks"]);
    seen.note("configmaps", &before, before.by_uid.clone());
    ensure!(seen.backwards.len() == 2, "{:?}", seen.backwards);
    ensure!(after.difference(&after.by_uid).is_none());
    ensure!(after.difference(&before.by_uid).is_some());
    Ok(())
}
