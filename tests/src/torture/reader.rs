//! A client that reads, and now and then writes an object of its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use fastrand::Rng;
use serde_json::json;

use super::http::{Client, Dialer, Reply, UNANSWERED};
use super::truth::{items, version};
use super::witness::{self, Witness};
use super::world::{Half, ITEMS, World, item};

/// Between two requests.
const THINKS: Duration = Duration::from_millis(25);
/// What cannot be connected to is not tried again at once.
const PAUSE: Duration = Duration::from_millis(5);
const PAGE: usize = 16;

pub(super) struct Reader {
    pub(super) name: String,
    pub(super) world: Arc<World>,
    pub(super) witness: Arc<Witness>,
    client: Client,
    rng: Rng,
}

impl Reader {
    pub(super) fn new(
        name: &str,
        world: Arc<World>,
        witness: Arc<Witness>,
        dialer: Dialer,
        seed: u64,
    ) -> Self {
        Self {
            name: name.to_owned(),
            world,
            witness,
            client: Client::new(dialer),
            rng: Rng::with_seed(seed),
        }
    }

    /// Reads until the world ends, or it is told what cannot be.
    pub(super) async fn run(mut self) -> Result<()> {
        while !self.world.is_over() {
            let topic = usize::from(self.rng.u8(..10) == 0);
            let asked = match self.rng.u8(..100) {
                0..45 => {
                    let name = item(self.rng.usize(..ITEMS));
                    self.get(topic, &name).await
                }
                45..70 => self.list(topic, None).await,
                70..85 => {
                    let half = if self.rng.bool() {
                        Half::Left
                    } else {
                        Half::Right
                    };
                    self.list(topic, Some(half)).await
                }
                85..93 => self.pages(topic).await,
                _ => self.write().await,
            };
            asked.with_context(|| self.name.clone())?;
            let thinks = THINKS.mul_f64(self.rng.f64());
            tokio::time::sleep(thinks).await;
        }
        Ok(())
    }

    async fn get(&mut self, topic: usize, name: &str) -> Result<()> {
        let path = format!("{}/{name}", self.world.topics[topic].path);
        let floor = self.witness.of_object(topic, name);
        let Some(reply) = self.read(&path).await? else {
            return Ok(());
        };
        let truth = &self.world.topics[topic].truth;
        let said = || format!("GET {name} {}", self.world.moment());
        match reply.status.as_u16() {
            200 => {
                let version = version(&reply.body)?;
                let checked = witness::object(truth, name, version, &floor).await;
                checked.with_context(said)?;
                self.witness.tell_object(topic, name, version, said);
            }
            404 => {
                let absent = witness::absence(truth, name, &floor).await;
                let absent = absent.with_context(said)?;
                self.witness.tell_object(topic, name, absent, said);
            }
            code => bail!("GET {name}: HTTP {code}: {}", reply.body),
        }
        Ok(())
    }

    async fn list(&mut self, topic: usize, half: Option<Half>) -> Result<()> {
        let path = self.world.topics[topic].path;
        let path = match half {
            Some(half) => format!("{path}?labelSelector=half%3D{}", half.word()),
            None => path.to_owned(),
        };
        let floor = self.witness.of_scope(topic, half);
        let shown = self.witness.of_objects(topic);
        let Some(reply) = self.read(&path).await? else {
            return Ok(());
        };
        ensure!(reply.status == 200, "GET {path}: {}", reply.body);
        let said = || format!("LIST {path} {}", self.world.moment());
        let told = (version(&reply.body)?, &items(&reply.body)?);
        witness::nothing_older(told.1, &shown).with_context(said)?;
        let is_selected = |name: &str| half.is_none_or(|half| Half::of(name) == Some(half));
        let truth = &self.world.topics[topic].truth;
        let checked = witness::list(truth, told, &floor, is_selected).await;
        checked.with_context(said)?;
        self.witness.tell_scope(topic, half, told.0, said);
        self.witness.tell_objects(topic, told.1, said);
        Ok(())
    }

    /// A list in pages is of one RV, or is given up.
    async fn pages(&mut self, topic: usize) -> Result<()> {
        let path = self.world.topics[topic].path;
        let floor = self.witness.of_scope(topic, None);
        let shown = self.witness.of_objects(topic);
        let mut all = BTreeMap::new();
        let mut token = String::new();
        let of = loop {
            let page = format!("{path}?limit={PAGE}&continue={token}");
            let Some(reply) = self.read(&page).await? else {
                return Ok(());
            };
            if reply.status == 410 && !token.is_empty() {
                return Ok(());
            }
            ensure!(reply.status == 200, "GET {page}: {}", reply.body);
            all.extend(items(&reply.body)?);
            match reply.body["metadata"]["continue"].as_str() {
                Some(next) if !next.is_empty() => token = next.to_owned(),
                _ => break version(&reply.body)?,
            }
        };
        let said = || format!("LIST {path} in pages {}", self.world.moment());
        witness::nothing_older(&all, &shown).with_context(said)?;
        let truth = &self.world.topics[topic].truth;
        let checked = witness::list(truth, (of, &all), &floor, |_| true).await;
        checked.with_context(said)?;
        self.witness.tell_scope(topic, None, of, said);
        self.witness.tell_objects(topic, &all, said);
        Ok(())
    }

    /// What it wrote it never reads older.
    async fn write(&mut self) -> Result<()> {
        let topic = 0;
        let name = format!("own-{}", self.name);
        let all = self.world.topics[topic].path.to_owned();
        let path = format!("{all}/{name}");
        let truth = &self.world.topics[topic].truth;
        let object = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name},
            "data": {"n": self.rng.u32(..).to_string()},
        });
        let (method, to, body) = match self.rng.u8(..4) {
            0 => ("DELETE", &path, None),
            1 => ("POST", &all, Some(&object)),
            _ => ("PATCH", &path, Some(&object)),
        };
        let before = self.witness.of_object(topic, &name);
        let written = self.client.ask(method, to, body).await;
        let said = || format!("{method} {name} {}", self.world.moment());
        match written {
            Ok(reply) if method == "DELETE" && reply.status == 200 => {
                let absent = witness::absence(truth, &name, &before).await;
                self.witness.tell_object(topic, &name, absent?, said);
            }
            Ok(reply) if matches!(reply.status.as_u16(), 200 | 201) => {
                let version = version(&reply.body)?;
                self.witness.tell_object(topic, &name, version, said);
            }
            // Not done, or nobody knows.
            _ => {}
        }
        self.get(topic, &name).await
    }

    /// `None`: refused, as may be, or cut off.
    async fn read(&mut self, path: &str) -> Result<Option<Reply>> {
        let before = self.world.link();
        let reply = match self.client.get(path).await {
            Ok(reply) => reply,
            Err(error) if error.to_string() == UNANSWERED => return Err(error),
            Err(_) => {
                self.world.tally.counts().cut_off += 1;
                tokio::time::sleep(PAUSE).await;
                return Ok(None);
            }
        };
        let mut counts = self.world.tally.counts();
        if self.world.link() != before {
            counts.in_between += 1;
            return Ok((!is_refusal(&reply)).then_some(reply));
        }
        let reads = match before.is_dark() {
            true => &mut counts.dark,
            false => &mut counts.light,
        };
        if is_refusal(&reply) {
            reads.refuse(&reply.body);
            return Ok(None);
        }
        reads.answered += 1;
        Ok(Some(reply))
    }
}

/// Holdfast does not know, or the API server is busy.
fn is_refusal(reply: &Reply) -> bool {
    matches!(reply.status.as_u16(), 429 | 500 | 503 | 504)
}
