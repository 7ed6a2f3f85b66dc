//! What is compared: the API server itself and the proxies in front of it, each with the same client.

use std::time::Instant;

use anyhow::{Context, Result};

use super::client::Client;
use super::{Report, Rig, Row, process};

pub const DIRECT: &str = "direct";
pub const NGINX: &str = "nginx";
pub const HOLDFAST: &str = "holdfast";
pub const OTHER: &str = "other";

/// Whom a client dials, and which processes its requests cost CPU and memory.
pub struct Arm {
    pub client: Client,
    /// None of what is reached directly, or whose process is not known.
    pub pids: Vec<u32>,
}

impl Arm {
    /// Resident bytes of all its processes.
    pub fn rss(&self) -> Result<f64> {
        self.sum(|pid| Ok(process::rss(pid)? as f64))
    }

    /// The highest resident bytes since [`Arm::forget_peak`].
    pub fn peak(&self) -> Result<f64> {
        self.sum(|pid| Ok(process::peak(pid)? as f64))
    }

    pub fn forget_peak(&self) -> Result<()> {
        self.pids
            .iter()
            .try_for_each(|pid| process::forget_peak(*pid))
    }

    /// Begins to measure what it spends.
    pub fn meter(&self) -> Result<Meter<'_>> {
        Ok(Meter {
            arm: self,
            cpu: self.cpu()?,
            link: process::link()?,
            started: Instant::now(),
        })
    }

    fn cpu(&self) -> Result<f64> {
        self.sum(process::cpu)
    }

    /// NaN if no process is known.
    fn sum(&self, of: impl Fn(u32) -> Result<f64>) -> Result<f64> {
        if self.pids.is_empty() {
            return Ok(f64::NAN);
        }
        self.pids.iter().map(|pid| of(*pid)).sum()
    }
}

/// Runs between two readings; belongs on a thread in the node's network namespace, whose link it reads.
pub struct Meter<'a> {
    arm: &'a Arm,
    started: Instant,
    cpu: f64,
    link: u64,
}

/// What was spent between two readings.
#[derive(Clone, Copy, Debug)]
pub struct Spent {
    pub seconds: f64,
    /// Seconds of CPU of the arm's processes.
    pub cpu: f64,
    /// Bytes of the link between node and API server, both ways, all headers of all layers included.
    pub link: f64,
}

impl Meter<'_> {
    pub fn read(&self) -> Result<Spent> {
        Ok(Spent {
            seconds: self.started.elapsed().as_secs_f64(),
            cpu: self.arm.cpu()? - self.cpu,
            link: (process::link()? - self.link) as f64,
        })
    }
}

/// What was taken of each arm, once in each repeat.
pub struct Taken<T> {
    arms: Vec<(&'static str, Vec<T>)>,
}

/// Takes a figure of one arm after the other, `rig.repeats` times, every other time in the opposite order: what drifts
/// while it lasts is spread over all of them. What the other proxy can not do is said, and costs nobody else's figures.
pub fn in_turn<T>(
    rig: &mut Rig<'_>,
    mut take: impl FnMut(&mut Rig<'_>, &'static str) -> Result<T>,
) -> Result<Taken<T>> {
    let mut arms: Vec<(&'static str, Vec<T>)> = rig
        .arms()
        .into_iter()
        .map(|arm| (arm, Vec::new()))
        .collect();
    for repeat in 0..rig.repeats {
        let mut failed = false;
        let mut one = |(arm, taken): &mut (&'static str, Vec<T>)| {
            match take(rig, arm).with_context(|| format!("of {arm}")) {
                Ok(one) => taken.push(one),
                Err(error) if *arm == OTHER => {
                    eprintln!("left out: {error:#}");
                    failed = true;
                }
                Err(error) => return Err(error),
            }
            anyhow::Ok(())
        };
        if repeat % 2 == 0 {
            arms.iter_mut().try_for_each(&mut one)?;
        } else {
            arms.iter_mut().rev().try_for_each(&mut one)?;
        }
        if failed {
            arms.retain(|(arm, _)| *arm != OTHER);
        }
    }
    Ok(Taken { arms })
}

impl<T> Taken<T> {
    /// A row for each arm.
    pub fn each(
        &self,
        report: &mut Report,
        (what, unit, aim): (&str, &'static str, &'static str),
        value: impl Fn(&T) -> f64,
    ) {
        for (arm, taken) in &self.arms {
            let values = taken.iter().map(&value).collect();
            add(report, arm, (what, unit, aim), values);
        }
    }

    /// A row for each proxy; `value` is given what was taken of the proxy, and of the API server itself in the same repeat.
    pub fn proxies(
        &self,
        report: &mut Report,
        (what, unit, aim): (&str, &'static str, &'static str),
        value: impl Fn(&T, &T) -> f64,
    ) {
        let Some(((_, direct), proxies)) = self.arms.split_first() else {
            return;
        };
        for (arm, taken) in proxies {
            let values = taken.iter().zip(direct);
            let values = values.map(|(taken, direct)| value(taken, direct)).collect();
            add(report, arm, (what, unit, aim), values);
        }
    }

    /// What was taken, arm by arm.
    pub fn arms(&self) -> impl Iterator<Item = (&'static str, &[T])> {
        self.arms
            .iter()
            .map(|(arm, taken)| (*arm, taken.as_slice()))
    }
}

fn add(
    report: &mut Report,
    arm: &'static str,
    (what, unit, aim): (&str, &'static str, &'static str),
    values: Vec<f64>,
) {
    // Of a process that is not known nothing was measured.
    if values.iter().all(|value| value.is_nan()) {
        return;
    }
    report.add(Row {
        what: what.to_owned(),
        arm,
        unit,
        values,
        aim: if arm == HOLDFAST { aim } else { "" },
    });
}
