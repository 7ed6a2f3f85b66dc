//! `holdfast status`: `/status` of the agent on this node, as tables or as it came.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail};
use http::{Request, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use super::print;

mod tables;

/// The agent answers from memory.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// A line per collection of a node that holds tens of thousands of them.
const LARGEST_ANSWER: usize = 16 << 20;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The agent's `admin.listen`
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:10446")]
    admin: SocketAddr,
    /// Tables for people, JSON for machines
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Output {
    Table,
    Json,
}

impl Args {
    pub(super) fn execute(self) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the runtime")?;
        let body = runtime.block_on(async {
            tokio::time::timeout(ANSWER_WITHIN, fetch(self.admin))
                .await
                .with_context(|| {
                    format!("{} did not answer within {ANSWER_WITHIN:?}", self.admin)
                })?
        })?;
        let status: Value = serde_json::from_slice(&body)
            .with_context(|| format!("{} answered with something that is not JSON", self.admin))?;
        let text = match self.output {
            Output::Json => format!("{status:#}\n"),
            Output::Table => tables::render(&status),
        };
        print(text.as_bytes())
    }
}

async fn fetch(admin: SocketAddr) -> anyhow::Result<Bytes> {
    let stream = TcpStream::connect(admin).await.with_context(|| {
        format!("no agent answers at {admin}; does it run here, and is its admin.listen another one (--admin)?")
    })?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get("/status")
        .header(header::HOST, admin.to_string())
        .body(Empty::<Bytes>::new())?;
    let exchange = async {
        let response = sender
            .send_request(request)
            .await
            .with_context(|| format!("{admin} hung up without an answer"))?;
        let code = response.status();
        let body = Limited::new(response.into_body(), LARGEST_ANSWER)
            .collect()
            .await;
        match body {
            Ok(body) if code.is_success() => Ok(body.to_bytes()),
            Ok(_) => bail!("{admin} answered {code}; is it Holdfast's admin address?"),
            Err(error) => bail!("the answer of {admin} broke off: {error}"),
        }
    };
    // The connection moves only while it is polled. It may end, answer and all, before the exchange was polled again.
    let broken = async {
        match connection.await {
            Err(error) => error,
            Ok(()) => std::future::pending().await,
        }
    };
    tokio::select! {
        body = exchange => body,
        error = broken => bail!("{admin} does not speak HTTP: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// What is fetched from an agent that says this and hangs up.
    async fn fetched(answer: &'static str) -> Result<Bytes, String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let admin = listener.local_addr().expect("an address");
        let agent = async {
            let (mut stream, _) = listener.accept().await.expect("accepted");
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await.expect("a request");
            stream.write_all(answer.as_bytes()).await.expect("sent");
        };
        let (body, ()) = tokio::join!(fetch(admin), agent);
        body.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn an_answer_is_read_to_its_end_although_the_agent_hangs_up_after_it() {
        for _ in 0..100 {
            let body =
                fetched("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}");
            assert_eq!(body.await.expect("an answer"), "{}");
        }
    }

    #[tokio::test]
    async fn a_stranger_at_the_address_is_told_apart() {
        let not_found = fetched("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").await;
        assert!(not_found.is_err_and(|told| told.contains("is it Holdfast's admin address?")));
        let ssh = fetched("SSH-2.0-OpenSSH\r\n").await;
        assert!(ssh.is_err());
        let cut = fetched("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}").await;
        assert!(cut.is_err());
    }
}
