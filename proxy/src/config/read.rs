//! As written -> validated, section by section. One function per section of the file, in its order.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::tree::Section;
use super::{
    Admin, Cache, ClientCertificate, Config, Intercept, Log, LogFormat, MaxAge, OwnCredential,
    Probe, Secrets, Strategy, Tls, TlsMode, Tokens, Upstream, values,
};

const API_VERSION: &str = "holdfast.dev/v1alpha1";
const KIND: &str = "Config";

const CLUSTER_CA: &str = "/etc/kubernetes/pki/ca.crt";
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
/// The service VIP of a cluster that was made with kubeadm's default service range.
const SERVICE_VIP: &str = "10.96.0.1:443";
const SERVER_NAMES: [&str; 4] = [
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
];

/// Mistakes gather in `root`; with any of them the result is not to be used.
pub(super) fn config(root: Section<'_>) -> Config {
    exactly(&root, "apiVersion", API_VERSION);
    exactly(&root, "kind", KIND);
    let config = Config {
        upstream: upstream(root.section("upstream")),
        listen: root.list("listen", &["127.0.0.1:10445"], values::listen_address),
        intercept: intercept(root.section("intercept")),
        tls: tls(root.section("tls")),
        client_certificates: client_certificates(&root),
        tokens: tokens(root.section("tokens")),
        cache: cache(root.section("cache")),
        admin: admin(root.section("admin")),
        log: log(root.section("log")),
    };
    together(&root, &config);
    root.finish();
    config
}

fn exactly(root: &Section<'_>, key: &'static str, expected: &str) {
    match root.field(key) {
        None => root.reject(key, format!("it is missing; write {key}: {expected}")),
        Some(field) => {
            field.parse(|text| match text == expected {
                true => Ok(()),
                false => Err(format!("{text:?} is not known; write {expected}")),
            });
        }
    }
}

fn upstream(section: Section<'_>) -> Upstream {
    let servers = section.list("servers", &[], values::server);
    let written = section.field("servers");
    if written.is_none_or(|field| field.is_empty_list()) {
        section.reject(
            "servers",
            "there is no API server to forward to; write e.g. servers: [\"https://192.0.2.10:6443\"]",
        );
    }
    let upstream = Upstream {
        servers,
        ca_file: section.value("caFile", CLUSTER_CA.into(), values::path),
        strategy: section.value("strategy", Strategy::Priority, values::strategy),
        credential: credential(&section),
        probe: probe(section.section("probe")),
        answer_timeout: section.value("answerTimeout", Duration::from_secs(1), values::period),
        resume_jitter: section.value("resumeJitter", Duration::from_secs(10), values::duration),
    };
    section.finish();
    upstream
}

fn credential(section: &Section<'_>) -> OwnCredential {
    let token = section
        .field("tokenFile")
        .and_then(|field| field.parse(values::text));
    let cert = section
        .field("certFile")
        .and_then(|field| field.parse(values::path));
    let key = section
        .field("keyFile")
        .and_then(|field| field.parse(values::path));
    match (token, cert, key) {
        (None, None, None) => OwnCredential::TokenFile(TOKEN.into()),
        (Some(token), None, None) if token.is_empty() => OwnCredential::None,
        (Some(token), None, None) => OwnCredential::TokenFile(token.into()),
        (None, Some(cert_file), Some(key_file)) => OwnCredential::Certificate {
            cert_file,
            key_file,
        },
        (None, Some(_), None) => {
            section.reject("certFile", "its key is missing; write keyFile too");
            OwnCredential::None
        }
        (None, None, Some(_)) => {
            section.reject("keyFile", "its certificate is missing; write certFile too");
            OwnCredential::None
        }
        (Some(_), _, _) => {
            section.reject(
                "tokenFile",
                "Holdfast has one credential; write tokenFile, or certFile and keyFile",
            );
            OwnCredential::None
        }
    }
}

fn probe(section: Section<'_>) -> Probe {
    let probe = Probe {
        path: section.value("path", "/livez".to_owned(), values::url_path),
        interval: section.value("interval", Duration::from_secs(5), values::period),
        down_interval: section.value("downInterval", Duration::from_secs(1), values::period),
        timeout: section.value("timeout", Duration::from_secs(2), values::period),
    };
    section.finish();
    probe
}

fn intercept(section: Section<'_>) -> Intercept {
    let enabled = section.value("enabled", true, values::boolean);
    // Without the redirect nobody dials the VIP here, and a CA that does not permit it is good enough.
    let destinations: &[&str] = if enabled { &[SERVICE_VIP] } else { &[] };
    let intercept = Intercept {
        enabled,
        cgroup: section
            .field("cgroup")
            .and_then(|field| field.parse(values::path)),
        port: section.value("port", 19443, values::port),
        host: section.value("host", false, values::boolean),
        destinations: section.list("destinations", destinations, values::destination),
    };
    if intercept.host {
        section.reject(
            "host",
            "client certificates are not there yet, and processes outside kubepods use them; write false",
        );
    }
    let written = section.field("destinations");
    if intercept.enabled && written.is_some_and(|field| field.is_empty_list()) {
        section.reject(
            "destinations",
            "there is nothing to intercept; write the service VIP, e.g. [\"10.96.0.1:443\"], or enabled: false",
        );
    }
    section.finish();
    intercept
}

