//! The road between node and control plane, and its faults.

use anyhow::Result;

use crate::Node;

/// The link of a node; restored when dropped.
pub struct Link<'a> {
    node: &'a Node,
}

impl<'a> Link<'a> {
    /// Cuts the link without a word: packets of both directions vanish, nobody is told (a black hole).
    pub fn cut(node: &'a Node) -> Result<Self> {
        // The output hook too: an answer on its way would else arrive after the cut.
        node.nft(
            "add table ip cut; \
             add chain ip cut in { type filter hook input priority 0; }; add rule ip cut in iifname \"eth0\" drop; \
             add chain ip cut out { type filter hook output priority 0; }; add rule ip cut out oifname \"eth0\" drop",
        )?;
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
