//! The audit log: what is appended reads back, in order, page by page.

use std::net::IpAddr;

use chrono::TimeDelta;
use conferencing_store::audit::{AuditEntry, AuditEvent};
use conferencing_store::clock::Clock;
use conferencing_store::entity::ParticipantRole::Participant;
use conferencing_store::entity::{RoomId, UserId};
use conferencing_store::{
    Actor, AuditFilter, Error, MediaKind, NewRoom, Observation, Order, PageRequest, Store, Subject,
};
use uuid::Uuid;

use crate::harness::{Backend, Raw, TestDb};

crate::cases![
    an_actor_who_does_not_exist_is_not_found,
    every_observation_reads_back,
    pages_lose_and_double_nothing_when_much_happened_at_once,
    a_rooms_audit_log_has_that_room_alone_and_outlives_it,
    who_did_it_and_from_where_comes_back,
    every_change_carries_who_did_it_and_from_where,
    user_agents_are_cut_and_cleaned,
    an_action_of_another_build_does_not_fail_the_page,
    metadata_of_another_build_does_not_fail_the_page,
    what_does_not_exist_cannot_be_recorded,
    what_is_deleted_can_be_recorded,
];

/// One of each, with each kind of media and with texts that need care.
fn observations(target: UserId) -> Vec<(&'static str, Observation)> {
    let (audio, video, screen) = (MediaKind::Audio, MediaKind::Video, MediaKind::Screen);
    let long = "é🎥".repeat(5_000);
    vec![
        ("USER_LOGOUT", Observation::UserLogout {}),
        ("USER_MUTED", Observation::UserMuted { target, kind: audio }),
        ("USER_UNMUTED", Observation::UserUnmuted { target, kind: video }),
        ("ALL_MUTED", Observation::AllMuted { kind: screen }),
        ("SCREEN_SHARE_STARTED", Observation::ScreenShareStarted {}),
        ("SCREEN_SHARE_STOPPED", Observation::ScreenShareStopped {}),
        (
            "PRODUCER_CREATED",
            Observation::ProducerCreated {
                producer_id: "'; DROP TABLE users; --".to_owned(),
                kind: audio,
            },
        ),
        (
            "PRODUCER_CLOSED",
            Observation::ProducerClosed {
                producer_id: "\"{}\\u0041\n\t".to_owned(),
            },
        ),
        (
            "CONSUMER_CREATED",
            Observation::ConsumerCreated {
                consumer_id: String::new(),
                producer_id: "$1 :now ?".to_owned(),
            },
        ),
        (
            "CONSUMER_CLOSED",
            Observation::ConsumerClosed {
                consumer_id: "e\u{301}\u{202e}".to_owned(),
            },
        ),
        (
            "UNAUTHORIZED_ACCESS_ATTEMPT",
            Observation::UnauthorizedAccessAttempt {
                target: None,
                attempted: "null".to_owned(),
                actor_role: None,
            },
        ),
        (
            "RATE_LIMIT_EXCEEDED",
            Observation::RateLimitExceeded { limit: "10".to_owned() },
        ),
        (
            "SUSPICIOUS_ACTIVITY",
            Observation::SuspiciousActivity { description: long },
        ),
    ]
}

async fn every_observation_reads_back(db: TestDb) {
    let (ada, ben) = (db.user("ada").await, db.user("ben").await);
    let room = db.room(&ada, 5).await;
    let (store, clock) = db.with_manual_clock().await;
    let acting = store.acting(&Actor::user(ada.id));
    let mut expected = Vec::new();
    for (action, observation) in observations(ben.id) {
        clock.advance(TimeDelta::microseconds(1));
        let id = acting.audit().append(Some(room.id), observation.clone()).await.unwrap();
        let event = AuditEvent::from(observation);
        assert_eq!(event.action(), action);
        expected.push(AuditEntry {
            id,
            at: clock.now(),
            actor: Some(ada.id),
            system: None,
            room: Some(room.id),
            event,
            address: None,
            user_agent: None,
        });
    }
    let found: Vec<_> = db
        .audit_log(room.id)
        .await
        .into_iter()
        .filter(|entry| matches!(entry.event, AuditEvent::Observation(_)))
        .collect();
    assert_eq!(found, expected);
    // The target is a column of its own, which other queries find it by.
    let raw = db.raw().await;
    let told_of = format!(
        "SELECT count(*) FROM audit_logs WHERE target_user_id = {} AND action IN ('USER_MUTED', 'USER_UNMUTED')",
        raw.id(ben.id.as_uuid())
    );
    assert_eq!(raw.number(&told_of).await, 2);
}

