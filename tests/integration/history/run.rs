//! Does what a plan says, step by step.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use holdfast_history::check::check;
use holdfast_history::drive;
use holdfast_history::plan::{Face, Fault, Kind, Plan, Read, Step};
use holdfast_history::reader::Seen;
use holdfast_history::record::{ClientId, Entry, Event};
use holdfast_history::reflector::Reflector;
use holdfast_tests::eventually;
use holdfast_tests::link::{Link, reset};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::clients::{Client, Scene};
use super::stage::Stage;

/// A plan pauses for up to a minute, in a time that costs nothing.
const MAX_PAUSE: Duration = Duration::from_millis(700);
/// A client's pauses after failures, in milliseconds.
const BACKOFF: (u64, u64) = (100, 1000);
/// How long the dark is left alone where a plan wants it to be quiet.
const DARK: Duration = Duration::from_millis(1500);
/// Nothing is under way if everything is right, and stays so for as long: a resumed stream may be refused a moment later.
const CALM: Duration = Duration::from_millis(600);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// If it is not quiet then, the judge says what is wrong.
const QUIET_WITHIN: Duration = Duration::from_secs(60);
const ENDED_WITHIN: Duration = Duration::from_secs(20);

pub(super) struct Run<'s, 'a> {
    stage: &'s mut Stage<'a>,
    plan: &'s Plan,
    scene: Arc<Scene>,
    informers: HashMap<ClientId, Informer>,
    readers: HashMap<ClientId, Arc<Mutex<Seen>>>,
    reads: Vec<JoinHandle<()>>,
    cut: Option<Link<'a>>,
    /// Changes of the truth that the record tells of.
    written: usize,
}

struct Informer {
    reflector: Arc<Mutex<Reflector>>,
    stop: CancellationToken,
}

impl<'s, 'a> Run<'s, 'a> {
    pub(super) fn new(stage: &'s mut Stage<'a>, plan: &'s Plan, scene: Arc<Scene>) -> Self {
        let written = stage.plane.truth().changes().len();
        Self {
            stage,
            plan,
            scene,
            informers: HashMap::new(),
            readers: HashMap::new(),
            reads: Vec::new(),
            cut: None,
            written,
        }
    }

    /// Every step, or those until it does not get quiet any more: the judge says why.
    pub(super) fn all(&mut self) -> Result<()> {
        let plan = self.plan;
        for step in &plan.steps {
            if !self.step(step)? {
                break;
            }
        }
        Ok(())
    }

    /// `false`: it does not get quiet.
    fn step(&mut self, step: &Step) -> Result<bool> {
        let Stage { runtime, plane, .. } = &mut *self.stage;
        match step {
            Step::Write(key, op) => {
                runtime.block_on(plane.write(key, op))?;
                self.tell_writes();
            }
            Step::WriteElsewhere(count) => runtime.block_on(plane.write_elsewhere(*count))?,
            Step::Start(client) => self.start(*client),
            Step::Stop(client) => {
                if let Some(informer) = self.informers.remove(client) {
                    informer.stop.cancel();
                }
            }
            Step::Read(client, read) => self.read(*client, read),
            Step::Pause(moment) => sleep(Duration::from_millis(*moment).min(MAX_PAUSE)),
            // Of the rest a party between Holdfast and the API server would be needed, and none is there; a 410 is that of an
            // API server that was restarted.
            Step::Arm(Fault::CutList(_)) => self.disturb(),
            Step::Arm(_) => {}
            Step::Cut(face) => self.cut(*face)?,
            Step::Return => self.open_road()?,
            Step::Disturb => self.disturb(),
            Step::RestartApi => self.restart_api()?,
            Step::Compact => {
                // etcd does not compact twice at one revision.
                runtime.block_on(plane.write_elsewhere(1))?;
                self.stage.api.compact()?;
            }
            Step::RestartHoldfast { killed } => self.restart_holdfast(*killed)?,
            Step::Settle => return Ok(self.settle()),
        }
        Ok(true)
    }

    /// All clients leave.
    pub(super) fn end(self) {
        for informer in self.informers.values() {
            informer.stop.cancel();
        }
        for read in self.reads {
            read.abort();
        }
    }

    fn happened(&self, event: Event, what: &str) {
        self.scene.note(Entry::Happened(event, what.to_owned()));
    }

    fn tell_writes(&mut self) {
        let truth = self.stage.plane.truth();
        for change in &truth.changes()[self.written..] {
            let what = match &change.after {
                Some(after) => format!("{} {:?}", change.key().path(), after.labels),
                None => format!("{} deleted", change.key().path()),
            };
            self.scene.note(Entry::Wrote(change.rv, what));
        }
        self.written = truth.changes().len();
    }

    // --- clients ---

    fn client(&self, id: ClientId) -> Client {
        Client {
            scene: self.scene.clone(),
            id,
            caller: self.plan.clients[id].caller,
        }
    }

