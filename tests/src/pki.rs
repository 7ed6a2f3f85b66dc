//! The cluster's keys and certificates, in the shapes kubeadm gives them.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_RSA_SHA256, RsaKeySize, SanType,
};

use crate::node::{CONTROL_PLANE, VIP};

/// The API server's names inside a cluster.
pub const SERVER_NAMES: [&str; 4] = [
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
];

/// A folder of keys and certificates, as `/etc/kubernetes/pki`.
pub struct Pki {
    folder: PathBuf,
}

impl Pki {
    /// Makes everything an API server and its administrator need.
    pub fn create(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let pki = Self {
            folder: folder.to_owned(),
        };
        let (ca_key, ca) = pki.authority("ca", "kubernetes")?;
        let (front_key, front) = pki.authority("front-proxy-ca", "front-proxy-ca")?;
        let cluster = Issuer::from_params(&ca, &ca_key);
        let mut server = params("kube-apiserver", None);
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        for name in SERVER_NAMES {
            server
                .subject_alt_names
                .push(SanType::DnsName(name.try_into()?));
        }
        for address in [VIP, CONTROL_PLANE, "127.0.0.1"] {
            server
                .subject_alt_names
                .push(SanType::IpAddress(address.parse::<IpAddr>()?));
        }
        pki.leaf("apiserver", &server, &cluster)?;
        pki.leaf(
            "admin",
            &client("kubernetes-admin", Some("system:masters")),
            &cluster,
        )?;
        pki.leaf(
            "front-proxy-client",
            &client("front-proxy-client", None),
            &Issuer::from_params(&front, &front_key),
        )?;
        // Service-account keys are RSA in every kubeadm cluster, so tokens are RS256.
        let sa = rsa()?;
        pki.write("sa.key", &pkcs1(&sa)?)?;
        pki.write("sa.pub", &sa.public_key_pem())?;
        Ok(pki)
    }

    /// A file of this folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn authority(&self, file: &str, name: &str) -> Result<(KeyPair, CertificateParams)> {
        let key = rsa()?;
        let mut ca = params(name, None);
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::CrlSign,
        ];
        ca.subject_alt_names
            .push(SanType::DnsName(name.try_into()?));
        self.write(&format!("{file}.crt"), &ca.self_signed(&key)?.pem())?;
        self.write(&format!("{file}.key"), &pkcs1(&key)?)?;
        Ok((key, ca))
    }

    fn leaf(
        &self,
        file: &str,
        params: &CertificateParams,
        issuer: &Issuer<'_, &KeyPair>,
    ) -> Result<()> {
        let key = KeyPair::generate()?;
        self.write(
            &format!("{file}.crt"),
            &params.signed_by(&key, issuer)?.pem(),
        )?;
        self.write(&format!("{file}.key"), &key.serialize_pem())
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.path(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}

fn client(name: &str, group: Option<&str>) -> CertificateParams {
    let mut client = params(name, group);
    client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    client
}

fn params(name: &str, group: Option<&str>) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    if let Some(group) = group {
        subject.push(DnType::OrganizationName, group);
    }
    params.distinguished_name = subject;
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
    ];
    params.use_authority_key_identifier_extension = true;
    params
}

fn rsa() -> Result<KeyPair> {
    Ok(KeyPair::generate_rsa_for(
        &PKCS_RSA_SHA256,
        RsaKeySize::_2048,
    )?)
}

/// kubeadm writes RSA keys as PKCS#1, which is what PKCS#8 wraps in a header of constant length for this key size.
fn pkcs1(key: &KeyPair) -> Result<String> {
    const PKCS8_HEADER: usize = 26;
    let pkcs8 = key.serialize_der();
    let inner = pkcs8
        .get(PKCS8_HEADER..)
        .context("a PKCS#8 key is longer than its header")?;
    let text = STANDARD.encode(inner);
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).unwrap_or_default())
        .collect();
    Ok(format!(
        "-----BEGIN RSA PRIVATE KEY-----\n{}\n-----END RSA PRIVATE KEY-----\n",
        lines.join("\n")
    ))
}
