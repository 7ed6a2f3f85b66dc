//! tracing: text or JSON on stderr, a filter that can be reloaded.
//!
//! The `log` records of libraries (aya-log's among them: what the eBPF programs say) come in as tracing events, under the same filter.

use std::io::IsTerminal;

use tracing::level_filters::LevelFilter;
use tracing::{Level, Subscriber};
use tracing_log::{AsLog, LogTracer, log};
use tracing_subscriber::filter::{ParseError, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry, reload};

use crate::config::{Log, LogFormat};

/// Changes what is logged while Holdfast runs.
#[derive(Clone, Debug)]
pub struct FilterHandle(reload::Handle<Targets, Registry>);

impl FilterHandle {
    /// Takes over new directives, e.g. `info,holdfast::upstream=debug`. After an error, which says what is wrong with them, the old
    /// ones stay.
    pub fn set(&self, directives: &str) -> Result<(), String> {
        let filter = filter(directives)
            .map_err(|error| format!("{directives:?} is not a log filter: {error}"))?;
        self.0.reload(filter).map_err(|error| error.to_string())?;
        follow();
        Ok(())
    }

    /// Whether an event of this target and level is logged now.
    pub fn enables(&self, target: &str, level: Level) -> bool {
        let enables = |filter: &Targets| filter.would_enable(target, &level);
        self.0.with_current(enables).unwrap_or(false)
    }

    /// The directives in force.
    pub fn get(&self) -> String {
        self.0.with_current(ToString::to_string).unwrap_or_default()
    }
}

/// Levels, of all and of modules: `info,holdfast::upstream=debug`. White space around them does not count.
pub fn filter(directives: &str) -> Result<Targets, FilterError> {
    let directives: Vec<&str> = directives
        .split(',')
        .map(str::trim)
        .filter(|directive| !directive.is_empty())
        .collect();
    if directives.is_empty() {
        return Err(FilterError::Empty);
    }
    // These would be taken for names of modules, which match nothing.
    let is_odd =
        |directive: &&str| directive.contains(|c: char| c.is_whitespace() || "[]{}".contains(c));
    if let Some(odd) = directives.iter().copied().find(is_odd) {
        return Err(FilterError::Odd(odd.to_owned()));
    }
    Ok(directives.join(",").parse()?)
}

/// Not a log filter.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    #[error("it names no level")]
    Empty,
    #[error("{0:?} is neither a level nor module=level")]
    Odd(String),
    #[error(transparent)]
    Level(#[from] ParseError),
}

/// Logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("log.filter: {0}")]
    Filter(#[from] FilterError),
    #[error("something in this process logs already")]
    Taken,
}

/// Sets up logging for the whole process. Once.
pub fn init(config: &Log) -> Result<FilterHandle, TelemetryError> {
    let (subscriber, handle) =
        subscriber(config, std::io::stderr, std::io::stderr().is_terminal())?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_| TelemetryError::Taken)?;
    LogTracer::init().map_err(|_| TelemetryError::Taken)?;
    follow();
    Ok(handle)
}

/// A `log` record that nobody wants is then dropped before it is formatted: the programs' log costs nothing unless asked for.
fn follow() {
    log::set_max_level(LevelFilter::current().as_log());
}

fn subscriber<W>(
    config: &Log,
    writer: W,
    colours: bool,
) -> Result<(impl Subscriber + Send + Sync + use<W>, FilterHandle), TelemetryError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(filter(&config.filter)?);
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let lines = match config.format {
        LogFormat::Text => lines.with_ansi(colours).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let subscriber = tracing_subscriber::registry().with(filter).with(lines);
    Ok((subscriber, FilterHandle(handle)))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Lines {
        fn text(&self) -> String {
            let bytes = self.0.lock().expect("not poisoned");
            String::from_utf8_lossy(&bytes).into_owned()
        }
    }

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("not poisoned").write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Lines {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    fn logged(format: LogFormat, act: impl FnOnce(&FilterHandle)) -> String {
        let lines = Lines::default();
        let config = Log {
            filter: "info".to_owned(),
            format,
        };
        let (subscriber, handle) = subscriber(&config, lines.clone(), false).expect("a filter");
        tracing::subscriber::with_default(subscriber, || act(&handle));
        lines.text()
    }

    #[test]
    fn a_reloaded_filter_counts_from_the_next_event_on_and_a_wrong_one_changes_nothing() {
        let text = logged(LogFormat::Text, |handle| {
            tracing::debug!("before");
            handle.set("debug").expect("a filter");
            tracing::debug!("after");
            assert!(handle.set("holdfast=loud").is_err());
            tracing::debug!("still");
            assert_eq!(handle.get(), "debug");
        });
        assert!(!text.contains("before"), "{text}");
        assert!(text.contains("after") && text.contains("still"), "{text}");
    }

    #[test]
    fn it_can_be_told_beforehand_whether_a_target_is_logged() {
        logged(LogFormat::Text, |handle| {
            let debugs = |target| handle.enables(target, Level::DEBUG);
            assert!(!debugs("holdfast::intercept"));
            handle
                .set("warn,holdfast::intercept=debug")
                .expect("a filter");
            assert!(debugs("holdfast::intercept") && !debugs("holdfast::upstream"));
        });
    }

    #[test]
    fn a_filter_is_levels_and_modules_with_or_without_white_space() {
        for text in [
            "info,holdfast::upstream=debug",
            " info , holdfast::upstream=debug,",
            "holdfast::upstream=debug,,info",
        ] {
            let filter = filter(text).expect(text);
            assert!(filter.would_enable("other", &Level::INFO), "{text}");
            assert!(!filter.would_enable("other", &Level::DEBUG), "{text}");
            assert!(
                filter.would_enable("holdfast::upstream", &Level::DEBUG),
                "{text}"
            );
        }
        for text in [
            "",
            " , ",
            "[connection]=debug",
            "x[{f}]=debug",
            "holdfast=loud",
            "in fo",
        ] {
            assert!(filter(text).is_err(), "{text}");
        }
    }

    #[test]
    fn json_is_one_object_per_line() {
        let text = logged(LogFormat::Json, |_| {
            tracing::info!(reason = "Tls", "refused")
        });
        let line: serde_json::Value = serde_json::from_str(text.trim()).expect("JSON");
        assert_eq!(line["message"], "refused");
        assert_eq!(line["reason"], "Tls");
        assert_eq!(line["level"], "INFO");
    }
}
