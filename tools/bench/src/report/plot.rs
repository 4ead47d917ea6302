//! Plots as SVG.

use std::path::Path;

use anyhow::{Result, anyhow};
use clap::ValueEnum as _;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::figures::{COST, Figure, FigureOf, MeasuredFigures, P99, RESIDENT, THROUGHPUT};
use super::table::thousands;
use crate::axis::Axis;
use crate::contestant::{Contestant, REFERENCE};
use crate::statistics::Spread;

pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

pub(super) const FONT: &str = "sans-serif";
pub(super) const INK: RGBColor = RGBColor(40, 44, 52);
pub(super) const FAINT: RGBColor = RGBColor(222, 225, 230);
pub(super) const PEER: RGBColor = RGBColor(150, 158, 170);
pub(super) const OURS: RGBColor = RGBColor(38, 112, 194);
pub(super) const THIRD: RGBColor = RGBColor(214, 118, 40);

pub(super) fn text(size: i32, color: RGBColor, horizontal: HPos) -> TextStyle<'static> {
    TextStyle {
        font: (FONT, size).into_font(),
        color: color.to_backend_color(),
        pos: Pos::new(horizontal, VPos::Center),
    }
}

/// Plotters' errors contain the backend; the message is enough.
pub(super) fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("a plot: {error}")
}

/// Bars, a row per contestant: processor time, throughput, latency and memory.
pub(crate) fn comparison(figures: &MeasuredFigures<'_>, path: &Path) -> Result<()> {
    let mut contestants = figures.contestants("get");
    contestants.sort_by_key(|name| Contestant::rank(name));
    let panels: [(&str, &str, Figure, bool); 4] = [
        ("get", "CPU per request, nginx = 1", COST, true),
        ("get", "requests/s, nginx = 1", THROUGHPUT, true),
        ("fixed-rate", "p99 at a fixed rate, nginx = 1", P99, true),
        ("get", "resident memory, MiB", RESIDENT, false),
    ];
    let (names, panel, row, head) = (290, 225, 30, 46);
    let size =
        (names + panel * panels.len() as i32 + 20, head + row * contestants.len() as i32 + 14);
    let area = SVGBackend::new(path, (size.0 as u32, size.1 as u32)).into_drawing_area();
    area.fill(&WHITE).map_err(failed)?;
    for (index, name) in contestants.iter().enumerate() {
        let y = head + row * index as i32 + row / 2;
        let title = Contestant::title(name).replace('`', "");
        area.draw(&Text::new(title, (names - 14, y), text(13, INK, HPos::Right)))
            .map_err(failed)?;
    }
    for (index, (scenario, title, figure, relative)) in panels.into_iter().enumerate() {
        let left = names + panel * index as i32;
        let spread = |contestant: &str| {
            let of = FigureOf::new(scenario, contestant);
            if relative {
                figures.ratio(of, FigureOf::new(scenario, REFERENCE), figure)
            } else {
                figures.value(of, figure)
            }
        };
        let bars: Vec<_> = contestants.iter().map(|name| (*name, spread(name))).collect();
        area.draw(&Text::new(title, (left, head / 2), text(13, INK, HPos::Left)))
            .map_err(failed)?;
        draw_bars(&area, &bars, (left, head), (panel - 62, row), relative)?;
    }
    area.present().map_err(failed)
}

/// Draws one panel. A bar that is far longer than the others is cut off; its number is not.
fn draw_bars(
    area: &Area<'_>,
    bars: &[(&str, Option<Spread>)],
    (left, top): (i32, i32),
    (width, row): (i32, i32),
    relative: bool,
) -> Result<()> {
    let longest = bars
        .iter()
        .filter_map(|(_, spread)| spread.map(|spread| spread.median))
        .fold(0.0, f64::max);
    let full = if relative { longest.min(4.0) } else { longest };
    let x = |value: f64| left + (value.min(full * 1.04) / full * f64::from(width)) as i32;
    if relative {
        let bottom = top + row * bars.len() as i32;
        area.draw(&PathElement::new(vec![(x(1.0), top), (x(1.0), bottom)], FAINT.stroke_width(2)))
            .map_err(failed)?;
    }
    for (index, (name, spread)) in bars.iter().enumerate() {
        let middle = top + row * index as i32 + row / 2;
        let Some(spread) = spread else {
            area.draw(&Text::new("–", (left + 4, middle), text(12, PEER, HPos::Left)))
                .map_err(failed)?;
            continue;
        };
        let color = if name.starts_with("fusebox") { OURS } else { PEER };
        let bar = [(left, middle - 8), (x(spread.median), middle + 8)];
        area.draw(&Rectangle::new(bar, color.filled())).map_err(failed)?;
        let whisker = vec![(x(spread.min), middle), (x(spread.max), middle)];
        area.draw(&PathElement::new(whisker, INK.stroke_width(1))).map_err(failed)?;
        let digits = if spread.median < 10.0 { 2 } else { usize::from(spread.median < 100.0) };
        let number = format!("{:.digits$}", spread.median);
        let end = x(spread.median.max(spread.max)) + 6;
        area.draw(&Text::new(number, (end, middle), text(12, INK, HPos::Left))).map_err(failed)?;
    }
    Ok(())
}

