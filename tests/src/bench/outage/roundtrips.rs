//! The first request of a new pod over a long road, in round trips: TCP, TLS and the request are one each, where there is no
//! connection for it. A curl in a pod that was just started, and one on the node that dials the API server itself.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::road::Road;
use crate::bench::pods::NAMESPACE;
use crate::bench::{Report, Rig, Row};
use crate::curl::{Curl, Reply};
use crate::{Pod, eventually};

/// Half of 80 ms.
const ONE_WAY: u32 = 40;
/// What every authenticated caller may read.
const PATH: &str = "/version";
/// A pod's listener is bound as soon as the pod is seen.
const SEEN_WITHIN: Duration = Duration::from_secs(10);
/// From a pod's sandbox to its first request; a container's start takes longer.
const STARTING: Duration = Duration::from_millis(500);

pub(super) fn run(rig: &mut Rig<'_>, report: &mut Report) -> Result<()> {
    rig.real()?;
    rig.fresh()?;
    let road = Road::open(rig.node, ONE_WAY)?;
    let (mut direct, mut first, mut next) = (Vec::new(), Vec::new(), Vec::new());
    // They live on: one that ends meanwhile would make the next one's listener hard to see.
    let mut pods = Vec::new();
    for number in 0..rig.repeats {
        let account = format!("new-{number}");
        let accounts = format!("/api/v1/namespaces/{NAMESPACE}/serviceaccounts");
        rig.api
            .create(&accounts, &json!({"metadata": {"name": account}}))?;
        let round_trip = road.round_trip()?.as_secs_f64();
        let in_round_trips = |reply: &Reply| reply.total.as_secs_f64() / round_trip;
        direct.push(in_round_trips(&on_the_node(rig, &account)?));
        for (which, seen) in [("a", &mut first), ("b", &mut next)] {
            let name = format!("{account}-{which}");
            let (reply, pod) = in_a_new_pod(rig, &account, &name)?;
            seen.push(in_round_trips(&reply));
            pods.push(pod);
        }
    }
    let first_of = |what: &str| format!("first request of a new pod{what}, RTT 80 ms");
    for (what, arm, values, aim) in [
        (first_of(""), "direct", direct, "3"),
        (
            first_of(" whose account is new on the node"),
            "holdfast",
            first,
            "1.1",
        ),
        (
            first_of(" whose account another pod has"),
            "holdfast",
            next,
            "1.1",
        ),
    ] {
        report.add(Row {
            what,
            arm,
            unit: "round trips",
            values,
            aim,
        });
    }
    Ok(())
}

fn on_the_node(rig: &Rig<'_>, account: &str) -> Result<Reply> {
    let token = rig.api.token(NAMESPACE, account, None)?;
    let url = format!("{}{PATH}", rig.api.url());
    let curl = Curl::get(&url, &rig.api.pki().path("ca.crt")).token(&token);
    let run = |program: &str, args: &[String]| rig.node.command(program, args);
    curl.run(rig.node.folder(), run)?.expect(200)
}

fn in_a_new_pod<'a>(rig: &Rig<'a>, account: &str, name: &str) -> Result<(Reply, Pod<'a>)> {
    let before = namespaces(rig)?;
    let admitted = rig.api.admit(NAMESPACE, name, account)?;
    let pod = Pod::start(rig.node, &admitted)?;
    eventually("the pod to be seen", SEEN_WITHIN, || {
        ensure!(namespaces(rig)? > before, "not yet");
        Ok(())
    })?;
    std::thread::sleep(STARTING);
    let reply = pod.run(pod.get(PATH))?.expect(200)?;
    ensure!(
        reply.header("holdfast-origin").is_none(),
        "answered from the cache"
    );
    Ok((reply, pod))
}

/// Network namespaces with a listener of Holdfast's.
fn namespaces(rig: &Rig<'_>) -> Result<u64> {
    let status = rig.holdfast.status()?;
    let intercept = &status["intercept"];
    intercept["namespaces"]
        .as_u64()
        .with_context(|| format!("a count of namespaces: {intercept}"))
}
