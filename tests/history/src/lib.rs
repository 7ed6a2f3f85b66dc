//! Random histories of API traffic, and the judge of them. Knows nothing of Holdfast, and does no I/O.
//!
//! ```text
//! plan      a seed -> clients, and steps: writes, reads, watches, faults
//! reflector one client's list and watch as client-go does it, without I/O
//! reader    one client's reads as the plan says them, without I/O
//! truth     every state the API server was ever in
//! record    what the clients were told
//! check     whether the record can be, given the truth
//! drive     reflectors and readers at work, over what whoever runs the plan gives them to ask with
//! ```
//! Whoever runs a plan (against a model of the API server, or a real one) carries what is asked and writes the record.

pub mod check;
pub mod drive;
pub mod plan;
pub mod reader;
pub mod record;
pub mod reflector;
pub mod scope;
pub mod truth;
pub mod wire;
