//! Small drawings made here: lines of the last fifteen minutes, and the curves between the nodes of the flow. No script draws anything.

use std::fmt::Write;

use maud::{Markup, html};

use super::{
    history::{INTERVAL, POINTS, Point, Recent},
    parts::Health,
};

const WIDTH: f64 = 160.0;
const HEIGHT: f64 = 32.0;

/// The traffic of the last fifteen minutes: an area of events, with failures as bars upon it.
pub(super) fn sparkline(recent: &Recent, what: &str) -> Markup {
    let highest = recent
        .points
        .iter()
        .map(|point| point.events.max(point.failed))
        .max()
        .unwrap_or(0);
    let scale = (HEIGHT - 3.0) / f64::from(highest.max(1));
    let step = WIDTH / POINTS as f64;
    let left = (POINTS + 1).saturating_sub(recent.points.len());
    let x = |index: usize| (left + index) as f64 * step;
    let mut area = String::new();
    for (index, point) in recent.points.iter().enumerate() {
        let y = HEIGHT - 1.0 - f64::from(point.events) * scale;
        let sign = if index == 0 { 'M' } else { 'L' };
        // A String takes all that is written to it.
        let _ = write!(area, "{sign}{:.1} {y:.1}", x(index));
    }
    let base = HEIGHT - 1.0;
    let closed = format!("{area}L{WIDTH} {base}L{:.1} {base}Z", x(0));
    let bars = recent.points.iter().enumerate().filter(|(_, point)| point.failed > 0);
    let bars: Vec<(f64, f64)> = bars
        .map(|(index, point)| (x(index), f64::from(point.failed) * scale))
        .collect();
    html! {
        svg.spark viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) width=(WIDTH) height=(HEIGHT) role="img" aria-label=(described(recent, what)) preserveAspectRatio="none" {
            path.area d=(closed) {}
            path.line d=(area) {}
            @for (x, height) in bars {
                rect.failed x=(format!("{:.1}", x - step)) y=(format!("{:.1}", base - height.max(2.0))) width=(format!("{:.1}", step.max(1.2))) height=(format!("{:.1}", height.max(2.0))) {}
            }
        }
    }
}

fn described(recent: &Recent, what: &str) -> String {
    let sum = |of: fn(&Point) -> u32| recent.points.iter().map(|point| u64::from(of(point))).sum::<u64>();
    let minutes = (recent.points.len() as u64 * INTERVAL.as_secs()).div_ceil(60);
    let failed = sum(|point| point.failed);
    let failures = if failed > 0 {
        format!(", {failed} failed attempts")
    } else {
        String::new()
    };
    format!(
        "{} {what}{failures} in the last {minutes} min",
        sum(|point| point.events)
    )
}

/// A rate with its unit.
pub(super) fn rate(rate: f64) -> String {
    match rate {
        rate if rate <= 0.0 => "0/s".to_owned(),
        rate if rate < 0.95 => format!("{:.1}/min", rate * 60.0),
        rate if rate < 99.5 => format!("{rate:.1}/s"),
        rate => format!("{rate:.0}/s"),
    }
}

/// The height of a node of the flow, as the style sheet has it.
const ROW: f64 = 64.0;

/// The width of the room between two columns.
const GAP: f64 = 56.0;

/// Curves from the middle of one side to each row of the other, thicker where more flows, broken where something fails.
pub(super) fn edges(rows: &[(Health, f64)], goes_out: bool) -> Markup {
    let height = ROW * rows.len().max(1) as f64;
    let middle = height / 2.0;
    html! {
        svg.edges viewBox=(format!("0 0 {GAP} {height}")) width=(GAP) height=(height) aria-hidden="true" {
            @for (index, (health, rate)) in rows.iter().enumerate() {
                @let row = ROW.mul_add(index as f64, ROW / 2.0);
                @let (from, to) = if goes_out { (middle, row) } else { (row, middle) };
                path.(health.class()) stroke-width=(format!("{:.1}", thickness(*rate)))
                    d=(format!("M0 {from:.1}C{half:.1} {from:.1} {half:.1} {to:.1} {GAP} {to:.1}", half = GAP / 2.0)) {}
            }
        }
    }
}

/// From a hair for nothing to a rope for thousands a second.
fn thickness(rate: f64) -> f64 {
    1.2 + (1.0 + rate.max(0.0)).log10() * 1.6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_its_numbers_in_words() {
        let recent = Recent {
            points: vec![Point { events: 5, failed: 0 }, Point { events: 2, failed: 3 }],
            ..Recent::default()
        };
        let drawn = sparkline(&recent, "events delivered").into_string();
        assert!(
            drawn.contains("7 events delivered, 3 failed attempts in the last 1 min"),
            "{drawn}"
        );
        assert_eq!(drawn.matches("<rect").count(), 1);
        assert!(!sparkline(&Recent::default(), "events").into_string().contains("NaN"));
    }

    #[test]
    fn slow_rates_are_a_minute() {
        assert_eq!(
            [0.0, 0.05, 0.94, 1.25, 99.4, 1234.4].map(rate),
            ["0/s", "3.0/min", "56.4/min", "1.2/s", "99.4/s", "1234/s"]
        );
        assert!(thickness(0.0) < thickness(10.0) && thickness(100_000.0) < 10.0);
    }
}
