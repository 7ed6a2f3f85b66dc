//! Whether a record can be, given the truth: what etcd's own robustness tests demand of watches (`etcd-io/etcd:tests/robustness`),
//! told of Kubernetes' streams, and what a cache must never do.

mod explain;
mod stream;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::plan::Client;
use crate::record::{
    Answer, ClientId, End, Entry, Event, ExchangeId, ListAsk, Origin, Record, Request, Store, What,
    objects,
};
use crate::scope::{Resource, Scope};
use crate::truth::{Content, EventKind, Key, Object, Truth};
use crate::wire::{List, Status, Told};
pub use explain::explain;
use stream::Stream;

/// Why Holdfast refuses what is older than its caller knows.
const SHOWN_SINCE: &str = "ShownSince";

/// What every history must keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Property {
    /// The RVs of a stream never go back, nor do those that one client is told of one scope.
    Ordered,
    /// No change is told twice on one stream.
    Unique,
    /// A change is told whole, and as it was.
    Atomic,
    /// No change is left out.
    Reliable,
    /// Initial events end with their bookmark; at each bookmark all until its RV was told.
    Bookmarkable,
    /// What an informer holds when all is quiet is what there is.
    Resumable,
    /// A served list is the content of its scope at the RV it carries.
    Complete,
    /// A served object is as it was, and not older than what its client knows.
    Fresh,
    /// What was seen whole is answered in the dark; so is the request that a 410 leads to.
    Answered,
}

/// A property that was not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The entry of the record that cannot be.
    pub entry: usize,
    pub property: Property,
    pub why: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} at entry {}: {}",
            self.property, self.entry, self.why
        )
    }
}

/// Every violation, in the order of the record.
pub fn check(clients: &[Client], truth: &Truth, record: &Record) -> Vec<Violation> {
    let mut checker = Checker::new(clients, truth);
    for (index, (_, entry)) in record.entries.iter().enumerate() {
        checker.entry = index;
        checker.see(entry);
    }
    checker.found
}

struct Checker<'t> {
    clients: &'t [Client],
    truth: &'t Truth,
    entry: usize,
    found: Vec<Violation>,
    exchanges: BTreeMap<ExchangeId, Exchange>,
    /// The highest RV at which a client was shown an object.
    shown: BTreeMap<(ClientId, Key), u64>,
    /// The highest RV that a client was told of a scope.
    told: BTreeMap<(ClientId, Scope), u64>,
    /// The pages so far of lists that go on, by their next token. That names an RV and a key: lists of two scopes may share it.
    pages: BTreeMap<(ClientId, Scope, String), Vec<Object>>,
    /// Callers and scopes that must be answered in the dark, and as of when at least: 0 where that is not known.
    owed: BTreeMap<(usize, Scope), u64>,
    /// Callers whose streams of a resource told something since all was last quiet: what is kept may be older than that, and is
    /// then not told to them.
    followed: BTreeSet<(usize, Resource)>,
    /// The scopes that informers hold, since all was last quiet.
    held: Vec<(ClientId, Store)>,
    is_cut: bool,
    /// Once Holdfast was killed it may know less than it told, until the API server told a scope whole again. `None`: it never was.
    whole_since: Option<BTreeSet<Scope>>,
}

struct Exchange {
    request: Request,
    /// Asked while the API server could not be reached.
    in_the_dark: bool,
    /// The highest RV its client had been told of the scope.
    known: u64,
    /// Of a list: at which RVs its client had been shown objects.
    shown: BTreeMap<Key, u64>,
    /// Of a read: how much its client had been told of scopes that selectors choose.
    selected: Vec<(Scope, u64)>,
    stream: Option<Stream>,
}

impl<'t> Checker<'t> {
    fn new(clients: &'t [Client], truth: &'t Truth) -> Self {
        Self {
            clients,
            truth,
            entry: 0,
            found: Vec::new(),
            exchanges: BTreeMap::new(),
            shown: BTreeMap::new(),
            told: BTreeMap::new(),
            pages: BTreeMap::new(),
            owed: BTreeMap::new(),
            followed: BTreeSet::new(),
            held: Vec::new(),
            is_cut: false,
            whole_since: None,
        }
    }

