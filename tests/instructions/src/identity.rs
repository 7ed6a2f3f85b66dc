//! Who is asking: a token that was seen before. No signature is verified then; a digest is.

use std::hint::black_box;
use std::time::{Duration, SystemTime};

use holdfast::config;
use holdfast::identity::{Caller, Client, ConnectionId, Identity, IssuerKeys, Place};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};

const ISSUER: &str = "https://kubernetes.default.svc";
/// The keys of the fuzz seeds, and the token that one of them signed.
const JWKS: &str = include_str!("../../fuzz/src/jwks.json");
const TOKEN: &str = include_str!("../../fuzz/corpus/jwt/valid");
/// Seconds since 1970 at which it was valid.
const NOW: u64 = 1_795_236_400;

pub(crate) fn token() -> Box<dyn FnMut()> {
    let identity = Identity::new(&config::Tokens {
        issuer: ISSUER.to_owned(),
        audiences: Vec::new(),
        expired_grace: Duration::ZERO,
    });
    let keys = IssuerKeys {
        issuer: ISSUER.to_owned(),
        jwks: JWKS.to_owned(),
    };
    identity.set_keys(keys).expect("a good key set");
    let bearer = HeaderValue::from_str(&format!("Bearer {TOKEN}")).expect("a header");
    let headers = HeaderMap::from_iter([(AUTHORIZATION, bearer)]);
    let client = Client {
        connection: ConnectionId(1),
        place: Place::Explicit,
        pod: None,
        peer: ([127, 0, 0, 1], 1).into(),
        certificate: false,
    };
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW);
    let caller = identity.caller(&client, &headers, now);
    assert!(matches!(caller, Caller::ServiceAccount(_)), "{caller:?}");
    Box::new(move || {
        black_box(identity.prove(&client, black_box(&headers), now));
    })
}
