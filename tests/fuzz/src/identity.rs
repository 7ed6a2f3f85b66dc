//! Tokens and the keys they are verified by.

use std::time::{Duration, SystemTime};

use holdfast::config;
use holdfast::identity::{Caller, Client, ConnectionId, Identity, IssuerKeys, Place};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};

const ISSUER: &str = "https://kubernetes.default.svc";
/// The private half signed `corpus/jwt/valid` for the service account `reader`, and is gone.
const JWKS: &str = include_str!("jwks.json");
/// Seconds since 1970 at which `corpus/jwt/valid` was valid.
const NOW: u64 = 1_795_236_400;

/// A bearer token. Only the seed has a signature that verifies, so nobody else may come out.
pub fn jwt(data: &[u8]) {
    if let Some(account) = service_account_of(data) {
        assert_eq!(account, "a/reader");
    }
}

/// Whom a token proves to be, as `namespace/name`.
pub fn service_account_of(token: &[u8]) -> Option<String> {
    match caller_of(token) {
        Caller::ServiceAccount(account) => Some(format!("{}/{}", account.namespace, account.name)),
        Caller::Unknown(_) => None,
    }
}

/// A key set as the issuer serves it.
pub fn jwks(data: &[u8]) {
    let discovery = format!(r#"{{"issuer":"{ISSUER}"}}"#);
    let Ok(keys) = IssuerKeys::from_documents(discovery.as_bytes(), data) else {
        return;
    };
    let taken = identity().set_keys(keys);
    assert!(taken.is_ok(), "what was kept can be used");
}

fn caller_of(token: &[u8]) -> Caller {
    let identity = identity();
    let keys = IssuerKeys {
        issuer: ISSUER.to_owned(),
        jwks: JWKS.to_owned(),
    };
    identity.set_keys(keys).expect("a good key set");
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_bytes(&[b"Bearer ", token].concat()) {
        headers.insert(AUTHORIZATION, value);
    }
    let client = Client {
        connection: ConnectionId(1),
        place: Place::Explicit,
        pod: None,
        peer: ([127, 0, 0, 1], 1).into(),
        certificate: false,
    };
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW);
    identity.caller(&client, &headers, now)
}

fn identity() -> Identity {
    Identity::new(&config::Tokens {
        issuer: ISSUER.to_owned(),
        audiences: Vec::new(),
        expired_grace: Duration::ZERO,
    })
}
