//! Makes a scenario from a seed.
//!
//! Most faults need two things at once: something that is not done yet, and a disturbance of it. A disturbance alone finds most
//! subscriptions idle, so many come with a backlog: shortly before, the subscriber becomes slow, silent or failing, and events of
//! one key arrive.

use super::{Action, Behavior, ChannelPlan, Fault, Ordering, Scenario, Step, Subscription, Target};
use crate::{history::Millis, random::Random};

/// Events are published within this time; what is edited and broken, too.
const LENGTH: Millis = 40_000;

/// Returns what a run of this seed does: the same scenario on every machine.
pub fn generate(seed: u64) -> Scenario {
    let mut random = Random::new(seed);
    let channels = (0..random.within(1..4)).map(|_| ChannelPlan {
        remembers: random.percent(60),
        lag: random.pick(&[0, 50, 500]),
    });
    let channels: Vec<ChannelPlan> = channels.collect();
    let subscribers = 2 + random.index(3);
    let mut generation = Generation {
        steps: Vec::new(),
        events: 0,
        subscriptions: Vec::new(),
        names: 0,
        forwards: false,
        channels: channels.len(),
        subscribers,
        random,
    };
    generation.begin();
    generation.publish();
    for _ in 0..generation.random.within(0..12) {
        generation.disturb();
    }
    let mut steps = generation.steps;
    steps.sort_by_key(|step| step.at);
    Scenario {
        seed,
        channels,
        subscribers,
        steps,
    }
}

struct Generation {
    random: Random,
    steps: Vec<Step>,
    /// Events published so far: their ids are numbers.
    events: usize,
    names: usize,
    subscriptions: Vec<Subscription>,
    /// One subscription at most sends on to another channel, so that an event is stored there once.
    forwards: bool,
    channels: usize,
    subscribers: usize,
}

impl Generation {
    fn step(&mut self, at: Millis, action: Action) {
        self.steps.push(Step { at, action });
    }

    fn begin(&mut self) {
        for _ in 0..self.random.within(1..5) {
            let subscription = self.subscription();
            self.step(0, Action::Subscribe(subscription));
        }
        if self.random.percent(70) {
            let neighbor = Subscription {
                target: Target::Subscriber(self.subscribers - 1),
                reply: None,
                dead_letters: None,
                in_flight: 16,
                is_neighbor: true,
                ..self.subscription()
            };
            if let Some(last) = self.subscriptions.last_mut() {
                *last = neighbor.clone();
            }
            self.step(0, Action::Subscribe(neighbor));
        }
    }

    fn subscription(&mut self) -> Subscription {
        let random = &mut self.random;
        self.names += 1;
        let channel = random.index(self.channels);
        let next = (channel + 1 < self.channels).then_some(channel + 1);
        let forwards = !self.forwards && channel == 0 && next.is_some() && random.percent(20);
        self.forwards |= forwards;
        let subscription = Subscription {
            name: format!("s{}", self.names),
            channel,
            target: match next {
                Some(next) if forwards => Target::Channel(next),
                _ => Target::Subscriber(random.index(self.subscribers - 1)),
            },
            reply: next.filter(|_| !forwards && channel == 0 && random.percent(20)),
            dead_letters: random.percent(20).then(|| random.index(self.subscribers)),
            ordering: random.pick(&[Ordering::None, Ordering::None, Ordering::Key, Ordering::Total]),
            retry: random.pick(&[0, 1, 2, 3, 5]),
            delay: random.pick(&[100, 500, 1000, 2000]),
            exponential: random.percent(50),
            timeout: random.pick(&[1000, 5000]),
            in_flight: random.pick(&[1, 2, 4, 16, 64]),
            lot: random.percent(20).then(|| "a".to_owned()),
            earliest: random.percent(20),
            paused: false,
            is_neighbor: false,
        };
        self.subscriptions.push(subscription.clone());
        subscription
    }

