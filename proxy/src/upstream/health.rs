//! The health of one API server as a state machine without I/O: events and times in, transitions and the time of the next probe out.

use std::time::{Duration, Instant};

use crate::policy::Uplink;

/// 5xx answers to probes in a row that mean down: one alone may be a passing hiccup of one of the server's own checks,
/// and going down cuts every watch.
const BAD_ANSWERS_TO_DOWN: u8 = 2;

/// Least time between the starts of two probes, however often something looks wrong: a dead aggregated API may send a 503 a hundred times a second.
const PROBE_GAP: Duration = Duration::from_millis(200);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Not probed yet. Requests are tried; they fail fast when nothing is there.
    Unknown,
    Up,
    /// Probes go unanswered while other bytes keep coming: slow is not down.
    Late,
    Down,
}

impl State {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            State::Unknown => "unknown",
            State::Up => "up",
            State::Late => "late",
            State::Down => "down",
        }
    }
}

/// What happened. Each is about one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    ProbeGood,
    /// The server itself answered the probe with a 5xx.
    ProbeBad,
    /// No answer to the probe. `heard`: other bytes came from the server since the probe began.
    ProbeUnanswered {
        heard: bool,
    },
    /// A connection was refused, or there is no route: the kernel's own word for "nobody there".
    Refused,
    /// A request waited for `answerTimeout`, and nothing at all was heard since it was sent.
    Silent,
    /// Response headers of a forwarded request.
    Answered,
    /// Something looks wrong (5xx, 429, a broken body, half of `answerTimeout` without a byte): worth a probe, never a transition.
    Suspicious,
}

/// How often to probe.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// While up.
    pub(super) interval: Duration,
    pub(super) down_interval: Duration,
}

#[derive(Debug)]
pub(super) struct Health {
    state: State,
    pace: Pace,
    due: Instant,
    last_start: Option<Instant>,
    probing: bool,
    bad_answers: u8,
}

impl Health {
    /// Unknown, and a probe is due at once.
    pub(super) fn new(pace: Pace, now: Instant) -> Self {
        Self {
            state: State::Unknown,
            pace,
            due: now,
            last_start: None,
            probing: false,
            bad_answers: 0,
        }
    }

