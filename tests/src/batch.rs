//! Many requests of the administrator over one connection: a process and a handshake for each would cost more than the
//! API server's own work.

use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::ApiServer;

/// No request takes longer; one that is not answered is one that failed.
const ANSWER_WITHIN: &str = "20";
/// Begins the line that curl writes behind each body.
const MARK: &str = "## ";

/// Requests in their order.
#[derive(Default)]
pub struct Batch {
    requests: Vec<Request>,
}

struct Request {
    method: &'static str,
    path: String,
    body: Option<Value>,
}

impl Batch {
    pub fn get(&mut self, path: &str) {
        self.push("GET", path, None);
    }

    pub fn create(&mut self, collection: &str, object: Value) {
        self.push("POST", collection, Some(object));
    }

    /// A merge patch.
    pub fn patch(&mut self, path: &str, patch: Value) {
        self.push("PATCH", path, Some(patch));
    }

    pub fn delete(&mut self, path: &str) {
        self.push("DELETE", path, None);
    }

    fn push(&mut self, method: &'static str, path: &str, body: Option<Value>) {
        self.requests.push(Request {
            method,
            path: path.to_owned(),
            body,
        });
    }

    /// Sends them one after the other, on the control plane's own side; the answers' bodies if all were 2xx.
    pub fn send(&self, api: &ApiServer<'_>) -> Result<Vec<Value>> {
        let answers = self.try_send(api)?;
        let mut bodies = Vec::new();
        for (request, (status, body)) in self.requests.iter().zip(answers) {
            if !(200..300).contains(&status) {
                bail!("{} {}: HTTP {status}: {body}", request.method, request.path);
            }
            bodies.push(serde_json::from_str(&body)?);
        }
        Ok(bodies)
    }

    /// As [`Batch::send`], whatever the answers are: status and body of each, status 0 where there was none.
    pub fn try_send(&self, api: &ApiServer<'_>) -> Result<Vec<(u16, String)>> {
        let folder = tempfile::tempdir()?;
        let config = folder.path().join("requests");
        fs::write(&config, self.config(api)?)?;
        let output = api.curl().arg("--config").arg(&config).output()?;
        let answers = answers(&String::from_utf8_lossy(&output.stdout))?;
        if answers.len() != self.requests.len() {
            bail!(
                "{} answers to {} requests: {}",
                answers.len(),
                self.requests.len(),
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(answers)
    }

    /// curl's options, a block for each request. A JSON string is a quoted string of curl's.
    fn config(&self, api: &ApiServer<'_>) -> Result<String> {
        let mut text = String::new();
        for request in &self.requests {
            if !text.is_empty() {
                text.push_str("next\n");
            }
            text.push_str("silent\ngloboff\n");
            let mut options = vec![
                ("url", format!("{}{}", api.url(), request.path)),
                ("request", request.method.to_owned()),
                ("max-time", ANSWER_WITHIN.to_owned()),
                ("write-out", format!("\n{MARK}%{{http_code}}\n")),
            ];
            for (option, file) in [
                ("cacert", "ca.crt"),
                ("cert", "admin.crt"),
                ("key", "admin.key"),
            ] {
                options.push((option, api.pki().path(file).display().to_string()));
            }
            if let Some(body) = &request.body {
                let kind = match request.method {
                    "PATCH" => "application/merge-patch+json",
                    _ => "application/json",
                };
                options.push(("header", format!("Content-Type: {kind}")));
                options.push(("data-binary", body.to_string()));
            }
            for (option, value) in options {
                writeln!(text, "{option} = {}", serde_json::to_string(&value)?)?;
            }
        }
        Ok(text)
    }
}

fn answers(text: &str) -> Result<Vec<(u16, String)>> {
    let mut answers = Vec::new();
    let mut body = String::new();
    for line in text.lines() {
        match line.strip_prefix(MARK) {
            Some(status) => answers.push((
                status.parse().context("curl tells a status")?,
                std::mem::take(&mut body),
            )),
            None => body.push_str(line),
        }
    }
    Ok(answers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_is_the_text_up_to_its_mark() -> Result<()> {
        let told = answers("{\"a\":1}\n\n## 200\n\n## 000\n")?;
        assert_eq!(told, [(200, "{\"a\":1}".to_owned()), (0, String::new())]);
        Ok(())
    }
}
