//! Step 5: who may get what from where. Pure functions over plain values: no I/O, no clock, no log.

use crate::identity::{Caller, UnknownReason};
use crate::request_info::{RequestInfo, Verb};

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
    /// The upstream confirmed what was kept longer ago than `cache.maxAge` allows.
    TooOld,
    /// What was kept of the object is older than what this very caller wrote since.
    WrittenSince,
    /// What was kept whole is older than what this very caller's own stream has shown it.
    ShownSince,
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

/// Where a request goes at first: upstream whoever asks, as long as any address may answer.
pub fn decide(caller: &Caller, info: &RequestInfo, upgrade: bool, uplink: Uplink) -> Decision {
    match uplink {
        Uplink::Up | Uplink::Degraded => Decision::Upstream,
        Uplink::Down => after_failure(caller, info, upgrade, Failure::NotSent),
    }
}

/// What to say when the upstream did not answer: [`Decision::Cache`] or [`Decision::Refuse`], never [`Decision::Upstream`].
pub fn after_failure(
    caller: &Caller,
    info: &RequestInfo,
    upgrade: bool,
    failure: Failure,
) -> Decision {
    let sent = failure != Failure::NotSent;
    let reason = match Kind::of(info, upgrade) {
        Kind::Read | Kind::UpgradedWatch => match caller {
            Caller::ServiceAccount(_) => return Decision::Cache,
            Caller::Unknown(why) => Reason::UnknownCaller(*why),
        },
        Kind::OtherRead => Reason::NotCacheable,
        Kind::Upgrade if !sent => Reason::UpgradeNotSent,
        Kind::Write if !sent => Reason::WriteNotSent,
        Kind::Upgrade | Kind::Write => Reason::WriteUnanswered,
    };
    Decision::Refuse(reason)
}

/// What kind of request it is, as far as an answer without the upstream goes.
#[derive(Clone, Copy)]
enum Kind {
    /// The cache may have the answer.
    Read,
    /// Changes nothing, but no cache may answer it: logs, `scale`, HEAD.
    OtherRead,
    /// A watch over WebSocket: it changes nothing, and the cache may have the answer. Its clients fall back to plain HTTP on a
    /// 503, and fail on anything else.
    UpgradedWatch,
    /// exec, attach, port-forward, proxy: what it does in the pod may have begun once it was sent.
    Upgrade,
    /// May change something, a method or path unknown to Kubernetes included.
    Write,
}

impl Kind {
    fn of(info: &RequestInfo, upgrade: bool) -> Self {
        let main = matches!(info.subresource.as_str(), "" | "status");
        match info.verb {
            Verb::Watch if upgrade => Kind::UpgradedWatch,
            _ if upgrade => Kind::Upgrade,
            // Whatever stands behind a proxy path may act on any request.
            Verb::Get if info.subresource == "proxy" => Kind::Write,
            Verb::Get | Verb::List | Verb::Watch if main && info.is_read() => Kind::Read,
            Verb::Get | Verb::List | Verb::Watch => Kind::OtherRead,
            _ => Kind::Write,
        }
    }
}

impl Reason {
    /// The variant's name in CamelCase, as `details.causes[0].reason` and as metric label. Of bounded cardinality.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::UnknownCaller(why) => why.as_str(),
            Reason::NoGrant => "NoGrant",
            Reason::Incomplete => "Incomplete",
            Reason::NeverSeen => "NeverSeen",
            Reason::TooOld => "TooOld",
            Reason::WrittenSince => "WrittenSince",
            Reason::ShownSince => "ShownSince",
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

#[cfg(test)]
mod tests {
    use http::Method;

    use super::Decision::{Cache, Refuse, Upstream};
    use super::Failure::{Broken, NoAnswer, NotSent};
    use super::Reason::{
        NotCacheable, UnknownCaller, UpgradeNotSent, WriteNotSent, WriteUnanswered,
    };
    use super::*;
    use crate::identity::ServiceAccount;

    const PLAIN: bool = false;
    const UPGRADE: bool = true;

    fn known() -> Caller {
        Caller::ServiceAccount(ServiceAccount {
            namespace: "shop".to_owned(),
            name: "till".to_owned(),
            uid: "5a5a".to_owned(),
        })
    }

    fn unknown() -> Caller {
        Caller::Unknown(UnknownReason::PodMismatch)
    }

    fn info(request: &str) -> RequestInfo {
        let (method, uri) = request.split_once(' ').expect("a method and a URI");
        let method: Method = method.parse().expect("a method");
        RequestInfo::parse(&method, &uri.parse().expect("a URI")).expect("a request")
    }

