//! A node: its own network namespace, a cgroup subtree with `kubepods` in it, and a control plane on the far side of a
//! veth pair. The service VIP is not routable from the node, as it is not on a node without kube-proxy.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use anyhow::{Context, Result, bail};

use crate::process::output;
use crate::sweep;

/// The address of the service `kubernetes`, on the control plane's `lo`.
pub const VIP: &str = "10.96.0.1";
/// The control plane's address on the link.
pub const CONTROL_PLANE: &str = "192.0.2.10";
/// The node's address on the link.
pub const NODE: &str = "192.0.2.20";

/// A node; dropped, it takes its processes, namespaces, cgroups and files with it.
pub struct Node {
    sandbox: String,
    folder: PathBuf,
    cgroup: PathBuf,
    kept: AtomicBool,
    pods: AtomicU32,
}

impl Node {
    /// Makes a node with its link to a (still empty) control plane.
    pub fn new() -> Result<Self> {
        if !nix::unistd::geteuid().is_root() {
            bail!("network namespaces, cgroups and eBPF need root: run the tests as root");
        }
        static SWEPT: Once = Once::new();
        SWEPT.call_once(|| sweep::stale(false));
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let sandbox = format!(
            "{}-{}",
            std::process::id(),
            NUMBER.fetch_add(1, Ordering::Relaxed)
        );
        let node = Self {
            folder: std::env::temp_dir().join(format!("{}{sandbox}", sweep::FOLDER_PREFIX)),
            cgroup: sweep::cgroup2()?.join(format!("{}{sandbox}", sweep::CGROUP_PREFIX)),
            sandbox,
            kept: AtomicBool::new(false),
            pods: AtomicU32::new(0),
        };
        node.make()
            .context("cannot make a node (namespaces, cgroup, veth)")?;
        Ok(node)
    }

    fn make(&self) -> Result<()> {
        fs::create_dir_all(self.folder.join("log"))?;
        fs::create_dir_all(self.kubepods())?;
        fs::create_dir_all(self.cgroup.join("system"))?;
        let (node, plane) = (self.netns(), self.control_plane());
        for netns in [&node, &plane] {
            ip(&["netns", "add", netns])?;
            ip(&["-n", netns, "link", "set", "lo", "up"])?;
        }
        self.join(&node, "eth0", NODE, &plane, "eth0", CONTROL_PLANE, 24)?;
        ip(&[
            "-n",
            &plane,
            "addr",
            "add",
            &format!("{VIP}/32"),
            "dev",
            "lo",
        ])?;
        // The VIP's port is 443, the API server's 6443: kube-proxy's work, done where only a pod with a road of its own sees it.
        self.nft("add table ip road; add chain ip road in { type nat hook prerouting priority -100; }; add rule ip road in tcp dport 443 redirect to :6443")
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "two ends of a wire, three words each"
    )]
    pub(crate) fn join(
        &self,
        a: &str,
        a_link: &str,
        a_addr: &str,
        b: &str,
        b_link: &str,
        b_addr: &str,
        prefix: u8,
    ) -> Result<()> {
        ip(&[
            "-n", a, "link", "add", a_link, "type", "veth", "peer", "name", b_link, "netns", b,
        ])?;
        for (netns, link, addr) in [(a, a_link, a_addr), (b, b_link, b_addr)] {
            ip(&[
                "-n",
                netns,
                "addr",
                "add",
                &format!("{addr}/{prefix}"),
                "dev",
                link,
            ])?;
            ip(&["-n", netns, "link", "set", link, "up"])?;
        }
        Ok(())
    }

    /// Gives nft a command in the control plane's namespace.
    pub(crate) fn nft(&self, command: &str) -> Result<()> {
        output(&mut self.control_plane_command("nft", [command])).map(drop)
    }

    /// `<pid>-<n>`, part of every name this node gives.
    pub fn name(&self) -> &str {
        &self.sandbox
    }

    /// The name of the node's network namespace (the host's, for its pods).
    pub fn netns(&self) -> String {
        format!("{}{}-node", sweep::NETNS_PREFIX, self.sandbox)
    }

    /// The name of the control plane's network namespace.
    pub fn control_plane(&self) -> String {
        format!("{}{}-plane", sweep::NETNS_PREFIX, self.sandbox)
    }

    /// A name for the network namespace of one more pod, and the pod's number.
    pub(crate) fn next_pod(&self) -> (u32, String) {
        let number = self.pods.fetch_add(1, Ordering::Relaxed);
        (
            number,
            format!("{}{}-pod{number}", sweep::NETNS_PREFIX, self.sandbox),
        )
    }

    /// The cgroup2 folder that pods are below of; what `intercept.cgroup` is set to.
    pub fn kubepods(&self) -> PathBuf {
        self.cgroup.join("kubepods")
    }

    /// A folder for files of this node.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A program of the node itself: in its network namespace, outside kubepods.
    pub fn command(
        &self,
        program: impl AsRef<OsStr>,
        args: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Command {
        enter(&self.netns(), &self.cgroup.join("system"), program, args)
    }

    /// A program on the control plane's side of the link.
    pub fn control_plane_command(
        &self,
        program: impl AsRef<OsStr>,
        args: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Command {
        enter(
            &self.control_plane(),
            &self.cgroup.join("system"),
            program,
            args,
        )
    }

    /// Leaves everything running when this value is dropped, and later when this process ends.
    pub fn keep(&self) -> Result<()> {
        self.kept.store(true, Ordering::Relaxed);
        sweep::keep(&self.sandbox)
    }

    /// Removes what killed tests and kept demos left behind.
    pub fn remove_kept() {
        sweep::stale(true);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if !self.kept.load(Ordering::Relaxed) {
            sweep::remove(&self.sandbox);
        }
    }
}

/// A program in a network namespace and a cgroup. The shell joins the cgroup first and then becomes the program: no
/// process of it is ever outside, and its pid is the one that was spawned.
pub(crate) fn enter(
    netns: &str,
    cgroup: &Path,
    program: impl AsRef<OsStr>,
    args: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/{netns}"));
    command
        .args([
            "--",
            "sh",
            "-c",
            r#"echo $$ > "$0/cgroup.procs" && exec "$@""#,
        ])
        .arg(cgroup)
        .arg(program)
        .args(args);
    command
}

/// Runs `ip` with these words.
pub(crate) fn ip(words: &[&str]) -> Result<String> {
    output(Command::new("ip").args(words))
}
