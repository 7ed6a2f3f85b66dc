//! A LIST of 2,000 pods of the real API server: the first one, which Holdfast has nothing of, and again.

use std::time::Duration;

use anyhow::Result;

use super::{PODS, with_pods};
use crate::bench::arm::{Arm, HOLDFAST, Spent, in_turn};
use crate::bench::client::{Client, Encoding, Protocol};
use crate::bench::pods::NAMESPACE;
use crate::bench::report::median;
use crate::bench::rig::pods;
use crate::bench::within::within;
use crate::bench::{Report, Rig, Row};
use crate::eventually;

/// Protobuf is what client-go asks for, and HTTP/2 what it speaks.
const HOW: [(Encoding, Protocol); 3] = [
    (Encoding::Json, Protocol::Http1),
    (Encoding::Json, Protocol::Http2),
    (Encoding::Protobuf, Protocol::Http2),
];
/// After the first one.
const AGAIN: usize = 3;
/// What was learnt is on the disk by then: `cache.commitInterval` is a second.
const COMMITTED: Duration = Duration::from_secs(2);
const KNOWN_WITHIN: Duration = Duration::from_secs(3);

struct Lists {
    /// Milliseconds.
    first: f64,
    again: f64,
    /// Of all of them, to the commit of the last one.
    spent: Spent,
    bytes: usize,
    /// Whether the cache knew the list in the end.
    known: bool,
}

pub(super) fn run(rig: &mut Rig<'_>, report: &mut Report) -> Result<()> {
    with_pods(rig, PODS, |rig, _| {
        HOW.into_iter()
            .try_for_each(|(encoding, protocol)| measure(rig, report, encoding, protocol))
    })
}

fn measure(
    rig: &mut Rig<'_>,
    report: &mut Report,
    encoding: Encoding,
    protocol: Protocol,
) -> Result<()> {
    let taken = in_turn(rig, |rig, name| {
        rig.renew(name)?;
        let arm = rig.arm(name)?;
        let client = arm.client.speaking(protocol).accepting(encoding);
        let mut lists = within(&rig.node.netns(), || list(&arm, &client))?;
        if name == HOLDFAST {
            let known = eventually("the list to be known", KNOWN_WITHIN, || {
                rig.learnt(NAMESPACE)
            });
            lists.known = known.is_ok();
        }
        Ok(lists)
    })?;
    let how = format!("{encoding}, {protocol}, {}", rig.upstream());
    let named = |what: &str| format!("LIST of 2,000 pods, {what}, {how}");
    let cpu = match encoding {
        Encoding::Json => "1.5 x nginx's 68",
        Encoding::Protobuf => "1.5 x nginx's 38",
    };
    taken.each(report, (&named("size"), "MB", ""), |lists| {
        lists.bytes as f64 / 1e6
    });
    taken.each(report, (&named("the first"), "ms", ""), |lists| lists.first);
    taken.each(report, (&named("again"), "ms", ""), |lists| lists.again);
    taken.proxies(
        report,
        (&named("the first, of direct"), "x", "1.1"),
        |lists, direct| lists.first / direct.first,
    );
    taken.proxies(
        report,
        (&named("again, of direct"), "x", "1.1"),
        |lists, direct| lists.again / direct.again,
    );
    taken.proxies(
        report,
        (&named("CPU of the proxy"), "ms", cpu),
        |lists, _| lists.spent.cpu * 1e3 / (1 + AGAIN) as f64,
    );
    taken.each(report, (&named("bytes of the link"), "MB", ""), |lists| {
        lists.spent.link / (1 + AGAIN) as f64 / 1e6
    });
    for (arm, lists) in taken.arms().filter(|(arm, _)| *arm == HOLDFAST) {
        let known = lists.iter().map(|lists| f64::from(lists.known) * 100.0);
        report.add(Row {
            what: named("runs after which the cache had it"),
            arm,
            unit: "%",
            values: known.collect(),
            aim: "100",
        });
    }
    Ok(())
}

/// The client's connection is new, as the proxy's is.
async fn list(arm: &Arm, client: &Client) -> Result<Lists> {
    let mut connection = client.connect().await?;
    let path = pods(NAMESPACE);
    let meter = arm.meter()?;
    let first = connection.get(&path).await?;
    let mut again = Vec::new();
    for _ in 0..AGAIN {
        again.push(connection.get(&path).await?.took.as_secs_f64() * 1e3);
    }
    if !arm.pids.is_empty() {
        tokio::time::sleep(COMMITTED).await;
    }
    Ok(Lists {
        first: first.took.as_secs_f64() * 1e3,
        again: median(again),
        spent: meter.read()?,
        bytes: first.bytes,
        known: false,
    })
}
