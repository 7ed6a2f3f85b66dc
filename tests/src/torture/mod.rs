//! The torture: Holdfast is killed with -9, again and again, while clients read and watch through it, objects change,
//! and the link to the API server comes and goes. A direct watch of the API server is the truth that all is compared with.
//!
//! Always: it opens its store again, and soon; no client sees an RV go back, nor what was gone before; a list holds what
//! was there at its RV, and a stream leaves nothing out. A 503 is no lie.

mod http;
mod plan;
mod reader;
mod tally;
mod truth;
mod watcher;
mod witness;
mod world;
mod writer;

use std::collections::VecDeque;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use fastrand::Rng;
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::task::JoinSet;

use crate::curl::Curl;
use crate::fixtures::{self, SHOP};
use crate::holdfast::{LISTEN, Settings};
use crate::node::CONTROL_PLANE;
use crate::{ApiServer, Holdfast, Link, Node, eventually};
use http::Dialer;
use plan::{Cycle, Death, Face};
use reader::Reader;
use watcher::Watcher;
use witness::Witness;
use world::World;
use writer::Writer;

pub use tally::{Counts, Reads};

/// Collections that are written and read: one that is kept on disk, and one that is kept in memory.
const TOPICS: usize = 2;
/// Each with a token of its own.
const CLIENTS: usize = 3;
/// Before the first kill every client is let read everything.
const SETTLES: Duration = Duration::from_secs(2);
/// The default, until the first kill.
const COMMITS_EVERY: Duration = Duration::from_secs(1);
/// As soon as the uplink is up.
const KNOWN_WITHIN: Duration = Duration::from_secs(20);
/// A line of progress.
const TELL_EVERY: usize = 20;
/// Lives whose logs are shown.
const LOGS: usize = 3;
/// Lines of each.
const LOG_LINES: usize = 25;
/// A filter for them, where more is wanted.
const LOG: &str = "HOLDFAST_TORTURE_LOG";

/// What is to be done to it.
#[derive(Clone, Copy, Debug)]
pub struct Torture {
    pub kills: usize,
    pub seed: u64,
    /// Without it the run fails: what was not committed is told no more.
    pub has_tail: bool,
}

/// Does it; an error says what was seen that cannot be.
pub fn run(torture: Torture) -> Result<Counts> {
    let Torture { kills, seed, .. } = torture;
    let node = Node::new()?;
    let api = ApiServer::start(&node)?;
    fixtures::apply(&api)?;
    let world = Arc::new(World::new());
    let owners: Vec<String> = (0..CLIENTS).map(|n| format!("client-{n}")).collect();
    let tokens = owners.iter().map(|name| admit(&api, name));
    let tokens = tokens.collect::<Result<Vec<_>>>()?;
    let holdfast = Holdfast::install_with(&node, &api, &settings(&api, torture, COMMITS_EVERY))?;
    let plane = write(&node, &api, &world, &owners, seed)?;
    let clients = owners.into_iter().zip(tokens.clone()).collect();
    let clients = read(&node, &api, &world, clients, seed)?;
    let mut killer = Killer {
        node: &node,
        api: &api,
        holdfast,
        torture,
        world: &world,
        token: tokens[0].clone(),
        cut: None,
        logs: VecDeque::new(),
    };
    let done = killer.run();
    world.over.cancel();
    for side in [clients, plane] {
        let joined = side.join();
        joined.map_err(|_| anyhow::anyhow!("a thread of the torture panicked"))?;
    }
    let counts = world.tally.counts().clone();
    let told = match (world.found(), done) {
        (Some(found), _) => Err(anyhow::anyhow!(found)),
        (None, done) => done,
    };
    told.with_context(|| {
        let at = counts.kills;
        format!(
            "seed {seed}, kill {at} of {kills}; {counts}\n{}",
            killer.story()
        )
    })?;
    Ok(counts)
}

/// Times as short as may be, so that the dark is noticed within a life.
fn settings(api: &ApiServer<'_>, torture: Torture, commit_interval: Duration) -> Settings {
    let settings = match torture.has_tail {
        true => Settings::new(api),
        false => Settings::new(api).with("cache", "tail: \"\""),
    };
    settings
        .logging(std::env::var(LOG).ok())
        .with("upstream", "answerTimeout: 200ms")
        .with(
            "upstream",
            "probe: {path: /livez, interval: 500ms, downInterval: 100ms, timeout: 300ms}",
        )
        .with("upstream", "resumeJitter: 100ms")
        .with(
            "cache",
            &format!("commitInterval: {}ms", commit_interval.as_millis()),
        )
}

