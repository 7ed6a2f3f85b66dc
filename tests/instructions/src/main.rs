//! Runs one of the hot parsers over a fixed input. `cargo xtask instructions` runs it under callgrind, which counts the
//! instructions between the entry of [`counted`] and its end; without a name it lists what there is.

mod identity;
mod request;
mod wire;

use std::hint::black_box;

/// Prepares an input, and is what is done with it. What it makes goes through `black_box`.
type Case = fn() -> Box<dyn FnMut()>;

/// Of a request, then of a list, then of an event.
const CASES: &[(&str, Case)] = &[
    ("client_hello", request::client_hello),
    ("request_info", request::request_info),
    ("accept", request::accept),
    ("token", identity::token),
    ("selectors/parse", request::selectors),
    ("selectors/match", wire::matching),
    ("list/json", wire::list_json),
    ("list/protobuf", wire::list_protobuf),
    ("list/write", wire::list_write),
    ("watch/json", wire::watch_json),
    ("watch/protobuf", wire::watch_protobuf),
    ("meta/json", wire::meta_json),
    ("meta/protobuf", wire::meta_protobuf),
    ("transcode", wire::transcode),
];

fn main() {
    let Some(name) = std::env::args().nth(1) else {
        for (name, _) in CASES {
            println!("{name}");
        }
        return;
    };
    let Some((_, case)) = CASES.iter().find(|(known, _)| *known == name) else {
        eprintln!("there is no {name}");
        std::process::exit(2);
    };
    let mut work = case();
    // What is done once only: tables that are made when first used, a signature that is remembered from then on.
    work();
    counted(&mut *work);
}

/// callgrind's mark. It returns after the work, not by it, so that the mark's end is the end of the work.
#[inline(never)]
fn counted(work: &mut dyn FnMut()) {
    work();
    black_box(());
}
