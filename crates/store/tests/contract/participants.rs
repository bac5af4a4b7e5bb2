//! Seats: who gets one, who loses one, and what stays behind.

use chrono::{DateTime, TimeDelta, Utc};
use conferencing_store::audit::AuditEvent;
use conferencing_store::entity::ParticipantRole::{self, CoHost, Host, Participant};
use conferencing_store::entity::{RoomStatus, room, room_participant, user};
use conferencing_store::{Actor, Change, Store};

use crate::harness::TestDb;

crate::cases![
    the_first_join_starts_the_room,
    the_owner_is_seated_as_host_whatever_the_role,
    the_owner_is_seated_as_co_host_beside_another_host,
    coming_back_is_a_new_participation,
    leaving_and_kicks_tell_who_did_them,
    reasons_of_a_kick_are_trimmed_and_blank_ones_dropped,
    peak_and_total_count_rejoins,
    durations_are_whole_seconds_cut_not_rounded,
    the_end_of_a_room_closes_every_participation_with_its_duration,
    nothing_ends_before_it_began_when_the_clock_runs_backwards,
];

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

async fn join(store: &Store, room: &room::Model, user: &user::Model, role: ParticipantRole) -> room_participant::Model {
    let system = store.acting(&Actor::system("test"));
    system.participants().join(room.id, user.id, role).await.unwrap()
}

async fn leave(store: &Store, room: &room::Model, user: &user::Model) -> room_participant::Model {
    let system = store.acting(&Actor::system("test"));
    system.participants().leave(room.id, user.id).await.unwrap()
}

async fn kick(store: &Store, room: &room::Model, user: &user::Model) -> room_participant::Model {
    let system = store.acting(&Actor::system("test"));
    system.participants().kick(room.id, user.id, None).await.unwrap()
}

async fn the_first_join_starts_the_room(db: TestDb) {
    let (ada, ben) = (db.user("ada").await, db.user("ben").await);
    let room = db.room(&ada, 10).await;
    let first = db
        .acting(&ada)
        .participants()
        .join(room.id, ada.id, Participant)
        .await
        .unwrap();
    assert_eq!(first.role, Host);
    let second = db
        .acting(&ben)
        .participants()
        .join(room.id, ben.id, CoHost)
        .await
        .unwrap();
    assert_eq!(second.role, CoHost);
    let room = db.store.rooms().get(room.id).await.unwrap();
    assert_eq!(
        (room.status, room.active_participants, room.total_joins),
        (RoomStatus::Live, 2, 2)
    );
    let events: Vec<AuditEvent> = db
        .audit_log(room.id)
        .await
        .into_iter()
        .map(|entry| entry.event)
        .collect();
    assert_eq!(
        events,
        [
            Change::RoomCreated {
                room_code: room.room_code
            }
            .into(),
            Change::RoomStarted { by_join: true }.into(),
            Change::UserJoined {
                target: None,
                stay: first.id,
                role: Host
            }
            .into(),
            Change::UserJoined {
                target: None,
                stay: second.id,
                role: CoHost
            }
            .into(),
        ]
    );
}

async fn the_owner_is_seated_as_host_whatever_the_role(db: TestDb) {
    let ada = db.user("ada").await;
    for asked in [Host, CoHost, Participant] {
        let room = db.room(&ada, 10).await;
        assert_eq!(join(&db.store, &room, &ada, asked).await.role, Host);
        leave(&db.store, &room, &ada).await;
        assert_eq!(join(&db.store, &room, &ada, asked).await.role, Host, "on coming back");
    }
}

async fn the_owner_is_seated_as_co_host_beside_another_host(db: TestDb) {
    let (ada, ben) = (db.user("ada").await, db.user("ben").await);
    let raw = db.raw().await;
    for asked in [Host, CoHost, Participant] {
        let room = db.room(&ada, 10).await;
        let seat = db.seat(&room, &ben).await;
        let seat = raw.id(seat.id.as_uuid());
        raw.run(&format!("UPDATE room_participants SET role = 'HOST' WHERE id = {seat}"))
            .await;
        assert_eq!(join(&db.store, &room, &ada, asked).await.role, CoHost);
    }
    raw.assert_invariants().await;
}

