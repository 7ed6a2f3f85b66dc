//! The judge, judged: one record that can be, and one for each property that cannot.

use super::*;
use crate::plan::Kind;
use crate::record::WatchAsk;
use crate::scope::{Label, Resource};
use crate::truth::EventKind;
use crate::wire::Told;

fn object(name: &str, rv: u64, tier: &str) -> Object {
    Object {
        key: Key::new(Resource::ConfigMaps, "a", name),
        uid: name.to_owned(),
        rv,
        labels: [("tier".to_owned(), tier.to_owned())].into(),
        node: String::new(),
        value: rv,
    }
}

fn all() -> Scope {
    Scope::all(Resource::ConfigMaps)
}

fn front() -> Scope {
    tier("front")
}

fn tier(tier: &str) -> Scope {
    Scope {
        labels: vec![Label::Is("tier".to_owned(), tier.to_owned())],
        ..all()
    }
}

/// x at 11, y at 12, x at 13 leaves `front`, y deleted at 14, z at 15.
fn truth() -> Truth {
    let mut truth = Truth::new(10);
    truth.put(object("x", 11, "front"));
    truth.put(object("y", 12, "front"));
    truth.put(object("x", 13, "back"));
    truth.delete(&object("y", 0, "").key, 14);
    truth.put(object("z", 15, "front"));
    truth
}

fn clients() -> Vec<Client> {
    vec![Client {
        caller: 0,
        kind: Kind::Reader,
    }]
}

fn violations(entries: Vec<Entry>) -> Vec<Property> {
    let record = Record {
        entries: entries.into_iter().map(|entry| (0, entry)).collect(),
    };
    let found = check(&clients(), &truth(), &record);
    found.iter().map(|violation| violation.property).collect()
}

fn stream(
    scope: Scope,
    rv: &str,
    initial: Option<bool>,
    origin: Origin,
    told: Vec<Told>,
) -> Vec<Entry> {
    let ask = WatchAsk {
        rv: rv.to_owned(),
        initial,
        bookmarks: true,
        timeout_seconds: None,
    };
    let mut whats = vec![
        What::Asked(Request::Watch(scope, ask)),
        What::Answered(origin, Answer::Watch),
    ];
    whats.extend(told.into_iter().map(What::Told));
    whats
        .into_iter()
        .map(|what| Entry::Exchange(0, 0, what))
        .collect()
}

fn listed(id: ExchangeId, origin: Origin, scope: Scope, rv: u64, items: Vec<Object>) -> Vec<Entry> {
    let answer = Answer::List(List {
        rv,
        continue_token: String::new(),
        items,
    });
    let whats = [
        What::Asked(Request::List(scope, ListAsk::default())),
        What::Answered(origin, answer),
    ];
    whats.map(|what| Entry::Exchange(0, id, what)).into()
}

fn event(kind: EventKind, object: Object) -> Told {
    Told::Event(kind, object)
}

fn gone(name: &str, was: u64, rv: u64) -> Told {
    let deleted = Object {
        rv,
        ..object(name, was, "front")
    };
    event(EventKind::Deleted, deleted)
}

fn bookmark(rv: u64, ends_initial: bool) -> Told {
    Told::Bookmark { rv, ends_initial }
}

use EventKind::{Added, Modified};
use Origin::{Cache, Upstream};

#[test]
fn what_the_api_server_tells_can_be() {
    let told = vec![
        event(Added, object("x", 11, "front")),
        event(Added, object("y", 12, "front")),
        bookmark(12, true),
        gone("x", 11, 13),
        gone("y", 12, 14),
        event(Added, object("z", 15, "front")),
        bookmark(15, false),
    ];
    let mut entries = stream(front(), "", Some(true), Upstream, told);
    entries.push(Entry::Quiet(15));
    assert_eq!(violations(entries), []);
}

#[test]
fn a_change_left_out_is_found() {
    let told = vec![gone("x", 11, 13), event(Added, object("z", 15, "front"))];
    let entries = stream(front(), "12", None, Upstream, told);
    assert_eq!(violations(entries), [Property::Reliable]);
}

