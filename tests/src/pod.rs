//! A pod without a kubelet: a network namespace, a cgroup, and the files and variables every container gets. Real
//! in-cluster clients run in it unmodified.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::apiserver::Admitted;
use crate::assets::{asset, python, source};
use crate::curl::{Curl, Reply};
use crate::node::{VIP, enter, ip};
use crate::process::bounded;
use crate::{Node, Process};

/// What a container image and a kubelet prepare, then the program. Everything is mounted in a namespace of its own:
/// `/run` for the projected files and a HOME that is not the machine's.
const CONTAINER: &str = r#"
echo $$ > "$CGROUP/cgroup.procs" || exit 125
mount -t tmpfs -o mode=755 tmpfs /run || exit 125
mkdir -p /run/home /run/secrets/kubernetes.io/serviceaccount || exit 125
[ -e /var/run/secrets ] || exit 125
mount --bind "$PROJECTED" /run/secrets/kubernetes.io/serviceaccount || exit 125
unset CGROUP PROJECTED
exec "$@"
"#;

/// A running pod; dropped, its processes, namespace and cgroup are gone.
pub struct Pod<'a> {
    node: &'a Node,
    admitted: Admitted,
    number: u32,
    netns: String,
    cgroup: PathBuf,
    projected: PathBuf,
    pause: Option<Process>,
    let_go: bool,
}

impl<'a> Pod<'a> {
    /// Starts what `admitted` describes: only `lo` in its network namespace, so that a connect that is not redirected
    /// fails at once.
    pub fn start(node: &'a Node, admitted: &Admitted) -> Result<Self> {
        let (number, netns) = node.next_pod();
        let pod_cgroup = node
            .kubepods()
            .join("besteffort")
            .join(format!("pod{}", admitted.uid));
        let projected = node.folder().join(format!("pod-{number}"));
        fs::create_dir_all(&projected)?;
        fs::create_dir_all(&pod_cgroup)?;
        let mut pod = Self {
            node,
            admitted: admitted.clone(),
            number,
            netns,
            // A container's id is 64 hex digits in every runtime.
            cgroup: pod_cgroup.join(format!("{number:064x}")),
            projected,
            pause: None,
            let_go: false,
        };
        fs::create_dir_all(&pod.cgroup)?;
        pod.project()?;
        ip(&["netns", "add", &pod.netns])?;
        ip(&["-n", &pod.netns, "link", "set", "lo", "up"])?;
        // The sandbox's own process, which is there before any container's.
        let sandbox = pod
            .cgroup
            .with_file_name(format!("{:064x}", 0xf000_0000_u32 + number));
        fs::create_dir_all(&sandbox)?;
        let mut pause = enter(&pod.netns, &sandbox, "sleep", ["infinity"]);
        pod.pause = Some(Process::spawn(
            &format!("pod-{number}-pause"),
            node.folder(),
            &mut pause,
        )?);
        Ok(pod)
    }

    /// Gives the pod a road of its own to the control plane, on which the VIP is reachable without Holdfast.
    pub fn with_road(self) -> Result<Self> {
        let (ours, theirs) = (
            format!("198.51.100.{}", 4 * self.number + 2),
            format!("198.51.100.{}", 4 * self.number + 1),
        );
        let link = format!("pod{}", self.number);
        self.node.join(
            &self.netns,
            "eth0",
            &ours,
            &self.node.control_plane(),
            &link,
            &theirs,
            30,
        )?;
        ip(&["-n", &self.netns, "route", "add", "default", "via", &theirs])?;
        Ok(self)
    }

    /// Writes the projected files; again after the token was renewed.
    fn project(&self) -> Result<()> {
        fs::write(self.projected.join("token"), &self.admitted.token)?;
        fs::write(self.projected.join("namespace"), &self.admitted.namespace)?;
        fs::copy(&self.admitted.ca, self.projected.join("ca.crt"))?;
        Ok(())
    }

    /// Puts another token in the pod, as kubelet does when it renews it (and as a thief would).
    pub fn set_token(&mut self, token: &str) -> Result<()> {
        token.clone_into(&mut self.admitted.token);
        self.project()
    }

    /// What the API server knows of it.
    pub fn admitted(&self) -> &Admitted {
        &self.admitted
    }

    /// A file that is projected into it: `token`, `ca.crt`, `namespace`.
    pub fn projected(&self, name: &str) -> PathBuf {
        self.projected.join(name)
    }

    /// The name of its network namespace.
    pub fn netns(&self) -> &str {
        &self.netns
    }

    /// The cgroup of its container.
    pub fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// A program in the pod, with what an in-cluster client finds there.
    pub fn command(
        &self,
        program: impl AsRef<OsStr>,
        args: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.netns));
        command
            .args(["--", "unshare", "--mount", "sh", "-c", CONTAINER, "sh"])
            .arg(program)
            .args(args);
        command
            .env("CGROUP", &self.cgroup)
            .env("PROJECTED", &self.projected);
        command
            .env("KUBERNETES_SERVICE_HOST", VIP)
            .env("KUBERNETES_SERVICE_PORT", "443")
            .env("KUBERNETES_SERVICE_PORT_HTTPS", "443");
        command
            .env("HOME", "/run/home")
            .env_remove("KUBECONFIG")
            .current_dir("/");
        command
    }

    /// Starts a program that runs beside the test.
    pub fn spawn(&self, name: &str, program: impl AsRef<OsStr>, args: &[&str]) -> Result<Process> {
        Process::spawn(
            &self.process_name(name),
            self.node.folder(),
            &mut self.command(program, args),
        )
    }

    /// Starts the client-go program of tests/go/informer.
    pub fn informer(&self, name: &str, args: &[&str]) -> Result<Process> {
        self.spawn(name, asset("informer")?, args)
    }

    /// Starts the Python program of tests/python.
    pub fn python(&self, name: &str, args: &[&str]) -> Result<Process> {
        let script = source("tests/python/client.py");
        let mut command = self.command(python()?, [script.as_os_str()]);
        Process::spawn(
            &self.process_name(name),
            self.node.folder(),
            command.args(args),
        )
    }

    /// kubectl with nothing but what is mounted.
    pub fn kubectl(&self, args: &[&str]) -> Result<Command> {
        Ok(self.command("timeout", bounded(&asset("kubectl")?, args)))
    }

    /// A request to the VIP with the pod's own token and `ca.crt`.
    pub fn get(&self, path: &str) -> Curl {
        self.anonymous(path).token(&self.admitted.token)
    }

    /// A request to the VIP without a token.
    pub fn anonymous(&self, path: &str) -> Curl {
        Curl::get(
            &format!("https://{VIP}{path}"),
            &self.projected.join("ca.crt"),
        )
    }

    /// Runs a request in the pod.
    pub fn run(&self, curl: Curl) -> Result<Reply> {
        curl.run(self.node.folder(), |program, args| {
            self.command(program, args)
        })
    }

    fn process_name(&self, name: &str) -> String {
        format!("pod-{}-{name}", self.number)
    }

    /// Leaves it running when this value is dropped.
    pub fn let_go(&mut self) {
        self.let_go = true;
        if let Some(pause) = &mut self.pause {
            pause.let_go();
        }
    }
}

impl Drop for Pod<'_> {
    fn drop(&mut self) {
        if self.let_go {
            return;
        }
        drop(self.pause.take());
        if let Some(pod) = self.cgroup.parent() {
            crate::sweep::remove_cgroup(pod);
        }
        // Gone already is what is wanted.
        let _ = ip(&["netns", "del", &self.netns]);
    }
}