fn tls(section: Section<'_>) -> Tls {
    let tls = Tls {
        mode: section.value("mode", TlsMode::Intermediate, values::tls_mode),
        server_names: section.list("serverNames", &SERVER_NAMES, values::server_name),
        ca_cert_file: section.value("caCertFile", "/etc/holdfast/ca.crt".into(), values::path),
        ca_key_file: section.value("caKeyFile", "/etc/holdfast/ca.key".into(), values::path),
        client_ca_file: Some(section.value("clientCaFile", CLUSTER_CA.into(), values::path)),
    };
    section.finish();
    tls
}

fn client_certificates(root: &Section<'_>) -> Vec<ClientCertificate> {
    let items = root.field("clientCertificates").map(|field| field.items());
    let pair = |section: &Section<'_>, key: &'static str| -> PathBuf {
        let path = section
            .field(key)
            .and_then(|field| field.parse(values::path));
        path.unwrap_or_default()
    };
    let mut certificates = Vec::new();
    for item in items.into_iter().flatten() {
        item.reject("client certificates are not there yet; write clientCertificates: []");
        let section = item.section();
        certificates.push(ClientCertificate {
            cert_file: pair(&section, "certFile"),
            key_file: pair(&section, "keyFile"),
        });
        section.finish();
    }
    certificates
}

fn tokens(section: Section<'_>) -> Tokens {
    let tokens = Tokens {
        issuer: section.value("issuer", String::new(), values::text),
        audiences: section.list("audiences", &[], values::text),
        expired_grace: section.value(
            "expiredGrace",
            Duration::from_secs(24 * 3600),
            values::duration,
        ),
    };
    section.finish();
    tokens
}

fn cache(section: Section<'_>) -> Cache {
    let cache = Cache {
        path: section.value("path", "/var/lib/holdfast/cache.redb".into(), values::path),
        max_bytes: section.value("maxBytes", 256 << 20, values::bytes),
        commit_interval: section.value("commitInterval", Duration::from_secs(1), values::period),
        secrets: section.value("secrets", Secrets::Memory, values::secrets),
        tail: section.value(
            "tail",
            Some("/run/holdfast/cache.tail".into()),
            values::path_or_none,
        ),
        max_age: max_age(&section),
    };
    section.finish();
    cache
}

fn max_age(cache: &Section<'_>) -> Vec<MaxAge> {
    let items = cache.field("maxAge").map(|field| field.items());
    let mut ages: Vec<MaxAge> = Vec::new();
    for item in items.into_iter().flatten() {
        let section = item.section();
        let group = section.value("group", String::new(), values::group);
        let resource = required(&section, "resource", "pods", values::resource);
        let max_age = required(&section, "maxAge", "1h", values::period);
        section.finish();
        let (Some(resource), Some(max_age)) = (resource, max_age) else {
            continue;
        };
        if ages
            .iter()
            .any(|age| (&age.group, &age.resource) == (&group, &resource))
        {
            item.reject(format!(
                "{resource:?} of this group has a maxAge already; write one"
            ));
        }
        ages.push(MaxAge {
            group,
            resource,
            max_age,
        });
    }
    ages
}

/// A field that has no default.
fn required<T>(
    section: &Section<'_>,
    key: &'static str,
    example: &str,
    parse: fn(&str) -> Result<T, String>,
) -> Option<T> {
    match section.field(key) {
        Some(field) => field.parse(parse),
        None => {
            section.reject(key, format!("it is missing; write e.g. {key}: {example}"));
            None
        }
    }
}

fn admin(section: Section<'_>) -> Admin {
    let default = SocketAddr::from((Ipv4Addr::LOCALHOST, 10446));
    let admin = Admin {
        listen: section.value("listen", default, values::socket_address),
    };
    section.finish();
    admin
}

fn log(section: Section<'_>) -> Log {
    let log = Log {
        filter: section.value("filter", "info".to_owned(), values::log_filter),
        format: section.value("format", LogFormat::Text, values::log_format),
    };
    section.finish();
    log
}

/// What no field can tell alone.
fn together(root: &Section<'_>, config: &Config) {
    if !config.intercept.enabled && config.listen.is_empty() {
        root.reject(
            "listen",
            "there is nothing to serve; write an address, or intercept.enabled: true",
        );
    }
    if config.listen.contains(&config.admin.listen) {
        root.reject(
            "admin",
            format!(
                "{} is in listen too; write another port",
                config.admin.listen
            ),
        );
    }
    let own = |address: &SocketAddr| {
        let ip = address.ip();
        let bound = ip == Ipv4Addr::LOCALHOST || ip == Ipv6Addr::LOCALHOST || ip.is_unspecified();
        config.intercept.enabled && bound && address.port() == config.intercept.port
    };
    let clash = "is the port of intercept.port in the host's namespace; write another one";
    if let Some(address) = config.listen.iter().find(|address| own(address)) {
        root.reject("listen", format!("{address} {clash}"));
    }
    if own(&config.admin.listen) {
        root.reject("admin", format!("{} {clash}", config.admin.listen));
    }
}
