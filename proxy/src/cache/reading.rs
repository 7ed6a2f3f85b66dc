//! A collection on its way out of the store: read in batches, as fast as its client takes them and no faster.
//!
//! Between two batches nothing is held, neither bytes nor a state of the store (which could reuse no page meanwhile): a
//! client that opens many streams and reads none costs a cursor each. So each batch makes sure that the collection is as
//! it was when the answer began; if it is not, the answer breaks off, and is not taken for whole.

use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::Shared;
use super::answer::{read_failed, snapshot};
use super::changes::Changes;
use super::collection::{Collection, Member};
use super::deletions::Deletion;
use super::facts::Fact;
use super::form::Form;
use super::key::{GroupResource, ObjectId};
use super::last::Last;
use super::narrowing::Narrowing;
use super::object::Stored;
use super::rendering::Rendering;
use super::state::State;
use super::store::Snapshot;
use super::wire::EventType;
use crate::policy::Reason;
use crate::request_info::GroupVersionResource;
use crate::runtime::blocking;

/// Enough that the way to the disk's thread is worth it, little enough that a held stream costs about as much as its connection.
pub(super) const BATCH_BYTES: usize = 32 << 10;
/// Of small objects; the lock is held for as many look-ups.
pub(super) const BATCH_OBJECTS: usize = 64;
/// Batches read at the same time, by all clients: each has a thread and its bytes in memory.
pub(super) const AT_ONCE: usize = 8;

/// What is read: the part of a collection that is asked for, as it was at an RV.
#[derive(Clone)]
pub(super) struct Part {
    pub(super) collection: u64,
    pub(super) narrowing: Narrowing,
    pub(super) resource_version: u64,
    pub(super) resource: GroupVersionResource,
    /// Of the collection's objects.
    pub(super) form: Form,
    pub(super) rendering: Rendering,
}

/// How far the reading is.
#[derive(Clone)]
pub(super) enum Cursor {
    /// Members in list order; the last one that was read.
    Members(Option<ObjectId>),
    /// Changes in the order of their RVs, until that of the collection at the end of the reading.
    Changes(Changes),
}

/// One object that was read.
pub(super) struct Event {
    pub(super) kind: EventType,
    pub(super) object: Bytes,
}

/// Blocks on the disk: see [`Pulled`].
pub(super) struct Reading {
    shared: Arc<Shared>,
    part: Part,
    cursor: Cursor,
    /// With TypeMeta or envelope, as events show it.
    whole: bool,
    is_first: bool,
    ready: VecDeque<Event>,
    reached: Arc<AtomicU64>,
}

impl Reading {
    pub(super) fn new(shared: Arc<Shared>, part: Part, cursor: Cursor, whole: bool) -> Self {
        let reached = Arc::new(AtomicU64::new(part.resource_version));
        Self {
            shared,
            part,
            cursor,
            whole,
            is_first: true,
            ready: VecDeque::new(),
            reached,
        }
    }

    fn read_batch(&mut self) -> Result<(), Reason> {
        let (batch, snapshot) = {
            let state = self.shared.lock();
            let batch = match &mut self.cursor {
                Cursor::Members(last) => {
                    let collection = self.part.find(&state)?;
                    self.part.members(&state, collection, last)?
                }
                Cursor::Changes(changes) => {
                    let collection = self.part.complete(&state)?;
                    let batch = self.part.changes(&state, collection, changes)?;
                    self.reached.store(changes.reached(), Ordering::Relaxed);
                    batch
                }
            };
            (batch, snapshot(&state)?)
        };
        for (kind, object) in batch {
            let object = self.read(&object, snapshot.as_ref())?;
            self.ready.push_back(Event { kind, object });
        }
        Ok(())
    }

    fn read(&mut self, object: &Object, snapshot: &dyn Snapshot) -> Result<Bytes, Reason> {
        let rendering = &self.part.rendering;
        let stored = match object {
            Object::Last(last) => {
                // It is not known any more: there is nothing to be forgotten.
                let last = last.read(snapshot).map_err(|_| Reason::Expired)?;
                let is_first = std::mem::take(&mut self.is_first);
                let told = rendering.whole(self.part.form, last, is_first);
                return told.map_err(|_| Reason::Store);
            }
            Object::Stored(stored) => stored,
        };
        let object = match self.whole {
            true => {
                let is_first = std::mem::take(&mut self.is_first);
                stored.told_whole(snapshot, &self.part.resource, rendering, is_first)
            }
            false => stored.told(snapshot, &self.part.resource, rendering),
        };
        object.map_err(|error| read_failed(&self.shared, stored, &error))
    }

    /// The RV at which the client stands once all was read.
    pub(super) fn reached(&self) -> Arc<AtomicU64> {
        self.reached.clone()
    }
}

impl Iterator for Reading {
    type Item = Result<Event, Reason>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ready.is_empty()
            && let Err(reason) = self.read_batch()
        {
            return Some(Err(reason));
        }
        self.ready.pop_front().map(Ok)
    }
}

/// One object that is to be read.
pub(super) type Wanted = (EventType, Object);

pub(super) enum Object {
    Stored(Stored),
    /// Of a deletion, as its event shows it.
    Last(Last),
}

