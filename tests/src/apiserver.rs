//! etcd and kube-apiserver on the far side of the link, with every request in an audit log.

mod flags;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::assets::asset;
use crate::audit::AuditLog;
use crate::curl::{Curl, Reply};
use crate::node::CONTROL_PLANE;
use crate::pki::Pki;
use crate::process::{bounded, output};
use crate::{Node, Process, eventually};

/// Starting takes 3 s on a quiet machine of two cores; tests run side by side.
const READY_WITHIN: Duration = Duration::from_secs(90);
/// A request under way may take a minute by its own right; none does here.
const ENDED_WITHIN: Duration = Duration::from_secs(60);
/// No administrator's request takes longer.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// Where etcd answers, on the control plane's own side.
const ETCD: &str = "http://127.0.0.1:2379";
/// The issuer of every service-account token.
pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

const AUDIT_POLICY: &str = "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules: [{level: Metadata}]\n";

/// A running control plane.
pub struct ApiServer<'a> {
    node: &'a Node,
    pki: Pki,
    folder: PathBuf,
    etcd: Option<Process>,
    server: Option<Process>,
}

impl<'a> ApiServer<'a> {
    /// Starts etcd and kube-apiserver and waits until it is ready.
    pub fn start(node: &'a Node) -> Result<Self> {
        let folder = node.folder().join("control-plane");
        let pki = Pki::create(&folder.join("pki"))?;
        fs::write(folder.join("audit.yaml"), AUDIT_POLICY)?;
        let etcd = Some(start_etcd(node, &folder)?);
        let mut api = Self {
            node,
            pki,
            folder,
            etcd,
            server: None,
        };
        api.restart()?;
        Ok(api)
    }

    /// Starts the API server again on the same data, and waits until it is ready.
    pub fn restart(&mut self) -> Result<()> {
        self.launch()?;
        self.wait_ready()
    }

    /// Starts the API server without waiting.
    pub fn launch(&mut self) -> Result<()> {
        let mut command = self.node.control_plane_command(
            asset("kube-apiserver")?,
            flags::server(&self.pki, &self.folder),
        );
        self.server = Some(Process::spawn(
            "kube-apiserver",
            self.node.folder(),
            &mut command,
        )?);
        Ok(())
    }

    /// Waits until `/readyz` says ok.
    pub fn wait_ready(&self) -> Result<()> {
        let ready = eventually("the API server to be ready", READY_WITHIN, || {
            if !self.server.as_ref().is_some_and(Process::runs) {
                return Ok(false);
            }
            self.request("GET", "/readyz", None)?.expect(200)?;
            Ok(true)
        })?;
        if !ready {
            bail!(
                "the API server ended:\n{}",
                self.server.as_ref().map(Process::tail).unwrap_or_default()
            );
        }
        Ok(())
    }

    /// SIGKILL: connections are reset, new ones refused.
    pub fn kill(&mut self) -> Result<()> {
        match self.server.take() {
            Some(server) => server.kill(),
            None => Ok(()),
        }
    }

    /// Keeps what etcd holds now, for [`ApiServer::put_back`]. The API server is not there meanwhile.
    pub fn back_up(&mut self) -> Result<()> {
        self.kill()?;
        self.swap_etcd(copy)?;
        self.restart()
    }

    /// etcd is as it was at [`ApiServer::back_up`], its revisions included, and the API server is started on it.
    pub fn put_back(&mut self) -> Result<()> {
        self.kill()?;
        self.swap_etcd(|live, backup| {
            fs::remove_dir_all(live)?;
            copy(backup, live)
        })?;
        self.restart()
    }

    /// Does something to etcd's folders while it does not run.
    fn swap_etcd(&mut self, swap: impl Fn(&Path, &Path) -> Result<()>) -> Result<()> {
        if let Some(etcd) = self.etcd.take() {
            etcd.kill()?;
        }
        swap(&self.folder.join("etcd"), &self.folder.join("etcd-backup"))?;
        self.etcd = Some(start_etcd(self.node, &self.folder)?);
        Ok(())
    }

    /// True while the API server's process lives.
    pub fn runs(&self) -> bool {
        self.server.as_ref().is_some_and(Process::runs)
    }

    /// SIGSTOP: connections are taken and never answered.
    pub fn stop(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// SIGCONT.
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    /// SIGTERM, and waits for its end: streams end as they should, not by a reset.
    pub fn terminate(&mut self) -> Result<()> {
        self.signal(Signal::SIGTERM)?;
        match self.server.take() {
            Some(server) => server.wait(ENDED_WITHIN).map(drop),
            None => Ok(()),
        }
    }

    /// SIGSTOP of etcd: the API server is there and knows nothing new.
    pub fn stop_etcd(&self) -> Result<()> {
        self.etcd
            .as_ref()
            .context("etcd does not run")?
            .signal(Signal::SIGSTOP)
    }

    /// SIGCONT of etcd.
    pub fn resume_etcd(&self) -> Result<()> {
        self.etcd
            .as_ref()
            .context("etcd does not run")?
            .signal(Signal::SIGCONT)
    }

    /// Makes etcd forget every revision before the present one.
    pub fn compact(&self) -> Result<()> {
        let list = self.admin("GET", "/api/v1/namespaces?limit=1", None)?;
        let revision = &list["metadata"]["resourceVersion"];
        let body = serde_json::to_vec(&json!({"revision": revision, "physical": true}))?;
        let url = format!("{ETCD}/v3/kv/compaction");
        let curl = Curl::get(&url, &self.pki.path("ca.crt")).method("POST");
        self.run(curl.body("application/json", &body))?
            .expect(200)?;
        Ok(())
    }

    /// Sends a signal to the API server.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.server
            .as_ref()
            .context("the API server does not run")?
            .signal(signal)
    }

