//! The admin endpoints over real connections on loopback.

use std::sync::Mutex;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;

use super::*;

#[derive(Default)]
struct Agent {
    checks: Mutex<Vec<Check>>,
    filter: Mutex<String>,
}

impl Probe for Agent {
    fn checks(&self) -> Vec<Check> {
        self.checks.lock().expect("no panic").clone()
    }

    fn status(&self) -> serde_json::Value {
        json!({"uplink": "up"})
    }

    fn metrics(&self) -> String {
        "# EOF\n".to_owned()
    }

    fn log_filter(&self) -> String {
        self.filter.lock().expect("no panic").clone()
    }

    fn set_log_filter(&self, filter: &str) -> Result<(), String> {
        if filter.contains('!') {
            return Err("invalid filter directive".to_owned());
        }
        *self.filter.lock().expect("no panic") = filter.to_owned();
        Ok(())
    }
}

struct Server {
    agent: Arc<Agent>,
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Server {
    async fn start() -> Self {
        Self::start_with(CONNECTION_TIMEOUT).await
    }

    async fn start_with(timeout: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("bound");
        let agent = Arc::new(Agent::default());
        let stop = CancellationToken::new();
        let serve = serve_each_within(timeout, listener, agent.clone(), stop.clone());
        let task = tokio::spawn(serve);
        Self {
            agent,
            address,
            stop,
            task,
        }
    }

    fn set_checks(&self, checks: &[(&'static str, Condition)]) {
        let checks = checks.iter().map(|(name, condition)| Check {
            name,
            condition: condition.clone(),
        });
        *self.agent.checks.lock().expect("no panic") = checks.collect();
    }

    /// Head and body of the answer to these bytes.
    async fn send(&self, request: &str) -> (String, String) {
        let mut stream = TcpStream::connect(self.address).await.expect("listens");
        // The server may answer and close before it has read all.
        let _ = stream.write_all(request.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8(answer).expect("text");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        (head.to_owned(), body.to_owned())
    }

    async fn get(&self, path: &str) -> (String, String) {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"))
            .await
    }

    async fn put(&self, body: &str, more: &str) -> (String, String) {
        let length = body.len();
        let request = format!(
            "PUT /log-filter HTTP/1.1\r\nHost: a\r\n{more}Content-Length: {length}\r\n\r\n{body}"
        );
        self.send(&request).await
    }

    async fn end(self) {
        self.stop.cancel();
        self.task.await.expect("ends without a panic");
    }
}

#[tokio::test]
async fn readiness_tells_degraded_from_failed() {
    let server = Server::start().await;
    let down = Condition::Degraded("the uplink is down".to_owned());
    let failed = Condition::Failed("no CA".to_owned());

    server.set_checks(&[("tls", Condition::Ok), ("uplink", Condition::Ok)]);
    let (head, body) = server.get("/readyz").await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!(body, "ok\n");
    let (_, body) = server.get("/readyz?verbose").await;
    assert_eq!(body, "ok\n[+] tls ok\n[+] uplink ok\n");

    server.set_checks(&[("tls", Condition::Ok), ("uplink", down.clone())]);
    let (head, body) = server.get("/readyz").await;
    assert!(head.starts_with("HTTP/1.1 200 "), "ready offline: {head}");
    assert_eq!(
        body,
        "ok, degraded\n[!] uplink degraded: the uplink is down\n"
    );

    server.set_checks(&[("tls", failed), ("uplink", down)]);
    let (head, body) = server.get("/readyz").await;
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    assert!(
        body.starts_with("not ready\n[-] tls failed: no CA\n"),
        "{body}"
    );
    let (head, _) = server.get("/livez").await;
    assert!(
        head.starts_with("HTTP/1.1 200 "),
        "alive all the same: {head}"
    );
    server.end().await;
}

#[tokio::test]
async fn each_endpoint_has_its_type() {
    let server = Server::start().await;
    let (head, body) = server.get("/status").await;
    assert!(head.contains("content-type: application/json"), "{head}");
    assert_eq!(body, "{\"uplink\":\"up\"}\n");
    let (head, body) = server.get("/metrics").await;
    assert!(
        head.contains("content-type: application/openmetrics-text; version=1.0.0"),
        "{head}"
    );
    assert_eq!(body, "# EOF\n");
    let (head, body) = server.get("/").await;
    assert!(head.starts_with("HTTP/1.1 404 "), "{head}");
    for endpoint in ["/livez", "/readyz", "/metrics", "/status", "/log-filter"] {
        assert!(body.contains(endpoint), "{body}");
    }
    let (head, body) = server
        .send("HEAD /status HTTP/1.1\r\nHost: a\r\n\r\n")
        .await;
    assert!(
        head.starts_with("HTTP/1.1 200 ") && body.is_empty(),
        "{head}"
    );
    let (head, _) = server
        .send("DELETE /status HTTP/1.1\r\nHost: a\r\n\r\n")
        .await;
    assert!(
        head.starts_with("HTTP/1.1 405 ") && head.contains("allow: GET, HEAD"),
        "{head}"
    );
    server.end().await;
}

#[tokio::test]
async fn the_log_filter_is_replaced_or_the_mistake_is_told() {
    let server = Server::start().await;
    let (head, body) = server.put(" info,holdfast::cache=debug\n", "").await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!(body, "info,holdfast::cache=debug\n");
    assert_eq!(server.get("/log-filter").await.1, body);

    let (head, why) = server.put("!", "").await;
    assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
    assert_eq!(why, "invalid filter directive\n");
    let (head, _) = server
        .put("trace", "Origin: https://page.example\r\n")
        .await;
    assert!(
        head.starts_with("HTTP/1.1 403 "),
        "a web page has no say: {head}"
    );
    let (head, _) = server.put(&"x".repeat(5000), "").await;
    assert!(head.starts_with("HTTP/1.1 413 "), "{head}");
    assert_eq!(
        server.get("/log-filter").await.1,
        body,
        "nothing of it counted"
    );
    server.end().await;
}

#[tokio::test]
async fn only_this_machine_changes_the_log_filter() {
    let agent = Agent::default();
    for (peer, code) in [
        ("127.0.0.1:1", 200),
        ("[::1]:1", 200),
        ("[::ffff:127.0.0.1]:1", 200),
        ("192.0.2.7:1", 403),
        ("[2001:db8::1]:1", 403),
    ] {
        let request = http::Request::post("/log-filter").body("debug".to_owned());
        let request = request.expect("a request");
        let peer = peer.parse().expect("an address");
        let response = answer::answer(request, peer, &agent).await;
        assert_eq!(response.status(), code, "{peer}");
    }
}

#[tokio::test]
async fn garbage_and_long_headers_are_refused() {
    let server = Server::start().await;
    for garbage in [
        "\r\n\r\n\0\0\0",
        "\x16\x03\x01 TLS\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let (head, _) = server.send(garbage).await;
        assert!(!head.starts_with("HTTP/1.1 200 "), "{head}");
    }
    let long = format!("GET /status HTTP/1.1\r\nA: {}\r\n\r\n", "a".repeat(100_000));
    let (head, _) = server.send(&long).await;
    assert!(!head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(server.get("/livez").await.0.starts_with("HTTP/1.1 200 "));
    server.end().await;
}

#[tokio::test]
async fn silent_connections_give_way_in_time() {
    let server = Server::start_with(Duration::from_millis(200)).await;
    let mut silent = Vec::new();
    for _ in 0..2 * MAX_CONNECTIONS {
        silent.push(TcpStream::connect(server.address).await.expect("backlog"));
    }
    let (head, _) = server.get("/livez").await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    server.end().await;
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_silent_connection() {
    let server = Server::start().await;
    let silent = TcpStream::connect(server.address).await.expect("listens");
    assert!(server.get("/livez").await.0.starts_with("HTTP/1.1 200 "));
    let begun = std::time::Instant::now();
    server.end().await;
    assert!(begun.elapsed() < CONNECTION_TIMEOUT);
    drop(silent);
}
