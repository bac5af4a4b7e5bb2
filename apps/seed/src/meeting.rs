//! One meeting, thought out before it is held: who comes and goes when, who is put out, what is recorded.

use chrono::{DateTime, Datelike, TimeDelta, Utc, Weekday};
use rand::distr::weighted::WeightedIndex;

use crate::calendar;
use crate::names;
use crate::people::{self, Person};
use crate::random::{self, Chance};
use crate::step::{Agenda, Step, Tape, Which, Who};

/// The most people that come to a meeting.
const MOST: usize = 120;

/// A meeting as its owner plans it.
pub(crate) struct Outline {
    pub(crate) owner: Who,
    pub(crate) title: &'static str,
    pub(crate) description: Option<&'static str>,
    pub(crate) begins: DateTime<Utc>,
    pub(crate) ends: DateTime<Utc>,
    /// Made days before, with these times in it.
    pub(crate) is_scheduled: bool,
    pub(crate) seats: i32,
    pub(crate) is_public: bool,
    /// How many come, the owner included.
    pub(crate) guests: usize,
}

/// When a meeting is to be.
#[derive(Clone, Copy)]
pub(crate) enum When {
    /// On the day that begins then.
    On(DateTime<Utc>),
    /// Under way at this time.
    At(DateTime<Utc>),
}

/// Plans the meetings of one organisation.
pub(crate) struct Planner {
    calendar: calendar::Calendar,
    activity: WeightedIndex<f64>,
    sizes: WeightedIndex<f64>,
    /// When each is in a meeting.
    booked: Vec<Vec<(DateTime<Utc>, DateTime<Utc>)>>,
    since: DateTime<Utc>,
    meetings: Which,
    tapes: Tape,
}

impl Planner {
    pub(crate) fn new(zone: i64, people: usize, since: DateTime<Utc>) -> Self {
        Self {
            calendar: calendar::Calendar::of(zone),
            activity: people::activity(people),
            // From two on; a few are for everybody.
            sizes: random::by_rank(people.saturating_sub(1).clamp(1, MOST - 1), 2.0, 1.5),
            booked: vec![Vec::new(); people],
            since,
            meetings: 0,
            tapes: 0,
        }
    }

    /// Forgets what was before a time.
    pub(crate) fn forget(&mut self, before: DateTime<Utc>) {
        for times in &mut self.booked {
            times.retain(|(_, end)| *end > before);
        }
    }

    /// Plans a meeting and puts it on the agenda; none if nobody has time.
    pub(crate) fn plan(
        &mut self,
        people: &[Person],
        when: When,
        chance: &mut Chance,
        agenda: &mut Agenda,
    ) -> Option<(Which, Outline)> {
        let (begins, ends, mut lead) = match when {
            When::On(midnight) => {
                let begins = self.calendar.begin(midnight, chance);
                let days = if chance.hit(0.45) { chance.between(1, 7) } else { 0 };
                let days = days
                    + if days > 0 {
                        days_of_weekend(begins + TimeDelta::days(days))
                    } else {
                        0
                    };
                let begins = begins + TimeDelta::days(days);
                (begins, begins + calendar::length(chance), TimeDelta::days(days))
            }
            When::At(present) => {
                let begins = present - TimeDelta::minutes(chance.between(12, 55));
                (
                    begins,
                    present + TimeDelta::minutes(chance.between(20, 60)),
                    TimeDelta::zero(),
                )
            }
        };
        lead += TimeDelta::minutes(chance.between(10, 90));
        let created = begins - lead;
        if created < self.since + TimeDelta::minutes(30) {
            return None;
        }
        let wanted = chance.place(&self.sizes) + 2;
        let guests = self.guests(people, wanted, (created, begins, ends), chance)?;
        let owner = *guests.first()?;
        for guest in &guests {
            self.booked[*guest].push((begins, ends));
        }
        self.meetings += 1;
        let which = self.meetings;
        let is_large = guests.len() > 12;
        let seats = [10, 25, 50, 100, 100, 250];
        let outline = Outline {
            owner,
            title: chance.one(if is_large {
                names::LARGE_MEETINGS
            } else {
                names::MEETINGS
            }),
            description: chance.hit(0.3).then(|| chance.one(names::DESCRIPTIONS)),
            begins,
            ends,
            is_scheduled: lead > TimeDelta::hours(20),
            seats: chance.one(&seats[if is_large { 4 } else { 0 }..]),
            is_public: chance.hit(if is_large { 0.5 } else { 0.08 }),
            guests: guests.len(),
        };
        agenda.plan(created, Step::Create(which));
        if outline.is_scheduled && chance.hit(0.15) {
            agenda.plan(begins - lead / 2, Step::Update(which));
        }
        if outline.is_scheduled && chance.hit(0.06) {
            agenda.plan(begins - lead / 3, Step::Cancel(which));
            return Some((which, outline));
        }
        Course {
            which,
            chance,
            agenda,
            begins,
            ends,
        }
        .run(&guests, &mut self.tapes);
        Some((which, outline))
    }

