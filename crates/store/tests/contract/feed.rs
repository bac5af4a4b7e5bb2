//! The feed: nothing lost, nothing doubled, a room's events in the order in which they happened; on both backends.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::pin::{Pin, pin};
use std::time::Duration;

use conferencing_store::entity::ParticipantRole::Participant;
use conferencing_store::entity::{AuditAction, AuditLogId, RoomId, UserId};
use conferencing_store::{
    Actor, AuditEvent, Change, Error, FeedEvent, FeedFilter, FeedPosition, FeedSettings, Observation, Store,
    StoreSettings, WriterSettings,
};
use futures_util::{Stream, StreamExt};

use crate::harness::{Backend, TestDb, settings};

crate::cases![
    units_that_commit_late_are_neither_lost_nor_doubled,
    every_position_is_one_to_go_on_from,
    nothing_is_lost_or_doubled_while_everybody_writes,
    a_room_can_be_followed_by_the_feed_alone,
    another_process_hears_of_a_kick,
    who_is_behind_catches_up_and_stays,
    a_filter_hears_its_own,
    a_slow_subscriber_is_told_and_holds_nobody_up,
    many_new_events_come_in_pages,
    a_position_of_elsewhere_is_refused,
    a_closed_store_ends_its_streams,
];

const PATIENCE: Duration = Duration::from_secs(60);

type Events = Pin<Box<dyn Stream<Item = Result<FeedEvent, Error>> + Send>>;

async fn subscribe(store: &Store, filter: FeedFilter, position: Option<FeedPosition>) -> Events {
    Box::pin(store.feed().subscribe(filter, position).await.unwrap())
}

async fn next(events: &mut Events) -> FeedEvent {
    let next = tokio::time::timeout(PATIENCE, events.next()).await;
    next.expect("an event in time").expect("no end").unwrap()
}

async fn take(events: &mut Events, count: usize) -> Vec<FeedEvent> {
    let mut taken = Vec::with_capacity(count);
    while taken.len() < count {
        taken.push(next(events).await);
    }
    taken
}

/// Everything behind a position, in pages of `size`.
async fn read_all(
    store: &Store,
    filter: &FeedFilter,
    from: &FeedPosition,
    size: u16,
) -> (Vec<FeedEvent>, FeedPosition) {
    let (mut all, mut position) = (Vec::new(), from.clone());
    loop {
        let batch = store.feed().read(filter, &position, size).await.unwrap();
        all.extend(batch.events);
        position = batch.position;
        if batch.is_end {
            return (all, position);
        }
    }
}

fn ids(events: &[FeedEvent]) -> Vec<AuditLogId> {
    events.iter().map(|event| event.entry.id).collect()
}

fn sorted(events: &[FeedEvent]) -> Vec<AuditLogId> {
    let mut all = ids(events);
    all.sort_unstable();
    all
}

/// Appends so many events in batches.
async fn append_many(store: &Store, count: usize) {
    let writer = store.audit_writer(WriterSettings::default()).unwrap();
    let (system, observation) = (Actor::system("test"), Observation::UserLogout {});
    for _ in 0..count {
        if writer.try_append(&system, None, &observation).is_err() {
            writer.append(&system, None, observation.clone()).await.unwrap();
        }
    }
    assert_eq!(writer.close().await.written, count as u64);
}

async fn all_in_the_log(db: &TestDb) -> usize {
    let events = db.raw().await.number("SELECT count(*) FROM audit_logs").await;
    usize::try_from(events).unwrap()
}

