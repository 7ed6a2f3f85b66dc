//! The issuer's keys: fetched with Holdfast's own credential while the uplink is there, kept for the dark.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::identity::IssuerKeys;
use crate::policy::Uplink;
use crate::serve::Serve;

/// The API server says `max-age=3600` of them.
const REFRESH: Duration = Duration::from_secs(3600);

/// After a failed fetch.
const RETRY: Duration = Duration::from_secs(5);

/// Fetches the keys as soon as the uplink allows it, then every hour, until `stop`.
pub(super) async fn refresh(serve: Arc<Serve>, stop: CancellationToken) {
    let mut uplink = serve.upstream.subscribe();
    stop.run_until_cancelled(async {
        loop {
            if *uplink.borrow_and_update() == Uplink::Down {
                if uplink.changed().await.is_err() {
                    return;
                }
                continue;
            }
            let pause = match fetch(&serve).await {
                Ok(()) => REFRESH,
                Err(error) => {
                    tracing::debug!(%error, "the issuer's keys could not be fetched");
                    RETRY
                }
            };
            tokio::time::sleep(pause).await;
        }
    })
    .await;
}

async fn fetch(serve: &Serve) -> anyhow::Result<()> {
    let upstream = &serve.upstream;
    let discovery = upstream
        .own_get("/.well-known/openid-configuration")
        .await?;
    let jwks = upstream.own_get("/openid/v1/jwks").await?;
    let keys = IssuerKeys::from_documents(&discovery, &jwks)?;
    serve.identity.set_keys(keys.clone())?;
    serve.cache.keep_issuer_keys(&keys);
    tracing::debug!(issuer = keys.issuer, "the issuer's keys are known");
    Ok(())
}
