//! What was learnt and is not on the disk yet, coalesced by key.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::later::{Lane, Later};
use super::store::Table;
use super::tail::Tail;

/// Unwritten bytes held at most. Past it (the disk is slower than the upstream, or gone) nothing more is learnt until a commit succeeds.
const MAX_UNWRITTEN_BYTES: usize = 64 << 20;
/// Unwritten bytes that are worth a commit before its time.
const EARLY_COMMIT_BYTES: usize = 4 << 20;
/// Bytes of objects that never go to the disk, such as Secrets.
pub(super) const MAX_VOLATILE_BYTES: usize = 32 << 20;
/// What a key and its tree node cost besides the value, about.
const ROW_OVERHEAD: usize = 96;

/// Rows to write: a value, or `None` to take the row away.
#[derive(Debug, Default)]
pub(super) struct Batch {
    tables: BTreeMap<Table, BTreeMap<Vec<u8>, Option<Bytes>>>,
    bytes: usize,
}

impl Batch {
    pub(super) fn of(&self, table: Table) -> impl Iterator<Item = (&[u8], &Option<Bytes>)> {
        let rows = self.tables.get(&table).into_iter().flatten();
        rows.map(|(key, value)| (key.as_slice(), value))
    }

    pub(super) fn get(&self, table: Table, key: &[u8]) -> Option<&Option<Bytes>> {
        self.tables.get(&table)?.get(key)
    }

    /// In memory, about.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn remove(&mut self, table: Table, key: &[u8]) {
        let removed = self
            .tables
            .get_mut(&table)
            .and_then(|rows| rows.remove(key));
        if let Some(removed) = removed {
            self.bytes -= cost(key.len(), &removed);
        }
    }

    /// Takes in what is newer.
    fn append(&mut self, newer: Self) {
        for (table, rows) in newer.tables {
            for (key, value) in rows {
                self.put(table, key, value);
            }
        }
    }

    pub(super) fn put(&mut self, table: Table, key: Vec<u8>, value: Option<Bytes>) {
        let key_len = key.len();
        self.bytes += cost(key_len, &value);
        let replaced = self.tables.entry(table).or_default().insert(key, value);
        if let Some(replaced) = replaced {
            self.bytes -= cost(key_len, &replaced);
        }
    }

    fn is_empty(&self) -> bool {
        self.tables.values().all(BTreeMap::is_empty)
    }
}

fn cost(key_len: usize, value: &Option<Bytes>) -> usize {
    key_len + value.as_ref().map_or(0, Bytes::len) + ROW_OVERHEAD
}

#[derive(Default)]
pub(super) struct Writes {
    pending: Batch,
    /// On its way to the disk, still read from here.
    committing: Option<Arc<Batch>>,
    later: Later,
    volatile: HashMap<Vec<u8>, Bytes>,
    volatile_bytes: usize,
    /// Where what waits here outlives the process, and the last frame there of what is on its way to the disk.
    tail: Option<Tail>,
    committing_until: u64,
}

impl Writes {
    pub(super) fn put(&mut self, table: Table, key: Vec<u8>, value: Option<Bytes>) {
        self.tail_row(table, &key, &value);
        self.later.overtake(table, &key);
        self.pending.put(table, key, value);
    }

    /// A row that may wait for longer than the next commit, together with what else is in its lane.
    pub(super) fn put_later(
        &mut self,
        lane: Lane,
        table: Table,
        key: Vec<u8>,
        value: Option<Bytes>,
    ) {
        self.tail_row(table, &key, &value);
        self.later.put(lane, (table, key, value), Instant::now());
    }

    fn tail_row(&mut self, table: Table, key: &[u8], value: &Option<Bytes>) {
        if let Some(tail) = &mut self.tail {
            tail.put(table, key, value.as_deref());
        }
    }

    /// What is in this lane is for the next commit.
    pub(super) fn hurry(&mut self, lane: Lane) {
        self.later.hurry(lane);
    }

    /// Everything is for the next commit.
    pub(super) fn hurry_all(&mut self) {
        self.later.hurry_all();
    }

    /// What waits, and what is put from now on, is kept in this tail, too. No commit may run.
    pub(super) fn follow(&mut self, mut tail: Tail) {
        for table in Table::ALL {
            for (key, value) in self.pending.of(table) {
                tail.put(table, key, value.as_deref());
            }
        }
        for (table, key, value) in self.later.rows() {
            tail.put(table, key, value.as_deref());
        }
        self.tail = Some(tail);
    }

    pub(super) fn take_tail(&mut self) -> Option<Tail> {
        self.tail.take()
    }

    /// All of one change was put: a kill takes it no more.
    pub(super) fn flush(&mut self) {
        if let Some(tail) = &mut self.tail {
            tail.flush();
        }
    }

    /// An object that must not reach the disk, or `None` to forget it.
    pub(super) fn put_volatile(&mut self, key: Vec<u8>, value: Option<Bytes>) {
        let replaced = match value {
            Some(value) => {
                self.volatile_bytes += value.len();
                self.volatile.insert(key, value)
            }
            None => self.volatile.remove(&key),
        };
        self.volatile_bytes -= replaced.map_or(0, |replaced| replaced.len());
    }

