//! What the redirect costs a connect().

mod connect4;

use super::Part;

pub(super) const PARTS: &[Part] = &[Part {
    name: "kernel/connect4",
    what: "the eBPF program on connect(), by the kernel's own statistics",
    run: connect4::run,
}];
