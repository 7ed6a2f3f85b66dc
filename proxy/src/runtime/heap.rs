//! What was freed goes back to the kernel.
//!
//! glibc gives back what is free at the end of its heap (`glibc:malloc/malloc.c`, systrim), which one small object that stays there prevents: after
//! a long list, or an outage, half of the heap is free and resident. Asked for it, it gives back each free page (`malloc_trim(3)`).

use std::fs;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::blocking;

/// How often it is looked at. Giving back ten megabytes takes a millisecond or two, in which nobody can allocate.
const EVERY: Duration = Duration::from_secs(2);
/// So much more than there was after the last time is worth it.
const WORTH_BYTES: usize = 1 << 20;

/// Gives back now and then, until `stop`.
pub(crate) async fn give_back(stop: CancellationToken) {
    stop.run_until_cancelled(async {
        let mut least = 0;
        loop {
            tokio::time::sleep(EVERY).await;
            let now = resident_bytes().unwrap_or_default();
            if !is_worth_it(now, least) {
                least = least.min(now);
                continue;
            }
            if blocking(trim).await.is_err() {
                return;
            }
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
        trim();
        let after = resident_bytes().expect("Linux tells");
        assert!(after + FREED < before, "{before} before, {after} after");
        assert_eq!(objects.len(), 2 * FREED / OBJECT / 9);
        assert!(!is_worth_it(after, after));
    }
}
