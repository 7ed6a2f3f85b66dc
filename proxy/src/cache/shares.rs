//! Whose use of the cache holds how much: one caller's is not to push out what the others need.

use std::collections::HashMap;

use crate::identity::ServiceAccount;

/// Callers that are told apart: the service accounts of one node, many times over. Whoever comes when there are as many holds nothing.
const MAX_CALLERS: usize = 4096;

/// A caller, in a word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Owner(u32);

impl Owner {
    /// Of what was read from the disk, until somebody uses it.
    pub(super) const NOBODY: Self = Self(0);
}

/// The bytes of each owner's things.
#[derive(Clone, Default)]
pub(super) struct Shares(HashMap<Owner, u64>);

impl Shares {
    pub(super) fn of(&self, owner: Owner) -> u64 {
        self.0.get(&owner).copied().unwrap_or(0)
    }

    pub(super) fn add(&mut self, owner: Owner, bytes: u64) {
        *self.0.entry(owner).or_default() += bytes;
    }

    pub(super) fn take(&mut self, owner: Owner, bytes: u64) {
        if let Some(share) = self.0.get_mut(&owner) {
            *share = share.saturating_sub(bytes);
            if *share == 0 {
                self.0.remove(&owner);
            }
        }
    }

    /// Those who own something, but nobody.
    pub(super) fn owners(&self) -> usize {
        let owners = self.0.keys().filter(|owner| **owner != Owner::NOBODY);
        owners.count()
    }

    /// What two callers use belongs to the one that holds less: who holds much takes nothing from another by reading it too.
    pub(super) fn lighter(&self, owner: Owner, user: Owner) -> Owner {
        let is_lighter =
            user != Owner::NOBODY && (owner == Owner::NOBODY || self.of(user) < self.of(owner));
        if is_lighter { user } else { owner }
    }
}

#[derive(Default)]
pub(super) struct Callers {
    known: HashMap<ServiceAccount, Owner>,
    last: u32,
}

impl Callers {
    pub(super) fn get(&self, caller: &ServiceAccount) -> Owner {
        self.known.get(caller).copied().unwrap_or(Owner::NOBODY)
    }

    /// The caller as an owner; `holds` tells who still has something.
    pub(super) fn owner(
        &mut self,
        caller: &ServiceAccount,
        holds: impl Fn(Owner) -> bool,
    ) -> Owner {
        if let Some(known) = self.known.get(caller) {
            return *known;
        }
        if self.known.len() >= MAX_CALLERS {
            self.known.retain(|_, owner| holds(*owner));
        }
        if self.known.len() >= MAX_CALLERS || self.last == u32::MAX {
            return Owner::NOBODY;
        }
        self.last += 1;
        let owner = Owner(self.last);
        self.known.insert(caller.clone(), owner);
        owner
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(n: usize) -> ServiceAccount {
        crate::cache::tests::caller(&n.to_string())
    }

    #[test]
    fn what_two_use_belongs_to_the_one_that_holds_less() {
        let (much, little) = (Owner(1), Owner(2));
        let mut shares = Shares::default();
        shares.add(much, 100);
        shares.add(little, 10);
        assert_eq!(shares.lighter(much, little), little);
        assert_eq!(shares.lighter(little, much), little);
        assert_eq!(shares.lighter(Owner::NOBODY, much), much);
        assert_eq!(shares.lighter(much, Owner::NOBODY), much);
        shares.take(much, 100);
        assert_eq!((shares.of(much), shares.owners()), (0, 1));
    }

    #[test]
    fn callers_are_bounded_and_those_that_hold_nothing_are_forgotten() {
        let mut callers = Callers::default();
        let first = callers.owner(&caller(0), |_| true);
        for n in 1..MAX_CALLERS {
            callers.owner(&caller(n), |_| true);
        }
        let late = caller(MAX_CALLERS);
        assert_eq!(callers.owner(&late, |_| true), Owner::NOBODY);
        assert_ne!(callers.owner(&late, |owner| owner == first), Owner::NOBODY);
        assert_eq!(callers.get(&caller(0)), first);
        assert_eq!(callers.known.len(), 2);
    }
}
