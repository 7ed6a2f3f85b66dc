//! Callers, by tokens really signed. Times are seconds after the issue of a token that lives for an hour.

use std::sync::LazyLock;
use std::time::{Duration, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING,
    ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair as _,
    RSA_PKCS1_SHA256,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderMap;
use serde_json::{Value, json};

use super::*;

const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
const ISSUED_AT: u64 = 1_780_000_000;
const LIFETIME: u64 = 3600;
const GRACE: u64 = 86_400;
const POD: &str = "0b7e5b3c-51f5-4b9e-8f6b-6c2d4b1f0a11";

enum Signer {
    Rsa(rsa::KeyPair),
    Ecdsa(EcdsaKeyPair),
}

/// Every signer's key is in the issuer's set, under its algorithm as `kid`.
struct Issuer {
    signers: Vec<(&'static str, Signer)>,
}

static ISSUER_KEYS: LazyLock<Issuer> = LazyLock::new(Issuer::new);

impl Issuer {
    fn new() -> Self {
        let ecdsa = |algorithm: &'static EcdsaSigningAlgorithm| {
            Signer::Ecdsa(EcdsaKeyPair::generate(algorithm).expect("a key pair"))
        };
        let rsa = rsa::KeyPair::generate(rsa::KeySize::Rsa2048).expect("a key pair");
        let signers = vec![
            ("RS256", Signer::Rsa(rsa)),
            ("ES256", ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING)),
            ("ES384", ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING)),
            ("ES512", ecdsa(&ECDSA_P521_SHA512_FIXED_SIGNING)),
        ];
        Self { signers }
    }

    fn keys(&self) -> IssuerKeys {
        let keys: Vec<Value> = self.signers.iter().map(jwk).collect();
        IssuerKeys {
            issuer: ISSUER.to_owned(),
            jwks: json!({ "keys": keys }).to_string(),
        }
    }

    fn sign(&self, kid: &str, header: &Value, claims: &Value) -> String {
        let message = format!(
            "{}.{}",
            encode(header.to_string()),
            encode(claims.to_string())
        );
        let (_, signer) = self
            .signers
            .iter()
            .find(|(name, _)| *name == kid)
            .expect("a known kid");
        let signature = match signer {
            Signer::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(
                    &RSA_PKCS1_SHA256,
                    &SystemRandom::new(),
                    message.as_bytes(),
                    &mut signature,
                )
                .expect("a signature");
                signature
            }
            Signer::Ecdsa(key) => {
                let signature = key.sign(&SystemRandom::new(), message.as_bytes());
                signature.expect("a signature").as_ref().to_vec()
            }
        };
        format!("{message}.{}", encode(signature))
    }
}

