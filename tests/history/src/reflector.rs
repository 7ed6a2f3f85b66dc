//! A client's informer: list and watch with all their ways back, without I/O.
//!
//! Sources of the rules: `client-go:tools/cache/reflector.go`, `kube-rs/kube:kube-runtime/src/watcher.rs`.

use std::collections::BTreeMap;

use crate::record::{Answer, ListAsk, Request, Store, WatchAsk};
use crate::scope::Scope;
use crate::truth::{EventKind, Object};
use crate::wire::{List, Status, Told};

/// client-go's own backoff: from here, doubled up to [`MAX_BACKOFF_MS`]. Its jitter is left to the times at which things happen.
const MIN_BACKOFF_MS: u64 = 800;
/// client-go's is 30 s; a history need not wait so long to be quiet.
const MAX_BACKOFF_MS: u64 = 6400;

/// A watch that ends sooner and brings nothing is "very short": the client lists again.
const SHORT_WATCH_MS: u64 = 1000;

/// Small, so that there are pages.
const PAGE: u64 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// client-go since 1.35: initial events, and LIST when they are refused.
    WatchList,
    /// client-go before, and kube-rs: LIST in pages, then a plain watch.
    ListWatch,
}

#[derive(Clone, Debug)]
enum Phase {
    Begin,
    /// The next page, or the first one.
    List {
        rv: String,
        limit: Option<u64>,
        token: String,
    },
    Watch,
}

/// One informer. `next` says what to ask, the others take what comes of it.
#[derive(Clone, Debug)]
pub struct Reflector {
    scope: Scope,
    flavour: Flavour,
    phase: Phase,
    /// Where to go on: empty before the first answer, and after it was said to be too old.
    rv: String,
    store: BTreeMap<String, Object>,
    synced: bool,
    /// What a list, or initial events, have brought so far.
    partial: Option<BTreeMap<String, Object>>,
    /// On the stream that is open.
    told: usize,
    /// That stream said an error: what to do is decided.
    refused: bool,
    wait: u64,
    backoff: u64,
    min_backoff: u64,
    max_backoff: u64,
}

impl Reflector {
    pub fn new(scope: Scope, flavour: Flavour) -> Self {
        Self {
            scope,
            flavour,
            phase: Phase::Begin,
            rv: String::new(),
            store: BTreeMap::new(),
            synced: false,
            partial: None,
            told: 0,
            refused: false,
            wait: 0,
            backoff: MIN_BACKOFF_MS,
            min_backoff: MIN_BACKOFF_MS,
            max_backoff: MAX_BACKOFF_MS,
        }
    }

    /// Pauses from `min` to `max` milliseconds, where time is the real one.
    #[must_use]
    pub fn with_backoff(self, min: u64, max: u64) -> Self {
        Self {
            backoff: min,
            min_backoff: min,
            max_backoff: max,
            ..self
        }
    }

    /// What to ask, and after how many milliseconds.
    pub fn next(&mut self, timeout_seconds: u64) -> (u64, Request) {
        let wait = std::mem::take(&mut self.wait);
        if let Phase::Begin = self.phase
            && self.flavour == Flavour::ListWatch
        {
            self.phase = self.first_page();
        }
        let watch = |rv: &str, initial| WatchAsk {
            rv: rv.to_owned(),
            initial,
            bookmarks: true,
            timeout_seconds: Some(timeout_seconds),
        };
        let request = match &self.phase {
            Phase::Begin => {
                self.partial = Some(BTreeMap::new());
                Request::Watch(self.scope.clone(), watch(&self.rv, Some(true)))
            }
            Phase::Watch => Request::Watch(self.scope.clone(), watch(&self.rv, None)),
            Phase::List { rv, limit, token } => {
                let ask = ListAsk {
                    rv: rv.clone(),
                    exact: false,
                    limit: *limit,
                    continue_token: token.clone(),
                };
                Request::List(self.scope.clone(), ask)
            }
        };
        self.told = 0;
        self.refused = false;
        (wait, request)
    }

