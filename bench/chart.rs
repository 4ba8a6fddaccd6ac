//! Draws a record of `bench/run --json` as SVG: CPU per unit of every proxy, as a ratio to the best peer's. Measures nothing.
//!
//! `bench-chart RECORD.json CHART.svg`

use std::collections::BTreeMap;
use std::error::Error;

use plotters::prelude::*;
use serde_json::Value;

/// Height of one scenario's group of bars, and width of the chart, in pixels.
const BAR: u32 = 16;
const WIDTH: u32 = 900;

/// CPU µs per unit of each proxy, rounds apart.
type Costs = BTreeMap<String, Vec<f64>>;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, from, to] = args.as_slice() else { return Err("bench-chart RECORD.json CHART.svg".into()) };
    let record: Value = serde_json::from_str(&std::fs::read_to_string(from)?)?;
    let scenarios = costs(&record);
    let bars: Vec<(String, f64)> = scenarios.iter().flat_map(|(name, costs)| ratios(name, costs)).collect();
    draw(&bars, to)
}

fn costs(record: &Value) -> Vec<(String, Costs)> {
    let mut scenarios: Vec<(String, Costs)> = Vec::new();
    for result in record["results"].as_array().into_iter().flatten() {
        let (Some(scenario), Some(proxy)) = (result["scenario"].as_str(), result["proxy"].as_str()) else {
            continue;
        };
        let units = result["units"].as_f64().unwrap_or(1.0).max(1.0);
        let grown = result["rss_before_kib"].as_f64().map(|b| result["rss_kib"].as_f64().unwrap_or(b) - b);
        let cost = grown.unwrap_or_else(|| result["cpu_us"].as_f64().unwrap_or(0.0)) / units;
        if scenarios.last().is_none_or(|(name, _)| name != scenario) {
            scenarios.push((scenario.to_owned(), Costs::new()));
        }
        if let Some((_, costs)) = scenarios.last_mut() {
            costs.entry(proxy.to_owned()).or_default().push(cost);
        }
    }
    scenarios
}

fn ratios(scenario: &str, costs: &Costs) -> Vec<(String, f64)> {
    let medians: Vec<(&str, f64)> = costs.iter().map(|(name, all)| (name.as_str(), median(all))).collect();
    let peers = medians.iter().filter(|(name, _)| !matches!(*name, "shardgate" | "floor"));
    let best = peers.map(|(_, cost)| *cost).fold(f64::INFINITY, f64::min);
    if !best.is_finite() || best <= 0.0 {
        return Vec::new();
    }
    medians.iter().map(|(name, cost)| (format!("{scenario} {name}"), cost / best)).collect()
}

fn median(all: &[f64]) -> f64 {
    let mut sorted = all.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn draw(bars: &[(String, f64)], to: &str) -> Result<(), Box<dyn Error>> {
    let rows = u32::try_from(bars.len())?;
    let root = SVGBackend::new(to, (WIDTH, rows * BAR + 80)).into_drawing_area();
    root.fill(&WHITE)?;
    let most = bars.iter().map(|(_, ratio)| *ratio).fold(1.0, f64::max).min(5.0);
    let mut chart = ChartBuilder::on(&root)
        .caption("CPU (or memory) per unit, ratio to the best peer", ("sans-serif", 16))
        .margin(8)
        .x_label_area_size(24)
        .y_label_area_size(260)
        .build_cartesian_2d(0.0..most * 1.1, (0..rows).into_segmented())?;
    let name = |row: &SegmentValue<u32>| match row {
        // The first scenario stands at the top. The mesh also asks for places outside of the range.
        SegmentValue::CenterOf(row) => {
            let bar = (rows - 1).checked_sub(*row).and_then(|at| bars.get(at as usize));
            bar.map_or_else(String::new, |(name, _)| name.clone())
        }
        _ => String::new(),
    };
    chart.configure_mesh().y_labels(bars.len()).y_label_formatter(&name).disable_y_mesh().draw()?;
    for (row, (name, ratio)) in (0..rows).rev().zip(bars) {
        let colour =
            if name.ends_with(" shardgate") { RGBColor(20, 110, 180) } else { RGBColor(170, 170, 170) };
        let corners = [(0.0, SegmentValue::Exact(row)), (*ratio, SegmentValue::Exact(row + 1))];
        let mut bar = Rectangle::new(corners, colour.filled());
        bar.set_margin(2, 2, 0, 0);
        chart.draw_series(std::iter::once(bar))?;
    }
    root.present()?;
    Ok(())
}
