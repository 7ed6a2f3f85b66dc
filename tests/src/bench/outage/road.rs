//! A long road between node and control plane.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio::net::TcpStream;

use crate::bench::within::within;
use crate::node::{CONTROL_PLANE, NODE};
use crate::{Node, Process, eventually};

const SCRIPT: &str = include_str!("far.py");
const READY_WITHIN: Duration = Duration::from_secs(10);

/// Every packet takes its time, in both directions; dropped, the link is as it was.
pub(super) struct Road<'a> {
    node: &'a Node,
    _ends: Process,
}

impl<'a> Road<'a> {
    /// `one_way`: in milliseconds.
    pub(super) fn open(node: &'a Node, one_way: u32) -> Result<Self> {
        let (netns, plane, delay) = (node.netns(), node.control_plane(), one_way.to_string());
        let mut words = vec!["-c", SCRIPT, &delay];
        words.extend([netns.as_str(), NODE, CONTROL_PLANE]);
        words.extend([plane.as_str(), CONTROL_PLANE, NODE]);
        let ends = Process::spawn("road", node.folder(), &mut node.command("python3", words))?;
        eventually("the long road", READY_WITHIN, || {
            ensure!(ends.stdout().contains("ready"), "{}", ends.tail());
            Ok(())
        })?;
        Ok(Self { node, _ends: ends })
    }

    /// What a round trip takes: a TCP handshake.
    pub(super) fn round_trip(&self) -> Result<Duration> {
        within(&self.node.netns(), || async {
            let began = Instant::now();
            TcpStream::connect((CONTROL_PLANE, 6443)).await?;
            Ok(began.elapsed())
        })
    }
}
