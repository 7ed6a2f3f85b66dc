//! What every module stands on: telemetry, metrics, drain.

pub mod metrics;
pub mod telemetry;
