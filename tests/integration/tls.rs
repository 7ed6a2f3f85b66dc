//! Real clients that trust the cluster CA alone, each with a TLS library of its own: Go, Node, and Python at its strictest.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use holdfast::config::{Tls, TlsMode};
use holdfast::identity::Place;
use holdfast::tls::Terminator;
use holdfast_tests::assets::{asset, holdfast, source};
use rcgen::{CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

const NAME: &str = "kubernetes.default.svc";

/// A cluster CA as kubeadm makes it, and the intermediate that `holdfast ca create` made from it.
struct Authorities {
    folder: tempfile::TempDir,
}

impl Authorities {
    fn create(kind_of_key: &str, permitted: &[&str]) -> Result<Self> {
        let made = Self {
            folder: tempfile::tempdir()?,
        };
        let mut go = Command::new(asset("tlsclient")?);
        go.args(["make-ca", kind_of_key]);
        succeed(
            go.arg(made.path("cluster.crt"))
                .arg(made.path("cluster.key")),
        )?;
        let mut create = Command::new(holdfast()?);
        create.args(["ca", "create"]);
        for (flag, file) in [
            ("--ca-cert", "cluster.crt"),
            ("--ca-key", "cluster.key"),
            ("--out-cert", "ca.crt"),
            ("--out-key", "ca.key"),
        ] {
            create.arg(flag).arg(made.path(file));
        }
        succeed(create.arg("--address").args(permitted))?;
        Ok(made)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn terminator(&self, names: &[&str], addresses: &[IpAddr]) -> Result<Terminator> {
        let config = Tls {
            mode: TlsMode::Intermediate,
            server_names: names.iter().map(|name| (*name).to_owned()).collect(),
            ca_cert_file: self.path("ca.crt"),
            ca_key_file: self.path("ca.key"),
            client_ca_file: None,
        };
        Ok(Terminator::new(&config, addresses)?)
    }

    /// What a thief of the intermediate's key would serve: a leaf for any name he likes.
    fn forged(&self, name: &str) -> Result<ServerConfig> {
        let key = KeyPair::from_pem(&fs::read_to_string(self.path("ca.key"))?)?;
        let ca = CertificateDer::from_pem_file(self.path("ca.crt"))?;
        let issuer = Issuer::from_ca_cert_der(&ca, key)?;
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.not_after = params.not_before.replace_year(2090)?;
        let leaf_key = KeyPair::generate()?;
        let leaf = params.signed_by(&leaf_key, &issuer)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = PrivatePkcs8KeyDer::from(leaf_key.serialize_der());
        Ok(ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![leaf.into(), ca], key.into())?)
    }
}

/// A server on loopback that says `hello` and hangs up; it ends with this value.
struct Server {
    address: SocketAddr,
    _runtime: Runtime,
}

impl Server {
    fn terminating(terminator: Terminator, ip: IpAddr) -> Result<Self> {
        let runtime = Runtime::new()?;
        let listener = runtime.block_on(TcpListener::bind((ip, 0)))?;
        let address = listener.local_addr()?;
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if let Ok(mut session) = terminator.accept(stream, &Place::Explicit).await {
                    let _ = session.stream.write_all(b"hello").await;
                    let _ = session.stream.shutdown().await;
                }
            }
        });
        Ok(Self {
            address,
            _runtime: runtime,
        })
    }

    fn forging(config: ServerConfig, ip: IpAddr) -> Result<Self> {
        let runtime = Runtime::new()?;
        let listener = runtime.block_on(TcpListener::bind((ip, 0)))?;
        let address = listener.local_addr()?;
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    let _ = stream.write_all(b"hello").await;
                    let _ = stream.shutdown().await;
                }
            }
        });
        Ok(Self {
            address,
            _runtime: runtime,
        })
    }
}

