//! The eBPF programs and their maps: load, attach, beat, count.

use std::fs::File;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::Duration;

use aya::maps::{Array, HashMap, Map, MapData, PerCpuArray, RingBuf, SkStorage};
use aya::programs::cgroup_sock_addr::CgroupSockAddrLink;
use aya::programs::{CgroupAttachMode, CgroupSockAddr};
use aya::{Ebpf, EbpfLoader};
use aya_log::EbpfLogger;
use holdfast_common::{
    COUNTER_MISSES, COUNTER_REDIRECTS, Control, Destination4, Destination6, TAG_DIAL, TAG_LISTENER,
};
use nix::time::{ClockId, clock_gettime};
use tracing_log::log;

use super::InterceptError;

/// Built by `cargo xtask build-ebpf` and committed, so that building Holdfast needs no BPF toolchain.
pub(super) static OBJECT: &[u8] =
    aya::include_bytes_aligned!("../../../proxy-ebpf/prebuilt/holdfast.bpf.o");

/// A heartbeat older than this means that Holdfast hangs: connections go direct. Eight beats, so that a busy node's
/// scheduling does not look like a hang, and below the patience of any client.
const MAX_AGE: Duration = Duration::from_secs(2);

/// Without the first nothing can be redirected; each of the others can be missing on some kernel (`ipv6.disable=1`).
const REQUIRED: &str = "connect4";
const OPTIONAL: [(&str, &str); 3] = [
    ("connect6", "IPv6 clients are not redirected"),
    (
        "getpeername4",
        "redirected IPv4 clients see 127.0.0.1 as their peer",
    ),
    (
        "getpeername6",
        "redirected IPv6 clients see ::1 as their peer",
    ),
];

/// The programs in the kernel. Dropping them detaches them: links are held, never pinned.
pub(super) struct Programs {
    ebpf: Ebpf,
    links: Vec<CgroupSockAddrLink>,
    control: Array<MapData, Control>,
    counters: PerCpuArray<MapData, u64>,
    loaded: Vec<&'static str>,
    port: u16,
    own_cgroup: u64,
    /// What could not be loaded, and what that means.
    pub(super) conditions: Vec<String>,
}

/// The parts of a load that others own.
pub(super) struct Loaded {
    pub(super) programs: Programs,
    pub(super) tags: Tags,
    pub(super) misses: RingBuf<MapData>,
    pub(super) log: Option<Log>,
}

pub(super) type Log = EbpfLogger<IntoTracing>;

/// The programs' own lines, told as this module's: `log.filter` names it as it names any other.
pub(super) struct IntoTracing;

impl log::Log for IntoTracing {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        tracing::debug!(target: "holdfast::intercept", "{}", record.args());
    }

    fn flush(&self) {}
}

/// The socket storage that marks Holdfast's own sockets.
pub(super) struct Tags(SkStorage<MapData, u32>);

impl Tags {
    pub(super) fn dial(&mut self, socket: BorrowedFd<'_>) -> std::io::Result<()> {
        self.set(socket, TAG_DIAL)
    }

    pub(super) fn listener(&mut self, socket: BorrowedFd<'_>) -> std::io::Result<()> {
        self.set(socket, TAG_LISTENER)
    }

    fn set(&mut self, socket: BorrowedFd<'_>, tag: u32) -> std::io::Result<()> {
        self.0
            .insert(&socket, tag, 0)
            .map_err(std::io::Error::other)
    }
}

/// Loads the programs and fills the destinations. Nothing is attached yet.
pub(super) fn load(
    object: &[u8],
    destinations: &[SocketAddr],
    port: u16,
    own_cgroup: u64,
    debug: bool,
) -> Result<Loaded, InterceptError> {
    let mut loader = EbpfLoader::new();
    // A constant for the verifier: at 0 the log calls are dead code and cost nothing.
    let level = if debug { u8::MAX } else { 0 };
    loader.override_global("AYA_LOG_LEVEL", level_bytes(&level), true);
    let mut ebpf = loader.load(object).map_err(load_error)?;

    // Before the programs are loaded: the logger reads no earlier records.
    let log = if debug {
        Some(EbpfLogger::init_with_logger(&mut ebpf, IntoTracing).map_err(load_error)?)
    } else {
        None
    };
    let (loaded, conditions) = load_programs(&mut ebpf)?;
    fill(&mut ebpf, destinations)?;
    let tags = Tags(take(&mut ebpf, "TAG")?);
    let misses = take(&mut ebpf, "MISSES")?;
    let programs = Programs {
        control: take(&mut ebpf, "CONTROL")?,
        counters: take(&mut ebpf, "COUNTERS")?,
        links: Vec::new(),
        loaded,
        port,
        own_cgroup,
        conditions,
        ebpf,
    };
    Ok(Loaded {
        programs,
        tags,
        misses,
        log,
    })
}

fn level_bytes(level: &u8) -> &[u8] {
    std::slice::from_ref(level)
}

