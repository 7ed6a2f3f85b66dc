//! What a collection lost, and since when: a client that was away is told, and need not list again.
//!
//! A deletion is known from the collection's own stream, or inferred: from a list that lacks a member, or that has another
//! object by its name.

use std::collections::VecDeque;

use super::key::ObjectId;
use super::last::Last;

/// Deletions remembered per collection: more objects than an edge node's pods and their configuration lose in an outage of days.
pub(super) const MAX_DELETIONS: usize = 4096;
/// Bytes of the deleted objects remembered per collection: some two hundred pods, or thousands of small objects.
const MAX_DELETION_BYTES: usize = 2 << 20;
/// Stretches of time in which a collection was not followed that are told apart.
const MAX_GAPS: usize = 64;

#[derive(Clone)]
pub(super) struct Deletion {
    pub(super) id: ObjectId,
    /// As its DELETED event carries it.
    pub(super) resource_version: u64,
    /// Since when it had been in the collection.
    pub(super) added: u64,
    pub(super) object: Last,
}

/// The deletions since `from`.
#[derive(Default)]
pub(super) struct Deletions {
    from: u64,
    /// A list told what had become of the collection between two RVs, but not when: who stands between them may hold what
    /// came and went unseen. Whoever stands at either end is told all.
    gaps: VecDeque<(u64, u64)>,
    /// Oldest first.
    known: VecDeque<Deletion>,
    bytes: usize,
}

impl Deletions {
    /// In memory, or about to be.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether all deletions after `resource_version`, where a client stands, are known.
    pub(super) fn are_known_since(&self, resource_version: u64) -> bool {
        let is_in = |gap: &(u64, u64)| gap.0 < resource_version && resource_version < gap.1;
        self.reach_back_to(resource_version) && !self.gaps.iter().any(is_in)
    }

    /// Whether none of those after `resource_version` were forgotten.
    pub(super) fn reach_back_to(&self, resource_version: u64) -> bool {
        resource_version >= self.from
    }

    /// Those after `resource_version`, oldest first.
    pub(super) fn after(&self, resource_version: u64) -> impl Iterator<Item = &Deletion> {
        let known = &self.known;
        let first = known.partition_point(|known| known.resource_version <= resource_version);
        known.range(first..)
    }

    /// The collection's own stream told it.
    pub(super) fn told(&mut self, deletion: Deletion) {
        self.push(deletion);
    }

    /// A list at `to` replaced what was known at `from`, and these were deleted between.
    pub(super) fn inferred(&mut self, mut deletions: Vec<Deletion>, from: u64, to: u64) {
        deletions.sort_by_key(|deletion| deletion.resource_version);
        for deletion in deletions {
            self.push(deletion);
        }
        if from + 1 < to {
            self.gaps.push_back((from, to));
        }
        if self.gaps.len() > MAX_GAPS
            && let Some((_, end)) = self.gaps.pop_front()
        {
            self.forget_until(end);
        }
    }

    fn push(&mut self, deletion: Deletion) {
        self.bytes += deletion.object.len();
        self.known.push_back(deletion);
        while self.known.len() > MAX_DELETIONS || self.bytes > MAX_DELETION_BYTES {
            let Some(oldest) = self.known.front().map(|oldest| oldest.resource_version) else {
                break;
            };
            self.forget_until(oldest);
        }
    }

    /// Nothing is known any more of what was until then: a client that stands before it must list.
    pub(super) fn forget_until(&mut self, resource_version: u64) {
        while let Some(oldest) = self.known.front()
            && oldest.resource_version <= resource_version
        {
            self.bytes -= oldest.object.len();
            self.known.pop_front();
        }
        self.gaps.retain(|(_, end)| *end > resource_version);
        self.from = self.from.max(resource_version);
    }
}
