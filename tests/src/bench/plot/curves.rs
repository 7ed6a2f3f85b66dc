//! How a figure is spread: for each share of the requests, what none of them exceeded.

use anyhow::Result;
use plotters::chart::{ChartBuilder, SeriesLabelPosition};
use plotters::coord::combinators::IntoLogRange;
use plotters::element::Rectangle;
use plotters::series::LineSeries;
use plotters::style::{BLACK, Color, WHITE};

use super::{Area, FONT, color, words};
use crate::bench::Report;
use crate::bench::report::{Curve, percentile};

/// The slowest thousandth of some thousands of requests is luck.
const SLOWEST: f64 = 1e-3;
/// Points of a curve.
const POINTS: u32 = 200;

/// Curves of the same requests, an arm each.
pub(super) struct Plot<'a> {
    pub(super) file: String,
    title: &'a str,
    curves: Vec<&'a Curve>,
}

pub(super) fn plots(report: &Report) -> Vec<Plot<'_>> {
    let mut plots: Vec<Plot<'_>> = Vec::new();
    for curve in report.curves() {
        match plots.iter_mut().find(|plot| plot.title == curve.what) {
            Some(plot) => plot.curves.push(curve),
            None => plots.push(Plot {
                file: format!("{}.svg", file_name(&curve.what)),
                title: &curve.what,
                curves: vec![curve],
            }),
        }
    }
    plots
}

/// `GET of a pod, 1 connection, HTTP/1.1` as `get-of-a-pod-1-connection-http-1-1`.
fn file_name(what: &str) -> String {
    let lower = what.to_lowercase();
    let words = lower.split(|c: char| !c.is_ascii_alphanumeric());
    words
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join("-")
}

impl Plot<'_> {
    pub(super) fn draw(&self, area: &Area<'_>) -> Result<()> {
        let at = |share: f64| {
            self.curves
                .iter()
                .map(move |curve| percentile(&curve.values, share))
        };
        let (least, greatest) = (
            at(0.0).fold(f64::MAX, f64::min),
            at(1.0 - SLOWEST).fold(0.0, f64::max),
        );
        let title = format!("{}: share of the requests that took longer", self.title);
        let mut chart = ChartBuilder::on(area)
            .caption(title, words(16))
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(56)
            .build_cartesian_2d(
                (least * 0.9..greatest * 1.1).log_scale(),
                (SLOWEST..1.0).log_scale(),
            )?;
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .bold_line_style(BLACK.mix(0.1))
            .x_desc("ms from when the request was due")
            .x_label_formatter(&|ms| {
                if *ms < 1.0 {
                    format!("{ms:.2}")
                } else {
                    format!("{ms:.1}")
                }
            })
            .y_label_formatter(&|share| format!("{} %", share * 100.0))
            .label_style((FONT, 12))
            .draw()?;
        for curve in &self.curves {
            let color = color(curve.arm);
            // Evenly spaced on the axis of shares.
            let shares = (0..=POINTS).map(|n| SLOWEST.powf(f64::from(n) / f64::from(POINTS)));
            let points = shares.map(|share| (percentile(&curve.values, 1.0 - share), share));
            chart
                .draw_series(LineSeries::new(points, color.stroke_width(2)))?
                .label(curve.arm)
                .legend(move |(x, y)| {
                    Rectangle::new([(x, y - 5), (x + 10, y + 5)], color.filled())
                });
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .background_style(WHITE.mix(0.8))
            .label_font((FONT, 13))
            .draw()?;
        Ok(())
    }
}