#[test]
fn a_change_left_out_by_a_stream_that_catches_up_is_found_at_its_bookmark() {
    let told = vec![gone("x", 11, 13), bookmark(14, false)];
    let entries = stream(front(), "12", None, Cache, told);
    assert_eq!(violations(entries), [Property::Bookmarkable]);
}

#[test]
fn and_without_a_bookmark_when_all_is_quiet() {
    let told = vec![event(Added, object("z", 15, "front"))];
    let mut entries = stream(front(), "12", None, Cache, told);
    entries.push(Entry::Quiet(15));
    assert_eq!(violations(entries), [Property::Reliable]);
}

#[test]
fn a_difference_in_place_of_each_change_can_be() {
    // From 11 on: y came and went, which a difference does not show; x changed.
    let told = vec![
        event(Modified, object("x", 13, "back")),
        event(Added, object("z", 15, "front")),
        bookmark(15, false),
    ];
    assert_eq!(violations(stream(all(), "11", None, Cache, told)), []);
}

#[test]
fn deletions_may_share_the_rv_of_the_list_that_proved_them_in_a_difference_only() {
    let told = || {
        vec![
            event(Added, object("z", 15, "front")),
            gone("x", 11, 15),
            gone("y", 12, 15),
            bookmark(15, false),
        ]
    };
    assert_eq!(violations(stream(front(), "12", None, Cache, told())), []);
    let found = violations(stream(front(), "12", None, Upstream, told()));
    assert!(found.contains(&Property::Ordered), "{found:?}");
}

#[test]
fn rvs_that_go_back_and_changes_told_twice_are_found() {
    let told = vec![
        event(Modified, object("x", 13, "back")),
        event(Added, object("y", 12, "front")),
    ];
    let found = violations(stream(all(), "11", None, Cache, told));
    assert_eq!(found, [Property::Ordered]);
    let told = vec![
        event(Added, object("y", 12, "front")),
        event(Added, object("y", 12, "front")),
    ];
    let found = violations(stream(all(), "11", None, Cache, told));
    assert!(found.contains(&Property::Unique), "{found:?}");
}

#[test]
fn an_object_of_another_selection_is_found() {
    let told = vec![event(Added, object("x", 13, "back")), bookmark(15, true)];
    let found = violations(stream(front(), "", Some(true), Cache, told));
    assert!(found.contains(&Property::Atomic), "{found:?}");
}

#[test]
fn initial_events_without_their_bookmark_are_found() {
    let told = vec![event(Added, object("z", 15, "front"))];
    let mut entries = stream(front(), "", Some(true), Cache, told);
    entries.push(Entry::Quiet(15));
    assert_eq!(violations(entries), [Property::Bookmarkable]);
}

#[test]
fn a_partial_list_and_one_with_what_came_later_are_found() {
    let whole = vec![object("x", 11, "front"), object("y", 12, "front")];
    let part = vec![object("x", 11, "front")];
    let later = vec![object("x", 13, "back"), object("y", 12, "front")];
    assert_eq!(violations(listed(0, Cache, all(), 12, whole)), []);
    for items in [part, later] {
        let found = violations(listed(0, Cache, all(), 12, items));
        assert_eq!(found, [Property::Complete]);
    }
}

#[test]
fn two_lists_whose_pages_end_at_the_same_object_are_not_one() {
    let page = |id, scope, asked: &str, next: &str, items| {
        let ask = ListAsk {
            continue_token: asked.to_owned(),
            ..ListAsk::default()
        };
        let list = List {
            rv: 13,
            continue_token: next.to_owned(),
            items,
        };
        [
            What::Asked(Request::List(scope, ask)),
            What::Answered(Upstream, Answer::List(list)),
        ]
        .map(|what| Entry::Exchange(0, id, what))
    };
    let (x, y) = (object("x", 13, "back"), object("y", 12, "front"));
    let entries = [
        page(1, all(), "", "after y", vec![x, y.clone()]),
        page(2, front(), "", "after y", vec![y]),
        page(3, all(), "after y", "", vec![]),
        page(4, front(), "after y", "", vec![]),
    ];
    assert_eq!(violations(entries.into_iter().flatten().collect()), []);
}

