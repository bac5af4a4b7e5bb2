//! Audit log: one filter for pages, counts and streams, against a plain list of what was written.

use std::collections::HashSet;
use std::net::IpAddr;

use chrono::{DateTime, TimeDelta, Utc};
use conferencing_store::entity::{AuditAction, AuditLogId, RoomId, UserId};
use conferencing_store::{
    Actor, AuditEntry, AuditFilter, Error, Invalid, Observation, Order, PageRequest, Rule, Store,
};
use futures_util::TryStreamExt;
use sea_orm::{ConnectionTrait, Statement};
use uuid::Uuid;

use crate::harness::{Raw, TestDb};
use crate::wire::Wire;

crate::cases![
    every_filter_yields_what_it_names,
    a_filter_without_an_index_comes_back_short_and_goes_on,
    what_is_appended_meanwhile_neither_loses_nor_doubles,
    names_come_along,
    @Postgres names_take_one_statement_however_many_events,
    a_window_must_be_one,
    a_window_is_cut_to_what_both_databases_keep,
    an_action_named_twice_is_found_once,
    a_unit_sees_what_it_appended,
];

const ACTIONS: [AuditAction; 4] = [
    AuditAction::UserLogout,
    AuditAction::ScreenShareStarted,
    AuditAction::ScreenShareStopped,
    AuditAction::RateLimitExceeded,
];

/// A row of the audit log.
#[derive(Clone, Debug)]
struct Written {
    id: AuditLogId,
    at: DateTime<Utc>,
    room: Option<RoomId>,
    actor: Option<UserId>,
    target: Option<UserId>,
    action: AuditAction,
    address: Option<IpAddr>,
}

impl Written {
    fn is_named_by(&self, filter: &AuditFilter) -> bool {
        let holds = |wanted: Option<Uuid>, is: Option<Uuid>| wanted.is_none_or(|wanted| is == Some(wanted));
        holds(filter.room.map(|id| id.as_uuid()), self.room.map(|id| id.as_uuid()))
            && holds(filter.actor.map(|id| id.as_uuid()), self.actor.map(|id| id.as_uuid()))
            && holds(filter.target.map(|id| id.as_uuid()), self.target.map(|id| id.as_uuid()))
            && filter.address.is_none_or(|wanted| self.address == Some(wanted))
            && (filter.actions.is_empty() || filter.actions.contains(&self.action))
            && filter.since.is_none_or(|since| self.at >= since)
            && filter.until.is_none_or(|until| self.at < until)
    }

    /// The row by hand, past the store, which would give no two events such ids and times.
    async fn insert(&self, raw: &Raw) {
        use sea_orm::ActiveEnum;
        let (action, address) = match raw.backend() {
            sea_orm::DbBackend::Postgres => ("CAST($2 AS audit_action)", "CAST($6 AS inet)"),
            _ => ("$2", "$6"),
        };
        let sql = format!(
            r#"INSERT INTO audit_logs (id, action, user_id, room_id, target_user_id, ip_address, "timestamp")
            VALUES ($1, {action}, $3, $4, $5, {address}, $7)"#
        );
        let values = [
            self.id.into(),
            self.action.to_value().value.into_owned().into(),
            self.actor.into(),
            self.room.into(),
            self.target.into(),
            self.address.map(|address| address.to_string()).into(),
            self.at.into(),
        ];
        let statement = Statement::from_sql_and_values(raw.backend(), sql, values);
        raw.db.execute_raw(statement).await.unwrap();
    }
}

/// Numbers that are the same in each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        // Constants of Knuth's MMIX generator; the high bits are the good ones.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % sides
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.roll(from.len())].clone()
    }
}

fn start() -> DateTime<Utc> {
    "2026-03-01T12:00:00.000001Z".parse().unwrap()
}

struct Stage {
    rooms: Vec<Option<RoomId>>,
    users: Vec<Option<UserId>>,
    addresses: Vec<Option<IpAddr>>,
}

async fn stage(db: &TestDb) -> Stage {
    let users = db.users("user", 3).await;
    let mut rooms = vec![None];
    for user in &users {
        rooms.push(Some(db.room(user, 5).await.id));
    }
    Stage {
        rooms,
        users: users.iter().map(|user| Some(user.id)).chain([None]).collect(),
        addresses: ["203.0.113.7", "2001:db8::7"]
            .iter()
            .map(|text| text.parse().ok())
            .chain([None])
            .collect(),
    }
}

