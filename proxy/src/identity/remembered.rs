//! Verdicts by the digest of a token: bounded, and a flood of bad tokens never drives out a good one.

use std::collections::HashMap;
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::UnknownReason;

/// SHA-256 of a token. The token itself is not kept.
type TokenDigest = [u8; 32];

/// A node runs about a hundred pods, each with a token or two of its own.
const GENERATION: usize = 1024;

/// What was decided of tokens: the good and the bad apart, at most two generations of each.
pub(super) struct Remembered<V> {
    good: Mutex<Generations<V>>,
    bad: Mutex<Generations<UnknownReason>>,
}

impl<V> Default for Remembered<V> {
    fn default() -> Self {
        Self {
            good: Mutex::default(),
            bad: Mutex::default(),
        }
    }
}

impl<V: Clone> Remembered<V> {
    /// The verdict on `digest`; `reach` runs without any lock held, when there is none yet.
    pub(super) fn get_or_reach(
        &self,
        digest: TokenDigest,
        reach: impl FnOnce() -> Result<V, UnknownReason>,
    ) -> Result<V, UnknownReason> {
        if let Some(good) = lock(&self.good).get(&digest) {
            return Ok(good);
        }
        if let Some(bad) = lock(&self.bad).get(&digest) {
            return Err(bad);
        }
        let verdict = reach();
        match &verdict {
            Ok(good) => lock(&self.good).insert(digest, good.clone()),
            Err(bad) => lock(&self.bad).insert(digest, *bad),
        }
        verdict
    }
}

/// What is asked for survives the change of generations; the rest is gone after two.
struct Generations<V> {
    young: HashMap<TokenDigest, V>,
    old: HashMap<TokenDigest, V>,
}

impl<V> Default for Generations<V> {
    fn default() -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
        }
    }
}

impl<V: Clone> Generations<V> {
    fn get(&mut self, digest: &TokenDigest) -> Option<V> {
        if let Some(value) = self.young.get(digest) {
            return Some(value.clone());
        }
        let value = self.old.remove(digest)?;
        self.insert(*digest, value.clone());
        Some(value)
    }

    fn insert(&mut self, digest: TokenDigest, value: V) {
        if self.young.len() >= GENERATION {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(digest, value);
    }
}

/// A map is whole after every step, so a panic elsewhere under the lock spoils nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(number: usize) -> TokenDigest {
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&number.to_be_bytes());
        digest
    }

    fn reach_again() -> Result<u8, UnknownReason> {
        panic!("the verdict is remembered")
    }

    #[test]
    fn a_verdict_is_reached_once() {
        let remembered = Remembered::default();
        assert_eq!(remembered.get_or_reach(digest(1), || Ok(7)), Ok(7));
        assert_eq!(remembered.get_or_reach(digest(1), reach_again), Ok(7));
        let bad = Err(UnknownReason::BadSignature);
        assert_eq!(remembered.get_or_reach(digest(2), || bad), bad);
        assert_eq!(remembered.get_or_reach(digest(2), reach_again), bad);
    }

    #[test]
    fn a_flood_of_bad_tokens_is_bounded_and_leaves_the_good_ones() {
        let remembered = Remembered::default();
        assert_eq!(remembered.get_or_reach(digest(0), || Ok(7)), Ok(7));
        for number in 1..10 * GENERATION {
            let _ = remembered.get_or_reach(digest(number), || Err(UnknownReason::BadSignature));
        }
        let bad = lock(&remembered.bad);
        assert!(bad.young.len() + bad.old.len() <= 2 * GENERATION);
        drop(bad);
        assert_eq!(remembered.get_or_reach(digest(0), reach_again), Ok(7));
    }

    #[test]
    fn a_token_in_use_outlives_many_others() {
        let remembered = Remembered::default();
        assert_eq!(remembered.get_or_reach(digest(0), || Ok(7)), Ok(7));
        for number in 1..10 * GENERATION {
            let _ = remembered.get_or_reach(digest(number), || Ok(8));
            if number % (GENERATION / 2) == 0 {
                assert_eq!(remembered.get_or_reach(digest(0), reach_again), Ok(7));
            }
        }
    }
}
