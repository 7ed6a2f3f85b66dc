//! What the API server had when: every change of one collection, by a watch that no fault touches.

use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::timeout;

use super::http::{Client, Dialer};

/// The writer changes something many times a second.
const KNOWN_WITHIN: Duration = Duration::from_secs(20);

/// One change: at `version` the object came to be, changed, or went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) version: u64,
    /// As a watch says it.
    pub(super) kind: String,
    pub(super) name: String,
}

impl Change {
    /// `None`: a bookmark.
    pub(super) fn of(event: &Value) -> Result<Self> {
        let meta = &event["object"]["metadata"];
        Ok(Self {
            version: version(&event["object"])?,
            kind: text(&event["type"])?,
            name: meta["name"].as_str().unwrap_or_default().to_owned(),
        })
    }
}

/// The resourceVersion of an object, a list or a bookmark.
pub(super) fn version(of: &Value) -> Result<u64> {
    let version = of["metadata"]["resourceVersion"].as_str();
    let version = version.with_context(|| format!("no resourceVersion: {of}"))?;
    Ok(version.parse()?)
}

fn text(of: &Value) -> Result<String> {
    Ok(of.as_str().context("a word")?.to_owned())
}

/// The names and resourceVersions of a list's items.
pub(super) fn items(list: &Value) -> Result<BTreeMap<String, u64>> {
    let items = list["items"].as_array();
    let items = items.with_context(|| format!("no list: {list}"))?;
    let item = |item: &Value| Ok((text(&item["metadata"]["name"])?, version(item)?));
    items.iter().map(item).collect()
}

/// What became of an object, in the order of time: since this RV it is there, or not.
type History = Vec<(u64, bool)>;

pub(super) struct Truth {
    log: Mutex<Log>,
    reached: watch::Sender<u64>,
}

#[derive(Default)]
struct Log {
    changes: Vec<Change>,
    objects: HashMap<String, History>,
}

