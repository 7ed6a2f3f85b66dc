//! Twenty outages, no two of one face. Each begins and ends with a control plane that is there.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use holdfast_tests::demo::Scene;
use holdfast_tests::gateway::Gateway;
use holdfast_tests::link::{Link, reset};
use holdfast_tests::{ApiServer, eventually};
use nix::sys::signal::Signal;

use super::kinds::Writer;

/// An outage goes on for this long after Holdfast has noticed it.
const DARK: Duration = Duration::from_secs(2);
/// As long as it takes to miss many events, and for every client to have tried again.
const LONG: Duration = Duration::from_secs(20);
/// Rounds of the writer in a long one.
const ROUNDS: usize = 8;
/// Cuts of the flapping link: shorter and longer than it takes to be noticed.
const FLAPS: [Duration; 5] = [
    Duration::from_millis(200),
    Duration::from_millis(1500),
    Duration::from_millis(500),
    Duration::from_millis(3000),
    Duration::from_millis(100),
];
/// A black hole is noticed within the interval of the probe and its timeout.
const NOTICED_WITHIN: Duration = Duration::from_secs(20);
const SERVED_WITHIN: Duration = Duration::from_secs(30);
/// How long writes go on before the API server is killed in the middle of them: a few rounds.
const WRITING: Duration = Duration::from_millis(500);
/// Of a hundred packets, each way.
const LOSS: u8 = 25;

/// What an outage befalls.
pub(super) struct Stage<'s, 'a> {
    pub(super) scene: &'s mut Scene<'a>,
    pub(super) writer: &'s mut Writer,
}

pub(super) struct Outage {
    pub(super) face: &'static str,
    pub(super) strike: fn(&mut Stage<'_, '_>) -> Result<()>,
}

impl Outage {
    /// Streams end with the process that holds them.
    pub(super) fn ends_holdfast(&self) -> bool {
        self.kills_holdfast() || self.face.starts_with("Holdfast restarted")
    }

    pub(super) fn kills_holdfast(&self) -> bool {
        self.face.starts_with("Holdfast killed")
    }
}

pub(super) const OUTAGES: [Outage; 20] = [
    Outage {
        face: "black hole",
        strike: black_hole,
    },
    Outage {
        face: "connections reset, server alive",
        strike: |stage| reset(stage.scene.node),
    },
    Outage {
        face: "API server killed",
        strike: killed,
    },
    Outage {
        face: "API server stopped (SIGSTOP)",
        strike: stopped,
    },
    Outage {
        face: "503 from something in between",
        strike: |stage| in_between(stage, 503),
    },
    Outage {
        face: "Holdfast killed, started while the server is there",
        strike: holdfast_killed,
    },
    Outage {
        face: "rejected with a reset",
        strike: rejected,
    },
    Outage {
        face: "flapping link",
        strike: flapping,
    },
    Outage {
        face: "black hole, server killed behind it",
        strike: killed_behind_a_black_hole,
    },
    Outage {
        face: "answers lost, requests arrive",
        strike: mute,
    },
    Outage {
        face: "etcd stopped",
        strike: etcd_stopped,
    },
    Outage {
        face: "Holdfast killed, started in the dark",
        strike: holdfast_started_in_the_dark,
    },
    Outage {
        face: "502 from something in between",
        strike: |stage| in_between(stage, 502),
    },
    Outage {
        face: "API server restarted in order (SIGTERM)",
        strike: terminated,
    },
    Outage {
        face: "lossy link",
        strike: lossy,
    },
    Outage {
        face: "Holdfast stopped (SIGSTOP)",
        strike: holdfast_stopped,
    },
    Outage {
        face: "etcd compacted, API server killed",
        strike: compacted,
    },
    Outage {
        face: "long black hole",
        strike: long_black_hole,
    },
    Outage {
        face: "Holdfast restarted in order (SIGTERM)",
        strike: holdfast_terminated,
    },
    Outage {
        face: "API server killed in the middle of writes",
        strike: killed_while_writing,
    },
];

impl Stage<'_, '_> {
    /// A round of changes, on the control plane's own side.
    pub(super) fn write(&mut self) -> Result<()> {
        self.writer.write(&self.scene.api)
    }

    /// Waits until Holdfast has noticed, and for a while after.
    fn dark(&self) -> Result<()> {
        eventually("the uplink to be down", NOTICED_WITHIN, || {
            let status = self.scene.holdfast.status()?;
            ensure!(status["uplink"] == "down", "it is {}", status["uplink"]);
            Ok(())
        })?;
        // An outage is a length of time by its nature.
        std::thread::sleep(DARK);
        Ok(())
    }

    /// Starts the API server again, and waits until it serves every kind: a custom resource comes later than the rest.
    fn restart(&mut self) -> Result<()> {
        self.scene.api.restart()?;
        eventually("every kind to be served", SERVED_WITHIN, || {
            super::kinds::list(self.api()).map(drop)
        })
    }

    fn api(&self) -> &ApiServer<'_> {
        &self.scene.api
    }
}

