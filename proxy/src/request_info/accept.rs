//! Content negotiation as the API server does it. Pure.
//!
//! Sources of the rules: `apiserver:pkg/endpoints/handlers/negotiation/negotiate.go`, `apiserver:pkg/endpoints/handlers/rest.go`
//! (`AllowsMediaTypeTransform`), `munnerz/goautoneg:autoneg.go`.

use http::HeaderMap;
use http::header::ACCEPT;

/// An encoding the cache stores objects in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Encoding {
    Json,
    Protobuf,
}

/// One representation a client accepts, in the order it prefers them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Representation {
    /// The object itself.
    Plain(Encoding),
    /// `as=Table`.
    Table,
    /// `as=PartialObjectMetadata` or `as=PartialObjectMetadataList`.
    PartialObjectMetadata(Encoding),
    /// Aggregated discovery (`as=APIGroupDiscoveryList`), with its version; `v2;profile=nopeer` is a document of its own.
    Discovery(String),
    Yaml,
    Cbor,
    /// Anything else, lower-cased as written.
    Other(String),
}

/// A client-go header has three clauses; more than this many are not worth their sorting.
const MAX_CLAUSES: usize = 64;

/// Up to this many clauses Go sorts by insertion, beyond it by a quicksort.
const GO_INSERTION_SORT: usize = 12;

/// The representations of the `Accept` header of a request, best first. The API server reads the first line only.
pub fn of_request(headers: &HeaderMap) -> Vec<Representation> {
    match headers.get(ACCEPT).map(|accept| accept.to_str()) {
        None => negotiate(None),
        Some(Ok(accept)) => negotiate(Some(accept)),
        Some(Err(_)) => Vec::new(),
    }
}

/// The representations of an `Accept` header, best first: by q, wildcards after the rest, then as written; `*/*`, `application/*`
/// and no header mean JSON. Empty when nothing in it is a media range: the API server's 406.
///
/// A clause that an endpoint may not offer (`Table` of protobuf, discovery of a Pod) is listed all the same; as there, the next one counts.
pub fn negotiate(accept: Option<&str>) -> Vec<Representation> {
    let Some(accept) = accept.filter(|accept| !accept.is_empty()) else {
        return vec![Representation::Plain(Encoding::Json)];
    };
    let mut clauses: Vec<Clause> = accept
        .split(',')
        .filter_map(Clause::parse)
        .take(MAX_CLAUSES)
        .collect();
    sort(&mut clauses);
    clauses.iter().map(Clause::representation).collect()
}

/// The representation that a `Content-Type` (of a response) says it is; the watch parameter `stream=watch` does not matter.
/// A Table and a metadata object of an answer have the plain type: there only `kind` in the body tells.
pub fn of_content_type(content_type: &str) -> Representation {
    let lower = content_type.to_ascii_lowercase();
    let media_type = lower.split(';').next().unwrap_or_default().trim();
    match Clause::parse(content_type) {
        Some(clause) => clause.with_type(media_type).representation(),
        None => Representation::Other(lower),
    }
}

/// One media range with its parameters.
struct Clause<'h> {
    /// `type/subtype`.
    media_range: (&'h str, &'h str),
    q: f32,
    parameters: Vec<(&'h str, &'h str)>,
    text: &'h str,
}

impl<'h> Clause<'h> {
    /// `None` for what the API server skips: no slash (but a lone `*`), or two.
    fn parse(text: &'h str) -> Option<Self> {
        let text = text.trim_matches(' ');
        let mut fields = text.split(';');
        let range = fields.next().unwrap_or_default();
        let media_range = match range.split_once('/') {
            Some((_, subtype)) if subtype.is_empty() || subtype.contains('/') => return None,
            Some((kind, subtype)) => (kind.trim_matches(' '), subtype.trim_matches(' ')),
            None if range.trim_matches(' ') == "*" => ("*", "*"),
            None => return None,
        };
        let mut clause = Self {
            media_range,
            q: 1.0,
            parameters: Vec::new(),
            text,
        };
        for (name, value) in fields.filter_map(|field| field.split_once('=')) {
            let name = name.trim_matches(' ');
            if value.is_empty() || value.contains('=') {
                continue;
            } else if name == "q" {
                clause.q = value.parse().unwrap_or(0.0);
            } else {
                clause.parameters.push((name, value.trim_matches(' ')));
            }
        }
        Some(clause)
    }

