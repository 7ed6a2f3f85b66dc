//! The main job, line by line: the same code is narrated by `cargo xtask demo` and asserted by `cargo xtask test`.

mod answers;
mod callers;
mod control;
mod offline;
mod online;
mod redirect;
mod report;
mod restart;
mod resume;
mod scene;
mod streams;

use std::time::Duration;

use anyhow::{Context, Result};

pub use report::{Report, Row};
pub use scene::{Fault, Scene};

use crate::Node;

/// One line of the demo: `run` proves it on a scene in any state.
pub struct Line {
    /// 0 is the control.
    pub number: u8,
    pub title: &'static str,
    pub run: fn(&mut Scene<'_>) -> Result<Report>,
}

/// A behaviour that has a deadline fails at this many times it; the machine that runs the tests is not a quiet one.
pub const SLACK: u32 = 3;

/// Every line, in its order.
pub const LINES: [Line; 11] = [
    Line {
        number: 0,
        title: "control: without Holdfast, with no route, the same clients fail",
        run: control::nothing_answers,
    },
    Line {
        number: 1,
        title: "pods started before and after Holdfast reach it through the VIP, and trust it",
        run: redirect::pods_reach_holdfast,
    },
    Line {
        number: 2,
        title: "online, GET, LIST and watch are byte for byte those of a direct connection",
        run: online::bytes_are_equal,
    },
    Line {
        number: 3,
        title: "writes reach the API server and come back through the pod's own watch",
        run: online::writes_come_back,
    },
    Line {
        number: 4,
        title: "API server killed: informer, Python and kubectl go on reading",
        run: offline::refused,
    },
    Line {
        number: 5,
        title: "black hole: first answer within 1 s, then no waiting",
        run: offline::black_hole,
    },
    Line {
        number: 6,
        title: "a new pod lists what its service account was granted; another account gets nothing",
        run: callers::grants_are_not_shared,
    },
    Line {
        number: 7,
        title: "a WatchList opened offline syncs, and a held watch is still open",
        run: streams::watches_go_on,
    },
    Line {
        number: 8,
        title: "offline: a write 503, never seen 503, deleted before 404",
        run: answers::no_is_said_right,
    },
    Line {
        number: 9,
        title: "Holdfast killed: the next connect goes direct; started in the dark: it serves",
        run: restart::dies_and_returns,
    },
    Line {
        number: 10,
        title: "link cut and back: each informer gets exactly what it missed, nobody lists",
        run: resume::nothing_is_missed,
    },
];

/// Runs one line on a scene of its own. `outage` is how long a cut of the link lasts where the line says a time.
pub fn alone(number: u8, outage: Duration) -> Result<Report> {
    let line = LINES
        .iter()
        .find(|line| line.number == number)
        .context("there is such a line")?;
    let node = Node::new()?;
    let mut scene = Scene::new(&node, outage)?;
    let result = (line.run)(&mut scene).with_context(|| format!("line {number}: {}", line.title));
    result.with_context(|| scene.story())
}
