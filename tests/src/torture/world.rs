//! What all parts of the torture share.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

use super::TOPICS;
use super::tally::Tally;
use super::truth::Truth;
use crate::fixtures::CONFIGMAPS;

/// Objects of each topic that come and go.
pub(super) const ITEMS: usize = 40;
const SECRETS: &str = "/api/v1/namespaces/shop/secrets";

/// The name of an object that comes and goes.
pub(super) fn item(number: usize) -> String {
    format!("item-{number}")
}

/// A label that an object keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Half {
    Left,
    Right,
}

impl Half {
    /// `None`: not an item.
    pub(super) fn of(name: &str) -> Option<Self> {
        let number: usize = name.strip_prefix("item-")?.parse().ok()?;
        Some(match number % 2 {
            0 => Self::Left,
            _ => Self::Right,
        })
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Right => "right",
        }
    }
}

/// A collection that is written, read and watched.
pub(super) struct Topic {
    pub(super) path: &'static str,
    pub(super) kind: &'static str,
    pub(super) truth: Truth,
}

/// How often the link was cut or mended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link(u64);

impl Link {
    /// For all of the time between two times that this was asked, if both say the same.
    pub(super) fn is_dark(self) -> bool {
        self.0 % 2 == 1
    }
}

pub(super) struct World {
    pub(super) topics: [Topic; TOPICS],
    link: AtomicU64,
    kills: AtomicUsize,
    /// Cancelled when clients may begin, and when all is to end.
    pub(super) begun: CancellationToken,
    pub(super) over: CancellationToken,
    found: Mutex<Option<String>>,
    pub(super) tally: Tally,
}

impl World {
    pub(super) fn new() -> Self {
        let topic = |path, kind| Topic {
            path,
            kind,
            truth: Truth::new(),
        };
        Self {
            topics: [topic(CONFIGMAPS, "ConfigMap"), topic(SECRETS, "Secret")],
            link: AtomicU64::new(0),
            kills: AtomicUsize::new(0),
            begun: CancellationToken::new(),
            over: CancellationToken::new(),
            found: Mutex::default(),
            tally: Tally::default(),
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.is_cancelled()
    }

    pub(super) fn link(&self) -> Link {
        Link(self.link.load(Ordering::SeqCst))
    }

    /// Said after it was cut, and before it is mended: what is between two cuts is dark.
    pub(super) fn link_changes(&self) {
        self.link.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn killed(&self) {
        let kills = self.kills.fetch_add(1, Ordering::SeqCst) + 1;
        self.tally.counts().kills = kills;
    }

    /// Words for now: which kill came last, and whether the link is up.
    pub(super) fn moment(&self) -> String {
        let light = if self.link().is_dark() {
            "in the dark"
        } else {
            "in the light"
        };
        format!("{light} after kill {}", self.kills.load(Ordering::SeqCst))
    }

    /// What cannot be was seen: the first of it ends the world.
    pub(super) fn find(&self, what: String) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.get_or_insert(what);
        self.over.cancel();
    }

    pub(super) fn found(&self) -> Option<String> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.clone()
    }
}