/// A service account that may read what is written, and write what is its own; its token.
fn admit(api: &ApiServer<'_>, name: &str) -> Result<String> {
    const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/shop";
    let role = json!({"metadata": {"name": name}, "rules": [
        {"apiGroups": [""], "resources": ["configmaps", "secrets"], "verbs": ["get", "list", "watch", "create", "patch", "delete"]},
    ]});
    let binding = json!({
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": SHOP}],
    });
    let account = json!({"metadata": {"name": name}});
    api.create(
        &format!("/api/v1/namespaces/{SHOP}/serviceaccounts"),
        &account,
    )?;
    api.create(&format!("{RBAC}/roles"), &role)?;
    api.create(&format!("{RBAC}/rolebindings"), &binding)?;
    api.token(SHOP, name, None)
}

/// The control plane's side: the truth, and who changes it.
fn write(
    node: &Node,
    api: &ApiServer<'_>,
    world: &Arc<World>,
    owners: &[String],
    seed: u64,
) -> Result<JoinHandle<()>> {
    let address: SocketAddr = format!("{CONTROL_PLANE}:6443").parse()?;
    let admin = Dialer::of_admin(address, api.pki())?;
    let mut writer = Writer::new(admin.clone(), seed);
    let (of, owners) = (world.clone(), owners.to_vec());
    let side = async move {
        writer.fill(&of, &owners).await?;
        let [first, second] = &of.topics;
        // Each goes on for ever, or fails.
        tokio::try_join!(
            first.truth.follow(&admin, first.path),
            second.truth.follow(&admin, second.path),
            writer.run(&of),
        )?;
        Ok(())
    };
    Ok(inside(node.control_plane(), world, side))
}

/// The node's side: clients, each with a reader and its streams.
fn read(
    node: &Node,
    api: &ApiServer<'_>,
    world: &Arc<World>,
    tokens: Vec<(String, String)>,
    seed: u64,
) -> Result<JoinHandle<()>> {
    let address: SocketAddr = LISTEN.parse()?;
    let dialers = tokens.into_iter().map(|(name, token)| {
        let dialer = Dialer::of_token(address, api.pki(), token)?;
        anyhow::Ok((name, dialer))
    });
    let dialers = dialers.collect::<Result<Vec<_>>>()?;
    let of = world.clone();
    let side = async move {
        of.begun.cancelled().await;
        for topic in &of.topics {
            topic.truth.until(1).await?;
        }
        let mut tasks = JoinSet::new();
        for (number, (name, dialer)) in (0..).zip(dialers) {
            let witness = Arc::new(Witness::default());
            // One in two streams of a client begins with a WatchList.
            for (topic, streams_lists) in [(0, false), (0, true), (1, number % 2 == 0)] {
                let watcher = Watcher {
                    name: name.clone(),
                    world: of.clone(),
                    witness: witness.clone(),
                    dialer: dialer.clone(),
                    topic,
                    streams_lists,
                };
                tasks.spawn(watcher.run());
            }
            let reader = Reader::new(&name, of.clone(), witness, dialer, seed + number);
            tasks.spawn(reader.run());
        }
        while let Some(ended) = tasks.join_next().await {
            ended??;
        }
        Ok(())
    };
    Ok(inside(node.netns(), world, side))
}

/// Runs one side in a network namespace, until the world ends; what it fails with ends the world.
fn inside(
    netns: String,
    world: &Arc<World>,
    side: impl Future<Output = Result<()>> + Send + 'static,
) -> JoinHandle<()> {
    let world = world.clone();
    thread::spawn(move || {
        let run = || {
            let namespace = File::open(format!("/run/netns/{netns}"))?;
            // Of this thread alone: all that it runs stays on it.
            setns(namespace, CloneFlags::CLONE_NEWNET)?;
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_all().build()?;
            let side = world.over.run_until_cancelled(side);
            runtime.block_on(side).unwrap_or(Ok(()))
        };
        if let Err(error) = run() {
            world.find(format!("{error:#}"));
        }
    })
}

/// Who kills.
struct Killer<'k> {
    node: &'k Node,
    api: &'k ApiServer<'k>,
    holdfast: Holdfast<'k>,
    torture: Torture,
    world: &'k World,
    /// Of one of the clients.
    token: String,
    cut: Option<Link<'k>>,
    logs: VecDeque<String>,
}

