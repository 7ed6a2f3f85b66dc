//! Whether the uplink is down, kept for the next process: one that is started in the dark begins there.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::policy::Uplink;
use crate::serve::Serve;

/// Keeps it up to date, until `stop`.
pub(super) async fn remember(serve: Arc<Serve>, stop: CancellationToken) {
    let mut uplink = serve.upstream.follow();
    stop.run_until_cancelled(async {
        loop {
            serve.cache.keep_dark(uplink.get() == Uplink::Down);
            uplink.changed().await;
        }
    })
    .await;
}
