//! Runs a plan: the real `serve`, `cache` and `relay` between the plan's clients and a model of the API server, in one
//! thread, in a time that passes only when nothing else can.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use holdfast_history::check::{Violation, check};
use holdfast_history::drive;
use holdfast_history::plan::{Face, Kind, Op, Plan, Read, Step};
use holdfast_history::reader::Seen;
use holdfast_history::record::{ClientId, Entry, Event, Record};
use holdfast_history::reflector::Reflector;
use holdfast_history::truth::Key;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::apiserver::ApiServer;
use super::clients::{Client, Holdfast, Scene};
use crate::cache::disk::Disk;
use crate::config;
use crate::identity::Identity;
use crate::policy::Uplink;
use crate::runtime::metrics::Metrics;
use crate::serve::Serve;
use crate::tls::Terminator;
use crate::tls::tests::Files;
use crate::upstream::Upstream;

/// Longer than every pause of the relay, of a catch-up, and of an informer together.
const SETTLE: Duration = Duration::from_secs(200);

const RESUME_JITTER: Duration = Duration::from_secs(1);

/// How long Holdfast's probes may take to find the API server again, and to notice a black hole.
const MAX_PROBE_MS: u64 = 1000;
const MAX_NOTICE_MS: u64 = 7000;

/// What came of a plan.
pub(super) struct Outcome {
    pub(super) record: Record,
    pub(super) violations: Vec<Violation>,
}

/// Runs the plan of a seed, from nothing.
pub(super) fn run(files: &Files, plan: &Plan) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    // The generator of each relay is a fork of the thread's own.
    fastrand::seed(plan.seed);
    runtime.block_on(async {
        let _running = super::Running::begin();
        let mut rig = Rig::new(files, plan);
        for step in &plan.steps {
            rig.step(step).await;
            rig.breathe().await;
        }
        rig.end()
    })
}

struct Rig<'p> {
    files: &'p Files,
    plan: &'p Plan,
    server: Arc<ApiServer>,
    upstream: Arc<Upstream>,
    disk: Disk,
    scene: Arc<Scene>,
    /// Stops the cache's commits.
    commits: CancellationToken,
    committing: JoinHandle<()>,
    informers: HashMap<ClientId, Informer>,
    readers: HashMap<ClientId, Arc<Mutex<Seen>>>,
    rng: Rng,
    /// Counts cuts and returns, so that what was about an earlier one changes nothing.
    road: Arc<Mutex<u64>>,
    written: usize,
}

struct Informer {
    reflector: Arc<Mutex<Reflector>>,
    stop: CancellationToken,
}

impl<'p> Rig<'p> {
    fn new(files: &'p Files, plan: &'p Plan) -> Self {
        let server = ApiServer::new(plan.seed);
        let upstream = Upstream::scripted(&files.path("cluster.crt"), Arc::new(server.clone()));
        server.is_upstream(&upstream);
        let disk = Disk::default();
        let scene = Scene::new(start(files, &upstream, &disk));
        server.is_in(&scene);
        let mut rig = Self {
            files,
            plan,
            server,
            upstream,
            disk,
            scene,
            commits: CancellationToken::new(),
            committing: tokio::spawn(async {}),
            informers: HashMap::new(),
            readers: HashMap::new(),
            rng: Rng::with_seed(plan.seed ^ 0x5eed),
            road: Arc::default(),
            written: 0,
        };
        rig.start_commits();
        rig
    }

    fn start_commits(&mut self) {
        let cache = self.scene.holdfast().serve.cache.clone();
        self.commits = CancellationToken::new();
        let stop = self.commits.clone();
        self.committing = tokio::spawn(cache.run(stop));
    }

    /// A moment between two steps, or none.
    async fn breathe(&mut self) {
        match self.rng.u64(0..4) {
            0 => tokio::task::yield_now().await,
            moment => tokio::time::sleep(Duration::from_millis(moment)).await,
        }
    }

    async fn step(&mut self, step: &Step) {
        match step {
            Step::Write(key, op) => self.write(key, op),
            Step::WriteElsewhere(count) => {
                self.server.write_elsewhere(*count);
                let rv = self.server.lock().truth.rv();
                self.scene.note(Entry::Wrote(rv, "elsewhere".to_owned()));
            }
            Step::Start(client) => self.start_client(*client),
            Step::Stop(client) => {
                if let Some(informer) = self.informers.remove(client) {
                    informer.stop.cancel();
                }
            }
            Step::Read(client, read) => self.read(*client, read),
            Step::Pause(moment) => tokio::time::sleep(Duration::from_millis(*moment)).await,
            Step::Arm(fault) => self.server.arm(*fault),
            Step::Cut(face) => self.cut(*face),
            Step::Return => self.open_road(),
            Step::Disturb => {
                self.happened(Event::Disturbed, "every connection breaks");
                self.server.disturb();
            }
            Step::RestartApi => self.restart_api(),
            Step::Compact => self.server.compact(),
            Step::RestartHoldfast { killed } => self.restart_holdfast(*killed).await,
            Step::Settle => self.settle().await,
        }
    }