    fn see(&mut self, entry: &Entry) {
        match entry {
            Entry::Exchange(client, exchange, what) => self.exchange(*client, *exchange, what),
            Entry::Happened(event, _) => self.happened(*event),
            Entry::Arrived(_) | Entry::Wrote(..) => {}
            Entry::Holds(client, store) => self.held.push((*client, store.clone())),
            Entry::Quiet(rv) => self.quiet(*rv),
        }
    }

    fn happened(&mut self, event: Event) {
        match event {
            Event::Cut => self.is_cut = true,
            Event::Returned => self.is_cut = false,
            Event::Disturbed => {}
            Event::Restarted => self.forget_streams(),
            Event::Killed => {
                self.whole_since = Some(BTreeSet::new());
                self.shown.clear();
                self.forget_streams();
                self.owed.clear();
                // What it had sent may arrive still; who comes after it knows nothing of that.
                self.exchanges.clear();
            }
        }
        let streams = self.exchanges.values_mut();
        for stream in streams.filter_map(|exchange| exchange.stream.as_mut()) {
            stream.was_disturbed();
        }
    }

    /// What streams showed beyond what is known whole is forgotten with the process.
    fn forget_streams(&mut self) {
        let Some(whole_since) = &self.whole_since else {
            return;
        };
        self.told
            .retain(|(_, scope), _| whole_since.contains(scope));
        for exchange in self.exchanges.values_mut() {
            let (Request::List(scope, _) | Request::Watch(scope, _)) = &exchange.request else {
                continue;
            };
            if !whole_since.contains(scope) {
                exchange.known = 0;
            }
        }
    }

    fn exchange(&mut self, client: ClientId, id: ExchangeId, what: &What) {
        if let What::Asked(request) = what {
            let known = match request {
                Request::List(scope, _) | Request::Watch(scope, _) => {
                    self.told.get(&(client, scope.clone())).copied()
                }
                Request::Get(_) => None,
            };
            let shown = match request {
                Request::List(..) => self.shown_to(client),
                Request::Watch(..) | Request::Get(_) => BTreeMap::new(),
            };
            let selected = match request {
                Request::List(..) | Request::Get(_) => self.selected_for(client),
                Request::Watch(..) => Vec::new(),
            };
            let exchange = Exchange {
                shown,
                selected,
                request: request.clone(),
                in_the_dark: self.is_cut,
                known: known.unwrap_or_default(),
                stream: None,
            };
            self.exchanges.insert(id, exchange);
            return;
        }
        let Some(mut exchange) = self.exchanges.remove(&id) else {
            return;
        };
        match what {
            What::Asked(_) => {}
            What::Answered(origin, answer) => self.answered(client, &mut exchange, *origin, answer),
            What::Told(told) => self.told(client, &mut exchange, told),
            What::Garbled(why) => self.report(Property::Atomic, why.clone()),
            What::Ended(end) => {
                if let Some(stream) = &exchange.stream
                    && *end == End::Clean
                    && stream.is_cut_short()
                {
                    self.report(
                        Property::Atomic,
                        "the stream goes on after an ERROR".to_owned(),
                    );
                }
                return;
            }
        }
        self.exchanges.insert(id, exchange);
    }

