//! `holdfast run`: the node agent in the foreground.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use holdfast::config::values;
use holdfast::runtime::telemetry;
use holdfast::{app, config};

/// One thread for all connections, as one of nginx's workers: what goes from task to task on one thread wakes no other core, which costs
/// more than the work does. The disk has threads of its own.
const WORKERS: usize = 1;

/// For threads that are inside a system call when everything else has ended.
const LAST_THREADS: Duration = Duration::from_millis(300);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration file (see `holdfast config print-defaults`)
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,
    /// Instead of log.filter, e.g. info,holdfast::upstream=debug
    #[arg(long, value_name = "DIRECTIVES", value_parser = values::log_filter)]
    log_filter: Option<String>,
    /// Instead of listen; may be given several times
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = values::listen_address)]
    listen: Vec<SocketAddr>,
    /// Instead of admin.listen
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = values::socket_address)]
    admin: Option<SocketAddr>,
}

impl Args {
    /// Serves until SIGTERM or SIGINT. Every mistake in the configuration is found before anything is attached.
    pub(super) fn execute(self) -> anyhow::Result<()> {
        let mut config = config::load(&self.config)?;
        if let Some(filter) = self.log_filter {
            config.log.filter = filter;
        }
        if !self.listen.is_empty() {
            config.listen = self.listen;
        }
        if let Some(address) = self.admin {
            config.admin.listen = address;
        }
        let filter = telemetry::init(&config.log)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .enable_all()
            .build()
            .context("the runtime could not be started")?;
        let ended = runtime.block_on(app::run(config, filter));
        // Dropped, the runtime would wait for a name lookup that hangs in the dark.
        runtime.shutdown_timeout(LAST_THREADS);
        ended
    }
}
