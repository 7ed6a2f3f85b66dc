//! A seed -> clients, and what happens, as plain data. The same seed is the same plan, wherever it runs.

use std::collections::BTreeMap;

use fastrand::Rng;

use crate::record::ClientId;
use crate::reflector::Flavour;
use crate::scope::{Field, Label, Resource, Scope};
use crate::truth::Key;

/// `-` sorts before `/`, so the second one comes first in a list.
const NAMESPACES: [&str; 3] = ["a", "a-b", "b"];
const NAMES: [&str; 5] = ["n1", "n2", "n3", "n4", "n5"];
const TIERS: [&str; 2] = ["front", "back"];
const TRACKS: [&str; 2] = ["stable", "canary"];
const NODES: [&str; 3] = ["", "node-1", "node-2"];

/// Service accounts that clients share or do not.
pub const CALLERS: usize = 3;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub seed: u64,
    pub clients: Vec<Client>,
    pub steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Less than [`CALLERS`].
    pub caller: usize,
    pub kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Follows one scope from its start to its stop.
    Informer(Scope, Flavour),
    /// Asks when a step says so.
    Reader,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Write(Key, Op),
    /// Things no client looks at are written, which moves the RV of everything.
    WriteElsewhere(u64),
    Start(ClientId),
    Stop(ClientId),
    Read(ClientId, Read),
    /// Milliseconds in which whatever is under way goes on.
    Pause(u64),
    /// The next matching request meets it.
    Arm(Fault),
    Cut(Face),
    /// The API server can be reached again.
    Return,
    /// Every connection breaks; the API server stays there.
    Disturb,
    /// The API server is restarted: it knows no event from before.
    RestartApi,
    /// Only the latest state is kept: lists and pages of an earlier one are gone.
    Compact,
    /// Holdfast is stopped and started; killed: with what it had not written yet lost.
    RestartHoldfast {
        killed: bool,
    },
    /// Long enough that everything is quiet. With the API server there, all is compared.
    Settle,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Creates it, or changes it.
    Put {
        labels: BTreeMap<String, String>,
        node: &'static str,
    },
    Delete,
    /// Deleted, and at once created anew, as another object of the name.
    Recreate,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    Get(Key),
    List {
        scope: Scope,
        rv: Rv,
        exact: bool,
        /// Follows the pages to the end, unless it gives up after the first.
        limit: Option<u64>,
        gives_up: bool,
    },
    Watch {
        scope: Scope,
        rv: Rv,
        initial: Option<bool>,
        bookmarks: bool,
        seconds: u64,
    },
}