/// A panel per axis: cost per request by point.
pub(crate) fn scale(figures: &MeasuredFigures<'_>, path: &Path) -> Result<()> {
    let axes: Vec<_> = Axis::value_variants()
        .iter()
        .filter(|axis| !figures.points(axis.scenario()).is_empty())
        .collect();
    let rows = axes.len().div_ceil(3);
    let area = SVGBackend::new(path, (1140, 270 * rows as u32)).into_drawing_area();
    area.fill(&WHITE).map_err(failed)?;
    for (axis, panel) in axes.into_iter().zip(area.split_evenly((rows, 3))) {
        draw_axis(&panel, figures, *axis)?;
    }
    area.present().map_err(failed)
}

fn draw_axis(area: &Area<'_>, figures: &MeasuredFigures<'_>, axis: Axis) -> Result<()> {
    let scenario = axis.scenario();
    let points = figures.points(scenario);
    let mut contestants = figures.contestants(scenario);
    contestants.sort_by_key(|name| Contestant::rank(name));
    let lines: Vec<(&str, Vec<(f64, Spread)>)> = contestants
        .into_iter()
        .map(|contestant| {
            let at = |point: &u64| {
                let spread = figures.value(FigureOf::new(scenario, contestant).at(*point), COST)?;
                Some((*point as f64, spread))
            };
            (contestant, points.iter().filter_map(at).collect())
        })
        .collect();
    let highest =
        lines.iter().flat_map(|(_, line)| line).map(|(_, spread)| spread.max).fold(0.0, f64::max);
    let (first, last) = (points[0] as f64, points[points.len() - 1] as f64);
    let margin = (last / first).powf(0.06);
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .margin_top(54)
        .margin_right(18)
        .x_label_area_size(26)
        .y_label_area_size(38)
        .build_cartesian_2d(
            (first / margin..last * margin)
                .log_scale()
                .with_key_points(points.iter().map(|point| *point as f64).collect()),
            0.0..highest * 1.05,
        )
        .map_err(failed)?;
    let caption = format!("µs per request, by {}", axis.title());
    area.draw(&Text::new(caption, (50, 20), text(14, INK, HPos::Left))).map_err(failed)?;
    let mut mesh = chart.configure_mesh();
    mesh.disable_x_mesh().light_line_style(TRANSPARENT).bold_line_style(FAINT).axis_style(PEER);
    mesh.y_labels(5)
        .x_label_formatter(&|x| thousands(*x))
        .y_label_formatter(&|y| format!("{y:.0}"));
    mesh.label_style((FONT, 12).into_font().color(&INK)).draw().map_err(failed)?;
    for (index, (contestant, line)) in lines.iter().enumerate() {
        let color = match *contestant {
            REFERENCE => PEER,
            "fusebox-wasm" => THIRD,
            _ => OURS,
        };
        let path = line.iter().map(|(x, spread)| (*x, spread.median)).collect::<Vec<_>>();
        let whiskers = line.iter().map(|(x, spread)| {
            PathElement::new(vec![(*x, spread.min), (*x, spread.max)], color.stroke_width(1))
        });
        chart.draw_series(whiskers).map_err(failed)?;
        chart
            .draw_series(path.iter().map(|point| Circle::new(*point, 3, color.filled())))
            .map_err(failed)?;
        chart.draw_series([PathElement::new(path, color.stroke_width(2))]).map_err(failed)?;
        // The key, between caption and lines.
        let (x, y) = (50 + 110 * index as i32, 42);
        area.draw(&PathElement::new(vec![(x, y), (x + 16, y)], color.stroke_width(3)))
            .map_err(failed)?;
        area.draw(&Text::new(*contestant, (x + 21, y), text(12, INK, HPos::Left)))
            .map_err(failed)?;
    }
    Ok(())
}