fn black_hole(stage: &mut Stage<'_, '_>) -> Result<()> {
    let cut = Link::cut(stage.scene.node)?;
    stage.write()?;
    stage.dark()?;
    cut.restore()
}

fn killed(stage: &mut Stage<'_, '_>) -> Result<()> {
    stage.scene.api.kill()?;
    stage.dark()?;
    stage.restart()
}

fn stopped(stage: &mut Stage<'_, '_>) -> Result<()> {
    stage.api().stop()?;
    stage.dark()?;
    stage.api().resume()
}

fn in_between(stage: &mut Stage<'_, '_>, status: u16) -> Result<()> {
    let gateway = Gateway::start(stage.scene.node, stage.api(), status)?;
    stage.write()?;
    stage.dark()?;
    ensure!(gateway.answered() > 0, "nobody asked the gateway");
    gateway.end()
}

fn holdfast_killed(stage: &mut Stage<'_, '_>) -> Result<()> {
    stage.scene.holdfast.kill()?;
    stage.write()?;
    std::thread::sleep(DARK);
    stage.scene.holdfast.start().map(drop)
}

fn rejected(stage: &mut Stage<'_, '_>) -> Result<()> {
    let rejecting = Link::reject(stage.scene.node)?;
    stage.write()?;
    stage.dark()?;
    rejecting.restore()
}

fn flapping(stage: &mut Stage<'_, '_>) -> Result<()> {
    for flap in FLAPS {
        let cut = Link::cut(stage.scene.node)?;
        stage.write()?;
        std::thread::sleep(flap);
        cut.restore()?;
        std::thread::sleep(flap);
    }
    Ok(())
}

/// What is written in the dark is told by no watch: the restarted server's window begins after it.
fn killed_behind_a_black_hole(stage: &mut Stage<'_, '_>) -> Result<()> {
    let cut = Link::cut(stage.scene.node)?;
    stage.write()?;
    stage.scene.api.kill()?;
    stage.restart()?;
    stage.write()?;
    stage.dark()?;
    cut.restore()
}

fn mute(stage: &mut Stage<'_, '_>) -> Result<()> {
    let mute = Link::mute(stage.scene.node)?;
    stage.write()?;
    stage.dark()?;
    mute.restore()
}

fn etcd_stopped(stage: &mut Stage<'_, '_>) -> Result<()> {
    stage.api().stop_etcd()?;
    stage.dark()?;
    stage.api().resume_etcd()
}

fn holdfast_started_in_the_dark(stage: &mut Stage<'_, '_>) -> Result<()> {
    let cut = Link::cut(stage.scene.node)?;
    stage.scene.holdfast.kill()?;
    stage.write()?;
    stage.scene.holdfast.start()?;
    stage.dark()?;
    stage.write()?;
    cut.restore()
}

fn terminated(stage: &mut Stage<'_, '_>) -> Result<()> {
    stage.scene.api.terminate()?;
    stage.restart()
}

fn lossy(stage: &mut Stage<'_, '_>) -> Result<()> {
    let lossy = Link::lossy(stage.scene.node, LOSS)?;
    let since = Instant::now();
    while since.elapsed() < DARK * 2 {
        stage.write()?;
    }
    lossy.restore()
}

fn holdfast_stopped(stage: &mut Stage<'_, '_>) -> Result<()> {
    stage.scene.holdfast.signal(Signal::SIGSTOP)?;
    stage.write()?;
    std::thread::sleep(DARK * 2);
    stage.scene.holdfast.signal(Signal::SIGCONT)
}

fn compacted(stage: &mut Stage<'_, '_>) -> Result<()> {
    let cut = Link::cut(stage.scene.node)?;
    stage.write()?;
    stage.api().compact()?;
    stage.scene.api.kill()?;
    cut.restore()?;
    stage.dark()?;
    stage.restart()
}

fn long_black_hole(stage: &mut Stage<'_, '_>) -> Result<()> {
    let cut = Link::cut(stage.scene.node)?;
    let since = Instant::now();
    for _ in 0..ROUNDS {
        stage.write()?;
    }
    stage.dark()?;
    std::thread::sleep(LONG.saturating_sub(since.elapsed()));
    cut.restore()
}

fn holdfast_terminated(stage: &mut Stage<'_, '_>) -> Result<()> {
    stage.scene.holdfast.terminate(NOTICED_WITHIN)?;
    stage.write()?;
    stage.scene.holdfast.start().map(drop)
}

fn killed_while_writing(stage: &mut Stage<'_, '_>) -> Result<()> {
    let Stage { scene, writer } = stage;
    let api = &scene.api;
    std::thread::scope(|threads| -> Result<()> {
        let writing = threads.spawn(|| -> Result<()> {
            loop {
                let answers = writer.next_round().try_send(api)?;
                if answers.iter().any(|(status, _)| *status == 0) {
                    return Ok(());
                }
            }
        });
        std::thread::sleep(WRITING);
        api.signal(Signal::SIGKILL)?;
        writing.join().map_err(|_| anyhow!("the writer panicked"))?
    })?;
    stage.scene.api.kill()?;
    stage.dark()?;
    stage.restart()
}
