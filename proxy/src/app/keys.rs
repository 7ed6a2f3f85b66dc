//! The issuer's keys: fetched with Holdfast's own credential while the uplink is there, kept for the dark.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::cache::Cache;
use crate::identity::{Identity, IssuerKeys};
use crate::policy::Uplink;
use crate::runtime::latest::Follower;
use crate::serve::Serve;

/// The API server says `max-age=3600` of them.
const REFRESH: Duration = Duration::from_secs(3600);

/// How soon a new key of the issuer is fetched, and how often at most somebody's invented one makes Holdfast ask.
const ROTATED: Duration = Duration::from_secs(30);

/// After a failed fetch.
const RETRY: Duration = Duration::from_secs(5);

/// Fetches the keys as soon as the uplink allows it, then every hour, until `stop`.
pub(super) async fn refresh(serve: Arc<Serve>, stop: CancellationToken) {
    let mut uplink = serve.upstream.follow();
    let mut is_known = serve.cache.issuer_keys().is_some();
    stop.run_until_cancelled(async {
        loop {
            if uplink.get() == Uplink::Down {
                match is_known {
                    true => uplink.changed().await,
                    // The disk that they are on may come late.
                    false => pause(&mut uplink).await,
                }
                is_known = is_known || restore(&serve.cache, &serve.identity);
                continue;
            }
            match fetch(&serve).await {
                Ok(()) => {
                    is_known = true;
                    fresh_for_a_while(&serve).await;
                }
                Err(error) => {
                    tracing::debug!(%error, "the issuer's keys could not be fetched");
                    pause(&mut uplink).await;
                }
            }
        }
    })
    .await;
}

/// The keys that were kept, if there are any.
pub(super) fn restore(cache: &Cache, identity: &Identity) -> bool {
    let Some(keys) = cache.issuer_keys() else {
        return false;
    };
    if let Err(error) = identity.set_keys(keys) {
        tracing::warn!(%error, "the issuer's keys that were kept can't be used");
    }
    true
}

/// After a failed fetch: not longer than until the uplink is another than before it. What is read while no key is known is not
/// learnt, and a client that holds it by then does not list it again.
async fn pause(uplink: &mut Follower<Uplink>) {
    let _ = tokio::time::timeout(RETRY, uplink.changed()).await;
}

/// Until the keys are due again: after an hour, or when a token was signed by a key they do not hold.
async fn fresh_for_a_while(serve: &Serve) {
    serve.identity.take_unknown_key();
    let due = tokio::time::Instant::now() + REFRESH;
    while tokio::time::Instant::now() < due {
        tokio::time::sleep(ROTATED).await;
        if serve.identity.take_unknown_key() {
            tracing::debug!("a token names a key that is not known: the issuer may have rotated");
            return;
        }
    }
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

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::runtime::latest::Latest;

    #[tokio::test(start_paused = true)]
    async fn keys_that_could_not_be_fetched_are_asked_for_again_once_the_uplink_is_back() {
        let latest = Latest::new(Uplink::Up);
        let mut uplink = latest.follow();
        let began = Instant::now();
        uplink.get();
        // The fetch fails of it.
        latest.set(Uplink::Down);
        pause(&mut uplink).await;
        assert_eq!(uplink.get(), Uplink::Down);
        assert_eq!(began.elapsed(), Duration::ZERO);
        // The API server answers, and not with keys.
        pause(&mut uplink).await;
        assert_eq!(began.elapsed(), RETRY);
    }
}
