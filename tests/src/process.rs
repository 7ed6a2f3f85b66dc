//! A started program, its output in files: what it wrote can be read again and again, and it lives on when a demo that
//! keeps its cluster ends.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::eventually;

/// A program that runs beside the test; killed when dropped, unless it was let go.
pub struct Process {
    name: String,
    pid: u32,
    child: Mutex<Child>,
    out: PathBuf,
    err: PathBuf,
    let_go: bool,
}

impl Process {
    /// Starts `command`; its output goes to `<folder>/log/<name>.out` and `.err`, emptied first.
    pub fn spawn(name: &str, folder: &Path, command: &mut Command) -> Result<Self> {
        let (out, err) = (
            folder.join("log").join(format!("{name}.out")),
            folder.join("log").join(format!("{name}.err")),
        );
        command
            .stdin(Stdio::null())
            .stdout(File::create(&out)?)
            .stderr(File::create(&err)?);
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Self {
            name: name.to_owned(),
            pid: child.id(),
            child: Mutex::new(child),
            out,
            err,
            let_go: false,
        })
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// What it wrote to standard output so far.
    pub fn stdout(&self) -> String {
        fs::read(&self.out)
            .map(|all| String::from_utf8_lossy(&all).into_owned())
            .unwrap_or_default()
    }

    /// What it wrote to standard error so far.
    pub fn stderr(&self) -> String {
        fs::read(&self.err)
            .map(|all| String::from_utf8_lossy(&all).into_owned())
            .unwrap_or_default()
    }

    /// The complete lines of its standard output that are JSON.
    pub fn lines(&self) -> Vec<Value> {
        let text = self.stdout();
        let complete = text.rfind('\n').map_or("", |end| &text[..end]);
        complete
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// Waits until `found` sees what it looks for in the JSON lines; a program that ended will write no more.
    pub fn wait_for<T>(
        &self,
        what: &str,
        deadline: Duration,
        found: impl Fn(&[Value]) -> Option<T>,
    ) -> Result<T> {
        let wanted = format!("{what} from {}", self.name);
        let waited = eventually(&wanted, deadline, || {
            let ended = self.child().try_wait()?;
            match (found(&self.lines()), ended) {
                (Some(value), _) => Ok(Ok(value)),
                (None, Some(status)) => Ok(Err(status)),
                (None, None) => bail!("not seen; it wrote:\n{}", self.tail()),
            }
        })?;
        waited.map_err(|status| {
            anyhow::anyhow!(
                "{} ended ({status}) before {what}; it wrote:\n{}",
                self.name,
                self.tail()
            )
        })
    }

    /// Waits until an informer says that it has all; its line that says so.
    pub fn synced(&self, deadline: Duration) -> Result<Value> {
        self.wait_for("an informer's sync", deadline, |lines| {
            let mut lines = lines.iter();
            lines.find(|line| line["event"] == "synced").cloned()
        })
    }

    /// The last lines of both outputs.
    pub fn tail(&self) -> String {
        let last = |text: String| {
            let lines: Vec<&str> = text.lines().collect();
            lines[lines.len().saturating_sub(15)..].join("\n")
        };
        format!("{}\n{}", last(self.stdout()), last(self.stderr()))
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.pid()).context("a pid is an i32")?;
        kill(Pid::from_raw(pid), signal).with_context(|| format!("cannot signal {}", self.name))
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&self) -> Result<()> {
        self.child().kill()?;
        self.child().wait()?;
        Ok(())
    }

    /// Waits for its own end.
    pub fn wait(&self, deadline: Duration) -> Result<ExitStatus> {
        let what = format!("the end of {}", self.name);
        eventually(&what, deadline, || {
            self.child().try_wait()?.context("it still runs")
        })
    }

    /// True while it runs.
    pub fn runs(&self) -> bool {
        matches!(self.child().try_wait(), Ok(None))
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        // A child is a number and three pipes: no panic leaves it half changed.
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves it running when this value is dropped.
    pub fn let_go(&mut self) {
        self.let_go = true;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.let_go {
            // Gone already is what is wanted.
            let _ = self.kill();
        }
    }
}

/// Runs `command` to its end and returns its standard output; a failure carries its standard error.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {command:?}"))?;
    if !output.status.success() {
        bail!(
            "{command:?}: {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The words of coreutils' `timeout` for a program that runs to its end: no test waits for ever.
pub(crate) fn bounded(program: &Path, args: &[&str]) -> Vec<OsString> {
    let words = args.iter().map(|arg| OsString::from(*arg));
    [OsString::from("60"), program.as_os_str().to_owned()]
        .into_iter()
        .chain(words)
        .collect()
}
