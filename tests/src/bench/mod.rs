//! `cargo xtask bench`: what Holdfast costs and how fast it is, on this machine, beside the API server itself in the same run.
//!
//! A part fills a [`Report`] with rows; it takes each figure several times, and where two arms are compared it takes them in
//! turn. Nothing here passes or fails by a time: what a figure must not exceed on any machine is a test elsewhere.

pub mod arm;
pub mod cache;
pub mod client;
pub mod follow;
pub mod kernel;
pub mod load;
pub mod long;
pub mod nginx;
pub mod other;
pub mod outage;
pub mod pin;
pub mod plot;
pub mod pods;
pub mod process;
pub mod proxy;
pub mod replay;
pub mod report;
pub mod rig;
pub mod size;
pub mod within;

use anyhow::Result;

pub use report::{Report, Row};
pub use rig::Rig;

/// Some of the rows.
pub struct Part {
    /// `cache/disk` is run by `bench cache/disk`, by `bench cache`, and by `bench`.
    pub name: &'static str,
    pub what: &'static str,
    pub run: fn(&mut Rig<'_>, &mut Report) -> Result<()>,
}

/// All parts, in the order they are run.
pub fn parts() -> impl Iterator<Item = &'static Part> {
    let groups = [
        cache::PARTS,
        proxy::PARTS,
        outage::PARTS,
        kernel::PARTS,
        size::PARTS,
        long::PARTS,
    ];
    groups.into_iter().flatten()
}

impl Part {
    /// True if it takes so long that it is run only when asked for.
    pub fn is_long(&self) -> bool {
        self.is_of(long::GROUP)
    }

    /// True if `name` is this part, or the group that it is of.
    pub fn is_of(&self, name: &str) -> bool {
        self.name == name || self.name.split('/').next() == Some(name)
    }
}
