//! The harness: a node, pods on it, a real API server, and the link between them, all in network namespaces and
//! cgroups of their own. Nothing here imitates Kubernetes; what it starts are the real programs.
//!
//! A test reads: make a [`Node`], start an [`ApiServer`] on its far side, start [`Holdfast`] and [`Pod`]s on it, do
//! something to the [`Link`], wait with [`eventually`]. Dropping the node removes everything.

pub mod apiserver;
pub mod assets;
pub mod audit;
pub mod batch;
pub mod bench;
pub mod curl;
pub mod demo;
pub mod eventually;
pub mod fixtures;
pub mod gateway;
pub mod holdfast;
pub mod link;
pub mod node;
pub mod pki;
pub mod pod;
pub mod process;
mod sweep;
pub mod torture;

pub use apiserver::ApiServer;
pub use eventually::eventually;
pub use holdfast::Holdfast;
pub use link::Link;
pub use node::Node;
pub use pod::Pod;
pub use process::Process;
