//! Content negotiation as the API server does it. Pure.
//!
//! Source of the rule: `apiserver:pkg/endpoints/handlers/negotiation/negotiate.go`.

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
    /// Aggregated discovery (`as=APIGroupDiscoveryList`), with its version.
    Discovery(String),
    Yaml,
    Cbor,
    /// Anything else, lower-cased as written.
    Other(String),
}

/// The representations of an `Accept` header (several header lines joined by `,`), best first: by q, then as written, `*/*` and no header meaning JSON.
pub fn negotiate(accept: Option<&str>) -> Vec<Representation> {
    parse(accept)
}

/// The representation that a `Content-Type` (of a response) says it is; the watch parameter `stream=watch` does not matter.
pub fn of_content_type(content_type: &str) -> Representation {
    let _ = content_type;
    Representation::Other(String::new())
}

fn parse(_accept: Option<&str>) -> Vec<Representation> {
    Vec::new()
}