    pub fn answered(&mut self, answer: &Answer) {
        match (&self.phase, answer) {
            (_, Answer::Watch) => {}
            (Phase::List { .. }, Answer::List(list)) => self.listed(list),
            (Phase::List { .. }, Answer::Refused(status)) => self.list_refused(status),
            (Phase::List { .. }, _) => self.back_off(Phase::Begin),
            // A watch with initial events that is refused: LIST at once.
            (Phase::Begin, _) => self.phase = self.first_page(),
            (Phase::Watch, Answer::Refused(status)) if status.code == 429 => {
                self.back_off(Phase::Watch);
            }
            (Phase::Watch, _) => self.back_off(Phase::Begin),
        }
    }

    /// `false`: the client closes this stream.
    pub fn told(&mut self, told: &Told) -> bool {
        self.told += 1;
        match told {
            Told::Error(status) => {
                self.stream_refused(status);
                return false;
            }
            Told::Bookmark { rv, ends_initial } => {
                if *ends_initial && let Some(whole) = self.partial.take() {
                    self.replace(whole, *rv);
                }
                // A bookmark before the end of the initial events is no point to go on from.
                if self.partial.is_none() {
                    self.rv = rv.to_string();
                }
            }
            Told::Event(kind, object) => {
                let into = self.partial.as_mut().unwrap_or(&mut self.store);
                let key = object.key.in_list_order();
                match kind {
                    EventKind::Deleted => into.remove(&key),
                    EventKind::Added | EventKind::Modified => into.insert(key, object.clone()),
                };
                if self.partial.is_none() {
                    self.rv = object.rv.to_string();
                }
            }
        }
        true
    }

    /// The stream is over after so many milliseconds.
    pub fn ended(&mut self, lasted: u64) {
        if self.refused {
            return;
        }
        let lived = lasted >= SHORT_WATCH_MS || self.told > 0;
        match (&self.phase, lived) {
            (Phase::Begin | Phase::Watch, true) => {}
            _ => self.back_off(Phase::Begin),
        }
    }

    pub fn store(&self) -> Store {
        Store {
            scope: self.scope.clone(),
            synced: self.synced,
            objects: self.store.values().cloned().collect(),
        }
    }

    fn first_page(&self) -> Phase {
        match self.flavour {
            Flavour::ListWatch => Phase::List {
                rv: String::new(),
                limit: Some(PAGE),
                token: String::new(),
            },
            Flavour::WatchList => Phase::List {
                rv: match self.rv.as_str() {
                    "" => "0".to_owned(),
                    last => last.to_owned(),
                },
                limit: None,
                token: String::new(),
            },
        }
    }

    fn listed(&mut self, list: &List) {
        let mut whole = self.partial.take().unwrap_or_default();
        let items = list.items.iter().cloned();
        whole.extend(items.map(|item| (item.key.in_list_order(), item)));
        if list.continue_token.is_empty() {
            self.replace(whole, list.rv);
            return;
        }
        self.partial = Some(whole);
        if let Phase::List { token, rv, .. } = &mut self.phase {
            token.clone_from(&list.continue_token);
            rv.clear();
        }
    }

    fn list_refused(&mut self, status: &Status) {
        let Phase::List { rv, token, .. } = &self.phase else {
            return;
        };
        self.partial = None;
        let whole = |rv: String| Phase::List {
            rv,
            limit: None,
            token: String::new(),
        };
        let next = match status.code {
            // The next page is gone: all of it in one.
            410 if !token.is_empty() => whole(String::new()),
            410 | 504 if !rv.is_empty() => {
                self.rv.clear();
                whole(String::new())
            }
            _ => return self.back_off(Phase::Begin),
        };
        self.phase = next;
    }

    fn stream_refused(&mut self, status: &Status) {
        self.refused = true;
        let initial = self.partial.take().is_some();
        match (status.code, initial) {
            (429, false) => self.back_off(Phase::Watch),
            // At once: only an RV was wrong, and none is given now.
            (410 | 504, true) if !self.rv.is_empty() => {
                self.rv.clear();
                self.phase = Phase::Begin;
            }
            _ => self.back_off(Phase::Begin),
        }
    }