async fn units_that_commit_late_are_neither_lost_nor_doubled(db: TestDb) {
    let start = db.store.feed().now().await.unwrap();
    let owner = db.user("owner").await;
    let (seen, mut position) = read_all(&db.store, &FeedFilter::default(), &start, 10).await;
    assert_eq!(seen.len(), 1);
    // On SQLite nobody else writes while a unit is open, and it commits last what it began last.
    let mut followed = subscribe(&db.store, FeedFilter::default(), Some(position.clone())).await;
    let late = (db.backend == Backend::Postgres).then_some(());
    let unit = match late {
        Some(()) => {
            let unit = db.store.begin(&Actor::user(owner.id)).await.unwrap();
            unit.audit().append(None, Observation::UserLogout {}).await.unwrap();
            Some(unit)
        }
        None => None,
    };
    const MANY: usize = 10_000;
    let mut all = Vec::new();
    for _ in 0..MANY / 1_000 {
        append_many(&db.store, 1_000).await;
        // Some are read while the unit is open, wherever the batches stand.
        let (more, after) = read_all(&db.store, &FeedFilter::default(), &position, 500).await;
        all.extend(more);
        position = after;
    }
    let (more, after) = read_all(&db.store, &FeedFilter::default(), &position, 500).await;
    all.extend(more);
    assert_eq!(all.len(), MANY);
    let mut expected = MANY;
    if let Some(unit) = unit {
        unit.commit().await.unwrap();
        let (late, _) = read_all(&db.store, &FeedFilter::default(), &after, 500).await;
        assert_eq!(late.len(), 1);
        assert_eq!(late[0].entry.actor, Some(owner.id));
        all.extend(late);
        expected += 1;
    }
    let followed = take(&mut followed, expected).await;
    assert_eq!(sorted(&followed), sorted(&all));
    let distinct: BTreeSet<_> = ids(&all).into_iter().collect();
    assert_eq!(distinct.len(), expected);
}

/// From each event's position on come exactly those behind it, whatever is open and whoever commits meanwhile.
async fn every_position_is_one_to_go_on_from(db: TestDb) {
    let start = db.store.feed().now().await.unwrap();
    let owner = db.user("owner").await;
    let actor = Actor::user(owner.id);
    let append = |store: Store, actor: Actor| async move {
        store
            .acting(&actor)
            .audit()
            .append(None, Observation::UserLogout {})
            .await
            .unwrap();
    };
    let mut followed = subscribe(&db.store, FeedFilter::default(), Some(start)).await;
    let mut events = take(&mut followed, 1).await;
    for _ in 0..5 {
        let open = if db.backend == Backend::Postgres {
            let unit = db.store.begin(&actor).await.unwrap();
            for _ in 0..3 {
                unit.audit().append(None, Observation::UserLogout {}).await.unwrap();
            }
            Some(unit)
        } else {
            None
        };
        for _ in 0..5 {
            append(db.store.clone(), actor.clone()).await;
        }
        events.extend(take(&mut followed, 5).await);
        if let Some(unit) = open {
            append(db.store.clone(), actor.clone()).await;
            unit.commit().await.unwrap();
            append(db.store.clone(), actor.clone()).await;
            events.extend(take(&mut followed, 5).await);
        }
    }
    for (place, event) in events.iter().enumerate() {
        let position: FeedPosition = event.position.to_string().parse().unwrap();
        let (rest, _) = read_all(&db.store, &FeedFilter::default(), &position, 2).await;
        // In the order of commits where they were far apart, but one page may have other neighbours than the stream had.
        assert_eq!(sorted(&rest), sorted(&events[place + 1..]), "{place}: {position}");
    }
}

async fn nothing_is_lost_or_doubled_while_everybody_writes(db: TestDb) {
    const TASKS: usize = 8;
    const EACH: usize = 40;
    let users = db.users("user", TASKS).await;
    let start = db.store.feed().now().await.unwrap();
    let before = all_in_the_log(&db).await;
    let mut followed = subscribe(&db.store, FeedFilter::default(), Some(start.clone())).await;
    let mut writing = Vec::new();
    for (task, user) in users.iter().enumerate() {
        let (store, actor) = (db.store.clone(), Actor::user(user.id));
        writing.push(tokio::spawn(async move {
            for round in 0..EACH {
                // One of three is rolled back, and one of three commits several at once.
                let unit = store.begin(&actor).await.unwrap();
                for _ in 0..=(round + task) % 3 {
                    unit.audit().append(None, Observation::UserLogout {}).await.unwrap();
                    tokio::task::yield_now().await;
                }
                match (round + task) % 3 {
                    1 => unit.roll_back().await.unwrap(),
                    _ => unit.commit().await.unwrap(),
                }
            }
        }));
    }
    let reading = {
        let (store, start) = (db.store.clone(), start.clone());
        tokio::spawn(async move {
            let (mut all, mut position) = (Vec::new(), start);
            for _ in 0..40 {
                let (more, after) = read_all(&store, &FeedFilter::default(), &position, 3).await;
                all.extend(more);
                position = after;
            }
            (all, position)
        })
    };
    for task in writing {
        task.await.unwrap();
    }
    let (mut read, position) = reading.await.unwrap();
    read.extend(read_all(&db.store, &FeedFilter::default(), &position, 500).await.0);
    let written = all_in_the_log(&db).await - before;
    let followed = take(&mut followed, written).await;
    let (at_once, _) = read_all(&db.store, &FeedFilter::default(), &start, 500).await;
    assert_eq!(at_once.len(), written);
    assert_eq!(sorted(&read), sorted(&at_once));
    assert_eq!(sorted(&followed), sorted(&at_once));
    assert_eq!(sorted(&at_once).iter().collect::<BTreeSet<_>>().len(), written);
}

