//! The addresses of the configuration. One that is taken is waited for, and everything else goes on: an agent of another
//! version may be about to leave it.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// Between two attempts.
const RETRY: Duration = Duration::from_secs(2);

/// The addresses that could not be taken so far, each with what to do.
#[derive(Debug, Default)]
pub(super) struct Ports {
    waiting: Mutex<BTreeMap<SocketAddr, String>>,
}

impl Ports {
    /// A non-blocking listener, or a line in the log and in the status. `field`: where the address is configured.
    pub(super) fn bind(&self, field: &str, address: SocketAddr) -> Option<TcpListener> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        match listen(address) {
            Ok(listener) => {
                if waiting.remove(&address).is_some() {
                    tracing::info!(field, %address, "listens now");
                }
                Some(listener)
            }
            Err(error) => {
                let condition = format!(
                    "{field}: cannot listen on {address} ({error}): stop what has that port or choose another one; tried again every {} s",
                    RETRY.as_secs()
                );
                if waiting.insert(address, condition.clone()).is_none() {
                    tracing::error!("{condition}");
                }
                None
            }
        }
    }

    /// Tries until it listens. `None`: `stop` came first.
    pub(super) async fn wait(
        &self,
        field: &str,
        address: SocketAddr,
        stop: &CancellationToken,
    ) -> Option<TcpListener> {
        stop.run_until_cancelled(async {
            loop {
                if let Some(listener) = self.bind(field, address) {
                    return listener;
                }
                tokio::time::sleep(RETRY).await;
            }
        })
        .await
    }

    pub(super) fn waiting(&self) -> Vec<SocketAddr> {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.keys().copied().collect()
    }

    pub(super) fn conditions(&self) -> Vec<String> {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.values().cloned().collect()
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_named_until_it_is_free() {
        let squatter = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = squatter.local_addr().unwrap();
        let ports = Ports::default();
        assert!(ports.bind("listen", address).is_none());
        assert!(ports.conditions()[0].contains(&address.to_string()));
        drop(squatter);
        assert!(ports.bind("listen", address).is_some());
        assert!(ports.conditions().is_empty());
    }
}
