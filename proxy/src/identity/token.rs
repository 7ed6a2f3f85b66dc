//! A service account token: its signature, its claims, its time, its pod. Pure.
//!
//! Source of the claims: `kubernetes:pkg/serviceaccount/claims.go`; of the encoding: RFC 7515.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::keys::Key;
use super::{PodUid, ServiceAccount, UnknownReason};

/// How far the API server lets the clocks of issuer and verifier be apart.
const LEEWAY: Duration = Duration::from_secs(60);

/// Whose tokens count, and which of them.
pub(super) struct Expected {
    pub(super) issuer: String,
    /// One of these has to be in the token.
    pub(super) audiences: Vec<String>,
}

/// What a token with a good signature says. Times are seconds since the epoch, as a JWT has them: not always whole.
pub(super) struct Verified {
    pub(super) account: ServiceAccount,
    /// The uid the token is bound to.
    pod: Option<PodUid>,
    not_before: f64,
    expires: f64,
}

/// Checks what neither time nor place changes: the signature by the key that `find` has for the token's `kid`, issuer, audience, claims.
pub(super) fn verify<'k>(
    token: &str,
    find: impl FnOnce(&str) -> Option<&'k Key>,
    expected: &Expected,
) -> Result<Verified, UnknownReason> {
    let claims: Claims = signed_claims(token, find).ok_or(UnknownReason::BadSignature)?;
    if claims.iss != expected.issuer {
        return Err(UnknownReason::WrongIssuer);
    }
    if !expected
        .audiences
        .iter()
        .any(|audience| claims.aud.has(audience))
    {
        return Err(UnknownReason::WrongAudience);
    }
    claims
        .into_verified()
        .ok_or(UnknownReason::NotAServiceAccount)
}

impl Verified {
    /// Past `exp` by no more than `grace`, and not before `nbf` or `iat`, both give or take the leeway.
    pub(super) fn check_time(&self, now: SystemTime, grace: Duration) -> Result<(), UnknownReason> {
        let now = seconds_since_epoch(now);
        let leeway = LEEWAY.as_secs_f64();
        if now + leeway < self.not_before {
            return Err(UnknownReason::NotYetValid);
        }
        if now > self.expires + grace.as_secs_f64() + leeway {
            return Err(UnknownReason::Expired);
        }
        Ok(())
    }

    /// A token bound to a pod comes from that pod; one bound to none from anywhere.
    pub(super) fn check_pod(&self, client: Option<&PodUid>) -> Result<(), UnknownReason> {
        match &self.pod {
            Some(bound) if client != Some(bound) => Err(UnknownReason::PodMismatch),
            _ => Ok(()),
        }
    }
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: String,
    /// Extensions that must be understood. None is.
    crit: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    #[serde(default)]
    aud: Audiences,
    exp: Option<f64>,
    nbf: Option<f64>,
    iat: Option<f64>,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Option<Kubernetes>,
}

#[derive(Deserialize)]
struct Kubernetes {
    namespace: String,
    serviceaccount: Reference,
    pod: Option<Reference>,
}

#[derive(Deserialize)]
struct Reference {
    name: String,
    uid: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audiences {
    Many(Vec<String>),
    One(String),
}

impl Default for Audiences {
    fn default() -> Self {
        Audiences::Many(Vec::new())
    }
}

impl Audiences {
    fn has(&self, audience: &str) -> bool {
        match self {
            Audiences::Many(all) => all.iter().any(|one| one == audience),
            Audiences::One(one) => one == audience,
        }
    }
}

impl Claims {
    /// `None` when they are not a bound service account's: a namespace, a name and a uid that the subject agrees with, and an end.
    fn into_verified(self) -> Option<Verified> {
        let Kubernetes {
            namespace,
            serviceaccount: Reference { name, uid },
            pod,
        } = self.kubernetes?;
        if [&namespace, &name, &uid].into_iter().any(String::is_empty) {
            return None;
        }
        if self.sub != format!("system:serviceaccount:{namespace}:{name}") {
            return None;
        }
        Some(Verified {
            account: ServiceAccount {
                namespace,
                name,
                uid,
            },
            pod: pod.map(|pod| PodUid(pod.uid)),
            not_before: self.nbf.unwrap_or(0.0).max(self.iat.unwrap_or(0.0)),
            expires: self.exp?,
        })
    }
}

/// The claims of a compact JWS whose header names a known key and its algorithm, and whose signature is that key's.
fn signed_claims<'k, C: DeserializeOwned>(
    token: &str,
    find: impl FnOnce(&str) -> Option<&'k Key>,
) -> Option<C> {
    let (message, signature) = token.rsplit_once('.')?;
    let (header, claims) = message.split_once('.')?;
    let header: Header = decode_json(header)?;
    let key = find(&header.kid)?;
    let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
    let genuine = header.crit.is_none()
        && header.alg == key.algorithm()
        && key.signed(message.as_bytes(), &signature);
    genuine.then(|| decode_json(claims))?
}

fn decode_json<T: DeserializeOwned>(part: &str) -> Option<T> {
    let json = URL_SAFE_NO_PAD.decode(part).ok()?;
    serde_json::from_slice(&json).ok()
}

fn seconds_since_epoch(time: SystemTime) -> f64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => since.as_secs_f64(),
        Err(before) => -before.duration().as_secs_f64(),
    }
}
