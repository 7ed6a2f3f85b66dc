//! Time of the program for each connect() of a pod, as the kernel counts it (`kernel.bpf_stats_enabled`): what the program
//! runs, and the two readings of the clock around it. The pod connects in a loop, so the program and its maps are in the CPU's
//! caches.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::bench::pods::NAMESPACE;
use crate::bench::{Report, Rig, Row};
use crate::node::VIP;
use crate::process::output;
use crate::{Pod, eventually};

const SCRIPT: &str = include_str!("connects.py");
const STATS: &str = "/proc/sys/kernel/bpf_stats_enabled";
/// `BPF_PROG_TYPE_CGROUP_SOCK_ADDR` of `include/uapi/linux/bpf.h`.
const SOCK_ADDR: &str = "18";
/// A listener is bound as soon as the pod is seen.
const LISTENS_WITHIN: Duration = Duration::from_secs(20);
/// Nothing else connects meanwhile: the pod and its cgroup are the bench's own.
const CONNECTS: [Connects; 3] = [
    Connects {
        what: "a destination that is none of ours",
        words: ["tcp", "10.96.0.10", "443", "20000"],
        aim: "100",
    },
    Connects {
        what: "a redirected one",
        words: ["tcp", VIP, "443", "5000"],
        aim: "2000",
    },
    Connects {
        what: "a UDP socket, which is never ours",
        words: ["udp", "10.96.0.10", "53", "20000"],
        aim: "",
    },
];

struct Connects {
    what: &'static str,
    words: [&'static str; 4],
    aim: &'static str,
}

pub(super) fn run(rig: &mut Rig<'_>, report: &mut Report) -> Result<()> {
    rig.real()?;
    rig.fresh()?;
    let admitted = rig.api.admit(NAMESPACE, "connects", "reader")?;
    let pod = Pod::start(rig.node, &admitted)?;
    eventually("the pod's listener", LISTENS_WITHIN, || {
        pod.run(pod.get("/version"))?.expect(200)
    })?;
    let _counting = Statistics::enable()?;
    for connects in CONNECTS {
        let mut values = Vec::new();
        for _ in 0..rig.repeats {
            values.push(once(rig, &pod, &connects)?);
        }
        report.add(Row {
            what: format!("connect4, {}", connects.what),
            arm: "holdfast",
            unit: "ns",
            values,
            aim: connects.aim,
        });
    }
    Ok(())
}

/// Nanoseconds of the program for one connect().
fn once(rig: &Rig<'_>, pod: &Pod<'_>, connects: &Connects) -> Result<f64> {
    let pid = rig.pid()?;
    let count: u64 = connects.words[3].parse()?;
    let before = programs(pid)?;
    let words = ["-c", SCRIPT].into_iter().chain(connects.words);
    output(&mut pod.command("python3", words))?;
    let after = programs(pid)?;
    let mut ran = after.iter().filter_map(|(id, after)| {
        let before = before.get(id)?;
        let runs = after.runs - before.runs;
        (runs > 0).then_some((after.nanoseconds - before.nanoseconds, runs))
    });
    let (nanoseconds, runs) = ran.next().context("no program ran")?;
    ensure!(
        ran.next().is_none() && runs == count,
        "{runs} runs of {count} connects, or of another program, too"
    );
    Ok(nanoseconds as f64 / runs as f64)
}

/// What one program ran since the kernel counts.
struct Ran {
    nanoseconds: u64,
    runs: u64,
}

/// The programs of this kind that a process holds, by their number.
fn programs(pid: u32) -> Result<BTreeMap<u64, Ran>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        // A descriptor that was closed meanwhile is none of a program.
        let text = fs::read_to_string(entry?.path()).unwrap_or_default();
        let field = |name: &str| {
            let mut lines = text.lines();
            lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"))
        };
        if field("prog_type") != Some(SOCK_ADDR) {
            continue;
        }
        let number = |name: &str| -> Result<u64> { Ok(field(name).context("a count")?.parse()?) };
        let ran = Ran {
            nanoseconds: number("run_time_ns")?,
            runs: number("run_cnt")?,
        };
        found.insert(number("prog_id")?, ran);
    }
    ensure!(!found.is_empty(), "{pid} holds no such program");
    Ok(found)
}

/// The kernel counts, and the setting of before is put back when this is dropped.
struct Statistics {
    before: String,
}

impl Statistics {
    fn enable() -> Result<Self> {
        let before = fs::read_to_string(STATS)?;
        fs::write(STATS, "1").context("cannot switch BPF statistics on")?;
        Ok(Self { before })
    }
}

impl Drop for Statistics {
    fn drop(&mut self) {
        // There is nobody to tell.
        let _ = fs::write(STATS, &self.before);
    }
}