/// Who is in which room, by the feed alone.
#[derive(Default)]
struct Presence(BTreeMap<RoomId, BTreeSet<UserId>>);

impl Presence {
    fn take_in(&mut self, event: &FeedEvent) {
        let entry = &event.entry;
        let Some(room) = entry.room else { return };
        let present = self.0.entry(room).or_default();
        match &entry.event {
            AuditEvent::Change(Change::UserJoined { target, .. }) => {
                let user = target.or(entry.actor).unwrap();
                assert!(present.insert(user), "{user} came in twice: {event:?}");
            }
            AuditEvent::Change(Change::UserLeft { target, .. }) => {
                let user = target.or(entry.actor).unwrap();
                assert!(present.remove(&user), "{user} left and was not there: {event:?}");
            }
            AuditEvent::Change(Change::UserKicked { target, .. }) => {
                assert!(
                    present.remove(target),
                    "{target} was put out and was not there: {event:?}"
                );
            }
            _ => {}
        }
    }
}

async fn a_room_can_be_followed_by_the_feed_alone(db: TestDb) {
    const ROUNDS: usize = 25;
    let (owner, users) = (db.user("owner").await, db.users("user", 6).await);
    let mut rooms = Vec::new();
    for _ in 0..2 {
        let room = db.room(&owner, 4).await.id;
        db.system().rooms().start(room).await.unwrap();
        rooms.push(room);
    }
    let start = db.store.feed().now().await.unwrap();
    let mut followed = subscribe(&db.store, FeedFilter::default(), Some(start.clone())).await;
    let mut doing = Vec::new();
    // Each user twice, and the owner who puts them out: so seats change hands as fast as they can.
    for (number, user) in users.iter().chain(&users).enumerate() {
        let (acting, by_owner, user, rooms) = (db.acting(user), db.acting(&owner), user.id, rooms.clone());
        doing.push(tokio::spawn(async move {
            for round in 0..ROUNDS {
                let room = rooms[(round + number) % 2];
                let _ = match (round * 7 + number) % 5 {
                    0..=2 => acting.participants().join(room, user, Participant).await.map(drop),
                    3 => acting.participants().leave(room, user).await.map(drop),
                    _ => by_owner.participants().kick(room, user, None).await.map(drop),
                };
            }
        }));
    }
    for task in doing {
        task.await.unwrap();
    }
    let mut seats = BTreeMap::new();
    for room in &rooms {
        let page = conferencing_store::PageRequest::first(100, conferencing_store::Order::OldestFirst).unwrap();
        let present = db.store.participants().list_present(*room, &page).await.unwrap();
        let present: BTreeSet<UserId> = present
            .items
            .iter()
            .map(|present| present.participant.user_id)
            .collect();
        seats.insert(*room, present);
    }
    let (read, _) = read_all(&db.store, &FeedFilter::default(), &start, 7).await;
    let followed = take(&mut followed, read.len()).await;
    for events in [&read, &followed] {
        let mut presence = Presence(rooms.iter().map(|room| (*room, BTreeSet::new())).collect());
        for event in events {
            presence.take_in(event);
        }
        assert_eq!(presence.0, seats);
    }
}