    fn told(&mut self, client: ClientId, exchange: &mut Exchange, told: &Told) {
        let (Some(stream), Request::Watch(scope, _)) = (&mut exchange.stream, &exchange.request)
        else {
            return;
        };
        let entry = self.entry;
        let violation = |(property, why)| Violation {
            entry,
            property,
            why,
        };
        let seen = stream.told(self.truth, told);
        let object = match told {
            // A deletion that a list proved has that list's RV, and its name may be another object's since before that.
            Told::Event(EventKind::Deleted, _) => None,
            Told::Event(_, object) => Some(object.clone()),
            Told::Error(_) | Told::Bookmark { .. } => None,
        };
        self.found.extend(seen.into_iter().map(violation));
        if let Some(object) = object {
            self.show(client, &object);
        }
        let ends_initial = match told {
            Told::Error(_) => return,
            Told::Event(..) => false,
            Told::Bookmark { ends_initial, .. } => *ends_initial,
        };
        let caller = self.clients.get(client).map_or(0, |client| client.caller);
        self.followed.insert((caller, scope.resource));
        let Some(position) = stream.position() else {
            return;
        };
        let from_cache = stream.is_of_cache_until(position);
        if ends_initial && !from_cache {
            self.told_whole(scope);
        }
        let known = if from_cache { exchange.known } else { 0 };
        self.tell(client, scope, known, position);
    }

    fn answered(
        &mut self,
        client: ClientId,
        exchange: &mut Exchange,
        origin: Origin,
        answer: &Answer,
    ) {
        match (&exchange.request, answer) {
            (_, Answer::Malformed(why)) => self.report(Property::Atomic, why.clone()),
            (Request::List(scope, ask), Answer::List(list)) => {
                // An exact RV, as a limit makes it, and the next page: the client has what it asked for, however old.
                let is_exact = ask.exact || (ask.limit.is_some() && !ask.rv.is_empty());
                let is_chosen = is_exact || !ask.continue_token.is_empty();
                let known = match origin == Origin::Cache && !is_chosen {
                    true => exchange.known,
                    false => 0,
                };
                if origin == Origin::Upstream && list.continue_token.is_empty() {
                    self.told_whole(scope);
                }
                if origin == Origin::Cache && !is_chosen {
                    self.not_older(&exchange.shown, &list.items);
                    let items = list.items.iter();
                    items.for_each(|item| self.not_outlived(&exchange.selected, item));
                }
                list.items.iter().for_each(|item| self.show(client, item));
                self.listed(client, known, scope, ask, list);
            }
            (Request::Get(key), Answer::Object(object)) => {
                if origin == Origin::Cache {
                    self.not_outlived(&exchange.selected, object);
                }
                self.got(client, origin, key, object);
            }
            (Request::Get(key), Answer::Refused(status)) if status.code == 404 => {
                self.missing(client, origin, key);
            }
            (Request::Watch(scope, ask), Answer::Watch) => {
                let stream = Stream::new(self.truth, scope, ask, origin);
                exchange.stream = Some(stream);
            }
            (request, Answer::Refused(status)) => {
                let (request, dark) = (request.clone(), exchange.in_the_dark && self.is_cut);
                self.refused(client, &request, dark, status);
            }
            _ => {}
        }
    }

    // --- LIST ---

    fn listed(&mut self, client: ClientId, known: u64, scope: &Scope, ask: &ListAsk, list: &List) {
        let mut items = match ask.continue_token.as_str() {
            "" => Vec::new(),
            token => {
                // Not taken out: the same list, asked for twice at once, has the same tokens.
                let before = self.pages.get(&(client, scope.clone(), token.to_owned()));
                before.cloned().unwrap_or_default()
            }
        };
        items.extend(list.items.iter().cloned());
        let content = self.truth.content(scope, list.rv);
        if !list.continue_token.is_empty() {
            let so_far: Content = content.into_iter().take(items.len()).collect();
            self.compare(Property::Complete, &so_far, &items, list.rv, "a page");
            self.pages
                .insert((client, scope.clone(), list.continue_token.clone()), items);
            return;
        }
        self.compare(Property::Complete, &content, &items, list.rv, "a list");
        let least: u64 = ask.rv.parse().unwrap_or(0);
        if list.rv < least || (ask.exact && list.rv != least) {
            let why = format!("asked for {least}, answered at {}", list.rv);
            self.report(Property::Ordered, why);
        }
        self.tell(client, scope, known, list.rv);
    }

    /// Not even in a list of another scope than the one that showed it.
    fn not_older(&mut self, shown: &BTreeMap<Key, u64>, items: &[Object]) {
        for item in items {
            if let Some(before) = shown.get(&item.key).filter(|before| item.rv < **before) {
                let why = format!(
                    "{} is listed at {}, and was shown to this client at {before}",
                    item.key.path(),
                    item.rv
                );
                self.report(Property::Ordered, why);
            }
        }
    }

