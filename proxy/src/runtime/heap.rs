//! What was freed goes back to the kernel.
//!
//! glibc gives back what is free at the end of its heap (`glibc:malloc/malloc.c`, systrim), which one small object that stays there prevents: after
//! a long list, or an outage, half of the heap is free and resident. Asked for it, it gives back each free page (`malloc_trim(3)`).

use std::fs;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::blocking;

/// How often it is looked at.
const EVERY: Duration = Duration::from_secs(2);
/// While memory is given back nobody can allocate, and each free page is gone through: as much of the time at most.
const SHARE: u32 = 100;
/// So much more than there was after the last time is worth it at once.
const WORTH_BYTES: usize = 1 << 20;
/// Without that, too: what was in use the last time, as in the middle of a list, and is free by now, is resident still. With nothing
/// to give back it takes some 0.1 ms.
const AT_LEAST_EVERY: Duration = Duration::from_secs(10);

/// Gives back now and then, until `stop`.
pub(crate) async fn give_back(stop: CancellationToken) {
    if !cfg!(target_env = "gnu") {
        return;
    }
    stop.run_until_cancelled(async {
        let (mut least, mut pause, mut last) = (0, EVERY, Instant::now());
        loop {
            tokio::time::sleep(pause).await;
            let now = resident_bytes().unwrap_or_default();
            if !is_worth_it(now, least) && last.elapsed() < AT_LEAST_EVERY {
                least = least.min(now);
                continue;
            }
            last = Instant::now();
            if blocking(trim).await.is_err() {
                return;
            }
            pause = EVERY.max(last.elapsed() * SHARE);
            least = resident_bytes().unwrap_or_default();
        }
    })
    .await;
}

/// `least`: what there was at the least since the last time.
fn is_worth_it(now: usize, least: usize) -> bool {
    now >= least + WORTH_BYTES
}

#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "no crate has this call in a safe form")]
fn trim() {
    // SAFETY: it takes a number and no pointer, may be called by any thread at any time (MT-Safe in its manual page), and what is
    // allocated stays where it is.
    unsafe { nix::libc::malloc_trim(0) };
}

/// musl gives back each group of objects when it is free.
#[cfg(not(target_env = "gnu"))]
fn trim() {}

/// Of this process. `None`: not on Linux, or without `/proc`.
pub(super) fn resident_bytes() -> Option<usize> {
    resident_in(&fs::read_to_string("/proc/self/status").ok()?)
}

/// `VmRSS:   1234 kB`. The sum of `/proc/self/statm` in pages would need the page size.
fn resident_in(status: &str) -> Option<usize> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resident_bytes_are_a_line_of_the_status() {
        let status = "Name:\tholdfast\nVmHWM:\t    2000 kB\nVmRSS:\t    1234 kB\n";
        assert_eq!(resident_in(status), Some(1234 * 1024));
        assert_eq!(resident_in("Name:\tholdfast\n"), None);
    }

    #[test]
    #[cfg(target_env = "gnu")]
    fn what_is_free_between_what_stays_is_given_back() {
        // Too small for mappings of their own, which go back by themselves.
        const OBJECT: usize = 16 * 1024;
        const FREED: usize = 64 << 20;
        let mut objects: Vec<Vec<u8>> = (0..2 * FREED / OBJECT).map(|_| vec![1; OBJECT]).collect();
        // One in nine stays, and keeps its page and the end of the heap.
        let mut number = 0;
        objects.retain(|_| {
            number += 1;
            number % 9 == 0
        });
        let before = resident_bytes().expect("Linux tells");
        assert!(is_worth_it(before, 0));
        // Other tests of this process take and free memory meanwhile.
        let after = (0..50).find_map(|_| {
            trim();
            let after = resident_bytes().expect("Linux tells");
            std::thread::sleep(Duration::from_millis(100));
            (after + FREED < before).then_some(after)
        });
        let after = after.expect("most of it is given back");
        assert_eq!(objects.len(), 2 * FREED / OBJECT / 9);
        assert!(!is_worth_it(after, after));
    }
}
