//! Opens the store and reads what is known, whatever state the disk is in: the node starts anyway.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::evict::Pool;
use super::key::{GroupResource, parse_fact_key, parse_member_key};
use super::late_disk::LateDisk;
use super::least::Least;
use super::memory::MemoryStore;
use super::record::{self, RecordError};
use super::state::State;
use super::store::{RedbStore, Store, StoreError, Table};
use super::tail::{self, Tail};
use super::{aside, persist, unix_seconds};
use crate::config;
use crate::identity::IssuerKeys;

/// What is kept when memory is all there is.
const MAX_MEMORY_BYTES: u64 = 64 << 20;
/// A process that is being replaced lets go of the store when it has written its last; longer than this nobody should wait to be served.
const MAX_WAIT_FOR_STORE: Duration = Duration::from_secs(1);

pub(super) const ISSUER_KEYS: &[u8] = b"issuer-keys";
/// There while the uplink is down.
pub(super) const DARK: &[u8] = b"dark";
/// Begins the keys of the columns of resources.
pub(super) const COLUMNS: &[u8] = b"columns\0";

/// What was opened, and what is to be said about it.
pub(super) struct Opened {
    pub(super) state: State,
    /// The disk, if it cannot be used yet.
    pub(super) late: Option<LateDisk>,
    pub(super) condition: Option<String>,
}

pub(super) fn open(config: &config::Cache) -> Opened {
    let path = config.path.clone();
    let open_store: Arc<OpenStore> = Arc::new(move || RedbStore::open(&path));
    open_by(config, &open_store)
}

/// With a store opened in one's own way, so that faults can be injected.
pub(super) fn open_by(config: &config::Cache, open_store: &Arc<OpenStore>) -> Opened {
    let started = Instant::now();
    let opened = loop {
        match open_once(config, open_store.as_ref()) {
            Err(StoreError::InUse) if started.elapsed() < MAX_WAIT_FOR_STORE => {
                std::thread::sleep(Duration::from_millis(20));
            }
            opened => break opened,
        }
    };
    let opened = opened.unwrap_or_else(|error| in_memory(config, open_store, &error));
    if let Some(condition) = &opened.condition {
        tracing::warn!(path = %config.path.display(), "{condition}");
    }
    opened
}

/// What is damaged is set aside, and a new one made.
pub(super) fn open_once(
    config: &config::Cache,
    open_store: &OpenStore,
) -> Result<Opened, StoreError> {
    match open_disk(config, open_store) {
        Err(error) if error.is_of_the_file() && !config.path.exists() => {
            open_disk(config, open_store)
        }
        opened => opened,
    }
}

fn in_memory(config: &config::Cache, open_store: &Arc<OpenStore>, error: &StoreError) -> Opened {
    let max_bytes = config.max_bytes.min(MAX_MEMORY_BYTES);
    Opened {
        state: State::new(Arc::new(MemoryStore::default()), config.secrets, max_bytes),
        late: Some(LateDisk::new(config, open_store, error)),
        condition: Some(in_memory_only(error)),
    }
}

/// What is said while the disk cannot be used.
pub(super) fn in_memory_only(error: &StoreError) -> String {
    format!("{error}; what is learnt is kept in memory only, until the disk can be used")
}

pub(super) type OpenStore = dyn Fn() -> Result<RedbStore, StoreError> + Send + Sync;

fn open_disk(config: &config::Cache, open_store: &OpenStore) -> Result<Opened, StoreError> {
    let store = Arc::new(open_store()?);
    let mut state = State::new(store.clone(), config.secrets, config.max_bytes);
    let opened = config.tail.as_deref().map(|path| {
        // Before anything is read: what a kill left in it belongs to what is known.
        Tail::open(path, store.as_ref())
    });
    let loaded = load(&mut state, store.as_ref());
    if let Err(StoreError::Damaged(_)) = &loaded {
        aside::set_aside(&config.path);
    }
    let damaged = loaded?;
    let mut conditions: Vec<String> = aside::existing(&config.path)
        .iter()
        .map(|aside| format!("a damaged store was set aside as {}", aside.display()))
        .collect();
    if damaged > 0 {
        conditions.push(format!("{damaged} damaged records were left out"));
    }
    match opened {
        Some(Ok((tail, replayed))) => {
            state.writes.follow(tail);
            if replayed > 0 {
                tracing::info!(
                    changes = replayed,
                    "what the store lacked after a kill was in its tail"
                );
            }
        }
        Some(Err(error)) => {
            tail::disown(store.as_ref(), &mut state.writes);
            conditions.push(format!(
                "there is no tail: {error}; after a kill a client may be told what is older than it has seen"
            ));
        }
        None => tail::disown(store.as_ref(), &mut state.writes),
    }
    Ok(Opened {
        state,
        late: None,
        condition: (!conditions.is_empty()).then(|| conditions.join("; ")),
    })
}

type LoadRecord<'l> = dyn FnMut(&[u8], &[u8]) -> Result<(), RecordError> + 'l;

