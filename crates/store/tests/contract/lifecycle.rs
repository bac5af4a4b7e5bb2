//! What may become what, by the store and by hand.

use std::collections::BTreeMap;

use conferencing_store::authority::{ActorRole, Operation};
use conferencing_store::entity::ParticipantRole::{CoHost, Participant};
use conferencing_store::entity::RoomStatus::{self, Cancelled, Created, Ended, Live};
use conferencing_store::entity::{RoomId, room, user};
use conferencing_store::{Actor, Error, Rejected, Subject};
use uuid::Uuid;

use crate::harness::{Raw, TestDb, race};

crate::cases![
    start_and_end_need_the_right_status,
    what_does_not_exist_or_is_deleted_neither_starts_nor_ends,
    racing_starts_have_one_winner,
    racing_ends_have_one_winner,
    who_may_start_a_room,
    who_may_end_a_room,
    a_rooms_status_changes_as_the_schema_says_and_not_otherwise,
    a_recordings_status_changes_as_the_schema_says_and_not_otherwise,
];

async fn room_in(db: &TestDb, raw: &Raw, owner: &user::Model, status: RoomStatus) -> RoomId {
    let id = db.room(owner, 5).await.id;
    let rooms = db.system();
    match status {
        Created => {}
        Live => drop(rooms.rooms().start(id).await.unwrap()),
        Ended => {
            rooms.rooms().start(id).await.unwrap();
            rooms.rooms().end(id).await.unwrap();
        }
        Cancelled => {
            let id = raw.id(id.as_uuid());
            raw.run(&format!("UPDATE rooms SET status = 'CANCELLED' WHERE id = {id}"))
                .await;
        }
    }
    id
}

async fn start_and_end_need_the_right_status(db: TestDb) {
    let (ada, raw) = (db.user("ada").await, db.raw().await);
    let acting = db.acting(&ada);
    let repository = acting.rooms();
    for status in [Created, Live, Ended, Cancelled] {
        let room = room_in(&db, &raw, &ada, status).await;
        let refusal = Rejected::RoomStatus { room, status };
        if status == Created {
            let started = repository.start(room).await.unwrap();
            assert_eq!((started.status, started.ended_at), (Live, None));
            assert!(started.started_at.is_some());
        } else {
            raw.assert_refused(repository.start(room), refusal, "start").await;
        }
        let room = room_in(&db, &raw, &ada, status).await;
        let refusal = Rejected::RoomStatus { room, status };
        if status == Live {
            let ended = repository.end(room).await.unwrap();
            assert_eq!(ended.status, Ended);
            assert!(ended.started_at.is_some() && ended.started_at <= ended.ended_at);
        } else {
            raw.assert_refused(repository.end(room), refusal, "end").await;
        }
    }
}

async fn what_does_not_exist_or_is_deleted_neither_starts_nor_ends(db: TestDb) {
    let (ada, raw) = (db.user("ada").await, db.raw().await);
    let mut rooms = vec![RoomId::from_uuid(Uuid::from_u128(1))];
    for status in [Created, Ended, Cancelled] {
        rooms.push(room_in(&db, &raw, &ada, status).await);
    }
    raw.run("UPDATE rooms SET deleted_at = updated_at").await;
    for acting in [db.acting(&ada), db.system()] {
        for room in &rooms {
            let repository = acting.rooms();
            let not_found = || Error::NotFound(Subject::Room(*room));
            raw.assert_refused(repository.start(*room), not_found(), "start").await;
            raw.assert_refused(repository.end(*room), not_found(), "end").await;
        }
    }
}

/// One winner, and everybody else hears the status that the winner left.
fn assert_one_winner(outcomes: Vec<Result<room::Model, Error>>, refusal: &Rejected) {
    let (won, lost): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    assert_eq!(won.len(), 1);
    for outcome in lost {
        match outcome {
            Err(Error::Rejected(reason)) => assert_eq!(&reason, refusal),
            other => panic!("{other:?}"),
        }
    }
}

async fn racing_starts_have_one_winner(db: TestDb) {
    let (ada, raw) = (db.user("ada").await, db.raw().await);
    for _ in 0..4 {
        let room = room_in(&db, &raw, &ada, Created).await;
        let tasks = (0..32).map(|_| {
            let acting = db.acting(&ada);
            async move { acting.rooms().start(room).await }
        });
        assert_one_winner(race(tasks).await, &Rejected::RoomStatus { room, status: Live });
        assert_eq!(db.actions(room).await, ["ROOM_CREATED", "ROOM_STARTED"]);
    }
}

