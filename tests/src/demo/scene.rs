//! A cluster of one node with a shop on it, and what can befall it.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::{ApiServer, Holdfast, Link, Node, Pod, eventually, fixtures};

/// After a fault was undone, the uplink is seen up within 2 s; the API server itself takes longer to be ready.
const UP_WITHIN: Duration = Duration::from_secs(30);
/// A pod's listener is there before its containers start, on a real node.
const FOUND_WITHIN: Duration = Duration::from_secs(6);

/// A way for the upstream to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL of the API server.
    Refused,
    /// The link carries nothing.
    BlackHole,
}

/// The cluster, in whatever state the last line left it.
pub struct Scene<'a> {
    pub node: &'a Node,
    pub api: ApiServer<'a>,
    pub holdfast: Holdfast<'a>,
    /// Started before Holdfast ever was.
    pub early: Pod<'a>,
    /// How long a cut of the link lasts, where a line says a time.
    pub outage: Duration,
    cut: Option<Link<'a>>,
    admitted: u32,
}

impl<'a> Scene<'a> {
    /// Everything but Holdfast runs; Holdfast is installed.
    pub fn new(node: &'a Node, outage: Duration) -> Result<Self> {
        let api = ApiServer::start(node)?;
        fixtures::apply(&api)?;
        let holdfast = Holdfast::install(node, &api)?;
        let early = Pod::start(node, &api.admit(fixtures::SHOP, "early", fixtures::WEB)?)?;
        Ok(Self {
            node,
            api,
            holdfast,
            early,
            outage,
            cut: None,
            admitted: 0,
        })
    }

    /// A new pod of this service account.
    pub fn pod(&mut self, account: &str) -> Result<Pod<'a>> {
        Pod::start(self.node, &self.admit(account)?)
    }

    /// Registers a pod without starting it.
    pub fn admit(&mut self, account: &str) -> Result<crate::apiserver::Admitted> {
        self.admitted += 1;
        self.api.admit(
            fixtures::SHOP,
            &format!("{account}-{}", self.admitted),
            account,
        )
    }

    /// Undoes all faults, and waits until a read is answered by the upstream again.
    pub fn online(&mut self) -> Result<()> {
        self.restore()?;
        if !self.api.runs() {
            self.api.restart()?;
        }
        // Ready or not, it answers 429 for a custom resource until that one's own storage is.
        eventually(
            "the API server to serve the custom resource",
            UP_WITHIN,
            || self.api.admin("GET", fixtures::WIDGETS, None),
        )?;
        if !self.holdfast.runs() {
            self.holdfast.start()?;
        }
        self.wait_up()
    }

    /// Waits until a read of a pod is answered by the upstream.
    pub fn wait_up(&self) -> Result<()> {
        eventually("a read to be answered by the upstream", UP_WITHIN, || {
            let reply = self
                .early
                .run(self.early.get("/version").at_most(Duration::from_secs(5)))?
                .expect(200)?;
            ensure!(
                reply.header("holdfast-origin").is_none(),
                "still answered from the cache"
            );
            Ok(())
        })
    }

    /// A new pod, once its connects reach Holdfast.
    pub fn reaching_pod(&mut self, account: &str) -> Result<Pod<'a>> {
        let pod = self.pod(account)?;
        reaches(&pod)?;
        Ok(pod)
    }

    /// Makes the upstream go.
    pub fn strike(&mut self, fault: Fault) -> Result<()> {
        match fault {
            Fault::Refused => self.api.kill(),
            Fault::BlackHole => {
                self.cut = Some(Link::cut(self.node)?);
                Ok(())
            }
        }
    }

    /// Restores the link if it is cut.
    pub fn restore(&mut self) -> Result<()> {
        self.cut.take().map_or(Ok(()), Link::restore)
    }

    /// Reads as a pod does that only looks once: after this Holdfast knows these collections.
    pub fn teach(&self, pod: &Pod<'_>) -> Result<()> {
        for path in [fixtures::CONFIGMAPS, fixtures::WIDGETS, fixtures::PODS] {
            pod.run(pod.get(path))?.expect(200)?;
        }
        Ok(())
    }

    /// The end of Holdfast's log, for a line that failed.
    pub fn story(&self) -> String {
        let log = self.holdfast.log();
        let lines: Vec<&str> = log.lines().collect();
        format!(
            "holdfast's last words:\n{}",
            lines[lines.len().saturating_sub(30)..].join("\n")
        )
    }

    /// Leaves everything running when this value is dropped.
    pub fn let_go(&mut self) -> Result<()> {
        self.node.keep()?;
        self.api.let_go();
        self.holdfast.let_go();
        self.early.let_go();
        Ok(())
    }
}

/// Waits until connects of a pod to the VIP are answered by anyone.
pub(super) fn reaches(pod: &Pod<'_>) -> Result<()> {
    eventually("the pod to reach Holdfast", FOUND_WITHIN, || {
        let reply = pod.run(pod.get("/version").at_most(Duration::from_secs(5)))?;
        ensure!(reply.status != 0, "no answer: {}", reply.error);
        Ok(())
    })
}
