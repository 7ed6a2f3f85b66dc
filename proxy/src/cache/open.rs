//! Opens the store and reads what is known, whatever state the disk is in: the node starts anyway.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::key::{parse_fact_key, parse_member_key};
use super::memory::MemoryStore;
use super::record::{self, RecordError};
use super::state::State;
use super::store::{RedbStore, Store, StoreError, Table};
use super::{persist, unix_seconds};
use crate::config;
use crate::identity::IssuerKeys;

/// What is kept when memory is all there is.
const MAX_MEMORY_BYTES: u64 = 64 << 20;

pub(super) const ISSUER_KEYS: &[u8] = b"issuer-keys";

/// What was opened, and what is to be said about it.
pub(super) struct Opened {
    pub(super) state: State,
    pub(super) on_disk: bool,
    pub(super) condition: Option<String>,
}

pub(super) fn open(config: &config::Cache) -> Opened {
    let error = match open_disk(config) {
        Ok(state) => return disk(state, None),
        Err(error) => error,
    };
    if let StoreError::Damaged(_) = error {
        match set_aside(&config.path, SystemTime::now()) {
            Ok(aside) => {
                let condition = format!("{error}; it was set aside as {}", aside.display());
                tracing::warn!(path = %config.path.display(), "{condition}");
                return match open_disk(config) {
                    Ok(state) => disk(state, Some(condition)),
                    Err(error) => memory(config, &error),
                };
            }
            Err(failed) => return memory(config, &StoreError::Io(failed)),
        }
    }
    memory(config, &error)
}

fn disk(state: State, condition: Option<String>) -> Opened {
    Opened {
        state,
        on_disk: true,
        condition,
    }
}

fn memory(config: &config::Cache, error: &StoreError) -> Opened {
    let condition = format!(
        "{error}; what is learnt is kept in memory only, until {} can be used and Holdfast is started again",
        config.path.display()
    );
    tracing::warn!("{condition}");
    let max_bytes = config.max_bytes.min(MAX_MEMORY_BYTES);
    Opened {
        state: State::new(Arc::new(MemoryStore::default()), config.secrets, max_bytes),
        on_disk: false,
        condition: Some(condition),
    }
}

fn open_disk(config: &config::Cache) -> Result<State, StoreError> {
    let store = Arc::new(RedbStore::open(&config.path)?);
    let mut state = State::new(store.clone(), config.secrets, config.max_bytes);
    load(&mut state, store.as_ref())?;
    Ok(state)
}

/// Moves a file out of the way. One such file is kept, so that a disk that damages files is not filled with them.
fn set_aside(path: &Path, now: SystemTime) -> std::io::Result<PathBuf> {
    let with_suffix = |suffix: &str| -> OsString {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(suffix);
        name
    };
    let prefix = with_suffix(".damaged-");
    if let Some(folder) = path.parent() {
        for entry in std::fs::read_dir(folder)?.flatten() {
            if (entry.file_name().as_encoded_bytes()).starts_with(prefix.as_encoded_bytes()) {
                std::fs::remove_file(entry.path())?;
            }
        }
    }
    let aside = path.with_file_name(with_suffix(&format!(".damaged-{}", unix_seconds(now))));
    std::fs::rename(path, &aside)?;
    Ok(aside)
}