    /// Down until a probe says otherwise, which is due at once.
    pub(super) fn assume_down(&mut self) {
        self.state = State::Down;
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    /// When the next probe is to start; `None` while one is under way.
    pub(super) fn next_probe(&self) -> Option<Instant> {
        (!self.probing).then_some(self.due)
    }

    pub(super) fn probe_started(&mut self, now: Instant) {
        self.probing = true;
        self.last_start = Some(now);
    }

    /// The new state, when the event changed it.
    pub(super) fn step(&mut self, event: Event, now: Instant) -> Option<State> {
        if matches!(
            event,
            Event::ProbeGood | Event::ProbeBad | Event::ProbeUnanswered { .. }
        ) {
            self.probing = false;
        }
        self.bad_answers = match event {
            Event::ProbeBad => self.bad_answers.saturating_add(1),
            Event::ProbeGood => 0,
            _ => self.bad_answers,
        };
        let next = self.next_state(event);
        let changed = next != self.state;
        self.state = next;
        self.schedule(event, changed, now);
        changed.then_some(next)
    }

    fn next_state(&self, event: Event) -> State {
        match (event, self.state) {
            (Event::ProbeGood, _) => State::Up,
            (Event::ProbeBad, State::Up | State::Late)
                if self.bad_answers < BAD_ANSWERS_TO_DOWN =>
            {
                self.state
            }
            (Event::ProbeBad | Event::Refused | Event::Silent, _) => State::Down,
            (Event::ProbeUnanswered { heard: true }, State::Up | State::Late | State::Unknown) => {
                State::Late
            }
            (Event::ProbeUnanswered { .. }, _) => State::Down,
            (Event::Answered, State::Unknown) => State::Up,
            (Event::Answered | Event::Suspicious, state) => state,
        }
    }

    fn schedule(&mut self, event: Event, changed: bool, now: Instant) {
        let earliest = self.last_start.map_or(now, |start| start + PROBE_GAP);
        let at_once = earliest.max(now);
        match event {
            // Down is probed at its own pace, counted from the start of the last probe.
            _ if self.state == State::Down => {
                if changed || is_failed_probe(event) {
                    let start = self.last_start.unwrap_or(now);
                    self.due = (start + self.pace.down_interval).max(now);
                }
            }
            Event::ProbeGood => self.due = now + self.pace.interval,
            Event::ProbeBad | Event::ProbeUnanswered { .. } | Event::Suspicious => {
                self.due = self.due.min(at_once);
                if is_failed_probe(event) {
                    self.due = at_once;
                }
            }
            Event::Answered | Event::Refused | Event::Silent => {}
        }
    }
}

fn is_failed_probe(event: Event) -> bool {
    matches!(event, Event::ProbeBad | Event::ProbeUnanswered { .. })
}

/// The state of the whole from the states of the servers. A server nobody has asked yet is tried, but promises nothing: degraded.
pub(super) fn uplink(states: &[State]) -> Uplink {
    if states.iter().all(|state| *state == State::Down) {
        Uplink::Down
    } else if states.iter().all(|state| *state == State::Up) {
        Uplink::Up
    } else {
        Uplink::Degraded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace {
        interval: Duration::from_secs(5),
        down_interval: Duration::from_secs(1),
    };

    fn up(now: Instant) -> Health {
        let mut health = Health::new(PACE, now);
        health.probe_started(now);
        health.step(Event::ProbeGood, now);
        health
    }

    #[test]
    fn a_probe_is_due_at_once_at_the_start_and_requests_are_tried_meanwhile() {
        let now = Instant::now();
        let health = Health::new(PACE, now);
        assert_eq!(health.state(), State::Unknown);
        assert_eq!(health.next_probe(), Some(now));
        assert_eq!(uplink(&[health.state()]), Uplink::Degraded);
    }

    #[test]
    fn each_event_leads_where_the_rules_say() {
        use Event::*;
        use State::*;
        let heard = ProbeUnanswered { heard: true };
        let deaf = ProbeUnanswered { heard: false };
        for (from, event, to) in [
            (Unknown, ProbeGood, Up),
            (Unknown, ProbeBad, Down),
            (Unknown, deaf, Down),
            (Unknown, Refused, Down),
            (Unknown, Silent, Down),
            (Unknown, Answered, Up),
            (Up, ProbeBad, Up),
            (Up, heard, Late),
            (Up, deaf, Down),
            (Up, Refused, Down),
            (Up, Silent, Down),
            (Up, Suspicious, Up),
            (Late, ProbeGood, Up),
            (Late, heard, Late),
            (Late, Answered, Late),
            (Down, ProbeGood, Up),
            (Down, Answered, Down),
            (Down, Suspicious, Down),
            (Down, heard, Down),
        ] {
            let now = Instant::now();
            let mut health = Health::new(PACE, now);
            health.state = from;
            let changed = health.step(event, now);
            assert_eq!(health.state(), to, "{from:?} on {event:?}");
            assert_eq!(changed.is_some(), from != to, "{from:?} on {event:?}");
        }
    }

    #[test]
    fn two_bad_answers_in_a_row_mean_down_and_the_second_probe_is_due_at_once() {
        let now = Instant::now();
        let mut health = up(now);
        health.probe_started(now);
        assert_eq!(health.step(Event::ProbeBad, now), None);
        assert_eq!(health.next_probe(), Some(now + PROBE_GAP));
        health.probe_started(now + PROBE_GAP);
        assert_eq!(
            health.step(Event::ProbeBad, now + PROBE_GAP),
            Some(State::Down)
        );
    }

    #[test]
    fn a_good_answer_between_two_bad_ones_starts_the_count_again() {
        let now = Instant::now();
        let mut health = up(now);
        for event in [
            Event::ProbeBad,
            Event::ProbeGood,
            Event::ProbeBad,
            Event::ProbeGood,
        ] {
            health.probe_started(now);
            assert_eq!(health.step(event, now), None, "{event:?}");
        }
    }

    #[test]
    fn suspicion_makes_a_probe_due_at_once_but_not_more_often_than_the_gap() {
        let now = Instant::now();
        let mut health = up(now);
        assert_eq!(health.next_probe(), Some(now + PACE.interval));
        let later = now + Duration::from_secs(1);
        health.step(Event::Suspicious, later);
        assert_eq!(health.next_probe(), Some(later));
        health.probe_started(later);
        assert_eq!(health.next_probe(), None);
        health.step(Event::ProbeGood, later);
        health.step(Event::Suspicious, later);
        assert_eq!(health.next_probe(), Some(later + PROBE_GAP));
    }

    #[test]
    fn down_is_probed_every_down_interval_counted_from_the_start_of_the_last_probe() {
        let now = Instant::now();
        let mut health = up(now);
        health.probe_started(now);
        let timed_out = now + Duration::from_secs(2);
        health.step(Event::ProbeUnanswered { heard: false }, timed_out);
        assert_eq!(health.next_probe(), Some(timed_out));
        health.probe_started(timed_out);
        let refused = timed_out + Duration::from_millis(1);
        health.step(Event::ProbeUnanswered { heard: false }, refused);
        assert_eq!(health.next_probe(), Some(timed_out + PACE.down_interval));
        // What still fails while down does not hurry it.
        health.step(Event::Suspicious, refused);
        assert_eq!(health.next_probe(), Some(timed_out + PACE.down_interval));
    }

    #[test]
    fn the_uplink_is_down_only_when_every_server_is() {
        use State::*;
        for (states, expected) in [
            (&[Up, Up][..], Uplink::Up),
            (&[Up, Down], Uplink::Degraded),
            (&[Up, Late], Uplink::Degraded),
            (&[Unknown, Down], Uplink::Degraded),
            (&[Down, Down], Uplink::Down),
        ] {
            assert_eq!(uplink(states), expected, "{states:?}");
        }
    }
}
