//! The road between node and control plane, and its faults.

use anyhow::{Result, ensure};

use crate::Node;
use crate::node::{CONTROL_PLANE, NODE};
use crate::process::output;

/// Filter rules see a packet of the node on its way in, and one to the node on its way out.
const IN: &str = "add chain ip cut in { type filter hook input priority 0; }; add rule ip cut in iifname \"eth0\"";
const OUT: &str = "add chain ip cut out { type filter hook output priority 0; }; add rule ip cut out oifname \"eth0\"";

/// A fault of a node's link; undone when dropped. There is one at a time.
pub struct Link<'a> {
    node: &'a Node,
}

impl<'a> Link<'a> {
    /// Cuts the link without a word: packets of both directions vanish, nobody is told (a black hole).
    pub fn cut(node: &'a Node) -> Result<Self> {
        // The output hook too: an answer on its way would else arrive after the cut.
        Self::impose(node, &format!("{IN} drop; {OUT} drop"))
    }

    /// Requests still arrive, and what the API server says is lost.
    pub fn mute(node: &'a Node) -> Result<Self> {
        Self::impose(node, &format!("{OUT} drop"))
    }

    /// Every packet towards the API server is answered with a reset, as a firewall does that rejects.
    pub fn reject(node: &'a Node) -> Result<Self> {
        Self::impose(node, &format!("{IN} tcp dport 6443 reject with tcp reset"))
    }

    /// Loses this many of a hundred packets, in each direction.
    pub fn lossy(node: &'a Node, percent: u8) -> Result<Self> {
        let lose = format!("numgen random mod 100 < {percent} drop");
        Self::impose(node, &format!("{IN} {lose}; {OUT} {lose}"))
    }

    /// New connections to the API server reach another port of its machine.
    pub fn divert(node: &'a Node, port: u16) -> Result<Self> {
        Self::impose(
            node,
            &format!(
                "add chain ip cut nat {{ type nat hook prerouting priority -101; }}; \
                 add rule ip cut nat iifname \"eth0\" tcp dport 6443 redirect to :{port}"
            ),
        )
    }

    fn impose(node: &'a Node, rules: &str) -> Result<Self> {
        node.nft(&format!("add table ip cut; {rules}"))?;
        Ok(Self { node })
    }

    /// Restores the link.
    pub fn restore(self) -> Result<()> {
        self.node.nft("delete table ip cut")?;
        std::mem::forget(self);
        Ok(())
    }
}

impl Drop for Link<'_> {
    fn drop(&mut self) {
        // A test that failed in the dark leaves the link as it found it.
        let _ = self.node.nft("delete table ip cut");
    }
}

/// Resets every open connection between node and API server; new ones are possible at once.
pub fn reset(node: &Node) -> Result<()> {
    let args = ["-K", "-H", "-tn", "src", CONTROL_PLANE, "dst", NODE];
    let closed = output(&mut node.control_plane_command("ss", args))?;
    ensure!(
        !closed.trim().is_empty(),
        "no connection was reset: there is none, or the kernel lacks CONFIG_INET_DIAG_DESTROY"
    );
    Ok(())
}