impl Part {
    /// The collection, whatever became of it since.
    pub(super) fn complete<'s>(&self, state: &'s State) -> Result<&'s Collection, Reason> {
        let collection = state.collections.get(self.collection);
        collection
            .filter(|collection| collection.complete)
            .ok_or(Reason::Incomplete)
    }

    /// The collection, if what is asked for of it is what it was.
    pub(super) fn find<'s>(&self, state: &'s State) -> Result<&'s Collection, Reason> {
        let collection = self.complete(state)?;
        let deletions = collection.deletions();
        // An object that is new since then is left out. One that changed since is not what it was, and one that is gone is missed.
        let is_gone = |deletion: &Deletion| self.narrowing.may_hold(&deletion.id);
        let has_changed = |(id, member): (&ObjectId, &Member)| {
            member.resource_version > self.resource_version
                && member.added <= self.resource_version
                && self.narrowing.may_hold(id)
        };
        let as_it_was = collection.resource_version == self.resource_version
            || (collection.resource_version > self.resource_version
                && deletions.are_known_since(self.resource_version)
                && !deletions.after(self.resource_version).any(is_gone)
                && !collection.members().iter().any(has_changed));
        as_it_was.then_some(collection).ok_or(Reason::Expired)
    }

    /// The members that are asked for, from one on, with their facts.
    pub(super) fn after<'s>(
        &self,
        state: &'s State,
        collection: &'s Collection,
        last: Option<&ObjectId>,
    ) -> impl Iterator<Item = Result<(&'s ObjectId, &'s Fact), Reason>> {
        let from = last.map_or(Bound::Unbounded, Bound::Excluded);
        let of = GroupResource::of(&self.resource);
        let members = collection
            .members()
            .range::<ObjectId, _>((from, Bound::Unbounded));
        let is_new = collection.resource_version > self.resource_version;
        members
            .filter(move |(id, member)| {
                self.narrowing.may_hold(id) && !(is_new && member.added > self.resource_version)
            })
            .filter_map(move |(id, member)| {
                let held = collection.state(member);
                let fact = state.facts.at(&of, id, held);
                let Some(fact) = fact else {
                    return Some(Err(Reason::Incomplete));
                };
                (self.narrowing.holds(id, &fact.traits)).then_some(Ok((id, fact)))
            })
    }

    /// What each of the members is in JSON can be told. Asked before an answer begins: a list cannot take its head back.
    pub(super) fn has_json(&self, state: &State, collection: &Collection) -> bool {
        let mut members = self.after(state, collection, None);
        !members.any(|member| member.is_ok_and(|(_, fact)| !fact.has_json))
    }

    /// For a Table, the row that the upstream showed of this very state, where that is known.
    pub(super) fn stored(
        &self,
        state: &State,
        of: &GroupResource,
        id: &ObjectId,
        fact: &Fact,
    ) -> Stored {
        let row = match &self.rendering {
            Rendering::Rows(rows) => state.facts.find(of, id, &fact.version, rows.form()),
            _ => None,
        };
        let same = row.filter(|row| row.resource_version == fact.resource_version);
        Stored::of(state, of, id, same.unwrap_or(fact))
    }

    fn members(
        &self,
        state: &State,
        collection: &Collection,
        last: &mut Option<ObjectId>,
    ) -> Result<Vec<Wanted>, Reason> {
        let of = GroupResource::of(&self.resource);
        let (mut batch, mut bytes) = (Vec::new(), 0);
        let mut reached = None;
        for member in self.after(state, collection, last.as_ref()) {
            let (id, fact) = member?;
            let stored = self.stored(state, &of, id, fact);
            bytes += stored.len as usize;
            batch.push((EventType::Added, Object::Stored(stored)));
            reached = Some(id);
            if bytes >= BATCH_BYTES || batch.len() >= BATCH_OBJECTS {
                break;
            }
        }
        if let Some(reached) = reached {
            *last = Some(reached.clone());
        }
        Ok(batch)
    }
}

/// Chunks of an answer, made where blocking is allowed: a slow disk stops the answers that wait for it, and nothing else.
pub(super) struct Pulled<I> {
    shared: Arc<Shared>,
    /// `None`: at its end, or broken off.
    chunks: Option<I>,
    ready: VecDeque<Result<Bytes, Reason>>,
}

impl<I: Iterator<Item = Result<Bytes, Reason>> + Send + 'static> Pulled<I> {
    pub(super) fn new(shared: Arc<Shared>, chunks: I) -> Self {
        Self {
            shared,
            chunks: Some(chunks),
            ready: VecDeque::new(),
        }
    }

    /// The next chunk. An error is the last one. Not to be dropped half-way: what it was about to bring is lost.
    pub(super) async fn next(&mut self) -> Option<Result<Bytes, Reason>> {
        if self.ready.is_empty()
            && let Some(chunks) = self.chunks.take()
        {
            let _turn = self.shared.reads.acquire().await;
            match blocking(|| pull(chunks)).await {
                Ok((chunks, ready)) => (self.chunks, self.ready) = (chunks, ready),
                Err(_) => return Some(Err(Reason::Store)),
            }
        }
        self.ready.pop_front()
    }
}

/// The next few chunks, and the rest of them if there may be any.
fn pull<I: Iterator<Item = Result<Bytes, Reason>>>(
    mut chunks: I,
) -> (Option<I>, VecDeque<Result<Bytes, Reason>>) {
    let (mut ready, mut bytes) = (VecDeque::new(), 0);
    while bytes < BATCH_BYTES && ready.len() < BATCH_OBJECTS {
        let Some(chunk) = chunks.next() else {
            return (None, ready);
        };
        let is_last = chunk.is_err();
        bytes += chunk.as_ref().map_or(0, Bytes::len);
        ready.push_back(chunk);
        if is_last {
            return (None, ready);
        }
    }
    (Some(chunks), ready)
}
