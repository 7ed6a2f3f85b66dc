//! What every module stands on: telemetry, metrics, task ownership, the heap.

pub(crate) mod heap;
pub mod latest;
pub mod metrics;
pub mod telemetry;

use std::future::Future;
use std::task::Poll;
use std::time::SystemTime;

use tokio::task::JoinError;
use tokio_util::task::TaskTracker;

/// hyper's executor: every task it starts belongs to the tracker that the drain waits for.
#[derive(Clone)]
pub struct Tasks(pub TaskTracker);

impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, task: F) {
        self.0.spawn(task);
    }
}

/// The time of day.
pub(crate) fn now() -> SystemTime {
    #[cfg(test)]
    if let Some(now) = crate::model::now() {
        return now;
    }
    SystemTime::now()
}

/// Lets the others who are ready have the thread once. `tokio::task::yield_now` comes back only when tokio looks for events, which on a
/// busy thread is dozens of turns later.
pub(crate) async fn next_turn() {
    let mut has_waited = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut has_waited, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Runs what may block on a thread where it may. An error: it panicked, or the runtime ends.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    // A history is the same each time only if none of it waits for another thread.
    #[cfg(test)]
    if crate::model::now().is_some() {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work).await
}
