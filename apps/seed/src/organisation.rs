//! Plays one organisation from the platform's first day to its present.

use chrono::{DateTime, DurationRound, TimeDelta, Utc};

use crate::Seeder;
use crate::calendar::Calendar;
use crate::error::SeedError;
use crate::meeting::{Planner, When};
use crate::people::Organisation;
use crate::settings::{SeedSettings, Size};
use crate::stage::{Meeting, Stage};
use crate::step::{Media, Step, Which, Who};

/// How many media servers each has.
const NODES: usize = 2;
/// In how many days a media server is replaced.
const NODE_LIFE: i64 = 14;
/// The last minutes, in which what is missing of the events is made up.
const LAST: TimeDelta = TimeDelta::minutes(10);

/// How many events come of a meeting that is under way, about.
const EVENTS_AT_PRESENT: u64 = 60;

/// How much of it there is to be.
#[derive(Clone, Copy)]
enum Quota {
    Events(u64),
    Meetings(u64),
}

/// Plays it; returns how many events it has appended.
pub(crate) async fn play(seeder: &Seeder, organisation: Organisation, share: f64) -> Result<u64, SeedError> {
    let settings = &seeder.settings;
    let planner = Planner::new(organisation.zone, organisation.people.len(), settings.since());
    let quota = match settings.size {
        Size::Events(events) => Quota::Events(part(events, share)),
        Size::Rooms(rooms) => Quota::Meetings(part(rooms, share)),
    };
    let stage = Box::pin(Stage::open(seeder, settings, organisation)).await?;
    let mut course = Course {
        stage,
        planner,
        quota,
        settings: settings.clone(),
        outstanding: Vec::new(),
        held: 0,
    };
    course.begin();
    course.run().await?;
    course.stage.close().await
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of a number, which need not be exact"
)]
fn part(of: u64, share: f64) -> u64 {
    (of as f64 * share).ceil() as u64
}

struct Course {
    stage: Stage,
    planner: Planner,
    quota: Quota,
    settings: SeedSettings,
    /// When meetings that are planned end, and how many events may come of them.
    outstanding: Vec<(DateTime<Utc>, u64)>,
    /// How many meetings are planned or were held.
    held: u64,
}

impl Course {
    /// Puts on the agenda what does not hang on meetings.
    fn begin(&mut self) {
        let (since, until) = (self.settings.since(), self.settings.until);
        let Stage {
            agenda, chance, people, ..
        } = &mut self.stage;
        for node in 0..NODES {
            agenda.plan(since, Step::NodeStarts(node));
            let mut at = since + TimeDelta::days(NODE_LIFE) + TimeDelta::hours(3);
            while at < until - TimeDelta::days(2) {
                agenda.plan(at + TimeDelta::minutes(chance.between(0, 40)), Step::NodeStarts(node));
                at += TimeDelta::days(NODE_LIFE);
            }
        }
        for (who, person) in people.iter().enumerate() {
            let at = person.registers + TimeDelta::microseconds(chance.between(0, 59_000_000));
            agenda.plan(at, Step::Register(who));
            if let Some((at, _)) = person.parts {
                agenda.plan(at, Step::Part(who));
            }
        }
        for who in 0..self.stage.people.len() {
            let at = self.stage.people[who].registers;
            let is_local = self.stage.has_password(who);
            let Stage { agenda, chance, .. } = &mut self.stage;
            if is_local && chance.hit(0.85) {
                agenda.plan(at + TimeDelta::seconds(chance.between(90, 3_000)), Step::Verify(who));
            }
            if is_local && chance.hit(0.1) {
                agenda.plan(at + TimeDelta::hours(chance.between(2, 200)), Step::Link(who));
            }
            if chance.hit(0.05) {
                agenda.plan(at + TimeDelta::hours(chance.between(5, 900)), Step::Rename(who));
            }
        }
        // One server of the first organisation gives no sign of life any more: the sweep at the end finds it.
        let silent = self.stage.number == 0 && !self.settings.append;
        for node in usize::from(silent)..NODES {
            self.stage.agenda.plan(until - TimeDelta::seconds(5), Step::Beat(node));
        }
        if silent {
            self.stage.agenda.plan(until - TimeDelta::minutes(5), Step::Beat(0));
        }
    }

