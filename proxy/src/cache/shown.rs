//! How far each caller's own streams have shown a scope that the cache could not follow: it is not to be told anything older.
//!
//! A stream that begins after what is known of its scope leaves a gap, until a list closes it. Should the upstream go before
//! that, what is kept of the scope is whole and true, but of a time that this caller has left behind.
//!
//! Bounded: what is forgotten here makes an answer older than it need be, but never wrong for its RV.

use std::collections::VecDeque;

use super::grants::covers;
use super::key::GroupResource;
use crate::identity::ServiceAccount;
use crate::request_info::Scope;

/// A scope is here while a stream is ahead of it: rarely, and then for a moment. The oldest makes room.
const MAX_SCOPES: usize = 256;

#[derive(Default)]
pub(super) struct Shown {
    scopes: VecDeque<(ServiceAccount, Scope, u64)>,
}

/// What became of a note.
pub(super) struct Noted {
    /// It was not known that it was shown as far as that.
    pub(super) is_news: bool,
    /// What made room.
    pub(super) dropped: Option<(ServiceAccount, Scope)>,
}

impl Shown {
    pub(super) fn note(
        &mut self,
        caller: &ServiceAccount,
        scope: &Scope,
        resource_version: u64,
    ) -> Noted {
        let mut scopes = self.scopes.iter_mut();
        let known = scopes.find(|(who, of, _)| who == caller && of == scope);
        if let Some((_, _, until)) = known {
            let is_news = resource_version > *until;
            *until = resource_version.max(*until);
            return Noted {
                is_news,
                dropped: None,
            };
        }
        let mut dropped = None;
        if self.scopes.len() >= MAX_SCOPES {
            dropped = self.scopes.pop_front().map(|(who, of, _)| (who, of));
        }
        let shown = (caller.clone(), scope.clone(), resource_version);
        self.scopes.push_back(shown);
        Noted {
            is_news: true,
            dropped,
        }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (&ServiceAccount, &Scope, u64)> {
        self.scopes.iter().map(|(who, of, until)| (who, of, *until))
    }

    /// The least RV at which this caller may be told of the scope, or of a part of it; 0 when any will do.
    pub(super) fn least(&self, caller: &ServiceAccount, scope: &Scope) -> u64 {
        let of_caller = self
            .scopes
            .iter()
            .filter(|(who, of, _)| who == caller && (covers(of, scope) || covers(scope, of)));
        of_caller.map(|(_, _, until)| *until).max().unwrap_or(0)
    }

    /// The RVs of this resource went back. Says what was forgotten.
    pub(super) fn forget(&mut self, resource: &GroupResource) -> Vec<(ServiceAccount, Scope)> {
        let is_it = |of: &Scope| GroupResource::of(&of.resource) == *resource;
        let all = std::mem::take(&mut self.scopes);
        let (gone, kept): (VecDeque<_>, VecDeque<_>) =
            all.into_iter().partition(|(_, of, _)| is_it(of));
        self.scopes = kept;
        gone.into_iter().map(|(who, of, _)| (who, of)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::tests::caller;
    use crate::request_info::GroupVersionResource;

    fn pods(namespace: Option<&str>) -> Scope {
        Scope {
            resource: GroupVersionResource {
                group: String::new(),
                version: "v1".to_owned(),
                resource: "pods".to_owned(),
            },
            namespace: namespace.map(str::to_owned),
            label_selector: String::new(),
            field_selector: String::new(),
        }
    }

    #[test]
    fn what_a_caller_was_shown_counts_for_it_alone_and_for_what_is_inside() {
        let mut shown = Shown::default();
        shown.note(&caller("x"), &pods(Some("a")), 20);
        shown.note(&caller("x"), &pods(Some("a")), 15);
        assert_eq!(shown.least(&caller("x"), &pods(Some("a"))), 20);
        assert_eq!(shown.least(&caller("x"), &pods(None)), 20);
        assert_eq!(shown.least(&caller("x"), &pods(Some("b"))), 0);
        assert_eq!(shown.least(&caller("y"), &pods(Some("a"))), 0);
    }

    #[test]
    fn it_is_bounded() {
        let mut shown = Shown::default();
        for n in 0..=MAX_SCOPES {
            shown.note(&caller(&n.to_string()), &pods(None), 5);
        }
        assert_eq!(shown.scopes.len(), MAX_SCOPES);
        assert_eq!(shown.least(&caller("0"), &pods(None)), 0);
    }
}