impl Truth {
    pub(super) fn new() -> Self {
        Self {
            log: Mutex::default(),
            reached: watch::Sender::new(0),
        }
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows the collection; returns only if that fails.
    pub(super) async fn follow(&self, dialer: &Dialer, path: &str) -> Result<()> {
        let list = Client::new(dialer.clone()).get(path).await?.body;
        let from = version(&list)?;
        for (name, version) in items(&list)? {
            self.log().objects.insert(name, vec![(version, true)]);
        }
        self.reached.send_replace(from);
        let watch = format!("{path}?watch=true&timeoutSeconds=7200&resourceVersion={from}");
        let mut stream = dialer.open(&watch).await?;
        while let Some(event) = stream.next().await? {
            let change = Change::of(&event)?;
            ensure!(change.kind != "ERROR", "the truth is lost: {event}");
            let reached = change.version;
            {
                let mut log = self.log();
                let history = log.objects.entry(change.name.clone()).or_default();
                history.push((change.version, change.kind != "DELETED"));
                log.changes.push(change);
            }
            self.reached.send_replace(reached);
        }
        bail!("the truth's stream ended")
    }

    /// Waits until all that happened up to this RV is known.
    pub(super) async fn until(&self, version: u64) -> Result<()> {
        let mut reached = self.reached.subscribe();
        let known = timeout(
            KNOWN_WITHIN,
            reached.wait_for(|reached| *reached >= version),
        )
        .await;
        known.with_context(|| format!("nothing is known of {version}"))??;
        Ok(())
    }

    /// How far it is known now.
    pub(super) fn reached(&self) -> u64 {
        *self.reached.borrow()
    }

    /// A replay may leave the change out: the object changed again in it, or came and went in it.
    pub(super) fn is_superseded(&self, change: &Change, replay: &RangeInclusive<u64>) -> bool {
        let log = self.log();
        let history = log.objects.get(&change.name).map_or(&[][..], Vec::as_slice);
        let again = history.iter().find(|(since, _)| *since > change.version);
        let before = history
            .iter()
            .rev()
            .find(|(since, _)| since < replay.start());
        let came = before.is_none_or(|(_, exists)| !exists);
        let went = change.kind == "DELETED" && replay.contains(&change.version);
        again.is_some_and(|(since, _)| replay.contains(since)) || (came && went)
    }

    /// The objects at this RV, each with its own.
    pub(super) fn at(&self, version: u64) -> BTreeMap<String, u64> {
        let log = self.log();
        let at = |history: &History| {
            let last = history.iter().rev().find(|(since, _)| *since <= version);
            last.filter(|(_, exists)| *exists).map(|(since, _)| *since)
        };
        let objects = log.objects.iter();
        objects
            .filter_map(|(name, history)| Some((name.clone(), at(history)?)))
            .collect()
    }

    /// Until when the object was as it is at `version`: `None`, it is so to this day. An error: it never was.
    pub(super) fn ended(&self, name: &str, version: u64) -> Result<Option<u64>> {
        let log = self.log();
        let history = log.objects.get(name).map_or(&[][..], Vec::as_slice);
        let at = history.iter().position(|state| *state == (version, true));
        let at = at.with_context(|| format!("{name} never was at {version}"))?;
        Ok(history.get(at + 1).map(|(ended, _)| *ended))
    }

    /// The first RV, from `floor` on, at which there is no such object.
    pub(super) fn absent_since(&self, name: &str, floor: u64) -> Option<u64> {
        let log = self.log();
        let history = log.objects.get(name).map_or(&[][..], Vec::as_slice);
        let before = history.iter().rev().find(|(since, _)| *since <= floor);
        if before.is_none_or(|(_, exists)| !exists) {
            return Some(floor);
        }
        let mut after = history
            .iter()
            .filter(|(since, exists)| *since > floor && !exists);
        after.next().map(|(since, _)| *since)
    }

    /// What happened after one RV and until another.
    pub(super) fn between(&self, after: u64, until: u64) -> Vec<Change> {
        let log = self.log();
        let first = log
            .changes
            .partition_point(|change| change.version <= after);
        let last = log
            .changes
            .partition_point(|change| change.version <= until);
        log.changes[first.min(last)..last].to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn truth() -> Truth {
        let truth = Truth::new();
        let mut log = truth.log();
        for (version, kind) in [(5, "ADDED"), (7, "MODIFIED"), (9, "DELETED"), (12, "ADDED")] {
            let history = log.objects.entry("a".to_owned()).or_default();
            history.push((version, kind != "DELETED"));
            log.changes.push(Change {
                version,
                kind: kind.to_owned(),
                name: "a".to_owned(),
            });
        }
        drop(log);
        truth
    }

    #[test]
    fn a_state_is_known_from_its_beginning_to_its_end() {
        let truth = truth();
        assert_eq!(truth.at(4), BTreeMap::new());
        assert_eq!(truth.at(8), BTreeMap::from([("a".to_owned(), 7)]));
        assert_eq!(truth.at(9), BTreeMap::new());
        assert_eq!(truth.ended("a", 5).expect("was"), Some(7));
        assert_eq!(truth.ended("a", 12).expect("is"), None);
        assert!(truth.ended("a", 6).is_err() && truth.ended("b", 5).is_err());
    }

    #[test]
    fn a_replay_tells_an_object_once_and_not_at_all_what_came_and_went_in_it() {
        let truth = truth();
        let superseded = |number: usize, from, until| {
            let changes = truth.between(0, u64::MAX);
            truth.is_superseded(&changes[number], &(from..=until))
        };
        // Added at 5, changed at 7, deleted at 9, added at 12.
        assert!(superseded(0, 4, 8) && superseded(0, 4, 7) && !superseded(0, 4, 6));
        assert!(!superseded(1, 6, 8));
        assert!(superseded(2, 4, 9) && !superseded(2, 6, 9) && superseded(2, 6, 12));
        assert!(!superseded(3, 4, 20));
    }

    #[test]
    fn an_absence_is_sought_from_a_floor_on() {
        let truth = truth();
        assert_eq!(truth.absent_since("a", 3), Some(3));
        assert_eq!(truth.absent_since("a", 6), Some(9));
        assert_eq!(truth.absent_since("a", 10), Some(10));
        assert_eq!(truth.absent_since("a", 12), None);
        assert_eq!(truth.absent_since("b", 12), Some(12));
    }

    #[test]
    fn changes_are_cut_out_by_their_versions() {
        let versions = |after, until| {
            let changes = truth().between(after, until);
            changes
                .iter()
                .map(|change| change.version)
                .collect::<Vec<_>>()
        };
        assert_eq!(versions(5, 9), [7, 9]);
        assert_eq!(versions(9, 5), [0; 0]);
    }
}