/// An RV, in the words of a client that cannot know numbers beforehand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rv {
    /// Left out: the most recent.
    Unset,
    /// `0`: any.
    Any,
    /// The latest this client was told in this scope; left out when it was told none.
    Seen,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The body of a LIST breaks off after this share of it, in percent.
    CutList(u8),
    /// The body of a LIST comes in small pieces, with so many milliseconds between them.
    SlowList(u64),
    /// A watch from an RV is told that it is too old: in an accepted stream, or with the code of the answer.
    Gone { as_event: bool },
    /// The events of the next watch come late, in milliseconds.
    LateWatch(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Face {
    /// Connections are refused at once.
    Refused,
    /// Nothing comes back.
    BlackHole,
}

impl Plan {
    pub fn new(seed: u64) -> Self {
        let mut generator = Generator::new(seed);
        generator.begin();
        for _ in 0..generator.rng.usize(20..60) {
            generator.step();
        }
        generator.end();
        Self {
            seed,
            clients: generator.clients,
            steps: generator.steps,
        }
    }
}

struct Generator {
    rng: Rng,
    resources: Vec<Resource>,
    namespaces: Vec<&'static str>,
    names: Vec<&'static str>,
    scopes: Vec<Scope>,
    clients: Vec<Client>,
    running: Vec<bool>,
    is_cut: bool,
    /// Reads that come next, in the dark.
    dark_reads: usize,
    steps: Vec<Step>,
}

impl Generator {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        // Few things, so that clients meet.
        let resources = some(&mut rng, &Resource::ALL, 1..=2);
        let namespaces = some(&mut rng, &NAMESPACES, 1..=3);
        let names = some(&mut rng, &NAMES, 2..=5);
        let mut generator = Self {
            rng,
            resources,
            namespaces,
            names,
            scopes: Vec::new(),
            clients: Vec::new(),
            running: Vec::new(),
            is_cut: false,
            dark_reads: 0,
            steps: Vec::new(),
        };
        let scopes = generator.rng.usize(1..=4);
        generator.scopes = (0..scopes).map(|_| generator.new_scope()).collect();
        generator
    }

    fn begin(&mut self) {
        for _ in 0..self.rng.usize(0..12) {
            let write = self.write();
            self.steps.push(write);
        }
        for _ in 0..self.rng.usize(2..=7) {
            let caller = self.rng.usize(0..CALLERS);
            let kind = match self.rng.u8(0..10) {
                0..4 => Kind::Informer(self.scope(), Flavour::WatchList),
                4..7 => Kind::Informer(self.scope(), Flavour::ListWatch),
                _ => Kind::Reader,
            };
            self.running.push(kind != Kind::Reader);
            self.clients.push(Client { caller, kind });
        }
        for client in 0..self.clients.len() {
            if self.running[client] {
                self.steps.push(Step::Start(client));
            }
        }
        if self.rng.bool() {
            self.steps.push(Step::Settle);
        }
    }

    fn end(&mut self) {
        if self.is_cut {
            self.steps.push(Step::Return);
        }
        self.steps.push(Step::Settle);
    }

    fn step(&mut self) {
        let step = match self.rng.u8(0..100) {
            _ if self.dark_reads > 0 => {
                self.dark_reads -= 1;
                self.read()
            }
            0..38 => self.write(),
            38..42 => Step::WriteElsewhere(self.rng.u64(1..5)),
            42..56 => self.read(),
            56..66 => Step::Pause(self.pause()),
            66..70 => self.start_or_stop(),
            70..76 => Step::Arm(self.fault()),
            76..88 => self.cut_or_return(),
            88..90 => Step::Disturb,
            90..92 => Step::RestartApi,
            92..93 => Step::Compact,
            93..95 => Step::RestartHoldfast {
                killed: self.rng.bool(),
            },
            _ => Step::Settle,
        };
        self.steps.push(step);
    }

    fn write(&mut self) -> Step {
        let key = self.key();
        let op = match self.rng.u8(0..10) {
            0..7 => Op::Put {
                labels: self.labels(),
                node: NODES[self.rng.usize(0..NODES.len())],
            },
            7..9 => Op::Delete,
            _ => Op::Recreate,
        };
        Step::Write(key, op)
    }

    fn read(&mut self) -> Step {
        let readers = (0..self.clients.len()).filter(|id| self.clients[*id].kind == Kind::Reader);
        let readers: Vec<ClientId> = readers.collect();
        let Some(reader) = self.rng.choice(readers) else {
            return self.write();
        };
        let read = match self.rng.u8(0..10) {
            0..3 => Read::Get(self.key()),
            3..8 => self.list(),
            _ => self.watch(),
        };
        Step::Read(reader, read)
    }

    fn list(&mut self) -> Read {
        let rv = self.rv();
        Read::List {
            scope: self.scope(),
            rv,
            exact: rv == Rv::Seen && self.rng.u8(0..4) == 0,
            limit: (self.rng.u8(0..3) == 0).then(|| self.rng.u64(1..4)),
            gives_up: self.rng.u8(0..4) == 0,
        }
    }

    fn watch(&mut self) -> Read {
        let rv = self.rv();
        Read::Watch {
            scope: self.scope(),
            rv,
            initial: match self.rng.u8(0..3) {
                0 => Some(true),
                _ => None,
            },
            bookmarks: self.rng.u8(0..4) != 0,
            seconds: self.rng.u64(2..400),
        }
    }

    fn rv(&mut self) -> Rv {
        match self.rng.u8(0..10) {
            0..3 => Rv::Unset,
            3..6 => Rv::Any,
            _ => Rv::Seen,
        }
    }

    fn start_or_stop(&mut self) -> Step {
        let client = self.rng.usize(0..self.clients.len());
        if self.clients[client].kind == Kind::Reader {
            return self.write();
        }
        let runs = &mut self.running[client];
        *runs = !*runs;
        match *runs {
            true => Step::Start(client),
            false => Step::Stop(client),
        }
    }

    fn cut_or_return(&mut self) -> Step {
        self.is_cut = !self.is_cut;
        // What is known is asked for: that is when it is told.
        if self.is_cut && self.rng.bool() {
            self.dark_reads = self.rng.usize(1..6);
        }
        match (self.is_cut, self.rng.bool()) {
            (false, _) => Step::Return,
            (true, true) => Step::Cut(Face::Refused),
            (true, false) => Step::Cut(Face::BlackHole),
        }
    }

    fn fault(&mut self) -> Fault {
        match self.rng.u8(0..8) {
            0..3 => Fault::CutList(self.rng.u8(1..100)),
            3..5 => Fault::SlowList(self.rng.u64(5..200)),
            5 => Fault::LateWatch(self.rng.u64(5..2000)),
            _ => Fault::Gone {
                as_event: self.rng.u8(0..4) != 0,
            },
        }
    }

    /// Mostly short: what is under way is met half-way.
    fn pause(&mut self) -> u64 {
        match self.rng.u8(0..10) {
            0..4 => self.rng.u64(1..20),
            4..8 => self.rng.u64(20..2000),
            _ => self.rng.u64(2000..70_000),
        }
    }

    fn key(&mut self) -> Key {
        let resource = self.resources[self.rng.usize(0..self.resources.len())];
        let namespace = self.namespaces[self.rng.usize(0..self.namespaces.len())];
        let name = self.names[self.rng.usize(0..self.names.len())];
        Key::new(resource, namespace, name)
    }

    fn labels(&mut self) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::new();
        for (key, values) in [("tier", TIERS), ("track", TRACKS)] {
            if let Some(value) = values.get(self.rng.usize(0..3)) {
                labels.insert(key.to_owned(), (*value).to_owned());
            }
        }
        labels
    }

    /// One of a few, so that clients share collections; sometimes a new one.
    fn scope(&mut self) -> Scope {
        match self.rng.u8(0..5) {
            0 => self.new_scope(),
            _ => self.scopes[self.rng.usize(0..self.scopes.len())].clone(),
        }
    }

    fn new_scope(&mut self) -> Scope {
        let key = self.key();
        let mut scope = Scope::all(key.resource);
        if self.rng.bool() {
            scope.namespace = Some(key.namespace.clone());
        }
        match self.rng.u8(0..10) {
            0..5 => {}
            5..8 => scope.labels = self.label_selector(),
            8 if key.resource == Resource::Pods => scope.fields = self.node_selector(),
            _ => scope = Scope::of_one(&key),
        }
        scope
    }

    fn label_selector(&mut self) -> Vec<Label> {
        let both = || TIERS.map(str::to_owned).to_vec();
        let tier = || "tier".to_owned();
        let one = TIERS[self.rng.usize(0..2)].to_owned();
        match self.rng.u8(0..7) {
            0 => vec![Label::Is(tier(), one)],
            1 => vec![Label::IsNot(tier(), one)],
            2 => vec![Label::In(tier(), both())],
            3 => vec![Label::NotIn(tier(), vec![one])],
            4 => vec![Label::Has(tier())],
            5 => vec![Label::HasNot("track".to_owned())],
            _ => vec![
                Label::Is(tier(), one),
                Label::Is("track".to_owned(), "stable".to_owned()),
            ],
        }
    }

    fn node_selector(&mut self) -> Vec<Field> {
        let node = NODES[self.rng.usize(0..NODES.len())];
        match self.rng.u8(0..4) {
            0 => vec![Field::is_not("spec.nodeName", node)],
            _ => vec![Field::is("spec.nodeName", node)],
        }
    }
}

