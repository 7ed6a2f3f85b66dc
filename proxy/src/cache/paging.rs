//! Pages of a list that is told from the cache, with continue tokens that the API server could have made.
//!
//! The API server reads a token that was made here and the other way round (`apiserver:pkg/storage/continue.go`): a client
//! in the middle of a list may meet either.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::key::ObjectId;

const VERSION: &str = "meta.k8s.io/v1";

/// Where a list goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Continue {
    /// The RV of the pages before; `None`: go on with what is newest.
    pub(super) resource_version: Option<u64>,
    /// The next page begins after it, whether it is still there or not.
    pub(super) last: ObjectId,
}

#[derive(Deserialize, Serialize)]
struct Token {
    #[serde(rename = "v")]
    version: String,
    #[serde(rename = "rv")]
    resource_version: i64,
    /// Below the path of the list: `/namespace/name`, or `/name` in a list of one namespace; with a NUL, which makes it the
    /// least key after that.
    start: String,
}

impl Continue {
    /// Of a list in `namespace` (`None`: in all, or of a cluster-scoped resource). `None`: nothing that an API server makes.
    pub(super) fn decode(token: &str, namespace: Option<&str>) -> Option<Self> {
        let json = URL_SAFE_NO_PAD.decode(token).ok()?;
        let token: Token = serde_json::from_slice(&json).ok()?;
        let start = token.start.strip_prefix('/').unwrap_or(&token.start);
        let last = start.strip_suffix('\0')?;
        if token.version != VERSION || token.resource_version == 0 {
            return None;
        }
        Some(Self {
            resource_version: u64::try_from(token.resource_version).ok(),
            last: match namespace {
                Some(namespace) => ObjectId::new(namespace, last),
                None => ObjectId::from_stored(last),
            }?,
        })
    }

    pub(super) fn encode(&self, namespace: Option<&str>) -> String {
        let token = Token {
            version: VERSION.to_owned(),
            resource_version: (self.resource_version)
                .and_then(|version| i64::try_from(version).ok())
                .unwrap_or(-1),
            start: match namespace {
                Some(_) => format!("/{}\0", self.last.name()),
                None => format!("/{}\0", self.last.as_str()),
            },
        };
        // Text and a number: there is nothing in it that JSON could not write.
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(&token).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(id: &str) -> Continue {
        Continue {
            resource_version: Some(219),
            last: ObjectId::from_stored(id).expect("an id"),
        }
    }

    #[test]
    fn a_token_is_that_of_the_api_server() {
        // As kube-apiserver 1.36.3 answered `/api/v1/namespaces?limit=1`.
        let recorded =
            URL_SAFE_NO_PAD.encode(br#"{"v":"meta.k8s.io/v1","rv":219,"start":"/default\u0000"}"#);
        assert_eq!(after("default").encode(None), recorded);
        assert_eq!(Continue::decode(&recorded, None), Some(after("default")));
    }

    #[test]
    fn a_token_of_one_namespace_starts_below_it() {
        let token = after("a/web").encode(Some("a"));
        let json = URL_SAFE_NO_PAD.decode(&token).expect("base64");
        let json = String::from_utf8(json).expect("text");
        assert!(json.contains(r#""start":"/web\u0000""#), "{json}");
        assert_eq!(Continue::decode(&token, Some("a")), Some(after("a/web")));
        assert_eq!(
            Continue::decode(&after("a/web").encode(None), None),
            Some(after("a/web"))
        );
    }

    #[test]
    fn the_token_that_goes_on_at_the_latest_has_no_rv() {
        let token =
            URL_SAFE_NO_PAD.encode(br#"{"v":"meta.k8s.io/v1","rv":-1,"start":"a/x\u0000"}"#);
        let decoded = Continue::decode(&token, None).expect("a token");
        assert_eq!(decoded.resource_version, None);
        assert_eq!(decoded.last.as_str(), "a/x");
    }

    #[test]
    fn what_is_no_token_is_told() {
        for json in [
            &br#"{"v":"meta.k8s.io/v2","rv":1,"start":"a"}"#[..],
            br#"{"v":"meta.k8s.io/v1","rv":0,"start":"a"}"#,
            br#"{"v":"meta.k8s.io/v1","rv":1,"start":""}"#,
            br#"{"v":"meta.k8s.io/v1","rv":1,"start":"a/x"}"#,
            br#"{"v":"meta.k8s.io/v1","rv":1,"start":"../b/c\u0000"}"#,
            b"{}",
            b"",
        ] {
            assert_eq!(Continue::decode(&URL_SAFE_NO_PAD.encode(json), None), None);
        }
        assert_eq!(Continue::decode("abc!", None), None);
    }
}
