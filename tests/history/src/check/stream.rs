//! One watch stream, event by event.

use std::collections::{BTreeMap, BTreeSet};

use super::Property;
use crate::record::{Origin, WatchAsk, objects};
use crate::scope::Scope;
use crate::truth::{Event, EventKind, Object, Truth};
use crate::wire::Told;

type Seen = Vec<(Property, String)>;

pub(super) struct Stream {
    scope: Scope,
    ask: WatchAsk,
    /// All until this RV was told; `None` while initial events are under way, or when nothing says that they are over.
    position: Option<u64>,
    /// What a client that follows the stream holds.
    view: BTreeMap<String, Object>,
    /// What the stream began with came from the cache.
    from_cache: bool,
    /// The RV at which its initial events were over.
    began_at: Option<u64>,
    /// Something happened since all was last quiet: what was missed may come as the difference, in place of each change.
    /// Then everything is compared at the next bookmark, and when all is quiet again.
    may_catch_up: bool,
    told: BTreeSet<(String, u64, bool)>,
    was_deletion: bool,
    is_refused: bool,
    goes_on: bool,
}

impl Stream {
    pub(super) fn new(truth: &Truth, scope: &Scope, ask: &WatchAsk, origin: Origin) -> Self {
        let after = match (ask.initial, ask.rv.as_str()) {
            (Some(true), _) | (None, "" | "0") => None,
            (_, rv) => rv.parse().ok(),
        };
        let view = after.map_or_else(BTreeMap::new, |after| {
            let content = truth.content(scope, after).into_iter();
            content
                .map(|(key, object)| (key, (*object).clone()))
                .collect()
        });
        Self {
            scope: scope.clone(),
            ask: ask.clone(),
            position: after,
            view,
            from_cache: origin != Origin::Upstream,
            began_at: None,
            may_catch_up: origin != Origin::Upstream,
            told: BTreeSet::new(),
            was_deletion: false,
            is_refused: false,
            goes_on: false,
        }
    }

    pub(super) fn position(&self) -> Option<u64> {
        self.position
    }

    /// The RV is that of the initial events, and they came from the cache: later ones are the upstream's.
    pub(super) fn is_of_cache_until(&self, rv: u64) -> bool {
        self.from_cache && self.began_at == Some(rv)
    }

    pub(super) fn was_disturbed(&mut self) {
        self.may_catch_up = true;
    }

    /// It said something after an error.
    pub(super) fn is_cut_short(&self) -> bool {
        self.goes_on
    }

    pub(super) fn told(&mut self, truth: &Truth, told: &Told) -> Seen {
        self.goes_on |= self.is_refused;
        match told {
            Told::Event(kind, object) => self.event(truth, *kind, object),
            Told::Bookmark { rv, ends_initial } => self.bookmark(truth, *rv, *ends_initial),
            Told::Error(status) => {
                self.is_refused = true;
                let names_rv = !matches!(self.ask.rv.as_str(), "" | "0");
                // Without bookmarks nobody can tell when the initial events are over.
                let is_initial = self.position.is_none() && self.ask.bookmarks;
                match status.code == 410 && !names_rv && is_initial {
                    true => vec![(
                        Property::Answered,
                        "410 to a client that named no RV".to_owned(),
                    )],
                    false => Seen::new(),
                }
            }
        }
    }

    fn bookmark(&mut self, truth: &Truth, rv: u64, ends_initial: bool) -> Seen {
        let mut seen = Seen::new();
        if !self.ask.bookmarks {
            let why = format!("a bookmark at {rv} to a client that wants none");
            seen.push((Property::Bookmarkable, why));
        }
        match self.position {
            None if !ends_initial => {
                let why = format!("a bookmark at {rv} before the end of the initial events");
                seen.push((Property::Bookmarkable, why));
                return seen;
            }
            Some(_) if ends_initial => {
                let why = format!("initial events end at {rv}, and there are none");
                seen.push((Property::Bookmarkable, why));
            }
            Some(position) if rv < position => {
                let why = format!("a bookmark at {rv} after {position}");
                seen.push((Property::Ordered, why));
                return seen;
            }
            _ => {}
        }
        if self.position.is_none() {
            self.began_at = Some(rv);
        }
        self.position = Some(rv);
        seen.extend(self.compare(truth, rv, Property::Bookmarkable));
        seen
    }

