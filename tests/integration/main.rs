//! The one integration binary: real programs in namespaces of their own. Needs root and what `cargo xtask test` builds.

mod agent;
mod cache;
mod control_plane;
mod demo;
mod deploy;
mod fuzz_seeds;
mod healing;
mod history;
mod identity;
mod kubectl;
mod memory;
mod outage;
mod outages;
mod redirect;
mod restore;
mod tls;
mod torture;
mod transcoding;
mod upgrades;
mod websockets;