    /// People who have time, the owner first: none if nobody but the owner has.
    fn guests(
        &self,
        people: &[Person],
        wanted: usize,
        (created, begins, ends): (DateTime<Utc>, DateTime<Utc>, DateTime<Utc>),
        chance: &mut Chance,
    ) -> Option<Vec<Who>> {
        let mut guests: Vec<Who> = Vec::new();
        for _ in 0..wanted * 4 + 8 {
            if guests.len() == wanted {
                break;
            }
            let who = chance.place(&self.activity);
            let has_time = !self.booked[who].iter().any(|(from, to)| *from < ends && begins < *to);
            if has_time && people[who].is_around(created, ends) && !guests.contains(&who) {
                guests.push(who);
            }
        }
        (guests.len() > 1).then_some(guests)
    }
}

/// How many days it is to the next Monday from a Saturday or a Sunday: nobody plans a meeting for these.
fn days_of_weekend(at: DateTime<Utc>) -> i64 {
    match at.weekday() {
        Weekday::Sat => 2,
        Weekday::Sun => 1,
        _ => 0,
    }
}

/// What comes of it.
struct Course<'a> {
    which: Which,
    chance: &'a mut Chance,
    agenda: &'a mut Agenda,
    begins: DateTime<Utc>,
    ends: DateTime<Utc>,
}

