//! Numbers that are read when a scrape asks for them: what other modules count themselves, and what the kernel knows of this process.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::runtime::heap;

/// Resources with collections that get a line of their own; the rest is one line, `other`.
const MAX_RESOURCES: usize = 100;

/// What other modules count.
#[derive(Clone, Debug, Default)]
pub struct Readings {
    /// Connections redirected since start.
    pub redirects: u64,
    /// Connections to a destination that found no listener and went direct.
    pub direct_connects: u64,
    /// Network namespaces with a listener.
    pub network_namespaces: usize,
    pub cache: CacheReadings,
}

#[derive(Clone, Debug, Default)]
pub struct CacheReadings {
    /// What is learnt outlives the process.
    pub on_disk: bool,
    pub facts: usize,
    pub grants: usize,
    pub responses: usize,
    /// Damaged stores that were moved out of the way since the process began.
    pub set_aside: u64,
    /// What the disk had to do for the cache since the process began.
    pub written_bytes: u64,
    pub syncs: u64,
    /// What the cache takes on the disk.
    pub file_bytes: u64,
    /// Of all that is kept.
    pub bytes: u64,
    /// What made room for something else since the process began, by kind.
    pub evicted: [(&'static str, u64); 3],
    /// The resource of each collection, and seconds since the upstream last confirmed it.
    pub collections: Vec<(String, u64)>,
}

type Read = Box<dyn Fn() -> Readings + Send + Sync>;

/// Puts [`Readings`] on the page, once there is somebody to read them from.
#[derive(Clone, Default)]
pub(super) struct Scrape {
    read: Arc<OnceLock<Read>>,
}

impl Scrape {
    pub(super) fn read_by(&self, read: Read) {
        // A second reader would tell of the same modules.
        let _ = self.read.set(read);
    }
}

impl fmt::Debug for Scrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scrape")
    }
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let Some(read) = self.read.get() else {
            return Ok(());
        };
        let readings = read();
        let mut page = Page(encoder);
        page.counter(
            "redirects",
            "Connections turned to this proxy",
            readings.redirects,
        )?;
        page.counter(
            "direct_connects",
            "Connections to a destination that found no listener and went direct",
            readings.direct_connects,
        )?;
        page.gauge(
            "network_namespaces",
            "Network namespaces with a listener",
            readings.network_namespaces,
        )?;
        page.cache(&readings.cache)
    }
}

/// Memory and files of this process, from `/proc`.
#[derive(Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut page = Page(encoder);
        if let Some(bytes) = heap::resident_bytes() {
            page.gauge("process_resident_memory_bytes", "Resident memory", bytes)?;
        }
        if let Ok(fds) = std::fs::read_dir("/proc/self/fd") {
            page.gauge("process_open_fds", "Open file descriptors", fds.count())?;
        }
        Ok(())
    }
}

struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let metric = ConstCounter::new(value);
        let encoder = self
            .0
            .encode_descriptor(name, help, None, metric.metric_type())?;
        metric.encode(encoder)
    }

    fn gauge<N: EncodeGaugeValue>(&mut self, name: &str, help: &str, value: N) -> fmt::Result {
        let metric = ConstGauge::new(value);
        let encoder = self
            .0
            .encode_descriptor(name, help, None, metric.metric_type())?;
        metric.encode(encoder)
    }

    fn cache(&mut self, cache: &CacheReadings) -> fmt::Result {
        self.gauge(
            "cache_on_disk",
            "1 when what is learnt outlives the process",
            usize::from(cache.on_disk),
        )?;
        self.gauge("cache_facts", "Objects kept", cache.facts)?;
        self.gauge("cache_grants", "Grants kept", cache.grants)?;
        self.gauge("cache_responses", "Whole responses kept", cache.responses)?;
        self.counter(
            "cache_set_aside",
            "Stores that were found damaged, and set aside under another name",
            cache.set_aside,
        )?;
        self.counter(
            "cache_written_bytes",
            "Bytes written to the disk for the cache",
            cache.written_bytes,
        )?;
        self.counter(
            "cache_syncs",
            "Times that the disk was told to make sure of what was written for the cache",
            cache.syncs,
        )?;
        self.gauge(
            "cache_file_bytes",
            "Bytes that the cache takes on the disk",
            cache.file_bytes,
        )?;
        self.gauge(
            "cache_bytes",
            "Bytes of the objects and responses kept",
            cache.bytes,
        )?;
        self.evicted(&cache.evicted)?;
        let resources = by_resource(&cache.collections);
        self.by_resource(
            "cache_collections",
            "Complete collections by resource",
            resources
                .iter()
                .map(|(name, of)| (name.as_str(), of.collections)),
        )?;
        self.by_resource(
            "cache_age_seconds",
            "Seconds since the upstream last confirmed the oldest collection of a resource",
            resources
                .iter()
                .map(|(name, of)| (name.as_str(), of.oldest)),
        )
    }

    fn evicted(&mut self, evicted: &[(&'static str, u64)]) -> fmt::Result {
        let mut encoder = self.0.encode_descriptor(
            "cache_evictions",
            "What made room for something else, by kind",
            None,
            MetricType::Counter,
        )?;
        for (kind, count) in evicted {
            let labels = [("kind", *kind)];
            ConstCounter::new(*count).encode(encoder.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn by_resource<'r>(
        &mut self,
        name: &str,
        help: &str,
        values: impl Iterator<Item = (&'r str, u64)>,
    ) -> fmt::Result {
        let mut encoder = self
            .0
            .encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (resource, value) in values {
            let labels = [("resource", resource)];
            ConstGauge::new(value).encode(encoder.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

#[derive(Default)]
struct OfResource {
    collections: u64,
    /// Seconds.
    oldest: u64,
}

fn by_resource(collections: &[(String, u64)]) -> BTreeMap<String, OfResource> {
    let mut resources: BTreeMap<String, OfResource> = BTreeMap::new();
    for (resource, age) in collections {
        let room = resources.len() < MAX_RESOURCES || resources.contains_key(resource);
        let name = if room { resource } else { "other" };
        let of = resources.entry(name.to_owned()).or_default();
        of.collections += 1;
        of.oldest = of.oldest.max(*age);
    }
    resources
}
