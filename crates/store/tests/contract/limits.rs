//! How long the store waits: for locks, for statements, for answers that do not come, directly and behind a pooler.

use std::future::Future;
use std::time::Duration;

use conferencing_store::connect::ConnectSettings;
use conferencing_store::entity::ParticipantRole::Participant;
use conferencing_store::entity::{room, user};
use conferencing_store::{Actor, Error, Store, StoreSettings, TimeLimit};
use sea_orm::{ConnectionTrait, DatabaseTransaction, TransactionTrait};

use crate::accounts_support::until_blocked;
use crate::harness::{Raw, TestDb, settings};
use crate::metering::one_connection;
use crate::pooler::Pooler;
use crate::users::new_user;
use crate::wire::Wire;

crate::cases![
    @Postgres who_waits_for_a_stuck_row_is_told_in_time,
    @Postgres a_group_that_waits_for_a_stuck_row_is_told_in_time,
    @Postgres a_statement_that_takes_too_long_is_given_up,
    @Postgres a_server_that_falls_silent_is_not_waited_for,
    @Postgres a_limit_of_the_unit_is_not_left_in_the_session,
    @Postgres a_pooler_is_told_of_when_it_is_not_expected,
    @Postgres behind_a_pooler_each_change_has_its_limits,
    @Postgres behind_a_pooler_with_a_limited_role_nothing_costs_more,
    @Postgres a_pooler_without_a_connection_to_give_is_not_waited_for,
];

/// Far more than any of the limits here, and far less than for ever.
pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), what)
        .await
        .expect("it is waited for")
}

/// Settings with short limits; the answer may take `grace` longer.
fn limits(lock: u64, statement: u64, grace: u64) -> StoreSettings {
    StoreSettings {
        connect: ConnectSettings {
            lock_timeout: Duration::from_millis(lock),
            statement_timeout: Duration::from_millis(statement),
            answer_grace: Duration::from_millis(grace),
            ..settings().connect
        },
        ..settings()
    }
}

/// Holds the room's row.
async fn stuck(raw: &Raw, room: &room::Model) -> DatabaseTransaction {
    let held = raw.db.begin().await.unwrap();
    let id = raw.id(room.id.as_uuid());
    held.execute_unprepared(&format!("SELECT id FROM rooms WHERE id = {id} FOR UPDATE"))
        .await
        .unwrap();
    held
}

fn assert_timed_out<T: std::fmt::Debug>(outcome: Result<T, Error>, expected: TimeLimit) {
    match outcome {
        Err(error @ Error::TimedOut { limit, .. }) => {
            assert_eq!(limit, expected, "{error}");
            assert!(error.is_retryable());
        }
        other => panic!("{other:?}"),
    }
}

struct Stage {
    raw: Raw,
    room: room::Model,
    guests: Vec<user::Model>,
}

impl Stage {
    /// Somebody whom no case has tried to seat before.
    async fn join_another(&self, store: &Store) {
        let system = store.acting(&Actor::system("test"));
        let participants = system.participants();
        let joined = participants.join(self.room.id, self.guests[1].id, Participant);
        joined.await.unwrap();
    }
}

async fn stage(db: &TestDb) -> Stage {
    let owner = db.user("owner").await;
    let room = db.room(&owner, 50).await;
    db.seat(&room, &owner).await;
    Stage {
        raw: db.raw().await,
        room,
        guests: db.users("guest", 6).await,
    }
}

/// A join alone, one in a unit, and one that is tried as often as a unit may be: each is told in time, and nothing is left of them.
async fn assert_told_in_time(store: &Store, stage: &Stage, limit: TimeLimit) {
    let before = stage.raw.snapshot().await;
    let held = stuck(&stage.raw, &stage.room).await;
    let (room, guest) = (stage.room.id, stage.guests[0].id);
    let system = Actor::system("test");
    assert_timed_out(
        soon(store.acting(&system).participants().join(room, guest, Participant)).await,
        limit,
    );
    let unit = store.begin(&system).await.unwrap();
    unit.users().register(new_user("left-behind", None)).await.unwrap();
    assert_timed_out(soon(unit.participants().join(room, guest, Participant)).await, limit);
    assert!(soon(unit.commit()).await.is_err());
    let tries = std::sync::atomic::AtomicUsize::new(0);
    let tries = &tries;
    let work = store.transact(&system, |unit| async move {
        tries.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        unit.participants().join(room, guest, Participant).await
    });
    assert_timed_out(soon(work).await, limit);
    assert_eq!(tries.load(std::sync::atomic::Ordering::SeqCst), 1);
    held.rollback().await.unwrap();
    assert_eq!(stage.raw.snapshot().await, before);
    store
        .acting(&system)
        .participants()
        .join(room, guest, Participant)
        .await
        .unwrap();
    store.acting(&system).participants().leave(room, guest).await.unwrap();
}

