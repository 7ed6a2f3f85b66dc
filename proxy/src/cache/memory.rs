//! A store that is gone with the process: for a node whose disk cannot be used.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::store::{Each, Snapshot, Store, StoreError, Table};
use super::writes::Batch;

type Rows = BTreeMap<(Table, Vec<u8>), Bytes>;

#[derive(Default)]
pub(super) struct MemoryStore {
    rows: Arc<Mutex<Rows>>,
}

/// Sees later commits: what they take away is missed by a reader that is slower than them, and its answer breaks off.
struct MemorySnapshot {
    rows: Arc<Mutex<Rows>>,
}

impl Store for MemoryStore {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        Ok(Box::new(MemorySnapshot {
            rows: self.rows.clone(),
        }))
    }

    fn scan(&self, table: Table, each: &mut Each<'_>) -> Result<(), StoreError> {
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        rows.iter()
            .filter(|((of, _), _)| *of == table)
            .try_for_each(|((_, key), value)| each(key, value))
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
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
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(rows.get(&(table, key.to_vec())).cloned())
    }
}
