//! Single values: text -> type. Every error says what to write instead.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::{LogFormat, Secrets, Server, Strategy, TlsMode};
use crate::runtime::telemetry;

/// No time span here makes sense above this, and sums of such spans never overflow a clock.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// Below this a cache would hold little more than its own tables.
const SMALLEST_CACHE: u64 = 1 << 20;

pub(super) fn server(text: &str) -> Result<Server, String> {
    let remedy = || format!("{text:?} is not an API server address; write https://host:port");
    let authority = text.strip_prefix("https://").ok_or_else(remedy)?;
    let authority = authority.strip_suffix('/').unwrap_or(authority);
    let (host, port) = authority.rsplit_once(':').ok_or_else(remedy)?;
    let port = port
        .parse()
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(remedy)?;
    let host = match host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
    {
        Some(v6) => v6
            .parse::<std::net::Ipv6Addr>()
            .map_err(|_| remedy())?
            .to_string(),
        None if host.parse::<std::net::Ipv4Addr>().is_ok() => host.to_owned(),
        None => dns_name(host).map_err(|_| remedy())?,
    };
    Ok(Server { host, port })
}

/// A DNS name in lower case, without wildcard and final dot.
pub fn dns_name(text: &str) -> Result<String, String> {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if text.len() <= 253 && text.split('.').all(label) && text.parse::<IpAddr>().is_err() {
        return Ok(text.to_ascii_lowercase());
    }
    Err(format!(
        "{text:?} is not a DNS name; write e.g. kubernetes.default.svc"
    ))
}

/// One of `tls.serverNames`.
pub(super) fn server_name(text: &str) -> Result<String, String> {
    if text.parse::<IpAddr>().is_ok() {
        return Err(format!(
            "{text} is an address; take it out: the addresses of intercept.destinations and listen are in the certificate by themselves"
        ));
    }
    dns_name(text)
}

/// An address and port to intercept.
pub(super) fn destination(text: &str) -> Result<SocketAddr, String> {
    let address = socket_address(text)?;
    if address.ip().is_unspecified() {
        return Err(format!(
            "{text} is no destination; write the service VIP, e.g. 10.96.0.1:443"
        ));
    }
    // The programs compare IPv4-mapped addresses as IPv4.
    Ok(SocketAddr::new(address.ip().to_canonical(), address.port()))
}

/// One of `listen`: an explicit TLS listener.
pub fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let address = socket_address(text)?;
    if address.ip().is_unspecified() {
        return Err(format!(
            "{text} means every address, and a certificate cannot name them; write the one that clients dial, e.g. 127.0.0.1:{}",
            address.port()
        ));
    }
    Ok(address)
}

/// `ip:port`, IPv6 in brackets.
pub fn socket_address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .ok()
        .filter(|address: &SocketAddr| address.port() != 0)
        .ok_or_else(|| {
            format!("{text:?} is not ip:port; write e.g. 127.0.0.1:10445 or [::1]:10445")
        })
}

pub(super) fn port(text: &str) -> Result<u16, String> {
    text.parse()
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(|| format!("{text:?} is not a port; write a number from 1 to 65535"))
}

pub(super) fn boolean(text: &str) -> Result<bool, String> {
    text.parse()
        .map_err(|_| format!("{text:?} is neither true nor false; write one of them"))
}

pub(super) fn path(text: &str) -> Result<PathBuf, String> {
    match text {
        "" => {
            Err("the path is empty; write the path of a file, e.g. /etc/holdfast/ca.crt".to_owned())
        }
        text => Ok(PathBuf::from(text)),
    }
}

/// A path, or `""` for none.
pub(super) fn path_or_none(text: &str) -> Result<Option<PathBuf>, String> {
    Ok((!text.is_empty()).then(|| PathBuf::from(text)))
}

/// Text that is passed on as it is.
pub(super) fn text(text: &str) -> Result<String, String> {
    Ok(text.to_owned())
}

/// A path of the API server, e.g. `/livez`.
pub(super) fn url_path(text: &str) -> Result<String, String> {
    text.parse::<http::uri::PathAndQuery>()
        .ok()
        .filter(|_| text.starts_with('/'))
        .map(|_| text.to_owned())
        .ok_or_else(|| format!("{text:?} is not a path of the API server; write e.g. /livez"))
}

/// A time span, zero included.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .ok()
        .filter(|duration| *duration <= LONGEST)
        .ok_or_else(|| {
            format!("{text:?} is not a duration (at most 366d); write e.g. 500ms, 5s or 24h")
        })
}

/// A time span above zero.
pub(super) fn period(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err(format!(
            "{text} is too short; write a duration above zero, e.g. 1s"
        )),
        duration => Ok(duration),
    }
}

pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let size = text.parse::<bytesize::ByteSize>().map(|size| size.as_u64());
    size.ok()
        .filter(|size| *size >= SMALLEST_CACHE)
        .ok_or_else(|| format!("{text:?} is not a size of at least 1MiB; write e.g. 256MiB"))
}

pub(super) fn strategy(text: &str) -> Result<Strategy, String> {
    match text {
        "priority" => Ok(Strategy::Priority),
        "round-robin" => Ok(Strategy::RoundRobin),
        _ => Err(format!(
            "{text:?} is not a strategy; write priority or round-robin"
        )),
    }
}

pub(super) fn tls_mode(text: &str) -> Result<TlsMode, String> {
    match text {
        "intermediate" => Ok(TlsMode::Intermediate),
        "csr" | "bundle" => Err(format!("mode {text} is not there yet; write intermediate")),
        _ => Err(format!("{text:?} is not a mode; write intermediate")),
    }
}

pub(super) fn secrets(text: &str) -> Result<Secrets, String> {
    match text {
        "memory" => Ok(Secrets::Memory),
        "never" => Ok(Secrets::Never),
        "encrypted" => Err("encrypted is not there yet; write memory or never".to_owned()),
        _ => Err(format!(
            "{text:?} is not a way to keep Secrets; write memory or never"
        )),
    }
}

/// An API group without its version; the core group is empty.
pub(super) fn group(text: &str) -> Result<String, String> {
    match text {
        "" => Ok(String::new()),
        text => dns_name(text)
            .ok()
            .filter(|name| name == text)
            .ok_or_else(|| {
                format!(
                    "{text:?} is not an API group; write e.g. apps, or nothing for the core group"
                )
            }),
    }
}

/// The plural name of a resource, as in a URL.
pub(super) fn resource(text: &str) -> Result<String, String> {
    dns_name(text)
        .ok()
        .filter(|name| name == text && !name.contains('.'))
        .ok_or_else(|| {
            format!(
                "{text:?} is not a resource; write its plural as in a URL, e.g. configmaps, and its group in group"
            )
        })
}

pub(super) fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(format!("{text:?} is not a format; write text or json")),
    }
}

/// Levels, of all and of modules.
pub fn log_filter(text: &str) -> Result<String, String> {
    telemetry::filter(text)
        .map(|_| text.to_owned())
        .map_err(|error| format!("{text:?} is not a log filter ({error}); write e.g. info or info,holdfast::upstream=debug"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_https_host_and_port() {
        let parsed = |text| server(text).map(|server| (server.host, server.port));
        assert_eq!(
            parsed("https://192.0.2.10:6443"),
            Ok(("192.0.2.10".into(), 6443))
        );
        assert_eq!(
            parsed("https://[2001:db8::1]:6443/"),
            Ok(("2001:db8::1".into(), 6443))
        );
        assert_eq!(
            parsed("https://API.example:443"),
            Ok(("api.example".into(), 443))
        );
        for wrong in [
            "http://192.0.2.10:6443",
            "192.0.2.10:6443",
            "https://192.0.2.10",
            "https://192.0.2.10:0",
            "https://192.0.2.10:66000",
            "https://user@host:6443",
            "https://host:6443/path",
            "https://2001:db8::1:6443",
            "https://:6443",
            "",
        ] {
            let remedy = server(wrong).expect_err(wrong);
            assert!(remedy.contains("https://host:port"), "{wrong}: {remedy}");
        }
    }

    #[test]
    fn a_destination_may_be_ipv6_in_brackets_and_is_compared_as_ipv4_when_mapped() {
        assert!(destination("[fd00::1]:443").is_ok());
        assert_eq!(
            destination("[::ffff:10.96.0.1]:443"),
            destination("10.96.0.1:443")
        );
        for wrong in [
            "fd00::1:443",
            "10.96.0.1",
            "10.96.0.1:0",
            "kubernetes:443",
            "0.0.0.0:443",
        ] {
            assert!(destination(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_number_without_a_unit_is_not_a_duration() {
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        assert!(duration("5").is_err());
        assert!(duration("-5s").is_err());
        assert!(duration("400d").is_err());
        assert!(period("0s").is_err());
    }

    #[test]
    fn sizes_are_binary_or_decimal() {
        assert_eq!(bytes("256MiB"), Ok(256 << 20));
        assert_eq!(bytes("256MB"), Ok(256_000_000));
        assert!(bytes("12").is_err());
        assert!(bytes("lots").is_err());
    }

    #[test]
    fn an_address_is_not_a_server_name() {
        assert!(server_name("10.96.0.1").is_err_and(|remedy| remedy.contains("destinations")));
        assert!(server_name("*.example").is_err());
        assert_eq!(server_name("Kubernetes"), Ok("kubernetes".into()));
    }
}