    fn start(&mut self, id: ClientId) {
        let Kind::Informer(scope, flavour) = &self.plan.clients[id].kind else {
            return;
        };
        let (min, max) = BACKOFF;
        let reflector = Reflector::new(scope.clone(), *flavour).with_backoff(min, max);
        let informer = Informer {
            reflector: Arc::new(Mutex::new(reflector)),
            stop: CancellationToken::new(),
        };
        let (reflector, stop) = (informer.reflector.clone(), informer.stop.clone());
        let runtime = &self.stage.runtime;
        runtime.spawn(drive::inform(self.client(id), reflector, stop));
        self.informers.insert(id, informer);
    }

    fn read(&mut self, id: ClientId, read: &Read) {
        let seen = self.readers.entry(id).or_default().clone();
        let read = drive::read(self.client(id), read.clone(), seen);
        self.reads.push(self.stage.runtime.spawn(read));
    }

    // --- the road ---

    /// It is dark only once nothing comes through.
    fn cut(&mut self, face: Face) -> Result<()> {
        self.cut = Some(match face {
            Face::Refused => Link::reject(self.stage.node)?,
            Face::BlackHole => Link::cut(self.stage.node)?,
        });
        self.happened(Event::Cut, &format!("{face:?}"));
        Ok(())
    }

    fn open_road(&mut self) -> Result<()> {
        self.happened(Event::Returned, "");
        self.cut.take().map_or(Ok(()), Link::restore)
    }

    fn disturb(&mut self) {
        self.happened(Event::Disturbed, "every connection breaks");
        // None is open: none breaks.
        let _ = reset(self.stage.node);
    }

    fn restart_api(&mut self) -> Result<()> {
        self.happened(Event::Disturbed, "the API server is killed");
        let Stage {
            api,
            plane,
            runtime,
            ..
        } = &mut *self.stage;
        plane.deafen();
        api.kill()?;
        api.restart()?;
        runtime.block_on(plane.listen())?;
        // For the streams that began meanwhile.
        self.happened(Event::Disturbed, "the API server is started");
        Ok(())
    }

    // --- Holdfast ---

    fn restart_holdfast(&mut self, killed: bool) -> Result<()> {
        let holdfast = &mut self.stage.holdfast;
        match killed {
            true => holdfast.kill()?,
            false => drop(holdfast.terminate(ENDED_WITHIN)?),
        }
        // What it had said is heard before it counts as gone.
        let last = self.scene.latest();
        eventually("the clients to notice", ENDED_WITHIN, || {
            ensure!(!self.scene.is_open(last), "an exchange is under way");
            Ok(())
        })?;
        // A kill takes nothing back: what the judge excuses in the model, which has no `cache.tail`, is a fault here.
        let how = if killed { "killed" } else { "restarted" };
        self.happened(Event::Restarted, &format!("Holdfast is {how}"));
        self.stage.holdfast.start().map(drop)
    }

    // --- what is compared ---

    /// Waits until it is quiet and says so; `false`: it is not, and that is said in its place.
    fn settle(&self) -> bool {
        if self.cut.is_some() {
            sleep(DARK);
            return true;
        }
        let began = Instant::now();
        let mut right_since: Option<Instant> = None;
        loop {
            let is_late = began.elapsed() > QUIET_WITHIN;
            let is_calm = right_since.is_some_and(|since| since.elapsed() >= CALM);
            let nothing_is_held = self.nothing_is_held();
            let mut is_right = false;
            let is_quiet = self.scene.note_if(
                || self.held(),
                |record, from| {
                    let found = check(&self.plan.clients, &self.stage.plane.truth(), record);
                    is_right = nothing_is_held && found.iter().all(|one| one.entry < from);
                    is_late || (is_right && is_calm)
                },
            );
            if is_quiet {
                return is_right;
            }
            right_since = match is_right {
                true => right_since.or_else(|| Some(Instant::now())),
                false => None,
            };
            sleep(LOOK_AGAIN);
        }
    }

    /// What the informers hold, and that it is quiet.
    fn held(&self) -> Vec<Entry> {
        let store = |informer: &Informer| {
            let reflector = informer.reflector.lock();
            reflector.unwrap_or_else(PoisonError::into_inner).store()
        };
        let stores = self.informers.iter();
        stores
            .map(|(id, informer)| Entry::Holds(*id, store(informer)))
            .chain([Entry::Quiet(self.stage.plane.truth().rv())])
            .collect()
    }

    /// Holdfast knows that the API server is there, and every watch goes on.
    fn nothing_is_held(&self) -> bool {
        let metrics = self.stage.holdfast.admin("/metrics");
        metrics.is_ok_and(|metrics| {
            let text = metrics.text();
            let says = |line| text.lines().any(|said| said == line);
            says("holdfast_held_watches 0") && says("holdfast_uplink_state{state=\"down\"} 0")
        })
    }
}
