//! 30 watches of the same pods, each on a connection of its own: from an update to the last of them, and what it costs.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::{CLUSTER, PROTOCOLS, pod, with_pods};
use crate::bench::arm::{Spent, in_turn};
use crate::bench::client::{Client, Protocol};
use crate::bench::pods::NAMESPACE;
use crate::bench::replay::{Pick, Replay, Train};
use crate::bench::report::percentile;
use crate::bench::rig::pods;
use crate::bench::within::within;
use crate::bench::{Report, Rig, follow};

const WATCHES: usize = 30;
/// Updates, and how many of them are due in a second.
const UPDATES: u64 = 60;
const RATE: f64 = 40.0;
/// Pods that are updated in turn.
const HOT: usize = 30;
const ARRIVED_WITHIN: Duration = Duration::from_secs(20);
/// Between opening the watches and the first update.
const QUIET: Duration = Duration::from_millis(300);
const OPEN_WITHIN: Duration = Duration::from_secs(20);

type Seen = Arc<Mutex<Vec<(u64, Instant)>>>;

/// Open watches, of which each writes down when it heard of which resourceVersion; dropped, they hang up.
struct Watches {
    seen: Vec<Seen>,
    tasks: JoinSet<Result<()>>,
}

/// Who changes the pods.
enum Updates<'a> {
    /// An administrator of the real API server.
    Made(&'a Client, &'a [String]),
    Played(&'a Replay),
}

struct Turn {
    /// From each update to the last watch that heard of it, in milliseconds, in ascending order.
    delays: Vec<f64>,
    spent: Spent,
}

pub(super) fn run(rig: &mut Rig<'_>, report: &mut Report) -> Result<()> {
    with_pods(rig, HOT, |rig, names| {
        rig.fresh()?;
        PROTOCOLS
            .into_iter()
            .try_for_each(|protocol| measure(rig, report, protocol, names))
    })?;
    rig.replay()?.fill(HOT, CLUSTER);
    rig.fresh()?;
    PROTOCOLS
        .into_iter()
        .try_for_each(|protocol| measure(rig, report, protocol, &[]))
}

fn measure(
    rig: &mut Rig<'_>,
    report: &mut Report,
    protocol: Protocol,
    names: &[String],
) -> Result<()> {
    let taken = in_turn(rig, |rig, name| {
        let arm = rig.arm(name)?;
        let client = arm.client.speaking(protocol);
        let (updates, namespace) = match &rig.replay {
            Some(replay) => (Updates::Played(replay), CLUSTER),
            None => (Updates::Made(&rig.admin, names), NAMESPACE),
        };
        within(&rig.node.netns(), || async {
            let watches = Watches::open(&client, namespace).await?;
            updates.ready().await?;
            let meter = arm.meter()?;
            let due = updates.make().await?;
            let delays = watches.delays(&due).await?;
            let spent = meter.read()?;
            Ok(Turn { delays, spent })
        })
    })?;
    let how = format!("{protocol}, {}", rig.upstream());
    let named = |what: &str| format!("30 watches, {what}, {how}");
    let middle = |turn: &Turn| percentile(&turn.delays, 0.5);
    taken.each(
        report,
        (&named("update to the last one, P50"), "ms", ""),
        middle,
    );
    taken.proxies(
        report,
        (&named("update to the last one, added P50"), "ms", "0.6"),
        |turn, direct| middle(turn) - middle(direct),
    );
    let deliveries = (WATCHES as u64 * UPDATES) as f64;
    taken.proxies(
        report,
        (&named("CPU of a delivery"), "us", "30"),
        |turn, _| turn.spent.cpu * 1e6 / deliveries,
    );
    Ok(())
}

