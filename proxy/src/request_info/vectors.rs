//! What the API server's own code, release 1.36.3, makes of request lines and Accept headers put together at random.
//!
//! `vectors.tsv` is written by `tests/vectors`, which says how; a file of any length may take its place for a run.

use http::{Method, Uri};
use serde_json::{Value, json};

use super::accept::{Encoding, Representation, negotiate};
use super::*;

/// Method or `ACCEPT`; request URI or header; what the API server makes of it.
const VECTORS: &str = include_str!("vectors.tsv");

#[test]
fn each_request_line_is_read_as_the_api_server_reads_it() {
    let mut compared = 0;
    for line in VECTORS.lines() {
        let mut fields = line.split('\t');
        let (Some(method), Some(uri), Some(expected)) =
            (fields.next(), fields.next(), fields.next())
        else {
            panic!("{line}");
        };
        // What is no request at all ends before this parser.
        let Ok(uri) = uri.parse::<Uri>() else {
            continue;
        };
        if method == "ACCEPT" {
            continue;
        }
        let method: Method = method.parse().expect("a method");
        let parsed = RequestInfo::parse(&method, &uri);
        let told = parsed
            .as_ref()
            .map_or_else(refusal, |info| told(&method, info));
        // `apis/GROUP/VERSION` keeps its prefix there, and nothing reads it.
        let expected = expected.replacen(
            ",\"apis\",\"\",\"\",",
            ",\"\",\"\",\"\",",
            usize::from(expected.starts_with("[false")),
        );
        assert_eq!(told, expected, "{line}");
        compared += 1;
    }
    assert!(compared > 300, "{compared}");
}

#[test]
fn each_accept_header_is_negotiated_as_the_api_server_does() {
    let headers = VECTORS
        .lines()
        .filter_map(|line| line.strip_prefix("ACCEPT\t"));
    for line in headers {
        let (accept, expected) = line.rsplit_once('\t').expect("three fields");
        // A transform in YAML is no representation of its own here.
        if expected.starts_with("yaml ") {
            continue;
        }
        let first = negotiate(Some(accept)).into_iter().find_map(offered);
        assert_eq!(
            first.unwrap_or("none"),
            expected.replace("List", ""),
            "{accept}"
        );
    }
}

fn refusal(error: &ParseError) -> String {
    match error {
        ParseError::Encoding => "unreadable".to_owned(),
        ParseError::DanglingPrefix(_) => "error".to_owned(),
    }
}

/// The fields in the order of the vectors, with Go's null for no parts, and lower-case methods as verbs of non-resource requests.
fn told(method: &Method, info: &RequestInfo) -> String {
    let verb = match info.verb {
        _ if !info.is_resource_request => method.as_str().to_lowercase(),
        Verb::Other => String::new(),
        verb => verb.as_str().to_owned(),
    };
    let selectors = !info.legacy_watch;
    let selector = |selector: &str| {
        if selectors {
            selector.to_owned()
        } else {
            String::new()
        }
    };
    let parts = if info.is_resource_request {
        json!(info.parts)
    } else {
        Value::Null
    };
    json!([
        info.is_resource_request,
        verb,
        info.api_prefix,
        info.api_group,
        info.api_version,
        info.namespace,
        info.resource,
        info.subresource,
        info.name,
        parts,
        selector(&info.options.field_selector),
        selector(&info.options.label_selector),
        info.path,
    ])
    .to_string()
}

/// As the vectors name it; `None` for what a resource endpoint does not offer.
fn offered(representation: Representation) -> Option<&'static str> {
    match representation {
        Representation::Plain(Encoding::Json) => Some("json"),
        Representation::Plain(Encoding::Protobuf) => Some("vnd.kubernetes.protobuf"),
        Representation::Yaml => Some("yaml"),
        Representation::Table => Some("json Table v1"),
        Representation::PartialObjectMetadata(Encoding::Json) => {
            Some("json PartialObjectMetadata v1")
        }
        Representation::PartialObjectMetadata(Encoding::Protobuf) => {
            Some("vnd.kubernetes.protobuf PartialObjectMetadata v1")
        }
        _ => None,
    }
}
