//! A store that is gone with the process: for a node whose disk cannot be used.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::store::{Each, Snapshot, Store, StoreError, Table};
use super::writes::Batch;

type Rows = BTreeMap<(Table, Vec<u8>), Bytes>;

#[derive(Default)]
pub(super) struct MemoryStore {
    /// Copied by a commit only while an answer reads the state before it.
    rows: Mutex<Arc<Rows>>,
}

struct MemorySnapshot {
    rows: Arc<Rows>,
}

impl MemoryStore {
    fn rows(&self) -> MutexGuard<'_, Arc<Rows>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        Ok(Box::new(MemorySnapshot {
            rows: self.rows().clone(),
        }))
    }

    fn scan(&self, table: Table, each: &mut Each<'_>) -> Result<(), StoreError> {
        let rows = self.rows().clone();
        rows.iter()
            .filter(|((of, _), _)| *of == table)
            .try_for_each(|((_, key), value)| each(key, value))
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut rows = self.rows();
        let rows = Arc::make_mut(&mut rows);
        for table in Table::ALL {
            for (key, value) in batch.of(table) {
                let key = (table, key.to_vec());
                match value {
                    Some(value) => drop(rows.insert(key, value.clone())),
                    None => drop(rows.remove(&key)),
                }
            }
        }
        Ok(())
    }
}

impl Snapshot for MemorySnapshot {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.rows.get(&(table, key.to_vec())).cloned())
    }
}

#[cfg(test)]
mod tests {
    use super::super::writes::Writes;
    use super::*;

    fn batch(value: Option<&'static str>) -> Arc<Batch> {
        let mut writes = Writes::default();
        writes.put(Table::Meta, b"key".to_vec(), value.map(Bytes::from));
        writes.into_batch()
    }

    #[test]
    fn what_is_being_read_is_not_changed_by_a_commit() {
        let store = MemoryStore::default();
        store.commit(&batch(Some("1"))).expect("memory");
        let before = store.snapshot().expect("memory");
        store.commit(&batch(None)).expect("memory");
        let after = store.snapshot().expect("memory");
        let get = |snapshot: &dyn Snapshot| snapshot.get(Table::Meta, b"key").expect("memory");
        assert_eq!(
            (get(before.as_ref()), get(after.as_ref())),
            (Some("1".into()), None)
        );
    }
}
