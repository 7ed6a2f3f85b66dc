//! The latest value of something, for those who wait for the next.
//!
//! Unlike tokio's `watch` it wakes in the order of waiting, so that a history of the model test is the same each time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Told to every [`Follower`]; each hears of the latest value, not of all of them.
pub struct Latest<T>(Arc<Shared<T>>);

struct Shared<T> {
    inner: Mutex<Inner<T>>,
    changed: Notify,
}

struct Inner<T> {
    value: T,
    /// Counts the values.
    turn: u64,
}

impl<T: Copy + PartialEq> Latest<T> {
    pub fn new(value: T) -> Self {
        Self(Arc::new(Shared {
            inner: Mutex::new(Inner { value, turn: 0 }),
            changed: Notify::new(),
        }))
    }

    pub fn get(&self) -> T {
        self.0.lock().value
    }

    /// Whether it is another value than before.
    pub fn set(&self, value: T) -> bool {
        let mut inner = self.0.lock();
        if inner.value == value {
            return false;
        }
        inner.value = value;
        inner.turn += 1;
        drop(inner);
        self.0.changed.notify_waiters();
        true
    }

    pub fn follow(&self) -> Follower<T> {
        Follower {
            shared: self.0.clone(),
            seen: self.0.lock().turn,
        }
    }
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Has seen the value of when it was made.
pub struct Follower<T> {
    shared: Arc<Shared<T>>,
    seen: u64,
}

impl<T: Copy> Follower<T> {
    /// The latest value, which counts as seen from now on.
    pub fn get(&mut self) -> T {
        let inner = self.shared.lock();
        self.seen = inner.turn;
        inner.value
    }

    /// Ends when there is a value that was not seen, which counts as seen from then on. It may be dropped at any moment.
    pub async fn changed(&mut self) {
        loop {
            let mut changed = std::pin::pin!(self.shared.changed.notified());
            // Before looking: a value that is set from now on wakes.
            changed.as_mut().enable();
            let turn = self.shared.lock().turn;
            if turn != self.seen {
                self.seen = turn;
                return;
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn those_who_wait_are_woken_in_the_order_of_waiting() {
        let latest = Latest::new(0);
        let woken: Arc<Mutex<Vec<usize>>> = Arc::default();
        let waiting: Vec<_> = (0..20)
            .map(|n| {
                let (mut follower, woken) = (latest.follow(), woken.clone());
                tokio::spawn(async move {
                    follower.changed().await;
                    woken.lock().expect("a lock").push(n);
                })
            })
            .collect();
        tokio::task::yield_now().await;
        assert!(latest.set(1));
        for task in waiting {
            task.await.expect("it ends");
        }
        let expected: Vec<usize> = (0..20).collect();
        assert_eq!(*woken.lock().expect("a lock"), expected);
    }

    #[tokio::test]
    async fn only_a_value_that_is_another_and_was_not_seen_is_waited_for() {
        let latest = Latest::new(0);
        let mut follower = latest.follow();
        assert!(latest.set(1));
        follower.changed().await;
        assert_eq!(follower.get(), 1);
        assert!(!latest.set(1));
        assert!(latest.set(2));
        assert_eq!(follower.get(), 2);
        let again = tokio::time::timeout(std::time::Duration::from_millis(10), follower.changed());
        assert!(again.await.is_err(), "it was seen");
    }
}
