//! Makes room when as much is held as may be: what was used longest ago gives way, and of whoever holds most before others.
//!
//! Asked for once per batch: a tenth of all is let go of at a time, so that the look at everything that it takes is rare.
//! A collection goes as a whole or not at all, an object only when nothing that stays would then tell a lie about it:
//! a collection that has it, one that lacks it because it is older, or an older state of it.

use std::collections::HashMap;

use super::collection::Collection;
use super::evict_plan::{Named, Plan, Thing, held_states, needed, used};
use super::key::{GroupResource, ObjectId};
use super::responses::ResponseKey;
use super::shares::Owner;
use super::state::{Keeping, NotLearnt, State};
use super::writes::MAX_VOLATILE_BYTES;
use crate::identity::ServiceAccount;

/// Seconds until another look, when not enough could be let go of: it would find no more.
const PAUSE: u64 = 10;
/// Seconds for which it is said that something was let go of.
pub(super) const SAID_FOR: u64 = 3600;

/// What has a bound of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Pool {
    /// All that is kept, by `cache.maxBytes`.
    All,
    /// What never reaches the disk.
    Memory,
}

/// What was let go of so far, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Evicted {
    pub objects: u64,
    pub responses: u64,
    pub collections: u64,
}

#[derive(Default)]
pub(super) struct Pressure {
    pub(super) evicted: Evicted,
    /// When something was let go of for want of room; Unix seconds.
    pub(super) last: Option<u64>,
    /// No use in trying before.
    not_before: HashMap<Pool, u64>,
}

impl State {
    /// Whether this much more may be held, once what is used least has given way; its length.
    pub(super) fn room_for(
        &mut self,
        bytes: usize,
        keeping: Keeping,
        now: u64,
    ) -> Result<u32, NotLearnt> {
        let len = u32::try_from(bytes).map_err(|_| NotLearnt::Full)?;
        if keeping == Keeping::Memory {
            self.make_room(Pool::Memory, u64::from(len), now);
        }
        if !self.make_room(Pool::All, u64::from(len), now) {
            self.is_full = true;
            return Err(NotLearnt::Full);
        }
        // Not at the first byte that fits again: what is told as full should not flicker.
        self.is_full &= self.bytes() > self.max_bytes / 10 * 9;
        match self.writes.has_room(bytes, keeping == Keeping::Memory) {
            true => Ok(len),
            false => Err(NotLearnt::Lagging),
        }
    }

    /// Of all that is held, as the upstream sent it.
    pub(super) fn bytes(&self) -> u64 {
        self.facts.bytes() + self.responses.bytes()
    }

    fn pool(&self, pool: Pool) -> (u64, u64) {
        match pool {
            Pool::All => (self.bytes(), self.max_bytes),
            Pool::Memory => (
                self.writes.volatile_bytes() as u64,
                MAX_VOLATILE_BYTES as u64,
            ),
        }
    }

    /// Lets go of what is used least, if `wanted` more bytes are too many; whether they are not, then.
    pub(super) fn make_room(&mut self, pool: Pool, wanted: u64, now: u64) -> bool {
        let (held, max) = self.pool(pool);
        if held + wanted <= max {
            return true;
        }
        let not_before = self.pressure.not_before.get(&pool).copied();
        if wanted > max || not_before.is_some_and(|not_before| now < not_before) {
            return false;
        }
        let before = self.pressure.evicted;
        let target = (max / 10 * 9).saturating_sub(wanted);
        let mut plan = Plan::of(self, pool, max);
        while self.pool(pool).0 > target
            && let Some(thing) = plan.next()
        {
            self.let_thing_go(&mut plan, thing, now);
        }
        let (held, _) = self.pool(pool);
        if held > target {
            self.pressure.not_before.insert(pool, now + PAUSE);
        }
        if self.pressure.evicted != before {
            self.pressure.last = Some(now);
        }
        held + wanted <= max
    }

