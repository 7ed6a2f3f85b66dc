//! The proxy to match: Debian's nginx with one worker, TLS on both sides, connections kept alive on both, caching nothing.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use crate::process::output;
use crate::{ApiServer, Node, Process, eventually};

/// Where it listens on the node.
pub const LISTEN: &str = "127.0.0.1:8443";
const READY_WITHIN: Duration = Duration::from_secs(10);
const ENDED_WITHIN: Duration = Duration::from_secs(10);

/// A running nginx; dropped, it is gone.
pub struct Nginx {
    master: Process,
    worker: u32,
}

impl Nginx {
    /// Starts it in the node's network namespace, in front of `server`.
    pub fn start(node: &Node, api: &ApiServer<'_>, server: &str) -> Result<Self> {
        let folder = node.folder().join("nginx");
        fs::create_dir_all(&folder)?;
        let file = folder.join("nginx.conf");
        fs::write(&file, configuration(&folder, api, server))?;
        let mut command = node.command("nginx", ["-e", "stderr", "-c"]);
        let master = Process::spawn("nginx", node.folder(), command.arg(&file))?;
        let worker = eventually("nginx to have a worker", READY_WITHIN, || {
            worker_of(master.pid()).with_context(|| master.tail())
        })?;
        Ok(Self { master, worker })
    }

    /// The process that serves. The master only waits for signals.
    pub fn worker(&self) -> u32 {
        self.worker
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Killed, the master would leave its worker behind. One that is gone already can't be told.
        if self.master.signal(Signal::SIGTERM).is_ok() {
            let _ = self.master.wait(ENDED_WITHIN);
        }
    }
}

fn worker_of(master: u32) -> Result<u32> {
    let children = fs::read_to_string(format!("/proc/{master}/task/{master}/children"))?;
    let worker = children.split_whitespace().next().context("no child yet")?;
    Ok(worker.parse()?)
}

/// The version of the nginx that is installed, as it says it.
pub fn version() -> Result<String> {
    // It goes to standard error.
    let said = output(std::process::Command::new("sh").args(["-c", "nginx -v 2>&1"]))?;
    Ok(said.trim().replace("nginx version: ", ""))
}

/// Bodies are buffered in memory, never in a file: nginx then reads and writes as much at a time as it can, its cheapest way
/// to pass a list. A watch is not buffered, as its events would wait for each other. One certificate authority, the API
/// server's own certificate, and limits that no row reaches.
fn configuration(folder: &Path, api: &ApiServer<'_>, server: &str) -> String {
    let pki = |name: &str| api.pki().path(name).display().to_string();
    let folder = folder.display();
    format!(
        "daemon off;
worker_processes 1;
worker_rlimit_nofile 8192;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  keepalive_timeout 1h;
  keepalive_requests 10000000;
  tcp_nodelay on;
  upstream api {{
    server {server};
    keepalive 64;
    keepalive_requests 10000000;
    keepalive_timeout 1h;
  }}
  proxy_http_version 1.1;
  proxy_set_header Connection \"\";
  proxy_set_header Host $http_host;
  proxy_ssl_trusted_certificate {ca};
  proxy_ssl_verify on;
  proxy_ssl_name kubernetes;
  proxy_read_timeout 1h;
  proxy_send_timeout 1h;
  proxy_buffers 16 16k;
  proxy_buffer_size 16k;
  proxy_busy_buffers_size 64k;
  proxy_max_temp_file_size 0;
  server {{
    listen {LISTEN} ssl http2;
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    client_max_body_size 0;
    error_page 418 = @watch;
    location / {{
      if ($arg_watch) {{ return 418; }}
      proxy_pass https://api;
    }}
    location @watch {{
      proxy_buffering off;
      proxy_pass https://api;
    }}
  }}
}}
",
        ca = pki("ca.crt"),
        certificate = pki("apiserver.crt"),
        key = pki("apiserver.key"),
    )
}
