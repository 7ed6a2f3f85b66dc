//! Which cores run what: where there are enough, the proxies have two of their own, and clients and upstream the others.

use anyhow::Result;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// As many as the machines have that the project's aims are for.
const OF_PROXIES: usize = 2;
/// With fewer, clients and upstream would have less than the proxies between them.
const ENOUGH: usize = 4;

/// The cores that this process was started on, and how they are shared. A process runs where the thread that starts it does.
#[derive(Clone)]
pub struct Pinning {
    split: Option<(CpuSet, CpuSet)>,
}

impl Pinning {
    /// Puts the calling thread, and what it starts from now on, on the cores of clients and upstream.
    pub fn new() -> Result<Self> {
        let mine = sched_getaffinity(Pid::from_raw(0))?;
        let cores: Vec<usize> = (0..CpuSet::count())
            .filter(|core| mine.is_set(*core).unwrap_or_default())
            .collect();
        let split =
            split(&cores).map(|(proxies, others)| anyhow::Ok((set(proxies)?, set(others)?)));
        let pinning = Self {
            split: split.transpose()?,
        };
        if let Some((_, others)) = &pinning.split {
            sched_setaffinity(Pid::from_raw(0), others)?;
        }
        Ok(pinning)
    }

    /// Starts a proxy.
    pub fn proxy<T>(&self, start: impl FnOnce() -> Result<T>) -> Result<T> {
        let Some((proxies, others)) = &self.split else {
            return start();
        };
        sched_setaffinity(Pid::from_raw(0), proxies)?;
        let started = start();
        sched_setaffinity(Pid::from_raw(0), others)?;
        started
    }

    /// For the line that says where figures are from.
    pub fn said(&self) -> &'static str {
        match self.split {
            Some(_) => "proxies on two cores, clients and upstream on the others",
            None => "proxies, clients and upstream on the same cores",
        }
    }
}

/// The cores of the proxies, and the others.
fn split(cores: &[usize]) -> Option<(&[usize], &[usize])> {
    (cores.len() >= ENOUGH).then(|| cores.split_at(OF_PROXIES))
}

fn set(cores: &[usize]) -> Result<CpuSet> {
    let mut set = CpuSet::new();
    for core in cores {
        set.set(*core)?;
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proxies_have_two_cores_of_their_own_where_there_are_four() {
        assert_eq!(split(&[0, 1, 2]), None);
        assert_eq!(split(&[1, 2, 3, 5]), Some((&[1, 2][..], &[3, 5][..])));
    }
}
