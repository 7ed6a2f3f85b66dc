//! One more proxy to put beside the others: whatever answers at an address of the node.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::net::TcpStream;

use super::within::within;
use crate::process::output;
use crate::{ApiServer, Node, Process, eventually};

/// It may be started by hand, with what is printed.
const THERE_WITHIN: Duration = Duration::from_secs(600);

/// The kernel closes the socket of a process that was killed.
const ENDED_WITHIN: Duration = Duration::from_secs(5);

/// What was given on the command line.
#[derive(Clone, Debug)]
pub struct Asked {
    address: SocketAddr,
    /// The cluster's, if none is given.
    ca: Option<PathBuf>,
    /// Who listens there, if none is given.
    pid: Option<u32>,
}

/// A proxy that is there.
pub struct Other {
    pub address: String,
    pub ca: PathBuf,
    pub pids: Vec<u32>,
    asked: Asked,
    /// What was started here, and by which command; it ends with this.
    started: Option<(Process, String)>,
}

impl FromStr for Asked {
    type Err = anyhow::Error;

    /// `ADDRESS[,CA[,PID]]`, where CA may be empty.
    fn from_str(text: &str) -> Result<Self> {
        let mut words = text.split(',');
        let address = words.next().unwrap_or_default();
        let address = address
            .parse()
            .with_context(|| format!("{address:?} is no ADDRESS:PORT"))?;
        let ca = words.next().filter(|word| !word.is_empty());
        let pid = words.next().map(str::parse).transpose().context("PID")?;
        if let Some(more) = words.next() {
            bail!("{more:?} comes after ADDRESS,CA,PID");
        }
        Ok(Self {
            address,
            ca: ca.map(PathBuf::from),
            pid,
        })
    }
}

impl Asked {
    /// Runs `command`, if there is one, in the node's network namespace, and waits until the address answers.
    pub fn find(&self, node: &Node, api: &ApiServer<'_>, command: Option<&str>) -> Result<Other> {
        let file = |name: &str| api.pki().path(name).display().to_string();
        let told = [
            ("UPSTREAM", api.url()),
            ("CA", file("ca.crt")),
            ("CERT", file("apiserver.crt")),
            ("KEY", file("apiserver.key")),
            ("LISTEN", self.address.to_string()),
        ];
        let started = match command {
            Some(command) => {
                let mut shell = node.command("sh", ["-c", command]);
                let process = Process::spawn("other", node.folder(), shell.envs(told))?;
                Some((process, command.to_owned()))
            }
            None => {
                eprintln!("waiting for another proxy; start it with");
                let words: Vec<String> = told
                    .iter()
                    .map(|(name, value)| format!("{name}={value}"))
                    .collect();
                eprintln!("  {} ip netns exec {} ...", words.join(" "), node.netns());
                None
            }
        };
        eventually("the other proxy to answer", THERE_WITHIN, || {
            if let Some((process, _)) = started.as_ref().filter(|(process, _)| !process.runs()) {
                bail!("it ended:\n{}", process.tail());
            }
            within(&node.netns(), || async {
                Ok(TcpStream::connect(self.address).await.map(drop)?)
            })
        })?;
        let pids = match self.pid {
            Some(pid) => vec![pid],
            None => listeners(node, self.address)?,
        };
        if pids.is_empty() {
            eprintln!(
                "who listens at {} is not known: no CPU, no memory",
                self.address
            );
        }
        Ok(Other {
            address: self.address.to_string(),
            ca: self.ca.clone().unwrap_or_else(|| api.pki().path("ca.crt")),
            pids,
            asked: self.clone(),
            started,
        })
    }
}

impl Other {
    /// One that has done nothing yet, if it was started here.
    pub fn renew(self, node: &Node, api: &ApiServer<'_>) -> Result<Self> {
        let Some((process, command)) = self.started else {
            return Ok(self);
        };
        drop(process);
        eventually(
            "the port of the other proxy to be free",
            ENDED_WITHIN,
            || {
                let listening = listeners(node, self.asked.address)?;
                ensure!(
                    listening.is_empty(),
                    "{listening:?} still listen: its command is to end with what it starts, as by `exec`"
                );
                Ok(())
            },
        )?;
        // The process that was given is gone.
        let asked = Asked {
            pid: None,
            ..self.asked
        };
        asked.find(node, api, Some(&command))
    }
}

/// The processes that hold the listening socket of this port on the node.
fn listeners(node: &Node, address: SocketAddr) -> Result<Vec<u32>> {
    let port = format!("sport = :{}", address.port());
    let text = output(&mut node.command("ss", ["-Hltnp", &port]))?;
    let mut pids: Vec<u32> = text
        .split("pid=")
        .skip(1)
        .filter_map(|rest| rest.split([',', ')']).next()?.parse().ok())
        .collect();
    pids.sort_unstable();
    pids.dedup();
    Ok(pids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_proxy_is_an_address_and_perhaps_a_ca_and_a_pid() -> Result<()> {
        let all: Asked = "127.0.0.1:9443,/tmp/ca.crt,17".parse()?;
        assert_eq!(all.ca, Some(PathBuf::from("/tmp/ca.crt")));
        assert_eq!(all.pid, Some(17));
        let address: Asked = "127.0.0.1:9443,".parse()?;
        assert_eq!((address.ca, address.pid), (None, None));
        assert!("localhost".parse::<Asked>().is_err());
        assert!("127.0.0.1:9443,,seventeen".parse::<Asked>().is_err());
        assert!("127.0.0.1:9443,,17,more".parse::<Asked>().is_err());
        Ok(())
    }
}
