//! Bugs for the model test to find, so that it is tested itself. One can be switched on in a test build; in any other they
//! are not there: `is_on` is constantly false.

/// Each is a mistake that a cache of this API made somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(test), expect(dead_code, reason = "named where they would be"))]
pub(crate) enum Bug {
    /// A page is taken for the list.
    PartialListCommitted,
    /// After a 410 a stream goes on from the list, and its client is not told what it missed.
    GoneSwallowed,
    /// A DELETED of a filtered stream is taken for the object's end.
    FilteredDeletedBelieved,
    /// A list replaces what is newer.
    RvBackwards,
    /// A stream is resumed after the event that follows the last one seen.
    EventLostOnResume,
    /// A label selector selects everything.
    WrongSelector,
    /// The initial events do not end.
    MissingBookmark,
    /// What a later list does not hold stays.
    GhostAfterRelist,
}

#[cfg(not(test))]
pub(crate) const fn is_on(_: Bug) -> bool {
    false
}

#[cfg(test)]
pub(crate) use switched::{Switched, is_on};

#[cfg(test)]
mod switched {
    use std::cell::Cell;

    use super::Bug;

    thread_local! {
        static ON: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    pub(crate) fn is_on(bug: Bug) -> bool {
        ON.get() == Some(bug)
    }

    impl Bug {
        pub(crate) const ALL: [Self; 8] = [
            Self::PartialListCommitted,
            Self::GoneSwallowed,
            Self::FilteredDeletedBelieved,
            Self::RvBackwards,
            Self::EventLostOnResume,
            Self::WrongSelector,
            Self::MissingBookmark,
            Self::GhostAfterRelist,
        ];
    }

    /// On in this thread while it lives.
    pub(crate) struct Switched;

    impl Switched {
        pub(crate) fn on(bug: Bug) -> Self {
            ON.set(Some(bug));
            Self
        }
    }

    impl Drop for Switched {
        fn drop(&mut self) {
            ON.set(None);
        }
    }
}
