//! What the parts measure with: a node, the real API server, what was recorded of it, and Holdfast.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use http::Method;
use serde_json::json;

use super::arm::{Arm, DIRECT, HOLDFAST, NGINX, OTHER};
use super::client::Client;
use super::load::slowly;
use super::nginx::{self, Nginx};
use super::other::Other;
use super::pin::Pinning;
use super::pods::NAMESPACE;
use super::process;
use super::replay::{Recording, Replay};
use super::report;
use super::within::within;
use crate::holdfast::{LISTEN, Settings};
use crate::node::CONTROL_PLANE;
use crate::{ApiServer, Holdfast, Node, eventually};

/// The service account that reads.
const READER: &str = "reader";
/// A namespace of the replay with one pod, by which it is seen that Holdfast knows the caller.
pub const CANARY: &str = "canary";
/// The issuer's keys are fetched as soon as the uplink is up.
const KNOWN_WITHIN: Duration = Duration::from_secs(20);
/// What is read is learnt as it passes; the rest is what the cache is behind by.
const LEARNT_WITHIN: Duration = Duration::from_secs(2);
/// A list of 5,000 pods takes 5 s.
const TAUGHT_WITHIN: Duration = Duration::from_secs(60);

/// The address of the API server, or of the replay in its place.
pub fn server() -> String {
    format!("{CONTROL_PLANE}:6443")
}

pub struct Rig<'a> {
    pub node: &'a Node,
    pub api: ApiServer<'a>,
    pub holdfast: Holdfast<'a>,
    pub recording: Recording,
    pub replay: Option<Replay>,
    /// A reader of the API server itself.
    pub direct: Client,
    /// The same reader through Holdfast.
    pub through: Client,
    pub admin: Client,
    /// One more proxy, put beside the others.
    pub other: Option<Other>,
    /// How often each figure is taken.
    pub repeats: usize,
    /// How long the parts of `long` are; each has its own length without it.
    pub minutes: Option<u32>,
    /// Which cores run what.
    pub pinning: Pinning,
    nginx: Option<Nginx>,
}

impl<'a> Rig<'a> {
    /// Starts the real API server, records of it what the replay needs, and installs Holdfast.
    pub fn new(node: &'a Node, repeats: usize) -> Result<Self> {
        let pinning = Pinning::new()?;
        let api = ApiServer::start(node)?;
        prepare(&api)?;
        let holdfast = Holdfast::install(node, &api)?;
        let admin = Client::admin(&server(), api.pki())?;
        let recording = within(&node.control_plane(), || Recording::take(&admin))?;
        let token = api.token(NAMESPACE, READER, None)?;
        let direct = Client::new(&server(), &api.pki().path("ca.crt"), &token)?;
        Ok(Self {
            node,
            holdfast,
            recording,
            replay: None,
            through: direct.dialling(LISTEN)?,
            direct,
            admin,
            api,
            other: None,
            repeats,
            minutes: None,
            pinning,
            nginx: None,
        })
    }