async fn walk(store: &Store, room: RoomId, size: u16, order: Order) -> Vec<AuditEntry> {
    let mut all = Vec::new();
    let mut request = PageRequest::first(size, order).unwrap();
    loop {
        let page = store.audit().list(&AuditFilter::of_room(room), &request).await.unwrap();
        all.extend(page.items);
        let Some(next) = page.next else { return all };
        assert_eq!(all.len() % usize::from(size), 0, "only the last page is short");
        request = request.after(next.to_string().parse().unwrap());
    }
}

async fn pages_lose_and_double_nothing_when_much_happened_at_once(db: TestDb) {
    let ada = db.user("ada").await;
    let (store, clock) = db.with_manual_clock().await;
    let system = store.acting(&Actor::system("test"));
    let room = system
        .rooms()
        .create(NewRoom::titled(ada.id, "A room"))
        .await
        .unwrap()
        .id;
    let mut ids = vec![walk(&store, room, 1, Order::OldestFirst).await[0].id];
    for _ in 0..3 {
        for number in 0..5 {
            let limit = number.to_string();
            let observation = Observation::RateLimitExceeded { limit };
            ids.push(system.audit().append(Some(room), observation).await.unwrap());
        }
        clock.advance(TimeDelta::microseconds(1));
    }
    for size in [1, 2, 3, 5, 15, 16, 17, 500] {
        let found: Vec<_> = walk(&store, room, size, Order::OldestFirst).await;
        let found: Vec<_> = found.into_iter().map(|entry| entry.id).collect();
        // Ids grow within a process, so what happened at one time is recorded in the order in which it happened.
        assert_eq!(found, ids, "{size}");
        let found: Vec<_> = walk(&store, room, size, Order::NewestFirst).await;
        let found: Vec<_> = found.into_iter().rev().map(|entry| entry.id).collect();
        assert_eq!(found, ids, "{size}");
    }
}

async fn a_rooms_audit_log_has_that_room_alone_and_outlives_it(db: TestDb) {
    let ada = db.user("ada").await;
    let (room, other) = (db.room(&ada, 5).await.id, db.room(&ada, 5).await.id);
    for room in [Some(room), Some(other), None] {
        let share = Observation::ScreenShareStarted {};
        db.system().audit().append(room, share).await.unwrap();
    }
    let raw = db.raw().await;
    raw.run("UPDATE rooms SET deleted_at = updated_at").await;
    raw.run("UPDATE users SET deleted_at = updated_at").await;
    for room in [room, other] {
        let audit_log = db.audit_log(room).await;
        assert!(audit_log.iter().all(|entry| entry.room == Some(room)));
        assert_eq!(db.actions(room).await, ["ROOM_CREATED", "SCREEN_SHARE_STARTED"]);
    }
    assert_eq!(db.audit_log(RoomId::from_uuid(Uuid::from_u128(1))).await, []);
}

async fn who_did_it_and_from_where_comes_back(db: TestDb) {
    let ada = db.user("ada").await;
    let room = db.room(&ada, 5).await.id;
    let addresses = [
        "203.0.113.7",
        "0.0.0.0",
        "255.255.255.255",
        "2001:db8::1",
        "::",
        "::ffff:203.0.113.7",
    ];
    let agent = "Mozilla/5.0 (X11; Linux) \"é\" 🎥";
    for text in addresses {
        let address: IpAddr = text.parse().unwrap();
        for actor in [Actor::user(ada.id), Actor::system("media \"é\" 1"), Actor::anonymous()] {
            let from_there = actor.clone().from_address(address).with_user_agent(agent);
            let logout = || Observation::UserLogout {};
            let id = db
                .store
                .acting(&from_there)
                .audit()
                .append(Some(room), logout())
                .await
                .unwrap();
            let entry = db.audit_log(room).await.pop().unwrap();
            assert_eq!(
                (entry.id, entry.address, entry.user_agent.as_deref()),
                (id, Some(address), Some(agent))
            );
            assert_eq!(entry.actor, actor.user_id());
            let system = (actor == Actor::system("media \"é\" 1")).then_some("media \"é\" 1");
            assert_eq!(entry.system.as_deref(), system);
            assert_eq!(entry.event, logout().into());
        }
    }
}

