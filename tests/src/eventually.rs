//! Waiting for a state: levels, not edges, and always with a deadline.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

const POLL: Duration = Duration::from_millis(20);

/// Tries `state` until it is `Ok` or `deadline` has passed; then the last error is the story. `what` completes
/// "waited 5 s for ...".
pub fn eventually<T>(
    what: &str,
    deadline: Duration,
    mut state: impl FnMut() -> Result<T>,
) -> Result<T> {
    let started = Instant::now();
    loop {
        match state() {
            Ok(value) => return Ok(value),
            Err(error) if started.elapsed() >= deadline => {
                return Err(error)
                    .with_context(|| format!("waited {:.1} s for {what}", deadline.as_secs_f64()));
            }
            Err(_) => std::thread::sleep(POLL),
        }
    }
}

/// As [`eventually`], and also how long it took.
pub fn timed<T>(
    what: &str,
    deadline: Duration,
    state: impl FnMut() -> Result<T>,
) -> Result<(T, Duration)> {
    let started = Instant::now();
    let value = eventually(what, deadline, state)?;
    Ok((value, started.elapsed()))
}
