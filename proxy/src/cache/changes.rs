//! What a client lacks of a collection: its changes after an RV, in the order of their RVs.
//!
//! The collection may move on while they are told, fed by other streams: what changed once more is told once, as it is in
//! the end, and nothing is left out. A client that has been told all until an RV holds what the collection held there.

use std::collections::HashSet;

use super::collection::{Collection, Member};
use super::deletions::Deletion;
use super::key::{GroupResource, ObjectId};
use super::reading::{BATCH_BYTES, BATCH_OBJECTS, Object, Part, Wanted};
use super::state::State;
use super::wire::EventType;
use crate::policy::Reason;

/// Objects, new to one client, that were told to it while it is told more; far more than come into being in an outage.
const MAX_TOLD: usize = 8192;

/// How far one client was told of the changes.
#[derive(Clone)]
pub(super) struct Changes {
    /// What it had seen to begin with.
    from: u64,
    /// Until there all was told: an RV; and, of several changes at it, the last object that was told (`None`: all of them).
    last: (u64, Option<ObjectId>),
    /// The objects that it did not have and was told of since: should they change again, they are not new any more.
    told: HashSet<ObjectId>,
}

enum Change<'c> {
    Put(&'c ObjectId, Member),
    Deleted(&'c Deletion),
}

impl Changes {
    pub(super) fn since(resource_version: u64) -> Self {
        Self {
            from: resource_version,
            last: (resource_version, None),
            told: HashSet::new(),
        }
    }

    /// All until this RV was told.
    pub(super) fn reached(&self) -> u64 {
        self.last.0
    }

    fn is_told(&self, resource_version: u64, id: &ObjectId) -> bool {
        let (version, last) = &self.last;
        match last {
            _ if resource_version != *version => resource_version < *version,
            Some(last) => id <= last,
            None => true,
        }
    }

    /// Whether all deletions that are to be told still are known.
    fn are_known(&self, collection: &Collection) -> bool {
        match &self.last {
            (last, None) if *last == self.from => collection.deletions().are_known_since(*last),
            (last, None) => collection.deletions().reach_back_to(*last),
            // The rest of that RV is still to come.
            (last, Some(_)) => collection.deletions().reach_back_to(*last - 1),
        }
    }

    /// The client never had the object, and was not told of it.
    fn is_new(&self, id: &ObjectId, added: u64) -> bool {
        added > self.from && !self.told.contains(id)
    }
}

impl Part {
    /// Whether the changes after an RV can be told; [`Reason::Expired`] when one of them may not be known.
    pub(super) fn can_tell(&self, collection: &Collection, after: u64) -> Result<(), Reason> {
        let changes = Changes::since(after);
        let missed = self.missed(collection, &changes)?;
        let is_known = |change: &Change<'_>| match change {
            Change::Put(id, member) => self.is_certain(changes.is_new(id, member.added)),
            Change::Deleted(deletion) => {
                self.is_certain(changes.is_new(&deletion.id, deletion.added))
            }
        };
        (missed.iter().all(is_known))
            .then_some(())
            .ok_or(Reason::Expired)
    }

    /// The next few changes, and moves on behind them; none: all until the collection's RV was told.
    pub(super) fn changes(
        &self,
        state: &State,
        collection: &Collection,
        changes: &mut Changes,
    ) -> Result<Vec<Wanted>, Reason> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        for change in self.missed(collection, changes)? {
            if bytes >= BATCH_BYTES || batch.len() >= BATCH_OBJECTS {
                return Ok(batch);
            }
            changes.last = change.position();
            if let Some((wanted, len)) = self.wanted(state, collection, &change, changes)? {
                bytes += len;
                batch.push(wanted);
            }
            if changes.told.len() > MAX_TOLD {
                return Err(Reason::Expired);
            }
        }
        changes.last = (collection.resource_version, None);
        Ok(batch)
    }

    /// What to tell of a change, and its length.
    fn wanted(
        &self,
        state: &State,
        collection: &Collection,
        change: &Change<'_>,
        changes: &mut Changes,
    ) -> Result<Option<(Wanted, usize)>, Reason> {
        let (id, member) = match change {
            Change::Put(id, member) => (*id, member),
            Change::Deleted(Deletion { id, added, .. }) if changes.is_new(id, *added) => {
                return Ok(None);
            }
            Change::Deleted(Deletion { id, object, .. }) => {
                if !self.is_certain(changes.told.remove(id)) {
                    return Err(Reason::Expired);
                }
                let wanted = (EventType::Deleted, Object::Last(object.clone()));
                return Ok(Some((wanted, object.len())));
            }
        };
        let is_new = changes.is_new(id, member.added);
        if !self.is_certain(is_new) {
            return Err(Reason::Expired);
        }
        let of = GroupResource::of(&self.resource);
        let fact = state.facts.at(&of, id, collection.state(member));
        let fact = fact.ok_or(Reason::Incomplete)?;
        if !self.narrowing.holds(id, &fact.traits) {
            return Ok(None);
        }
        let kind = match is_new {
            true => EventType::Added,
            false => EventType::Modified,
        };
        if is_new {
            changes.told.insert(id.clone());
        }
        let stored = self.stored(state, &of, id, fact);
        let len = stored.len as usize;
        Ok(Some(((kind, Object::Stored(stored)), len)))
    }

    /// Whether it is known if the client has an object, which it was told of, or never had, or else had before.
    fn is_certain(&self, is_new_or_told: bool) -> bool {
        is_new_or_told || !self.narrowing.is_evaluated()
    }

    /// The changes that are still to be told, in order.
    fn missed<'c>(
        &self,
        collection: &'c Collection,
        changes: &Changes,
    ) -> Result<Vec<Change<'c>>, Reason> {
        if !changes.are_known(collection) {
            return Err(Reason::Expired);
        }
        let last = changes.last.0;
        let deletions = collection.deletions().after(last.saturating_sub(1));
        let deletions = deletions.map(Change::Deleted);
        let members = collection.members().iter();
        let members = members
            .filter(|(_, member)| member.resource_version >= last)
            .map(|(id, member)| Change::Put(id, *member));
        let mut missed: Vec<Change<'c>> = deletions
            .chain(members)
            .filter(|change| {
                let (resource_version, id) = change.key();
                !changes.is_told(resource_version, id) && self.narrowing.may_hold(id)
            })
            .collect();
        missed.sort_by(|one, other| one.key().cmp(&other.key()));
        Ok(missed)
    }
}

impl Change<'_> {
    fn key(&self) -> (u64, &ObjectId) {
        match self {
            Self::Put(id, member) => (member.resource_version, id),
            Self::Deleted(deletion) => (deletion.resource_version, &deletion.id),
        }
    }

    fn position(&self) -> (u64, Option<ObjectId>) {
        let (resource_version, id) = self.key();
        (resource_version, Some(id.clone()))
    }
}