#[test]
fn a_client_that_is_told_an_older_rv_than_before_is_found() {
    let new = vec![object("x", 13, "back"), object("z", 15, "front")];
    let old = vec![object("x", 11, "front"), object("y", 12, "front")];
    let mut entries = listed(0, Upstream, all(), 15, new);
    entries.extend(listed(1, Cache, all(), 12, old));
    // The scope and the object.
    assert_eq!(violations(entries), [Property::Ordered; 2]);
}

#[test]
fn a_list_that_shows_an_object_older_than_another_scope_did_is_found() {
    let old = vec![object("x", 11, "front"), object("y", 12, "front")];
    let older = listed(1, Cache, all(), 12, old);
    let told = |first: Vec<Entry>| violations(first.into_iter().chain(older.clone()).collect());
    let elsewhere = Scope {
        namespace: Some("b".to_owned()),
        ..all()
    };
    assert_eq!(told(listed(0, Upstream, elsewhere, 15, Vec::new())), []);
    let changed = vec![object("x", 13, "back")];
    assert_eq!(
        told(listed(0, Upstream, tier("back"), 13, changed)),
        [Property::Ordered]
    );
}

#[test]
fn a_ghost_is_found() {
    let whole = vec![object("x", 13, "back"), object("z", 15, "front")];
    let mut entries = listed(0, Upstream, all(), 15, whole);
    let ghost = object("y", 12, "front");
    entries.extend([
        Entry::Exchange(0, 1, What::Asked(Request::Get(ghost.key.clone()))),
        Entry::Exchange(0, 1, What::Answered(Cache, Answer::Object(ghost))),
    ]);
    assert_eq!(violations(entries), [Property::Fresh]);
}

#[test]
fn what_a_list_of_a_selector_has_shown_to_be_over_is_a_ghost_as_well() {
    let ghost = object("y", 12, "front");
    let got = [
        Entry::Exchange(0, 1, What::Asked(Request::Get(ghost.key.clone()))),
        Entry::Exchange(0, 1, What::Answered(Cache, Answer::Object(ghost.clone()))),
    ];
    let whole = vec![object("x", 11, "front"), ghost];
    for older in [listed(1, Cache, all(), 12, whole), got.into()] {
        let mut entries = listed(0, Upstream, front(), 14, Vec::new());
        entries.extend(older);
        // Of the list both x, which was changed, and y, which is gone.
        let found = violations(entries);
        assert!(!found.is_empty() && found.iter().all(|is| *is == Property::Fresh));
    }
}

#[test]
fn a_404_of_what_is_there_is_found() {
    let key = object("x", 0, "").key;
    let missing = Answer::Refused(Status {
        code: 404,
        ..Status::default()
    });
    let mut entries = listed(0, Upstream, all(), 11, vec![object("x", 11, "front")]);
    entries.extend([
        Entry::Exchange(0, 1, What::Asked(Request::Get(key))),
        Entry::Exchange(0, 1, What::Answered(Origin::Holdfast, missing)),
    ]);
    assert_eq!(violations(entries), [Property::Fresh]);
}

#[test]
fn an_informer_that_holds_something_else_is_found() {
    let store = Store {
        scope: front(),
        synced: true,
        objects: vec![object("y", 12, "front"), object("z", 15, "front")],
    };
    let entries = vec![Entry::Holds(0, store), Entry::Quiet(15)];
    assert_eq!(violations(entries), [Property::Resumable]);
}

#[test]
fn a_refusal_in_the_dark_of_what_was_held_is_found() {
    let store = Store {
        scope: front(),
        synced: true,
        objects: vec![object("z", 15, "front")],
    };
    let refused = Answer::Refused(Status {
        code: 503,
        ..Status::default()
    });
    let entries = vec![
        Entry::Holds(0, store),
        Entry::Quiet(15),
        Entry::Happened(Event::Cut, String::new()),
        Entry::Exchange(
            0,
            0,
            What::Asked(Request::List(front(), ListAsk::default())),
        ),
        Entry::Exchange(0, 0, What::Answered(Origin::Holdfast, refused)),
    ];
    assert_eq!(violations(entries), [Property::Answered]);
}