/// Events whose times often tie, in no order of their ids. The stage's own events came later.
async fn write(raw: &Raw, stage: &Stage, dice: &mut Dice, count: usize) -> Vec<Written> {
    let mut written = Vec::with_capacity(count);
    for _ in 0..count {
        let event = Written {
            id: AuditLogId::from_uuid(Uuid::from_u128(
                (dice.roll(1 << 30) as u128) << 64 | dice.roll(1 << 30) as u128,
            )),
            at: start() + TimeDelta::microseconds(dice.roll(40) as i64 * 250_000),
            room: dice.pick(&stage.rooms),
            actor: dice.pick(&stage.users),
            target: dice.pick(&stage.users),
            action: dice.pick(&ACTIONS),
            address: dice.pick(&stage.addresses),
        };
        event.insert(raw).await;
        written.push(event);
    }
    written
}

/// Walks through all pages.
async fn walk(store: &Store, filter: &AuditFilter, size: u16, order: Order) -> Vec<AuditEntry> {
    let mut page = PageRequest::first(size, order).unwrap();
    let mut all = Vec::new();
    loop {
        let found = store.audit().list(filter, &page).await.unwrap();
        assert!(found.items.len() <= usize::from(size));
        all.extend(found.items);
        match found.next {
            // As text, which is how it goes to a client and comes back.
            Some(next) => page = page.after(next.to_string().parse().unwrap()),
            None => return all,
        }
    }
}

fn ids(entries: &[AuditEntry]) -> Vec<AuditLogId> {
    entries.iter().map(|entry| entry.id).collect()
}

/// A filter that names any of its parts or none.
fn any_filter(stage: &Stage, dice: &mut Dice) -> AuditFilter {
    let mut filter = AuditFilter::default();
    let parts = dice.roll(128);
    if parts & 1 != 0 {
        filter.room = dice.pick(&stage.rooms);
    }
    if parts & 2 != 0 {
        filter.actor = dice.pick(&stage.users);
    }
    if parts & 4 != 0 {
        filter.target = dice.pick(&stage.users);
    }
    if parts & 8 != 0 {
        filter.address = dice.pick(&stage.addresses);
    }
    if parts & 16 != 0 {
        filter.actions = (0..=dice.roll(2)).map(|_| dice.pick(&ACTIONS)).collect();
    }
    if parts & 32 != 0 {
        filter.since = Some(start() + TimeDelta::seconds(dice.roll(6) as i64));
    }
    // Always, so that the stage's own events are left out.
    let end = if parts & 64 != 0 { 6 + dice.roll(5) } else { 3600 };
    filter.until = Some(start() + TimeDelta::seconds(end as i64));
    filter
}

async fn every_filter_yields_what_it_names(db: TestDb) {
    let raw = db.raw().await;
    let stage = stage(&db).await;
    let dice = &mut Dice(7);
    let mut written = write(&raw, &stage, dice, 250).await;
    written.sort_by_key(|event| (event.at, event.id.as_uuid()));
    let mut found = 0;
    for round in 0..150 {
        let filter = any_filter(&stage, dice);
        let mut expected: Vec<_> = written
            .iter()
            .filter(|event| event.is_named_by(&filter))
            .map(|event| event.id)
            .collect();
        found += usize::from(!expected.is_empty());
        let oldest = walk(&db.store, &filter, 11, Order::OldestFirst).await;
        assert_eq!(ids(&oldest), expected, "{round}: {filter:?}");
        let streamed = db
            .store
            .audit()
            .stream(filter.clone(), Order::OldestFirst, None)
            .unwrap();
        assert_eq!(streamed.try_collect::<Vec<_>>().await.unwrap(), oldest, "{filter:?}");
        let count = db.store.audit().count(&filter).await.unwrap();
        assert_eq!(count, expected.len() as u64, "{filter:?}");
        if let Some(middle) = oldest.get(oldest.len() / 2) {
            let rest = db
                .store
                .audit()
                .stream(filter.clone(), Order::OldestFirst, Some(middle.cursor()))
                .unwrap();
            let rest: Vec<_> = rest.try_collect().await.unwrap();
            assert_eq!(rest, oldest[oldest.len() / 2 + 1..], "{filter:?}");
        }
        expected.reverse();
        let newest = walk(&db.store, &filter, 50, Order::NewestFirst).await;
        assert_eq!(ids(&newest), expected, "{round}: {filter:?}");
    }
    assert!(found > 75, "too many of the filters found nothing: {found}");
}

