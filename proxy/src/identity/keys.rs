//! The issuer's public keys, and what was verified by them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aws_lc_rs::digest;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED,
    EcdsaVerificationAlgorithm, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
    UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use super::UnknownReason;
use super::remembered::Remembered;
use super::token::{self, Expected, Verified};
use crate::config;

/// What the cache keeps on disk, so that tokens can be verified after a restart in the dark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerKeys {
    pub issuer: String,
    /// The JWK set as JSON.
    pub jwks: String,
}

#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    #[error("the issuer's discovery document names no issuer")]
    Discovery(#[source] serde_json::Error),
    #[error("the issuer's key set is not a JWK set")]
    Parse(#[source] serde_json::Error),
    #[error("the issuer's key set has no usable key")]
    Empty,
}

impl IssuerKeys {
    /// From the bodies of `/.well-known/openid-configuration` and `/openid/v1/jwks`.
    pub fn from_documents(openid_configuration: &[u8], jwks: &[u8]) -> Result<Self, KeysError> {
        #[derive(Deserialize)]
        struct Discovery {
            issuer: String,
        }
        let discovery: Discovery =
            serde_json::from_slice(openid_configuration).map_err(KeysError::Discovery)?;
        let jwks: &serde_json::value::RawValue =
            serde_json::from_slice(jwks).map_err(KeysError::Parse)?;
        let keys = Self {
            issuer: discovery.issuer,
            jwks: jwks.get().to_owned(),
        };
        parse_jwks(&keys.jwks)?;
        Ok(keys)
    }
}

/// One key set and every verdict reached by it: a new set starts with none.
pub(super) struct Keyring {
    pub(super) source: IssuerKeys,
    keys: HashMap<String, Key>,
    expected: Expected,
    verdicts: Remembered<Arc<Verified>>,
    /// A token named a key that is not in this set: the issuer may have a new one.
    unknown_key: AtomicBool,
}

impl Keyring {
    pub(super) fn new(source: IssuerKeys, config: &config::Tokens) -> Result<Self, KeysError> {
        let keys = parse_jwks(&source.jwks)?;
        let issuer = if config.issuer.is_empty() {
            source.issuer.clone()
        } else {
            config.issuer.clone()
        };
        let audiences = if config.audiences.is_empty() {
            vec![issuer.clone()]
        } else {
            config.audiences.clone()
        };
        Ok(Self {
            source,
            keys,
            expected: Expected { issuer, audiences },
            verdicts: Remembered::default(),
            unknown_key: AtomicBool::new(false),
        })
    }

    /// Everything about a token that neither time nor place changes.
    pub(super) fn verify(&self, token: &str) -> Result<Arc<Verified>, UnknownReason> {
        let mut digest = [0; digest::SHA256_OUTPUT_LEN];
        digest.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
        self.verdicts.get_or_reach(digest, || {
            let find = |kid: &str| {
                let key = self.keys.get(kid);
                self.unknown_key.fetch_or(key.is_none(), Ordering::Relaxed);
                key
            };
            token::verify(token, find, &self.expected).map(Arc::new)
        })
    }

    /// Whether a token named a key that is not in this set since this was last asked.
    pub(super) fn take_unknown_key(&self) -> bool {
        self.unknown_key.swap(false, Ordering::Relaxed)
    }
}

/// A key and the one algorithm it may be used with: a token never chooses.
pub(super) enum Key {
    Rsa(RsaPublicKeyComponents<Vec<u8>>),
    Ecdsa {
        algorithm: &'static EcdsaVerificationAlgorithm,
        name: &'static str,
        /// Uncompressed: `04 || x || y`.
        point: Vec<u8>,
    },
}

impl Key {
    /// As in the `alg` of a token's header.
    pub(super) fn algorithm(&self) -> &'static str {
        match self {
            Key::Rsa(_) => "RS256",
            Key::Ecdsa { name, .. } => name,
        }
    }

    pub(super) fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Key::Rsa(key) => key
                .verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
                .is_ok(),
            Key::Ecdsa {
                algorithm, point, ..
            } => {
                let key = UnparsedPublicKey::new(*algorithm, point);
                key.verify(message, signature).is_ok()
            }
        }
    }

    fn from_jwk(jwk: &Jwk) -> Option<Self> {
        if !matches!(jwk.key_use.as_deref(), None | Some("sig")) {
            return None;
        }
        let key = match jwk.kty.as_str() {
            "RSA" => Key::Rsa(RsaPublicKeyComponents {
                n: integer(jwk.n.as_deref()?)?,
                e: integer(jwk.e.as_deref()?)?,
            }),
            "EC" => Self::ecdsa(jwk)?,
            _ => return None,
        };
        let agrees = jwk.alg.as_deref().is_none_or(|alg| alg == key.algorithm());
        agrees.then_some(key)
    }

    fn ecdsa(jwk: &Jwk) -> Option<Self> {
        let (algorithm, name, coordinate_bytes) = match jwk.crv.as_deref()? {
            "P-256" => (&ECDSA_P256_SHA256_FIXED, "ES256", 32),
            "P-384" => (&ECDSA_P384_SHA384_FIXED, "ES384", 48),
            "P-521" => (&ECDSA_P521_SHA512_FIXED, "ES512", 66),
            _ => return None,
        };
        let (x, y) = (decode(jwk.x.as_deref()?)?, decode(jwk.y.as_deref()?)?);
        let whole = x.len() == coordinate_bytes && y.len() == coordinate_bytes;
        whole.then(|| Key::Ecdsa {
            algorithm,
            name,
            point: [&[4], x.as_slice(), y.as_slice()].concat(),
        })
    }
}

/// Members of RFC 7517 and 7518 that say what a public key is.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: String,
    #[serde(rename = "use")]
    key_use: Option<String>,
    alg: Option<String>,
    n: Option<String>,
    e: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// The usable keys by `kid`. A key of a kind this version does not know is left out: the others still verify.
fn parse_jwks(jwks: &str) -> Result<HashMap<String, Key>, KeysError> {
    #[derive(Deserialize)]
    struct JwkSet {
        keys: Vec<serde_json::Value>,
    }
    let set: JwkSet = serde_json::from_str(jwks).map_err(KeysError::Parse)?;
    let keys: HashMap<String, Key> = set
        .keys
        .into_iter()
        .filter_map(|jwk| serde_json::from_value::<Jwk>(jwk).ok())
        .filter_map(|jwk| Some((jwk.kid.clone(), Key::from_jwk(&jwk)?)))
        .collect();
    if keys.is_empty() {
        return Err(KeysError::Empty);
    }
    Ok(keys)
}

fn decode(base64url: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(base64url).ok()
}

/// A positive big-endian integer; the verifier takes no leading zeros.
fn integer(base64url: &str) -> Option<Vec<u8>> {
    let bytes = decode(base64url)?;
    let start = bytes.iter().position(|byte| *byte != 0)?;
    Some(bytes[start..].to_vec())
}