async fn racing_ends_have_one_winner(db: TestDb) {
    let (ada, raw) = (db.user("ada").await, db.raw().await);
    for _ in 0..4 {
        let room = room_in(&db, &raw, &ada, Created).await;
        db.system()
            .participants()
            .join(room, ada.id, Participant)
            .await
            .unwrap();
        let tasks = (0..32).map(|_| {
            let acting = db.acting(&ada);
            async move { acting.rooms().end(room).await }
        });
        assert_one_winner(race(tasks).await, &Rejected::RoomStatus { room, status: Ended });
        assert_eq!(
            db.actions(room).await,
            ["ROOM_CREATED", "ROOM_STARTED", "USER_JOINED", "USER_LEFT", "ROOM_ENDED"]
        );
        db.assert_audit_log_tells_the_participations(room).await;
    }
    raw.assert_invariants().await;
}

fn not_allowed(room: RoomId, operation: Operation, actor_role: ActorRole) -> Rejected {
    Rejected::NotAllowed {
        operation,
        actor_role,
        room: Some(room),
        user: None,
    }
}

async fn who_may_start_a_room(db: TestDb) {
    let (ada, ben, raw) = (db.user("ada").await, db.user("ben").await, db.raw().await);
    // Whatever its status, so that an outsider does not learn it.
    for status in [Created, Live, Ended, Cancelled] {
        let room = room_in(&db, &raw, &ada, status).await;
        for actor in [Actor::user(ben.id), Actor::anonymous()] {
            let acting = db.store.acting(&actor);
            let repository = acting.rooms();
            let refusal = not_allowed(room, Operation::StartRoom, ActorRole::Outsider);
            raw.assert_refused(repository.start(room), refusal, &actor).await;
        }
    }
    for actor in [Actor::user(ada.id), Actor::system("test")] {
        let room = room_in(&db, &raw, &ada, Created).await;
        let started = db.store.acting(&actor).rooms().start(room).await.unwrap();
        assert_eq!(started.status, Live);
        let recorded = db.audit_log(room).await.pop().unwrap();
        assert_eq!(recorded.actor, actor.user_id());
        assert_eq!(
            recorded.event,
            conferencing_store::Change::RoomStarted { by_join: false }.into()
        );
    }
}

async fn who_may_end_a_room(db: TestDb) {
    let raw = db.raw().await;
    let mut users = BTreeMap::new();
    for name in ["owner", "host", "cohost", "participant", "outsider", "gone"] {
        users.insert(name, db.user(name).await);
    }
    let actor = |name: &str| match name {
        "system" => Actor::system("test"),
        "anonymous" => Actor::anonymous(),
        user => Actor::user(users[user].id),
    };
    for (name, refused) in [
        ("cohost", Some(ActorRole::CoHost)),
        ("participant", Some(ActorRole::Participant)),
        ("outsider", Some(ActorRole::Outsider)),
        ("gone", Some(ActorRole::Outsider)),
        ("anonymous", Some(ActorRole::Outsider)),
        ("owner", None),
        ("host", None),
        ("system", None),
    ] {
        let room = db.room(&users["owner"], 10).await;
        db.seat(&room, &users["host"]).await;
        let id = raw.id(room.id.as_uuid());
        raw.run(&format!(
            "UPDATE room_participants SET role = 'HOST' WHERE room_id = {id}"
        ))
        .await;
        let cohost = users["cohost"].id;
        db.system().participants().join(room.id, cohost, CoHost).await.unwrap();
        db.seat(&room, &users["participant"]).await;
        db.seat(&room, &users["gone"]).await;
        db.system()
            .participants()
            .leave(room.id, users["gone"].id)
            .await
            .unwrap();
        let acting = db.store.acting(&actor(name));
        let repository = acting.rooms();
        match refused {
            Some(actor_role) => {
                let refusal = not_allowed(room.id, Operation::EndRoom, actor_role);
                raw.assert_refused(repository.end(room.id), refusal, name).await;
            }
            None => assert_eq!(repository.end(room.id).await.unwrap().status, Ended, "{name}"),
        }
    }
    raw.assert_invariants().await;
}