fn jwk((kid, signer): &(&'static str, Signer)) -> Value {
    match signer {
        Signer::Rsa(key) => {
            let (n, e) = rsa_components(key.public_key().as_ref());
            json!({"use": "sig", "kty": "RSA", "kid": kid, "alg": kid, "n": encode(n), "e": encode(e)})
        }
        Signer::Ecdsa(key) => {
            let point = &key.public_key().as_ref()[1..];
            let (x, y) = point.split_at(point.len() / 2);
            let curve = match *kid {
                "ES256" => "P-256",
                "ES384" => "P-384",
                _ => "P-521",
            };
            json!({"use": "sig", "kty": "EC", "kid": kid, "alg": kid, "crv": curve, "x": encode(x), "y": encode(y)})
        }
    }
}

/// n and e of a DER `RSAPublicKey` of 2048 bits: two headers of 4 bytes, 257 bytes of n, a header of 2, 3 bytes of e.
fn rsa_components(der: &[u8]) -> (&[u8], &[u8]) {
    (&der[8..8 + 257], &der[8 + 257 + 2..])
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The claims of a pod's default token, as a 1.36 API server writes them.
fn claims() -> Value {
    json!({
        "aud": [ISSUER],
        "exp": ISSUED_AT + LIFETIME,
        "iat": ISSUED_AT,
        "iss": ISSUER,
        "jti": "d5c2f1a2-0c1f-4d46-9d25-0b7f4f1a8a01",
        "kubernetes.io": {
            "namespace": "shop",
            "node": {"name": "n1", "uid": "77aa"},
            "pod": {"name": "till-0", "uid": POD},
            "serviceaccount": {"name": "till", "uid": "5a5a"},
            "warnafter": ISSUED_AT + 3607,
        },
        "nbf": ISSUED_AT,
        "sub": "system:serviceaccount:shop:till",
    })
}

fn with(path: &str, value: Value) -> Value {
    let mut claims = claims();
    *claims.pointer_mut(path).expect("a claim") = value;
    claims
}

fn without(object: &str, name: &str) -> Value {
    let mut claims = claims();
    let object = claims.pointer_mut(object).and_then(Value::as_object_mut);
    object.expect("an object").remove(name).expect("a claim");
    claims
}

fn token(claims: &Value) -> String {
    signed("ES256", claims)
}

fn signed(algorithm: &str, claims: &Value) -> String {
    let header = json!({"alg": algorithm, "kid": algorithm});
    ISSUER_KEYS.sign(algorithm, &header, claims)
}

fn account() -> Caller {
    Caller::ServiceAccount(ServiceAccount {
        namespace: "shop".to_owned(),
        name: "till".to_owned(),
        uid: "5a5a".to_owned(),
    })
}

fn config() -> config::Tokens {
    config::Tokens {
        issuer: String::new(),
        audiences: Vec::new(),
        expired_grace: Duration::from_secs(GRACE),
    }
}

fn identity() -> Identity {
    let identity = Identity::new(&config());
    identity.set_keys(ISSUER_KEYS.keys()).expect("usable keys");
    identity
}

fn client(place: Place, pod: Option<&str>) -> Client {
    Client {
        connection: ConnectionId(1),
        place,
        pod: pod.map(|uid| PodUid(uid.to_owned())),
        peer: ([127, 0, 0, 1], 40_000).into(),
        certificate: false,
    }
}

fn in_pod() -> Client {
    client(Place::Pod(PodUid(POD.to_owned())), None)
}

fn bearer(token: &str) -> HeaderMap {
    headers(&[("authorization", &format!("Bearer {token}"))])
}

fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(*name, value.parse().expect("a header value"));
    }
    headers
}

fn at(seconds: i64) -> SystemTime {
    let issued = UNIX_EPOCH + Duration::from_secs(ISSUED_AT);
    let distance = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 {
        issued - distance
    } else {
        issued + distance
    }
}

/// Who a request from the token's own pod, one minute after its issue, is from.
fn caller_of(token: &str) -> Caller {
    identity().caller(&in_pod(), &bearer(token), at(60))
}

fn unknown(reason: UnknownReason) -> Caller {
    Caller::Unknown(reason)
}

#[test]
fn a_token_of_each_algorithm_is_its_service_account() {
    for algorithm in ["RS256", "ES256", "ES384", "ES512"] {
        let token = signed(algorithm, &claims());
        assert_eq!(caller_of(&token), account(), "{algorithm}");
    }
}

#[test]
fn a_token_counts_from_its_pod_only() {
    let own = Some(POD);
    let mismatch = || unknown(UnknownReason::PodMismatch);
    let table = [
        (Place::Pod(PodUid(POD.to_owned())), None, account()),
        (Place::Pod(PodUid("other".to_owned())), None, mismatch()),
        (Place::Pod(PodUid("other".to_owned())), own, mismatch()),
        (Place::Host, own, account()),
        (Place::Host, Some("other"), mismatch()),
        (Place::Host, None, mismatch()),
        (Place::Explicit, own, account()),
        (Place::Explicit, None, mismatch()),
    ];
    let identity = identity();
    let bound = bearer(&token(&claims()));
    let free = bearer(&token(&without("/kubernetes.io", "pod")));
    for (place, pod, expected) in table {
        let client = client(place, pod);
        assert_eq!(
            identity.caller(&client, &bound, at(60)),
            expected,
            "{client:?}"
        );
        assert_eq!(
            identity.caller(&client, &free, at(60)),
            account(),
            "{client:?}"
        );
    }
}