    fn let_thing_go(&mut self, plan: &mut Plan, thing: Thing, now: u64) {
        match thing {
            Thing::Object(of, id) => {
                self.pressure.evicted.objects += 1;
                self.let_states_go(plan, &of, &id, |_| true);
            }
            Thing::Spare(of, id, states) => {
                self.let_states_go(plan, &of, &id, |state| states.contains(state));
            }
            Thing::Response(key) => {
                self.pressure.evicted.responses += 1;
                let lost = self.responses.remove(&key);
                if let Some(lost) = lost {
                    plan.shares.take(lost.owner, u64::from(lost.len));
                }
                self.unwrite_response(&key);
            }
            Thing::Collection(id) => self.let_collection_go(plan, id, now),
        }
    }

    fn let_states_go(
        &mut self,
        plan: &mut Plan,
        of: &GroupResource,
        id: &ObjectId,
        is_meant: impl Fn(&Named) -> bool,
    ) {
        let Some(known) = self.facts.object(of, id) else {
            return;
        };
        let (owner, facts) = (known.owner, known.facts.clone());
        for fact in facts {
            if is_meant(&(fact.version.clone(), fact.form, fact.resource_version)) {
                plan.shares.take(owner, u64::from(fact.len));
                self.forget(of, id, fact.state());
            }
        }
    }

    /// With it go its objects that nothing else needs; those that another caller owns, and used since, may stay for now.
    fn let_collection_go(&mut self, plan: &mut Plan, id: u64, now: u64) {
        let Some(collection) = self.collections.get(id) else {
            return;
        };
        let of = GroupResource::of(&collection.scope.resource);
        let (used, owner) = (used(collection), self.owner_of(collection));
        let needed = needed(collection);
        let states = held_states(&of, collection);
        self.let_go(id, now);
        for state in states {
            plan.release_state(&state);
        }
        let lacked = plan.lacked.remove(&id).unwrap_or_default();
        for (member, is_lacked) in (needed.into_iter().map(|id| (id, false)))
            .chain(lacked.into_iter().map(|id| (id, true)))
        {
            let is_needed = plan.release(&of, &member);
            let Some(known) = self.facts.object(&of, &member) else {
                continue;
            };
            if is_needed {
                let spare = plan.spare(&of, &member, known);
                self.let_states_go(plan, &of, &member, |state| spare.contains(state));
                continue;
            }
            let is_anothers = known.owner != owner && known.owner != Owner::NOBODY;
            if is_lacked || (is_anothers && known.used > used) {
                let (rank, owner) = ((false, known.used), known.owner);
                plan.push(owner, rank, Thing::Object(of.clone(), member));
            } else {
                self.let_states_go(plan, &of, &member, |_| true);
            }
        }
    }

    // --- use ---

    /// A caller asked for an object, or is being told of it.
    pub(super) fn used_object(
        &mut self,
        caller: &ServiceAccount,
        of: &GroupResource,
        id: &ObjectId,
        now: u64,
    ) {
        let user = self.owner(caller);
        self.facts.used(of, id, user, now);
    }

    pub(super) fn used_response(&mut self, caller: &ServiceAccount, key: &ResponseKey, now: u64) {
        let user = self.owner(caller);
        self.responses.used(key, user, now);
    }

    pub(super) fn used_collection(&mut self, caller: &ServiceAccount, id: u64, now: u64) {
        let user = self.owner(caller);
        let Some(collection) = self.collections.get(id) else {
            return;
        };
        let is_lighter = match collection.made_by() {
            Some(owner) => self.facts.shares().lighter(self.callers.get(owner), user) == user,
            None => true,
        };
        if let Some(collection) = self.collections.get_mut(id) {
            collection.used_by(caller, is_lighter, now);
        }
    }

    pub(super) fn owner(&mut self, caller: &ServiceAccount) -> Owner {
        let holds = |owner| self.facts.shares().of(owner) + self.responses.shares().of(owner) > 0;
        self.callers.owner(caller, holds)
    }

    pub(super) fn owner_of(&self, collection: &Collection) -> Owner {
        let owner = collection.made_by().map(|owner| self.callers.get(owner));
        owner.unwrap_or_default()
    }
}