impl Course<'_> {
    fn run(mut self, guests: &[Who], tapes: &mut Tape) {
        let (which, owner) = (self.which, guests[0]);
        let opens = self.begins - self.seconds(5, 240);
        self.comes(owner, opens);
        for guest in &guests[1..] {
            // Most come in the first minutes, some much later.
            let latest = if self.chance.hit(0.85) { 300 } else { self.length() / 2 };
            let joins = self.begins + self.seconds(-5, latest.max(10));
            self.comes(*guest, joins);
            self.stays(*guest, joins);
        }
        if guests.len() > 3 {
            self.moderated(guests);
        }
        if self.chance.hit(0.18) {
            *tapes += 1;
            self.recorded(*tapes);
        }
        if self.chance.hit(0.03) {
            self.agenda.plan(self.ends + TimeDelta::hours(26), Step::Delete(which));
        }
        if guests.len() > 2 && self.chance.hit(0.02) {
            self.agenda
                .plan(self.ends + TimeDelta::minutes(5), Step::Transfer(which, guests[1]));
        }
        let (ended, late) = (self.ends + self.seconds(0, 240), self.ends + TimeDelta::minutes(20));
        match self.chance.hit(0.85) {
            true => self.agenda.plan(ended, Step::End(which)),
            false => self.agenda.plan(late, Step::Close(which)),
        }
    }

    fn length(&self) -> i64 {
        (self.ends - self.begins).num_seconds()
    }

    /// So many seconds and a part of one.
    fn seconds(&mut self, low: i64, high: i64) -> TimeDelta {
        TimeDelta::microseconds(self.chance.between(low * 1_000_000, high * 1_000_000 + 999_999))
    }

    /// Signs in, sometimes at the second try, and joins.
    fn comes(&mut self, guest: Who, joins: DateTime<Utc>) {
        if self.chance.hit(0.2) {
            let login = joins - self.seconds(20, 200);
            if self.chance.hit(0.12) {
                let before = login - self.seconds(6, 15);
                self.agenda.plan(before, Step::FailLogin(guest));
            }
            self.agenda.plan(login, Step::Login(guest));
        }
        self.agenda.plan(joins, Step::Join(self.which, guest));
    }

    /// Leaves early, loses the connection and comes back, or stays until the end.
    fn stays(&mut self, guest: Who, joins: DateTime<Utc>) {
        let rest = (self.ends - joins).num_seconds().max(60);
        if self.chance.hit(0.08) {
            let lost = joins + self.seconds(20, rest / 2);
            let back = lost + self.seconds(4, 90);
            self.agenda.plan(lost, Step::Drop(self.which, guest));
            self.agenda.plan(back, Step::Join(self.which, guest));
        }
        let leaves = match self.chance.between(0, 9) {
            0 => joins + self.seconds(30, rest),
            1..=6 => self.ends - self.seconds(-30, 90),
            // The end puts them out.
            _ => return,
        };
        self.agenda.plan(leaves, Step::Leave(self.which, guest));
        if self.chance.hit(0.1) {
            let logout = leaves + self.seconds(5, 600);
            self.agenda.plan(logout, Step::Logout(guest));
        }
    }

    /// Roles, kicks and bans.
    fn moderated(&mut self, guests: &[Who]) {
        let which = self.which;
        let length = self.length();
        let someone = |course: &mut Self| course.chance.one(&guests[1..]);
        let during = |course: &mut Self| course.begins + course.seconds(300.min(length / 2), length - length / 6);
        if self.chance.hit(0.3) {
            let (helper, at) = (guests[1], self.begins + self.seconds(200, 290));
            self.agenda.plan(at, Step::Promote(which, helper));
            if self.chance.hit(0.2) {
                let at = during(self);
                self.agenda.plan(at, Step::Demote(which, helper));
            } else if self.chance.hit(0.3) {
                let at = during(self);
                self.agenda.plan(at, Step::HandOver(which, helper));
                let leaves = at + self.seconds(5, 60);
                self.agenda.plan(leaves, Step::Leave(which, guests[0]));
            }
        }
        if self.chance.hit(0.1) {
            let (who, at) = (someone(self), during(self));
            self.agenda.plan(at, Step::Kick(which, who));
            let back = at + self.seconds(10, 120);
            self.agenda.plan(back, Step::Join(which, who));
        }
        if self.chance.hit(0.07) {
            let (who, at) = (someone(self), during(self));
            let minutes = self.chance.one(&[2_u16, 5, 10, 0, 0]);
            self.agenda.plan(at, Step::Ban(which, who, minutes));
            // Too early, then when it has run out, or when the host has thought better of it.
            let (early, later) = (
                at + self.seconds(8, 40),
                at + TimeDelta::minutes(i64::from(minutes) + 1),
            );
            self.agenda.plan(early, Step::Join(which, who));
            if minutes == 0 && self.chance.hit(0.3) {
                self.agenda.plan(later, Step::Unban(which, who));
            }
            self.agenda.plan(later + TimeDelta::seconds(9), Step::Join(which, who));
        }
        if self.chance.hit(0.03) {
            let (who, at) = (someone(self), during(self));
            self.agenda.plan(at, Step::Overreach(which, who));
        }
    }

    /// A recording and what becomes of its file.
    fn recorded(&mut self, tape: Tape) {
        let starts = self.begins + self.seconds(60, 180);
        self.agenda.plan(starts, Step::Record(self.which, tape));
        if self.chance.hit(0.85) {
            let mut at = starts + self.seconds(2, 6);
            while at < self.ends {
                self.agenda.plan(at, Step::Progress(tape));
                at += TimeDelta::minutes(5);
            }
        }
        if self.chance.hit(0.06) {
            let at = starts + self.seconds(60, 500);
            self.agenda.plan(at, Step::Fail(tape));
        } else if self.chance.hit(0.6) {
            let at = self.ends - self.seconds(1, 60);
            self.agenda.plan(at, Step::Stop(tape));
        }
        if self.chance.hit(0.1) {
            // Nobody came for its file.
            return;
        }
        let process = self.ends + TimeDelta::minutes(22);
        self.agenda.plan(process, Step::Process(tape));
        let mut done = process + self.seconds(30, 900);
        if self.chance.hit(0.12) {
            self.agenda.plan(done, Step::Fail(tape));
            if self.chance.hit(0.7) {
                self.agenda.plan(done + TimeDelta::minutes(15), Step::Retry(tape));
                done += TimeDelta::minutes(30);
                self.agenda.plan(done, Step::Ready(tape));
            }
        } else {
            self.agenda.plan(done, Step::Ready(tape));
        }
        match self.chance.between(0, 9) {
            0 | 1 => {
                let days = u16::try_from(self.chance.between(5, 60)).unwrap_or(30);
                self.agenda.plan(done + TimeDelta::minutes(1), Step::Keep(tape, days));
            }
            2 => {
                let days = TimeDelta::days(self.chance.between(1, 20));
                self.agenda.plan(done + days, Step::Discard(tape));
            }
            _ => {}
        }
    }
}