/// So many of them, in their order.
fn some<T: Copy>(rng: &mut Rng, of: &[T], count: std::ops::RangeInclusive<usize>) -> Vec<T> {
    let count = rng.usize(count);
    let mut chosen: Vec<usize> = (0..of.len()).collect();
    rng.shuffle(&mut chosen);
    chosen.truncate(count);
    chosen.sort_unstable();
    chosen.into_iter().map(|index| of[index]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_is_the_same_plan_and_another_one_another() {
        assert_eq!(Plan::new(7), Plan::new(7));
        assert_ne!(Plan::new(7), Plan::new(8));
    }

    #[test]
    fn every_plan_ends_quiet_with_the_api_server_there() {
        for seed in 0..200 {
            let plan = Plan::new(seed);
            assert_eq!(plan.steps.last(), Some(&Step::Settle));
            let roads = plan.steps.iter().rev();
            let last = roads
                .into_iter()
                .find(|step| matches!(step, Step::Cut(_) | Step::Return));
            assert!(!matches!(last, Some(Step::Cut(_))), "seed {seed}");
        }
    }

    #[test]
    fn the_plans_of_the_default_run_hold_every_kind_of_step() {
        let plans: Vec<Plan> = (0..200).map(Plan::new).collect();
        let has = |wanted: fn(&Step) -> bool| plans.iter().flat_map(|plan| &plan.steps).any(wanted);
        assert!(has(|step| matches!(step, Step::Write(_, Op::Recreate))));
        assert!(has(|step| matches!(
            step,
            Step::Read(_, Read::Watch { .. })
        )));
        assert!(has(|step| matches!(step, Step::Arm(Fault::CutList(_)))));
        assert!(has(|step| matches!(
            step,
            Step::Arm(Fault::Gone { as_event: false })
        )));
        assert!(has(|step| *step == Step::Cut(Face::BlackHole)));
        assert!(has(|step| *step == Step::Compact));
        assert!(has(|step| *step == Step::RestartApi));
        assert!(has(|step| *step == Step::RestartHoldfast { killed: true }));
    }
}