#[test]
fn a_token_counts_from_its_issue_until_the_grace_is_over() {
    let (identity, headers) = (identity(), bearer(&token(&claims())));
    let end = (LIFETIME + GRACE) as i64;
    let table = [
        (-61, unknown(UnknownReason::NotYetValid)),
        (-60, account()),
        (0, account()),
        (LIFETIME as i64 + 61, account()),
        (end + 60, account()),
        (end + 61, unknown(UnknownReason::Expired)),
        // A remembered signature makes nothing valid again, and forgets nothing either.
        (0, account()),
        (-(ISSUED_AT as i64) - 5, unknown(UnknownReason::NotYetValid)),
    ];
    for (seconds, expected) in table {
        let caller = identity.caller(&in_pod(), &headers, at(seconds));
        assert_eq!(caller, expected, "{seconds} s after the issue");
    }
}

#[test]
fn without_a_grace_only_the_leeway_is_left() {
    let tokens = config::Tokens {
        expired_grace: Duration::ZERO,
        ..config()
    };
    let identity = Identity::new(&tokens);
    identity.set_keys(ISSUER_KEYS.keys()).expect("usable keys");
    let headers = bearer(&token(&claims()));
    let at_end = |after: i64| identity.caller(&in_pod(), &headers, at(LIFETIME as i64 + after));
    assert_eq!(at_end(60), account());
    assert_eq!(at_end(61), unknown(UnknownReason::Expired));
}

#[test]
fn a_claim_that_does_not_fit_makes_the_caller_unknown() {
    let table = [
        (
            with("/iss", json!("https://elsewhere")),
            UnknownReason::WrongIssuer,
        ),
        (with("/aud", json!(["vault"])), UnknownReason::WrongAudience),
        (with("/aud", json!([])), UnknownReason::WrongAudience),
        (without("", "aud"), UnknownReason::WrongAudience),
        (
            without("", "kubernetes.io"),
            UnknownReason::NotAServiceAccount,
        ),
        (without("", "exp"), UnknownReason::NotAServiceAccount),
        (
            with("/sub", json!("system:serviceaccount:shop:boss")),
            UnknownReason::NotAServiceAccount,
        ),
        (
            with("/sub", json!("system:admin")),
            UnknownReason::NotAServiceAccount,
        ),
        (
            with("/kubernetes.io/serviceaccount/uid", json!("")),
            UnknownReason::NotAServiceAccount,
        ),
        (
            with("/kubernetes.io/pod/uid", json!("")),
            UnknownReason::PodMismatch,
        ),
        (
            with("/kubernetes.io/pod", json!({})),
            UnknownReason::BadSignature,
        ),
        (
            with("/kubernetes.io", json!("shop")),
            UnknownReason::BadSignature,
        ),
        (with("/exp", json!("soon")), UnknownReason::BadSignature),
        (json!([]), UnknownReason::BadSignature),
    ];
    for (claims, reason) in table {
        assert_eq!(caller_of(&token(&claims)), unknown(reason), "{claims}");
    }
    assert_eq!(caller_of(&token(&with("/aud", json!(ISSUER)))), account());
    let several = with("/aud", json!(["vault", ISSUER]));
    assert_eq!(caller_of(&token(&several)), account());
    assert_eq!(
        caller_of(&token(&with("/exp", json!(ISSUED_AT as f64 + 0.5)))),
        account()
    );
}

#[test]
fn the_configured_issuer_and_audiences_come_before_the_discovered_ones() {
    let tokens = config::Tokens {
        issuer: "https://configured".to_owned(),
        audiences: vec!["a".to_owned(), "b".to_owned()],
        ..config()
    };
    let identity = Identity::new(&tokens);
    identity.set_keys(ISSUER_KEYS.keys()).expect("usable keys");
    let caller = |iss: &str, aud: &str| {
        let mut claims = with("/iss", json!(iss));
        claims["aud"] = json!([aud]);
        identity.caller(&in_pod(), &bearer(&token(&claims)), at(60))
    };
    assert_eq!(caller("https://configured", "b"), account());
    assert_eq!(caller(ISSUER, "b"), unknown(UnknownReason::WrongIssuer));
    let wrong = unknown(UnknownReason::WrongAudience);
    assert_eq!(caller("https://configured", "https://configured"), wrong);
}

