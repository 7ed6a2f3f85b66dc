//! A GET of a pod of 9 KB, as fast as one and as 16 connections can: what it costs the proxy, and how many come in a second.

use anyhow::{Context, Result};

use super::{PROTOCOLS, pod, with_pods};
use crate::bench::arm::in_turn;
use crate::bench::client::Protocol;
use crate::bench::{Report, Rig, load};

/// Connections at once, GETs on each, and what the CPU of one is to be: nginx's, measured on two cores, and 15 % more.
const LOOPS: [(usize, usize, &str); 2] =
    [(1, 1_500, "nginx's + 15 %"), (MANY, 200, "nginx's + 15 %")];
const MANY: usize = 16;

pub(super) fn run(rig: &mut Rig<'_>, report: &mut Report) -> Result<()> {
    with_pods(rig, 1, |rig, names| {
        rig.fresh()?;
        let path = pod(names.first().context("a pod")?);
        for protocol in PROTOCOLS {
            for size in LOOPS {
                measure(rig, report, &path, protocol, size)?;
            }
        }
        Ok(())
    })
}

fn measure(
    rig: &mut Rig<'_>,
    report: &mut Report,
    path: &str,
    protocol: Protocol,
    (connections, requests, aim): (usize, usize, &'static str),
) -> Result<()> {
    let taken = in_turn(rig, |rig, arm| {
        let arm = rig.arm(arm)?;
        let client = arm.client.speaking(protocol);
        load::closed(
            &rig.node.netns(),
            &arm,
            &client,
            path,
            (connections, requests),
        )
    })?;
    let all = (connections * requests) as f64;
    let several = if connections == 1 { "" } else { "s" };
    let how = format!("{connections} connection{several}, {protocol}, kube-apiserver");
    let named = |what: &str| format!("GET of a pod of 9 KB, {what}, {how}");
    taken.proxies(
        report,
        (&named("CPU of the proxy"), "us", aim),
        |spent, _| spent.cpu * 1e6 / all,
    );
    if connections == MANY {
        let aim = match protocol {
            Protocol::Http1 => "75",
            Protocol::Http2 => "more than 75",
        };
        taken.each(report, (&named("in a second"), "/s", ""), |spent| {
            all / spent.seconds
        });
        taken.proxies(
            report,
            (&named("rate, of direct"), "%", aim),
            |spent, direct| direct.seconds / spent.seconds * 100.0,
        );
    } else {
        taken.each(report, (&named("bytes of the link"), "KB", ""), |spent| {
            spent.link / all / 1e3
        });
    }
    Ok(())
}
