//! Rows of the same kind, the arms side by side.

use anyhow::Result;
use plotters::chart::{ChartBuilder, SeriesLabelPosition};
use plotters::element::{EmptyElement, PathElement, Rectangle, Text};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{BLACK, Color, WHITE};

use super::{Area, FONT, color, words};
use crate::bench::Report;

/// One picture.
pub(super) struct Chart {
    pub(super) file: &'static str,
    title: &'static str,
    unit: &'static str,
    /// What is shown below the bars, and of which row they are.
    groups: &'static [(&'static str, &'static str)],
}

pub(super) const CHARTS: &[Chart] = &[
    Chart {
        file: "get-cpu.svg",
        title: "CPU of the proxy for a GET of a pod of 9 KB (µs, median and spread)",
        unit: "µs",
        groups: &[
            (
                "1 connection, HTTP/1.1",
                "GET of a pod of 9 KB, CPU of the proxy, 1 connection, HTTP/1.1, kube-apiserver",
            ),
            (
                "16 connections, HTTP/1.1",
                "GET of a pod of 9 KB, CPU of the proxy, 16 connections, HTTP/1.1, kube-apiserver",
            ),
            (
                "1 connection, HTTP/2",
                "GET of a pod of 9 KB, CPU of the proxy, 1 connection, HTTP/2, kube-apiserver",
            ),
            (
                "16 connections, HTTP/2",
                "GET of a pod of 9 KB, CPU of the proxy, 16 connections, HTTP/2, kube-apiserver",
            ),
        ],
    },
    Chart {
        file: "list.svg",
        title: "LIST of 2,000 pods from kube-apiserver over HTTP/2 (ms, median and spread)",
        unit: "ms",
        groups: &[
            (
                "JSON, first",
                "LIST of 2,000 pods, the first, JSON, HTTP/2, kube-apiserver",
            ),
            (
                "JSON, again",
                "LIST of 2,000 pods, again, JSON, HTTP/2, kube-apiserver",
            ),
            (
                "protobuf, first",
                "LIST of 2,000 pods, the first, protobuf, HTTP/2, kube-apiserver",
            ),
            (
                "protobuf, again",
                "LIST of 2,000 pods, again, protobuf, HTTP/2, kube-apiserver",
            ),
        ],
    },
];

/// Bars that stand together.
pub(super) struct Group {
    label: &'static str,
    bars: Vec<Bar>,
}

struct Bar {
    arm: &'static str,
    median: f64,
    least: f64,
    greatest: f64,
}

impl Chart {
    /// What the report has of it.
    pub(super) fn groups(&self, report: &Report) -> Vec<Group> {
        let group = |(label, what): &(&'static str, &str)| {
            let rows = report.rows().iter().filter(|row| row.what == *what);
            let bars = rows.map(|row| {
                let (median, least, greatest) = row.summary();
                Bar {
                    arm: row.arm,
                    median,
                    least,
                    greatest,
                }
            });
            Group {
                label,
                bars: bars.collect(),
            }
        };
        let groups = self.groups.iter().map(group);
        groups.filter(|group| !group.bars.is_empty()).collect()
    }

    pub(super) fn draw(&self, area: &Area<'_>, groups: &[Group]) -> Result<()> {
        let bars = || groups.iter().flat_map(|group| &group.bars);
        let top = bars().map(|bar| bar.greatest).fold(0.0, f64::max) * 1.25;
        let mut chart = ChartBuilder::on(area)
            .caption(self.title, words(16))
            .margin(12)
            .x_label_area_size(30)
            .y_label_area_size(56)
            .build_cartesian_2d(0.0..groups.len() as f64, 0.0..top)?;
        let label = |at: &f64| {
            groups
                .get(*at as usize)
                .map_or("", |group| group.label)
                .to_owned()
        };
        chart
            .configure_mesh()
            .disable_x_mesh()
            .disable_x_axis()
            .light_line_style(WHITE)
            .bold_line_style(BLACK.mix(0.1))
            .y_desc(self.unit)
            .y_label_formatter(&|value| format!("{value:.0}"))
            .label_style((FONT, 12))
            .draw()?;
        let below = words(13).pos(Pos::new(HPos::Center, VPos::Top));
        let above = words(11).pos(Pos::new(HPos::Center, VPos::Bottom));
        let mut named: Vec<&str> = Vec::new();
        for (index, group) in groups.iter().enumerate() {
            let middle = (index as f64 + 0.5, 0.0);
            let text = label(&(index as f64));
            chart
                .draw_series([EmptyElement::at(middle) + Text::new(text, (0, 8), below.clone())])?;
            let width = 0.8 / group.bars.len() as f64;
            for (number, bar) in group.bars.iter().enumerate() {
                let left = index as f64 + 0.1 + width * number as f64;
                let (center, right) = (left + width * 0.46, left + width * 0.92);
                let fill = color(bar.arm).filled();
                let drawn = chart
                    .draw_series([Rectangle::new([(left, 0.0), (right, bar.median)], fill)])?;
                if !named.contains(&bar.arm) {
                    named.push(bar.arm);
                    drawn
                        .label(bar.arm)
                        .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 10, y + 5)], fill));
                }
                let spread = vec![(center, bar.least), (center, bar.greatest)];
                chart.draw_series([PathElement::new(spread, BLACK.stroke_width(1))])?;
                let number = if bar.median >= 10.0 {
                    format!("{:.0}", bar.median)
                } else {
                    format!("{:.1}", bar.median)
                };
                let value = EmptyElement::at((center, bar.greatest))
                    + Text::new(number, (0, -3), above.clone());
                chart.draw_series([value])?;
            }
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