    fn publish(&mut self) {
        let is_heavy = self.random.percent(4);
        let count = if is_heavy { 60 } else { self.random.within(5..60) };
        let mut burst = self.random.within(100..LENGTH);
        for number in 0..count {
            if self.random.percent(10) {
                burst = self.random.within(100..LENGTH);
            }
            let at = if is_heavy || self.random.percent(60) {
                burst + number
            } else {
                self.random.within(100..LENGTH)
            };
            let channel = self.random.index(self.channels);
            let key = self.key();
            let size = if is_heavy {
                1 << 20
            } else {
                self.random.pick(&[0, 10, 3000])
            };
            self.event(at, channel, key, size);
        }
    }

    fn key(&mut self) -> Option<String> {
        self.random.percent(70).then(|| format!("k{}", self.random.index(3)))
    }

    fn event(&mut self, at: Millis, channel: usize, key: Option<String>, size: usize) {
        let id = format!("e{}", self.events);
        self.events += 1;
        let lot = self.random.pick(&["a", "b"]).to_owned();
        self.step(
            at,
            Action::Publish {
                channel,
                id,
                key,
                lot,
                size,
            },
        );
    }

    fn disturb(&mut self) {
        let at = self.random.within(50..LENGTH);
        let lasts = self.random.pick(&[20, 200, 2000, 10_000, 30_000]);
        match self.random.index(20) {
            0..=5 => self.fail_subscriber(at, lasts),
            6..=8 => self.fail_channel(at, lasts.min(10_000)),
            9 => {
                let new = self.subscription();
                self.step(at, Action::Subscribe(new));
            }
            10 => self.unsubscribe(at),
            11 => self.edit(at),
            12..=13 => self.pause(at, lasts),
            14..=15 => self.reopen(at),
            16 => self.replay(at),
            17 => self.redrive(at),
            18 => {
                self.disturbed(at);
                self.step(at, Action::Crash);
            }
            _ => self.restart(at),
        }
    }

    /// Sometimes the work on another change is under way when the drain begins.
    fn restart(&mut self, at: Millis) {
        let subscription = self.disturbed(at);
        let just_before = at - self.random.within(0..5);
        match self.random.index(6) {
            0 => self.step(just_before, Action::Reopen(subscription.channel)),
            1 => self.step(just_before, Action::Unsubscribe(subscription.name)),
            2 => {
                let new = self.subscription();
                self.step(just_before, Action::Subscribe(new));
            }
            _ => {}
        }
        let grace = self.random.pick(&[0, 500, 5000, 30_000]);
        self.step(at, Action::Restart { grace });
    }

    /// A subscription that is about to be disturbed, often with a backlog.
    fn disturbed(&mut self, at: Millis) -> Subscription {
        let all = self.subscriptions.iter().filter(|one| !one.is_neighbor);
        let all: Vec<Subscription> = all.cloned().collect();
        let subscription = self.random.pick(&all);
        if self.random.percent(60) {
            self.backlog(at, &subscription);
        }
        subscription
    }

    /// Gives the subscription something that is not done at that time.
    fn backlog(&mut self, at: Millis, of: &Subscription) {
        use Behavior::{Flaky, Mute, Slow, Status};
        let since = at.saturating_sub(self.random.within(50..1500));
        let behavior = self.random.pick(&[Slow(300), Slow(1700), Mute, Status(503), Flaky]);
        let lasts = self.random.pick(&[1500, 3000, 10_000]);
        self.behave(since, of, behavior, lasts);
        let key = self.key();
        for number in 1..self.random.within(3..8) {
            self.event(since + number, of.channel, key.clone(), 10);
        }
    }

    /// The subscriber of this subscription behaves like that; the last subscriber, a neighbor's, stays well.
    fn behave(&mut self, at: Millis, of: &Subscription, behavior: Behavior, lasts: Millis) {
        if let Target::Subscriber(number) = of.target
            && number + 1 < self.subscribers
        {
            self.step(
                at,
                Action::Subscriber {
                    number,
                    behavior,
                    lasts,
                },
            );
        }
    }

