//! What the cache costs, and how fast it answers.

mod cpu;
mod disk;
mod memory;
mod offline;
pub(super) mod start;
mod stream;

use super::Part;

/// A cluster of this many pods, some 9 KB each in JSON: a LIST of 18 MB.
const PODS: usize = 2_000;
/// Their namespace in the replay.
const CLUSTER: &str = "cluster";

pub(super) const PARTS: &[Part] = &[
    Part {
        name: "cache/memory",
        what: "resident memory",
        run: memory::run,
    },
    Part {
        name: "cache/cpu",
        what: "CPU of a request",
        run: cpu::run,
    },
    Part {
        name: "cache/disk",
        what: "bytes written and syncs for each watch event",
        run: disk::run,
    },
    Part {
        name: "cache/stream",
        what: "watch events in a second, through Holdfast and directly",
        run: stream::run,
    },
    Part {
        name: "cache/start",
        what: "start to first answer, the upstream refused",
        run: start::run,
    },
    Part {
        name: "cache/offline",
        what: "reads from the cache against reads of the API server",
        run: offline::run,
    },
];