async fn another_process_hears_of_a_kick(db: TestDb) {
    let (owner, guest) = (db.user("owner").await, db.user("guest").await);
    let room = db.room(&owner, 4).await;
    db.seat(&room, &guest).await;
    let other = db.store_with(settings()).await;
    let mut followed = subscribe(&other, FeedFilter::of_room(room.id), None).await;
    // It is served by the other's task before the kick, not caught up with behind it.
    let waiting = tokio::spawn(async move { next(&mut followed).await });
    db.acting(&owner)
        .participants()
        .kick(room.id, guest.id, Some("noise"))
        .await
        .unwrap();
    // On the way it may be anywhere; in any case it comes.
    let event = match tokio::time::timeout(PATIENCE, waiting).await {
        Ok(event) => event.unwrap(),
        Err(_) => panic!("the kick was not heard"),
    };
    assert!(matches!(
        event.entry.event,
        AuditEvent::Change(Change::UserKicked { target, .. }) if target == guest.id
    ));
}

async fn who_is_behind_catches_up_and_stays(db: TestDb) {
    let start = db.store.feed().now().await.unwrap();
    let users = db.users("user", 30).await;
    let mut first = subscribe(&db.store, FeedFilter::default(), Some(start.clone())).await;
    let early = take(&mut first, 30).await;
    // The process is at it already when the second one comes, who was far behind.
    let mut second = subscribe(&db.store, FeedFilter::default(), Some(start)).await;
    let caught_up = take(&mut second, 30).await;
    assert_eq!(ids(&early), ids(&caught_up));
    for user in &users {
        db.acting(user)
            .audit()
            .append(None, Observation::UserLogout {})
            .await
            .unwrap();
        let (one, two) = (next(&mut first).await, next(&mut second).await);
        assert_eq!(one.entry, two.entry);
        assert_eq!(one.entry.actor, Some(user.id));
    }
    drop(first);
    db.user("last").await;
    assert_eq!(next(&mut second).await.entry.event.action(), "USER_REGISTERED");
}

async fn a_filter_hears_its_own(db: TestDb) {
    let start = db.store.feed().now().await.unwrap();
    let (owner, guest) = (db.user("owner").await, db.user("guest").await);
    let (room, other) = (db.room(&owner, 4).await, db.room(&owner, 4).await);
    let filters = [
        FeedFilter::of_room(room.id),
        FeedFilter::of_user(guest.id),
        FeedFilter::of_actions([AuditAction::UserJoined, AuditAction::UserRegistered]),
        FeedFilter {
            actions: vec![AuditAction::UserJoined],
            user: Some(guest.id),
            room: Some(other.id),
        },
    ];
    let mut live = Vec::new();
    for filter in &filters {
        live.push(subscribe(&db.store, filter.clone(), Some(start.clone())).await);
    }
    for room in [&room, &other] {
        db.acting(&guest)
            .participants()
            .join(room.id, guest.id, Participant)
            .await
            .unwrap();
    }
    db.system().participants().leave(room.id, guest.id).await.unwrap();
    let expected: [&[&str]; 4] = [
        &["ROOM_CREATED", "ROOM_STARTED", "USER_JOINED", "USER_LEFT"],
        &[
            "USER_REGISTERED",
            "ROOM_STARTED",
            "USER_JOINED",
            "ROOM_STARTED",
            "USER_JOINED",
            "USER_LEFT",
        ],
        &["USER_REGISTERED", "USER_REGISTERED", "USER_JOINED", "USER_JOINED"],
        &["USER_JOINED"],
    ];
    for ((filter, live), expected) in filters.iter().zip(&mut live).zip(expected) {
        let (read, _) = read_all(&db.store, filter, &start, 2).await;
        let followed = take(live, expected.len()).await;
        for events in [read, followed] {
            let actions: Vec<_> = events.iter().map(|event| event.entry.event.action()).collect();
            assert_eq!(actions, expected, "{filter:?}");
        }
    }
}

