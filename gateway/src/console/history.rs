//! The traffic of the last fifteen minutes, from the counters of the data plane, in bounded memory: no database, and nothing counted per
//! event. It starts again with the process.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use dataplane::{Plane, SubscriptionTraffic, Traffic};
use parking_lot::Mutex;
use spec::ObjectName;
use tokio::time::{Instant, MissedTickBehavior};

/// The time of one point: short enough to see a minute's outage, long enough that two thousand lines cost 3 MB.
pub(super) const INTERVAL: Duration = Duration::from_secs(10);

/// Points of a line: fifteen minutes.
pub(super) const POINTS: usize = 90;

/// Objects with a line at most, about 4 MB. Others show what they do now, and no line.
const OBJECTS_MAX: usize = 5000;

/// Events and failures of one object in one interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Point {
    pub(super) events: u32,
    pub(super) failed: u32,
}

/// The traffic of an object.
#[derive(Clone, Debug, Default)]
pub(super) struct Recent {
    /// Events a second, over the last interval or two.
    pub(super) rate: f64,
    /// Failures a second.
    pub(super) failure_rate: f64,
    /// Oldest first; the last one is not over yet.
    pub(super) points: Vec<Point>,
}

#[derive(Default)]
struct Line {
    /// The counters at the last point.
    counted: (u64, u64),
    points: VecDeque<Point>,
}

impl Line {
    fn since(&self, (events, failed): (u64, u64)) -> Point {
        // A counter that is lower began again.
        let grown = |now: u64, then: u64| u32::try_from(if now < then { now } else { now - then }).unwrap_or(u32::MAX);
        Point {
            events: grown(events, self.counted.0),
            failed: grown(failed, self.counted.1),
        }
    }

    fn push(&mut self, counted: (u64, u64)) {
        let point = self.since(counted);
        self.counted = counted;
        self.points.push_back(point);
        if self.points.len() > POINTS {
            self.points.pop_front();
        }
    }

    fn recent(&self, counted: (u64, u64), since: Duration) -> Recent {
        let current = self.since(counted);
        let last = self.points.back().copied().unwrap_or_default();
        let span = if self.points.is_empty() {
            since
        } else {
            since + INTERVAL
        };
        let rate = |a: u32, b: u32| f64::from(a.saturating_add(b)) / span.as_secs_f64().max(1.0);
        let mut points: Vec<Point> = self.points.iter().copied().collect();
        points.push(current);
        Recent {
            rate: rate(last.events, current.events),
            failure_rate: rate(last.failed, current.failed),
            points,
        }
    }
}

struct Lines {
    channels: BTreeMap<ObjectName, Line>,
    subscriptions: BTreeMap<ObjectName, Line>,
    /// When the last point was made.
    at: Instant,
}

/// The lines of all objects.
pub(super) struct History(Mutex<Lines>);

impl Default for History {
    fn default() -> Self {
        Self(Mutex::new(Lines {
            channels: BTreeMap::new(),
            subscriptions: BTreeMap::new(),
            at: Instant::now(),
        }))
    }
}

fn failures(of: &SubscriptionTraffic) -> (u64, u64) {
    (of.delivered, of.failed)
}

impl History {
    /// Makes points for as long as it is polled.
    pub(super) async fn run(&self, plane: &Plane) -> std::convert::Infallible {
        let mut interval = tokio::time::interval_at(Instant::now() + INTERVAL, INTERVAL);
        interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            interval.tick().await;
            self.record(&plane.traffic());
        }
    }

    fn record(&self, traffic: &Traffic) {
        let mut lines = self.0.lock();
        lines.at = Instant::now();
        let accepted = traffic.accepted.iter().map(|(name, events)| (name, (*events, 0)));
        record(&mut lines.channels, accepted);
        let settled = traffic.subscriptions.iter().map(|(name, of)| (name, failures(of)));
        record(&mut lines.subscriptions, settled);
    }

    pub(super) fn channel(&self, name: &ObjectName, traffic: &Traffic) -> Recent {
        let lines = self.0.lock();
        let counted = (traffic.accepted.get(name).copied().unwrap_or_default(), 0);
        recent(lines.channels.get(name), counted, lines.at.elapsed())
    }

    pub(super) fn subscription(&self, name: &ObjectName, traffic: &Traffic) -> Recent {
        let lines = self.0.lock();
        let counted = traffic.subscriptions.get(name).map(failures).unwrap_or_default();
        recent(lines.subscriptions.get(name), counted, lines.at.elapsed())
    }
}

fn record<'a>(lines: &mut BTreeMap<ObjectName, Line>, counted: impl Iterator<Item = (&'a ObjectName, (u64, u64))>) {
    let counted: BTreeMap<&ObjectName, (u64, u64)> = counted.collect();
    lines.retain(|name, _| counted.contains_key(name));
    for (name, counted) in counted {
        if let Some(line) = lines.get_mut(name) {
            line.push(counted);
        } else if lines.len() < OBJECTS_MAX {
            lines.entry(name.clone()).or_default().push(counted);
        }
    }
}

fn recent(line: Option<&Line>, counted: (u64, u64), since: Duration) -> Recent {
    match line {
        Some(line) => line.recent(counted, since),
        // Younger than a point.
        None => Line::default().recent(counted, since),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traffic(delivered: u64, failed: u64) -> Traffic {
        let of = SubscriptionTraffic {
            delivered,
            failed,
            ..SubscriptionTraffic::default()
        };
        Traffic {
            accepted: [(ObjectName::new("a", "c"), delivered)].into(),
            subscriptions: [(ObjectName::new("a", "s"), of)].into(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn rates_are_of_the_last_interval_and_the_line_is_bounded() {
        let (history, name) = (History::default(), ObjectName::new("a", "s"));
        tokio::time::advance(INTERVAL).await;
        history.record(&traffic(100, 0));
        tokio::time::advance(INTERVAL).await;
        history.record(&traffic(150, 10));
        tokio::time::advance(INTERVAL).await;
        let now = history.subscription(&name, &traffic(160, 30));
        let points: Vec<_> = now.points.iter().map(|point| (point.events, point.failed)).collect();
        assert_eq!(points, [(100, 0), (50, 10), (10, 20)]);
        assert_eq!((now.rate, now.failure_rate), (3.0, 1.5));
        // The process of a subscription began again.
        history.record(&traffic(7, 0));
        assert_eq!(
            history.channel(&ObjectName::new("a", "c"), &traffic(7, 0)).points[2].events,
            7
        );
        for _ in 0..2 * POINTS {
            history.record(&traffic(7, 0));
        }
        assert_eq!(history.subscription(&name, &traffic(7, 0)).points.len(), POINTS + 1);
        history.record(&Traffic::default());
        assert!(history.subscription(&name, &Traffic::default()).points.len() == 1);
    }
}
