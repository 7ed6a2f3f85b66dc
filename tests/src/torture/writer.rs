//! Changes objects at the API server itself, all the while.

use std::time::Duration;

use anyhow::{Result, bail};
use fastrand::Rng;
use serde_json::{Value, json};

use super::http::{Client, Dialer};
use super::world::{Half, ITEMS, Topic, World, item};

/// Between two changes: about sixty a second.
const RESTS: Duration = Duration::from_millis(12);
/// Bytes of an object beside its metadata.
const PAYLOAD: usize = 300;

pub(super) struct Writer {
    client: Client,
    rng: Rng,
}

impl Writer {
    pub(super) fn new(dialer: Dialer, seed: u64) -> Self {
        Self {
            client: Client::new(dialer),
            rng: Rng::with_seed(seed),
        }
    }

    /// Makes everything that is written later; `owners` have one object each.
    pub(super) async fn fill(&mut self, world: &World, owners: &[String]) -> Result<()> {
        for topic in &world.topics {
            for number in 0..ITEMS {
                self.create(topic, &item(number)).await?;
            }
        }
        for owner in owners {
            self.create(&world.topics[0], &format!("own-{owner}"))
                .await?;
        }
        Ok(())
    }

    /// Changes one object after the other.
    pub(super) async fn run(mut self, world: &World) -> Result<()> {
        loop {
            for topic in &world.topics {
                self.change(topic).await?;
                world.tally.counts().writes += 1;
                tokio::time::sleep(RESTS.mul_f64(self.rng.f64() * 2.0)).await;
            }
        }
    }

    async fn change(&mut self, topic: &Topic) -> Result<()> {
        let name = item(self.rng.usize(..ITEMS));
        let path = format!("{}/{name}", topic.path);
        if self.rng.u8(..10) == 0 {
            return match self.ask("DELETE", &path, None).await? {
                200 | 404 => Ok(()),
                code => bail!("DELETE {path}: HTTP {code}"),
            };
        }
        let patch = json!({"metadata": {"annotations": {"n": self.rng.u32(..).to_string()}}});
        match self.ask("PATCH", &path, Some(&patch)).await? {
            200 => Ok(()),
            404 => self.create(topic, &name).await,
            code => bail!("PATCH {path}: HTTP {code}"),
        }
    }

    async fn create(&mut self, topic: &Topic, name: &str) -> Result<()> {
        let half = Half::of(name).map_or("none", Half::word);
        let object = json!({
            "apiVersion": "v1", "kind": topic.kind,
            "metadata": {"name": name, "labels": {"half": half}, "annotations": {"payload": "x".repeat(PAYLOAD)}},
        });
        match self.ask("POST", topic.path, Some(&object)).await? {
            201 | 409 => Ok(()),
            code => bail!("POST {name}: HTTP {code}"),
        }
    }

    async fn ask(&mut self, method: &str, path: &str, body: Option<&Value>) -> Result<u16> {
        Ok(self.client.ask(method, path, body).await?.status.as_u16())
    }
}