/// So many events of one room, which its first user did now and then, and the other all else.
async fn a_room_full(raw: &Raw, room: RoomId, often: UserId, seldom: UserId, count: u32) {
    let (room, often, seldom) = (
        raw.id(room.as_uuid()),
        raw.id(often.as_uuid()),
        raw.id(seldom.as_uuid()),
    );
    let (numbers, id, at) = match raw.backend() {
        sea_orm::DbBackend::Postgres => (
            format!("generate_series(1, {count}) AS n"),
            "CAST(lpad(to_hex(n), 32, '0') AS uuid)",
            "TIMESTAMPTZ '2026-03-01 00:00:00+00' + n / 3 * INTERVAL '1 second'",
        ),
        _ => (
            format!(
                "(WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {count}) SELECT n FROM c)"
            ),
            "unhex(printf('%032X', n))",
            "strftime('%Y-%m-%dT%H:%M:%S', '2026-03-01 00:00:00', (n / 3) || ' seconds') || '+00:00'",
        ),
    };
    raw.run(&format!(
        r#"INSERT INTO audit_logs (id, action, user_id, room_id, "timestamp")
        SELECT {id}, 'USER_LOGOUT', CASE WHEN n % 4000 = 0 THEN {seldom} ELSE {often} END, {room}, {at} FROM {numbers}"#
    ))
    .await;
}

async fn a_filter_without_an_index_comes_back_short_and_goes_on(db: TestDb) {
    let raw = db.raw().await;
    let (often, seldom) = (db.user("often").await, db.user("seldom").await);
    let room = db.room(&often, 5).await;
    a_room_full(&raw, room.id, often.id, seldom.id, 20_000).await;
    let filter = AuditFilter {
        actor: Some(seldom.id),
        until: Some(start()),
        ..AuditFilter::of_room(room.id)
    };
    let mut page = PageRequest::first(10, Order::OldestFirst).unwrap();
    let mut sizes = Vec::new();
    loop {
        let found = db.store.audit().list(&filter, &page).await.unwrap();
        sizes.push(found.items.len());
        let Some(next) = found.next else { break };
        page = page.after(next);
    }
    // 5,000 at a time: the events 4,000 and so on; the fifth, which finds nothing more, is the last.
    assert_eq!(sizes, [1, 1, 1, 2, 0]);
    for order in [Order::OldestFirst, Order::NewestFirst] {
        assert_eq!(walk(&db.store, &filter, 2, order).await.len(), 5, "{order:?}");
    }
    assert_eq!(db.store.audit().count(&filter).await.unwrap(), 5);
}

async fn what_is_appended_meanwhile_neither_loses_nor_doubles(db: TestDb) {
    let raw = db.raw().await;
    let stage = stage(&db).await;
    let dice = &mut Dice(11);
    let before = write(&raw, &stage, dice, 120).await;
    let until = start() + TimeDelta::hours(1);
    let filter = AuditFilter {
        until: Some(until),
        ..AuditFilter::default()
    };
    for order in [Order::OldestFirst, Order::NewestFirst] {
        let mut page = PageRequest::first(9, order).unwrap();
        let mut seen = Vec::new();
        loop {
            let found = db.store.audit().list(&filter, &page).await.unwrap();
            seen.extend(ids(&found.items));
            // All over the place, at times that tie with those there are.
            write(&raw, &stage, dice, 3).await;
            let Some(next) = found.next else { break };
            page = page.after(next);
        }
        let distinct: HashSet<_> = seen.iter().copied().collect();
        assert_eq!(distinct.len(), seen.len(), "{order:?}: doubled");
        for event in &before {
            assert!(distinct.contains(&event.id), "{order:?}: lost {event:?}");
        }
    }
}

async fn names_come_along(db: TestDb) {
    let (ada, ben) = (db.user("ada").await, db.user("ben").await);
    let room = db.room(&ada, 5).await;
    db.seat(&room, &ben).await;
    db.acting(&ada)
        .participants()
        .kick(room.id, ben.id, None)
        .await
        .unwrap();
    db.system().users().erase(ben.id).await.unwrap();
    let page = PageRequest::first(50, Order::NewestFirst).unwrap();
    let filter = AuditFilter {
        actions: vec![AuditAction::UserKicked],
        ..AuditFilter::of_room(room.id)
    };
    let found = db.store.audit().list_with_names(&filter, &page).await.unwrap();
    let [kick] = &found.items[..] else {
        panic!("{found:?}");
    };
    assert_eq!(kick.actor_name.as_ref().unwrap().username, "ada");
    assert_eq!(
        kick.target_name.as_ref().unwrap().username,
        format!("deleted-{}", ben.id)
    );
    let recorded = kick.room_name.as_ref().unwrap();
    assert_eq!(
        (recorded.id, &recorded.room_code, &recorded.title),
        (room.id, &room.room_code, &room.title)
    );
    // The same events without the names, and nobody's where nobody is meant.
    let filter = AuditFilter::default();
    let named = db.store.audit().list_with_names(&filter, &page).await.unwrap();
    let plain = db.store.audit().list(&filter, &page).await.unwrap();
    assert_eq!(named.next, plain.next);
    assert_eq!(
        named.items.iter().map(|named| named.entry.clone()).collect::<Vec<_>>(),
        plain.items
    );
    for named in &named.items {
        assert_eq!(named.actor_name.as_ref().map(|person| person.id), named.entry.actor);
        assert_eq!(named.room_name.as_ref().map(|room| room.id), named.entry.room);
    }
}

