//! Watch streams, as they begin, go on and end.

use super::collection::{Event, What};
use super::form::Form;
use super::key::is_unfiltered;
use super::pages::PartialList;
use super::state::{NotLearnt, State};
use crate::identity::ServiceAccount;
use crate::request_info::Scope;

impl State {
    /// A stream on this scope starts; its id, and that of its collection.
    pub(super) fn attach(
        &mut self,
        caller: &ServiceAccount,
        scope: &Scope,
        form: Form,
        from: u64,
    ) -> Result<(u64, u64), NotLearnt> {
        let none = PartialList::default();
        let collection = self.collection(caller, scope, form, &none, 0)?;
        self.last_feed += 1;
        let feed = self.last_feed;
        if let Some(known) = self.collections.get_mut(collection) {
            known.attach(feed, from);
        }
        Ok((collection, feed))
    }

    pub(super) fn detach(&mut self, collection: u64, feed: u64) {
        let Some(known) = self.collections.get_mut(collection) else {
            return;
        };
        known.detach(feed);
        self.drop_empty(collection);
    }

    pub(super) fn observe(&mut self, collection: u64, feed: u64, event: Event, now: u64) {
        let Some(known) = self.collections.get_mut(collection) else {
            return;
        };
        let before = (known.resource_version, known.confirmed);
        let members = known.members().len();
        let is_deletion = matches!(event.what, What::Deleted(..));
        let changes = known.observe(feed, event, now);
        let has_grown = known.members().len() > members && !is_unfiltered(&known.scope);
        if (known.resource_version, known.confirmed) != before {
            self.write_changes(collection, changes, now);
        }
        if has_grown {
            self.bound_filtered(now);
        }
        if is_deletion {
            self.bound_deletions();
        }
    }
}
