//! What is fuzzed: every parser of bytes from outside. A body must return for any input; where two ways lead to one answer it compares them.
//!
//! The integration tests include this file and run each body over its seeds, so that it keeps compiling and the seeds keep passing without a nightly toolchain.

mod identity;
mod request;
mod selectors;
mod wire;

pub use identity::{jwks, jwt, service_account_of};
pub use request::{accept, client_hello, request_info};
pub use selectors::{fields, selectors};
pub use wire::{
    list_json, list_protobuf, metadata, row, transcode, watch_json, watch_protobuf, yaml,
};