fn load_programs(ebpf: &mut Ebpf) -> Result<(Vec<&'static str>, Vec<String>), InterceptError> {
    program(ebpf, REQUIRED)?.load().map_err(load_error)?;
    let mut loaded = vec![REQUIRED];
    let mut conditions = Vec::new();
    for (name, consequence) in OPTIONAL {
        match program(ebpf, name)?.load() {
            Ok(()) => loaded.push(name),
            Err(error) => {
                let condition = format!("this kernel refuses {name}: {consequence}");
                tracing::warn!(%error, "{condition}");
                conditions.push(condition);
            }
        }
    }
    Ok((loaded, conditions))
}

fn fill(ebpf: &mut Ebpf, destinations: &[SocketAddr]) -> Result<(), InterceptError> {
    let mut v4: HashMap<_, Destination4, u8> = take(ebpf, "DESTINATIONS4")?;
    let mut v6: HashMap<_, Destination6, u8> = take(ebpf, "DESTINATIONS6")?;
    for destination in destinations {
        let port = network_port(destination.port());
        match destination {
            SocketAddr::V4(address) => v4.insert(
                Destination4 {
                    ip: ip4(*address.ip()),
                    port,
                },
                1,
                0,
            ),
            SocketAddr::V6(address) => v6.insert(
                Destination6 {
                    ip: ip6(*address.ip()),
                    port,
                },
                1,
                0,
            ),
        }
        .map_err(load_error)?;
    }
    Ok(())
}

impl Programs {
    /// Attaches to a cgroup2 folder, then lets go of the folder attached to before.
    pub(super) fn attach(&mut self, folder: &Path) -> Result<(), InterceptError> {
        let io = |source| InterceptError::Io {
            step: format!("open the attach folder {}", folder.display()),
            source,
        };
        let cgroup = File::open(folder).map_err(io)?;
        let mut links = Vec::new();
        for name in &self.loaded {
            let program = program(&mut self.ebpf, name)?;
            // `Single` is the only mode of a link that the kernel takes; links on a cgroup always coexist with others.
            let link = program
                .attach(&cgroup, CgroupAttachMode::Single)
                .and_then(|id| program.take_link(id))
                .map_err(|error| InterceptError::Missing {
                    what: format!(
                        "cannot attach {name} to {}: {}",
                        folder.display(),
                        chain(&error)
                    ),
                    remedy: "if another program holds connect hooks there exclusively (bpftool cgroup tree), detach it"
                        .to_owned(),
                })?;
            links.push(link);
        }
        self.links = links;
        Ok(())
    }

    pub(super) fn detach(&mut self) {
        self.links.clear();
    }

    /// Says that Holdfast is alive.
    pub(super) fn beat(&mut self) -> std::io::Result<()> {
        let now = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?);
        let control = Control {
            beat_ns: nanoseconds(now),
            max_age_ns: nanoseconds(MAX_AGE),
            own_cgroup: self.own_cgroup,
            port: network_port(self.port),
            _pad: 0,
        };
        self.control
            .set(0, control, 0)
            .map_err(std::io::Error::other)
    }

    pub(super) fn redirects(&self) -> u64 {
        self.count(COUNTER_REDIRECTS)
    }

    pub(super) fn misses(&self) -> u64 {
        self.count(COUNTER_MISSES)
    }

    fn count(&self, counter: u32) -> u64 {
        self.counters
            .get(&counter, 0)
            .map_or(0, |per_cpu| per_cpu.iter().sum())
    }
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut CgroupSockAddr, InterceptError> {
    ebpf.program_mut(name)
        .ok_or_else(|| InterceptError::Load(format!("the object has no program {name}")))?
        .try_into()
        .map_err(load_error)
}

fn take<T>(ebpf: &mut Ebpf, name: &str) -> Result<T, InterceptError>
where
    T: TryFrom<Map, Error = aya::maps::MapError>,
{
    let map = ebpf
        .take_map(name)
        .ok_or_else(|| InterceptError::Load(format!("the object has no map {name}")))?;
    T::try_from(map).map_err(load_error)
}

fn load_error(error: impl std::error::Error) -> InterceptError {
    InterceptError::Load(chain(&error))
}

/// An error and its sources in one line, for errors of a library that are flattened into text here.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// As `bpf_sock_addr.user_port` shows it: network byte order in the low 16 bits.
fn network_port(port: u16) -> u32 {
    u32::from(port.to_be())
}

fn ip4(address: Ipv4Addr) -> u32 {
    u32::from_ne_bytes(address.octets())
}

fn ip6(address: Ipv6Addr) -> [u32; 4] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = address.octets();
    [
        u32::from_ne_bytes([a, b, c, d]),
        u32::from_ne_bytes([e, f, g, h]),
        u32::from_ne_bytes([i, j, k, l]),
        u32::from_ne_bytes([m, n, o, p]),
    ]
}
