//! From the cut to the first cached answer, and what the next ones take: for a client that keeps its connection, and for one
//! that makes a new one for each request.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use super::uplink;
use crate::bench::client::{Client, Connection, Counted};
use crate::bench::report::median;
use crate::bench::rig::pods;
use crate::bench::within::within;
use crate::bench::{Report, Rig, Row};
use crate::{Link, Node};

const PODS: usize = 100;
/// Their namespace in the replay.
const NAMESPACE: &str = "cut";
/// Between two requests of a client.
const PAUSE: Duration = Duration::from_millis(5);
/// The clients ask for so long, and the cut comes so long after they began.
const ASKING: Duration = Duration::from_millis(3_500);
const CUT_AFTER: Duration = Duration::from_millis(1_000);

type Cut = for<'a> fn(&'a Node) -> Result<Link<'a>>;

/// A way to cut, and the aim for the first answer in ms.
const CUTS: [(&str, Cut, &str); 2] = [
    ("refused", |node| Link::reject(node), "50"),
    ("black hole", |node| Link::cut(node), "1000"),
];
const CLIENTS: [&str; 2] = ["kept-alive connection", "a connection each"];

/// One request of a client.
struct Asked {
    at: Instant,
    took: Duration,
    cached: bool,
}

/// What one client saw, repeat by repeat.
#[derive(Default)]
struct Seen {
    /// Milliseconds.
    first: Vec<f64>,
    next: Vec<f64>,
    unanswered: Vec<f64>,
}

pub(super) fn run(rig: &mut Rig<'_>, report: &mut Report) -> Result<()> {
    let replay = rig.replay()?;
    replay.fill(PODS, NAMESPACE);
    let name = replay.a_pod(NAMESPACE).context("a pod")?;
    rig.fresh()?;
    rig.teach(NAMESPACE)?;
    let path = format!("{}/{name}", pods(NAMESPACE));
    for (what, cut, aim) in CUTS {
        let mut seen = [Seen::default(), Seen::default()];
        for _ in 0..rig.repeats {
            uplink(rig, "up")?;
            once(rig, &path, cut, &mut seen)?;
        }
        for (seen, client) in seen.into_iter().zip(CLIENTS) {
            let first = format!("cut to the first cached answer, {what}, {client}");
            let next = format!("then each, P50, {what}, {client}");
            let unanswered = format!("requests not answered 200, {what}, {client}");
            for (what, unit, values, aim) in [
                (first, "ms", seen.first, aim),
                (next, "ms", seen.next, "2"),
                (unanswered, "", seen.unanswered, "0"),
            ] {
                report.add(Row {
                    what,
                    arm: "holdfast",
                    unit,
                    values,
                    aim,
                });
            }
        }
    }
    Ok(())
}

fn once(rig: &Rig<'_>, path: &str, cut: Cut, seen: &mut [Seen; 2]) -> Result<()> {
    let netns = rig.node.netns();
    // The cut's own command is counted: it takes effect before it ends.
    let (asked, at) = std::thread::scope(|scope| {
        let asking = scope.spawn(|| within(&netns, || ask(&rig.through, path)));
        std::thread::sleep(CUT_AFTER);
        let at = Instant::now();
        let link = cut(rig.node)?;
        let asked = asking.join().map_err(|_| anyhow!("asking panicked"))??;
        link.restore()?;
        anyhow::Ok((asked, at))
    })?;
    for ((asked, unanswered), seen) in asked.into_iter().zip(seen) {
        let ended = |one: &Asked| one.at + one.took;
        let first = asked.iter().find(|one| one.cached);
        let first = ended(first.context("no answer came from the cache")?);
        let next = asked.iter().filter(|one| one.at > first);
        let next = next.map(|one| one.took.as_secs_f64() * 1e3).collect();
        seen.first
            .push(first.saturating_duration_since(at).as_secs_f64() * 1e3);
        seen.next.push(median(next));
        seen.unanswered.push(unanswered as f64);
    }
    Ok(())
}

/// Both clients at once; the requests of each in their order, and how many had no answer.
async fn ask(client: &Client, path: &str) -> Result<[(Vec<Asked>, usize); 2]> {
    let (kept, each) = tokio::join!(
        one_by_one(client, path, true),
        one_by_one(client, path, false)
    );
    Ok([kept, each])
}

async fn one_by_one(client: &Client, path: &str, keep: bool) -> (Vec<Asked>, usize) {
    let (mut all, mut unanswered) = (Vec::new(), 0);
    let mut kept = None;
    let began = Instant::now();
    while began.elapsed() < ASKING {
        let at = Instant::now();
        match exchange(client, path, kept.take()).await {
            Ok((answer, connection)) => {
                all.push(Asked {
                    at,
                    took: at.elapsed(),
                    cached: answer.headers.contains_key("holdfast-origin"),
                });
                kept = keep.then_some(connection);
            }
            Err(_) => unanswered += 1,
        }
        tokio::time::sleep(PAUSE).await;
    }
    (all, unanswered)
}

async fn exchange(
    client: &Client,
    path: &str,
    kept: Option<Connection>,
) -> Result<(Counted, Connection)> {
    let mut connection = match kept {
        Some(connection) => connection,
        None => client.connect().await?,
    };
    Ok((connection.get(path).await?, connection))
}