    fn with_type<'t>(self, media_type: &'t str) -> Clause<'t>
    where
        'h: 't,
    {
        Clause {
            media_range: media_type.split_once('/').unwrap_or((media_type, "")),
            ..self
        }
    }

    fn parameter(&self, name: &str) -> &'h str {
        let mut named = self.parameters.iter().rev().filter(|(key, _)| *key == name);
        named.next().map_or("", |(_, value)| value)
    }

    fn representation(&self) -> Representation {
        use Representation::{Cbor, Discovery, Other, PartialObjectMetadata, Plain, Table, Yaml};
        let other = || Other(self.text.to_ascii_lowercase());
        if !matches!(self.parameter("stream"), "" | "watch")
            || !matches!(self.parameter("sv"), "" | "v1")
        {
            return other();
        }
        let transform = (
            self.parameter("as"),
            self.parameter("g"),
            self.parameter("v"),
        );
        let encoding = match self.media_range {
            ("*", "*") | ("application", "*" | "json") => Encoding::Json,
            ("application", "vnd.kubernetes.protobuf") => Encoding::Protobuf,
            ("application", "yaml") if transform == ("", "", "") => return Yaml,
            ("application", "cbor" | "cbor-seq") if transform == ("", "", "") => return Cbor,
            _ => return other(),
        };
        match (transform, encoding) {
            (("", "", ""), encoding) => Plain(encoding),
            (("Table", "meta.k8s.io", "v1" | "v1beta1"), Encoding::Json) => Table,
            (
                ("PartialObjectMetadata" | "PartialObjectMetadataList", "meta.k8s.io", "v1"),
                encoding,
            ) => PartialObjectMetadata(encoding),
            (("APIGroupDiscoveryList", "apidiscovery.k8s.io", version), Encoding::Json) => {
                Discovery(match self.parameter("profile") {
                    "" => version.to_owned(),
                    profile => format!("{version};profile={profile}"),
                })
            }
            _ => other(),
        }
    }
}