async fn coming_back_is_a_new_participation(db: TestDb) {
    let (ada, ben) = (db.user("ada").await, db.user("ben").await);
    let room = db.room(&ada, 10).await;
    let first = db.seat(&room, &ben).await;
    let first = {
        let left = leave(&db.store, &room, &ben).await;
        assert_eq!((left.id, left.joined_at), (first.id, first.joined_at));
        left
    };
    let second = db.seat(&room, &ben).await;
    let second = {
        let kicked = kick(&db.store, &room, &ben).await;
        assert_eq!((kicked.id, kicked.joined_at), (second.id, second.joined_at));
        kicked
    };
    let third = db.seat(&room, &ben).await;
    assert!(first.left_at.is_some() && !first.is_kicked && first.kicked_at.is_none());
    assert!(second.left_at.is_some() && second.is_kicked && second.kicked_at.is_some());
    assert!(third.left_at.is_none() && !third.is_kicked && third.duration_seconds.is_none());
    let participations: Vec<_> = db
        .participations(room.id)
        .await
        .into_iter()
        .map(|s| s.participant)
        .collect();
    assert_eq!(
        participations,
        [first, second, third],
        "the earlier participations are as they were"
    );
    db.raw().await.assert_invariants().await;
    db.assert_audit_log_tells_the_participations(room.id).await;
}

async fn leaving_and_kicks_tell_who_did_them(db: TestDb) {
    let (ada, ben) = (db.user("ada").await, db.user("ben").await);
    let room = db.room(&ada, 10).await;
    let (owner, guest, system) = (db.acting(&ada), db.acting(&ben), db.system());
    guest.participants().join(room.id, ben.id, Participant).await.unwrap();
    guest.participants().leave(room.id, ben.id).await.unwrap();
    db.seat(&room, &ben).await;
    system.participants().leave(room.id, ben.id).await.unwrap();
    db.seat(&room, &ben).await;
    let kicked = owner.participants().kick(room.id, ben.id, Some("noise")).await.unwrap();
    assert_eq!(
        (kicked.kicked_by, kicked.kick_reason.as_deref()),
        (Some(ada.id), Some("noise"))
    );
    db.seat(&room, &ben).await;
    let kicked = system.participants().kick(room.id, ben.id, None).await.unwrap();
    assert_eq!((kicked.kicked_by, kicked.kick_reason), (None, None));
    let recorded: Vec<_> = db
        .audit_log(room.id)
        .await
        .into_iter()
        .filter_map(|entry| match entry.event {
            AuditEvent::Change(Change::UserJoined { target, .. }) => Some(("joined", entry.actor, target, None)),
            AuditEvent::Change(Change::UserLeft { target, .. }) => Some(("left", entry.actor, target, None)),
            AuditEvent::Change(Change::UserKicked { target, reason, .. }) => {
                Some(("kicked", entry.actor, Some(target), reason))
            }
            _ => None,
        })
        .collect();
    let (ada, ben) = (Some(ada.id), Some(ben.id));
    assert_eq!(
        recorded,
        [
            ("joined", ben, None, None),
            ("left", ben, None, None),
            ("joined", None, ben, None),
            ("left", None, ben, None),
            ("joined", None, ben, None),
            ("kicked", ada, ben, Some("noise".to_owned())),
            ("joined", None, ben, None),
            ("kicked", None, ben, None),
        ]
    );
}

async fn reasons_of_a_kick_are_trimmed_and_blank_ones_dropped(db: TestDb) {
    let (ada, ben) = (db.user("ada").await, db.user("ben").await);
    let room = db.room(&ada, 10).await;
    let longest = "é".repeat(500);
    for (given, kept) in [
        (None, None),
        (Some(" \t"), None),
        (Some("  noise "), Some("noise")),
        (Some(longest.as_str()), Some(longest.as_str())),
    ] {
        db.seat(&room, &ben).await;
        let kicked = db.system().participants().kick(room.id, ben.id, given).await.unwrap();
        assert_eq!(kicked.kick_reason.as_deref(), kept);
    }
}

async fn peak_and_total_count_rejoins(db: TestDb) {
    let owner = db.user("owner").await;
    let guests = db.users("guest", 3).await;
    let room = db.room(&owner, 10).await;
    for guest in &guests {
        db.seat(&room, guest).await;
    }
    for guest in &guests {
        leave(&db.store, &room, guest).await;
    }
    db.seat(&room, &guests[0]).await;
    kick(&db.store, &room, &guests[0]).await;
    db.seat(&room, &guests[0]).await;
    let room = db.store.rooms().get(room.id).await.unwrap();
    assert_eq!(
        (room.active_participants, room.peak_participants, room.total_joins),
        (1, 3, 5)
    );
}

/// Microseconds that a participation begins after a full second, and that it lasts.
const LENGTHS: &[(i64, i64)] = &[
    (0, 0),
    (0, 1),
    (0, 999_999),
    (0, 1_000_000),
    (0, 1_000_001),
    (1, 999_999),
    (500_000, 500_000),
    (999_999, 1),
    (999_999, 999_999),
    (999_999, 1_000_000),
    (100, 1_999_999),
    (123_456, 7_876_544),
    (700_000, 59_999_999),
    (1, 86_399_999_999),
    (999_999, 86_400_000_000),
    (4, 31_536_000_000_003),
];

