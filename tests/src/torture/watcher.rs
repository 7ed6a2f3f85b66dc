//! A client that watches, as client-go's reflector does: it goes on from what it has seen, and lists again after a 410.

use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::http::{Client, Dialer, Stream, UNANSWERED};
use super::truth::{Change, items, version};
use super::witness::{self, Told, Witness};
use super::world::World;

const PAUSE: Duration = Duration::from_millis(20);
const BOOKMARKS: &str = "watch=true&timeoutSeconds=600&allowWatchBookmarks=true";
const INITIAL: &str = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan";

pub(super) struct Watcher {
    pub(super) name: String,
    pub(super) world: Arc<World>,
    pub(super) witness: Arc<Witness>,
    pub(super) dialer: Dialer,
    pub(super) topic: usize,
    /// It begins with a WatchList and not with a LIST.
    pub(super) streams_lists: bool,
}

/// What a stream has begun with so far.
struct Beginning {
    floor: Told,
    shown: HashMap<String, Told>,
    items: BTreeMap<String, u64>,
}

impl Watcher {
    /// Watches until the world ends, or it is told what cannot be.
    pub(super) async fn run(self) -> Result<()> {
        let mut reached = None;
        let over = self.world.over.clone();
        let watching = async {
            loop {
                self.follow(&mut reached).await?;
                tokio::time::sleep(PAUSE).await;
            }
        };
        // Given up in the middle of an event, nothing was concluded from it.
        over.run_until_cancelled(watching).await.unwrap_or(Ok(()))
    }

    /// One stream, from its request to its end.
    async fn follow(&self, reached: &mut Option<u64>) -> Result<()> {
        let told = self.open_and_read(reached).await;
        told.with_context(|| format!("{}, stream of {}", self.name, self.path()))
    }

    async fn open_and_read(&self, reached: &mut Option<u64>) -> Result<()> {
        if reached.is_none() && !self.streams_lists {
            *reached = self.list().await?;
            if reached.is_none() {
                return Ok(());
            }
        }
        let floor = self.witness.of_scope(self.topic, None);
        let shown = self.witness.of_objects(self.topic);
        let path = match *reached {
            Some(from) => format!("{}?{BOOKMARKS}&resourceVersion={from}", self.path()),
            None => format!("{}?{BOOKMARKS}&{INITIAL}", self.path()),
        };
        let stream = match self.dialer.open(&path).await {
            Ok(stream) => stream,
            Err(error) if error.to_string() == UNANSWERED => return Err(error),
            Err(_) => return Ok(()),
        };
        match stream.status.as_u16() {
            200 => self.read(stream, reached, (floor, shown)).await,
            410 => {
                *reached = None;
                Ok(())
            }
            429 | 500 | 503 | 504 => Ok(()),
            code => {
                let status = stream.rest().await;
                bail!("HTTP {code}: {}", status.unwrap_or_default())
            }
        }
    }

    fn path(&self) -> &'static str {
        self.world.topics[self.topic].path
    }

    /// What it is to go on from; `None`: not now.
    async fn list(&self) -> Result<Option<u64>> {
        let floor = self.witness.of_scope(self.topic, None);
        let shown = self.witness.of_objects(self.topic);
        let reply = match Client::new(self.dialer.clone()).get(self.path()).await {
            Ok(reply) if reply.status == 200 => reply.body,
            _ => return Ok(None),
        };
        let told = (version(&reply)?, &items(&reply)?);
        let by = || format!("the LIST of a stream {}", self.world.moment());
        let truth = &self.world.topics[self.topic].truth;
        witness::nothing_older(told.1, &shown).with_context(by)?;
        let checked = witness::list(truth, told, &floor, |_| true).await;
        checked.with_context(by)?;
        self.witness.tell_scope(self.topic, None, told.0, by);
        self.witness.tell_objects(self.topic, told.1, by);
        Ok(Some(told.0))
    }

    async fn read(
        &self,
        mut stream: Stream,
        reached: &mut Option<u64>,
        (floor, shown): (Told, HashMap<String, Told>),
    ) -> Result<()> {
        // What the cache tells happened before it was asked.
        let truth = &self.world.topics[self.topic].truth;
        let replay = match stream.is_cached {
            true => reached.unwrap_or(u64::MAX).saturating_add(1)..=truth.reached(),
            false => RangeInclusive::new(1, 0),
        };
        self.world.tally.counts().streams += 1;
        let mut beginning = reached.is_none().then(|| Beginning {
            floor,
            shown,
            items: BTreeMap::new(),
        });
        // It broke, as a kill does it.
        while let Ok(Some(event)) = stream.next().await {
            if event["type"] == "ERROR" {
                return self.refused(&event["object"], reached);
            }
            let change = Change::of(&event)?;
            match beginning.take() {
                Some(begun) => beginning = self.begin(begun, &event, change, reached).await?,
                None => self.event(change, reached, &replay).await?,
            }
            self.world.tally.counts().events += 1;
        }
        Ok(())
    }

    fn refused(&self, status: &Value, reached: &mut Option<u64>) -> Result<()> {
        let mut counts = self.world.tally.counts();
        match status["code"].as_u64() {
            Some(410) => {
                counts.expired += 1;
                *reached = None;
            }
            // It knows less than it said before it was killed, and says so.
            Some(504) => counts.too_new += 1,
            _ => bail!("{status}"),
        }
        Ok(())
    }

    /// Initial events, and the bookmark that ends them.
    async fn begin(
        &self,
        mut begun: Beginning,
        event: &Value,
        change: Change,
        reached: &mut Option<u64>,
    ) -> Result<Option<Beginning>> {
        if change.kind != "BOOKMARK" {
            ensure!(
                change.kind == "ADDED",
                "{change:?} among the initial events"
            );
            begun.items.insert(change.name, change.version);
            return Ok(Some(begun));
        }
        let marks = &event["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"];
        ensure!(
            marks == "true",
            "a bookmark among the initial events: {event}"
        );
        let by = || format!("the initial events of a stream {}", self.world.moment());
        let truth = &self.world.topics[self.topic].truth;
        let told = (change.version, &begun.items);
        witness::nothing_older(told.1, &begun.shown).with_context(by)?;
        let checked = witness::list(truth, told, &begun.floor, |_| true).await;
        checked.with_context(by)?;
        self.witness
            .tell_scope(self.topic, None, change.version, by);
        self.witness.tell_objects(self.topic, told.1, by);
        *reached = Some(change.version);
        Ok(None)
    }

    async fn event(
        &self,
        change: Change,
        reached: &mut Option<u64>,
        replay: &RangeInclusive<u64>,
    ) -> Result<()> {
        let after = reached.unwrap_or_default();
        let truth = &self.world.topics[self.topic].truth;
        let version = change.version;
        // Seen is seen, whatever it takes to judge it.
        let by = || {
            format!(
                "{} {} on a stream {}",
                change.kind,
                change.name,
                self.world.moment()
            )
        };
        self.witness.tell_scope(self.topic, None, version, by);
        if matches!(change.kind.as_str(), "ADDED" | "MODIFIED") {
            self.witness
                .tell_object(self.topic, &change.name, version, by);
        }
        let checked = witness::event(truth, after, &change, replay).await;
        checked.with_context(|| self.world.moment())?;
        *reached = Some(version);
        Ok(())
    }
}