/// The columns that a room's CHECK wants beside a status, so that nothing but the trigger can refuse it.
fn room_columns(status: &str) -> String {
    let (started, ended, duration) = match status {
        "LIVE" => ("created_at", "NULL", "NULL"),
        "ENDED" => ("created_at", "created_at", "0"),
        _ => ("NULL", "NULL", "NULL"),
    };
    format!("status = '{status}', started_at = {started}, ended_at = {ended}, duration_seconds = {duration}")
}

async fn a_rooms_status_changes_as_the_schema_says_and_not_otherwise(db: TestDb) {
    const STATUSES: [&str; 4] = ["CREATED", "LIVE", "ENDED", "CANCELLED"];
    const ALLOWED: [(&str, &str); 3] = [("CREATED", "LIVE"), ("CREATED", "CANCELLED"), ("LIVE", "ENDED")];
    let (ada, raw) = (db.user("ada").await, db.raw().await);
    for from in STATUSES {
        for to in STATUSES {
            let id = raw.id(db.room(&ada, 5).await.id.as_uuid());
            let set = |status| format!("UPDATE rooms SET {} WHERE id = {id}", room_columns(status));
            let way: &[&str] = match from {
                "CREATED" => &[],
                "ENDED" => &["LIVE", "ENDED"],
                other => &[other],
            };
            for status in way {
                raw.run(&set(status)).await;
            }
            assert_change(&raw, ("rooms", &id), &set(to), (from, to), &ALLOWED).await;
        }
    }
}

/// Runs a change of status and fails unless it came to pass exactly if it is allowed, or none at all.
async fn assert_change(
    raw: &Raw,
    (table, id): (&str, &str),
    change: &str,
    (from, to): (&str, &str),
    allowed: &[(&str, &str)],
) {
    let may = from == to || allowed.contains(&(from, to));
    let before = raw.snapshot().await;
    let outcome = raw.execute(change).await;
    assert_eq!(outcome.is_ok(), may, "{table} {from} -> {to}: {outcome:?}");
    if let Err(error) = outcome {
        let text = format!("{error:?}");
        assert!(text.contains(&format!("tr_{table}_status")), "{text}");
        assert_eq!(raw.snapshot().await, before);
    }
    let now = raw
        .texts(&format!("SELECT CAST(status AS text) FROM {table} WHERE id = {id}"))
        .await;
    assert_eq!(now, [if may { to } else { from }]);
}

async fn a_recordings_status_changes_as_the_schema_says_and_not_otherwise(db: TestDb) {
    const STATUSES: [&str; 6] = ["STARTED", "IN_PROGRESS", "STOPPED", "FAILED", "PROCESSING", "READY"];
    const ALLOWED: [(&str, &str); 10] = [
        ("STARTED", "IN_PROGRESS"),
        ("STARTED", "STOPPED"),
        ("STARTED", "FAILED"),
        ("IN_PROGRESS", "STOPPED"),
        ("IN_PROGRESS", "FAILED"),
        ("STOPPED", "PROCESSING"),
        ("STOPPED", "FAILED"),
        ("PROCESSING", "READY"),
        ("PROCESSING", "FAILED"),
        ("FAILED", "PROCESSING"),
    ];
    let (ada, raw) = (db.user("ada").await, db.raw().await);
    db.room(&ada, 5).await;
    for (i, from) in STATUSES.into_iter().enumerate() {
        for (k, to) in STATUSES.into_iter().enumerate() {
            let number = i * STATUSES.len() + k;
            let id = raw.id(Uuid::from_u128(number as u128 + 1));
            raw.run(&format!(
                "INSERT INTO recordings (id, room_id, owner_id, storage_key, storage_bucket, filename, status,
                    started_at, stopped_at, error_message, retry_count, is_public, created_at, updated_at)
                 SELECT {id}, id, owner_id, 'key{number}', 'bucket', 'file', '{from}', created_at, {}, 'broken', 0,
                    is_public, created_at, updated_at FROM rooms",
                stopped_at(from)
            ))
            .await;
            let change = format!(
                "UPDATE recordings SET status = '{to}', stopped_at = {} WHERE id = {id}",
                stopped_at(to).replace("created_at", "started_at")
            );
            assert_change(&raw, ("recordings", &id), &change, (from, to), &ALLOWED).await;
        }
    }
}

fn stopped_at(status: &str) -> &str {
    match status {
        "STARTED" | "IN_PROGRESS" => "NULL",
        _ => "created_at",
    }
}
