//! Any refusal -> a Kubernetes Status. The only place that knows HTTP codes of Holdfast's own answers.

use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use prost::Message;
use serde::Serialize;

use crate::body::{self, Body};
use crate::cache::wire;
use crate::policy::Reason;
use crate::request_info::RequestInfo;
use crate::request_info::accept::{self, Encoding, Representation};

/// The Status of a refusal, in the encoding the client accepts (JSON unless it asks for protobuf first), without `Retry-After`:
/// client-go would sleep and try again ten times inside the one call.
/// `details.causes[0].reason` is the variant; the code is 503, but 504 for `WriteUnanswered` and `ResourceVersionTooLarge`, 404 for `NotFound`, 410 for `Expired`, 401 for `ClientCertificate`.
pub fn refuse(reason: Reason, info: Option<&RequestInfo>, request: &HeaderMap) -> Response<Body> {
    let status = Status::of(reason, info);
    let (content_type, bytes) = if prefers_protobuf(request) {
        ("application/vnd.kubernetes.protobuf", status.protobuf())
    } else {
        ("application/json", status.json())
    };
    let mut response = Response::new(body::full(bytes));
    *response.status_mut() = code(reason).0;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// A watch that is accepted and at once told what is wrong, as the API server does it: 200, one ERROR event, the end.
/// Source of the rule: `apiserver:pkg/endpoints/handlers/watch.go`.
pub fn refuse_watch(
    reason: Reason,
    info: Option<&RequestInfo>,
    request: &HeaderMap,
) -> Response<Body> {
    let status = Status::of(reason, info);
    let (encoding, content_type) = if prefers_protobuf(request) {
        (
            Encoding::Protobuf,
            "application/vnd.kubernetes.protobuf;stream=watch",
        )
    } else {
        (Encoding::Json, "application/json")
    };
    let (code, word) = code(reason);
    let frame = wire::error_event(encoding, code.as_u16(), word, &status.message);
    let mut response = Response::new(body::full(frame));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// The code, and the word Kubernetes has for it.
fn code(reason: Reason) -> (StatusCode, &'static str) {
    match reason {
        Reason::WriteUnanswered | Reason::ResourceVersionTooLarge => {
            (StatusCode::GATEWAY_TIMEOUT, "Timeout")
        }
        Reason::NotFound => (StatusCode::NOT_FOUND, "NotFound"),
        Reason::Expired => (StatusCode::GONE, "Expired"),
        Reason::ClientCertificate => (StatusCode::UNAUTHORIZED, "Unauthorized"),
        _ => (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable"),
    }
}

/// What happened, and what to do.
fn explain(reason: Reason) -> &'static str {
    match reason {
        Reason::UnknownCaller(_) => {
            "the API server cannot be reached, and this caller proved no identity that answers were kept for: use the service account token that was mounted into this pod"
        }
        Reason::NoGrant => {
            "the API server cannot be reached, and it never let this caller read this: read it once while the API server is there"
        }
        Reason::Incomplete => {
            "the API server cannot be reached, and this list was never seen whole, or made room for others: list it once while the API server is there"
        }
        Reason::NeverSeen => {
            "the API server cannot be reached, and nothing is known of this (any more): that says neither that it exists nor that it does not"
        }
        Reason::TooOld => {
            "the API server cannot be reached, and it confirmed what was kept of this longer ago than cache.maxAge of this node allows"
        }
        Reason::WrittenSince => {
            "the API server cannot be reached, and what was kept of this is older than what this caller wrote since: read it once while the API server is there"
        }
        Reason::ShownSince => {
            "the API server cannot be reached, and what was kept of this is older than what this caller has been shown since: list it once while the API server is there"
        }
        Reason::NotAcceptable => {
            "the API server cannot be reached, and what was kept is in none of the accepted representations: accept application/json too"
        }
        Reason::UnmodelledQuery => {
            "the API server cannot be reached, and no kept answer fits these query parameters: ask without them"
        }
        Reason::NotCacheable => {
            "the API server cannot be reached, and only it can answer this: try again once it is back"
        }
        Reason::WriteNotSent => {
            "the API server cannot be reached; nothing was sent and nothing was changed: try again once it is back"
        }
        Reason::WriteUnanswered => {
            "the request was sent, and the API server was lost before it answered; it may or may not have happened: read before trying again"
        }
        Reason::UpgradeNotSent => {
            "the API server cannot be reached, and only it can open this stream: try again once it is back"
        }
        Reason::ResourceVersionTooLarge => {
            "Too large resource version: the API server cannot be reached, and it had not said this one when it was last heard"
        }
        Reason::Expired => {
            "The provided resource version is too old: the events after it were not kept; list again"
        }
        Reason::NotFound => "not found",
        Reason::ClientCertificate => {
            "client certificates are not supported by this proxy yet: use a bearer token"
        }
        Reason::Store => {
            "the API server cannot be reached, and the store of kept answers failed: see the log of holdfast on this node"
        }
        Reason::Overloaded => {
            "a limit of this node's proxy was reached: try again with fewer requests at once"
        }
        Reason::BadRequest => {
            "the API server cannot be reached, and this request is not one it would understand"
        }
    }
}

fn message(reason: Reason, info: Option<&RequestInfo>) -> String {
    match info {
        // Word for word what the API server says.
        Some(info) if reason == Reason::NotFound => {
            let dot = if info.api_group.is_empty() { "" } else { "." };
            format!(
                "{}{dot}{} \"{}\" not found",
                info.resource, info.api_group, info.name
            )
        }
        _ => explain(reason).to_owned(),
    }
}

/// By the first representation that a Status can be written in.
fn prefers_protobuf(request: &HeaderMap) -> bool {
    let first = accept::of_request(request)
        .into_iter()
        .find_map(|representation| match representation {
            Representation::Plain(encoding) | Representation::PartialObjectMetadata(encoding) => {
                Some(encoding)
            }
            Representation::Table | Representation::Discovery(_) => Some(Encoding::Json),
            Representation::Yaml | Representation::Cbor | Representation::Other(_) => None,
        });
    first == Some(Encoding::Protobuf)
}

/// `meta/v1 Status`: the same fields as JSON and as protobuf.
#[derive(Clone, PartialEq, Message, Serialize)]
struct Status {
    #[prost(message, required, tag = "1")]
    metadata: ListMeta,
    #[prost(string, tag = "2")]
    status: String,
    #[prost(string, tag = "3")]
    message: String,
    #[prost(string, tag = "4")]
    reason: String,
    #[prost(message, required, tag = "5")]
    details: Details,
    #[prost(int32, tag = "6")]
    code: i32,
}

/// Empty in a Status of an error.
#[derive(Clone, Copy, PartialEq, Eq, Message, Serialize)]
struct ListMeta {}

#[derive(Clone, PartialEq, Eq, Message, Serialize)]
struct Details {
    #[prost(string, tag = "1")]
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[prost(string, tag = "2")]
    #[serde(skip_serializing_if = "String::is_empty")]
    group: String,
    /// The resource, as the API server has it here.
    #[prost(string, tag = "3")]
    #[serde(skip_serializing_if = "String::is_empty")]
    kind: String,
    #[prost(message, repeated, tag = "4")]
    causes: Vec<Cause>,
}

#[derive(Clone, PartialEq, Eq, Message, Serialize)]
struct Cause {
    #[prost(string, tag = "1")]
    reason: String,
    #[prost(string, tag = "2")]
    message: String,
}

/// `runtime.Unknown`, the envelope of every protobuf object, behind the magic.
#[derive(Clone, PartialEq, Eq, Message)]
struct Envelope {
    #[prost(message, required, tag = "1")]
    type_meta: TypeMeta,
    #[prost(bytes = "vec", tag = "2")]
    raw: Vec<u8>,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct TypeMeta {
    #[prost(string, tag = "1")]
    api_version: String,
    #[prost(string, tag = "2")]
    kind: String,
}

const MAGIC: &[u8] = b"k8s\0";

#[derive(Serialize)]
struct JsonObject<'s> {
    kind: &'static str,
    #[serde(rename = "apiVersion")]
    api_version: &'static str,
    #[serde(flatten)]
    status: &'s Status,
}

impl Status {
    fn of(reason: Reason, info: Option<&RequestInfo>) -> Self {
        let (code, word) = code(reason);
        let resource = info.filter(|info| info.is_resource_request);
        let message = message(reason, resource);
        let cause = Cause {
            reason: reason.as_str().to_owned(),
            message: message.clone(),
        };
        let field = |of: fn(&RequestInfo) -> &String| resource.map(of).cloned().unwrap_or_default();
        Self {
            metadata: ListMeta {},
            status: "Failure".to_owned(),
            message,
            reason: word.to_owned(),
            details: Details {
                name: field(|info| &info.name),
                group: field(|info| &info.api_group),
                kind: field(|info| &info.resource),
                causes: vec![cause],
            },
            code: i32::from(code.as_u16()),
        }
    }

    fn json(&self) -> Vec<u8> {
        let object = JsonObject {
            kind: "Status",
            api_version: "v1",
            status: self,
        };
        // Strings and numbers alone cannot fail to be JSON.
        let mut bytes = serde_json::to_vec(&object).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    fn protobuf(&self) -> Vec<u8> {
        let envelope = Envelope {
            type_meta: TypeMeta {
                api_version: "v1".to_owned(),
                kind: "Status".to_owned(),
            },
            raw: self.encode_to_vec(),
        };
        let mut bytes = MAGIC.to_vec();
        bytes.extend(envelope.encode_to_vec());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use http::Method;
    use http::header::ACCEPT;
    use http_body_util::BodyExt;

    use super::*;
    use crate::identity::UnknownReason;

    fn info(target: &str) -> RequestInfo {
        let uri = target.parse().expect("a URI");
        RequestInfo::parse(&Method::GET, &uri).expect("a request line")
    }

    fn accepting(accept: Option<&'static str>) -> HeaderMap {
        accept
            .map(|accept| (ACCEPT, HeaderValue::from_static(accept)))
            .into_iter()
            .collect()
    }

    async fn read(response: Response<Body>) -> (u16, HeaderMap, Vec<u8>) {
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.expect("whole").to_bytes().to_vec();
        (parts.status.as_u16(), parts.headers, bytes)
    }

    #[tokio::test]
    async fn each_reason_has_its_code_and_its_word_and_no_retry_after() {
        let pods = info("/api/v1/namespaces/a/pods/x");
        for (reason, code, word) in [
            (Reason::NoGrant, 503, "ServiceUnavailable"),
            (Reason::Incomplete, 503, "ServiceUnavailable"),
            (Reason::NeverSeen, 503, "ServiceUnavailable"),
            (
                Reason::UnknownCaller(UnknownReason::Expired),
                503,
                "ServiceUnavailable",
            ),
            (Reason::TooOld, 503, "ServiceUnavailable"),
            (Reason::WrittenSince, 503, "ServiceUnavailable"),
            (Reason::ShownSince, 503, "ServiceUnavailable"),
            (Reason::NotAcceptable, 503, "ServiceUnavailable"),
            (Reason::UnmodelledQuery, 503, "ServiceUnavailable"),
            (Reason::NotCacheable, 503, "ServiceUnavailable"),
            (Reason::WriteNotSent, 503, "ServiceUnavailable"),
            (Reason::UpgradeNotSent, 503, "ServiceUnavailable"),
            (Reason::Store, 503, "ServiceUnavailable"),
            (Reason::Overloaded, 503, "ServiceUnavailable"),
            (Reason::BadRequest, 503, "ServiceUnavailable"),
            (Reason::WriteUnanswered, 504, "Timeout"),
            (Reason::ResourceVersionTooLarge, 504, "Timeout"),
            (Reason::NotFound, 404, "NotFound"),
            (Reason::Expired, 410, "Expired"),
            (Reason::ClientCertificate, 401, "Unauthorized"),
        ] {
            let response = refuse(reason, Some(&pods), &accepting(None));
            let (status, headers, bytes) = read(response).await;
            assert_eq!(status, code, "{reason:?}");
            assert!(!headers.contains_key("retry-after"), "{reason:?}");
            assert!(!headers.contains_key("holdfast-origin"), "{reason:?}");
            let json: serde_json::Value = serde_json::from_slice(&bytes).expect("JSON");
            assert_eq!(json["kind"], "Status");
            assert_eq!(json["apiVersion"], "v1");
            assert_eq!(json["metadata"], serde_json::json!({}));
            assert_eq!(json["status"], "Failure");
            assert_eq!(json["reason"], word, "{reason:?}");
            assert_eq!(json["code"], code);
            assert_eq!(json["details"]["causes"][0]["reason"], reason.as_str());
            assert_eq!(json["details"]["kind"], "pods");
            assert_eq!(json["details"]["name"], "x");
        }
    }

    #[test]
    fn not_found_is_said_in_the_api_servers_words() {
        for (target, message) in [
            ("/api/v1/namespaces/a/pods/x", "pods \"x\" not found"),
            (
                "/apis/apps/v1/namespaces/a/deployments/y",
                "deployments.apps \"y\" not found",
            ),
        ] {
            let status = Status::of(Reason::NotFound, Some(&info(target)));
            assert_eq!(status.message, message);
        }
    }

    #[tokio::test]
    async fn the_encoding_is_the_one_the_client_prefers() {
        for (accept, protobuf) in [
            (None, false),
            (Some("*/*"), false),
            (Some("application/json"), false),
            (
                Some("application/vnd.kubernetes.protobuf,application/json"),
                true,
            ),
            (Some("application/vnd.kubernetes.protobuf, */*"), true),
            (
                Some("application/json;as=Table;v=v1;g=meta.k8s.io,application/json"),
                false,
            ),
            (
                Some(
                    "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json",
                ),
                true,
            ),
            (Some("application/yaml"), false),
            (Some("text/html"), false),
        ] {
            let response = refuse(Reason::NoGrant, None, &accepting(accept));
            let (_, headers, bytes) = read(response).await;
            let expected = if protobuf {
                "application/vnd.kubernetes.protobuf"
            } else {
                "application/json"
            };
            assert_eq!(headers[CONTENT_TYPE], expected, "{accept:?}");
            assert_eq!(bytes.starts_with(MAGIC), protobuf, "{accept:?}");
        }
    }

    #[test]
    fn protobuf_holds_the_same_status_in_the_envelope() {
        let status = Status::of(Reason::WriteUnanswered, None);
        let bytes = status.protobuf();
        let envelope = Envelope::decode(&bytes[MAGIC.len()..]).expect("an envelope");
        assert_eq!(envelope.type_meta.kind, "Status");
        let decoded = Status::decode(envelope.raw.as_slice()).expect("a status");
        assert_eq!(decoded, status);
        assert_eq!(decoded.code, 504);
    }
}