/// Each client's word about this server. `name`: dial by this name, else by the address.
fn dial(server: &Server, ca: &Path, name: Option<&str>) -> Result<Vec<(&'static str, Output)>> {
    let (ip, port) = (
        server.address.ip().to_string(),
        server.address.port().to_string(),
    );
    let mut go = Command::new(asset("tlsclient")?);
    go.args(["dial", &server.address.to_string()])
        .arg(ca)
        .args(name);
    let mut node = Command::new("node");
    node.arg(source("tests/node/tls.js"))
        .args([&ip, &port])
        .arg(ca)
        .args(name);
    let mut python = Command::new("python3");
    python
        .arg(source("tests/python/tls_strict.py"))
        .args([&ip, &port])
        .arg(ca);
    python.arg(name.unwrap_or(&ip));
    [("Go", go), ("Node", node), ("Python", python)]
        .into_iter()
        .map(|(client, mut command)| Ok((client, command.output().context(client)?)))
        .collect()
}

fn trusted(server: &Server, ca: &Path, name: Option<&str>) -> Result<()> {
    for (client, output) in dial(server, ca, name)? {
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(
            output.status.success() && said.starts_with("hello h2"),
            "{client} at {} as {name:?}: {output:?}",
            server.address
        );
    }
    Ok(())
}

/// For the reason given, not for another one.
fn refused(server: &Server, ca: &Path, name: Option<&str>) -> Result<()> {
    for (client, output) in dial(server, ca, name)? {
        let said = String::from_utf8_lossy(&output.stderr).to_lowercase();
        let constraints = said.contains("subtree violation") || said.contains("constraint");
        ensure!(
            !output.status.success() && constraints,
            "{client} at {} as {name:?}: {output:?}",
            server.address
        );
    }
    Ok(())
}

fn succeed(command: &mut Command) -> Result<()> {
    let output = command.output()?;
    ensure!(output.status.success(), "{command:?}: {output:?}");
    Ok(())
}

fn addresses() -> [IpAddr; 2] {
    [[127, 0, 0, 1].into(), [0, 0, 0, 0, 0, 0, 0, 1].into()]
}

#[test]
fn go_node_and_strict_python_trust_a_leaf_by_name_and_by_address_whatever_the_cluster_key_is()
-> Result<()> {
    for kind in ["pkcs1", "sec1", "pkcs8"] {
        let made = Authorities::create(kind, &[NAME, "kubernetes", "127.0.0.1", "::1"])?;
        let ca = made.path("cluster.crt");
        for ip in addresses() {
            let terminator = made.terminator(&[NAME, "kubernetes"], &addresses())?;
            let server = Server::terminating(terminator, ip)?;
            trusted(&server, &ca, None)?;
            trusted(&server, &ca, Some(NAME))?;
            trusted(&server, &ca, Some("kubernetes"))?;
        }
    }
    Ok(())
}

#[test]
fn a_ca_for_addresses_or_names_alone_serves_them() -> Result<()> {
    let [v4, v6] = addresses();
    let by_address = Authorities::create("pkcs1", &["127.0.0.1"])?;
    let server = Server::terminating(by_address.terminator(&[], &[v4])?, v4)?;
    trusted(&server, &by_address.path("cluster.crt"), None)?;
    let by_name = Authorities::create("pkcs1", &[NAME])?;
    let server = Server::terminating(by_name.terminator(&[NAME], &[])?, v6)?;
    trusted(&server, &by_name.path("cluster.crt"), Some(NAME))
}

#[test]
fn go_node_and_strict_python_refuse_a_leaf_outside_the_constraints() -> Result<()> {
    let [v4, v6] = addresses();
    let both = Authorities::create("pkcs1", &[NAME, "127.0.0.1"])?;
    let ca = both.path("cluster.crt");
    refused(
        &Server::forging(both.forged("bank.example")?, v4)?,
        &ca,
        Some("bank.example"),
    )?;
    refused(&Server::forging(both.forged("::1")?, v6)?, &ca, None)?;
    let names = Authorities::create("sec1", &[NAME])?;
    refused(
        &Server::forging(names.forged("127.0.0.1")?, v4)?,
        &names.path("cluster.crt"),
        None,
    )?;
    refused(
        &Server::forging(names.forged("::1")?, v6)?,
        &names.path("cluster.crt"),
        None,
    )?;
    let ips = Authorities::create("sec1", &["127.0.0.1"])?;
    refused(
        &Server::forging(ips.forged(NAME)?, v4)?,
        &ips.path("cluster.crt"),
        Some(NAME),
    )
}
