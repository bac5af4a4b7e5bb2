//! Who was where and when, and how much the platform was used: against sums made in memory from the rows themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use chrono::{DateTime, Days, NaiveDate, TimeDelta, Utc};
use conferencing_store::clock::Clock;
use conferencing_store::entity::ParticipantRole::Participant;
use conferencing_store::entity::{ParticipantId, RoomId, UserId, room, room_participant, user};
use conferencing_store::statistics::{BusyRoom, DayOfUse, MAX_BUSIEST, MAX_DAYS};
use conferencing_store::{Acting, Actor, Error, Invalid, Order, PageRequest, Rule, Store};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use sea_orm::EntityTrait;

use crate::harness::{Backend, TestDb};
use crate::user_lists::all_pages;

crate::cases![
    lists_and_sums_are_those_of_the_rows,
    those_who_come_at_that_very_moment_are_in,
    a_stay_over_midnight_is_split,
    a_long_walk_comes_back_short_and_goes_on,
    spans_that_are_none_are_refused,
];

const ORDERS: [Order; 2] = [Order::OldestFirst, Order::NewestFirst];

/// A platform after some days.
struct World {
    store: Store,
    now: DateTime<Utc>,
    rooms: Vec<room::Model>,
    users: Vec<user::Model>,
    /// All of them.
    stays: Vec<room_participant::Model>,
}

/// Some days of random meetings, from a noon on.
async fn play(db: &TestDb, random: &mut StdRng) -> World {
    let start = "2026-03-02T12:00:00Z".parse().unwrap();
    let (store, clock) = db.with_clock_at(start).await;
    let system = store.acting(&Actor::system("test"));
    let users = db.users("guest", 7).await;
    let owner = db.user("owner").await;
    let mut rooms = Vec::new();
    for step in 0..320 {
        if step % 20 == 0 {
            rooms.push(db.room(&owner, 5).await.id);
        }
        let (user, room) = (users.choose(random).unwrap().id, *rooms.choose(random).unwrap());
        random_step(&system, random, user, room).await;
        // Often no time at all passes; now and then a night.
        let longest = *[0, 0, 1_000, 3_600_000_000, 30_000_000_000].choose(random).unwrap();
        clock.advance(TimeDelta::microseconds(random.random_range(0..=longest)));
    }
    // What is erased and deleted has been there.
    system.users().erase(users[0].id).await.unwrap();
    let raw = db.raw().await;
    let ended = rooms[0];
    let _ = system.rooms().end(ended).await;
    let _ = system.rooms().delete(ended).await;
    World {
        now: clock.now(),
        store,
        rooms: room::Entity::find().all(&raw.db).await.unwrap(),
        users,
        stays: room_participant::Entity::find().all(&raw.db).await.unwrap(),
    }
}

/// Most are refused, as it comes.
async fn random_step(system: &Acting, random: &mut StdRng, user: UserId, room: RoomId) {
    let people = system.participants();
    match random.random_range(0..20) {
        0..10 => drop(people.join(room, user, Participant).await),
        10..15 => drop(people.leave(room, user).await),
        15 => drop(people.kick(room, user, None).await),
        16 => drop(people.ban(room, user, None, None).await),
        17 => drop(people.unban(room, user).await),
        18 if random.random_bool(0.3) => drop(system.rooms().end(room).await),
        _ => {}
    }
}

impl World {
    fn gone(&self, stay: &room_participant::Model) -> DateTime<Utc> {
        stay.left_at.unwrap_or(self.now)
    }

    /// Rows that only carry the ban of somebody who was absent are none.
    fn is_stay(stay: &room_participant::Model) -> bool {
        let carries_a_ban = !stay.is_kicked && stay.banned_at == Some(stay.joined_at) && stay.left_at == stay.banned_at;
        !carries_a_ban
    }

    /// How long a stay is within the span, if it is in it.
    fn within(&self, stay: &room_participant::Model, span: &Range<DateTime<Utc>>) -> Option<TimeDelta> {
        let gone = self.gone(stay);
        let overlaps = stay.joined_at < span.end && (gone > span.start || stay.joined_at >= span.start);
        (overlaps && Self::is_stay(stay)).then(|| gone.min(span.end) - stay.joined_at.max(span.start))
    }

