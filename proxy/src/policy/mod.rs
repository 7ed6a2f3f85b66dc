//! Step 5: who may get what from where. Pure functions over plain values: no I/O, no clock, no log.

use crate::identity::{Caller, UnknownReason};
use crate::request_info::RequestInfo;

/// The state of the uplink as a whole (all upstream addresses together).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Uplink {
    Up,
    /// At least one address answers, another does not, or answers are late.
    Degraded,
    Down,
}

/// What became of a request that was sent on. `upstream` produces it, `after_failure` judges it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No connection could be made: refused, unreachable, TLS or dial timeout. Nothing was sent.
    NotSent,
    /// Sent in part or whole, and the connection broke before response headers.
    Broken,
    /// Sent, and no sign of life within `answerTimeout` (reads), or until the uplink went down (writes).
    NoAnswer,
}

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    Upstream,
    Cache,
    Refuse(Reason),
}

/// Every "no" Holdfast itself says, and every reason not to learn. The variant reaches the Status, the log and the metric label unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The caller proved no identity that the cache could hold a grant of.
    UnknownCaller(UnknownReason),
    /// The upstream never answered this caller 2xx for this scope or object, or took it back.
    NoGrant,
    /// The collection was never seen whole.
    Incomplete,
    /// Nothing is known of this object, path or scope.
    NeverSeen,
    /// The client accepts no representation the cache holds.
    NotAcceptable,
    /// A list option or query that the cache does not model.
    UnmodelledQuery,
    /// A subresource, a proxy path, a review: what no cache may answer.
    NotCacheable,
    /// A write, and the uplink is down: nothing was sent.
    WriteNotSent,
    /// A write that was sent, whose answer never came. It may or may not have happened.
    WriteUnanswered,
    /// An upgrade (exec, port-forward), and the uplink is down.
    UpgradeNotSent,
    /// A resourceVersion newer than any Holdfast has seen.
    ResourceVersionTooLarge,
    /// A resourceVersion older than the events Holdfast kept.
    Expired,
    /// Absent from a complete, granted collection: the one 404 Holdfast says by itself.
    NotFound,
    /// A client certificate came with the connection, and they are not supported yet.
    ClientCertificate,
    /// The store failed.
    Store,
    /// A limit of this node was reached.
    Overloaded,
    /// A request Holdfast could not parse.
    BadRequest,
}

/// Where a request goes at first.
pub fn decide(caller: &Caller, info: &RequestInfo, upgrade: bool, uplink: Uplink) -> Decision {
    let _ = (caller, info, upgrade, uplink);
    Decision::Upstream
}

/// What to say when the upstream did not answer: [`Decision::Cache`] or [`Decision::Refuse`], never [`Decision::Upstream`].
pub fn after_failure(
    caller: &Caller,
    info: &RequestInfo,
    upgrade: bool,
    failure: Failure,
) -> Decision {
    let _ = (caller, info, upgrade, failure);
    Decision::Refuse(Reason::NeverSeen)
}

impl Reason {
    /// The variant's name in CamelCase, as `details.causes[0].reason` and as metric label. Of bounded cardinality.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::UnknownCaller(why) => why.as_str(),
            Reason::NoGrant => "NoGrant",
            Reason::Incomplete => "Incomplete",
            Reason::NeverSeen => "NeverSeen",
            Reason::NotAcceptable => "NotAcceptable",
            Reason::UnmodelledQuery => "UnmodelledQuery",
            Reason::NotCacheable => "NotCacheable",
            Reason::WriteNotSent => "WriteNotSent",
            Reason::WriteUnanswered => "WriteUnanswered",
            Reason::UpgradeNotSent => "UpgradeNotSent",
            Reason::ResourceVersionTooLarge => "ResourceVersionTooLarge",
            Reason::Expired => "Expired",
            Reason::NotFound => "NotFound",
            Reason::ClientCertificate => "ClientCertificate",
            Reason::Store => "Store",
            Reason::Overloaded => "Overloaded",
            Reason::BadRequest => "BadRequest",
        }
    }
}
