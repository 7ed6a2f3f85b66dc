//! `holdfast ca create`: an intermediate CA signed by the cluster CA, constrained to the API server names and addresses.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints,
};
use rustls_pki_types::CertificateDer;
use time::{Duration, OffsetDateTime};

use super::authority::{BACKDATED, ends};
use super::constraints::Name;
use super::pem;
use crate::config::values;

/// What to make, from which files, into which files.
#[derive(Clone, Debug)]
pub struct Request {
    /// The cluster CA, PEM. Of several certificates the one that belongs to the key is taken.
    pub ca_cert: PathBuf,
    /// Its key, PEM: PKCS#8, PKCS#1 or SEC1.
    pub ca_key: PathBuf,
    /// Gets the intermediate's certificate alone: clients have the cluster CA already.
    pub out_cert: PathBuf,
    /// Gets its key, mode 0600.
    pub out_key: PathBuf,
    /// All that leaves of this CA may name; not empty.
    pub names: Vec<Name>,
    /// How long it lives; never past the cluster CA's end.
    pub life: Duration,
    /// Existing files may be overwritten.
    pub force: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum CaError {
    #[error("{path:?}: {why}")]
    File { path: PathBuf, why: String },
    #[error("{0:?} is there already; give another path, or --force to overwrite it")]
    Exists(PathBuf),
    #[error(
        "at least one --address is needed: a CA without constraints could speak for any server"
    )]
    NoName,
    #[error("cannot write {path:?}")]
    Write {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot sign the intermediate: {0}")]
    Sign(String),
}

/// What was made.
#[derive(Clone, Debug)]
pub struct Created {
    pub not_after: OffsetDateTime,
}

/// An `--address`: a DNS name or an IP address (no port).
pub fn name(text: &str) -> Result<Name, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(Name::Address(address.to_canonical()));
    }
    values::dns_name(text)
        .map(Name::Dns)
        .map_err(|_| format!("{text:?} is neither a DNS name nor an IP address; write e.g. kubernetes.default.svc or 10.96.0.1, without port"))
}

/// Makes the intermediate. Nothing is written unless everything could be made.
pub fn create(request: &Request, now: OffsetDateTime) -> Result<Created, CaError> {
    if request.names.is_empty() {
        return Err(CaError::NoName);
    }
    if !request.force {
        let taken = [&request.out_key, &request.out_cert]
            .into_iter()
            .find(|path| path.exists());
        if let Some(path) = taken {
            return Err(CaError::Exists(path.clone()));
        }
    }
    let key = pem::key(&request.ca_key).map_err(in_file(&request.ca_key))?;
    let ca = signing_certificate(&request.ca_cert, &key, now).map_err(in_file(&request.ca_cert))?;
    let parsed = pem::parse(&ca).map_err(in_file(&request.ca_cert))?;
    let not_after = now.saturating_add(request.life).min(ends(&parsed));
    let issuer = Issuer::from_ca_cert_der(&ca, key).map_err(sign)?;
    let own_key = KeyPair::generate().map_err(sign)?;
    let certificate = params(&request.names, now, not_after)
        .signed_by(&own_key, &issuer)
        .map_err(sign)?;
    let made = pem::parse(certificate.der()).map_err(CaError::Sign)?;
    if made.issuer().as_raw() != parsed.subject().as_raw() {
        let why = "the cluster CA's subject has a part that cannot be copied".to_owned();
        return Err(CaError::Sign(why));
    }
    write(
        &request.out_key,
        own_key.serialize_pem().as_bytes(),
        0o600,
        request.force,
    )?;
    write(
        &request.out_cert,
        certificate.pem().as_bytes(),
        0o644,
        request.force,
    )?;
    Ok(Created { not_after })
}

fn in_file(path: &Path) -> impl Fn(String) -> CaError {
    let path = path.to_owned();
    move |why| CaError::File {
        path: path.clone(),
        why,
    }
}

fn sign(error: rcgen::Error) -> CaError {
    CaError::Sign(error.to_string())
}

/// After a rotation the file holds several: the one of the key signs.
fn signing_certificate(
    path: &Path,
    key: &KeyPair,
    now: OffsetDateTime,
) -> Result<CertificateDer<'static>, String> {
    for der in pem::certificates(path)? {
        let certificate = pem::parse(&der)?;
        if !pem::belongs(&certificate, key) {
            continue;
        }
        pem::check_signer(&certificate)?;
        if ends(&certificate) <= now {
            return Err(format!("it ended at {}", certificate.validity().not_after));
        }
        let constraints = certificate.basic_constraints().ok().flatten();
        if constraints.is_some_and(|constraints| constraints.value.path_len_constraint == Some(0)) {
            return Err("its path length is 0: it may not sign another CA".to_owned());
        }
        return Ok(der);
    }
    Err("none of its certificates belongs to the key".to_owned())
}

fn params(names: &[Name], now: OffsetDateTime, not_after: OffsetDateTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "Holdfast intermediate CA");
    params.not_before = now.saturating_sub(BACKDATED);
    params.not_after = not_after;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.name_constraints = Some(name_constraints(names));
    params.use_authority_key_identifier_extension = true;
    params
}

/// A kind of name without any permitted one would be free (RFC 5280, 4.2.1.10), so the whole of that kind is excluded.
fn name_constraints(names: &[Name]) -> NameConstraints {
    let permitted: Vec<_> = names
        .iter()
        .map(|name| match name {
            Name::Dns(name) => GeneralSubtree::DnsName(name.clone()),
            Name::Address(address) => GeneralSubtree::IpAddress(single(*address)),
        })
        .collect();
    let mut excluded = Vec::new();
    if !names.iter().any(|name| matches!(name, Name::Dns(_))) {
        excluded.push(GeneralSubtree::DnsName(String::new()));
    }
    if !names.iter().any(|name| matches!(name, Name::Address(_))) {
        for everything in [
            IpAddr::from(Ipv4Addr::UNSPECIFIED),
            Ipv6Addr::UNSPECIFIED.into(),
        ] {
            excluded.push(GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(
                everything, 0,
            )));
        }
    }
    NameConstraints {
        permitted_subtrees: permitted,
        excluded_subtrees: excluded,
    }
}

fn single(address: IpAddr) -> CidrSubnet {
    let prefix = if address.is_ipv4() { 32 } else { 128 };
    CidrSubnet::from_addr_prefix(address, prefix)
}

/// A new file with this mode from its first moment on; with `force` it replaces the old one at once.
fn write(path: &Path, contents: &[u8], mode: u32, force: bool) -> Result<(), CaError> {
    let write = |target: &Path| -> std::io::Result<()> {
        let mut options = std::fs::OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(target)?;
        file.write_all(contents)?;
        file.sync_all()
    };
    let written = if force {
        let mut beside = path.as_os_str().to_owned();
        beside.push(format!(".{}", std::process::id()));
        let beside = PathBuf::from(beside);
        write(&beside).and_then(|()| std::fs::rename(&beside, path))
    } else {
        write(path)
    };
    written.map_err(|source| CaError::Write {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests;