#[test]
fn only_one_bearer_token_proves_anything() {
    let good = format!("Bearer {}", token(&claims()));
    let lower = good.replace("Bearer", "bearer");
    let websocket = "base64url.bearer.authorization.k8s.io.YQ";
    let second = format!("v5.channel.k8s.io, {websocket}");
    let table = [
        (vec![("authorization", good.as_str())], account()),
        (vec![("authorization", lower.as_str())], account()),
        (vec![], unknown(UnknownReason::Anonymous)),
        (
            vec![
                ("authorization", good.as_str()),
                ("authorization", "Basic YQ=="),
            ],
            unknown(UnknownReason::OpaqueToken),
        ),
        (
            vec![("authorization", "Basic YQ==")],
            unknown(UnknownReason::OpaqueToken),
        ),
        (
            vec![("authorization", "Bearer")],
            unknown(UnknownReason::OpaqueToken),
        ),
        (
            vec![("authorization", "Bearer abcdef.0123456789abcdef")],
            unknown(UnknownReason::OpaqueToken),
        ),
        (
            vec![
                ("authorization", good.as_str()),
                ("impersonate-user", "boss"),
            ],
            unknown(UnknownReason::Impersonation),
        ),
        (
            vec![
                ("authorization", good.as_str()),
                ("impersonate-extra-scopes", "x"),
            ],
            unknown(UnknownReason::Impersonation),
        ),
        (
            vec![("sec-websocket-protocol", websocket)],
            unknown(UnknownReason::WebSocketProtocolToken),
        ),
        (
            vec![
                ("authorization", good.as_str()),
                ("sec-websocket-protocol", second.as_str()),
            ],
            unknown(UnknownReason::WebSocketProtocolToken),
        ),
        (
            vec![
                ("authorization", good.as_str()),
                ("sec-websocket-protocol", "v5.channel.k8s.io"),
            ],
            account(),
        ),
        (
            vec![("user-agent", "kubelet/v1.36.3"), ("x-remote-user", "boss")],
            unknown(UnknownReason::Anonymous),
        ),
    ];
    let identity = identity();
    for (lines, expected) in table {
        let caller = identity.caller(&in_pod(), &headers(&lines), at(60));
        assert_eq!(caller, expected, "{lines:?}");
    }
}

#[test]
fn a_token_never_chooses_how_it_is_verified() {
    let issuer = &*ISSUER_KEYS;
    let claims = claims();
    let bad = unknown(UnknownReason::BadSignature);
    for (why, header) in [
        (
            "another key's algorithm",
            json!({"alg": "ES384", "kid": "ES256"}),
        ),
        ("none", json!({"alg": "none", "kid": "ES256"})),
        ("no kid", json!({"alg": "ES256"})),
        (
            "an unknown kid",
            json!({"alg": "ES256", "kid": "../../etc/passwd"}),
        ),
        (
            "its own key",
            json!({"alg": "ES256", "kid": "mine", "jwk": jwk(&issuer.signers[1])}),
        ),
        (
            "an extension that must be understood",
            json!({"alg": "ES256", "kid": "ES256", "crit": ["b64"], "b64": false}),
        ),
    ] {
        let token = issuer.sign("ES256", &header, &claims);
        assert_eq!(caller_of(&token), bad, "{why}");
    }
    for algorithm in ["none", "HS256", "RS512", "PS256"] {
        let header = json!({"alg": algorithm, "kid": "RS256"});
        assert_eq!(
            caller_of(&issuer.sign("RS256", &header, &claims)),
            bad,
            "{algorithm}"
        );
    }
    assert_eq!(
        caller_of(&symmetric(&claims)),
        bad,
        "HS256 with the public key as secret"
    );
}

/// What a verifier that trusts `alg` would take: an HMAC by the public key of the issuer.
fn symmetric(claims: &Value) -> String {
    let Some((_, Signer::Rsa(key))) = ISSUER_KEYS.signers.first() else {
        panic!("the first signer is RSA");
    };
    let secret = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, key.public_key().as_ref());
    let header = json!({"alg": "HS256", "kid": "RS256"});
    let message = format!(
        "{}.{}",
        encode(header.to_string()),
        encode(claims.to_string())
    );
    let tag = aws_lc_rs::hmac::sign(&secret, message.as_bytes());
    format!("{message}.{}", encode(tag))
}