impl Watches {
    /// Does not wait until they were accepted: over HTTP/2 nginx keeps the headers of an answer to itself until there is
    /// something of its body.
    async fn open(client: &Client, namespace: &str) -> Result<Self> {
        let mut watches = Self {
            seen: Vec::new(),
            tasks: JoinSet::new(),
        };
        for _ in 0..WATCHES {
            let mut connection = client.connect().await?;
            let path = pods(namespace);
            let version = follow::list(&mut connection, &path).await?;
            let seen = Seen::default();
            watches.seen.push(Arc::clone(&seen));
            watches.tasks.spawn(async move {
                let watch = follow::watch(&mut connection, &path, version).await?;
                // The connection lives as long: one of HTTP/2 ends with the last of its senders.
                follow::read(watch, &seen).await
            });
        }
        Ok(watches)
    }

    /// Waits until all of them have heard of the last update.
    async fn delays(mut self, due: &[(u64, Instant)]) -> Result<Vec<f64>> {
        let (last, _) = due.last().context("no update")?;
        let deadline = Instant::now() + ARRIVED_WITHIN;
        while !self.seen.iter().all(|seen| reached(seen) >= *last) {
            if let Some(ended) = self.tasks.try_join_next() {
                ended??;
            }
            if Instant::now() > deadline {
                bail!("not every watch was told of {last}");
            }
            sleep(Duration::from_millis(5)).await;
        }
        let mut delays = Vec::with_capacity(due.len());
        for (version, at) in due {
            let heard: Option<Vec<Instant>> =
                self.seen.iter().map(|seen| heard(seen, *version)).collect();
            let heard = heard.with_context(|| format!("a watch was not told of {version}"))?;
            let last = heard.into_iter().max().context("no watch")?;
            delays.push(last.duration_since(*at).as_secs_f64() * 1e3);
        }
        delays.sort_by(f64::total_cmp);
        Ok(delays)
    }
}

fn reached(seen: &Seen) -> u64 {
    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    seen.last().map_or(0, |(version, _)| *version)
}

fn heard(seen: &Seen, version: u64) -> Option<Instant> {
    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    let found = seen.iter().find(|(of, _)| *of == version);
    found.map(|(_, at)| *at)
}

impl Updates<'_> {
    /// Waits until the watches are there. The real API server tells one that comes late what it has missed, the replay does not.
    async fn ready(&self) -> Result<()> {
        let deadline = Instant::now() + OPEN_WITHIN;
        if let Updates::Played(replay) = self {
            while replay.watchers(CLUSTER) < WATCHES {
                ensure!(Instant::now() < deadline, "not every watch was opened");
                sleep(Duration::from_millis(5)).await;
            }
        }
        sleep(QUIET).await;
        Ok(())
    }

    /// The resourceVersion of each, and when it was sent or due.
    async fn make(&self) -> Result<Vec<(u64, Instant)>> {
        match self {
            Updates::Made(admin, names) => update(admin, names).await,
            Updates::Played(replay) => {
                let played = replay.begin(Train {
                    namespace: CLUSTER,
                    pods: Pick::Hot(HOT),
                    events: UPDATES,
                    rate: Some(RATE),
                });
                let played = played.await.context("the replay ended")?;
                Ok((played.first..).zip(played.due).collect())
            }
        }
    }
}

async fn update(admin: &Client, names: &[String]) -> Result<Vec<(u64, Instant)>> {
    let mut connection = admin.connect().await?;
    let started = Instant::now();
    let mut sent = Vec::new();
    for (number, name) in (0..UPDATES).zip(names.iter().cycle()) {
        let due = started + Duration::from_secs_f64(number as f64 / RATE);
        tokio::time::sleep_until(due.into()).await;
        let path = format!("{}/status", pod(name));
        // Each is another than the one before, of this run or of the last.
        let message = format!("{number} of {:?}", started);
        let patch = json!({"status": {"message": message}}).to_string();
        let at = Instant::now();
        let now = connection
            .write(Method::PATCH, &path, Bytes::from(patch))
            .await?;
        let now: Value = serde_json::from_slice(&now)?;
        let version = now["metadata"]["resourceVersion"].as_str();
        sent.push((version.context("a resourceVersion")?.parse()?, at));
    }
    Ok(sent)
}
