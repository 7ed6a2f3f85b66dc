//! The numbers Holdfast keeps of itself. Labels are bounded: no names, no namespaces, no tokens.

mod scrape;

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::identity::UnknownReason;
use crate::policy::{Reason, Uplink};
pub use scrape::{CacheReadings, Readings};
use scrape::{Process, Scrape};

/// The media type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Resources beyond Kubernetes' own that get a label value of their own: as many kinds as a large cluster has custom ones in use on one node.
const MAX_OTHER_RESOURCES: usize = 64;

/// What the clients of a node ask for. These are told apart from the first request on, refused ones too.
const COMMON_RESOURCES: [&str; 30] = [
    "",
    "configmaps",
    "cronjobs",
    "csidrivers",
    "csinodes",
    "customresourcedefinitions",
    "daemonsets",
    "deployments",
    "endpoints",
    "endpointslices",
    "events",
    "ingresses",
    "jobs",
    "leases",
    "namespaces",
    "networkpolicies",
    "nodes",
    "persistentvolumeclaims",
    "persistentvolumes",
    "pods",
    "replicasets",
    "runtimeclasses",
    "secrets",
    "selfsubjectaccessreviews",
    "serviceaccounts",
    "services",
    "statefulsets",
    "storageclasses",
    "tokenreviews",
    "volumeattachments",
];

/// All metric families, registered once. Recording is lock-free or nearly so.
pub struct Metrics {
    registry: Registry,
    scrape: Scrape,
    resources: Resources,
    requests: Family<RequestLabels, Counter>,
    refusals: Family<ReasonLabel, Counter>,
    not_learnt: Family<ReasonLabel, Counter>,
    handshake_failures: Family<ReasonLabel, Counter>,
    unknown_callers: Family<ReasonLabel, Counter>,
    uplink_state: Family<StateLabel, Gauge>,
    held_watches: Gauge,
}

/// Who answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    Upstream,
    Cache,
    /// Holdfast's own refusal.
    Holdfast,
}

impl Origin {
    pub fn as_str(self) -> &'static str {
        match self {
            Origin::Upstream => "upstream",
            Origin::Cache => "cache",
            Origin::Holdfast => "holdfast",
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            scrape: Scrape::default(),
            resources: Resources::default(),
            requests: Family::default(),
            refusals: Family::default(),
            not_learnt: Family::default(),
            handshake_failures: Family::default(),
            unknown_callers: Family::default(),
            uplink_state: Family::default(),
            held_watches: Gauge::default(),
        };
        metrics.register();
        // Nothing is known of the upstream before the first probe.
        metrics.uplink(Uplink::Down);
        metrics
    }
}

impl Metrics {
    pub fn new() -> Self {
        Self::default()
    }

    /// One answered request. `resource` is bounded here (an unknown one past a fixed count becomes `other`).
    pub fn request(&self, verb: &'static str, resource: &str, code: u16, origin: Origin) {
        let labels = RequestLabels {
            verb,
            resource: self.resources.label(resource, code),
            code,
            origin,
        };
        self.requests.get_or_create(&labels).inc();
    }

    /// A "no" of Holdfast's own.
    pub fn refusal(&self, reason: Reason) {
        let reason = reason.as_str();
        self.refusals.get_or_create(&[("reason", reason)]).inc();
    }

    /// An answer's collection was given up (`reason`: `Lagging`, `Malformed`, ...). The caller's bytes were not touched.
    pub fn not_learnt(&self, reason: &'static str) {
        self.not_learnt.get_or_create(&[("reason", reason)]).inc();
    }

    /// A request whose caller is unknown (`reason`: `PodMismatch`, `Anonymous`, ...): forwarded, never learnt from nor served.
    pub fn unknown_caller(&self, reason: UnknownReason) {
        let callers = &self.unknown_callers;
        callers.get_or_create(&[("reason", reason.as_str())]).inc();
    }

    pub fn handshake_failed(&self, reason: &'static str) {
        let failures = &self.handshake_failures;
        failures.get_or_create(&[("reason", reason)]).inc();
    }

    pub fn uplink(&self, uplink: Uplink) {
        for state in [Uplink::Up, Uplink::Degraded, Uplink::Down] {
            let label = [("state", state_name(state))];
            let gauge = self.uplink_state.get_or_create(&label);
            gauge.set(i64::from(state == uplink));
        }
    }

    /// Held watch streams: +1 when one goes into holding, -1 when it leaves.
    pub fn held_watches(&self, delta: i64) {
        self.held_watches.inc_by(delta);
    }

    /// Where each scrape finds the numbers that other modules keep themselves. Only the first call counts.
    pub fn read_at_scrape(&self, read: impl Fn() -> Readings + Send + Sync + 'static) {
        self.scrape.read_by(Box::new(read));
    }

