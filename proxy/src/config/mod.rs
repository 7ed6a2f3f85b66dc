//! Configuration: as written (YAML, strict) -> validated; one sub-struct per module.
//!
//! `tree` is the file with its line numbers, `values` turns single texts into types, `read` goes through the sections.
//! Whoever holds a [`Config`] need not check it again.

mod read;
mod tree;
pub mod values;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_saphyr::Spanned;

use tree::{Field, Mistakes, Node};

/// A file larger than this is no configuration of ours.
const LARGEST_FILE: u64 = 1 << 20;

/// The validated configuration.
#[derive(Clone, Debug)]
pub struct Config {
    pub upstream: Upstream,
    /// Explicit TLS listeners, for clients with a kubeconfig of their own. Default: `127.0.0.1:10445`. May be empty.
    pub listen: Vec<SocketAddr>,
    pub intercept: Intercept,
    pub tls: Tls,
    /// Used upstream for a caller that proved this very subject. Default: none (and not there yet).
    pub client_certificates: Vec<ClientCertificate>,
    pub tokens: Tokens,
    pub cache: Cache,
    pub admin: Admin,
    pub log: Log,
}

#[derive(Clone, Debug)]
pub struct Upstream {
    /// Tried by `strategy`. Required, never empty.
    pub servers: Vec<Server>,
    /// PEM: the CA of the servers' certificates. Default: `/etc/kubernetes/pki/ca.crt`.
    pub ca_file: PathBuf,
    /// Default: priority.
    pub strategy: Strategy,
    /// Default: the token file of a pod.
    pub credential: OwnCredential,
    pub probe: Probe,
    /// A read without an answer, and without a sign of life of the upstream, for this long is answered from the cache. Default: 1 s.
    pub answer_timeout: Duration,
    /// After an outage, watches resume at a random moment within this. Default: 10 s.
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
    /// The first that is up, in the order written.
    Priority,
    /// Each in turn.
    RoundRobin,
}

/// Holdfast's own credential: for keys and probes, never for a caller's request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnCredential {
    TokenFile(PathBuf),
    Certificate {
        cert_file: PathBuf,
        key_file: PathBuf,
    },
    None,
}

#[derive(Clone, Debug)]
pub struct Probe {
    /// Default: `/livez`.
    pub path: String,
    /// Between probes while up. Default: 5 s.
    pub interval: Duration,
    /// Between probes while down. Default: 1 s.
    pub down_interval: Duration,
    /// A probe without an answer for this long has failed. Default: 2 s.
    pub timeout: Duration,
}

#[derive(Clone, Debug)]
pub struct Intercept {
    /// Default: true.
    pub enabled: bool,
    /// A cgroup2 folder; found by itself when `None` (the default).
    pub cgroup: Option<PathBuf>,
    /// TCP port of the listener in every network namespace. Default: 19443.
    pub port: u16,
    /// Also processes outside kubepods. Default: false (true is not there yet).
    pub host: bool,
    /// What to intercept; IPv4-mapped addresses are IPv4 here. Default: `10.96.0.1:443`, none when disabled.
    pub destinations: Vec<SocketAddr>,
}

#[derive(Clone, Debug)]
pub struct Tls {
    /// Default: intermediate (the others are not there yet).
    pub mode: TlsMode,
    /// SANs, in lower case, beside every address of `destinations` and `listen`. Default: the four names of the `kubernetes` service.
    pub server_names: Vec<String>,
    /// PEM: the chain, leaf signer first. Default: `/etc/holdfast/ca.crt`.
    pub ca_cert_file: PathBuf,
    /// PEM: the leaf signer's key. Default: `/etc/holdfast/ca.key`.
    pub ca_key_file: PathBuf,
    /// PEM: client certificates are verified against this (not there yet). Default: `/etc/kubernetes/pki/ca.crt`.
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
    /// Empty (the default): taken from the issuer's own discovery document.
    pub issuer: String,
    /// Empty (the default): the issuer.
    pub audiences: Vec<String>,
    /// While the uplink is down, an expired token is honoured for this much longer. Default: 24 h.
    pub expired_grace: Duration,
}

#[derive(Clone, Debug)]
pub struct Cache {
    /// Default: `/var/lib/holdfast/cache.redb`.
    pub path: PathBuf,
    /// Bound of the file, in bytes. Default: 256 MiB.
    pub max_bytes: u64,
    /// Writes are gathered for this long; a crash loses no more. Default: 1 s.
    pub commit_interval: Duration,
    /// Default: memory.
    pub secrets: Secrets,
    /// Begins the names of two files that hold what is not committed yet, should the process be killed. Best on a tmpfs.
    /// Default: `/run/holdfast/cache.tail`.
    pub tail: Option<PathBuf>,
    /// Default: none, so that what was kept is told however old it is.
    pub max_age: Vec<MaxAge>,
}

