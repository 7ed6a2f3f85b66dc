//! What need not reach the disk with the next commit: a heartbeat of each node every few minutes, a bookmark of each stream
//! every minute. Gathered, only the last of each is written.
//!
//! What waits here is newer than what is on the disk, and each lane is written as a whole: so what a process that was killed
//! left there is true and complete, as of an earlier RV. A clean stop writes all.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::store::Table;
use super::writes::Batch;

/// Kubelet says that it lives by a Lease, and reports an unchanged status every five minutes
/// (`kubernetes:pkg/kubelet/apis/config/v1beta1/defaults.go`, `nodeStatusReportFrequency`): this is one of six.
const HEARTBEATS_FOR: Duration = Duration::from_secs(1800);
/// An API server sends each stream a bookmark about once a minute (`apiserver:pkg/storage/cacher/cacher.go`), and a node has
/// dozens of streams: this makes one commit of them.
const PROGRESS_FOR: Duration = Duration::from_secs(60);
/// Of each lane; some 400 nodes with their images.
const MAX_BYTES: usize = 4 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// Of collections that moved on without a change: their RV, and when they were confirmed.
    Progress,
    /// All that is written of Nodes. It waits for as long as it is nothing but heartbeats, or progress.
    Heartbeats,
}

impl Lane {
    const ALL: [Self; 2] = [Self::Progress, Self::Heartbeats];

    fn waits_for(self) -> Duration {
        match self {
            Self::Progress => PROGRESS_FOR,
            Self::Heartbeats => HEARTBEATS_FOR,
        }
    }
}

#[derive(Default)]
pub(super) struct Later {
    progress: Waiting,
    heartbeats: Waiting,
}

#[derive(Default)]
struct Waiting {
    rows: Batch,
    /// When the first of them was put.
    since: Option<Instant>,
    is_urgent: bool,
}

impl Later {
    fn lane(&self, lane: Lane) -> &Waiting {
        match lane {
            Lane::Progress => &self.progress,
            Lane::Heartbeats => &self.heartbeats,
        }
    }

    fn lane_mut(&mut self, lane: Lane) -> &mut Waiting {
        match lane {
            Lane::Progress => &mut self.progress,
            Lane::Heartbeats => &mut self.heartbeats,
        }
    }

    pub(super) fn put(
        &mut self,
        lane: Lane,
        (table, key, value): (Table, Vec<u8>, Option<Bytes>),
        now: Instant,
    ) {
        let waiting = self.lane_mut(lane);
        waiting.rows.put(table, key, value);
        waiting.since.get_or_insert(now);
    }

    /// The row is written without waiting.
    pub(super) fn overtake(&mut self, table: Table, key: &[u8]) {
        self.progress.rows.remove(table, key);
    }

    pub(super) fn get(&self, table: Table, key: &[u8]) -> Option<&Option<Bytes>> {
        let mut found = Lane::ALL.iter().map(|lane| &self.lane(*lane).rows);
        found.find_map(|rows| rows.get(table, key))
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = (Table, &[u8], &Option<Bytes>)> {
        let lanes = Lane::ALL.into_iter().map(|lane| &self.lane(lane).rows);
        lanes.flat_map(move |rows| {
            let tables = Table::ALL.into_iter();
            tables
                .flat_map(move |table| rows.of(table).map(move |(key, value)| (table, key, value)))
        })
    }

    pub(super) fn bytes(&self) -> usize {
        self.progress.rows.bytes() + self.heartbeats.rows.bytes()
    }

    /// What waits in the lane is to wait no longer.
    pub(super) fn hurry(&mut self, lane: Lane) {
        self.lane_mut(lane).is_urgent = true;
    }

    pub(super) fn hurry_all(&mut self) {
        Lane::ALL.into_iter().for_each(|lane| self.hurry(lane));
    }

    /// The lanes that have waited long enough.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Batch> {
        let mut due = Vec::new();
        for lane in Lane::ALL {
            let waiting = self.lane_mut(lane);
            let is_late = (waiting.since)
                .is_some_and(|since| now.saturating_duration_since(since) >= lane.waits_for());
            if waiting.is_urgent || is_late || waiting.rows.bytes() > MAX_BYTES {
                due.push(std::mem::take(waiting).rows);
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(later: &mut Later, lane: Lane, key: &str, at: Instant) {
        let row = (
            Table::Collections,
            key.into(),
            Some(Bytes::from_static(b"1")),
        );
        later.put(lane, row, at);
    }

    fn due(later: &mut Later, at: Instant) -> usize {
        let due = later.due(at);
        due.iter()
            .map(|rows| rows.of(Table::Collections).count())
            .sum()
    }

    #[test]
    fn a_lane_is_written_as_a_whole_once_its_first_row_waited_long_enough() {
        let (mut later, start) = (Later::default(), Instant::now());
        put(&mut later, Lane::Progress, "a", start);
        put(&mut later, Lane::Progress, "b", start + PROGRESS_FOR / 2);
        put(&mut later, Lane::Heartbeats, "c", start);
        assert_eq!(due(&mut later, start + PROGRESS_FOR / 2), 0);
        assert_eq!(due(&mut later, start + PROGRESS_FOR), 2);
        assert_eq!(due(&mut later, start + PROGRESS_FOR), 0);
        assert_eq!(due(&mut later, start + HEARTBEATS_FOR), 1);
    }

    #[test]
    fn a_lane_in_a_hurry_or_with_much_in_it_does_not_wait() {
        let (mut later, start) = (Later::default(), Instant::now());
        put(&mut later, Lane::Heartbeats, "a", start);
        later.hurry(Lane::Heartbeats);
        assert_eq!(due(&mut later, start), 1);
        put(&mut later, Lane::Heartbeats, "a", start);
        assert_eq!(due(&mut later, start), 0, "the hurry is over");
        let large = Some(Bytes::from(vec![0; MAX_BYTES]));
        later.put(
            Lane::Heartbeats,
            (Table::Objects, b"b".to_vec(), large),
            start,
        );
        assert_eq!(due(&mut later, start), 1);
    }

    #[test]
    fn a_row_that_is_written_at_once_is_not_undone_by_an_older_one() {
        let (mut later, start) = (Later::default(), Instant::now());
        put(&mut later, Lane::Progress, "a", start);
        later.overtake(Table::Collections, b"a");
        assert_eq!(
            (due(&mut later, start + PROGRESS_FOR), later.bytes()),
            (0, 0)
        );
    }
}
