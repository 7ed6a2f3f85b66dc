//! Learns whole responses, for what is no resource.

use super::key::response_key;
use super::responses::{ResponseFact, ResponseKey};
use super::state::{Keeping, NotLearnt, State};
use super::store::Table;
use super::{persist, record};
use crate::identity::ServiceAccount;

impl State {
    /// A response that is no resource's, whole.
    pub(super) fn learn_response(
        &mut self,
        caller: &ServiceAccount,
        key: ResponseKey,
        mut fact: ResponseFact,
        body: &[u8],
    ) -> Result<(), NotLearnt> {
        fact.len = self.room_for(body.len(), Keeping::Disk, fact.learnt)?;
        fact.owner = self.owner(caller);
        let stored = response_key(&key.path, &key.accept);
        self.put_record(
            Table::Responses,
            stored.clone(),
            &persist::response(&key, &fact),
        );
        let sealed = record::seal(&stored, body);
        self.writes.put(Table::Bodies, stored, Some(sealed));
        for dropped in self.responses.insert(key, fact) {
            self.pressure.evicted.responses += 1;
            self.unwrite_response(&dropped);
        }
        Ok(())
    }

    pub(super) fn unwrite_response(&mut self, key: &ResponseKey) {
        let stored = response_key(&key.path, &key.accept);
        self.writes.put(Table::Responses, stored.clone(), None);
        self.writes.put(Table::Bodies, stored, None);
    }

    /// A response that is known is still the current one.
    pub(super) fn confirm_response(&mut self, key: ResponseKey, etag: &str, now: u64) {
        if let Some(fact) = self.responses.confirm(&key, etag, now) {
            let stored = response_key(&key.path, &key.accept);
            self.put_record(Table::Responses, stored, &persist::response(&key, &fact));
        }
    }
}