    fn happened(&self, event: Event, what: &str) {
        self.scene.note(Entry::Happened(event, what.to_owned()));
    }

    fn write(&mut self, key: &Key, op: &Op) {
        self.server.write(key, op);
        let inner = self.server.lock();
        let all = Vec::from(&inner.truth.changes()[self.written..]);
        drop(inner);
        self.written += all.len();
        for change in all {
            let what = match &change.after {
                Some(after) => format!("{} {:?}", change.key().path(), after.labels),
                None => format!("{} deleted", change.key().path()),
            };
            self.scene.note(Entry::Wrote(change.rv, what));
        }
    }

    // --- clients ---

    fn client(&self, id: ClientId) -> Client {
        Client {
            scene: self.scene.clone(),
            id,
            caller: self.plan.clients[id].caller,
        }
    }

    fn start_client(&mut self, id: ClientId) {
        let Kind::Informer(scope, flavour) = &self.plan.clients[id].kind else {
            return;
        };
        let informer = Informer {
            reflector: Arc::new(Mutex::new(Reflector::new(scope.clone(), *flavour))),
            stop: CancellationToken::new(),
        };
        let (reflector, stop) = (informer.reflector.clone(), informer.stop.clone());
        tokio::spawn(drive::inform(self.client(id), reflector, stop));
        self.informers.insert(id, informer);
    }

    fn read(&mut self, id: ClientId, read: &Read) {
        let seen = self.readers.entry(id).or_default().clone();
        tokio::spawn(drive::read(self.client(id), read.clone(), seen));
    }

    // --- the road ---

    fn cut(&mut self, face: Face) {
        self.happened(Event::Cut, &format!("{face:?}"));
        self.server.cut(face);
        // If no request finds out before, a probe does.
        let latest = match face {
            Face::Refused => MAX_PROBE_MS,
            Face::BlackHole => MAX_NOTICE_MS,
        };
        self.later(latest, Uplink::Down);
    }

    fn open_road(&mut self) {
        self.happened(Event::Returned, "");
        self.server.open_road();
        self.later(MAX_PROBE_MS, Uplink::Up);
    }

    fn later(&mut self, latest: u64, uplink: Uplink) {
        let moment = Duration::from_millis(self.rng.u64(0..latest));
        let (server, road) = (self.server.clone(), self.road.clone());
        let turn = {
            let mut road = road.lock().unwrap_or_else(PoisonError::into_inner);
            *road += 1;
            *road
        };
        tokio::spawn(async move {
            tokio::time::sleep(moment).await;
            let now = *road.lock().unwrap_or_else(PoisonError::into_inner);
            if now == turn && server.is_open() == (uplink != Uplink::Down) {
                server.uplink(uplink);
            }
        });
    }

    fn restart_api(&mut self) {
        self.happened(Event::Disturbed, "the API server is restarted");
        self.server.restart();
    }

    // --- Holdfast ---

    async fn restart_holdfast(&mut self, killed: bool) {
        let before = self.scene.holdfast();
        match killed {
            true => {
                self.happened(Event::Killed, "Holdfast is killed and started");
                // Nothing is written any more.
                self.committing.abort();
                before.killed.cancel();
                before.serve.drain.cancel();
            }
            false => {
                self.happened(Event::Restarted, "Holdfast is restarted");
                before.serve.drain.cancel();
                before.serve.tasks.close();
                // What hangs is not waited for.
                let _ =
                    tokio::time::timeout(Duration::from_secs(8), before.serve.tasks.wait()).await;
                before.killed.cancel();
                self.commits.cancel();
                let _ = (&mut self.committing).await;
            }
        }
        self.scene
            .replace(start(self.files, &self.upstream, &self.disk));
        self.start_commits();
    }

    // --- what is compared ---

    async fn settle(&mut self) {
        tokio::time::sleep(SETTLE).await;
        if !self.server.is_open() {
            return;
        }
        let mut ids: Vec<ClientId> = self.informers.keys().copied().collect();
        ids.sort_unstable();
        for id in ids {
            let reflector = &self.informers[&id].reflector;
            let store = reflector
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .store();
            self.scene.note(Entry::Holds(id, store));
        }
        let rv = self.server.lock().truth.rv();
        self.scene.note(Entry::Quiet(rv));
    }

    fn end(self) -> Outcome {
        let record = self.scene.take_record();
        let truth = self.server.lock().truth.clone();
        let violations = check(&self.plan.clients, &truth, &record);
        Outcome { record, violations }
    }
}

fn start(files: &Files, upstream: &Arc<Upstream>, disk: &Disk) -> Holdfast {
    let serve = Serve {
        terminator: Terminator::new(&files.config(), &[]).expect("a CA"),
        identity: Identity::new(&config::Tokens::default()),
        upstream: upstream.clone(),
        cache: disk.open(),
        metrics: Arc::new(Metrics::new()),
        tasks: TaskTracker::new(),
        drain: CancellationToken::new(),
        catch_up: Arc::default(),
        resume_jitter: RESUME_JITTER,
    };
    Holdfast {
        serve: Arc::new(serve),
        killed: CancellationToken::new(),
    }
}