    fn present_at(&self, room: RoomId, at: DateTime<Utc>) -> Vec<ParticipantId> {
        let here = self.stays.iter().filter(|stay| stay.room_id == room);
        let there =
            |stay: &&room_participant::Model| stay.joined_at <= at && stay.left_at.is_none_or(|left_at| left_at > at);
        let mut present: Vec<_> = here.filter(there).map(|stay| (stay.joined_at, stay.id)).collect();
        present.sort();
        present.into_iter().map(|(_, id)| id).collect()
    }

    fn stays_of(&self, user: UserId, span: &Range<DateTime<Utc>>) -> Vec<ParticipantId> {
        let own = self.stays.iter().filter(|stay| stay.user_id == user);
        let overlapping = own.filter(|stay| {
            let is_over = stay.left_at.is_some_and(|left_at| left_at <= span.start) && stay.joined_at < span.start;
            stay.joined_at < span.end && !is_over && Self::is_stay(stay)
        });
        let mut found: Vec<_> = overlapping
            .map(|stay| (stay.joined_at, stay.room_id, stay.id))
            .collect();
        found.sort();
        found.into_iter().map(|(_, _, id)| id).collect()
    }

    fn day(&self, day: NaiveDate) -> DayOfUse {
        let midnight = |day: NaiveDate| day.and_hms_opt(0, 0, 0).unwrap().and_utc();
        let span = midnight(day)..midnight(day.succ_opt().unwrap());
        let parts = self
            .stays
            .iter()
            .filter_map(|stay| Some((stay, self.within(stay, &span)?)));
        let parts: Vec<_> = parts.collect();
        DayOfUse {
            day,
            meetings: self
                .rooms
                .iter()
                .filter(|room| room.started_at.is_some_and(|at| span.contains(&at)))
                .count() as i64,
            distinct_participants: parts
                .iter()
                .map(|(stay, _)| stay.user_id)
                .collect::<BTreeSet<_>>()
                .len() as i64,
            joins: parts.iter().filter(|(stay, _)| span.contains(&stay.joined_at)).count() as i64,
            total_participation: parts.iter().map(|(_, part)| *part).sum(),
        }
    }

    fn busiest(&self, span: &Range<DateTime<Utc>>) -> Vec<(RoomId, TimeDelta, i64, i64)> {
        let mut rooms: BTreeMap<RoomId, (TimeDelta, i64, BTreeSet<UserId>)> = BTreeMap::new();
        for stay in &self.stays {
            if let Some(part) = self.within(stay, span) {
                let room = rooms.entry(stay.room_id).or_default();
                room.0 += part;
                room.1 += i64::from(span.contains(&stay.joined_at));
                room.2.insert(stay.user_id);
            }
        }
        let rooms = rooms.into_iter();
        let mut rooms: Vec<_> = rooms
            .map(|(id, (total, joins, people))| (id, total, joins, people.len() as i64))
            .collect();
        rooms.sort_by_key(|(id, total, joins, _)| (std::cmp::Reverse((*total, *joins)), *id));
        rooms
    }

    /// Times at which something happened, just before and just after, and some others.
    fn times(&self, random: &mut StdRng, count: usize) -> Vec<DateTime<Utc>> {
        let happened: Vec<_> = self
            .stays
            .iter()
            .flat_map(|stay| [Some(stay.joined_at), stay.left_at])
            .flatten()
            .collect();
        let pick = |_| {
            let off = TimeDelta::microseconds(*[-1, 0, 0, 0, 1, 40_000_000].choose(random).unwrap());
            *happened.choose(random).unwrap() + off
        };
        (0..count).map(pick).collect()
    }
}