async fn every_change_carries_who_did_it_and_from_where(db: TestDb) {
    let raw = db.raw().await;
    let from_there = |actor: Actor| actor.from_address([203, 0, 113, 7].into()).with_user_agent("Agent/1.0");
    let newcomer = db.store.acting(&from_there(Actor::anonymous()));
    let ada = newcomer
        .users()
        .register(crate::users::new_user("ada", None))
        .await
        .unwrap();
    let ben = newcomer
        .users()
        .register(crate::users::new_user("ben", None))
        .await
        .unwrap();
    let (ada, ben) = (
        from_there(Actor::user(ada.id)),
        (from_there(Actor::user(ben.id)), ben.id),
    );
    let owner = db.store.acting(&ada);
    let guest = db.store.acting(&ben.0);
    let new = NewRoom::titled(ada.user_id().unwrap(), "A room");
    let room = owner.rooms().create(new).await.unwrap().id;
    guest.participants().join(room, ben.1, Participant).await.unwrap();
    guest.participants().leave(room, ben.1).await.unwrap();
    guest.participants().join(room, ben.1, Participant).await.unwrap();
    owner.participants().kick(room, ben.1, None).await.unwrap();
    owner.rooms().end(room).await.unwrap();
    let recorded: Vec<_> = db
        .audit_log(room)
        .await
        .into_iter()
        .map(|entry| (entry.event.action(), entry.actor))
        .collect();
    let (ada, ben) = (ada.user_id(), Some(ben.1));
    let expected = [
        ("ROOM_CREATED", ada),
        ("ROOM_STARTED", ben),
        ("USER_JOINED", ben),
        ("USER_LEFT", ben),
        ("USER_JOINED", ben),
        ("USER_KICKED", ada),
        ("ROOM_ENDED", ada),
    ];
    assert_eq!(recorded, expected.map(|(action, actor)| (action.to_owned(), actor)));
    let from_there = match db.backend {
        Backend::Sqlite => "ip_address = '203.0.113.7' AND user_agent = 'Agent/1.0'",
        Backend::Postgres => "ip_address = inet '203.0.113.7' AND user_agent = 'Agent/1.0'",
    };
    let carrying = format!("SELECT count(*) FROM audit_logs WHERE {from_there}");
    // These seven and two registrations.
    assert_eq!(raw.number(&carrying).await, 9);
    assert_eq!(raw.number("SELECT count(*) FROM audit_logs").await, 9);
}

async fn user_agents_are_cut_and_cleaned(db: TestDb) {
    let room = db.room(&db.user("ada").await, 5).await.id;
    let long = "é".repeat(600);
    let cut = "é".repeat(500);
    for (given, kept) in [
        ("", None),
        ("\u{0}\u{1b}", None),
        ("a\u{0}b\r\nc", Some("abc")),
        (long.as_str(), Some(cut.as_str())),
    ] {
        let acting = db.store.acting(&Actor::system("test").with_user_agent(given));
        let logout = Observation::UserLogout {};
        acting.audit().append(Some(room), logout).await.unwrap();
        let entry = db.audit_log(room).await.pop().unwrap();
        assert_eq!(entry.user_agent.as_deref(), kept);
    }
}

/// Writes a row as another build would, behind all others.
async fn insert_by_hand(raw: &Raw, backend: Backend, (room, id): (RoomId, u128), action: &str, metadata: &str) {
    let (id, room) = (raw.id(Uuid::from_u128(id)), raw.id(room.as_uuid()));
    let insert = format!(
        "INSERT INTO audit_logs (id, action, room_id, metadata, timestamp)
         SELECT {id}, '{action}', id, {metadata}, created_at FROM rooms WHERE id = {room}"
    );
    match backend {
        Backend::Sqlite => {
            raw.run(&format!(
                "PRAGMA ignore_check_constraints = ON; {insert}; PRAGMA ignore_check_constraints = OFF"
            ))
            .await;
        }
        Backend::Postgres => raw.run(&insert).await,
    }
}

async fn an_action_of_another_build_does_not_fail_the_page(db: TestDb) {
    let room = db.room(&db.user("ada").await, 5).await.id;
    let raw = db.raw().await;
    if db.backend == Backend::Postgres {
        raw.run("ALTER TYPE audit_action ADD VALUE 'ROOM_TELEPORTED'").await;
    }
    let metadata = "'{\"to\": \"mars\"}'";
    insert_by_hand(&raw, db.backend, (room, u128::MAX), "ROOM_TELEPORTED", metadata).await;
    db.system().rooms().start(room).await.unwrap();
    assert_eq!(
        db.actions(room).await,
        ["ROOM_CREATED", "ROOM_TELEPORTED", "ROOM_STARTED"]
    );
    assert_eq!(
        db.audit_log(room).await[1].event,
        AuditEvent::Unrecognized {
            action: "ROOM_TELEPORTED".to_owned(),
            metadata: Some(serde_json::json!({"to": "mars"}))
        }
    );
}