/// Reads all but the bytes of objects and responses.
fn load(state: &mut State, store: &dyn Store) -> Result<(), StoreError> {
    store.scan(Table::Facts, &mut |key, value| load_fact(state, key, value))?;
    store.scan(Table::Collections, &mut |key, value| {
        let id = key.try_into().map(u64::from_be_bytes);
        let id = id.map_err(|_| RecordError::Malformed("collection"))?;
        let collection = persist::restore_collection(record::decode("collection", value)?)
            .ok_or(RecordError::Malformed("collection"))?;
        state.collections.insert_as(id, collection);
        Ok(())
    })?;
    store.scan(Table::Members, &mut |key, value| {
        let (collection, id) = parse_member_key(key).ok_or(RecordError::Malformed("member"))?;
        let member = persist::restore_member(&record::decode("member", value)?);
        if let Some(collection) = state.collections.get_mut(collection) {
            collection.restore_member(id, member);
        }
        Ok(())
    })?;
    store.scan(Table::Grants, &mut |key, value| {
        let (caller, granted) = persist::restore_grant(record::decode("grant", key)?);
        let record: record::GrantRecord = record::decode("grant", value)?;
        state.grants.restore(caller, &granted, record.at);
        Ok(())
    })?;
    store.scan(Table::Responses, &mut |_, value| {
        let (key, fact) = persist::restore_response(record::decode("response", value)?);
        state.responses.insert(key, fact);
        Ok(())
    })?;
    store.scan(Table::Meta, &mut |key, value| {
        if key == ISSUER_KEYS {
            let record: record::IssuerKeysRecord = record::decode("issuer keys", value)?;
            state.issuer_keys = Some(IssuerKeys {
                issuer: record.issuer,
                jwks: record.jwks,
            });
        }
        Ok(())
    })
}

fn load_fact(state: &mut State, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
    let (resource, version, encoding, id) =
        parse_fact_key(key).ok_or(RecordError::Malformed("fact"))?;
    let record: record::FactRecord = record::decode("fact", value)?;
    let version = state.facts.word(version);
    let kind = state.facts.word(&record.kind);
    let fact = persist::restore_fact(record, version, encoding, kind);
    state.facts.upsert(&resource, &id, fact);
    Ok(())
}

impl From<RecordError> for StoreError {
    fn from(error: RecordError) -> Self {
        Self::Damaged(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(path: &Path) -> config::Cache {
        config::Cache {
            path: path.to_owned(),
            max_bytes: 1 << 20,
            commit_interval: std::time::Duration::from_secs(1),
            secrets: config::Secrets::Memory,
        }
    }

    fn aside(folder: &Path) -> Vec<String> {
        let names = std::fs::read_dir(folder).expect("a folder").flatten();
        names
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| name.contains(".damaged-"))
            .collect()
    }

    #[test]
    fn a_new_folder_is_made_and_the_file_is_its_owners() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("new/cache.redb");
        let opened = open(&config(&path));
        assert!(opened.on_disk && opened.condition.is_none());
        let mode = std::fs::metadata(&path)
            .expect("a file")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_is_no_store_is_set_aside_and_a_new_one_made() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("cache.redb");
        for rubbish in [&b"rubbish"[..], &[0; 8192], &[0xff; 100_000]] {
            std::fs::write(&path, rubbish).expect("written");
            let opened = open(&config(&path));
            assert!(opened.on_disk, "{:?}", opened.condition);
            assert!(opened.condition.expect("said so").contains("damaged-"));
            assert_eq!(aside(folder.path()).len(), 1);
        }
    }

    #[test]
    fn a_cut_file_is_set_aside() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("cache.redb");
        drop(open(&config(&path)));
        let whole = std::fs::read(&path).expect("a file");
        for len in [whole.len() / 2, 4096, 100, 1] {
            std::fs::write(&path, &whole[..len]).expect("written");
            let opened = open(&config(&path));
            assert!(opened.on_disk && opened.condition.is_some(), "{len}");
        }
    }

    #[test]
    fn a_path_that_cannot_be_used_leaves_the_cache_in_memory() {
        let folder = tempfile::tempdir().expect("a folder");
        let opened = open(&config(folder.path()));
        assert!(!opened.on_disk && opened.condition.is_some());
        let held = folder.path().join("cache.redb");
        let first = open(&config(&held));
        assert!(first.on_disk);
        let second = open(&config(&held));
        assert!(!second.on_disk, "another process has it");
        assert_eq!(aside(folder.path()).len(), 0);
    }
}
