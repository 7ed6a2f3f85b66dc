//! Where a held stream goes on. Pure: what it knows in, its next step out.

/// How often the upstream may say that an RV is too old before the client is told so. Once is an API server that was
/// restarted; twice, and it was so again, or forgets faster than a list is read.
const MAX_TIMES_GONE: u32 = 4;

/// What a stream knows when it is to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Course {
    /// Where its client is.
    pub(super) seen: u64,
    /// Where its collection is, if every change since `seen` is known.
    pub(super) known: Option<u64>,
    /// The latest RV that the upstream called too old: to this stream, and to any of the same topic.
    pub(super) gone: Option<u64>,
    pub(super) gone_to_others: Option<u64>,
    pub(super) times_gone: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// To watch from where the client is.
    Resume,
    /// To watch from this RV, and tell what the client missed until there once that is accepted.
    Heal(u64),
    /// To list, since nobody has come past the RV that is too old.
    List,
    /// To tell the client that its RV is too old: it lists by itself.
    GiveUp,
}

impl Course {
    pub(super) fn next(&self) -> Step {
        let Some(gone) = self.gone else {
            // What the upstream said to another stream need not be asked again by one that can do without.
            let is_gone = |known: &u64| {
                let others = self.gone_to_others;
                others.is_some_and(|gone| self.seen <= gone && gone < *known)
            };
            return self.known.filter(is_gone).map_or(Step::Resume, Step::Heal);
        };
        match self.known {
            _ if self.times_gone > MAX_TIMES_GONE => Step::GiveUp,
            None => Step::GiveUp,
            Some(known) if known > gone => Step::Heal(known),
            Some(_) => Step::List,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEEN: Course = Course {
        seen: 10,
        known: Some(10),
        gone: None,
        gone_to_others: None,
        times_gone: 0,
    };

    #[test]
    fn a_stream_goes_on_from_where_its_client_is_while_the_upstream_knows_that() {
        assert_eq!(SEEN.next(), Step::Resume);
        let known = Some(20);
        assert_eq!(Course { known, ..SEEN }.next(), Step::Resume);
        let known = None;
        assert_eq!(Course { known, ..SEEN }.next(), Step::Resume);
    }

    #[test]
    fn only_the_first_of_a_topic_that_hears_of_it_lists() {
        let gone = Course {
            gone: Some(10),
            times_gone: 1,
            ..SEEN
        };
        assert_eq!(gone.next(), Step::List);
        let listed = Course {
            known: Some(20),
            ..gone
        };
        assert_eq!(listed.next(), Step::Heal(20));
        let another = Course {
            known: Some(20),
            gone_to_others: Some(10),
            ..SEEN
        };
        assert_eq!(another.next(), Step::Heal(20));
        let further = Course {
            seen: 11,
            ..another
        };
        assert_eq!(further.next(), Step::Resume, "it was not told so");
        let behind = Course {
            known: Some(10),
            ..another
        };
        assert_eq!(behind.next(), Step::Resume, "it is its own to hear");
    }

    #[test]
    fn an_rv_that_is_too_old_again_takes_another_list_and_not_for_ever() {
        let again = Course {
            known: Some(20),
            gone: Some(20),
            times_gone: 2,
            ..SEEN
        };
        assert_eq!(again.next(), Step::List);
        let times_gone = MAX_TIMES_GONE + 1;
        assert_eq!(
            Course {
                times_gone,
                ..again
            }
            .next(),
            Step::GiveUp
        );
    }

    #[test]
    fn a_client_of_whose_past_something_is_not_known_lists_by_itself() {
        let unknown = Course {
            known: None,
            gone: Some(10),
            times_gone: 1,
            ..SEEN
        };
        assert_eq!(unknown.next(), Step::GiveUp);
    }
}
