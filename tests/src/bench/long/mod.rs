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
        what: "two hours of a node at rest: bytes written",
        run: idle::run,
    },
];
