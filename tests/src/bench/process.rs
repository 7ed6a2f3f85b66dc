//! What the kernel and Holdfast's own metrics tell of its process.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::time::ClockId;
use nix::unistd::Pid;

use crate::Holdfast;

/// A field of `/proc/PID/status`, in bytes.
pub fn memory(pid: u32, field: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))
        .with_context(|| format!("no {field} of {pid}"))?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024)
}

/// Resident set size, in bytes.
pub fn rss(pid: u32) -> Result<u64> {
    memory(pid, "VmRSS")
}

/// The highest resident set size since [`forget_peak`], in bytes.
pub fn peak(pid: u32) -> Result<u64> {
    memory(pid, "VmHWM")
}

/// The high-water mark is the present size again (`man 5 proc`, `clear_refs`).
pub fn forget_peak(pid: u32) -> Result<()> {
    Ok(fs::write(format!("/proc/{pid}/clear_refs"), "5")?)
}

/// Bytes that the process caused to be sent to the storage layer.
pub fn written(pid: u32) -> Result<u64> {
    let io = fs::read_to_string(format!("/proc/{pid}/io"))?;
    let line = io
        .lines()
        .find_map(|line| line.strip_prefix("write_bytes: "));
    Ok(line.context("write_bytes")?.parse()?)
}

/// Seconds of CPU of all threads, ended ones too: what `/proc/PID/task/*/schedstat` adds up to, as the kernel adds it.
pub fn cpu(pid: u32) -> Result<f64> {
    let pid = Pid::from_raw(i32::try_from(pid)?);
    let spent = ClockId::pid_cpu_clock_id(pid)
        .and_then(ClockId::now)
        .with_context(|| format!("no CPU clock of {pid}"))?;
    Ok(Duration::from(spent).as_secs_f64())
}

/// Bytes of the link so far, both ways, as the network namespace of the calling thread sees it.
pub fn link() -> Result<u64> {
    let devices = fs::read_to_string("/proc/thread-self/net/dev")?;
    let line = devices
        .lines()
        .find_map(|line| line.trim().strip_prefix("eth0:"));
    let counters = line.context("no eth0")?;
    let counters = counters
        .split_whitespace()
        .map(str::parse)
        .collect::<Result<Vec<u64>, _>>()?;
    // `man 5 proc_pid_net`: eight columns of what was received, the first of them bytes, then those of what was sent.
    match counters.as_slice() {
        [received, _, _, _, _, _, _, _, sent, ..] => Ok(received + sent),
        _ => bail!("no counters of eth0: {counters:?}"),
    }
}

/// The sum of a metric over its labels; `None` if there is none of that name.
pub fn metric(holdfast: &Holdfast<'_>, name: &str) -> Result<Option<f64>> {
    let text = holdfast.admin("/metrics")?.expect(200)?.text();
    Ok(sum(&text, name))
}

fn sum(text: &str, name: &str) -> Option<f64> {
    let samples = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let value = match rest.strip_prefix('{') {
            Some(labels) => labels.rsplit_once("} ")?.1,
            None => rest.strip_prefix(' ')?,
        };
        value.split(' ').next()?.parse::<f64>().ok()
    });
    samples.reduce(|sum, value| sum + value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_the_sum_over_its_labels_and_of_no_longer_name() {
        let text = "# TYPE a counter\na_total{x=\"1\"} 2\na_total{x=\"}\"} 3.5\na_total_more 9\nb_total 4\n";
        assert_eq!(sum(text, "a_total"), Some(5.5));
        assert_eq!(sum(text, "b_total"), Some(4.0));
        assert_eq!(sum(text, "c_total"), None);
    }
}
