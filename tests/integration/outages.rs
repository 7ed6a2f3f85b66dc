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

use faces::{OUTAGES, Stage};
use held::{Objects, Program, Seen};
use kinds::{KINDS, Writer};

/// A client that was told 410 pauses before it lists again: client-go for 0.8 s, twice as long each time, up to a minute.
const EQUAL_WITHIN: Duration = Duration::from_secs(90);
/// Between two looks at what is still unequal.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

#[test]
fn after_each_of_twenty_outages_every_program_holds_what_a_direct_list_says() -> Result<()> {
    let node = Node::new()?;
    let mut scene = Scene::new(&node, Duration::ZERO)?;
    kinds::prepare(&scene.api, &["go"])?;
    let mut writer = Writer::fill(&scene.api)?;
    scene.online()?;
    let pod = scene.reaching_pod("go")?;
    let programs = [go(&node, &pod)?];
    let told = run(&mut scene, &mut writer, &programs);
    told.with_context(|| scene.story())
}

/// The client-go program: all ten kinds.
fn go(node: &Node, pod: &Pod<'_>) -> Result<Program> {
    let socket = node.folder().join("go.sock");
    let args = ["-namespace", SHOP, "-socket", &socket.to_string_lossy()];
    Ok(Program {
        name: "client-go",
        account: "go",
        resources: KINDS.each_ref().map(|kind| kind.resource).to_vec(),
        process: pod.spawn("go", asset("tenkinds")?, &args)?,
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
        let mark = scene.api.audit().mark()?;
        let began_anew = lists(programs)?;
        let after = through(scene, writer, programs, &listed, outage.strike)
            .with_context(|| format!("outage {}: {}", number + 1, outage.face))?;
        for (kind, (before, after)) in KINDS.iter().zip(listed.iter().zip(&after.listed)) {
            ensure!(
                !before.same(after),
                "nothing was changed in {}",
                kind.resource
            );
        }
        let anew: Vec<String> = programs
            .iter()
            .zip(lists(programs)?.iter().zip(began_anew))
            .map(|(program, (now, then))| format!("{} {}", program.name, now - then))
            .collect();
        say(&format!(
            "{:>2} of {}, {}: {:.1} s, equal {:.1} s after it; began anew: {}; LISTs at the API server: {}",
            number + 1,
            OUTAGES.len(),
            outage.face,
            begun.elapsed().as_secs_f64(),
            after.equal_after.as_secs_f64(),
            anew.join(", "),
            listed_upstream(scene, mark, programs)?,
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
    strike: fn(&mut Stage<'_, '_>) -> Result<()>,
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
            .and_then(|()| strike(&mut stage))
            .and_then(|()| stage.write())
            .and_then(|()| equal(stage.scene, programs));
        over.store(true, Ordering::Relaxed);
        let mut seen = Vec::new();
        for look in looks {
            seen.push(look.join().map_err(|_| anyhow!("a look panicked"))?);
        }
        let (listed, equal_after) = ended?;
        for (program, seen) in programs.iter().zip(seen) {
            seen?.judge(program, &listed)?;
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

fn lists(programs: &[Program]) -> Result<Vec<u64>> {
    programs.iter().map(Program::lists).collect()
}

/// Who listed what, of the programs' accounts, by the API server's audit log: a watch that asks for what is there
/// already counts as a LIST.
fn listed_upstream(scene: &Scene<'_>, mark: Mark, programs: &[Program]) -> Result<String> {
    let entries = scene.api.audit().since(mark)?;
    let mut told = Vec::new();
    for program in programs {
        let user = format!("system:serviceaccount:{SHOP}:{}", program.account);
        let mut by_resource = BTreeMap::<&str, usize>::new();
        for entry in entries
            .iter()
            .filter(|entry| entry.user == user && entry.is_list())
        {
            *by_resource.entry(&entry.resource).or_default() += 1;
        }
        told.push(format!(
            "{} {} (at most {} of one kind)",
            program.name,
            by_resource.values().sum::<usize>(),
            by_resource.values().max().copied().unwrap_or_default()
        ));
    }
    Ok(told.join(", "))
}

/// Minutes pass: this is not kept back until the end, as the output of a test is that passes.
fn say(line: &str) {
    // A closed standard error is no reason to fail.
    let _ = writeln!(std::io::stderr(), "outages: {line}");
}
