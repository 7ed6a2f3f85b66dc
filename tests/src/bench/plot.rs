//! The figures as pictures: bars where arms are compared row by row, curves where a figure is spread.

mod bars;
mod curves;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, IntoDrawingArea};
use plotters::prelude::{RGBColor, SVGBackend, WHITE};
use plotters::style::{IntoFont, TextStyle};

use super::Report;
use super::arm::{DIRECT, HOLDFAST, NGINX};

const WIDTH: u32 = 860;
const HEIGHT: u32 = 400;
/// Below the plot, for where it is from.
const FOOT: u32 = 22;
const FONT: &str = "sans-serif";

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws what this run has the rows of, as SVG into `folder`.
pub fn draw(report: &Report, origin: &str, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    for chart in bars::CHARTS {
        let groups = chart.groups(report);
        if !groups.is_empty() {
            picture(&folder.join(chart.file), origin, |area| {
                chart.draw(area, &groups)
            })?;
        }
    }
    for plot in curves::plots(report) {
        picture(&folder.join(&plot.file), origin, |area| plot.draw(area))?;
    }
    Ok(())
}

fn picture(path: &Path, origin: &str, draw: impl FnOnce(&Area<'_>) -> Result<()>) -> Result<()> {
    let mut text = String::new();
    {
        let all = SVGBackend::with_string(&mut text, (WIDTH, HEIGHT)).into_drawing_area();
        all.fill(&WHITE)?;
        let (area, foot) = all.split_vertically(HEIGHT - FOOT);
        draw(&area)?;
        foot.draw_text(origin, &words(10), (12, 4))?;
        all.present()?;
    }
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn words(size: u32) -> TextStyle<'static> {
    (FONT, size).into_font().color(&RGBColor(60, 60, 60))
}

/// An arm has the same color in every picture; they differ without color vision, too.
fn color(arm: &str) -> RGBColor {
    match arm {
        DIRECT => RGBColor(150, 150, 150),
        NGINX => RGBColor(230, 159, 0),
        HOLDFAST => RGBColor(0, 114, 178),
        _ => RGBColor(204, 121, 167),
    }
}
