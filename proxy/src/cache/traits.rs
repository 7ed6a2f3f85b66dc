//! What selectors look at, in memory for every fact: its labels, and the fields that a field selector may name.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

/// Interned values nobody holds any more are looked for when there are this many more than after the last time.
const PRUNE_AFTER: usize = 1024;

/// Of one object. Pods of one workload share their labels, all of a node its name: each text is in memory once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Traits {
    labels: Option<Arc<Pairs>>,
    fields: Option<Arc<Pairs>>,
}

/// Names and values, by name.
type Pairs = Box<[(Arc<str>, Arc<str>)]>;

impl Traits {
    pub(super) fn label(&self, name: &str) -> Option<&str> {
        find(self.labels.as_deref()?, name)
    }

    /// Of a field that is empty or that the object does not have: `None`.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        find(self.fields.as_deref()?, name)
    }

    pub(super) fn labels(&self) -> Vec<(String, String)> {
        texts(self.labels.as_deref())
    }

    pub(super) fn fields(&self) -> Vec<(String, String)> {
        texts(self.fields.as_deref())
    }
}

fn find<'p>(pairs: &'p Pairs, name: &str) -> Option<&'p str> {
    let at = pairs.binary_search_by(|(key, _)| (**key).cmp(name)).ok()?;
    pairs.get(at).map(|(_, value)| &**value)
}

fn texts(pairs: Option<&Pairs>) -> Vec<(String, String)> {
    let pairs = pairs.into_iter().flat_map(|pairs| pairs.iter());
    pairs
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect()
}

/// Holds each text, and each set of labels, once.
#[derive(Default)]
pub(super) struct Interner {
    words: Interned<str>,
    pairs: Interned<Pairs>,
}

impl Interner {
    pub(super) fn word(&mut self, word: &str) -> Arc<str> {
        self.words.get(word, || word.into())
    }

    pub(super) fn traits<'t>(
        &mut self,
        labels: impl Iterator<Item = (&'t str, &'t str)>,
        fields: impl Iterator<Item = (&'t str, &'t str)>,
    ) -> Traits {
        Traits {
            labels: self.pairs(labels),
            fields: self.pairs(fields),
        }
    }

    fn pairs<'t>(&mut self, pairs: impl Iterator<Item = (&'t str, &'t str)>) -> Option<Arc<Pairs>> {
        let mut pairs: Vec<_> = pairs
            .map(|(name, value)| (self.word(name), self.word(value)))
            .collect();
        if pairs.is_empty() {
            return None;
        }
        pairs.sort_unstable();
        pairs.dedup_by(|a, b| a.0 == b.0);
        let pairs: Pairs = pairs.into();
        Some(self.pairs.get(&pairs, || Arc::new(pairs.clone())))
    }
}

struct Interned<T: ?Sized> {
    known: HashSet<Arc<T>>,
    after_prune: usize,
}

impl<T: ?Sized> Default for Interned<T> {
    fn default() -> Self {
        Self {
            known: HashSet::new(),
            after_prune: 0,
        }
    }
}

impl<T: Hash + Eq + ?Sized> Interned<T> {
    fn get(&mut self, value: &T, make: impl FnOnce() -> Arc<T>) -> Arc<T> {
        if let Some(known) = self.known.get(value) {
            return known.clone();
        }
        if self.known.len() >= 2 * self.after_prune + PRUNE_AFTER {
            self.known.retain(|known| Arc::strong_count(known) > 1);
            self.after_prune = self.known.len();
        }
        let made = make();
        self.known.insert(made.clone());
        made
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traits(interner: &mut Interner, labels: &[(&str, &str)]) -> Traits {
        interner.traits(labels.iter().copied(), [].into_iter())
    }

    #[test]
    fn equal_labels_are_in_memory_once() {
        let mut interner = Interner::default();
        let one = traits(&mut interner, &[("b", "2"), ("a", "1")]);
        let other = traits(&mut interner, &[("a", "1"), ("b", "2")]);
        let (Some(one), Some(other)) = (one.labels, other.labels) else {
            panic!("labels");
        };
        assert!(Arc::ptr_eq(&one, &other));
    }

    #[test]
    fn a_label_is_found_by_its_name() {
        let traits = traits(&mut Interner::default(), &[("b", "2"), ("a", "")]);
        assert_eq!(traits.label("a"), Some(""));
        assert_eq!(traits.label("b"), Some("2"));
        assert_eq!((traits.label("c"), traits.field("a")), (None, None));
    }

    #[test]
    fn what_nobody_holds_any_more_is_forgotten() {
        let mut interner = Interner::default();
        let kept = interner.word("kept");
        for n in 0..10 * PRUNE_AFTER {
            interner.word(&n.to_string());
        }
        assert!(interner.words.known.len() <= PRUNE_AFTER + 2);
        assert!(Arc::ptr_eq(&kept, &interner.word("kept")));
    }
}