async fn who_waits_for_a_stuck_row_is_told_in_time(db: TestDb) {
    let stage = stage(&db).await;
    let store = db.store_with(limits(200, 60_000, 60_000)).await;
    assert_told_in_time(&store, &stage, TimeLimit::Lock).await;
}

async fn a_group_that_waits_for_a_stuck_row_is_told_in_time(db: TestDb) {
    let stage = stage(&db).await;
    let store = db.store_with(limits(500, 60_000, 60_000)).await;
    let before = stage.raw.snapshot().await;
    let held = stuck(&stage.raw, &stage.room).await;
    let calls = stage.guests.iter().map(|guest| {
        let (acting, room, guest) = (store.acting(&Actor::system("test")), stage.room.id, guest.id);
        tokio::spawn(async move { acting.participants().join(room, guest, Participant).await })
    });
    let calls: Vec<_> = calls.collect();
    soon(until_blocked(&stage.raw, 1)).await;
    for call in calls {
        assert_timed_out(soon(call).await.unwrap(), TimeLimit::Lock);
    }
    held.rollback().await.unwrap();
    assert_eq!(stage.raw.snapshot().await, before);
}

async fn a_statement_that_takes_too_long_is_given_up(db: TestDb) {
    let stage = stage(&db).await;
    let store = db.store_with(limits(0, 200, 60_000)).await;
    assert_told_in_time(&store, &stage, TimeLimit::Statement).await;
}

async fn a_server_that_falls_silent_is_not_waited_for(db: TestDb) {
    let ada = db.user("ada").await;
    let pooler = Pooler::before(&db.url).await;
    let mut narrow = limits(100, 150, 150);
    narrow.connect.max_connections = Some(1);
    narrow.connect.acquire_timeout = Duration::from_millis(1_000);
    narrow.retry.attempts = 1;
    narrow.connect.pgbouncer = true;
    let store = db.store_at(&pooler.url, narrow).await;
    let system = Actor::system("test");
    let read = || async { store.users().find(ada.id).await };
    // Each time the connection in question is given up, and the next call has another.
    soon(read()).await.unwrap();
    pooler.fall_silent();
    assert_timed_out(soon(read()).await, TimeLimit::Answer);
    pooler.speak();
    soon(read()).await.unwrap();

    pooler.fall_silent();
    let changed = soon(store.acting(&system).users().register(new_user("ben", None))).await;
    assert!(
        matches!(
            changed,
            Err(Error::TimedOut { .. } | Error::Indeterminate { .. } | Error::Transient { .. })
        ),
        "{changed:?}"
    );
    pooler.speak();
    soon(read()).await.unwrap();

    let unit = soon(store.begin(&system)).await.unwrap();
    unit.users().register(new_user("cleo", None)).await.unwrap();
    pooler.fall_silent();
    assert_timed_out(
        soon(unit.users().register(new_user("dora", None))).await,
        TimeLimit::Answer,
    );
    assert!(soon(unit.commit()).await.is_err());
    pooler.speak();
    soon(read()).await.unwrap();

    let unit = soon(store.begin(&system)).await.unwrap();
    unit.users().register(new_user("emil", None)).await.unwrap();
    pooler.fall_silent();
    let committed = soon(unit.commit()).await;
    assert!(
        matches!(committed, Err(Error::Indeterminate { during: "commit" })),
        "{committed:?}"
    );
    pooler.speak();
    soon(read()).await.unwrap();
    let raw = db.raw().await;
    let left = "SELECT count(*) FROM users WHERE username IN ('cleo', 'dora')";
    assert_eq!(raw.number(left).await, 0);
    raw.assert_invariants().await;
}

