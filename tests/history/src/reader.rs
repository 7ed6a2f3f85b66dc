//! A client that asks when a step says so: one read with all its pages, or one watch, without I/O.

use crate::plan::{Read, Rv};
use crate::record::{Answer, ListAsk, Request, WatchAsk};
use crate::scope::Scope;
use crate::wire::Told;

/// The latest RVs a reader was told, by scope.
#[derive(Debug, Default)]
pub struct Seen(Vec<(Scope, u64)>);

impl Seen {
    fn tell(&mut self, scope: &Scope, rv: u64) {
        match self.0.iter_mut().find(|(of, _)| of == scope) {
            Some((_, known)) => *known = rv.max(*known),
            None => self.0.push((scope.clone(), rv)),
        }
    }

    fn number(&self, scope: &Scope, rv: Rv) -> String {
        let known = self.0.iter().find(|(of, _)| of == scope);
        match (rv, known) {
            (Rv::Any, _) => "0".to_owned(),
            (Rv::Seen, Some((_, known))) => known.to_string(),
            (Rv::Unset, _) | (Rv::Seen, None) => String::new(),
        }
    }
}

/// A read under way: `request` is what to ask, the others take what comes of it.
#[derive(Debug)]
pub struct Reading {
    request: Request,
    /// Leaves off after the first page.
    gives_up: bool,
    /// The RVs of a stream rise: what came before is known whole.
    ordered: bool,
}

impl Reading {
    pub fn new(read: &Read, seen: &Seen) -> Self {
        let request = match read {
            Read::Get(key) => Request::Get(key.clone()),
            Read::List {
                scope,
                rv,
                exact,
                limit,
                ..
            } => {
                let rv = seen.number(scope, *rv);
                let ask = ListAsk {
                    exact: *exact && is_number(&rv),
                    rv,
                    limit: *limit,
                    continue_token: String::new(),
                };
                Request::List(scope.clone(), ask)
            }
            Read::Watch {
                scope,
                rv,
                initial,
                bookmarks,
                seconds,
            } => {
                let ask = WatchAsk {
                    rv: seen.number(scope, *rv),
                    initial: *initial,
                    bookmarks: *bookmarks,
                    timeout_seconds: Some(*seconds),
                };
                Request::Watch(scope.clone(), ask)
            }
        };
        Self {
            gives_up: matches!(read, Read::List { gives_up: true, .. }),
            ordered: matches!(&request, Request::Watch(_, ask)
                if ask.initial != Some(true) && is_number(&ask.rv)),
            request,
        }
    }

    pub fn request(&self) -> &Request {
        &self.request
    }

    /// `true`: there is a next page, and `request` asks for it.
    pub fn answered(&mut self, answer: &Answer, seen: &mut Seen) -> bool {
        let (Request::List(scope, ask), Answer::List(list)) = (&mut self.request, answer) else {
            return false;
        };
        if list.continue_token.is_empty() {
            seen.tell(scope, list.rv);
            return false;
        }
        *ask = ListAsk {
            limit: ask.limit,
            continue_token: list.continue_token.clone(),
            ..ListAsk::default()
        };
        !self.gives_up
    }

    /// `false`: the client closes this stream.
    pub fn told(&mut self, told: &Told, seen: &mut Seen) -> bool {
        let Request::Watch(scope, _) = &self.request else {
            return false;
        };
        match told {
            Told::Bookmark { rv, .. } => {
                self.ordered = true;
                seen.tell(scope, *rv);
            }
            Told::Event(_, object) if self.ordered => seen.tell(scope, object.rv),
            Told::Event(..) => {}
            Told::Error(_) => return false,
        }
        true
    }
}

/// An RV that means itself: `0` means any.
fn is_number(rv: &str) -> bool {
    rv.parse().is_ok_and(|rv: u64| rv > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scope::Resource;
    use crate::wire::List;

    fn list(rv: Rv, gives_up: bool) -> Read {
        Read::List {
            scope: Scope::all(Resource::Pods),
            rv,
            exact: true,
            limit: Some(2),
            gives_up,
        }
    }

    fn page(rv: u64, token: &str) -> Answer {
        Answer::List(List {
            rv,
            continue_token: token.to_owned(),
            items: Vec::new(),
        })
    }

    #[test]
    fn a_list_is_read_to_its_last_page_and_the_next_one_may_ask_for_its_rv() {
        let mut seen = Seen::default();
        let mut reading = Reading::new(&list(Rv::Seen, false), &seen);
        assert_eq!(reading.request().target(), "/api/v1/pods?limit=2");
        assert!(reading.answered(&page(7, "more"), &mut seen));
        assert_eq!(
            reading.request().target(),
            "/api/v1/pods?limit=2&continue=more"
        );
        assert!(!reading.answered(&page(7, ""), &mut seen));
        let reading = Reading::new(&list(Rv::Seen, false), &seen);
        assert_eq!(
            reading.request().target(),
            "/api/v1/pods?resourceVersion=7&resourceVersionMatch=Exact&limit=2"
        );
    }

    #[test]
    fn a_list_that_was_given_up_is_not_known() {
        let mut seen = Seen::default();
        let mut reading = Reading::new(&list(Rv::Unset, true), &seen);
        assert!(!reading.answered(&page(7, "more"), &mut seen));
        let reading = Reading::new(&list(Rv::Seen, true), &seen);
        assert_eq!(reading.request().target(), "/api/v1/pods?limit=2");
    }
}
