//! Something between node and API server that answers in its stead.

use std::time::Duration;

use anyhow::Result;

use crate::assets::source;
use crate::link::{Link, reset};
use crate::{ApiServer, Node, Process};

const PORT: u16 = 7443;
const LISTENS_WITHIN: Duration = Duration::from_secs(20);

/// A gateway whose upstream is gone: every request is answered with one status. Dropped, the road is free again.
pub struct Gateway<'a> {
    // Dropped first: nobody is diverted to a port that is closed.
    link: Link<'a>,
    process: Process,
}

impl<'a> Gateway<'a> {
    /// Puts it in the way, for connections that are open too.
    pub fn start(node: &'a Node, api: &ApiServer<'_>, status: u16) -> Result<Self> {
        let script = source("tests/python/gateway.py");
        let mut command = node.control_plane_command("python3", [script.as_os_str()]);
        command.arg(PORT.to_string());
        command.args([
            api.pki().path("apiserver.crt"),
            api.pki().path("apiserver.key"),
        ]);
        command.arg(status.to_string());
        let process = Process::spawn("gateway", node.folder(), &mut command)?;
        process.wait_for("a listener", LISTENS_WITHIN, |lines| {
            (!lines.is_empty()).then_some(())
        })?;
        let link = Link::divert(node, PORT)?;
        reset(node)?;
        Ok(Self { link, process })
    }

    /// How many requests it has answered.
    pub fn answered(&self) -> usize {
        self.process.lines().len().saturating_sub(1)
    }

    /// Takes it out of the way; connections to it end.
    pub fn end(self) -> Result<()> {
        self.link.restore()?;
        self.process.kill()
    }
}
