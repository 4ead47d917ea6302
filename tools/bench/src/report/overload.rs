//! What becomes of too many requests: a row and a panel for each proxy.

use std::ops::Range;
use std::path::Path;

use anyhow::Result;
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::plot::{Area, FAINT, FONT, INK, OURS, PEER, THIRD, failed, text};
use super::table::{milliseconds, none, row};
use crate::overload::plan::{CAPACITY, PHASES, SECONDS, rank, title};
use crate::record::{Overload, OverloadSecond};

/// The sum of a figure over these seconds, as a share of what the service can answer in them.
fn of_capacity(
    overload: &Overload,
    seconds: &Range<usize>,
    figure: fn(&OverloadSecond) -> u64,
) -> f64 {
    let sum: u64 = overload.seconds[seconds.clone()].iter().map(figure).sum();
    sum as f64 / (CAPACITY * seconds.len() as f64)
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

pub(super) fn line(overload: &Overload) -> String {
    let p99 = overload.good_p99_micros.map_or_else(none, milliseconds);
    format!(
        "{:24} good {:>5} of capacity, p99 {p99} ms, sent {:>5}, after it good {:>5}",
        overload.contestant,
        percent(of_capacity(overload, &PHASES.measured, |second| second.good)),
        percent(of_capacity(overload, &PHASES.measured, |second| second.asked)),
        percent(of_capacity(overload, &PHASES.after, |second| second.good)),
    )
}

fn sorted(overloads: &[Overload]) -> Vec<&Overload> {
    let mut sorted: Vec<_> = overloads.iter().collect();
    sorted.sort_by_key(|overload| rank(&overload.contestant));
    sorted
}

/// A row for each.
pub(super) fn table(overloads: &[Overload]) -> String {
    let mut table = String::new();
    let head = [
        "share of capacity",
        "good answers",
        "p99 of these, ms",
        "too late",
        "failed",
        "left",
        "came to the service",
        "good answers after it",
        "load average",
    ];
    row(&mut table, head);
    row(&mut table, head.iter().enumerate().map(|(at, _)| if at == 0 { "---" } else { "---:" }));
    for overload in sorted(overloads) {
        let measured = |figure| percent(of_capacity(overload, &PHASES.measured, figure));
        row(
            &mut table,
            [
                title(&overload.contestant).to_owned(),
                measured(|second| second.good),
                overload.good_p99_micros.map_or_else(none, milliseconds),
                measured(|second| second.late),
                measured(|second| second.failed),
                measured(|second| second.left),
                measured(|second| second.asked),
                percent(of_capacity(overload, &PHASES.after, |second| second.good)),
                format!("{:.1}", overload.load_average),
            ],
        );
    }
    table
}

/// A panel for each: good answers as a share of the capacity, and the 99th percentile of the time
/// of those that were not turned away.
pub(super) fn plot(overloads: &[Overload], path: &Path) -> Result<()> {
    const COLUMNS: usize = 3;
    let rows = overloads.len().div_ceil(COLUMNS);
    let area = SVGBackend::new(path, (1140, 210 * rows as u32)).into_drawing_area();
    area.fill(&WHITE).map_err(failed)?;
    for (overload, panel) in sorted(overloads).into_iter().zip(area.split_evenly((rows, COLUMNS))) {
        draw(&panel, overload)?;
    }
    area.present().map_err(failed)
}

fn draw(area: &Area<'_>, overload: &Overload) -> Result<()> {
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .margin_top(44)
        .x_label_area_size(22)
        .y_label_area_size(38)
        .right_y_label_area_size(38)
        .build_cartesian_2d(0.0..SECONDS as f64, 0.0..1.1)
        .map_err(failed)?
        .set_secondary_coord(0.0..SECONDS as f64, 0.0..1.1);
    let during = [(PHASES.overload.start as f64, 0.0), (PHASES.overload.end as f64, 1.1)];
    chart.draw_series([Rectangle::new(during, FAINT.mix(0.5).filled())]).map_err(failed)?;
    let mut mesh = chart.configure_mesh();
    mesh.disable_x_mesh().light_line_style(TRANSPARENT).bold_line_style(FAINT).axis_style(PEER);
    mesh.x_labels(6).y_labels(5).x_label_formatter(&|x| format!("{x:.0} s"));
    mesh.y_label_formatter(&|y| percent(*y));
    mesh.label_style((FONT, 11).into_font().color(&INK)).draw().map_err(failed)?;
    let mut second = chart.configure_secondary_axes();
    second.y_labels(5).axis_style(PEER).y_label_formatter(&|y| format!("{y:.1} s"));
    second.label_style((FONT, 11).into_font().color(&INK)).draw().map_err(failed)?;

    let middle = |at: usize| at as f64 + 0.5;
    let color = if overload.contestant.starts_with("fusebox") { OURS } else { PEER };
    let good = overload.seconds.iter().enumerate();
    let good: Vec<_> =
        good.map(|(at, second)| (middle(at), second.good as f64 / CAPACITY)).collect();
    let ground = [good[good.len() - 1], good[0]].map(|(x, _)| (x, 0.0));
    let filled = good.iter().copied().chain(ground).collect::<Vec<_>>();
    chart.draw_series([Polygon::new(filled, color.mix(0.35).filled())]).map_err(failed)?;
    chart.draw_series([PathElement::new(good, color.stroke_width(2))]).map_err(failed)?;
    let waited = overload.seconds.iter().enumerate().filter_map(|(at, second)| {
        // Whoever waits for longer than that has left.
        Some((middle(at), (second.waited_p99_micros? / 1e6).min(1.1)))
    });
    let waited = PathElement::new(waited.collect::<Vec<_>>(), THIRD.stroke_width(2));
    chart.draw_secondary_series([waited]).map_err(failed)?;

    area.draw(&Text::new(title(&overload.contestant), (46, 14), text(13, INK, HPos::Left)))
        .map_err(failed)?;
    let keys = [("good answers, of capacity", color, 46), ("p99 of those let in", THIRD, 206)];
    for (what, color, x) in keys {
        area.draw(&PathElement::new(vec![(x, 32), (x + 14, 32)], color.stroke_width(3)))
            .map_err(failed)?;
        area.draw(&Text::new(what, (x + 18, 32), text(11, INK, HPos::Left))).map_err(failed)?;
    }
    Ok(())
}
