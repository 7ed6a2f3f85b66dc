//! Where a server is, when it is given by name: DNS often lives beyond the very uplink that is in trouble.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::config;

/// A resolver that takes longer is in the dark, too.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(1);
/// Where the last answer may well be right still, a dial does not wait longer for a new one.
const LATE: Duration = Duration::from_millis(200);
/// Addresses tried of one name.
const MAX_ADDRESSES: usize = 8;

type Ask = dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync;

pub(super) struct Resolver {
    host: String,
    port: u16,
    ask: Arc<Ask>,
    latest: Arc<Mutex<Latest>>,
}

#[derive(Default)]
struct Latest {
    /// What the name was last found to be; empty before that.
    known: Vec<SocketAddr>,
    lookup: Option<Lookup>,
}

/// The one under way. Its end is told to all who wait, with the error if there was one.
#[derive(Clone)]
struct Lookup {
    since: Instant,
    end: watch::Receiver<Option<Result<(), io::ErrorKind>>>,
}

impl Resolver {
    pub(super) fn new(address: &config::Server) -> Self {
        Self::asking(
            address,
            Arc::new(|host: &str, port| {
                let found = (host, port).to_socket_addrs()?;
                Ok(found.take(MAX_ADDRESSES).collect())
            }),
        )
    }

    fn asking(address: &config::Server, ask: Arc<Ask>) -> Self {
        Self {
            host: address.host.clone(),
            port: address.port,
            ask,
            latest: Arc::default(),
        }
    }

    /// Where to connect to. A name that does not resolve in time is where it was last.
    pub(super) async fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        if let Ok(ip) = self.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, self.port)]);
        }
        let (mut lookup, limit) = {
            let mut latest = lock(&self.latest);
            let limit = if latest.known.is_empty() {
                RESOLVE_TIMEOUT
            } else {
                LATE
            };
            (self.lookup(&mut latest)?, limit)
        };
        let deadline = lookup.since + limit;
        let end = tokio::time::timeout_at(deadline.into(), lookup.end.wait_for(Option::is_some));
        let why = match end.await {
            Ok(Ok(end)) => end.and_then(Result::err),
            // The thread is gone without a word.
            Ok(Err(_)) => Some(io::ErrorKind::Other),
            Err(_) => Some(io::ErrorKind::TimedOut),
        };
        let known = lock(&self.latest).known.clone();
        match why {
            Some(why) if known.is_empty() => Err(why.into()),
            _ => Ok(known),
        }
    }

    /// The lookup under way, or a new one. In the dark one takes half a minute and cannot be stopped, so there is never a second;
    /// and it has a thread that nobody joins, so that it holds up no exit.
    fn lookup(&self, latest: &mut Latest) -> io::Result<Lookup> {
        let under_way = latest.lookup.as_ref();
        // Its thread cannot have ended without a word unless it panicked.
        if let Some(lookup) = under_way.filter(|lookup| lookup.end.has_changed().is_ok()) {
            return Ok(lookup.clone());
        }
        let (told, end) = watch::channel(None);
        let (host, port, ask) = (self.host.clone(), self.port, Arc::clone(&self.ask));
        let shared = Arc::clone(&self.latest);
        std::thread::Builder::new()
            .name("resolve".to_owned())
            .spawn(move || {
                let found = ask(&host, port);
                let mut latest = lock(&shared);
                latest.lookup = None;
                told.send_replace(Some(match found {
                    Ok(addresses) if addresses.is_empty() => Err(io::ErrorKind::NotFound),
                    Ok(addresses) => {
                        latest.known = addresses;
                        Ok(())
                    }
                    Err(error) => Err(error.kind()),
                }));
            })?;
        let lookup = Lookup {
            since: Instant::now(),
            end,
        };
        latest.lookup = Some(lookup.clone());
        Ok(lookup)
    }
}

fn lock(latest: &Mutex<Latest>) -> MutexGuard<'_, Latest> {
    latest.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;

    /// A DNS that answers what the test sends, and is dark until then.
    struct Dns {
        asked: Arc<AtomicUsize>,
        answers: mpsc::Sender<io::Result<Vec<SocketAddr>>>,
        resolver: Arc<Resolver>,
    }

    fn dns() -> Dns {
        let asked = Arc::new(AtomicUsize::new(0));
        let (answers, queue) = mpsc::channel();
        let queue = Mutex::new(queue);
        let count = Arc::clone(&asked);
        let ask = move |_: &str, _| {
            count.fetch_add(1, Ordering::SeqCst);
            let queue = queue.lock().expect("no panic");
            queue.recv().unwrap_or(Err(io::ErrorKind::Other.into()))
        };
        let address = config::Server {
            host: "api.example".to_owned(),
            port: 6443,
        };
        Dns {
            asked,
            answers,
            resolver: Arc::new(Resolver::asking(&address, Arc::new(ask))),
        }
    }

    fn address() -> Vec<SocketAddr> {
        vec![SocketAddr::from(([192, 0, 2, 1], 6443))]
    }

    #[tokio::test]
    async fn in_the_dark_everybody_waits_for_one_lookup_and_not_longer_than_the_limit() {
        let dns = dns();
        let started = Instant::now();
        let waiting = (0..50).map(|_| dns.resolver.addresses());
        let found = futures_util::future::join_all(waiting).await;
        assert!(
            found.iter().all(
                |found| matches!(found, Err(error) if error.kind() == io::ErrorKind::TimedOut)
            )
        );
        // Those that come later do not wait again for what is late already.
        assert!(dns.resolver.addresses().await.is_err());
        assert!(started.elapsed() < 3 * RESOLVE_TIMEOUT);
        assert_eq!(dns.asked.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn one_answer_is_everybodys() {
        let dns = dns();
        let answer = async { dns.answers.send(Ok(address())).expect("a resolver") };
        let waiting = (0..50).map(|_| dns.resolver.addresses());
        let (found, ()) = tokio::join!(futures_util::future::join_all(waiting), answer);
        assert!(
            found
                .iter()
                .all(|found| matches!(found, Ok(found) if *found == address()))
        );
        assert_eq!(dns.asked.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn the_last_good_addresses_are_used_when_a_lookup_fails_or_is_late() {
        let dns = dns();
        dns.answers.send(Ok(address())).expect("a resolver");
        assert_eq!(dns.resolver.addresses().await.expect("found"), address());
        for bad in [Err(io::ErrorKind::NotFound.into()), Ok(Vec::new())] {
            dns.answers.send(bad).expect("a resolver");
            assert_eq!(dns.resolver.addresses().await.expect("known"), address());
        }
        let started = Instant::now();
        assert_eq!(dns.resolver.addresses().await.expect("known"), address());
        assert!(started.elapsed() < RESOLVE_TIMEOUT);
        let started = Instant::now();
        assert_eq!(dns.resolver.addresses().await.expect("known"), address());
        assert!(started.elapsed() < LATE);
    }
}