    /// What there is to compare, the API server itself first.
    pub fn arms(&self) -> Vec<&'static str> {
        let other = self.other.as_ref().map(|_| OTHER);
        [DIRECT, NGINX, HOLDFAST].into_iter().chain(other).collect()
    }

    /// One of [`Rig::arms`], as it runs now.
    pub fn arm(&mut self, name: &str) -> Result<Arm> {
        let (client, pids) = match name {
            DIRECT => (self.direct.clone(), Vec::new()),
            NGINX => (self.direct.dialling(nginx::LISTEN)?, vec![self.nginx()?]),
            HOLDFAST => (self.through.clone(), vec![self.pid()?]),
            OTHER => {
                let other = self.other.as_ref().context("there is no other proxy")?;
                let client = self.direct.dialling(&other.address)?.trusting(&other.ca)?;
                (client, other.pids.clone())
            }
            _ => bail!("there is no arm {name}"),
        };
        Ok(Arm { client, pids })
    }

    /// A proxy that has done nothing yet, if it is one that the rig starts.
    pub fn renew(&mut self, arm: &str) -> Result<()> {
        match arm {
            NGINX => self.nginx = None,
            HOLDFAST => self.fresh()?,
            OTHER => {
                let Some(other) = self.other.take() else {
                    return Ok(());
                };
                let renewed = (self.pinning).proxy(|| other.renew(self.node, &self.api))?;
                self.other = Some(renewed);
            }
            _ => (),
        }
        Ok(())
    }

    fn nginx(&mut self) -> Result<u32> {
        let running = match self.nginx.take() {
            Some(nginx) => nginx,
            None => self
                .pinning
                .proxy(|| Nginx::start(self.node, &self.api, &server()))?,
        };
        Ok(self.nginx.insert(running).worker())
    }

    /// Machine, kernel, commit, and what else a figure depends on, in one line.
    pub fn origin(&self) -> Result<String> {
        let (machine, nginx) = (report::origin()?, nginx::version()?);
        Ok(format!("{machine}, {nginx}; {}", self.pinning.said()))
    }

    /// What answers at the API server's address now.
    pub fn upstream(&self) -> &'static str {
        match self.replay {
            Some(_) => "replay",
            None => "kube-apiserver",
        }
    }

    /// The replay in the API server's place.
    pub fn replay(&mut self) -> Result<&Replay> {
        if self.replay.is_none() {
            self.api.kill()?;
            let replay = Replay::start(self.node, &self.api, &self.recording)?;
            replay.fill(1, CANARY);
            self.replay = Some(replay);
        }
        self.replay.as_ref().context("just started")
    }

    /// The real API server.
    pub fn real(&mut self) -> Result<()> {
        self.replay = None;
        if !self.api.runs() {
            self.api.restart()?;
        }
        Ok(())
    }

    /// Holdfast that has learnt nothing yet, and knows the reader: what it is asked from now on is learnt.
    pub fn fresh(&mut self) -> Result<()> {
        self.fresh_with(Settings::new(&self.api))
    }

    /// As [`Rig::fresh`], with other settings.
    pub fn fresh_with(&mut self, settings: Settings) -> Result<()> {
        self.holdfast.kill()?;
        let memory = in_memory(self.node);
        // There is none yet, the first time.
        let _ = fs::remove_dir_all(&memory);
        fs::create_dir_all(&memory)?;
        let tail = memory.join("cache.tail");
        let settings = settings.with("cache", &format!("tail: {}", tail.display()));
        for entry in fs::read_dir(self.holdfast.path(""))? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with("cache") {
                fs::remove_file(&path)?;
            }
        }
        self.holdfast.configure(&settings)?;
        self.pinning.proxy(|| self.holdfast.start())?;
        let namespace = match self.replay {
            Some(_) => CANARY,
            None => "default",
        };
        eventually("Holdfast to know the reader", KNOWN_WITHIN, || {
            self.read(&[namespace])?;
            self.learnt(namespace).map(drop)
        })
    }

    /// Lists the pods of these namespaces through Holdfast, all at once.
    pub fn read(&self, namespaces: &[&str]) -> Result<()> {
        let paths: Vec<String> = namespaces.iter().map(|name| pods(name)).collect();
        within(&self.node.netns(), || async {
            let mut reads = tokio::task::JoinSet::new();
            for path in paths {
                let client = self.through.clone();
                reads.spawn(async move { client.get_once(&path).await.map(drop) });
            }
            while let Some(read) = reads.join_next().await {
                read??;
            }
            Ok(())
        })
    }

    /// Lists the pods of a namespace as over a link of 80 Mbit/s, until Holdfast knows them all. From the memory of the same
    /// machine a list comes faster than a busy one reads it, and the cache gives a list up when it is too far behind the caller.
    pub fn teach(&self, namespace: &str) -> Result<()> {
        eventually("a list to be learnt", TAUGHT_WITHIN, || {
            let path = pods(namespace);
            within(&self.node.netns(), || slowly(&self.through, &path))?;
            eventually("it to be known", LEARNT_WITHIN, || self.learnt(namespace))
        })?;
        Ok(())
    }

    /// The resourceVersion at which Holdfast knows all pods of a namespace.
    pub fn learnt(&self, namespace: &str) -> Result<u64> {
        let status = self.holdfast.status()?;
        let collections = status["cache"]["collections"].as_array();
        let found = collections
            .into_iter()
            .flatten()
            .find(|one| one["namespace"] == namespace && one["resource"] == "v1/pods");
        let found =
            found.with_context(|| format!("the pods of {namespace} are not known: {status}"))?;
        found["resourceVersion"]
            .as_u64()
            .context("a resourceVersion")
    }

    /// Holdfast's process id.
    pub fn pid(&self) -> Result<u32> {
        Ok(self.holdfast.process().context("holdfast runs")?.pid())
    }

    /// Waits until what the process wrote to disk has not changed for `quiet`.
    pub fn settle(&self, quiet: Duration) -> Result<()> {
        let pid = self.pid()?;
        let mut before = process::written(pid)?;
        let started = std::time::Instant::now();
        loop {
            std::thread::sleep(quiet);
            let now = process::written(pid)?;
            if now == before {
                return Ok(());
            }
            ensure!(
                started.elapsed() < quiet * 20,
                "the disk is written to although nothing happens"
            );
            before = now;
        }
    }
}