    /// `https://host:port` as Holdfast dials it.
    pub fn url(&self) -> String {
        format!("https://{CONTROL_PLANE}:6443")
    }

    /// Keys and certificates of the cluster.
    pub fn pki(&self) -> &Pki {
        &self.pki
    }

    /// The audit log of all requests so far.
    pub fn audit(&self) -> AuditLog {
        AuditLog::new(self.folder.join("audit.log"))
    }

    /// A request on the control plane's own side, which no fault of the link touches; the caller adds its credential.
    pub fn direct(&self, path: &str) -> Curl {
        Curl::get(&format!("{}{path}", self.url()), &self.pki.path("ca.crt"))
    }

    /// Runs what [`ApiServer::direct`] began.
    pub fn run(&self, curl: Curl) -> Result<Reply> {
        curl.run(self.node.folder(), |program, args| {
            self.node.control_plane_command(program, args)
        })
    }

    /// curl on the control plane's side.
    pub(crate) fn curl(&self) -> Command {
        self.node.control_plane_command("curl", [""; 0])
    }

    /// A request of the administrator; whatever the status.
    pub fn request(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Reply> {
        let mut curl = self.direct(path).method(method).at_most(ANSWER_WITHIN);
        for (flag, file) in [("--cert", "admin.crt"), ("--key", "admin.key")] {
            curl = curl.arg(flag).arg(&self.pki.path(file).to_string_lossy());
        }
        if let Some(body) = body {
            let media_type = if method == "PATCH" {
                "application/merge-patch+json"
            } else {
                "application/json"
            };
            curl = curl.body(media_type, &serde_json::to_vec(body)?);
        }
        self.run(curl)
    }

    /// A request of the administrator that must succeed.
    pub fn admin(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let reply = self.request(method, path, body)?;
        if !(200..300).contains(&reply.status) {
            bail!(
                "{method} {path}: HTTP {}: {} {}",
                reply.status,
                reply.text(),
                reply.error
            );
        }
        reply.json()
    }

    /// The administrator's kubectl, on the control plane's side.
    pub fn kubectl(&self, args: &[&str]) -> Result<Command> {
        let mut command = self
            .node
            .control_plane_command("timeout", bounded(&asset("kubectl")?, args));
        command.arg(format!("--server={}", self.url()));
        for (flag, file) in [
            ("certificate-authority", "ca.crt"),
            ("client-certificate", "admin.crt"),
            ("client-key", "admin.key"),
        ] {
            command.arg(format!("--{flag}={}", self.pki.path(file).display()));
        }
        command.env("HOME", &self.folder).env_remove("KUBECONFIG");
        Ok(command)
    }

    /// Creates an object at a collection's path; one that is there already is fine.
    pub fn create(&self, path: &str, object: &Value) -> Result<Value> {
        let reply = self.request("POST", path, Some(object))?;
        match reply.status {
            200..300 | 409 => reply.json(),
            status => bail!(
                "POST {path}: HTTP {status}: {} {}",
                reply.text(),
                reply.error
            ),
        }
    }

    /// Registers a pod, as a scheduler would have, and issues the token its service account gets in it.
    pub fn admit(&self, namespace: &str, name: &str, account: &str) -> Result<Admitted> {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace},
            "spec": {"serviceAccountName": account, "nodeName": "edge-1", "containers": [{"name": "app", "image": "app"}]},
        });
        let made = self.admin(
            "POST",
            &format!("/api/v1/namespaces/{namespace}/pods"),
            Some(&pod),
        )?;
        let uid = made["metadata"]["uid"]
            .as_str()
            .context("a pod has a uid")?
            .to_owned();
        let bound = json!({"kind": "Pod", "apiVersion": "v1", "name": name, "uid": uid});
        let token = self.token(namespace, account, Some(&bound))?;
        Ok(Admitted {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            account: account.to_owned(),
            uid,
            token,
            ca: self.pki.path("ca.crt"),
        })
    }

    /// A token of a service account, bound to `bound` if given, for a day: longer than any test or bench.
    pub fn token(&self, namespace: &str, account: &str, bound: Option<&Value>) -> Result<String> {
        let mut request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 86400}});
        if let Some(bound) = bound {
            request["spec"]["boundObjectRef"] = bound.clone();
        }
        let made = self.admin(
            "POST",
            &format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"),
            Some(&request),
        )?;
        Ok(made["status"]["token"]
            .as_str()
            .context("a TokenRequest answers with a token")?
            .to_owned())
    }

    /// Leaves it running when this value is dropped.
    pub fn let_go(&mut self) {
        if let Some(etcd) = &mut self.etcd {
            etcd.let_go();
        }
        if let Some(server) = &mut self.server {
            server.let_go();
        }
    }
}

/// A pod as the API server knows it, with what kubelet would project into it.
#[derive(Clone, Debug)]
pub struct Admitted {
    pub namespace: String,
    pub name: String,
    pub account: String,
    pub uid: String,
    /// Bound to this very pod.
    pub token: String,
    /// The `ca.crt` that is projected into it.
    pub ca: PathBuf,
}

fn start_etcd(node: &Node, folder: &Path) -> Result<Process> {
    Process::spawn(
        "etcd",
        node.folder(),
        &mut node.control_plane_command(asset("etcd")?, flags::etcd(folder)),
    )
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    output(Command::new("cp").arg("-a").arg(from).arg(to)).map(drop)
}