    /// Not as it was when a scope would have held it of which its client was told since.
    fn not_outlived(&mut self, selected: &[(Scope, u64)], object: &Object) {
        let Some(until) = self.truth.next_change(&object.key, object.rv) else {
            return;
        };
        let mut since = selected.iter();
        let since = since.find(|(scope, rv)| until <= *rv && scope.matches(object));
        if let Some((scope, rv)) = since {
            let why = format!(
                "{} is told as it was at {}, until {until}, and this client was told of {scope} at {rv}",
                object.key.path(),
                object.rv
            );
            self.report(Property::Fresh, why);
        }
    }

    fn selected_for(&self, client: ClientId) -> Vec<(Scope, u64)> {
        let told = self.told.iter();
        let of_it = told.filter(|((who, scope), _)| *who == client && !scope.is_unfiltered());
        of_it.map(|((_, scope), rv)| (scope.clone(), *rv)).collect()
    }

    fn show(&mut self, client: ClientId, object: &Object) {
        let shown = self.shown.entry((client, object.key.clone())).or_default();
        *shown = object.rv.max(*shown);
    }

    fn shown_to(&self, client: ClientId) -> BTreeMap<Key, u64> {
        let shown = self.shown.iter().filter(|((who, _), _)| *who == client);
        shown.map(|((_, key), rv)| (key.clone(), *rv)).collect()
    }

    fn compare(
        &mut self,
        property: Property,
        content: &Content,
        items: &[Object],
        rv: u64,
        what: &str,
    ) {
        if !content.values().map(AsRef::as_ref).eq(items) {
            let is: Vec<Object> = content.values().map(|object| (**object).clone()).collect();
            let why = format!(
                "{what} at {rv} is {}, and was told as {}",
                objects(&is),
                objects(items)
            );
            self.report(property, why);
        }
    }

    fn told_whole(&mut self, scope: &Scope) {
        if let Some(whole_since) = &mut self.whole_since {
            whole_since.insert(scope.clone());
        }
    }

    /// A client was told an RV of a scope, and knew of one when it asked: 0 where an older one may answer. What the API server
    /// itself tells may be older when the client asked for any.
    fn tell(&mut self, client: ClientId, scope: &Scope, known: u64, rv: u64) {
        let told = self.told.entry((client, scope.clone())).or_default();
        *told = rv.max(*told);
        if rv < known {
            let why =
                format!("{scope}: this client was told {known} before it asked, and now {rv}");
            self.report(Property::Ordered, why);
        }
    }

    // --- GET ---

    fn got(&mut self, client: ClientId, origin: Origin, key: &Key, object: &Object) {
        let is_true = (self.truth.version(key, object.rv)).is_some_and(|was| **was == *object);
        if !is_true {
            let why = format!("{} was never so", objects(std::slice::from_ref(object)));
            return self.report(Property::Atomic, why);
        }
        self.show(client, object);
        let known = self.known_of(client, key);
        let until = self.truth.next_change(key, object.rv);
        if origin == Origin::Cache && until.is_some_and(|until| until <= known) {
            let why = format!(
                "{} is served at {}, and this client knows its change at {} since it was told {known}",
                key.path(),
                object.rv,
                until.unwrap_or_default()
            );
            self.report(Property::Fresh, why);
        }
    }

    fn missing(&mut self, client: ClientId, origin: Origin, key: &Key) {
        let known = self.known_of(client, key).max(self.known_whole(key));
        let is_there = self.truth.at(key, known).map(|object| object.rv);
        let was_gone = match is_there {
            None => true,
            Some(rv) => {
                let changes = self.truth.changes().iter().filter(|change| change.rv > rv);
                changes
                    .into_iter()
                    .any(|change| change.key() == key && change.after.is_none())
            }
        };
        if origin != Origin::Upstream && !was_gone {
            let why = format!("{} is there, and is said not to be", key.path());
            self.report(Property::Fresh, why);
        }
    }