    /// Request, upgrade, then what becomes of it when it could not be sent, when the connection broke, when no answer came.
    type Rule = (&'static str, bool, [Decision; 3]);

    const RULES: [Rule; 31] = [
        // A read is the cache's, however the upstream failed.
        ("GET /api/v1/pods", PLAIN, [Cache, Cache, Cache]),
        ("GET /api/v1/pods?watch=1", PLAIN, [Cache, Cache, Cache]),
        ("GET /api/v1/watch/pods", PLAIN, [Cache, Cache, Cache]),
        ("GET /api/v1/nodes/n", PLAIN, [Cache, Cache, Cache]),
        ("GET /api/v1/nodes/n/status", PLAIN, [Cache, Cache, Cache]),
        (
            "GET /apis/example.com/v1/things",
            PLAIN,
            [Cache, Cache, Cache],
        ),
        ("GET /version", PLAIN, [Cache, Cache, Cache]),
        ("GET /openapi/v3", PLAIN, [Cache, Cache, Cache]),
        // Reads that no cache may answer.
        (
            "GET /api/v1/namespaces/a/pods/b/log",
            PLAIN,
            [Refuse(NotCacheable); 3],
        ),
        (
            "GET /apis/apps/v1/namespaces/a/deployments/d/scale",
            PLAIN,
            [Refuse(NotCacheable); 3],
        ),
        ("HEAD /api/v1/pods", PLAIN, [Refuse(NotCacheable); 3]),
        ("POST /api/v1/watch/pods", PLAIN, [Refuse(NotCacheable); 3]),
        // A write is told apart by whether it was sent.
        ("POST /api/v1/namespaces/a/pods", PLAIN, WRITE),
        ("PUT /api/v1/nodes/n/status", PLAIN, WRITE),
        ("PATCH /api/v1/nodes/n", PLAIN, WRITE),
        ("DELETE /api/v1/nodes/n", PLAIN, WRITE),
        ("DELETE /api/v1/nodes", PLAIN, WRITE),
        (
            "POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            PLAIN,
            WRITE,
        ),
        (
            "POST /api/v1/namespaces/a/serviceaccounts/b/token",
            PLAIN,
            WRITE,
        ),
        ("POST /api/v1/namespaces/a/pods/b/eviction", PLAIN, WRITE),
        // So is what Kubernetes has no verb for, and what goes to somebody else behind a proxy path.
        ("OPTIONS /api/v1/pods", PLAIN, WRITE),
        ("POST /logs", PLAIN, WRITE),
        ("GET /api/v1/proxy/nodes/n", PLAIN, WRITE),
        (
            "GET /api/v1/namespaces/a/services/b/proxy/buy",
            PLAIN,
            WRITE,
        ),
        // An upgrade too: a command may be running.
        ("GET /api/v1/namespaces/a/pods/b/exec", UPGRADE, UPGRADED),
        ("POST /api/v1/namespaces/a/pods/b/exec", UPGRADE, UPGRADED),
        (
            "POST /api/v1/namespaces/a/pods/b/portforward",
            UPGRADE,
            UPGRADED,
        ),
        (
            "GET /api/v1/namespaces/a/services/b/proxy/chat",
            UPGRADE,
            UPGRADED,
        ),
        ("GET /chat", UPGRADE, UPGRADED),
        // But a watch over WebSocket changes nothing, and is a read like any other.
        ("GET /api/v1/pods?watch=1", UPGRADE, [Cache, Cache, Cache]),
        ("GET /api/v1/watch/pods", UPGRADE, [Cache, Cache, Cache]),
    ];

    const WRITE: [Decision; 3] = [
        Refuse(WriteNotSent),
        Refuse(WriteUnanswered),
        Refuse(WriteUnanswered),
    ];
    const UPGRADED: [Decision; 3] = [
        Refuse(UpgradeNotSent),
        Refuse(WriteUnanswered),
        Refuse(WriteUnanswered),
    ];

    #[test]
    fn everything_goes_upstream_while_any_address_may_answer() {
        for (request, upgrade, _) in RULES {
            for caller in [known(), unknown()] {
                for uplink in [Uplink::Up, Uplink::Degraded] {
                    let decision = decide(&caller, &info(request), upgrade, uplink);
                    assert_eq!(decision, Upstream, "{request}");
                }
            }
        }
    }

    #[test]
    fn a_known_caller_is_answered_by_the_rules() {
        for (request, upgrade, [not_sent, broken, no_answer]) in RULES {
            let info = info(request);
            let after = |failure| after_failure(&known(), &info, upgrade, failure);
            assert_eq!(after(NotSent), not_sent, "{request}");
            assert_eq!(after(Broken), broken, "{request}");
            assert_eq!(after(NoAnswer), no_answer, "{request}");
            let down = decide(&known(), &info, upgrade, Uplink::Down);
            assert_eq!(down, not_sent, "{request}, while the uplink is down");
        }
    }

    #[test]
    fn an_unknown_caller_is_told_why_where_a_known_one_gets_the_cache() {
        let refused = Refuse(UnknownCaller(UnknownReason::PodMismatch));
        for (request, upgrade, decisions) in RULES {
            let info = info(request);
            let expected = decisions.map(|known| if known == Cache { refused } else { known });
            let after = |failure| after_failure(&unknown(), &info, upgrade, failure);
            assert_eq!(
                [after(NotSent), after(Broken), after(NoAnswer)],
                expected,
                "{request}"
            );
            let down = decide(&unknown(), &info, upgrade, Uplink::Down);
            assert_eq!(down, expected[0], "{request}, while the uplink is down");
        }
    }
}
