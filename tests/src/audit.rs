//! The API server's audit log: what reached it, from whom.

use std::path::PathBuf;

use anyhow::Result;
use serde_json::Value;

/// The log, read anew for each question.
pub struct AuditLog {
    path: PathBuf,
}

/// A place in the log: requests after it are those since then.
#[derive(Clone, Copy, Debug)]
pub struct Mark(usize);

/// One request that reached the API server.
#[derive(Clone, Debug)]
pub struct Entry {
    pub verb: String,
    pub resource: String,
    pub user: String,
    pub uri: String,
    pub code: u64,
}

impl Entry {
    /// True for a LIST, and for a watch that asks for what is there already.
    pub fn is_list(&self) -> bool {
        self.verb == "list" || self.uri.contains("sendInitialEvents=true")
    }
}

impl AuditLog {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// The end of the log now.
    pub fn mark(&self) -> Result<Mark> {
        Ok(Mark(self.text()?.len()))
    }

    /// Requests since `mark`, each once: a watch when it began, everything else when it was answered.
    pub fn since(&self, mark: Mark) -> Result<Vec<Entry>> {
        let text = self.text()?;
        let lines = text.get(mark.0..).unwrap_or_default().lines();
        let events = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
        Ok(events.filter(is_first).map(|event| entry(&event)).collect())
    }

    fn text(&self) -> Result<String> {
        Ok(std::fs::read_to_string(&self.path)?)
    }
}

/// A long request is written twice, when it starts to answer and when it ends.
fn is_first(event: &Value) -> bool {
    let wanted = if event["verb"] == "watch" && event["responseStatus"]["code"] == 200 {
        "ResponseStarted"
    } else {
        "ResponseComplete"
    };
    event["stage"] == wanted
}

fn entry(event: &Value) -> Entry {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Entry {
        verb: text(&event["verb"]),
        resource: text(&event["objectRef"]["resource"]),
        user: text(&event["user"]["username"]),
        uri: text(&event["requestURI"]),
        code: event["responseStatus"]["code"].as_u64().unwrap_or_default(),
    }
}
