//! What only time shows. Left out unless asked for by name or by `--long`; `--minutes` shortens it.

mod background;
mod idle;
mod informer;
mod soak;
mod trend;

use super::Part;

/// The name of the group.
pub const GROUP: &str = "long";

pub(super) const PARTS: &[Part] = &[
    Part {
        name: "long/soak",
        what: "20 minutes with an outage in each: what grows",
        run: soak::run,
    },
    Part {
        name: "long/idle",
        what: "an hour of a node at rest, whose kubelet goes past Holdfast: bytes written",
        run: idle::past,
    },
    Part {
        name: "long/idle-through",
        what: "the same hour with a kubelet that goes through it",
        run: idle::through,
    },
];