async fn durations_are_whole_seconds_cut_not_rounded(db: TestDb) {
    let (ada, ben) = (db.user("ada").await, db.user("ben").await);
    for (offset, length) in LENGTHS {
        let start = at("2026-02-28T23:59:59Z") + TimeDelta::microseconds(*offset);
        let (store, clock) = db.with_clock_at(start).await;
        let system = store.acting(&Actor::system("test"));
        let room = db.room(&ada, 10).await;
        join(&store, &room, &ada, Host).await;
        join(&store, &room, &ben, Participant).await;
        clock.advance(TimeDelta::microseconds(*length));
        let left = leave(&store, &room, &ben).await;
        let ended = system.rooms().end(room.id).await.unwrap();
        let end = start + TimeDelta::microseconds(*length);
        let seconds = i32::try_from(length / 1_000_000).unwrap();
        assert_eq!((left.joined_at, left.left_at), (start, Some(end)), "{offset} {length}");
        assert_eq!(left.duration_seconds, Some(seconds), "{offset} {length}");
        assert_eq!((ended.started_at, ended.ended_at), (Some(start), Some(end)));
        assert_eq!(ended.duration_seconds, Some(seconds), "{offset} {length}");
        for participation in db.participations(room.id).await {
            assert_eq!(participation.participant.left_at, Some(end), "{offset} {length}");
            assert_eq!(
                participation.participant.duration_seconds,
                Some(seconds),
                "{offset} {length}"
            );
        }
        for entry in db.audit_log(room.id).await {
            if let AuditEvent::Change(
                Change::RoomEnded { duration_seconds, .. } | Change::UserLeft { duration_seconds, .. },
            ) = entry.event
            {
                assert_eq!((entry.at, duration_seconds), (end, seconds), "{offset} {length}");
            }
        }
        store.close().await.unwrap();
    }
}

async fn the_end_of_a_room_closes_every_participation_with_its_duration(db: TestDb) {
    let owner = db.user("owner").await;
    let guests = db.users("guest", 3).await;
    let start = at("2026-05-01T08:00:00.75Z");
    let (store, clock) = db.with_clock_at(start).await;
    let room = db.room(&owner, 10).await;
    for guest in &guests {
        join(&store, &room, guest, Participant).await;
        clock.advance(TimeDelta::milliseconds(1500));
    }
    let gone = leave(&store, &room, &guests[0]).await;
    clock.advance(TimeDelta::milliseconds(1500));
    let ended = store.acting(&Actor::user(owner.id)).rooms().end(room.id).await.unwrap();
    assert_eq!((ended.status, ended.active_participants), (RoomStatus::Ended, 0));
    assert_eq!((ended.duration_seconds, ended.peak_participants), (Some(6), 3));
    let participations = db.participations(room.id).await;
    assert_eq!(
        participations[0].participant, gone,
        "a participation that was over is left alone"
    );
    for (participation, seconds) in participations[1..].iter().zip([4, 3]) {
        assert_eq!(participation.participant.left_at, ended.ended_at);
        assert_eq!(participation.participant.duration_seconds, Some(seconds));
        assert!(!participation.participant.is_kicked);
    }
    let ends: Vec<AuditEvent> = db
        .audit_log(room.id)
        .await
        .into_iter()
        .map(|entry| entry.event)
        .filter(|event| event.action() == "ROOM_ENDED")
        .collect();
    let end = Change::RoomEnded {
        duration_seconds: 6,
        ended_participations: 2,
    };
    assert_eq!(ends, [end.into()]);
    db.raw().await.assert_invariants().await;
    db.assert_audit_log_tells_the_participations(room.id).await;
}

async fn nothing_ends_before_it_began_when_the_clock_runs_backwards(db: TestDb) {
    let owner = db.user("owner").await;
    let guests = db.users("guest", 3).await;
    let (store, clock) = db.with_clock_at(at("2026-05-01T08:00:00.5Z")).await;
    let room = db.room(&owner, 10).await;
    for guest in &guests {
        join(&store, &room, guest, Participant).await;
        clock.advance(TimeDelta::seconds(1));
    }
    clock.advance(TimeDelta::hours(-1));
    let left = leave(&store, &room, &guests[0]).await;
    let kicked = kick(&store, &room, &guests[1]).await;
    let ended = store.acting(&Actor::system("test")).rooms().end(room.id).await.unwrap();
    for participation in [left, kicked] {
        assert_eq!(
            (participation.left_at, participation.duration_seconds),
            (Some(participation.joined_at), Some(0))
        );
    }
    assert_eq!(ended.status, RoomStatus::Ended);
    assert!(ended.started_at <= ended.ended_at && ended.duration_seconds >= Some(0));
    for participation in db.participations(room.id).await {
        let participation = participation.participant;
        assert!(
            participation.left_at >= Some(participation.joined_at),
            "{participation:?}"
        );
        assert_eq!(participation.duration_seconds, Some(0), "{participation:?}");
    }
    db.raw().await.assert_invariants().await;
}