async fn metadata_of_another_build_does_not_fail_the_page(db: TestDb) {
    let ada = db.user("ada").await;
    let raw = db.raw().await;
    for (number, (metadata, read)) in [
        ("NULL", None),
        ("'{}'", Some(serde_json::json!({}))),
        (
            "'{\"duration_seconds\": \"long\", \"ended_participations\": 1}'",
            Some(serde_json::json!({"duration_seconds": "long", "ended_participations": 1})),
        ),
        ("'[1, 2]'", Some(serde_json::json!([1, 2]))),
        ("'\"text\"'", Some(serde_json::json!("text"))),
    ]
    .into_iter()
    .enumerate()
    {
        let room = db.room(&ada, 5).await.id;
        let behind = u128::MAX - u128::try_from(number).unwrap();
        insert_by_hand(&raw, db.backend, (room, behind), "ROOM_ENDED", metadata).await;
        let event = AuditEvent::Unrecognized {
            action: "ROOM_ENDED".to_owned(),
            metadata: read,
        };
        assert_eq!(db.audit_log(room).await.pop().unwrap().event, event);
    }
}

async fn what_does_not_exist_cannot_be_recorded(db: TestDb) {
    let (ada, raw) = (db.user("ada").await, db.raw().await);
    let room = db.room(&ada, 5).await.id;
    let (no_room, nobody) = (
        RoomId::from_uuid(Uuid::from_u128(1)),
        UserId::from_uuid(Uuid::from_u128(2)),
    );
    let muted = |target| Observation::UserMuted {
        target,
        kind: MediaKind::Audio,
    };
    for (actor, room, target, missing) in [
        (Actor::system("test"), Some(no_room), ada.id, Subject::Room(no_room)),
        (Actor::system("test"), Some(room), nobody, Subject::User(nobody)),
        (Actor::system("test"), None, nobody, Subject::User(nobody)),
        (Actor::user(nobody), Some(room), ada.id, Subject::User(nobody)),
        (Actor::user(nobody), None, ada.id, Subject::User(nobody)),
    ] {
        let acting = db.store.acting(&actor);
        let repository = acting.audit();
        let append = repository.append(room, muted(target));
        raw.assert_refused(append, Error::NotFound(missing), &actor).await;
        // A unit goes on.
        let unit = db.store.begin(&actor).await.unwrap();
        assert!(unit.audit().append(room, muted(target)).await.is_err());
        unit.commit().await.unwrap();
    }
}

async fn what_is_deleted_can_be_recorded(db: TestDb) {
    let (ada, raw) = (db.user("ada").await, db.raw().await);
    let room = db.room(&ada, 5).await.id;
    raw.run("UPDATE rooms SET deleted_at = updated_at").await;
    raw.run("UPDATE users SET deleted_at = updated_at, is_active = (1 = 0)")
        .await;
    let muted = Observation::UserMuted {
        target: ada.id,
        kind: MediaKind::Audio,
    };
    db.acting(&ada).audit().append(Some(room), muted).await.unwrap();
    assert_eq!(db.actions(room).await, ["ROOM_CREATED", "USER_MUTED"]);
}

async fn an_actor_who_does_not_exist_is_not_found(db: TestDb) {
    let nobody = UserId::from_uuid(uuid::Uuid::from_u128(7));
    let missing = Error::NotFound(Subject::User(nobody));
    let raw = db.raw().await;
    let alone = db.store.acting(&Actor::user(nobody));
    let refused = alone.users().register(crate::users::new_user("ada", None)).await;
    assert_eq!(refused.unwrap_err().to_string(), missing.to_string());
    let unit = db.store.begin(&Actor::user(nobody)).await.unwrap();
    let refused = unit.users().register(crate::users::new_user("ada", None)).await;
    assert!(matches!(refused, Err(Error::NotFound(Subject::User(id))) if id == nobody));
    // The foreign key was violated: the unit is spoiled, on both backends.
    assert!(matches!(unit.commit().await, Err(Error::Aborted { .. })));
    assert_eq!(raw.number("SELECT count(*) FROM users").await, 0);
    assert_eq!(raw.number("SELECT count(*) FROM audit_logs").await, 0);
}
