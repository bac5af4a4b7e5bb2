//! Queues of joins and leaves before a room that is locked.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use conferencing_store::Actor;
use conferencing_store::AuditEvent;
use conferencing_store::Change;
use conferencing_store::Error;
use conferencing_store::Rejected;
use conferencing_store::Store;
use conferencing_store::entity::ParticipantId;
use conferencing_store::entity::ParticipantRole;
use conferencing_store::entity::ParticipantRole::Participant;
use conferencing_store::entity::RoomId;
use conferencing_store::entity::UserId;
use conferencing_store::entity::room_participant::Model as Seat;
use conferencing_store::entity::user;
use futures_util::FutureExt;
use futures_util::future::join_all;
use sea_orm::ConnectionTrait;
use sea_orm::DatabaseTransaction;
use sea_orm::TransactionTrait;
use uuid::Uuid;

use crate::accounts_support::until_blocked;
use crate::harness::Raw;
use crate::harness::TestDb;
use crate::rows::columns_of;

pub type Call = Pin<Box<dyn Future<Output = Result<Seat, Error>> + Send>>;

#[expect(clippy::needless_pass_by_value, reason = "an actor is made for each call")]
pub fn join(store: &Store, actor: Actor, room: RoomId, user: UserId, role: ParticipantRole) -> Call {
    let acting = store.acting(&actor);
    Box::pin(async move { acting.participants().join(room, user, role).await })
}

#[expect(clippy::needless_pass_by_value, reason = "an actor is made for each call")]
pub fn leave(store: &Store, actor: Actor, room: RoomId, user: UserId) -> Call {
    let acting = store.acting(&actor);
    Box::pin(async move { acting.participants().leave(room, user).await })
}

/// Everybody's own join.
pub fn joins(store: &Store, room: RoomId, users: &[UserId]) -> Vec<Call> {
    users
        .iter()
        .map(|user| join(store, Actor::user(*user), room, *user, Participant))
        .collect()
}

pub fn system() -> Actor {
    Actor::system("test")
}

pub fn ids(users: &[user::Model]) -> Vec<UserId> {
    users.iter().map(|user| user.id).collect()
}

/// Fails instead of hanging.
pub async fn soon<F: Future>(what: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(240), what)
        .await
        .expect("it hangs")
}

/// Locks a room, and on SQLite everything, past the store.
pub async fn hold(raw: &Raw, room: RoomId) -> DatabaseTransaction {
    let held = raw.db.begin().await.unwrap();
    let sql = format!("UPDATE rooms SET title = 'Held' WHERE id = {}", raw.id(room.as_uuid()));
    held.execute_unprepared(&sql).await.unwrap();
    held
}

/// Begins one call after another.
pub async fn begun(calls: Vec<Call>) -> Vec<Call> {
    let mut begun = Vec::new();
    for mut call in calls {
        let done = (&mut call).now_or_never();
        begun.push(done.map_or(call, |outcome| Box::pin(std::future::ready(outcome))));
    }
    begun
}

/// What the calls give that came one after another while the room was locked.
pub async fn queued(raw: &Raw, room: RoomId, calls: Vec<Call>) -> Vec<Result<Seat, Error>> {
    let held = hold(raw, room).await;
    let all = tokio::spawn(join_all(begun(calls).await));
    soon(async {
        if raw.backend() == sea_orm::DbBackend::Postgres {
            until_blocked(raw, 1).await;
        }
        held.commit().await.unwrap();
        all.await.unwrap()
    })
    .await
}

pub async fn one_by_one(calls: Vec<Call>) -> Vec<Result<Seat, Error>> {
    let mut outcomes = Vec::new();
    for call in calls {
        outcomes.push(call.await);
    }
    outcomes
}

/// What two rooms' calls have in common.
pub fn told(room: RoomId, outcome: &Result<Seat, Error>) -> String {
    match outcome {
        Ok(seat) => {
            assert_eq!(
                (seat.room_id, seat.left_at.is_some()),
                (room, seat.duration_seconds.is_some())
            );
            format!("{} {:?} {:?}", seat.user_id, seat.role, seat.duration_seconds)
        }
        Err(Error::Rejected(Rejected::AlreadyPresent { user, role, .. })) => format!("{user} is there as {role:?}"),
        Err(error) => format!("{error:?}").replace(&room.to_string(), "the room"),
    }
}

