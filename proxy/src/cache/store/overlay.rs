//! What the journal says of the tables, in memory: for each row that a commit changed, where its value is now.

use std::sync::Arc;

use rpds::RedBlackTreeMapSync;

use super::Table;
use super::journal::At;

/// Cheap to clone: a reader keeps the state that it began with.
#[derive(Clone, Default)]
pub(super) struct Overlay {
    tables: [RedBlackTreeMapSync<Arc<[u8]>, Option<At>>; Table::ALL.len()],
    rows: usize,
    /// The number of the last commit that it knows.
    pub(super) commit: u64,
}

impl Overlay {
    /// With nothing in the journal: the tables are all there is.
    pub(super) fn empty(commit: u64) -> Self {
        Self {
            commit,
            ..Self::default()
        }
    }

    /// `None`: as the table has it. `Some(None)`: the row was taken away.
    pub(super) fn get(&self, table: Table, key: &[u8]) -> Option<&Option<At>> {
        self.tables[table as usize].get(key)
    }

    pub(super) fn put(&mut self, table: Table, key: Vec<u8>, at: Option<At>) {
        let rows = &mut self.tables[table as usize];
        self.rows -= rows.size();
        rows.insert_mut(key.into(), at);
        self.rows += rows.size();
    }

    /// The row is as the table has it.
    pub(super) fn remove(&mut self, table: Table, key: &[u8]) {
        self.rows -= usize::from(self.tables[table as usize].remove_mut(key));
    }

    /// In key order.
    pub(super) fn of(&self, table: Table) -> impl Iterator<Item = (&[u8], Option<&At>)> {
        let rows = self.tables[table as usize].iter();
        rows.map(|(key, at)| (&key[..], at.as_ref()))
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }
}