/// Sorts as the API server does: by q where it says more, but a wildcard never comes before what it covers, whatever their q.
fn sort(clauses: &mut [Clause<'_>]) {
    if clauses.len() > GO_INSERTION_SORT {
        // That order is not one a sort can rely on. No client is known to send so many.
        clauses.sort_by(|a, b| b.q.total_cmp(&a.q));
        return;
    }
    for end in 1..clauses.len() {
        let mut index = end;
        while index > 0 && goes_before(&clauses[index], &clauses[index - 1]) {
            clauses.swap(index, index - 1);
            index -= 1;
        }
    }
}

fn goes_before(a: &Clause<'_>, b: &Clause<'_>) -> bool {
    let ((a_type, a_subtype), (b_type, b_subtype)) = (a.media_range, b.media_range);
    a.q > b.q || (a_type != "*" && b_type == "*") || (a_subtype != "*" && b_subtype == "*")
}

#[cfg(test)]
mod tests {
    use super::Encoding::{Json, Protobuf};
    use super::Representation::{
        Cbor, Discovery, Other, PartialObjectMetadata, Plain, Table, Yaml,
    };
    use super::*;

    const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";
    const TABLE_BETA: &str = "application/json;as=Table;v=v1beta1;g=meta.k8s.io";
    const METADATA: &str =
        "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
    const METADATA_JSON: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
    const DISCOVERY: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    const DISCOVERY_BETA: &str =
        "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";

    #[test]
    fn each_known_client_gets_what_it_asks_for() {
        let table = [
            (
                "typed client-go, kubelet",
                "application/vnd.kubernetes.protobuf,application/json",
                vec![Plain(Protobuf), Plain(Json)],
            ),
            (
                "scheduler, kube-proxy",
                "application/vnd.kubernetes.protobuf, */*",
                vec![Plain(Protobuf), Plain(Json)],
            ),
            (
                "generic REST client",
                "application/json, */*",
                vec![Plain(Json), Plain(Json)],
            ),
            (
                "dynamic client, python",
                "application/json",
                vec![Plain(Json)],
            ),
            (
                "metadata client",
                &format!("{METADATA},{METADATA_JSON},application/json"),
                vec![
                    PartialObjectMetadata(Protobuf),
                    PartialObjectMetadata(Json),
                    Plain(Json),
                ],
            ),
            (
                "kubectl get",
                &format!("{TABLE},{TABLE_BETA},application/json"),
                vec![Table, Table, Plain(Json)],
            ),
            (
                "discovery",
                &format!("{DISCOVERY},{DISCOVERY_BETA},application/json"),
                vec![
                    Discovery("v2".to_owned()),
                    Discovery("v2beta1".to_owned()),
                    Plain(Json),
                ],
            ),
            (
                "JavaScript",
                "application/json, */*;q=0.8",
                vec![Plain(Json), Plain(Json)],
            ),
            ("fetch's default", "*/*", vec![Plain(Json)]),
        ];
        for (client, accept, expected) in table {
            assert_eq!(negotiate(Some(accept)), expected, "{client}");
        }
        assert_eq!(negotiate(None), vec![Plain(Json)], "kube-rs sends none");
        assert_eq!(negotiate(Some("")), vec![Plain(Json)]);
    }

    #[test]
    fn clauses_are_sorted_by_q_then_as_written() {
        let table = [
            (
                "application/json;q=0.5,application/yaml",
                vec![Yaml, Plain(Json)],
            ),
            (
                "application/yaml;q=0.5,application/json;q=0.5",
                vec![Yaml, Plain(Json)],
            ),
            (
                "application/yaml; q=0.9 ,application/json;q=1",
                vec![Plain(Json), Yaml],
            ),
            // A q that is no number counts as 0; the server does not read 0 as "not at all".
            (
                "application/yaml;q=high,application/json;q=0",
                vec![Yaml, Plain(Json)],
            ),
            // A wildcard is never preferred to what is named, as the server has it.
            ("*/*,application/yaml;q=0.1", vec![Yaml, Plain(Json)]),
            (
                "application/*,application/vnd.kubernetes.protobuf",
                vec![Plain(Protobuf), Plain(Json)],
            ),
        ];
        for (accept, expected) in table {
            assert_eq!(negotiate(Some(accept)), expected, "{accept}");
        }
    }

    #[test]
    fn parameters_are_read_as_the_server_reads_them() {
        let table = [
            ("application/json;stream=watch", Plain(Json)),
            (
                "application/vnd.kubernetes.protobuf;stream=watch",
                Plain(Protobuf),
            ),
            ("application/json;charset=utf-8", Plain(Json)),
            ("application/json;pretty=1", Plain(Json)),
            ("application/json; as = Table ; v=v1; g=meta.k8s.io", Table),
            ("*", Plain(Json)),
            ("application/*", Plain(Json)),
            ("*/*;as=Table;v=v1;g=meta.k8s.io", Table),
            ("application/cbor", Cbor),
            ("application/cbor-seq", Cbor),
        ];
        for (accept, expected) in table {
            assert_eq!(negotiate(Some(accept)), vec![expected], "{accept}");
        }
        let nopeer = format!("{DISCOVERY};profile=nopeer");
        let expected = Discovery("v2;profile=nopeer".to_owned());
        assert_eq!(negotiate(Some(&nopeer)), vec![expected]);
    }

    #[test]
    fn what_no_endpoint_offers_is_other() {
        for accept in [
            "text/html",
            "application/vnd.kubernetes.protobuf;as=table;v=v1;g=meta.k8s.io",
            "application/json;as=table",
            "application/json;as=partialobjectmetadata;g=meta.k8s.io;v=v1beta1",
            "application/yaml;as=table;v=v1;g=meta.k8s.io",
            "application/json;stream=other",
            "application/json;sv=v2",
        ] {
            let expected = vec![Other(accept.to_owned())];
            assert_eq!(negotiate(Some(accept)), expected, "{accept}");
        }
        let upper = vec![Other("application/json".to_owned())];
        assert_eq!(negotiate(Some("Application/JSON")), upper);
    }

    #[test]
    fn what_is_no_media_range_is_skipped() {
        for accept in ["json", ",,", "a/b/c", "application/", ";q=1", " "] {
            assert_eq!(negotiate(Some(accept)), vec![], "{accept}");
        }
        assert_eq!(negotiate(Some("json, application/json")), vec![Plain(Json)]);
    }

    #[test]
    fn only_the_first_accept_line_counts() {
        let mut headers = HeaderMap::new();
        assert_eq!(of_request(&headers), vec![Plain(Json)]);
        headers.append(ACCEPT, "application/yaml".parse().expect("ascii"));
        headers.append(ACCEPT, "application/json".parse().expect("ascii"));
        assert_eq!(of_request(&headers), vec![Yaml]);
        let binary = http::HeaderValue::from_bytes(b"application/json\xff").expect("obs-text");
        headers.insert(ACCEPT, binary);
        assert_eq!(of_request(&headers), vec![]);
    }

    #[test]
    fn a_content_type_says_what_it_is() {
        let table = [
            ("application/json", Plain(Json)),
            ("application/json; charset=utf-8", Plain(Json)),
            ("Application/JSON", Plain(Json)),
            ("application/vnd.kubernetes.protobuf", Plain(Protobuf)),
            (
                "application/vnd.kubernetes.protobuf;stream=watch",
                Plain(Protobuf),
            ),
            ("application/yaml", Yaml),
            ("application/cbor-seq", Cbor),
            (DISCOVERY, Discovery("v2".to_owned())),
            (
                "text/plain; charset=utf-8",
                Other("text/plain; charset=utf-8".to_owned()),
            ),
            ("", Other(String::new())),
        ];
        for (content_type, expected) in table {
            assert_eq!(of_content_type(content_type), expected, "{content_type}");
        }
    }

    #[test]
    fn a_hostile_header_is_cheap() {
        let many = "a/b;q=0.1,*/*,".repeat(10_000);
        assert_eq!(negotiate(Some(&many)).len(), MAX_CLAUSES);
        let nan = "a/b;q=NaN,".repeat(50);
        assert_eq!(negotiate(Some(&nan)).len(), 50);
        let parameters = format!("application/json{}", ";a=b".repeat(10_000));
        assert_eq!(negotiate(Some(&parameters)), vec![Plain(Json)]);
    }
}
