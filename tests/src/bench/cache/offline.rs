//! GET of one and LIST of 2,000 pods from the cache, against the same reads of the real API server, in turn. Holdfast's own
//! road to the API server is refused meanwhile, the reader's is not.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::PODS;
use crate::bench::pods::NAMESPACE;
use crate::bench::report::percentile;
use crate::bench::rig::{create_pods, delete_pods, pods};
use crate::bench::within::within;
use crate::bench::{Report, Rig, Row, load};
use crate::eventually;
use crate::holdfast::Settings;
use crate::node::CONTROL_PLANE;

/// Another port of the API server, which can be refused while its own is not.
const ROAD: &str = "add table ip bench; add chain ip bench in { type nat hook prerouting priority -100; }; \
    add rule ip bench in tcp dport 7443 redirect to :6443";
const REFUSE: &str = "add chain ip bench cut { type filter hook input priority 0; }; \
    add rule ip bench cut tcp dport 6443 ct original proto-dst 7443 reject with tcp reset";
/// The outage is noticed by the next probe at the latest.
const DOWN_WITHIN: Duration = Duration::from_secs(15);
/// Of each read in each turn.
const GETS: usize = 400;
const LISTS: usize = 5;

pub(super) fn run(rig: &mut Rig<'_>, report: &mut Report) -> Result<()> {
    rig.real()?;
    let names = within(&rig.node.control_plane(), || create_pods(&rig.admin, PODS))?;
    rig.node.nft(ROAD)?;
    let measured = measure(rig, names.first().context("a pod")?, report);
    rig.node.nft("delete table ip bench")?;
    within(&rig.node.control_plane(), || delete_pods(&rig.admin))?;
    measured
}

fn measure(rig: &mut Rig<'_>, name: &str, report: &mut Report) -> Result<()> {
    let mut settings = Settings::new(&rig.api);
    settings.servers = vec![format!("https://{CONTROL_PLANE}:7443")];
    rig.fresh_with(settings)?;
    rig.read(&[NAMESPACE])?;
    eventually("the list to be known", DOWN_WITHIN, || {
        rig.learnt(NAMESPACE)
    })?;
    rig.node.nft(REFUSE)?;
    let (list, get) = (pods(NAMESPACE), format!("{}/{name}", pods(NAMESPACE)));
    let netns = rig.node.netns();
    eventually("an answer from the cache", DOWN_WITHIN, || {
        let answer = within(&netns, || rig.through.get_once(&get))?;
        ensure!(answer.headers.contains_key("holdfast-origin"), "not yet");
        Ok(())
    })?;
    for (what, path, requests, aims) in [
        ("GET of a pod of 9 KB, P50", &get, GETS, ["", "0.3"]),
        ("LIST of 2,000 pods, 18 MB, P50", &list, LISTS, ["", "60"]),
    ] {
        let mut turns = [Vec::new(), Vec::new()];
        for _ in 0..rig.repeats {
            for (client, turn) in [&rig.direct, &rig.through].into_iter().zip(&mut turns) {
                let took = load::get(&netns, client, path, 1, requests)?;
                turn.push(percentile(&took, 0.5));
            }
        }
        let arms = ["direct, online", "holdfast, offline"];
        for ((values, arm), aim) in turns.into_iter().zip(arms).zip(aims) {
            report.add(Row {
                what: what.to_owned(),
                arm,
                unit: "ms",
                values,
                aim,
            });
        }
    }
    Ok(())
}
