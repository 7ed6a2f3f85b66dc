//! What every module stands on: telemetry, metrics, task ownership.

pub mod metrics;
pub mod telemetry;

use std::future::Future;

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
