//! What outlives a cache, without a disk: for tests that start one anew thousands of times.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::memory::MemoryStore;
use super::state::State;
use super::{Cache, open};
use crate::config;

#[derive(Default)]
pub(crate) struct Disk(Arc<MemoryStore>);

impl Disk {
    /// A cache that knows what was committed here.
    pub(crate) fn open(&self) -> Arc<Cache> {
        let config = config::Cache {
            path: PathBuf::new(),
            max_bytes: 64 << 20,
            commit_interval: Duration::from_secs(1),
            secrets: config::Secrets::Memory,
            tail: None,
            max_age: Vec::new(),
        };
        let mut state = State::new(self.0.clone(), config.secrets, config.max_bytes);
        let damaged = open::load(&mut state, self.0.as_ref()).expect("memory");
        assert_eq!(damaged, 0, "what was written can be read");
        let opened = open::Opened {
            state,
            late: None,
            condition: None,
        };
        Cache::of(opened, &config)
    }
}