    async fn run(&mut self) -> Result<(), SeedError> {
        let (since, until) = (self.settings.since(), self.settings.until);
        let first = since.duration_trunc(TimeDelta::days(1)).unwrap_or(since);
        let days: Vec<DateTime<Utc>> = (0..)
            .map(|day| first + TimeDelta::days(day))
            .take_while(|midnight| *midnight < until)
            .collect();
        let whole: f64 = days.iter().map(|day| Calendar::weight(*day)).sum();
        let mut sum = 0.0;
        for (number, midnight) in days.iter().enumerate() {
            sum += Calendar::weight(*midnight);
            self.plan_day(*midnight, sum / whole);
            let is_last = number + 1 == days.len();
            if is_last {
                self.plan_present();
            }
            let end = if is_last {
                until - LAST
            } else {
                *midnight + TimeDelta::days(1)
            };
            self.play_until(end).await?;
            self.planner.forget(end);
            self.outstanding.retain(|(ends, _)| *ends > end);
            self.forget(end);
        }
        self.make_up();
        self.play_until(until).await?;
        self.stage.set(until);
        Ok(())
    }

    /// Plans meetings until so much of all is done or planned.
    fn plan_day(&mut self, midnight: DateTime<Utc>, share: f64) {
        let mut without = 0;
        while self.is_short_of(share) && without < 40 {
            without += u32::from(!self.plan_meeting(When::On(midnight)));
        }
    }

    fn is_short_of(&self, share: f64) -> bool {
        match self.quota {
            // A little is left for the last minutes, which make up what is missing.
            Quota::Events(events) => {
                let planned: u64 = self.outstanding.iter().map(|(_, events)| events).sum();
                let present = u64::try_from(self.present_meetings()).unwrap_or(0) * EVENTS_AT_PRESENT;
                self.stage.events + planned < part(events, share * 0.985).saturating_sub(present)
            }
            Quota::Meetings(meetings) => self.held < part(meetings, share),
        }
    }

    fn plan_meeting(&mut self, when: When) -> bool {
        let Stage {
            people, agenda, chance, ..
        } = &mut self.stage;
        let Some((which, outline)) = self.planner.plan(people, when, chance, agenda) else {
            return false;
        };
        if outline.begins < self.settings.until {
            let guests = u64::try_from(outline.guests).unwrap_or(0);
            self.outstanding
                .push((outline.ends + TimeDelta::minutes(20), 4 + guests * 13));
            self.held += 1;
        }
        self.stage.meetings.insert(which, Meeting::of(outline));
        true
    }

    fn present_meetings(&self) -> usize {
        1 + self.stage.people.len() / 40
    }

    /// Meetings that are under way at the present.
    fn plan_present(&mut self) {
        let wanted = self.present_meetings();
        let mut planned = 0;
        for _ in 0..wanted * 6 {
            if planned == wanted {
                break;
            }
            planned += usize::from(self.plan_meeting(When::At(self.settings.until)));
        }
    }

    async fn play_until(&mut self, end: DateTime<Utc>) -> Result<(), SeedError> {
        while let Some((at, step)) = self.stage.agenda.next(end) {
            self.stage.set(at);
            self.stage.play(step).await?;
        }
        Ok(())
    }

    /// Meetings and recordings of long ago have no more steps.
    fn forget(&mut self, now: DateTime<Utc>) {
        let old = now - TimeDelta::days(70);
        let meetings = &mut self.stage.meetings;
        meetings.retain(|_, meeting| meeting.outline.ends > old);
        self.stage.tapes.retain(|_, taped| meetings.contains_key(&taped.which));
    }

    /// What is missing of the events happens in the meetings that are under way: streams come and go.
    fn make_up(&mut self) {
        let Quota::Events(events) = self.quota else {
            return;
        };
        let until = self.settings.until;
        let missing = events.saturating_sub(self.stage.events + self.stage.agenda.waiting(until));
        let mut seats: Vec<(Which, Vec<Who>)> = Vec::new();
        for (which, meeting) in &self.stage.meetings {
            if meeting.present.len() > 1 {
                seats.push((*which, meeting.present.keys().copied().collect()));
            }
        }
        if seats.is_empty() {
            return;
        }
        seats.sort_unstable();
        let count = i64::try_from(seats.len()).unwrap_or(1);
        let Stage { agenda, chance, .. } = &mut self.stage;
        for number in 0..missing {
            let (which, present) = &seats[usize::try_from(chance.between(1, count)).unwrap_or(1) - 1];
            let (who, of) = (chance.one(present), chance.one(present));
            let at = until - TimeDelta::microseconds(chance.between(6_000_000, LAST.num_milliseconds() * 1_000));
            let stream = u16::try_from(number % 40_000).unwrap_or(0);
            let media = match number % 2 {
                _ if who == of => Media::Unmuted,
                0 => Media::Consumed(of, stream),
                _ => Media::Unconsumed(of, stream),
            };
            agenda.plan(at, Step::Media(*which, who, media));
        }
    }
}
