//! A thread in a network namespace of the harness: what it dials and binds is the node's, or the control plane's.

use std::fs::File;
use std::path::Path;
use std::thread;

use anyhow::{Context, Result, anyhow};
use nix::sched::{CloneFlags, setns};
use tokio::runtime::{Builder, Runtime};

/// Runs `work` on a thread of its own in the namespace, on a runtime of that thread alone, to its end.
pub fn within<T, F>(netns: &str, work: impl FnOnce() -> F + Send) -> Result<T>
where
    T: Send,
    F: Future<Output = Result<T>>,
{
    thread::scope(|scope| {
        let thread = scope.spawn(|| enter(netns)?.block_on(work()));
        thread
            .join()
            .unwrap_or_else(|_| Err(anyhow!("a thread in {netns} panicked")))
    })
}

/// Moves the calling thread into the namespace, and gives it a runtime there. Threads that it starts are there, too.
pub(super) fn enter(netns: &str) -> Result<Runtime> {
    let path = Path::new("/run/netns").join(netns);
    let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
    setns(file, CloneFlags::CLONE_NEWNET).with_context(|| format!("cannot enter {netns}"))?;
    Ok(Builder::new_current_thread().enable_all().build()?)
}
