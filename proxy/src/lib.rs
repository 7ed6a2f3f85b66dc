//! Holdfast keeps the Kubernetes API answering on an edge node when the road to the control plane is gone.
//!
//! The listing below is the path of a connection; `serve` tells it once, top to bottom.
//! A stage names the types of earlier stages, never of later ones; `upstream` and `cache` never see each other.

pub mod app;
mod asked;
pub mod body;
mod bugs;
pub mod config;
mod gathered;
mod held;
pub mod serve;

pub mod accept;
pub mod cache;
pub mod identity;
pub mod intercept;
pub mod policy;
pub mod relay;
pub mod request_info;
pub mod respond;
pub mod tee;
pub mod tls;
pub mod upstream;
pub mod websocket;

pub mod admin;
pub mod runtime;

#[cfg(test)]
mod model;
#[cfg(test)]
mod sizes;
