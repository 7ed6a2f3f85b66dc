//! What the clients were told, in the order in which they were told it.

use std::fmt;

use crate::scope::{Resource, Scope};
use crate::truth::{Key, Object};
use crate::wire::{self, List, Status, Told};

/// A client of the plan, by its place there.
pub type ClientId = usize;
/// One exchange: a request with all that is said in answer to it.
pub type ExchangeId = usize;

/// Who gave an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The API server: passed on as it came.
    Upstream,
    /// Holdfast, from what it had learnt.
    Cache,
    /// Holdfast: a refusal.
    Holdfast,
}

/// What a LIST asks for beside its scope.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListAsk {
    /// As written: empty, `0` or a number.
    pub rv: String,
    /// `resourceVersionMatch=Exact`.
    pub exact: bool,
    pub limit: Option<u64>,
    pub continue_token: String,
}

/// What a watch asks for beside its scope.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchAsk {
    /// As written: empty, `0` or a number.
    pub rv: String,
    /// `sendInitialEvents`.
    pub initial: Option<bool>,
    pub bookmarks: bool,
    pub timeout_seconds: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    List(Scope, ListAsk),
    Get(Key),
    Watch(Scope, WatchAsk),
}

impl Request {
    pub fn resource(&self) -> Resource {
        match self {
            Self::List(scope, _) | Self::Watch(scope, _) => scope.resource,
            Self::Get(key) => key.resource,
        }
    }

    /// Path and query of the request line.
    pub fn target(&self) -> String {
        let (path, mut query) = match self {
            Self::Get(key) => return key.path(),
            Self::List(scope, _) | Self::Watch(scope, _) => scope.target(),
        };
        let mut put = |name, value: &dyn ToString| query.push((name, value.to_string()));
        match self {
            Self::List(_, ask) => ask.write(&mut put),
            Self::Watch(_, ask) => ask.write(&mut put),
            Self::Get(_) => {}
        }
        let query = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(query)
            .finish();
        match query.is_empty() {
            true => path,
            false => format!("{path}?{query}"),
        }
    }
}

impl ListAsk {
    fn write(&self, put: &mut impl FnMut(&'static str, &dyn ToString)) {
        if !self.rv.is_empty() {
            put("resourceVersion", &self.rv);
        }
        if self.exact {
            put("resourceVersionMatch", &"Exact");
        }
        if let Some(limit) = self.limit {
            put("limit", &limit);
        }
        if !self.continue_token.is_empty() {
            put("continue", &self.continue_token);
        }
    }
}

impl WatchAsk {
    fn write(&self, put: &mut impl FnMut(&'static str, &dyn ToString)) {
        put("watch", &"true");
        if !self.rv.is_empty() {
            put("resourceVersion", &self.rv);
        }
        if let Some(initial) = self.initial {
            put("sendInitialEvents", &initial);
            put("resourceVersionMatch", &"NotOlderThan");
        }
        if self.bookmarks {
            put("allowWatchBookmarks", &"true");
        }
        if let Some(seconds) = self.timeout_seconds {
            put("timeoutSeconds", &seconds);
        }
    }
}

/// How an exchange began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    List(List),
    Object(Object),
    /// The stream is open.
    Watch,
    Refused(Status),
    /// The body broke off, or no answer came: the client knows that it has nothing.
    Broken,
    /// Whole, and not as the API server would write it.
    Malformed(String),
}

impl Answer {
    /// What a whole body says in answer to a request; of a watch that was accepted nothing need be read.
    pub fn read(request: &Request, status: u16, body: &[u8]) -> Self {
        let read = match request {
            _ if !(200..300).contains(&status) => wire::status(body).map(|said| {
                Self::Refused(Status {
                    code: status,
                    ..said
                })
            }),
            Request::List(scope, _) => wire::list(scope.resource, body).map(Self::List),
            Request::Get(key) => wire::object(key.resource, body).map(Self::Object),
            Request::Watch(..) => Ok(Self::Watch),
        };
        read.unwrap_or_else(Self::Malformed)
    }
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Clean,
    Broken,
    /// The client left.
    ByClient,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    Asked(Request),
    Answered(Origin, Answer),
    /// On the stream of this exchange.
    Told(Told),
    /// Something on the stream that is no whole event.
    Garbled(String),
    Ended(End),
}

/// What an informer holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    pub scope: Scope,
    /// It has seen the whole content once.
    pub synced: bool,
    /// In list order.
    pub objects: Vec<Object>,
}

