//! How far collections were known that were given up to make room: of their scopes nothing older is told.
//!
//! In memory only, and bounded: what is forgotten here makes an answer older than it need be, but never wrong for its RV.

use std::collections::VecDeque;

use super::collection::Collection;
use super::key::GroupResource;
use super::narrowing::Narrowing;
use crate::request_info::Scope;

/// Only what an older collection would be told instead of is here; the oldest makes room.
const MAX_GIVEN_UP: usize = 256;

#[derive(Default)]
pub(super) struct GivenUp(VecDeque<Collection>);

impl GivenUp {
    /// `is_needed`: whether something older is known that this RV is to be held against.
    pub(super) fn note(
        &mut self,
        collection: &Collection,
        is_needed: impl Fn(&GroupResource, u64) -> bool,
    ) {
        self.0.retain(|known| {
            let is_same = (&known.scope, known.form) == (&collection.scope, collection.form);
            let resource = GroupResource::of(&known.scope.resource);
            is_needed(&resource, known.resource_version)
                && !(is_same && known.resource_version <= collection.resource_version)
        });
        if self.0.len() >= MAX_GIVEN_UP {
            self.0.pop_front();
        }
        self.0.push_back(collection.without_content());
    }

    /// The least RV at which the scope may be told; 0 when any will do.
    pub(super) fn least(&self, scope: &Scope) -> u64 {
        let told = self
            .0
            .iter()
            .filter(|known| Narrowing::of(known, scope).is_some());
        told.map(|known| known.resource_version).max().unwrap_or(0)
    }

    /// The RVs of this resource went back.
    pub(super) fn forget(&mut self, resource: &GroupResource) {
        let is_other = |known: &Collection| GroupResource::of(&known.scope.resource) != *resource;
        self.0.retain(is_other);
    }
}
