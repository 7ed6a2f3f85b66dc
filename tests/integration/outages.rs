//! Real programs with informers on ten kinds, through twenty outages: at the end of each they hold what a direct LIST says.

mod faces;
mod held;
mod kinds;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use holdfast_tests::assets::asset;
use holdfast_tests::audit::Mark;
use holdfast_tests::demo::Scene;
use holdfast_tests::fixtures::SHOP;
use holdfast_tests::{Node, Pod};

use faces::{OUTAGES, Outage, Stage};
use held::{Objects, Program, Seen};
use kinds::{KINDS, Writer};

/// A client that was told 410 pauses before it lists again: client-go for 0.8 s, twice as long each time, up to a minute.
const EQUAL_WITHIN: Duration = Duration::from_secs(90);
/// Between two looks at what is still unequal.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Service accounts, one for each program.
const GO: &str = "go";
const RUST: &str = "rust";
const JAVASCRIPT: &str = "javascript";

#[test]
fn after_each_of_twenty_outages_every_program_holds_what_a_direct_list_says() -> Result<()> {
    let node = Node::new()?;
    let mut scene = Scene::new(&node, Duration::ZERO)?;
    kinds::prepare(&scene.api, &[GO, RUST, JAVASCRIPT])?;
    let mut writer = Writer::fill(&scene.api)?;
    scene.online()?;
    let go = scene.reaching_pod(GO)?;
    let rust = scene.reaching_pod(RUST)?;
    let javascript = scene.reaching_pod(JAVASCRIPT)?;
    let programs = [
        client_go(&node, &go)?,
        kube_rs(&node, &rust)?,
        client_node(&node, &javascript)?,
    ];
    let told = run(&mut scene, &mut writer, &programs);
    told.with_context(|| scene.story())
}

/// All ten kinds: typed and dynamic clients and one of metadata alone, a label and a field selector, WatchLists.
fn client_go(node: &Node, pod: &Pod<'_>) -> Result<Program> {
    let socket = node.folder().join("go.sock");
    let args = ["-namespace", SHOP, "-socket", &socket.to_string_lossy()];
    Ok(Program {
        name: "client-go",
        account: GO,
        resources: KINDS.each_ref().map(|kind| kind.resource).to_vec(),
        process: pod.spawn(GO, asset("tenkinds")?, &args)?,
        socket,
    })
}

/// Both of kube-rs' ways to begin, typed and dynamic objects, and one kind of metadata alone.
fn kube_rs(node: &Node, pod: &Pod<'_>) -> Result<Program> {
    let socket = node.folder().join("rust.sock");
    Ok(Program {
        name: "kube-rs",
        account: RUST,
        resources: vec![
            "configmaps",
            "secrets",
            "nodes",
            "statefulsets",
            "widgets",
            "ovens",
        ],
        process: pod.spawn(RUST, asset("kube-rs")?, &[&socket.to_string_lossy(), SHOP])?,
        socket,
    })
}

/// LIST and then a watch without bookmarks and without an end of its own; an informer that stops at every error.
fn client_node(node: &Node, pod: &Pod<'_>) -> Result<Program> {
    let socket = node.folder().join("javascript.sock");
    let script = asset("node")?.join("informers.mjs");
    let args = [&script.to_string_lossy(), &socket.to_string_lossy(), SHOP];
    Ok(Program {
        name: "client-node",
        account: JAVASCRIPT,
        resources: vec![
            "configmaps",
            "secrets",
            "services",
            "deployments",
            "storageclasses",
            "widgets",
            "ovens",
        ],
        process: pod.spawn(JAVASCRIPT, "node", &args.map(AsRef::as_ref))?,
        socket,
    })
}

fn run(scene: &mut Scene<'_>, writer: &mut Writer, programs: &[Program]) -> Result<()> {
    let (mut listed, took) = equal(scene, programs).context("before the first outage")?;
    say(&format!(
        "all programs synced in {:.1} s",
        took.as_secs_f64()
    ));
    for (number, outage) in OUTAGES.iter().enumerate() {
        let begun = Instant::now();
        let costs = Costs::begin(scene, programs)?;
        let after = through(scene, writer, programs, &listed, outage)
            .with_context(|| format!("outage {}: {}", number + 1, outage.face))?;
        for (kind, (before, after)) in KINDS.iter().zip(listed.iter().zip(&after.listed)) {
            ensure!(
                !before.same(after),
                "nothing was changed in {}",
                kind.resource
            );
        }
        say(&format!(
            "{:>2} of {}, {}: {:.1} s, equal {:.1} s after it; {}",
            number + 1,
            OUTAGES.len(),
            outage.face,
            begun.elapsed().as_secs_f64(),
            after.equal_after.as_secs_f64(),
            costs.end(scene, programs, outage)?,
        ));
        listed = after.listed;
    }
    Ok(())
}