    fn fail_subscriber(&mut self, at: Millis, lasts: Millis) {
        use Behavior::{Away, Breaks, Flaky, Garbage, Later, Mute, NoFiles, Slow, Status};
        let number = self.random.index(self.subscribers - 1);
        let behavior = self.random.pick(&[
            Status(500),
            Status(503),
            Status(404),
            Status(409),
            Status(400),
            Status(410),
            Status(301),
            Later(429, 3),
            Later(503, 7),
            Later(500, 9),
            Flaky,
            Flaky,
            Slow(300),
            Slow(1700),
            Mute,
            Away,
            Breaks,
            Garbage,
            NoFiles,
        ]);
        self.step(
            at,
            Action::Subscriber {
                number,
                behavior,
                lasts,
            },
        );
    }

    fn fail_channel(&mut self, at: Millis, lasts: Millis) {
        let number = self.random.index(self.channels);
        let fault = self.random.pick(&[
            Fault::Full,
            Fault::Unavailable,
            Fault::Lies,
            Fault::Stalls,
            Fault::DeadLetters,
            Fault::Reads,
            Fault::Ends,
            Fault::Opens,
        ]);
        self.step(at, Action::Channel { number, fault, lasts });
    }

    fn unsubscribe(&mut self, at: Millis) {
        let subscription = self.disturbed(at);
        self.step(at, Action::Unsubscribe(subscription.name.clone()));
        if self.random.percent(50) {
            let after = self.random.pick(&[1, 100, 8000]);
            self.step(at + after, Action::Subscribe(subscription));
        }
    }

    fn edit(&mut self, at: Millis) {
        let mut edited = self.disturbed(at);
        if self.random.percent(50) && matches!(edited.target, Target::Subscriber(_)) {
            edited.target = Target::Subscriber(self.random.index(self.subscribers));
        } else {
            (edited.retry, edited.in_flight) = (self.random.pick(&[0, 2, 4]), self.random.pick(&[1, 3, 8]));
        }
        self.step(at, Action::Subscribe(edited));
    }

    fn pause(&mut self, at: Millis, lasts: Millis) {
        let subscription = self.disturbed(at);
        let paused = Subscription {
            paused: true,
            ..subscription.clone()
        };
        self.step(at, Action::Subscribe(paused));
        self.step(at + lasts, Action::Subscribe(subscription));
    }

    fn reopen(&mut self, at: Millis) {
        let channel = self.disturbed(at).channel;
        self.step(at, Action::Reopen(channel));
    }

    fn replay(&mut self, at: Millis) {
        let subscription = self.disturbed(at).name;
        let replay = Action::Replay {
            subscription,
            from: self.random.within(0..10),
            rate: self.rate(),
            followed: self.random.pick(&[300, 3000, Action::TO_ITS_END]),
        };
        self.step(at, replay);
    }

    /// Often there are dead letters by then, and the subscriber takes them slowly or not at all.
    fn redrive(&mut self, at: Millis) {
        use Behavior::{Flaky, Mute, Slow, Status};
        let subscription = self.disturbed(at);
        if self.random.percent(70) {
            let since = at.saturating_sub(3000);
            self.behave(since, &subscription, Status(400), 2900);
            let key = self.key();
            for number in 1..self.random.within(3..8) {
                self.event(since + number, subscription.channel, key.clone(), 10);
            }
            let behavior = self.random.pick(&[Slow(1700), Mute, Status(503), Status(400), Flaky]);
            self.behave(at.saturating_sub(10), &subscription, behavior, 2000);
        }
        let redrive = Action::Redrive {
            subscription: subscription.name,
            rate: self.rate(),
            followed: self.random.pick(&[300, 3000, Action::TO_ITS_END]),
        };
        self.step(at, redrive);
    }

    fn rate(&mut self) -> Option<f64> {
        self.random.pick(&[None, None, Some(2.0), Some(20.0)])
    }
}
