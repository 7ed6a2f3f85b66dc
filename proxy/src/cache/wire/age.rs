//! How long ago something was, as the API server's Tables tell it.

use std::time::SystemTime;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// 0001-01-01T00:00:00Z, Go's zero time, in Unix seconds.
const ZERO_TIME: i64 = -62_135_596_800;

/// How long before `now` a timestamp of RFC 3339 was (`apimachinery:pkg/api/meta/table/table.go`, ConvertToHumanReadableDateType);
/// "", "null" and the zero time are unknown (`apimachinery:pkg/apis/meta/v1/time.go`, UnmarshalQueryParameter).
pub(super) fn age(timestamp: &str, now: SystemTime) -> String {
    if matches!(timestamp, "" | "null") {
        return "<unknown>".to_owned();
    }
    match OffsetDateTime::parse(timestamp, &Rfc3339) {
        Ok(time) if time.unix_timestamp() == ZERO_TIME => "<unknown>".to_owned(),
        Ok(time) => human_duration((OffsetDateTime::from(now) - time).whole_seconds()),
        Err(_) => "<invalid>".to_owned(),
    }
}

/// Two or three significant figures (`apimachinery:pkg/util/duration/duration.go`, HumanDuration). Clocks may differ by a second.
fn human_duration(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let (days, years) = (hours / 24, hours / 24 / 365);
    match () {
        () if seconds < -1 => "<invalid>".to_owned(),
        () if seconds < 0 => "0s".to_owned(),
        () if seconds < 120 => format!("{seconds}s"),
        () if minutes < 10 => two_units(minutes, "m", seconds % 60, "s"),
        () if minutes < 180 => format!("{minutes}m"),
        () if hours < 8 => two_units(hours, "h", minutes % 60, "m"),
        () if hours < 48 => format!("{hours}h"),
        () if days < 8 => two_units(days, "d", hours % 24, "h"),
        () if years < 2 => format!("{days}d"),
        () if years < 8 => two_units(years, "y", days % 365, "d"),
        () => format!("{years}y"),
    }
}

fn two_units(large: i64, large_unit: &str, small: i64, small_unit: &str) -> String {
    match small {
        0 => format!("{large}{large_unit}"),
        small => format!("{large}{large_unit}{small}{small_unit}"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    /// The table of `apimachinery:pkg/util/duration/duration_test.go`, TestHumanDurationBoundaries, in other words.
    #[test]
    fn a_duration_has_two_or_three_figures() {
        const MINUTE: i64 = 60;
        const HOUR: i64 = 60 * MINUTE;
        const DAY: i64 = 24 * HOUR;
        const YEAR: i64 = 365 * DAY;
        for (seconds, text) in [
            (-2, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (121, "2m1s"),
            (10 * MINUTE - 1, "9m59s"),
            (10 * MINUTE, "10m"),
            (10 * MINUTE + 1, "10m"),
            (3 * HOUR - 1, "179m"),
            (3 * HOUR, "3h"),
            (3 * HOUR + MINUTE, "3h1m"),
            (8 * HOUR - 1, "7h59m"),
            (8 * HOUR, "8h"),
            (2 * DAY - 1, "47h"),
            (2 * DAY, "2d"),
            (2 * DAY + HOUR, "2d1h"),
            (8 * DAY - 1, "7d23h"),
            (8 * DAY, "8d"),
            (2 * YEAR - 1, "729d"),
            (2 * YEAR, "2y"),
            (2 * YEAR + DAY, "2y1d"),
            (8 * YEAR - 1, "7y364d"),
            (8 * YEAR + 364 * DAY, "8y"),
        ] {
            assert_eq!(human_duration(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn a_timestamp_tells_its_age_or_why_it_has_none() {
        let now = UNIX_EPOCH + Duration::from_millis(1_000_000_000_500);
        for (timestamp, text) in [
            ("2001-09-09T01:46:40Z", "0s"),
            ("2001-09-09T01:46:30.9Z", "9s"),
            ("2001-09-09T03:46:30+02:00", "10s"),
            ("2001-09-09T01:46:41.5Z", "0s"),
            ("2001-09-09T01:46:43Z", "<invalid>"),
            ("0001-01-01T00:00:00Z", "<unknown>"),
            ("", "<unknown>"),
            ("null", "<unknown>"),
            ("yesterday", "<invalid>"),
        ] {
            assert_eq!(age(timestamp, now), text, "{timestamp}");
        }
    }
}