impl Killer<'_> {
    fn run(&mut self) -> Result<()> {
        let mut rng = Rng::with_seed(self.torture.seed);
        let started = Instant::now();
        self.open()?;
        self.wait_known()?;
        self.world.begun.cancel();
        thread::sleep(SETTLES);
        let mut told = 0;
        loop {
            let done = self.world.tally.counts().kills;
            if done / TELL_EVERY > told {
                told = done / TELL_EVERY;
                let counts = self.world.tally.counts().clone();
                eprintln!("{:.0} s: {counts}", started.elapsed().as_secs_f64());
            }
            if done >= self.torture.kills || self.world.is_over() {
                break;
            }
            self.cycle(&Cycle::random(&mut rng))
                .with_context(|| self.world.moment())?;
        }
        // What it is told after the last kill counts as well.
        thread::sleep(SETTLES);
        Ok(())
    }

    /// Waits until Holdfast has the keys that tokens are verified with: what it passes on before that, it does not learn from.
    fn wait_known(&self) -> Result<()> {
        let ca = self.api.pki().path("ca.crt");
        eventually("a client to be known", KNOWN_WITHIN, || {
            let version = Curl::get(&format!("https://{LISTEN}/version"), &ca);
            let run = |program: &str, args: &[String]| self.node.command(program, args);
            version
                .token(&self.token)
                .run(self.node.folder(), run)?
                .expect(200)?;
            let status = self.holdfast.status()?;
            ensure!(status["cache"]["grants"] != 0, "{status}");
            Ok(())
        })
    }

    fn cycle(&mut self, cycle: &Cycle) -> Result<()> {
        thread::sleep(cycle.lives);
        if let Some(lives) = cycle.turn {
            self.turn(cycle.face)?;
            thread::sleep(lives);
        }
        // What was found is told by the process that it was found in.
        if self.world.is_over() {
            return Ok(());
        }
        if let Death::Draining(after) = cycle.death {
            self.holdfast.signal(Signal::SIGTERM)?;
            thread::sleep(after);
        }
        self.kill()?;
        if cycle.turns_unseen {
            self.turn(cycle.face)?;
        }
        self.holdfast
            .configure(&settings(self.api, self.torture, cycle.commit_interval))?;
        if let Some(after) = cycle.again {
            self.holdfast.launch()?;
            thread::sleep(after);
            self.kill()?;
        }
        self.open()
    }

    /// Cuts the link, or mends it.
    fn turn(&mut self, face: Face) -> Result<()> {
        match self.cut.take() {
            Some(cut) => {
                self.world.link_changes();
                cut.restore()
            }
            None => {
                self.cut = Some(match face {
                    Face::BlackHole => Link::cut(self.node)?,
                    Face::Rejected => Link::reject(self.node)?,
                });
                self.world.link_changes();
                Ok(())
            }
        }
    }

    fn kill(&mut self) -> Result<()> {
        let log = self.holdfast.log();
        self.holdfast.kill()?;
        self.world.killed();
        ensure!(!log.contains("panicked at"), "it panicked:\n{log}");
        self.logs.push_back(log);
        if self.logs.len() >= LOGS {
            self.logs.pop_front();
        }
        Ok(())
    }

    /// Starts it: it serves within the time that the harness gives it, on the store it had.
    fn open(&mut self) -> Result<()> {
        let took = self.holdfast.start()?;
        {
            let mut counts = self.world.tally.counts();
            counts.slowest_start = counts.slowest_start.max(took);
        }
        let log = self.holdfast.log();
        ensure!(
            !log.contains("is kept in memory only"),
            "it has no store:\n{log}"
        );
        for file in fs::read_dir(self.holdfast.path(""))? {
            let name = file?.file_name();
            if name.to_string_lossy().contains(".damaged-") {
                bail!("its store was set aside as {}:\n{log}", name.display());
            }
        }
        Ok(())
    }

    /// The ends of its last logs.
    fn story(&self) -> String {
        let mut logs: Vec<String> = self.logs.iter().cloned().collect();
        logs.push(self.holdfast.log());
        let last = |log: &String| {
            let lines: Vec<&str> = log.lines().collect();
            lines[lines.len().saturating_sub(lines_shown())..].join("\n")
        };
        let logs: Vec<String> = logs.iter().map(last).collect();
        let status = self.holdfast.status().unwrap_or_default();
        let logs = logs.join("\n--- killed ---\n");
        format!("its last lives:\n{logs}\nits cache: {}", status["cache"])
    }
}

fn lines_shown() -> usize {
    match std::env::var_os(LOG) {
        Some(_) => usize::MAX,
        None => LOG_LINES,
    }
}