#[test]
fn a_token_changed_in_any_byte_is_not_its_caller() {
    let token = signed("ES256", &claims());
    let identity = identity();
    for index in 0..token.len() {
        let mut bytes = token.clone().into_bytes();
        bytes[index] = if bytes[index] == b'A' { b'Z' } else { b'A' };
        let changed = String::from_utf8(bytes).expect("ASCII");
        let caller = identity.caller(&in_pod(), &bearer(&changed), at(60));
        assert!(matches!(caller, Caller::Unknown(_)), "byte {index}");
    }
}

#[test]
fn garbage_is_an_opaque_token_or_a_bad_signature() {
    let huge = format!("e30.{}.e30", "a".repeat(proof::MAX_TOKEN_BYTES));
    let deep = encode("[".repeat(10_000));
    let deep = format!("{deep}.{deep}.e30");
    for garbage in [
        "",
        ".",
        "..",
        "a.b",
        "a.b.c.d",
        "a..c",
        "e30.e30.e30",
        "a b.c.d",
        "e30=.e30.e30",
        "\u{20ac}.a.b",
        &huge,
        &deep,
    ] {
        let line = format!("Bearer {garbage}");
        let mut headers = HeaderMap::new();
        let value = http::HeaderValue::from_bytes(line.as_bytes()).expect("a header value");
        headers.insert("authorization", value);
        let caller = identity().caller(&in_pod(), &headers, at(60));
        let Caller::Unknown(UnknownReason::OpaqueToken | UnknownReason::BadSignature) = caller
        else {
            panic!("{garbage:.60} is {caller:?}");
        };
    }
}

#[test]
fn without_keys_nobody_is_known() {
    let identity = Identity::new(&config());
    let caller = identity.caller(&in_pod(), &bearer(&token(&claims())), at(60));
    assert_eq!(caller, unknown(UnknownReason::NoKeys));
}

#[test]
fn a_token_within_the_grace_is_known_but_not_current() {
    let headers = bearer(&token(&claims()));
    let proof = |seconds: i64| identity().prove(&in_pod(), &headers, at(seconds));
    assert!(proof(60).current);
    let late = proof(LIFETIME as i64 + 120);
    assert_eq!(late.caller, account());
    assert!(!late.current, "the upstream would say 401");
}

#[test]
fn a_token_of_an_unknown_key_is_noticed_once() {
    let identity = identity();
    identity.caller(&in_pod(), &bearer(&token(&claims())), at(60));
    assert!(!identity.take_unknown_key(), "its key is known");
    let header = json!({"alg": "ES256", "kid": "another"});
    let other = ISSUER_KEYS.sign("ES256", &header, &claims());
    identity.caller(&in_pod(), &bearer(&other), at(60));
    assert!(identity.take_unknown_key());
    assert!(!identity.take_unknown_key());
}

#[test]
fn a_new_key_set_forgets_what_the_old_one_verified() {
    let identity = identity();
    let headers = bearer(&token(&claims()));
    let caller = || identity.caller(&in_pod(), &headers, at(60));
    assert_eq!(caller(), account());
    let before = identity.keyring.load_full();
    identity
        .set_keys(ISSUER_KEYS.keys())
        .expect("the same keys");
    let after = identity.keyring.load_full();
    let same = before
        .zip(after)
        .is_some_and(|(before, after)| Arc::ptr_eq(&before, &after));
    assert!(same, "the same set again changes nothing");

    identity
        .set_keys(Issuer::new().keys())
        .expect("usable keys");
    assert_eq!(caller(), unknown(UnknownReason::BadSignature));
    identity.set_keys(ISSUER_KEYS.keys()).expect("usable keys");
    assert_eq!(caller(), account(), "a bad verdict is forgotten too");
}

