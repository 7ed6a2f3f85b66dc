//! Work that goes on beside what is measured.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use anyhow::{Result, bail};
use tokio_util::sync::CancellationToken;

use crate::bench::within::enter;

/// A thread in a network namespace that works until this is dropped.
pub(super) struct Background {
    stop: CancellationToken,
    thread: Option<JoinHandle<Result<()>>>,
}

/// What such threads did.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) done: AtomicU64,
    pub(super) failed: AtomicU64,
}

impl Background {
    pub(super) fn start<F>(netns: String, work: impl FnOnce() -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()>,
    {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            enter(&netns)?.block_on(async {
                stopped.run_until_cancelled(work()).await;
            });
            Ok(())
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }

    /// Stops it; whether it could begin.
    pub(super) fn end(mut self) -> Result<()> {
        self.join()
    }

    fn join(&mut self) -> Result<()> {
        self.stop.cancel();
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(ended)) => ended,
            Some(Err(_)) => bail!("a thread in the background panicked"),
            None => Ok(()),
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // Whoever wants to know how it ended has asked.
        let _ = self.join();
    }
}

impl Counts {
    pub(super) fn note<T>(&self, what: &Result<T>) {
        let counter = if what.is_ok() {
            &self.done
        } else {
            &self.failed
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn failed(&self) -> f64 {
        self.failed.load(Ordering::Relaxed) as f64
    }
}
