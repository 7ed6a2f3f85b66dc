//! What `admin` may ask of a running Holdfast.

use std::time::SystemTime;

use serde_json::json;

use super::Running;
use crate::admin::{Check, Condition, Probe};
use crate::policy::Uplink;
use crate::runtime::metrics;
use crate::runtime::metrics::{CacheReadings, Readings};

impl Probe for Running {
    fn checks(&self) -> Vec<Check> {
        let uplink = match self.serve.upstream.uplink() {
            Uplink::Up => Condition::Ok,
            Uplink::Degraded => Condition::Degraded("not every API server answers".to_owned()),
            Uplink::Down => Condition::Degraded("reads are answered from the cache".to_owned()),
        };
        let intercept = match self.intercept_conditions().into_iter().next() {
            None => Condition::Ok,
            Some(condition) => Condition::Degraded(condition),
        };
        let cache = match self.serve.cache.status(SystemTime::now()).condition {
            None => Condition::Ok,
            Some(condition) => Condition::Degraded(condition),
        };
        [
            ("uplink", uplink),
            ("intercept", intercept),
            ("cache", cache),
        ]
        .into_iter()
        .map(|(name, condition)| Check { name, condition })
        .collect()
    }

    fn status(&self) -> serde_json::Value {
        let upstream = &self.serve.upstream;
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "uplink": metrics::state_name(upstream.uplink()),
            "servers": upstream.status(),
            "intercept": self.intercept.as_ref().map(|intercept| intercept.status()),
            "conditions": self.conditions(),
            "cache": self.serve.cache.status(SystemTime::now()),
        })
    }

    fn metrics(&self) -> String {
        self.serve.metrics.encode()
    }

    fn log_filter(&self) -> String {
        self.filter.get()
    }

    fn set_log_filter(&self, filter: &str) -> Result<(), String> {
        self.filter.set(filter)
    }
}

impl Running {
    fn conditions(&self) -> Vec<String> {
        let mut conditions = self.ports.conditions();
        conditions.extend(self.intercept_conditions());
        conditions
    }

    fn intercept_conditions(&self) -> Vec<String> {
        let attached = self.intercept.iter();
        self.condition
            .iter()
            .cloned()
            .chain(attached.flat_map(|intercept| intercept.status().conditions))
            .collect()
    }

    /// The numbers other modules keep themselves, for a scrape.
    pub(super) fn readings(&self) -> Readings {
        let intercept = self.intercept.as_ref().map(|intercept| intercept.status());
        let cache = self.serve.cache.status(SystemTime::now());
        let intercept = intercept.unwrap_or_default();
        let collections = cache
            .collections
            .into_iter()
            .map(|collection| (collection.resource, collection.age_seconds))
            .collect();
        Readings {
            redirects: intercept.redirects,
            direct_connects: intercept.misses,
            network_namespaces: intercept.namespaces,
            cache: CacheReadings {
                on_disk: cache.backing == "disk",
                facts: cache.facts,
                grants: cache.grants,
                responses: cache.responses,
                set_aside: cache.set_aside,
                written_bytes: cache.written_bytes,
                syncs: cache.syncs,
                file_bytes: cache.file_bytes,
                bytes: cache.bytes,
                evicted: [
                    ("object", cache.evicted.objects),
                    ("response", cache.evicted.responses),
                    ("collection", cache.evicted.collections),
                ],
                collections,
            },
        }
    }
}