struct After {
    listed: Vec<Objects>,
    equal_after: Duration,
}

/// One outage, with changes before it, in it where they are possible, and after it.
fn through(
    scene: &mut Scene<'_>,
    writer: &mut Writer,
    programs: &[Program],
    before: &[Objects],
    outage: &Outage,
) -> Result<After> {
    let over = AtomicBool::new(false);
    std::thread::scope(|threads| {
        let looks: Vec<_> = programs
            .iter()
            .map(|program| threads.spawn(|| Seen::watch(program, before, &over)))
            .collect();
        let mut stage = Stage { scene, writer };
        let ended = stage
            .write()
            .and_then(|()| (outage.strike)(&mut stage))
            .and_then(|()| stage.write())
            .and_then(|()| equal(stage.scene, programs));
        over.store(true, Ordering::Relaxed);
        let mut seen = Vec::new();
        for look in looks {
            seen.push(look.join().map_err(|_| anyhow!("a look panicked"))?);
        }
        let (listed, equal_after) = ended?;
        for (program, seen) in programs.iter().zip(seen) {
            let seen = seen?;
            seen.judge(program, &listed)?;
            for backwards in seen.backwards {
                // What Holdfast had not written yet when it was killed, it can't know of.
                ensure!(
                    outage.kills_holdfast(),
                    "{} went back: {backwards}",
                    program.name
                );
                say(&format!("{} went back: {backwards}", program.name));
            }
        }
        Ok(After {
            listed,
            equal_after,
        })
    })
}

/// Waits until every program holds what a direct LIST says; returns the LIST and how long it took.
fn equal(scene: &Scene<'_>, programs: &[Program]) -> Result<(Vec<Objects>, Duration)> {
    let since = Instant::now();
    loop {
        let listed = kinds::list(&scene.api)?;
        let unequal = programs
            .iter()
            .find_map(|program| program.equals(&listed).err());
        match unequal {
            None => return Ok((listed, since.elapsed())),
            Some(error) if since.elapsed() >= EQUAL_WITHIN => {
                return Err(error.context(format!("{} s later", EQUAL_WITHIN.as_secs())));
            }
            Some(_) => std::thread::sleep(LOOK_AGAIN),
        }
    }
}

/// One list that is read, and those that broke off: a server that comes up may go down again at once. `healing` counts exactly.
const MOST_LISTS: usize = 4;

/// What an outage costs in LISTs; a watch that asks for what is there already is one.
struct Costs {
    mark: Mark,
    /// By program: what it asked for before.
    asked: Vec<u64>,
}

impl Costs {
    fn begin(scene: &Scene<'_>, programs: &[Program]) -> Result<Self> {
        Ok(Self {
            mark: scene.api.audit().mark()?,
            asked: asked(programs)?,
        })
    }

    /// LISTs that each program asked for, those that reached the API server in its name, and the most of these that were of one kind.
    /// As long as Holdfast lives, a collection is listed a few times at most.
    fn end(&self, scene: &Scene<'_>, programs: &[Program], outage: &Outage) -> Result<String> {
        let entries = scene.api.audit().since(self.mark)?;
        let asked = asked(programs)?;
        let mut told = Vec::new();
        let mut most = 0;
        for (program, (now, then)) in programs.iter().zip(asked.iter().zip(&self.asked)) {
            let user = format!("system:serviceaccount:{SHOP}:{}", program.account);
            let mut by_resource = BTreeMap::<&str, usize>::new();
            for entry in entries
                .iter()
                .filter(|entry| entry.user == user && entry.is_list())
            {
                *by_resource.entry(&entry.resource).or_default() += 1;
            }
            most = most.max(by_resource.values().max().copied().unwrap_or_default());
            let arrived: usize = by_resource.values().sum();
            told.push(format!("{} {} / {arrived}", program.name, now - then));
        }
        if !outage.ends_holdfast() {
            ensure!(
                most <= MOST_LISTS,
                "a collection was listed {most} times: {told:?}"
            );
        }
        Ok(format!(
            "LISTs asked for / that arrived: {}, at most {most} of one kind",
            told.join(", ")
        ))
    }
}

fn asked(programs: &[Program]) -> Result<Vec<u64>> {
    programs.iter().map(Program::lists).collect()
}

/// Minutes pass: this is not kept back until the end, as the output of a test is that passes.
fn say(line: &str) {
    // A closed standard error is no reason to fail.
    let _ = writeln!(std::io::stderr(), "outages: {line}");
}