/// What two rooms' audit logs have in common, in no order.
pub async fn events(db: &TestDb, room: RoomId) -> Vec<String> {
    let entries = db.audit_log(room).await.into_iter().map(|entry| {
        let from = (entry.actor, entry.system, entry.address, entry.user_agent);
        let event = match entry.event.action().as_str() {
            "ROOM_CREATED" => "ROOM_CREATED".to_owned(),
            _ => format!("{:?}", without_stay(entry.event)),
        };
        format!("{event} {from:?}")
    });
    let mut events: Vec<String> = entries.collect();
    events.sort();
    events
}

/// The event with no stay in it, which no two rooms have in common. That it is the right one is for
/// [`TestDb::assert_audit_log_tells_the_participations`].
pub fn without_stay(event: AuditEvent) -> AuditEvent {
    let mut event = event;
    match &mut event {
        AuditEvent::Change(Change::UserJoined { stay, .. } | Change::UserLeft { stay, .. }) => *stay = NO_STAY,
        AuditEvent::Change(Change::UserBanned { stay: Some(stay), .. }) => *stay = NO_STAY,
        _ => {}
    }
    event
}

/// What [`without_stay`] has instead.
pub const NO_STAY: ParticipantId = ParticipantId::from_uuid(Uuid::nil());

/// Those seated are the rows, in their order.
pub async fn assert_seated(db: &TestDb, room: RoomId, outcomes: &[Result<Seat, Error>]) {
    let rows = db.participations(room).await.into_iter().map(|row| row.participant);
    let rows: Vec<Seat> = rows.filter(|row| row.left_at.is_none()).collect();
    let seated: Vec<Seat> = outcomes.iter().flatten().cloned().collect();
    assert_eq!(rows, seated);
    assert!(rows.is_sorted_by(|one, other| one.id < other.id));
    db.raw().await.assert_invariants().await;
}

/// The same, line by line.
pub fn assert_alike(together: &[String], alone: &[String]) {
    for (number, (one, other)) in together.iter().zip(alone).enumerate() {
        assert_eq!(one, other, "{number}: together, and alone");
    }
    assert_eq!(together.len(), alone.len());
}

/// Registered users by SQL alone: rows of `like`, but for what must be their own.
pub async fn crowd(raw: &Raw, like: UserId, count: u32) -> Vec<UserId> {
    let (id, numbers) = match raw.backend() {
        sea_orm::DbBackend::Postgres => (
            "CAST(lpad(to_hex(n), 32, '0') AS uuid)",
            format!("generate_series(1, {count}) AS n"),
        ),
        _ => (
            "unhex(printf('%032X', n))",
            format!(
                "(WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {count}) SELECT n FROM c)"
            ),
        ),
    };
    for (table, whose) in [
        ("users", "id"),
        ("auth_providers", "user_id"),
        ("audit_logs", "target_user_id"),
    ] {
        let columns = columns_of(table).columns.into_iter().map(|column| column.name);
        let columns: Vec<String> = columns.map(|name| format!("\"{name}\"")).collect();
        let values = columns.iter().map(|column| match column.trim_matches('"') {
            "id" => id.to_owned(),
            name if name == whose => id.to_owned(),
            "username" | "provider_id" => "'crowd' || n".to_owned(),
            _ => column.clone(),
        });
        let (values, columns) = (values.collect::<Vec<_>>().join(", "), columns.join(", "));
        let like = raw.id(like.as_uuid());
        raw.run(&format!(
            "INSERT INTO {table} ({columns}) SELECT {values} FROM {table}, {numbers} WHERE {whose} = {like}"
        ))
        .await;
    }
    raw.run("ANALYZE").await;
    (1..=count)
        .map(|n| UserId::from_uuid(Uuid::from_u128(n.into())))
        .collect()
}