async fn a_limit_of_the_unit_is_not_left_in_the_session(db: TestDb) {
    let pooler = Pooler::before(&db.url).await;
    let mut narrow = limits(200, 60_000, 60_000);
    narrow.connect.max_connections = Some(1);
    narrow.connect.pgbouncer = true;
    let store = db.store_at(&pooler.url, narrow).await;
    let system = Actor::system("test");
    store
        .acting(&system)
        .users()
        .register(new_user("ada", None))
        .await
        .unwrap();
    // As another client of the pooler that gets this connection next.
    let unit = store.begin(&system).await.unwrap();
    unit.commit().await.unwrap();
    let raw = crate::harness::raw_at(&pooler.url).await;
    assert_eq!(raw.texts("SELECT current_setting('lock_timeout')").await, ["0"]);
}

async fn a_pooler_is_told_of_when_it_is_not_expected(db: TestDb) {
    let pooler = Pooler::before(&db.url).await;
    let error = Store::connect_with(&pooler.url, settings()).await.unwrap_err();
    match error {
        Error::Unreachable { reason, .. } => assert!(reason.contains("pgbouncer=true"), "{reason}"),
        other => panic!("{other:?}"),
    }
}

async fn behind_a_pooler_each_change_has_its_limits(db: TestDb) {
    let stage = stage(&db).await;
    let pooler = Pooler::before(&db.url).await;
    let wire = Wire::before(&pooler.url).await;
    let parameters = "pgbouncer=true&lock_timeout=200ms&statement_timeout=60s";
    let url = format!("{}&{parameters}", wire.url);
    let store = Store::connect_with(&url, settings()).await.unwrap();
    assert_told_in_time(&store, &stage, TimeLimit::Lock).await;
    wire.executions();
    stage.join_another(&store).await;
    let opening = "BEGIN; SET LOCAL client_min_messages = 'error'; SET LOCAL lock_timeout = 200; \
                   SET LOCAL statement_timeout = 60000";
    assert_eq!(wire.executions(), [opening, "execute", "COMMIT"]);
    store.rooms().get(stage.room.id).await.unwrap();
    assert_eq!(wire.executions(), ["execute"]);
}

async fn behind_a_pooler_with_a_limited_role_nothing_costs_more(db: TestDb) {
    let name = db.url.rsplit('/').next().unwrap().split('?').next().unwrap();
    let admin = one_connection(&db.url).await;
    for setting in ["lock_timeout = '200ms'", "statement_timeout = '60s'"] {
        admin.run(&format!("ALTER DATABASE {name} SET {setting}")).await;
    }
    admin.end_other_sessions().await;
    let stage = stage(&db).await;
    let pooler = Pooler::before(&db.url).await;
    let wire = Wire::before(&pooler.url).await;
    let store = Store::connect_with(&format!("{}&pgbouncer=true", wire.url), settings())
        .await
        .unwrap();
    assert_told_in_time(&store, &stage, TimeLimit::Lock).await;
    wire.executions();
    stage.join_another(&store).await;
    assert_eq!(wire.executions(), ["execute"]);
}

async fn a_pooler_without_a_connection_to_give_is_not_waited_for(db: TestDb) {
    let pooler = Pooler::before(&db.url).await;
    let mut impatient = limits(60_000, 60_000, 60_000);
    impatient.connect.acquire_timeout = Duration::from_millis(500);
    impatient.connect.pgbouncer = true;
    let store = db.store_at(&pooler.url, impatient).await;
    let system = Actor::system("test");
    drop(store.begin(&system).await.unwrap());
    pooler.fall_silent();
    let begun = soon(store.begin(&system)).await.map(drop);
    assert!(
        matches!(
            begun,
            Err(Error::TimedOut {
                during: "begin",
                limit: TimeLimit::Answer
            } | Error::Transient { .. })
        ),
        "{begun:?}"
    );
    pooler.speak();
    soon(store.begin(&system)).await.unwrap().commit().await.unwrap();
}