    fn event(&mut self, truth: &Truth, kind: EventKind, object: &Object) -> Seen {
        let mut seen = Seen::new();
        let (rv, key) = (object.rv, object.key.in_list_order());
        let is_deletion = kind == EventKind::Deleted;
        if !self.told.insert((key.clone(), rv, is_deletion)) {
            let why = format!("{kind:?} {key}@{rv} is told twice");
            seen.push((Property::Unique, why));
        }
        if let Some(position) = self.position {
            // Several deletions whose RVs nobody knows carry that of the list that proved them, which may be a change's, too.
            let may_share = self.may_catch_up && (is_deletion || self.was_deletion);
            let is_next = rv > position || (rv == position && may_share);
            if !is_next {
                let why = format!("{kind:?} {key}@{rv} after {position}");
                seen.push((Property::Ordered, why));
            } else if !self.may_catch_up {
                seen.extend(self.only_next(truth, position, kind, object));
            }
            self.position = Some(position.max(rv));
        }
        seen.extend(self.is_true(truth, kind, object));
        seen.extend(self.is_legal(kind, object));
        self.was_deletion = is_deletion;
        match is_deletion {
            true => drop(self.view.remove(&key)),
            false => drop(self.view.insert(key, object.clone())),
        }
        seen
    }

    /// Between the last event and this one there was none, and it is this.
    fn only_next(&self, truth: &Truth, position: u64, kind: EventKind, object: &Object) -> Seen {
        let due = truth.events(&self.scope, position, object.rv);
        let event = Event {
            kind,
            object: object.clone(),
        };
        let word = |event: &Event| {
            format!(
                "{:?} {}",
                event.kind,
                objects(std::slice::from_ref(&event.object))
            )
        };
        match due.as_slice() {
            [only] if *only == event => Seen::new(),
            due => {
                let due: Vec<String> = due.iter().map(word).collect();
                let why = format!(
                    "{} is told, due after {position}: {}",
                    word(&event),
                    due.join(", ")
                );
                vec![(Property::Reliable, why)]
            }
        }
    }

    /// The object was like this.
    fn is_true(&self, truth: &Truth, kind: EventKind, object: &Object) -> Seen {
        let is_true = match kind {
            EventKind::Deleted => {
                let mut was = truth
                    .changes()
                    .iter()
                    .filter_map(|change| change.after.as_ref());
                was.any(|was| {
                    was.rv <= object.rv
                        && Object {
                            rv: object.rv,
                            ..(**was).clone()
                        } == *object
                })
            }
            EventKind::Added | EventKind::Modified => {
                let was = truth.version(&object.key, object.rv);
                was.is_some_and(|was| **was == *object) && self.scope.matches(object)
            }
        };
        match is_true {
            true => Seen::new(),
            false => {
                let object = objects(std::slice::from_ref(object));
                let why = format!("{kind:?} {object}: it was never so in {}", self.scope);
                vec![(Property::Atomic, why)]
            }
        }
    }

    /// A client holds what changes or goes, and does not hold what comes.
    fn is_legal(&self, kind: EventKind, object: &Object) -> Seen {
        let key = object.key.in_list_order();
        let held = self.view.get(&key);
        let is_legal = match (kind, held) {
            (EventKind::Added, held) => held.is_none(),
            (EventKind::Modified, Some(held)) => held.uid == object.uid && held.rv < object.rv,
            (EventKind::Deleted, Some(held)) => held.uid == object.uid,
            (_, None) => false,
        };
        match is_legal {
            true => Seen::new(),
            false => {
                let held = held.map_or("nothing".to_owned(), |held| {
                    objects(std::slice::from_ref(held))
                });
                let why = format!("{kind:?} {key}@{} to a client that holds {held}", object.rv);
                vec![(Property::Reliable, why)]
            }
        }
    }

    /// Nothing is under way: all was told.
    pub(super) fn quiet(&mut self, truth: &Truth, rv: u64) -> Seen {
        if self.is_refused {
            return Seen::new();
        }
        self.may_catch_up = false;
        if self.position.is_none() && self.ask.bookmarks {
            let why = format!("the initial events of {} do not end", self.scope);
            return vec![(Property::Bookmarkable, why)];
        }
        self.compare(truth, rv, Property::Reliable)
    }

    fn compare(&self, truth: &Truth, rv: u64, property: Property) -> Seen {
        let content = truth.content(&self.scope, rv);
        if content.values().map(AsRef::as_ref).eq(self.view.values()) {
            return Seen::new();
        }
        let is: Vec<Object> = content.values().map(|object| (**object).clone()).collect();
        let told: Vec<Object> = self.view.values().cloned().collect();
        let why = format!(
            "{} at {rv} is {}, and was told as {}",
            self.scope,
            objects(&is),
            objects(&told)
        );
        vec![(property, why)]
    }
}