/// What was done to the road and to either end of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The API server can't be reached from now on.
    Cut,
    Returned,
    /// Connections broke, or the API server was restarted: it can be reached.
    Disturbed,
    /// Holdfast was killed: what it learnt in the last moments may be lost.
    Killed,
    /// Holdfast was stopped in order, and started again.
    Restarted,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    Exchange(ClientId, ExchangeId, What),
    /// `kind` tells the reader what it was.
    Happened(Event, String),
    /// A request as the API server got it: for the reader.
    Arrived(String),
    /// Something was written: for the reader, the truth has it.
    Wrote(u64, String),
    /// What an informer holds now that nothing moves; it stands before the `Quiet` it belongs to.
    Holds(ClientId, Store),
    /// Nothing is under way any more, at the latest RV, and the API server can be reached.
    Quiet(u64),
}

/// Entries with the time since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    pub entries: Vec<(u64, Entry)>,
}

impl Record {
    /// `at` is in milliseconds.
    pub fn push(&mut self, at: u64, entry: Entry) {
        self.entries.push((at, entry));
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.entries.iter().enumerate();
        lines
            .into_iter()
            .try_for_each(|(index, (at, entry))| writeln!(f, "{index:5} {at:8} ms  {entry}"))
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exchange(client, exchange, what) => {
                write!(f, "client {client} #{exchange}: {what}")
            }
            Self::Happened(event, what) => write!(f, "=== {event:?}: {what}"),
            Self::Arrived(request) => write!(f, "    asked {request}"),
            Self::Wrote(rv, what) => write!(f, "    wrote {rv}: {what}"),
            Self::Holds(client, store) => write!(
                f,
                "client {client} holds ({}) of {}: {}",
                if store.synced { "synced" } else { "not synced" },
                store.scope,
                objects(&store.objects)
            ),
            Self::Quiet(rv) => write!(f, "=== quiet at {rv}"),
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked(Request::List(scope, ask)) => {
                let ListAsk {
                    rv,
                    exact,
                    limit,
                    continue_token,
                } = ask;
                write!(f, "LIST {scope} rv={rv:?}")?;
                let exact = if *exact { " exactly" } else { "" };
                let limit = limit.map(|limit| format!(" limit={limit}"));
                let next = if continue_token.is_empty() {
                    ""
                } else {
                    " next page"
                };
                write!(f, "{exact}{}{next}", limit.unwrap_or_default())
            }
            Self::Asked(Request::Get(key)) => write!(f, "GET {}", key.path()),
            Self::Asked(Request::Watch(scope, ask)) => {
                let initial = match ask.initial {
                    Some(true) => " with initial events",
                    Some(false) => " without initial events",
                    None => "",
                };
                let bookmarks = if ask.bookmarks {
                    ""
                } else {
                    " without bookmarks"
                };
                write!(f, "WATCH {scope} rv={:?}{initial}{bookmarks}", ask.rv)
            }
            Self::Answered(origin, answer) => write!(f, "  -> {origin:?} {answer}"),
            Self::Told(told) => write!(f, "  .. {told}"),
            Self::Garbled(why) => write!(f, "  .. GARBLED {why}"),
            Self::Ended(end) => write!(f, "  -| {end:?}"),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::List(list) => {
                let more = if list.continue_token.is_empty() {
                    ""
                } else {
                    " and more"
                };
                write!(f, "list at {}: {}{more}", list.rv, objects(&list.items))
            }
            Self::Object(object) => write!(f, "{}", objects(std::slice::from_ref(object))),
            Self::Watch => write!(f, "watching"),
            Self::Refused(status) => write!(f, "{status}"),
            Self::Broken => write!(f, "broken off"),
            Self::Malformed(why) => write!(f, "MALFORMED {why}"),
        }
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Event(kind, object) => {
                write!(f, "{kind:?} {}", objects(std::slice::from_ref(object)))
            }
            Self::Bookmark { rv, ends_initial } => {
                let end = if *ends_initial {
                    " (end of initial events)"
                } else {
                    ""
                };
                write!(f, "bookmark {rv}{end}")
            }
            Self::Error(status) => write!(f, "ERROR {status}"),
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} {}: {}",
            self.code, self.reason, self.cause, self.message
        )
    }
}

/// `namespace/name@rv=value`.
pub(crate) fn objects(objects: &[Object]) -> String {
    let word = |object: &Object| {
        let labels: Vec<&str> = object.labels.values().map(String::as_str).collect();
        let labels = if labels.is_empty() {
            String::new()
        } else {
            format!("({})", labels.join(","))
        };
        format!("{}@{}{labels}", object.key.in_list_order(), object.rv)
    };
    let words: Vec<String> = objects.iter().map(word).collect();
    format!("[{}]", words.join(" "))
}
