//! `holdfast ca create`.

use std::path::PathBuf;

use holdfast::tls::ca::{self, Request};
use holdfast::tls::constraints::Name;
use time::{Duration, OffsetDateTime};

use super::print;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Make an intermediate CA, signed by the cluster's CA, that can speak for these names and addresses alone
    ///
    /// Pods trust the cluster's CA already, so they trust what this one signs. Run it where the cluster CA's key is
    /// (on a kubeadm control plane: /etc/kubernetes/pki/ca.key), copy the two files it makes to the nodes, and
    /// leave the cluster CA's key where it was.
    Create(Create),
}

#[derive(Debug, clap::Args)]
pub(super) struct Create {
    /// The cluster CA's certificate, PEM
    #[arg(long, value_name = "FILE")]
    ca_cert: PathBuf,
    /// The cluster CA's key, PEM: PKCS#8, PKCS#1 (RSA) or SEC1 (EC)
    #[arg(long, value_name = "FILE")]
    ca_key: PathBuf,
    /// Gets the new CA's certificate (it alone: clients have the cluster CA's); `tls.caCertFile`
    #[arg(long, value_name = "FILE")]
    out_cert: PathBuf,
    /// Gets the new CA's key, mode 0600; `tls.caKeyFile`
    #[arg(long, value_name = "FILE")]
    out_key: PathBuf,
    /// A DNS name or IP address of the API server; several, or repeated
    #[arg(long, value_name = "NAME_OR_IP", required = true, num_args = 1.., value_parser = ca::name)]
    address: Vec<Name>,
    /// How long it lives; never longer than the cluster CA
    #[arg(long, value_name = "DAYS", default_value_t = 3650, value_parser = clap::value_parser!(u32).range(1..=36500))]
    days: u32,
    /// Overwrite existing files
    #[arg(long)]
    force: bool,
}

impl Command {
    pub(super) fn execute(self) -> anyhow::Result<()> {
        let Command::Create(create) = self;
        let request = Request {
            ca_cert: create.ca_cert,
            ca_key: create.ca_key,
            out_cert: create.out_cert,
            out_key: create.out_key,
            names: create.address,
            life: Duration::days(create.days.into()),
            force: create.force,
        };
        let created = ca::create(&request, OffsetDateTime::now_utc())?;
        let names: Vec<String> = request.names.iter().map(Name::to_string).collect();
        let text = format!(
            "{} and {}: a CA for {}, until {}\n",
            request.out_cert.display(),
            request.out_key.display(),
            names.join(", "),
            created.not_after.date(),
        );
        print(text.as_bytes())
    }
}
