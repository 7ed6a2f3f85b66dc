//! What Holdfast trusts and shows upstream: the CA, and for its own requests a token or a client certificate. Files that change are read again.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use http::HeaderValue;
use rustls::{ClientConfig, NamedGroup, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::SetupError;
use crate::config::OwnCredential;

/// A token larger than this is not a token.
const TOKEN_LIMIT: usize = 64 * 1024;

/// Which protocols to offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Alpn {
    Http2OrHttp1,
    /// Upgrades exist in HTTP/1.1 only; probes need no more.
    Http1,
}

/// TLS client configurations made from files, made anew when a file changes.
pub(super) struct TlsFiles {
    ca: PathBuf,
    certificate: Option<(PathBuf, PathBuf)>,
    loaded: Mutex<Loaded>,
}

struct Loaded {
    stamps: Vec<Option<(SystemTime, u64)>>,
    any: Arc<ClientConfig>,
    http1: Arc<ClientConfig>,
}

impl TlsFiles {
    /// For callers' requests: no certificate is ever shown.
    pub(super) fn for_callers(ca: &Path) -> Result<Self, SetupError> {
        Self::open(ca.to_owned(), None)
    }

    /// For Holdfast's own requests.
    pub(super) fn for_own(ca: &Path, credential: &OwnCredential) -> Result<Self, SetupError> {
        let certificate = match credential {
            OwnCredential::Certificate {
                cert_file,
                key_file,
            } => Some((cert_file.clone(), key_file.clone())),
            OwnCredential::TokenFile(_) | OwnCredential::None => None,
        };
        Self::open(ca.to_owned(), certificate)
    }

    fn open(ca: PathBuf, certificate: Option<(PathBuf, PathBuf)>) -> Result<Self, SetupError> {
        let loaded = load(&ca, certificate.as_ref())?;
        Ok(Self {
            ca,
            certificate,
            loaded: Mutex::new(loaded),
        })
    }

    pub(super) fn config(&self, alpn: Alpn) -> Arc<ClientConfig> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let stamps = stamps(&self.ca, self.certificate.as_ref());
        if loaded.stamps != stamps {
            match load(&self.ca, self.certificate.as_ref()) {
                Ok(fresh) => *loaded = fresh,
                // Half-written, or gone: what was good goes on, and this is said once per change.
                Err(error) => {
                    tracing::warn!(%error, "a changed file could not be used; the old one stays in use");
                    loaded.stamps = stamps;
                }
            }
        }
        Arc::clone(match alpn {
            Alpn::Http2OrHttp1 => &loaded.any,
            Alpn::Http1 => &loaded.http1,
        })
    }
}

fn load(ca: &Path, certificate: Option<&(PathBuf, PathBuf)>) -> Result<Loaded, SetupError> {
    // Stamps first: a change between this and the reading is seen at the next dial.
    let stamps = stamps(ca, certificate);
    let base = client_config(ca, certificate)?;
    let with = |protocols: &[&[u8]]| {
        let mut config = base.clone();
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Arc::new(config)
    };
    Ok(Loaded {
        stamps,
        any: with(&[b"h2", b"http/1.1"]),
        http1: with(&[b"http/1.1"]),
    })
}

fn client_config(
    ca: &Path,
    certificate: Option<&(PathBuf, PathBuf)>,
) -> Result<ClientConfig, SetupError> {
    let ca_error = |why: String| SetupError::Ca {
        path: ca.to_owned(),
        why,
    };
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    // A server of Go takes this group before all others, and without a share of it in the hello asks for one: a round trip.
    let first = NamedGroup::X25519MLKEM768;
    provider
        .kx_groups
        .sort_by_key(|group| group.name() != first);
    let builder = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| ca_error(error.to_string()))?
        .with_root_certificates(roots(ca).map_err(ca_error)?);
    match certificate {
        None => Ok(builder.with_no_client_auth()),
        Some((cert_file, key_file)) => {
            let file_error = |file: &Path, why: String| {
                SetupError::Certificate(format!("{}: {why}", file.display()))
            };
            let chain = certificates(cert_file).map_err(|why| file_error(cert_file, why))?;
            let key = PrivateKeyDer::from_pem_file(key_file)
                .map_err(|error| file_error(key_file, error.to_string()))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| file_error(cert_file, error.to_string()))
        }
    }
}

fn roots(ca: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(certificates(ca)?);
    if added == 0 {
        return Err("it holds no usable CA certificate in PEM".to_owned());
    }
    Ok(roots)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect)
        .map_err(|error| error.to_string())
}

fn stamps(ca: &Path, certificate: Option<&(PathBuf, PathBuf)>) -> Vec<Option<(SystemTime, u64)>> {
    let stamp = |file: &Path| {
        let metadata = std::fs::metadata(file).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    let mut stamps = vec![stamp(ca)];
    if let Some((cert_file, key_file)) = certificate {
        stamps.extend([stamp(cert_file), stamp(key_file)]);
    }
    stamps
}

/// The Authorization of Holdfast's own requests. The file is read each time: a kubelet replaces it about once an hour.
pub(super) async fn authorization(credential: &OwnCredential) -> Option<HeaderValue> {
    let OwnCredential::TokenFile(file) = credential else {
        return None;
    };
    let token = match tokio::fs::read_to_string(file).await {
        Ok(token) if token.len() <= TOKEN_LIMIT => token,
        Ok(_) => {
            tracing::warn!(file = %file.display(), "upstream.tokenFile is too large for a token");
            return None;
        }
        Err(error) => {
            tracing::debug!(file = %file.display(), %error, "upstream.tokenFile cannot be read");
            return None;
        }
    };
    let mut value = HeaderValue::try_from(format!("Bearer {}", token.trim())).ok()?;
    value.set_sensitive(true);
    Some(value)
}