    /// OpenMetrics text, see [`CONTENT_TYPE`].
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a String can't fail, and a half-written page is better than none.
        let _ = text::encode(&mut text, &self.registry);
        text
    }

    fn register(&mut self) {
        let registry = self.registry.sub_registry_with_prefix("holdfast");
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The running version", build);
        registry.register(
            "requests",
            "Answered requests by verb, resource, status code and origin of the answer",
            self.requests.clone(),
        );
        registry.register(
            "refusals",
            "Requests Holdfast itself said no to, by reason",
            self.refusals.clone(),
        );
        registry.register(
            "not_learnt",
            "Answers the cache gave up to learn from, by reason; the callers got them whole",
            self.not_learnt.clone(),
        );
        registry.register(
            "handshake_failures",
            "TLS handshakes that came to nothing, by reason",
            self.handshake_failures.clone(),
        );
        registry.register(
            "unknown_callers",
            "Requests of callers that proved no identity, by reason; forwarded, never learnt from nor answered from the cache",
            self.unknown_callers.clone(),
        );
        registry.register(
            "uplink_state",
            "1 for the state the uplink is in",
            self.uplink_state.clone(),
        );
        registry.register(
            "held_watches",
            "Watch streams kept open without the upstream",
            self.held_watches.clone(),
        );
        registry.register_collector(Box::new(self.scrape.clone()));
        self.registry.register_collector(Box::new(Process));
    }
}

/// The word of `/status`, logs and metrics for a state of the uplink.
pub fn state_name(uplink: Uplink) -> &'static str {
    match uplink {
        Uplink::Up => "up",
        Uplink::Degraded => "degraded",
        Uplink::Down => "down",
    }
}

type ReasonLabel = [(&'static str, &'static str); 1];
type StateLabel = [(&'static str, &'static str); 1];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    verb: &'static str,
    resource: Arc<str>,
    code: u16,
    origin: Origin,
}

impl EncodeLabelValue for Origin {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> Result<(), std::fmt::Error> {
        self.as_str().encode(encoder)
    }
}

/// The resources that have a label value of their own.
struct Resources {
    known: RwLock<HashSet<Arc<str>>>,
    other: Arc<str>,
}

impl Default for Resources {
    fn default() -> Self {
        let common = COMMON_RESOURCES.into_iter().map(Arc::from);
        Self {
            known: RwLock::new(common.collect()),
            other: Arc::from("other"),
        }
    }
}