impl Drop for Rig<'_> {
    fn drop(&mut self) {
        // What never was is none to remove.
        let _ = self.holdfast.kill();
        let _ = fs::remove_dir_all(in_memory(self.node));
    }
}

/// For the tail: /run of a node is a tmpfs, too, and what is written there is no cost of the disk.
fn in_memory(node: &Node) -> PathBuf {
    Path::new("/dev/shm").join(format!("holdfast-bench-{}", node.name()))
}

/// The path of a namespace's pods.
pub fn pods(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/pods")
}

/// A namespace whose pods the reader may read, in every namespace there is.
fn prepare(api: &ApiServer<'_>) -> Result<()> {
    api.create(
        "/api/v1/namespaces",
        &json!({"metadata": {"name": NAMESPACE}}),
    )?;
    for (namespace, account) in [
        (NAMESPACE, READER),
        (NAMESPACE, "default"),
        ("kube-system", "holdfast"),
    ] {
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts");
        // kube-system is made by the API server itself, a moment after it is ready.
        eventually("the namespace", Duration::from_secs(30), || {
            api.create(&path, &json!({"metadata": {"name": account}}))
        })?;
    }
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let role = json!({
        "metadata": {"name": READER},
        "rules": [{"apiGroups": [""], "resources": ["pods", "pods/log"], "verbs": ["get", "list", "watch"]}],
    });
    let binding = json!({
        "metadata": {"name": READER},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": READER},
        "subjects": [{"kind": "ServiceAccount", "name": READER, "namespace": NAMESPACE}],
    });
    api.create(&format!("{rbac}/clusterroles"), &role)?;
    api.create(&format!("{rbac}/clusterrolebindings"), &binding)?;
    Ok(())
}

/// Writes so many pods to the real API server, over several connections.
pub async fn create_pods(admin: &Client, count: usize) -> Result<Vec<String>> {
    const WRITERS: usize = 4;
    let mut random = fastrand::Rng::with_seed(7);
    let states: Vec<_> = (0..count)
        .map(|number| {
            let workload = number % super::pods::WORKLOADS;
            (
                workload,
                super::pods::State::new(&mut random, NAMESPACE, workload, number),
            )
        })
        .collect();
    let names = states.iter().map(|(_, state)| state.name.clone()).collect();
    let mut writers = tokio::task::JoinSet::new();
    for share in states.chunks(count.div_ceil(WRITERS)) {
        let (admin, share) = (admin.clone(), share.to_vec());
        writers.spawn(async move {
            let mut connection = admin.connect().await?;
            for (workload, state) in &share {
                super::pods::create(&mut connection, *workload, state).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(written) = writers.join_next().await {
        written??;
    }
    Ok(names)
}

/// Takes away what [`create_pods`] made.
pub async fn delete_pods(admin: &Client) -> Result<()> {
    let path = format!("{}?gracePeriodSeconds=0", pods(NAMESPACE));
    let mut connection = admin.connect().await?;
    connection
        .write(Method::DELETE, &path, Bytes::new())
        .await?;
    Ok(())
}