/// How long ago the upstream must have confirmed what is told of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaxAge {
    /// Empty (the default): the core group.
    pub group: String,
    /// Plural, as in a URL.
    pub resource: String,
    pub max_age: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrets {
    /// Kept while the process lives, never on disk.
    Memory,
    /// Not kept.
    Never,
}

#[derive(Clone, Debug)]
pub struct Admin {
    /// Plain HTTP. Default: `127.0.0.1:10446`.
    pub listen: SocketAddr,
}

#[derive(Clone, Debug)]
pub struct Log {
    /// A level, and `module=level`, separated by commas. Default: `info`.
    pub filter: String,
    /// Default: text.
    pub format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

/// One mistake in a configuration file. Lines and columns count from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    pub line: u64,
    pub column: u64,
    /// The full name, e.g. `upstream.servers[0]`; empty for the document as a whole.
    pub field: String,
    /// What is wrong and what to write instead.
    pub remedy: String,
}

/// No configuration came of the file.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error(
        "cannot read the configuration {path:?}; is the path right, and may this user read it?"
    )]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// One line per mistake, in the order of the file.
    #[error("{}", listing(.name, .mistakes))]
    Invalid {
        name: String,
        mistakes: Vec<Mistake>,
    },
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.line, self.column)?;
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.remedy)
    }
}

fn listing(name: &str, mistakes: &[Mistake]) -> String {
    let line = |mistake| format!("{name}:{mistake}");
    mistakes.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Reads and validates a file.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    parse(&path.display().to_string(), &read_file(path)?)
}

/// The text of a configuration file, bounded in size.
pub fn read_file(path: &Path) -> Result<String, ConfigError> {
    let read = |path: &Path| -> std::io::Result<String> {
        use std::io::Read;
        let mut text = String::new();
        let mut file = std::fs::File::open(path)?.take(LARGEST_FILE + 1);
        file.read_to_string(&mut text)?;
        if text.len() as u64 > LARGEST_FILE {
            return Err(std::io::Error::other("it is larger than 1 MiB"));
        }
        Ok(text)
    };
    read(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })
}

/// Validates `text`; `name` stands for it in messages.
pub fn parse(name: &str, text: &str) -> Result<Config, ConfigError> {
    let document = document(name, text)?;
    let mistakes = Mistakes::default();
    let config = read::config(Field::root(&document, &mistakes).section());
    match mistakes.into_sorted() {
        mistakes if mistakes.is_empty() => Ok(config),
        mistakes => Err(ConfigError::Invalid {
            name: name.to_owned(),
            mistakes,
        }),
    }
}

/// The same for a file that may be a Kubernetes ConfigMap: then its only key is validated, and lines count within that key.
pub fn parse_manifest(name: &str, text: &str) -> Result<Config, ConfigError> {
    let tree = document(name, text)?;
    let mistakes = Mistakes::default();
    let root = Field::root(&tree, &mistakes).section();
    let kind = root
        .field("kind")
        .and_then(|field| field.parse(values::text));
    if kind.as_deref() != Some("ConfigMap") {
        return parse(name, text);
    }
    match root.section("data").only_text() {
        Some((key, text)) => parse(&format!("{name}, line in data[{key:?}]"), text),
        None => {
            root.reject("data", "a ConfigMap with exactly one key is needed here; write one key with the configuration");
            Err(ConfigError::Invalid {
                name: name.to_owned(),
                mistakes: mistakes.into_sorted(),
            })
        }
    }
}

/// A commented file with every field at its default.
pub fn default_yaml() -> String {
    include_str!("default.yaml").to_owned()
}

fn document(name: &str, text: &str) -> Result<Spanned<Node>, ConfigError> {
    serde_saphyr::from_str(text).map_err(|error| {
        let at = error.location();
        let inner = error.without_snippet();
        let mistake = Mistake {
            line: at.map_or(1, |at| at.line()),
            column: at.map_or(1, |at| at.column()),
            field: String::new(),
            remedy: format!("not YAML that can be read: {}", syntax(inner)),
        };
        ConfigError::Invalid {
            name: name.to_owned(),
            mistakes: vec![mistake],
        }
    })
}

/// The parser's message in one line, without the position that is said already.
fn syntax(error: &serde_saphyr::Error) -> String {
    match error {
        serde_saphyr::Error::DuplicateMappingKey { key: Some(key), .. } => {
            format!("the field `{key}` is written twice; take one out")
        }
        other => other
            .to_string()
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned(),
    }
}

#[cfg(test)]
mod tests;
