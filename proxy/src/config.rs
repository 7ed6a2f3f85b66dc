//! Configuration: as written (YAML, strict) -> validated; one sub-struct per module.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The validated configuration.
#[derive(Clone, Debug)]
pub struct Config {
    pub upstream: Upstream,
    /// Explicit TLS listeners.
    pub listen: Vec<SocketAddr>,
    pub intercept: Intercept,
    pub tls: Tls,
    pub client_certificates: Vec<ClientCertificate>,
    pub tokens: Tokens,
    pub cache: Cache,
    pub admin: Admin,
    pub log: Log,
}

#[derive(Clone, Debug)]
pub struct Upstream {
    pub servers: Vec<Server>,
    pub ca_file: PathBuf,
    pub strategy: Strategy,
    pub credential: OwnCredential,
    pub probe: Probe,
    pub answer_timeout: Duration,
    pub resume_jitter: Duration,
}

/// One API server address: `https://host:port`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Server {
    /// A DNS name or an IP literal (IPv6 without brackets).
    pub host: String,
    pub port: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    Priority,
    RoundRobin,
}

/// Holdfast's own credential: for keys and probes, never for a caller's request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnCredential {
    TokenFile(PathBuf),
    Certificate { cert_file: PathBuf, key_file: PathBuf },
    None,
}

#[derive(Clone, Debug)]
pub struct Probe {
    pub path: String,
    pub interval: Duration,
    pub down_interval: Duration,
    pub timeout: Duration,
}

#[derive(Clone, Debug)]
pub struct Intercept {
    pub enabled: bool,
    /// A cgroup2 folder; found by itself when `None`.
    pub cgroup: Option<PathBuf>,
    pub port: u16,
    pub host: bool,
    pub destinations: Vec<SocketAddr>,
}

#[derive(Clone, Debug)]
pub struct Tls {
    pub mode: TlsMode,
    pub server_names: Vec<String>,
    pub ca_cert_file: PathBuf,
    pub ca_key_file: PathBuf,
    pub client_ca_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    Intermediate,
    Csr,
    Bundle,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
}

#[derive(Clone, Debug, Default)]
pub struct Tokens {
    /// Empty: taken from the issuer's own discovery document.
    pub issuer: String,
    /// Empty: the issuer.
    pub audiences: Vec<String>,
    pub expired_grace: Duration,
}

#[derive(Clone, Debug)]
pub struct Cache {
    pub path: PathBuf,
    pub max_bytes: u64,
    pub commit_interval: Duration,
    pub secrets: Secrets,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrets {
    Memory,
    Never,
}

#[derive(Clone, Debug)]
pub struct Admin {
    pub listen: SocketAddr,
}

#[derive(Clone, Debug)]
pub struct Log {
    pub filter: String,
    pub format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}
