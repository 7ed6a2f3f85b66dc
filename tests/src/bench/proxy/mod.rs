//! The proxies beside each other, and beside the API server without one: CPU, time, bytes and memory of the same requests.

mod cpu;
mod delay;
mod list;
mod memory;
mod watch;

use anyhow::Result;

use super::client::Protocol;
use super::pods::NAMESPACE;
use super::rig::{create_pods, delete_pods, pods};
use super::within::within;
use super::{Part, Rig};

/// A cluster of this many pods, some 9 KB each in JSON: a LIST of 18 MB.
const PODS: usize = 2_000;
/// Their namespace in the replay.
const CLUSTER: &str = "cluster";
const PROTOCOLS: [Protocol; 2] = [Protocol::Http1, Protocol::Http2];

pub(super) const PARTS: &[Part] = &[
    Part {
        name: "proxy/cpu",
        what: "CPU, bytes and rate of a GET",
        run: cpu::run,
    },
    Part {
        name: "proxy/delay",
        what: "what a proxy adds to a GET",
        run: delay::run,
    },
    Part {
        name: "proxy/list",
        what: "a LIST of 2,000 pods, first and again",
        run: list::run,
    },
    Part {
        name: "proxy/watch",
        what: "an update to 30 watches",
        run: watch::run,
    },
    Part {
        name: "proxy/memory",
        what: "memory: idle, after a LIST, of 1,000 watches",
        run: memory::run,
    },
];

/// Does something with so many pods at the real API server, whose names it is given, and takes them away again.
fn with_pods(
    rig: &mut Rig<'_>,
    count: usize,
    work: impl FnOnce(&mut Rig<'_>, &[String]) -> Result<()>,
) -> Result<()> {
    rig.real()?;
    let netns = rig.node.control_plane();
    let names = within(&netns, || create_pods(&rig.admin, count))?;
    let done = work(rig, &names);
    within(&netns, || delete_pods(&rig.admin))?;
    done
}

/// The path of a pod of the real API server.
fn pod(name: &str) -> String {
    format!("{}/{name}", pods(NAMESPACE))
}
