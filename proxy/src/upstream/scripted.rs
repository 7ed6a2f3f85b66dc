//! An upstream without a network: whoever makes it answers each request, and says what the uplink is.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::{Request, Response};

use super::{Lane, Upstream};
use crate::body::Body;
use crate::config;
use crate::policy::{Failure, Uplink};
use crate::runtime::metrics::Metrics;

/// Answers in place of the API servers.
pub(crate) trait Script: Send + Sync {
    fn forward(
        &self,
        lane: &Lane,
        request: Request<Body>,
        read: bool,
    ) -> BoxFuture<'static, Result<Response<Body>, Failure>>;
}

impl Upstream {
    /// Nothing is dialled and nothing is probed; `ca_file` is read all the same. The uplink is up.
    pub(crate) fn scripted(ca_file: &Path, script: Arc<dyn Script>) -> Arc<Self> {
        let config = config::Upstream {
            servers: Vec::new(),
            ca_file: ca_file.to_owned(),
            strategy: config::Strategy::Priority,
            credential: config::OwnCredential::None,
            probe: config::Probe {
                path: "/livez".to_owned(),
                interval: Duration::from_secs(5),
                down_interval: Duration::from_secs(1),
                timeout: Duration::from_secs(2),
            },
            answer_timeout: Duration::from_secs(1),
            resume_jitter: Duration::from_secs(1),
        };
        let tag: super::TagDial = Arc::new(|_| Ok(()));
        let made = Self::new(&config, tag, Arc::new(Metrics::new())).expect("a CA");
        let mut made = Arc::into_inner(made).expect("the only one");
        made.script = Some(script);
        let made = Arc::new(made);
        made.set_uplink(Uplink::Up);
        made
    }

    pub(crate) fn set_uplink(&self, uplink: Uplink) {
        self.board.uplink().set(uplink);
    }
}