async fn names_take_one_statement_however_many_events(db: TestDb) {
    let wire = Wire::before(&db.url).await;
    let store = Store::connect(&wire.url).await.unwrap();
    let mut users = db.users("user", 30).await;
    let owner = users.remove(0);
    for (number, user) in users.iter().enumerate() {
        let room = db.room(user, 5).await;
        for _ in 0..=number {
            let logout = Observation::UserLogout {};
            db.acting(&owner).audit().append(Some(room.id), logout).await.unwrap();
        }
    }
    for size in [3, 300] {
        wire.executions();
        let page = PageRequest::first(size, Order::NewestFirst).unwrap();
        let found = store
            .audit()
            .list_with_names(&AuditFilter::default(), &page)
            .await
            .unwrap();
        assert_eq!(found.items.len(), usize::from(size));
        assert_eq!(wire.executions(), ["execute"]);
        store.audit().list(&AuditFilter::by(owner.id), &page).await.unwrap();
        assert_eq!(wire.executions(), ["execute"]);
    }
}

async fn a_window_must_be_one(db: TestDb) {
    let page = PageRequest::first(5, Order::NewestFirst).unwrap();
    let window = |since: DateTime<Utc>, until: DateTime<Utc>| AuditFilter {
        since: Some(since),
        until: Some(until),
        ..AuditFilter::default()
    };
    let invalid = |field, rule| Error::Invalid(Invalid { field, rule }).to_string();
    for (filter, expected) in [
        (window(start(), start()), invalid("until", Rule::After("since"))),
        (
            window(start() + TimeDelta::days(1), start()),
            invalid("until", Rule::After("since")),
        ),
        (window(DateTime::<Utc>::MIN_UTC, start()), invalid("since", Rule::Year)),
        (window(start(), DateTime::<Utc>::MAX_UTC), invalid("until", Rule::Year)),
    ] {
        let audit = db.store.audit();
        assert_eq!(audit.list(&filter, &page).await.unwrap_err().to_string(), expected);
        assert_eq!(
            audit.list_with_names(&filter, &page).await.unwrap_err().to_string(),
            expected
        );
        assert_eq!(audit.count(&filter).await.unwrap_err().to_string(), expected);
        assert_eq!(audit.explain(&filter, &page).await.unwrap_err().to_string(), expected);
        let stream = audit.stream(filter, Order::NewestFirst, None);
        assert_eq!(stream.err().unwrap().to_string(), expected);
    }
}

async fn a_window_is_cut_to_what_both_databases_keep(db: TestDb) {
    let (store, _) = db.with_clock_at(start()).await;
    let anonymous = store.acting(&Actor::anonymous());
    anonymous
        .audit()
        .append(None, Observation::UserLogout {})
        .await
        .unwrap();
    let later = start() + TimeDelta::nanoseconds(700);
    let until = AuditFilter {
        until: Some(later),
        ..AuditFilter::default()
    };
    let since = AuditFilter {
        since: Some(later),
        ..AuditFilter::default()
    };
    for (filter, events) in [(until, 0), (since, 1)] {
        assert_eq!(store.audit().count(&filter).await.unwrap(), events);
        assert_eq!(
            walk(&store, &filter, 5, Order::OldestFirst).await.len(),
            events as usize
        );
    }
}

async fn an_action_named_twice_is_found_once(db: TestDb) {
    let ada = db.user("ada").await;
    db.acting(&ada)
        .audit()
        .append(None, Observation::UserLogout {})
        .await
        .unwrap();
    let filter = AuditFilter {
        actions: vec![
            AuditAction::UserLogout,
            AuditAction::UserRegistered,
            AuditAction::UserLogout,
        ],
        ..AuditFilter::default()
    };
    assert_eq!(walk(&db.store, &filter, 10, Order::OldestFirst).await.len(), 2);
    assert_eq!(db.store.audit().count(&filter).await.unwrap(), 2);
}

async fn a_unit_sees_what_it_appended(db: TestDb) {
    let ada = db.user("ada").await;
    let unit = db.store.begin(&Actor::user(ada.id)).await.unwrap();
    unit.audit().append(None, Observation::UserLogout {}).await.unwrap();
    assert_eq!(unit.audit().count(&AuditFilter::by(ada.id)).await.unwrap(), 1);
    if db.backend == crate::harness::Backend::Postgres {
        assert_eq!(db.store.audit().count(&AuditFilter::by(ada.id)).await.unwrap(), 0);
    }
    unit.commit().await.unwrap();
    assert_eq!(db.store.audit().count(&AuditFilter::by(ada.id)).await.unwrap(), 1);
}