async fn a_slow_subscriber_is_told_and_holds_nobody_up(db: TestDb) {
    let feed = FeedSettings {
        shortest_pause: Duration::from_millis(1),
        waiting_batches: 2,
        ..FeedSettings::default()
    };
    let store = db.store_with(StoreSettings { feed, ..settings() }).await;
    let owner = db.user("owner").await;
    let acting = store.acting(&Actor::user(owner.id));
    let (mut slow, mut quick) = (
        subscribe(&store, FeedFilter::default(), None).await,
        subscribe(&store, FeedFilter::default(), None).await,
    );
    let audit = acting.audit();
    let append = || audit.append(None, Observation::UserLogout {});
    append().await.unwrap();
    let mut seen = vec![next(&mut slow).await];
    let mut quick_ones = vec![next(&mut quick).await];
    // Each comes by itself, because the next one waits until the quick one has heard of it.
    for _ in 0..6 {
        append().await.unwrap();
        quick_ones.push(next(&mut quick).await);
    }
    let error = loop {
        match tokio::time::timeout(PATIENCE, slow.next()).await.unwrap().unwrap() {
            Ok(event) => seen.push(event),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::SlowSubscriber { capacity: 2 }), "{error}");
    assert!(error.is_retryable());
    assert!(slow.next().await.is_none());
    // From where it was it goes on, and has lost nothing.
    let position = seen.last().unwrap().position.clone();
    seen.extend(read_all(&store, &FeedFilter::default(), &position, 100).await.0);
    assert_eq!(ids(&seen), ids(&quick_ones));
}

/// More than a walk looks at, also in one unit, in pages of any size.
async fn many_new_events_come_in_pages(db: TestDb) {
    let start = db.store.feed().now().await.unwrap();
    append_many(&db.store, 5_000).await;
    let mut by_size = HashMap::new();
    for size in [1_u16, 77, 500] {
        let limit = if size == 1 { 300 } else { 5_000 };
        let (mut all, mut position) = (Vec::new(), start.clone());
        while all.len() < limit {
            let batch = db
                .store
                .feed()
                .read(&FeedFilter::default(), &position, size)
                .await
                .unwrap();
            assert!(batch.events.len() <= usize::from(size));
            assert!(!batch.is_end || all.len() + batch.events.len() == 5_000);
            all.extend(batch.events);
            position = batch.position;
        }
        by_size.insert(size, ids(&all));
    }
    assert_eq!(by_size[&77], by_size[&500]);
    assert_eq!(by_size[&1], by_size[&77][..300]);
    let mut followed = pin!(
        db.store
            .feed()
            .subscribe(FeedFilter::default(), Some(start))
            .await
            .unwrap()
    );
    for id in &by_size[&500] {
        assert_eq!(followed.next().await.unwrap().unwrap().entry.id, *id);
    }
}

async fn a_position_of_elsewhere_is_refused(db: TestDb) {
    let text = match db.backend {
        Backend::Postgres => "sqlite;1",
        Backend::Sqlite => "postgres;1:1:",
    };
    let position: FeedPosition = text.parse().unwrap();
    let read = db.store.feed().read(&FeedFilter::default(), &position, 1).await;
    assert!(matches!(read, Err(Error::Invalid(_))), "{read:?}");
    let subscribed = db.store.feed().subscribe(FeedFilter::default(), Some(position)).await;
    assert!(matches!(subscribed.map(drop), Err(Error::Invalid(_))));
    let now = db.store.feed().now().await.unwrap();
    for limit in [0, 501] {
        let read = db.store.feed().read(&FeedFilter::default(), &now, limit).await;
        assert!(matches!(read, Err(Error::Invalid(_))), "{read:?}");
    }
}

async fn a_closed_store_ends_its_streams(db: TestDb) {
    let store = db.store_with(settings()).await;
    let mut followed = subscribe(&store, FeedFilter::default(), None).await;
    db.user("somebody").await;
    next(&mut followed).await;
    let waiting = tokio::spawn(async move { followed.next().await });
    store.close().await.unwrap();
    let end = tokio::time::timeout(PATIENCE, waiting).await.unwrap().unwrap();
    assert!(matches!(end, Some(Err(Error::Transient { .. }))), "{end:?}");
}