    fn replace(&mut self, whole: BTreeMap<String, Object>, rv: u64) {
        self.store = whole;
        self.synced = true;
        self.rv = rv.to_string();
        self.phase = Phase::Watch;
        self.backoff = self.min_backoff;
    }

    fn back_off(&mut self, phase: Phase) {
        self.partial = None;
        self.phase = phase;
        self.wait = self.backoff;
        self.backoff = (self.backoff * 2).min(self.max_backoff);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scope::Resource;
    use crate::truth::Key;

    fn object(name: &str, rv: u64) -> Object {
        Object {
            key: Key::new(Resource::Pods, "a", name),
            uid: name.to_owned(),
            rv,
            labels: BTreeMap::new(),
            node: String::new(),
            value: 0,
        }
    }

    fn refused(code: u16) -> Status {
        Status {
            code,
            ..Status::default()
        }
    }

    fn rv(request: &Request) -> &str {
        match request {
            Request::Watch(_, ask) => &ask.rv,
            Request::List(_, ask) => &ask.rv,
            Request::Get(_) => panic!("a reflector gets nothing"),
        }
    }

    #[test]
    fn initial_events_are_the_store_at_their_bookmark_and_the_watch_goes_on_from_there() {
        let mut reflector = Reflector::new(Scope::all(Resource::Pods), Flavour::WatchList);
        let (_, first) = reflector.next(300);
        assert!(matches!(&first, Request::Watch(_, ask) if ask.initial == Some(true)));
        reflector.answered(&Answer::Watch);
        assert!(reflector.told(&Told::Event(EventKind::Added, object("x", 5))));
        assert!(!reflector.store().synced);
        let end = Told::Bookmark {
            rv: 9,
            ends_initial: true,
        };
        assert!(reflector.told(&end));
        assert!(reflector.store().synced);
        reflector.ended(10);
        let (wait, again) = reflector.next(300);
        assert_eq!((wait, rv(&again)), (0, "9"));
        assert!(matches!(again, Request::Watch(_, ask) if ask.initial.is_none()));
    }

    #[test]
    fn an_rv_that_is_too_old_is_first_tried_as_the_least_and_then_left_out() {
        let mut reflector = Reflector::new(Scope::all(Resource::Pods), Flavour::WatchList);
        reflector.replace(BTreeMap::new(), 7);
        reflector.next(300);
        assert!(!reflector.told(&Told::Error(refused(410))));
        reflector.ended(1);
        let (wait, again) = reflector.next(300);
        assert_eq!((wait > 0, rv(&again)), (true, "7"));
        assert!(!reflector.told(&Told::Error(refused(410))));
        reflector.ended(1);
        let (wait, again) = reflector.next(300);
        assert_eq!((wait, rv(&again)), (0, ""));
    }

    #[test]
    fn pages_are_one_list_and_a_page_that_is_gone_is_asked_for_with_all_others() {
        let mut reflector = Reflector::new(Scope::all(Resource::Pods), Flavour::ListWatch);
        let page = |name: &str, token: &str| {
            Answer::List(List {
                rv: 9,
                continue_token: token.to_owned(),
                items: vec![object(name, 5)],
            })
        };
        reflector.next(300);
        reflector.answered(&page("x", "more"));
        reflector.next(300);
        assert!(!reflector.store().synced);
        reflector.answered(&page("y", ""));
        assert_eq!(reflector.store().objects.len(), 2);
        reflector.next(300);
        reflector.answered(&Answer::Refused(refused(500)));
        reflector.next(300);
        reflector.answered(&page("x", "more"));
        reflector.next(300);
        reflector.answered(&Answer::Refused(refused(410)));
        let (_, whole) = reflector.next(300);
        assert!(matches!(whole, Request::List(_, ask) if ask.limit.is_none()));
    }
}
