//! One HTTP exchange by curl: a real client of another TLS stack, run wherever a command can be run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Seconds after which an exchange ends that is not told another limit: no test waits for ever.
const GIVE_UP_AFTER: &str = "30";

/// A request; run it with [`Curl::run`] through the command maker of a pod or a node.
pub struct Curl {
    args: Vec<String>,
    body: Option<Vec<u8>>,
}

/// What came back.
#[derive(Debug)]
pub struct Reply {
    /// The HTTP status; 0 when there was no answer.
    pub status: u16,
    /// Header lines as they came, the names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// curl's own exit code: 0, or 7 cannot connect, 28 timed out, 60 the certificate does not verify, ...
    pub exit: i64,
    /// What `getpeername` said.
    pub remote: String,
    /// From curl's start to the connection, the first byte, and the end.
    pub connected: Duration,
    pub first_byte: Duration,
    pub total: Duration,
    /// The server's certificate chain as curl prints it, leaf first.
    pub certificates: String,
    /// curl's one-line reason for a failure.
    pub error: String,
}

impl Curl {
    /// `GET url`, certificates verified against `ca`.
    pub fn get(url: &str, ca: &Path) -> Self {
        let args = [
            "--silent",
            "--show-error",
            "--no-buffer",
            "--globoff",
            "--max-time",
            GIVE_UP_AFTER,
            "--cacert",
        ]
        .map(str::to_owned)
        .to_vec();
        let curl = Self { args, body: None };
        curl.arg(&ca.to_string_lossy()).arg(url)
    }

    /// One more word of curl's command line.
    pub fn arg(mut self, word: &str) -> Self {
        self.args.push(word.to_owned());
        self
    }

    /// A request header.
    pub fn header(self, name: &str, value: &str) -> Self {
        self.arg("--header").arg(&format!("{name}: {value}"))
    }

    /// `Authorization: Bearer`.
    pub fn token(self, token: &str) -> Self {
        self.header("Authorization", &format!("Bearer {token}"))
    }

    /// Another method.
    pub fn method(self, method: &str) -> Self {
        self.arg("--request").arg(method)
    }

    /// A body and its type.
    pub fn body(mut self, media_type: &str, body: &[u8]) -> Self {
        self.body = Some(body.to_vec());
        self.header("Content-Type", media_type)
    }

    /// Ends the exchange after this long; what came until then is the reply (a watch).
    pub fn at_most(self, limit: Duration) -> Self {
        self.arg("--max-time").arg(&limit.as_secs_f64().to_string())
    }

    /// Runs it in the place of `command`; files of the exchange are made in `folder`. No answer is a reply with status 0.
    pub fn run(
        self,
        folder: &Path,
        command: impl FnOnce(&str, &[String]) -> Command,
    ) -> Result<Reply> {
        let files = Files::new(folder);
        let mut args = self.args;
        for (flag, path) in [("--dump-header", &files.head), ("--output", &files.out)] {
            args.extend([flag.to_owned(), path.to_string_lossy().into_owned()]);
        }
        if let Some(body) = &self.body {
            fs::write(&files.body, body)?;
            args.extend([
                "--data-binary".to_owned(),
                format!("@{}", files.body.display()),
            ]);
        }
        args.extend(["--write-out", "%{json}\n%{certs}"].map(str::to_owned));
        let output = command("curl", &args)
            .output()
            .context("cannot start curl")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (report, certificates) = text.split_once("}\n").unwrap_or((&text, ""));
        let Ok(report) = serde_json::from_str::<Value>(&format!("{report}}}")) else {
            bail!(
                "curl did not run: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
        };
        let seconds =
            |name: &str| Duration::from_secs_f64(report[name].as_f64().unwrap_or_default());
        Ok(Reply {
            status: report["http_code"]
                .as_u64()
                .and_then(|code| u16::try_from(code).ok())
                .unwrap_or_default(),
            headers: headers(&fs::read_to_string(&files.head).unwrap_or_default()),
            body: fs::read(&files.out).unwrap_or_default(),
            exit: report["exitcode"].as_i64().unwrap_or(-1),
            remote: report["remote_ip"].as_str().unwrap_or_default().to_owned(),
            connected: seconds("time_connect"),
            first_byte: seconds("time_starttransfer"),
            total: seconds("time_total"),
            certificates: certificates.to_owned(),
            error: report["errormsg"].as_str().unwrap_or_default().to_owned(),
        })
    }
}

impl Reply {
    /// The body as JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body)
            .with_context(|| format!("HTTP {}: not JSON: {}", self.status, self.text()))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header by its lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// The reply itself if its status is `status`.
    pub fn expect(self, status: u16) -> Result<Self> {
        if self.status != status {
            bail!(
                "HTTP {} instead of {status}: {} {}",
                self.status,
                self.text(),
                self.error
            );
        }
        Ok(self)
    }
}

/// The last block of header lines: earlier ones are of 1xx answers.
fn headers(dump: &str) -> Vec<(String, String)> {
    let block = dump
        .trim_end()
        .rsplit("\r\n\r\n")
        .next()
        .unwrap_or_default();
    let lines = block.lines().filter_map(|line| line.split_once(": "));
    lines
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim_end().to_owned()))
        .collect()
}

struct Files {
    head: PathBuf,
    out: PathBuf,
    body: PathBuf,
}

impl Files {
    fn new(folder: &Path) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = |kind: &str| folder.join(format!("curl-{number}.{kind}"));
        Self {
            head: path("head"),
            out: path("out"),
            body: path("body"),
        }
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        for path in [&self.head, &self.out, &self.body] {
            // A file that curl never made is none to remove.
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_those_of_the_last_block() {
        let dump = "HTTP/1.1 100 Continue\r\n\r\nHTTP/2 200\r\nContent-Type: a/b\r\nAge: 3\r\n\r\n";
        assert_eq!(
            headers(dump),
            [
                ("content-type".to_owned(), "a/b".to_owned()),
                ("age".to_owned(), "3".to_owned())
            ]
        );
    }
}