#[test]
fn a_key_set_that_does_not_parse_leaves_the_old_one() {
    let identity = identity();
    for jwks in [
        "",
        "[]",
        "{}",
        r#"{"keys":[]}"#,
        r#"{"keys":[{"kty":"OKP","kid":"a","crv":"Ed25519","x":"AA"}]}"#,
    ] {
        let keys = IssuerKeys {
            issuer: ISSUER.to_owned(),
            jwks: jwks.to_owned(),
        };
        assert!(identity.set_keys(keys).is_err(), "{jwks}");
    }
    let caller = identity.caller(&in_pod(), &bearer(&token(&claims())), at(60));
    assert_eq!(caller, account());
}

#[test]
fn a_key_of_an_unknown_kind_leaves_the_others_usable() {
    let mut keys = ISSUER_KEYS.keys();
    let more = r#"{"keys":[{"kty":"AKP","kid":"q","alg":"ML-DSA-65"},{"kty":"oct","kid":"HS256","k":"AA"},{"kid":1},"#;
    keys.jwks = keys.jwks.replacen(r#"{"keys":["#, more, 1);
    let identity = Identity::new(&config());
    identity.set_keys(keys).expect("usable keys");
    let caller = identity.caller(&in_pod(), &bearer(&token(&claims())), at(60));
    assert_eq!(caller, account());
}

#[test]
fn issuer_keys_come_from_the_two_documents() {
    let jwks = ISSUER_KEYS.keys().jwks;
    let discovery =
        json!({"issuer": ISSUER, "jwks_uri": "https://192.0.2.1:6443/openid/v1/jwks"}).to_string();
    let keys = IssuerKeys::from_documents(discovery.as_bytes(), jwks.as_bytes());
    assert_eq!(keys.expect("usable documents"), ISSUER_KEYS.keys());
    let failed = |discovery: &str, jwks: &[u8]| {
        IssuerKeys::from_documents(discovery.as_bytes(), jwks).expect_err("unusable")
    };
    assert!(matches!(
        failed("{}", jwks.as_bytes()),
        KeysError::Discovery(_)
    ));
    assert!(matches!(failed(&discovery, b"\xff"), KeysError::Parse(_)));
    assert!(matches!(
        failed(&discovery, b"{\"keys\":[]}"),
        KeysError::Empty
    ));
}

#[test]
fn no_token_is_ever_printed() {
    let token = token(&claims());
    let headers = bearer(&token);
    let identity = identity();
    let client = in_pod();
    let caller = identity.caller(&client, &headers, at(60));
    let printed = format!(
        "{caller:?} {client:?} {:?}",
        identity.caller(&client, &headers, at(-500))
    );
    for part in token.split('.') {
        assert!(!printed.contains(part));
    }
}

#[test]
fn a_key_that_makes_no_sense_verifies_nothing() {
    let rsa =
        |n: &[u8], e: &[u8]| json!({"kty": "RSA", "kid": "RS256", "n": encode(n), "e": encode(e)});
    let ecdsa = |curve: &str, x: &[u8], y: &[u8]| json!({"kty": "EC", "kid": "ES256", "crv": curve, "x": encode(x), "y": encode(y)});
    let tokens = [signed("RS256", &claims()), signed("ES256", &claims())];
    for key in [
        rsa(&[1], &[1]),
        rsa(&[0xff; 256], &[0]),
        rsa(&[0xff; 256], &[0xff; 256]),
        rsa(&[0xff; 100_000], &[1, 0, 1]),
        rsa(&[0, 0], &[1, 0, 1]),
        rsa(&[], &[]),
        ecdsa("P-256", &[0; 32], &[0; 32]),
        ecdsa("P-256", &[0xff; 32], &[0xff; 32]),
        ecdsa("P-256", &[1; 48], &[1; 48]),
        ecdsa("P-256", &[1; 31], &[1; 33]),
        ecdsa("secp256k1", &[1; 32], &[1; 32]),
    ] {
        let identity = Identity::new(&config());
        let jwks = json!({"keys": [key]}).to_string();
        // Whether it is refused at once or verifies nothing does not matter.
        let _ = identity.set_keys(IssuerKeys {
            issuer: ISSUER.to_owned(),
            jwks,
        });
        for token in &tokens {
            let caller = identity.caller(&in_pod(), &bearer(token), at(60));
            assert!(matches!(caller, Caller::Unknown(_)), "{key}");
        }
    }
}