impl Resources {
    /// A caller can ask for any word; only one that an answer was found for may become a label.
    fn label(&self, resource: &str, code: u16) -> Arc<str> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(label) = known.get(resource) {
            return Arc::clone(label);
        }
        drop(known);
        if !(200..300).contains(&code) {
            return Arc::clone(&self.other);
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= COMMON_RESOURCES.len() + MAX_OTHER_RESOURCES {
            return Arc::clone(&self.other);
        }
        let label: Arc<str> = Arc::from(resource);
        known.insert(Arc::clone(&label));
        label
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::UnknownReason;

    /// The value of one line, `name{labels}`.
    fn value(text: &str, line: &str) -> Option<String> {
        let mut values = text.lines().filter_map(|each| each.strip_prefix(line));
        values.next().map(|value| value.trim().to_owned())
    }

    #[test]
    fn each_number_is_on_the_page_under_its_name() {
        let metrics = Metrics::new();
        metrics.request("list", "pods", 200, Origin::Cache);
        metrics.request("list", "pods", 200, Origin::Cache);
        metrics.request("get", "", 200, Origin::Upstream);
        metrics.refusal(Reason::UnknownCaller(UnknownReason::PodMismatch));
        metrics.not_learnt("Lagging");
        metrics.handshake_failed("NotTls");
        metrics.held_watches(3);
        metrics.held_watches(-1);
        let text = metrics.encode();
        let table = [
            (
                r#"holdfast_requests_total{verb="list",resource="pods",code="200",origin="cache"}"#,
                "2",
            ),
            (
                r#"holdfast_requests_total{verb="get",resource="",code="200",origin="upstream"}"#,
                "1",
            ),
            (r#"holdfast_refusals_total{reason="PodMismatch"}"#, "1"),
            (r#"holdfast_not_learnt_total{reason="Lagging"}"#, "1"),
            (r#"holdfast_handshake_failures_total{reason="NotTls"}"#, "1"),
            ("holdfast_held_watches", "2"),
            (r#"holdfast_build_info{version="0.1.0"}"#, "1"),
        ];
        for (line, expected) in table {
            assert_eq!(
                value(&text, line).as_deref(),
                Some(expected),
                "{line}\n{text}"
            );
        }
        let resident = value(&text, "process_resident_memory_bytes").expect("Linux tells");
        assert!(resident.parse::<u64>().is_ok_and(|bytes| bytes > 1 << 20));
        assert!(value(&text, "process_open_fds").is_some());
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn the_uplink_is_in_one_state_and_down_at_first() {
        let metrics = Metrics::new();
        let states = |metrics: &Metrics| {
            let text = metrics.encode();
            ["up", "degraded", "down"].map(|state| {
                value(
                    &text,
                    &format!(r#"holdfast_uplink_state{{state="{state}"}}"#),
                )
                .unwrap_or_default()
            })
        };
        assert_eq!(states(&metrics), ["0", "0", "1"]);
        metrics.uplink(Uplink::Degraded);
        assert_eq!(states(&metrics), ["0", "1", "0"]);
        metrics.uplink(Uplink::Up);
        assert_eq!(states(&metrics), ["1", "0", "0"]);
    }

    #[test]
    fn what_a_caller_invents_never_becomes_a_label() {
        let metrics = Metrics::new();
        for number in 0..1000 {
            let invented = format!("x{number}");
            metrics.request("get", &invented, 404, Origin::Upstream);
            metrics.request("get", &invented, 503, Origin::Holdfast);
        }
        metrics.request("list", "widgets", 200, Origin::Upstream);
        for number in 0..1000 {
            metrics.request("get", &format!("y{number}"), 200, Origin::Upstream);
        }
        let text = metrics.encode();
        let lines = text
            .lines()
            .filter(|line| line.starts_with("holdfast_requests_total"));
        assert!(lines.count() <= MAX_OTHER_RESOURCES + 4);
        let widgets = r#"holdfast_requests_total{verb="list",resource="widgets",code="200",origin="upstream"}"#;
        assert_eq!(value(&text, widgets).as_deref(), Some("1"));
        assert!(!text.contains("x17"));
    }

    #[test]
    fn numbers_of_other_modules_are_read_at_each_scrape() {
        let metrics = Metrics::new();
        assert!(!metrics.encode().contains("holdfast_redirects_total"));
        metrics.read_at_scrape(|| Readings {
            redirects: 12,
            direct_connects: 3,
            network_namespaces: 4,
            cache: CacheReadings {
                on_disk: true,
                facts: 500,
                grants: 6,
                responses: 7,
                set_aside: 2,
                written_bytes: 8192,
                syncs: 3,
                file_bytes: 4096,
                bytes: 8000,
                evicted: [("object", 9), ("response", 1), ("collection", 2)],
                collections: vec![
                    ("pods".to_owned(), 8),
                    ("pods".to_owned(), 80),
                    ("".to_owned(), 9),
                ],
            },
        });
        let text = metrics.encode();
        let table = [
            ("holdfast_redirects_total", "12"),
            ("holdfast_direct_connects_total", "3"),
            ("holdfast_network_namespaces", "4"),
            ("holdfast_cache_on_disk", "1"),
            ("holdfast_cache_facts", "500"),
            ("holdfast_cache_grants", "6"),
            ("holdfast_cache_responses", "7"),
            ("holdfast_cache_set_aside_total", "2"),
            ("holdfast_cache_written_bytes_total", "8192"),
            ("holdfast_cache_syncs_total", "3"),
            ("holdfast_cache_file_bytes", "4096"),
            ("holdfast_cache_bytes", "8000"),
            (r#"holdfast_cache_evictions_total{kind="object"}"#, "9"),
            (r#"holdfast_cache_evictions_total{kind="response"}"#, "1"),
            (r#"holdfast_cache_evictions_total{kind="collection"}"#, "2"),
            (r#"holdfast_cache_collections{resource="pods"}"#, "2"),
            (r#"holdfast_cache_age_seconds{resource="pods"}"#, "80"),
        ];
        for (line, expected) in table {
            assert_eq!(
                value(&text, line).as_deref(),
                Some(expected),
                "{line}\n{text}"
            );
        }
    }

    #[test]
    fn many_collections_make_few_lines() {
        let metrics = Metrics::new();
        let collections: Vec<_> = (0..1000).map(|n| (format!("r{n}"), n)).collect();
        metrics.read_at_scrape(move || Readings {
            cache: CacheReadings {
                collections: collections.clone(),
                ..CacheReadings::default()
            },
            ..Readings::default()
        });
        let text = metrics.encode();
        let lines = text
            .lines()
            .filter(|line| line.starts_with("holdfast_cache_age_seconds"));
        assert!(lines.count() <= 101);
        let other = r#"holdfast_cache_age_seconds{resource="other"}"#;
        assert_eq!(value(&text, other).as_deref(), Some("999"));
    }
}