    /// Whether `more` bytes can still be taken in.
    pub(super) fn has_room(&self, more: usize, volatile: bool) -> bool {
        if volatile {
            self.volatile_bytes + more <= MAX_VOLATILE_BYTES
        } else {
            self.bytes() + more <= MAX_UNWRITTEN_BYTES
        }
    }

    pub(super) fn volatile_bytes(&self) -> usize {
        self.volatile_bytes
    }

    pub(super) fn is_urgent(&self) -> bool {
        self.pending.bytes >= EARLY_COMMIT_BYTES
    }

    fn bytes(&self) -> usize {
        let committing = self.committing.as_ref().map_or(0, |batch| batch.bytes);
        self.pending.bytes + self.later.bytes() + committing
    }

    /// An object or body, if it is not (only) on the disk.
    pub(super) fn get(&self, table: Table, key: &[u8]) -> Option<Bytes> {
        if table == Table::Objects
            && let Some(object) = self.volatile.get(key)
        {
            return Some(object.clone());
        }
        let unwritten = self.later.get(table, key).or_else(|| {
            let committing = || self.committing.as_ref()?.get(table, key);
            self.pending.get(table, key).or_else(committing)
        });
        unwritten?.clone()
    }

    /// Takes what is to be written. One commit at a time: `None` while one runs, or when there is nothing.
    pub(super) fn begin_commit(&mut self) -> Option<Arc<Batch>> {
        if self.committing.is_some() {
            return None;
        }
        for due in self.later.due(Instant::now()) {
            self.pending.append(due);
        }
        if self.pending.is_empty() {
            return None;
        }
        if let Some(Ok((row, until))) = self.tail.as_mut().map(Tail::turn) {
            self.pending.put(Table::Meta, Tail::key(), Some(row));
            self.committing_until = until;
        }
        if let Some(tail) = &mut self.tail {
            // The commit ends what the tail holds until here, and what waits on is not in it.
            for (table, key, value) in self.later.rows() {
                tail.put(table, key, value.as_deref());
            }
        }
        let batch = Arc::new(std::mem::take(&mut self.pending));
        self.committing = Some(batch.clone());
        Some(batch)
    }

    #[cfg(test)]
    pub(super) fn into_batch(mut self) -> Arc<Batch> {
        let batch = self.begin_commit().unwrap_or_default();
        self.committed();
        batch
    }

    pub(super) fn committed(&mut self) {
        self.committing = None;
        if let Some(tail) = &mut self.tail {
            tail.committed(self.committing_until);
        }
    }

    /// What could not be written is kept for the next time, unless it was overwritten since.
    pub(super) fn commit_failed(&mut self) {
        let Some(batch) = self.committing.take() else {
            return;
        };
        // Repeated at each try, they would fill the tail.
        self.later.hurry_all();
        for table in Table::ALL {
            for (key, value) in batch.of(table) {
                if self.pending.get(table, key).is_none() {
                    self.pending.put(table, key.to_vec(), value.clone());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(writes: &mut Writes, key: &str, value: &'static str) {
        let value = Some(Bytes::from_static(value.as_bytes()));
        writes.put(Table::Objects, key.into(), value);
    }

    fn get(writes: &Writes, key: &str) -> Option<Bytes> {
        writes.get(Table::Objects, key.as_bytes())
    }

    #[test]
    fn what_is_on_its_way_to_the_disk_can_still_be_read() {
        let mut writes = Writes::default();
        put(&mut writes, "a", "1");
        let batch = writes.begin_commit().expect("something to write");
        assert_eq!(batch.of(Table::Objects).count(), 1);
        assert_eq!(get(&writes, "a"), Some("1".into()));
        put(&mut writes, "a", "2");
        assert!(writes.begin_commit().is_none(), "one at a time");
        assert_eq!(get(&writes, "a"), Some("2".into()));
        writes.committed();
        assert_eq!(get(&writes, "a"), Some("2".into()));
    }

    #[test]
    fn a_failed_commit_is_tried_again_without_undoing_what_came_after() {
        let mut writes = Writes::default();
        put(&mut writes, "a", "1");
        put(&mut writes, "b", "1");
        writes.begin_commit().expect("something to write");
        put(&mut writes, "a", "2");
        writes.commit_failed();
        assert_eq!(get(&writes, "a"), Some("2".into()));
        assert_eq!(get(&writes, "b"), Some("1".into()));
        let again = writes.begin_commit().expect("something to write");
        assert_eq!(again.of(Table::Objects).count(), 2);
    }

    #[test]
    fn writes_of_one_key_are_one() {
        let mut writes = Writes::default();
        for _ in 0..100 {
            put(&mut writes, "a", "1");
        }
        assert_eq!(writes.bytes(), 1 + 1 + ROW_OVERHEAD);
        assert!(writes.has_room(MAX_UNWRITTEN_BYTES - 200, false));
        assert!(!writes.has_room(MAX_UNWRITTEN_BYTES, false));
    }

    #[test]
    fn what_must_not_reach_the_disk_is_in_no_batch() {
        let mut writes = Writes::default();
        writes.put_volatile(b"s".to_vec(), Some("secret".into()));
        assert_eq!(get(&writes, "s"), Some("secret".into()));
        assert!(writes.begin_commit().is_none());
        writes.put_volatile(b"s".to_vec(), None);
        assert_eq!((get(&writes, "s"), writes.volatile_bytes), (None, 0));
    }
}