    /// Until where this client was told all of what an object did.
    fn known_of(&self, client: ClientId, key: &Key) -> u64 {
        let told = self.told.iter();
        let of_it = told.filter(|((who, scope), _)| {
            *who == client && scope.is_unfiltered() && scope.holds(key)
        });
        of_it.map(|(_, rv)| *rv).max().unwrap_or_default()
    }

    /// As [`known_of`](Self::known_of), of whoever it was: Holdfast has heard it too, and had all from before.
    fn known_whole(&self, key: &Key) -> u64 {
        let is_whole = |scope: &Scope| {
            let whole_since = self.whole_since.as_ref();
            whole_since.is_none_or(|scopes| scopes.contains(scope))
        };
        let told = self.told.iter();
        let of_it = told
            .filter(|((_, scope), _)| scope.is_unfiltered() && scope.holds(key) && is_whole(scope));
        of_it.map(|(_, rv)| *rv).max().unwrap_or_default()
    }

    // --- refusals ---

    fn refused(&mut self, client: ClientId, request: &Request, dark: bool, status: &Status) {
        let caller = self.clients.get(client).map_or(0, |client| client.caller);
        let (scope, follow_up) = match request {
            Request::List(scope, ask) => {
                let any = matches!(ask.rv.as_str(), "" | "0") && ask.continue_token.is_empty();
                (scope, any)
            }
            Request::Watch(scope, ask) => (scope, matches!(ask.rv.as_str(), "" | "0")),
            Request::Get(key) => {
                let mut owed = self.owed.keys();
                let is_owed = owed.any(|(who, scope)| {
                    *who == caller && scope.is_unfiltered() && scope.holds(key)
                });
                if dark && is_owed {
                    let why = format!("{} is known, and is refused: {status}", key.path());
                    self.report(Property::Answered, why);
                }
                return;
            }
        };
        let owed = (caller, scope.clone());
        let since = self.owed.get(&owed).copied();
        if status.cause == SHOWN_SINCE
            && (self.followed.contains(&(caller, scope.resource))
                || self.has_seen_newer(caller, scope, since.unwrap_or_default()))
        {
            return;
        }
        if dark && follow_up && since.is_some() {
            let why = format!("{scope} is known, and is refused: {status}");
            self.report(Property::Answered, why);
        }
        if dark && matches!(status.code, 410 | 504) {
            self.owed.entry(owed).or_default();
        }
    }

    /// Whether a caller was shown an object of the resource, elsewhere, as it became after this.
    fn has_seen_newer(&self, caller: usize, scope: &Scope, since: u64) -> bool {
        self.shown.iter().any(|((client, key), rv)| {
            let is_his = self.clients.get(*client).map_or(0, |who| who.caller) == caller;
            is_his && key.resource == scope.resource && *rv > since
        })
    }

    // --- when nothing moves ---

    fn quiet(&mut self, rv: u64) {
        let entry = self.entry;
        let streams = self.exchanges.values_mut();
        for stream in streams.filter_map(|exchange| exchange.stream.as_mut()) {
            let seen = stream.quiet(self.truth, rv);
            let violation = |(property, why)| Violation {
                entry,
                property,
                why,
            };
            self.found.extend(seen.into_iter().map(violation));
        }
        self.followed.clear();
        for (client, store) in std::mem::take(&mut self.held) {
            if !store.synced {
                let why = format!("client {client} never synced with {}", store.scope);
                self.report(Property::Resumable, why);
                continue;
            }
            let content = self.truth.content(&store.scope, rv);
            let what = format!("what client {client} holds of {}", store.scope);
            self.compare(Property::Resumable, &content, &store.objects, rv, &what);
            if let Some(client) = self.clients.get(client) {
                self.owed.insert((client.caller, store.scope), rv);
            }
        }
    }

    fn report(&mut self, property: Property, why: String) {
        self.found.push(Violation {
            entry: self.entry,
            property,
            why,
        });
    }
}