/// Reads all but the bytes of objects and responses; says how many records are damaged. What hung on those is not known any more.
pub(super) fn load(state: &mut State, store: &dyn Store) -> Result<usize, StoreError> {
    let mut damaged = 0;
    let mut scan = |table, each: &mut LoadRecord<'_>| {
        store.scan(table, &mut |key, value| match each(key, value) {
            Ok(()) => Ok(()),
            Err(RecordError::Malformed(_)) => {
                damaged += 1;
                Ok(())
            }
            Err(unknown @ RecordError::UnknownVersion(_)) => {
                Err(StoreError::Damaged(unknown.to_string()))
            }
        })
    };
    scan(Table::Facts, &mut |key, value| load_fact(state, key, value))?;
    let mut expected = HashMap::new();
    scan(Table::Collections, &mut |key, value| {
        load_collection(state, &mut expected, key, value)
    })?;
    scan(Table::Members, &mut |key, value| {
        load_member(state, key, value)
    })?;
    scan(Table::Grants, &mut |key, value| {
        let record: record::GrantRecord = record::decode("grant", key, value)?;
        let (caller, granted) = persist::restore_grant(record::decode("grant", b"", key)?);
        (state.grants).restore(caller, &granted, persist::restore_grant_value(record));
        Ok(())
    })?;
    scan(Table::Responses, &mut |key, value| {
        let (key, fact) = persist::restore_response(record::decode("response", key, value)?);
        state.responses.insert(key, fact);
        Ok(())
    })?;
    scan(Table::Meta, &mut |key, value| {
        if key == ISSUER_KEYS {
            let record: record::IssuerKeysRecord = record::decode("issuer keys", key, value)?;
            state.issuer_keys = Some(IssuerKeys {
                issuer: record.issuer,
                jwks: record.jwks,
            });
        } else if key == DARK {
            let _: record::DarkRecord = record::decode("dark", key, value)?;
            state.dark = true;
        } else if key.starts_with(COLUMNS) {
            let record: record::ColumnsRecord = record::decode("columns", key, value)?;
            let (resource, columns) = persist::restore_columns(record);
            state.columns.insert(&resource, &columns);
        }
        for of_what in [Least::Any, Least::Lists] {
            if let Some(of) = key.strip_prefix(of_what.prefix()) {
                let record: record::LeastRecord = record::decode("least RV", key, value)?;
                let (caller, of) = persist::restore_grant(record::decode("least RV", b"", of)?);
                state.restore_least(of_what, &caller, of, record.resource_version);
            }
        }
        Ok(())
    })?;
    give_up_unsound(state, &expected);
    for (resource, id) in state.facts.with_history() {
        state.prune(&resource, &id, 0);
    }
    // It may be told to hold less than before.
    state.make_room(Pool::All, 0, unix_seconds(SystemTime::now()));
    Ok(damaged)
}

/// A collection that lost a member, or a member's fact, is not complete.
fn give_up_unsound(state: &mut State, expected: &HashMap<u64, u64>) {
    let mut resources = Vec::new();
    let mut short = Vec::new();
    for (id, collection) in state.collections.all() {
        resources.push(GroupResource::of(&collection.scope.resource));
        if expected.get(&id) != Some(&(collection.members().len() as u64)) {
            short.push(id);
        }
    }
    short.into_iter().for_each(|id| state.give_up(id));
    resources.sort();
    resources.dedup();
    resources
        .iter()
        .for_each(|resource| state.give_up_unsound(resource));
}

fn load_fact(state: &mut State, key: &[u8], value: &[u8]) -> Result<(), RecordError> {
    let record: record::FactRecord = record::decode("fact", key, value)?;
    let (resource, (version, form, _), id) =
        parse_fact_key(key).ok_or(RecordError::Malformed("fact"))?;
    let version = state.facts.word(version);
    let kind = state.facts.word(&record.kind);
    let traits = (state.facts).traits(texts(&record.labels), texts(&record.fields));
    let fact = persist::restore_fact(record, version, form, kind, traits);
    state.facts.insert(&resource, id, fact);
    Ok(())
}

fn texts(pairs: &[(String, String)]) -> impl Iterator<Item = (&str, &str)> {
    pairs
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
}

fn load_collection(
    state: &mut State,
    expected: &mut HashMap<u64, u64>,
    key: &[u8],
    value: &[u8],
) -> Result<(), RecordError> {
    let malformed = RecordError::Malformed("collection");
    let record: record::CollectionRecord = record::decode("collection", key, value)?;
    let Ok(id) = key.try_into().map(u64::from_be_bytes) else {
        return Err(malformed);
    };
    expected.insert(id, record.members);
    let collection = persist::restore_collection(record).ok_or(malformed)?;
    state.collections.insert_as(id, collection);
    Ok(())
}

fn load_member(state: &mut State, key: &[u8], value: &[u8]) -> Result<(), RecordError> {
    let member = persist::restore_member(&record::decode("member", key, value)?);
    let (collection, id) = parse_member_key(key).ok_or(RecordError::Malformed("member"))?;
    if let Some(collection) = state.collections.get_mut(collection) {
        collection.restore_member(id, member);
    }
    Ok(())
}

impl From<RecordError> for StoreError {
    fn from(error: RecordError) -> Self {
        Self::Damaged(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn config(path: &Path) -> config::Cache {
        config::Cache {
            path: path.to_owned(),
            max_bytes: 1 << 20,
            commit_interval: std::time::Duration::from_secs(1),
            secrets: config::Secrets::Memory,
            max_age: Vec::new(),
            tail: None,
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
        assert!(opened.late.is_none() && opened.condition.is_none());
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
            assert!(opened.late.is_none(), "{:?}", opened.condition);
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
            assert!(opened.late.is_none() && opened.condition.is_some(), "{len}");
        }
    }

    #[test]
    fn a_path_that_cannot_be_used_leaves_the_cache_in_memory() {
        let folder = tempfile::tempdir().expect("a folder");
        let opened = open(&config(folder.path()));
        assert!(opened.late.is_some() && opened.condition.is_some());
        let held = folder.path().join("cache.redb");
        let first = open(&config(&held));
        assert!(first.late.is_none());
        let second = open(&config(&held));
        assert!(second.late.is_some(), "another process has it");
        assert_eq!(aside(folder.path()).len(), 0);
    }
}