/// A failure prints its seed; `MODEL_SEED` runs that one again.
async fn lists_and_sums_are_those_of_the_rows(db: TestDb) {
    let seed = std::env::var("MODEL_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| rand::rng().random());
    println!("MODEL_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let world = play(&db, &mut random).await;
    let people = world.store.participants();
    for at in world.times(&mut random, 25) {
        for room in &world.rooms {
            let expected = world.present_at(room.id, at);
            for (order, size) in [(ORDERS[0], 1), (ORDERS[0], 500), (ORDERS[1], 2)] {
                let there = all_pages!(size, order, |page| people.present_at(room.id, at, page));
                let mut ids: Vec<_> = there.iter().map(|seat| seat.participant.id).collect();
                if order == Order::NewestFirst {
                    ids.reverse();
                }
                assert_eq!(ids, expected, "seed {seed}: {} at {at}", room.id);
                assert!(there.iter().all(|seat| seat.user.id == seat.participant.user_id));
            }
        }
    }
    for time in world.times(&mut random, 12) {
        let span = time..time + TimeDelta::microseconds(random.random_range(1..200_000_000_000));
        for user in &world.users {
            let expected = world.stays_of(user.id, &span);
            for (order, size) in [(ORDERS[0], 1), (ORDERS[1], 500), (ORDERS[1], 2)] {
                let stays = all_pages!(size, order, |page| people.stays_of(user.id, span.clone(), page));
                let mut ids: Vec<_> = stays.iter().map(|stay| stay.participant.id).collect();
                if order == Order::NewestFirst {
                    ids.reverse();
                }
                assert_eq!(ids, expected, "seed {seed}: {} in {span:?}", user.id);
                for stay in stays {
                    let room = world.rooms.iter().find(|room| room.id == stay.room.id).unwrap();
                    assert_eq!(stay.participant.room_id, stay.room.id);
                    assert_eq!((&stay.room.room_code, &stay.room.title), (&room.room_code, &room.title));
                }
            }
        }
        let busiest = world.store.statistics().busiest_rooms(span.clone(), 100).await.unwrap();
        assert_eq!(told(&busiest), world.busiest(&span), "seed {seed}: {span:?}");
        let first = world.store.statistics().busiest_rooms(span.clone(), 2).await.unwrap();
        assert_eq!(first, busiest[..busiest.len().min(2)]);
    }
    let statistics = world.store.statistics();
    let first: NaiveDate = "2026-03-01".parse().unwrap();
    let last = world.now.date_naive() + Days::new(3);
    let days = statistics.daily(first..last).await.unwrap();
    let expected: Vec<_> = first
        .iter_days()
        .take_while(|day| *day < last)
        .map(|day| world.day(day))
        .collect();
    assert_eq!(days, expected, "seed {seed}");
    // Each day by itself is the same, whatever goes on around it.
    for day in &days {
        let alone = statistics.daily(day.day..day.day.succ_opt().unwrap()).await.unwrap();
        assert_eq!(alone, [*day], "seed {seed}");
    }
    let month = statistics.daily_of_month(2026, 3).await.unwrap();
    assert_eq!(month.len(), 31);
    assert_eq!(month[..5], days[..5]);
    let all: TimeDelta = days.iter().map(|day| day.total_participation).sum();
    let rows = world.stays.iter().filter(|stay| World::is_stay(stay));
    assert_eq!(
        all,
        rows.map(|stay| world.gone(stay) - stay.joined_at).sum(),
        "seed {seed}"
    );
}

fn told(rooms: &[BusyRoom]) -> Vec<(RoomId, TimeDelta, i64, i64)> {
    let rooms = rooms.iter();
    rooms
        .map(|busy| {
            let BusyRoom {
                room,
                total_participation,
                joins,
                distinct_participants,
            } = busy;
            (room.id, *total_participation, *joins, *distinct_participants)
        })
        .collect()
}

async fn those_who_come_at_that_very_moment_are_in(db: TestDb) {
    let (owner, guests) = (db.user("owner").await, db.users("guest", 5).await);
    let room = db.room(&owner, 9).await;
    let (store, clock) = db.with_manual_clock().await;
    let system = store.acting(&Actor::system("test"));
    for (number, guest) in guests.iter().enumerate() {
        system
            .participants()
            .join(room.id, guest.id, Participant)
            .await
            .unwrap();
        if number == 0 {
            clock.advance(TimeDelta::minutes(1));
        }
    }
    let moment = clock.now();
    let leaving = system.participants();
    leaving.leave(room.id, guests[4].id).await.unwrap();
    let people = store.participants();
    for order in ORDERS {
        for size in [1, 2, 9] {
            for (at, count) in [
                (moment, 4),
                (moment - TimeDelta::microseconds(1), 1),
                (moment + TimeDelta::days(1), 4),
            ] {
                let there = all_pages!(size, order, |page| people.present_at(room.id, at, page));
                assert_eq!(there.len(), count, "{order:?} {size} {at}");
            }
            // A span ends before its end.
            let user = guests[1].id;
            for (span, count) in [
                (moment..moment + TimeDelta::days(1), 1),
                (moment - TimeDelta::days(1)..moment, 0),
            ] {
                let stays = all_pages!(size, order, |page| people.stays_of(user, span.clone(), page));
                assert_eq!(stays.len(), count, "{order:?} {span:?}");
            }
        }
    }
}

async fn a_stay_over_midnight_is_split(db: TestDb) {
    let (owner, guest) = (db.user("owner").await, db.user("guest").await);
    let room = db.room(&owner, 5).await;
    let (store, clock) = db.with_clock_at("2028-02-28T23:50:00Z".parse().unwrap()).await;
    let by_guest = store.acting(&Actor::user(guest.id));
    by_guest
        .participants()
        .join(room.id, guest.id, Participant)
        .await
        .unwrap();
    clock.advance(TimeDelta::minutes(10 + 24 * 60));
    // To the very end of the leap day.
    by_guest.participants().leave(room.id, guest.id).await.unwrap();
    clock.advance(TimeDelta::seconds(90));
    by_guest
        .participants()
        .join(room.id, guest.id, Participant)
        .await
        .unwrap();
    clock.advance(TimeDelta::seconds(90));
    let statistics = store.statistics();
    let days = statistics
        .daily("2028-02-27".parse().unwrap().."2028-03-03".parse().unwrap())
        .await
        .unwrap();
    let told: Vec<_> = days
        .iter()
        .map(|day| {
            (
                day.day.to_string(),
                day.meetings,
                day.distinct_participants,
                day.joins,
                day.minutes(),
            )
        })
        .collect();
    let day = |day: &str, meetings, people, joins, minutes| (format!("2028-{day}"), meetings, people, joins, minutes);
    assert_eq!(
        told,
        [
            day("02-27", 0, 0, 0, 0),
            day("02-28", 1, 1, 1, 10),
            day("02-29", 0, 1, 0, 24 * 60),
            day("03-01", 0, 1, 1, 1),
            day("03-02", 0, 0, 0, 0),
        ]
    );
    assert_eq!(days[3].total_participation, TimeDelta::seconds(90));
}

/// Stays of somebody in a room, each half a minute long and a minute after the last, from 2020 on.
async fn past_stays(db: &TestDb, user: &user::Model, room: &room::Model, count: u32) {
    let raw = db.raw().await;
    let (user, room) = (raw.id(user.id.as_uuid()), raw.id(room.id.as_uuid()));
    let (id, at, numbers) = match db.backend {
        Backend::Postgres => (
            "gen_random_uuid()",
            "to_timestamp(1577836800 + n * 60 + SECONDS)",
            format!("generate_series(1, {count}) AS n"),
        ),
        Backend::Sqlite => (
            "randomblob(16)",
            "strftime('%Y-%m-%dT%H:%M:%S+00:00', 1577836800 + n * 60 + SECONDS, 'unixepoch')",
            format!(
                "(WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {count}) SELECT n FROM c)"
            ),
        ),
    };
    let (joined, left) = (at.replace("SECONDS", "0"), at.replace("SECONDS", "30"));
    raw.run(&format!(
        "INSERT INTO room_participants (id, user_id, room_id, role, joined_at, left_at, is_kicked, is_banned, duration_seconds)
        SELECT {id}, {user}, {room}, 'PARTICIPANT', {joined}, {left}, FALSE, FALSE, 30 FROM {numbers}"
    ))
    .await;
}

async fn a_long_walk_comes_back_short_and_goes_on(db: TestDb) {
    let (owner, guest) = (db.user("owner").await, db.user("guest").await);
    let room = db.room(&owner, 5).await;
    past_stays(&db, &guest, &room, 12_000).await;
    let seat = db.seat(&room, &guest).await;
    let people = db.store.participants();
    let now = seat.joined_at;
    // Of the room, from its first stay on, the one that is looked for is behind 12,000 others.
    for (order, pages) in [(Order::OldestFirst, 3), (Order::NewestFirst, 3)] {
        let (mut request, mut found) = (PageRequest::first(10, order).unwrap(), Vec::new());
        for number in 1..=pages {
            let page = people.present_at(room.id, now, &request).await.unwrap();
            found.extend(page.items.into_iter().map(|seat| (number, seat.participant.id)));
            match page.next {
                Some(next) => request = request.after(next),
                None => assert_eq!(number, pages, "{order:?}"),
            }
            assert!(number < pages || request.clone() != PageRequest::first(10, order).unwrap());
        }
        let expected = if order == Order::OldestFirst { pages } else { 1 };
        assert_eq!(found, [(expected, seat.id)], "{order:?}");
    }
    // Of the user likewise, all before the span.
    let span = now..now + TimeDelta::days(1);
    let mut request = PageRequest::first(10, Order::OldestFirst).unwrap();
    let mut counts = Vec::new();
    loop {
        let page = people.stays_of(guest.id, span.clone(), &request).await.unwrap();
        counts.push(page.items.len());
        let Some(next) = page.next else { break };
        request = request.after(next);
    }
    assert_eq!(counts, [0, 0, 1]);
    // A page that is full before it has looked that far ends there.
    let span = DateTime::UNIX_EPOCH..now;
    for order in ORDERS {
        let all = all_pages!(500, order, |page| people.stays_of(guest.id, span.clone(), page));
        assert_eq!(all.len(), 12_000);
        let ids: BTreeSet<_> = all.iter().map(|stay| stay.participant.id).collect();
        assert_eq!(ids.len(), 12_000);
    }
}

async fn spans_that_are_none_are_refused(db: TestDb) {
    let statistics = db.store.statistics();
    let people = db.store.participants();
    let page = PageRequest::first(5, Order::OldestFirst).unwrap();
    let refused = |error: Option<Error>, field, rule| {
        let expected = Invalid { field, rule };
        assert!(
            matches!(error, Some(Error::Invalid(ref invalid)) if *invalid == expected),
            "{error:?}"
        );
    };
    let day = |text: &str| text.parse::<NaiveDate>().unwrap();
    let too_long = Rule::NotAfter("400 days from the start");
    for (days, field, rule) in [
        (day("2026-03-01")..day("2026-03-01"), "until", Rule::After("since")),
        (day("2026-03-02")..day("2026-03-01"), "until", Rule::After("since")),
        (day("1969-12-31")..day("1970-01-02"), "since", Rule::Year),
        (day("2026-03-01")..NaiveDate::MAX, "until", Rule::Year),
        (
            day("2026-03-01")..day("2026-03-01") + Days::new(401),
            "until",
            too_long.clone(),
        ),
    ] {
        refused(statistics.daily(days).await.err(), field, rule);
    }
    let longest = day("2026-03-01")..day("2026-03-01") + Days::new(MAX_DAYS.into());
    assert_eq!(statistics.daily(longest).await.unwrap().len(), 400);
    refused(
        statistics.daily_of_month(2026, 0).await.err(),
        "month",
        Rule::AtLeast(1),
    );
    refused(
        statistics.daily_of_month(2026, 13).await.err(),
        "month",
        Rule::AtMost(12),
    );
    refused(statistics.daily_of_month(1969, 5).await.err(), "since", Rule::Year);
    refused(statistics.daily_of_month(i32::MAX, 5).await.err(), "year", Rule::Year);
    let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
    let (now, old) = (at("2026-03-01T00:00:00Z"), at("1969-12-31T00:00:00Z"));
    refused(
        statistics.busiest_rooms(now..now, 5).await.err(),
        "until",
        Rule::After("since"),
    );
    refused(statistics.busiest_rooms(old..now, 5).await.err(), "since", Rule::Year);
    let long = now..now + TimeDelta::days(401);
    refused(statistics.busiest_rooms(long, 5).await.err(), "until", too_long);
    let span = now..now + TimeDelta::days(1);
    refused(
        statistics.busiest_rooms(span.clone(), 0).await.err(),
        "limit",
        Rule::AtLeast(1),
    );
    let most = i64::from(MAX_BUSIEST);
    refused(
        statistics.busiest_rooms(span, MAX_BUSIEST + 1).await.err(),
        "limit",
        Rule::AtMost(most),
    );
    let nobody = UserId::from_uuid(uuid::Uuid::nil());
    refused(
        people.stays_of(nobody, now..now, &page).await.err(),
        "until",
        Rule::After("since"),
    );
    refused(
        people.stays_of(nobody, old..now, &page).await.err(),
        "since",
        Rule::Year,
    );
    let room = RoomId::from_uuid(uuid::Uuid::nil());
    refused(people.present_at(room, old, &page).await.err(), "at", Rule::Year);
    // Nobody is nowhere.
    assert!(people.present_at(room, now, &page).await.unwrap().items.is_empty());
    let nowhere = people.stays_of(nobody, DateTime::UNIX_EPOCH..now, &page).await.unwrap();
    assert!(nowhere.items.is_empty());
}
