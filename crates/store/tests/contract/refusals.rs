//! Joins and leaves that are refused: for the right reason, and without a trace.

use conferencing_store::authority::{ActorRole, Operation};
use conferencing_store::entity::ParticipantRole::{CoHost, Host, Participant};
use conferencing_store::entity::{RoomId, RoomStatus, UserId, room, user};
use conferencing_store::{Actor, Conflict, Error, Rejected, Subject};
use uuid::Uuid;

use crate::harness::{Raw, TestDb};

crate::cases![
    nobody_joins_a_room_that_is_over_called_off_or_deleted,
    a_banned_user_does_not_join,
    inactive_and_deleted_users_do_not_join,
    what_does_not_exist_is_not_joined,
    nobody_but_the_owner_joins_as_host,
    nobody_joins_or_leaves_for_somebody_else,
    a_full_room_takes_nobody,
    who_is_present_keeps_the_seat_and_its_role,
    two_joins_of_one_instant_are_told_apart,
    who_is_not_present_cannot_leave,
];

/// Tries to join as oneself and through the system, which come to the same.
async fn assert_join_refused(db: &TestDb, raw: &Raw, room: RoomId, user: UserId, reason: impl Into<Error>, what: &str) {
    let reason = reason.into();
    for acting in [db.system(), db.store.acting(&Actor::user(user))] {
        let repository = acting.participants();
        raw.assert_refused(repository.join(room, user, Participant), reason.clone(), what)
            .await;
    }
}

struct Fixture {
    raw: Raw,
    owner: user::Model,
    guest: user::Model,
    room: room::Model,
}

async fn fixture(db: &TestDb) -> Fixture {
    let (owner, guest) = (db.user("owner").await, db.user("guest").await);
    Fixture {
        raw: db.raw().await,
        room: db.room(&owner, 10).await,
        owner,
        guest,
    }
}

async fn nobody_joins_a_room_that_is_over_called_off_or_deleted(db: TestDb) {
    let Fixture { raw, owner, guest, .. } = fixture(&db).await;
    for (sql, status) in [
        ("", RoomStatus::Ended),
        (
            "UPDATE rooms SET status = 'CANCELLED' WHERE id =",
            RoomStatus::Cancelled,
        ),
    ] {
        let room = db.room(&owner, 10).await.id;
        if status == RoomStatus::Ended {
            db.system().rooms().start(room).await.unwrap();
            db.system().rooms().end(room).await.unwrap();
        } else {
            raw.run(&format!("{sql} {}", raw.id(room.as_uuid()))).await;
        }
        for user in [guest.id, owner.id] {
            let refusal = Rejected::RoomStatus { room, status };
            assert_join_refused(&db, &raw, room, user, refusal, "over").await;
        }
        raw.run(&format!(
            "UPDATE rooms SET deleted_at = updated_at WHERE id = {}",
            raw.id(room.as_uuid())
        ))
        .await;
        let not_found = Error::NotFound(Subject::Room(room));
        assert_join_refused(&db, &raw, room, guest.id, not_found, "over and deleted").await;
    }
    let room = db.room(&owner, 10).await.id;
    raw.run(&format!(
        "UPDATE rooms SET deleted_at = updated_at WHERE id = {}",
        raw.id(room.as_uuid())
    ))
    .await;
    let not_found = Error::NotFound(Subject::Room(room));
    assert_join_refused(&db, &raw, room, guest.id, not_found, "deleted").await;
}

async fn a_banned_user_does_not_join(db: TestDb) {
    let Fixture { raw, room, guest, .. } = fixture(&db).await;
    let other = db.user("other").await;
    for user in [&guest, &other] {
        db.seat(&room, user).await;
        db.system().participants().kick(room.id, user.id, None).await.unwrap();
    }
    let until = "2999-01-01T00:00:00+00:00";
    for (user, expiry, until) in [
        (&guest, "NULL".to_owned(), None),
        (&other, format!("'{until}'"), Some(until.parse().unwrap())),
    ] {
        raw.run(&format!(
            "UPDATE room_participants SET is_banned = (1 = 1), banned_at = left_at, ban_expires_at = {expiry}
             WHERE user_id = {}",
            raw.id(user.id.as_uuid())
        ))
        .await;
        let refusal = Rejected::Banned {
            user: user.id,
            room: room.id,
            until,
        };
        assert_join_refused(&db, &raw, room.id, user.id, refusal, "banned").await;
    }
    let elsewhere = db.room(&guest, 10).await;
    db.seat(&elsewhere, &other).await;
}

async fn inactive_and_deleted_users_do_not_join(db: TestDb) {
    let Fixture { raw, room, guest, .. } = fixture(&db).await;
    raw.run("UPDATE users SET is_active = (1 = 0)").await;
    let refusal = Rejected::UserInactive { user: guest.id };
    assert_join_refused(&db, &raw, room.id, guest.id, refusal, "inactive").await;
    raw.run("UPDATE users SET deleted_at = updated_at").await;
    let not_found = Error::NotFound(Subject::User(guest.id));
    assert_join_refused(&db, &raw, room.id, guest.id, not_found, "deleted").await;
}

async fn what_does_not_exist_is_not_joined(db: TestDb) {
    let Fixture { raw, room, guest, .. } = fixture(&db).await;
    let (no_room, nobody) = (
        RoomId::from_uuid(Uuid::from_u128(1)),
        UserId::from_uuid(Uuid::from_u128(2)),
    );
    let not_found = Error::NotFound(Subject::Room(no_room));
    assert_join_refused(&db, &raw, no_room, guest.id, not_found, "no room").await;
    let not_found = Error::NotFound(Subject::User(nobody));
    assert_join_refused(&db, &raw, room.id, nobody, not_found, "no user").await;
}

async fn nobody_but_the_owner_joins_as_host(db: TestDb) {
    let Fixture { raw, room, guest, .. } = fixture(&db).await;
    for acting in [db.acting(&guest), db.system()] {
        let repository = acting.participants();
        let join = repository.join(room.id, guest.id, Host);
        raw.assert_refused(join, Rejected::HostSeat { room: room.id }, &acting)
            .await;
    }
}

async fn nobody_joins_or_leaves_for_somebody_else(db: TestDb) {
    let Fixture {
        raw,
        room,
        owner,
        guest,
    } = fixture(&db).await;
    let other = db.user("other").await;
    let not_allowed = |operation| Rejected::NotAllowed {
        operation,
        actor_role: ActorRole::Outsider,
        room: Some(room.id),
        user: Some(guest.id),
    };
    // The host, a co-host, a participant and somebody from outside; what they are in the room does not matter.
    for seated in [false, true] {
        for actor in [Actor::user(owner.id), Actor::user(other.id), Actor::anonymous()] {
            let acting = db.store.acting(&actor);
            let repository = acting.participants();
            let join = repository.join(room.id, guest.id, Participant);
            raw.assert_refused(join, not_allowed(Operation::Join), &actor).await;
            let leave = repository.leave(room.id, guest.id);
            raw.assert_refused(leave, not_allowed(Operation::Leave), &actor).await;
        }
        if !seated {
            db.system().participants().join(room.id, owner.id, Host).await.unwrap();
            db.system()
                .participants()
                .join(room.id, other.id, CoHost)
                .await
                .unwrap();
            db.seat(&room, &guest).await;
        }
    }
}

async fn a_full_room_takes_nobody(db: TestDb) {
    let Fixture { raw, owner, guest, .. } = fixture(&db).await;
    let others = db.users("other", 2).await;
    let room = db.room(&owner, 2).await;
    for other in &others {
        db.seat(&room, other).await;
    }
    // The owner has no seat kept free.
    for user in [guest.id, owner.id] {
        let refusal = Rejected::RoomFull {
            room: room.id,
            capacity: 2,
        };
        assert_join_refused(&db, &raw, room.id, user, refusal, "full").await;
    }
    db.system().participants().leave(room.id, others[0].id).await.unwrap();
    db.seat(&room, &guest).await;
    raw.assert_invariants().await;
}

async fn who_is_present_keeps_the_seat_and_its_role(db: TestDb) {
    let Fixture {
        raw,
        room,
        owner,
        guest,
    } = fixture(&db).await;
    let seats = [
        db.system().participants().join(room.id, owner.id, Host).await.unwrap(),
        db.system()
            .participants()
            .join(room.id, guest.id, CoHost)
            .await
            .unwrap(),
    ];
    for seat in seats {
        let refusal = Rejected::AlreadyPresent {
            user: seat.user_id,
            room: room.id,
            seat: seat.id,
            role: seat.role,
            since: seat.joined_at,
        };
        assert_join_refused(&db, &raw, room.id, seat.user_id, refusal, "present").await;
    }
}

async fn two_joins_of_one_instant_are_told_apart(db: TestDb) {
    let Fixture { raw, room, guest, .. } = fixture(&db).await;
    let (store, clock) = db.with_manual_clock().await;
    let acting = store.acting(&Actor::user(guest.id));
    let repository = acting.participants();
    repository.join(room.id, guest.id, Participant).await.unwrap();
    repository.leave(room.id, guest.id).await.unwrap();
    let refusal = Conflict::SameInstant {
        user: guest.id,
        room: room.id,
    };
    raw.assert_refused(repository.join(room.id, guest.id, Participant), refusal, "at once")
        .await;
    clock.advance(chrono::TimeDelta::microseconds(1));
    repository.join(room.id, guest.id, Participant).await.unwrap();
    raw.assert_invariants().await;
}

async fn who_is_not_present_cannot_leave(db: TestDb) {
    let Fixture { raw, room, guest, .. } = fixture(&db).await;
    let acting = db.acting(&guest);
    let repository = acting.participants();
    let not_present = Rejected::NotPresent {
        user: guest.id,
        room: room.id,
    };
    raw.assert_refused(repository.leave(room.id, guest.id), not_present.clone(), "never came")
        .await;
    db.seat(&room, &guest).await;
    repository.leave(room.id, guest.id).await.unwrap();
    raw.assert_refused(repository.leave(room.id, guest.id), not_present.clone(), "has left")
        .await;
    db.seat(&room, &guest).await;
    db.system().rooms().end(room.id).await.unwrap();
    raw.assert_refused(repository.leave(room.id, guest.id), not_present, "is over")
        .await;
    raw.run("UPDATE rooms SET deleted_at = updated_at").await;
    let not_found = Error::NotFound(Subject::Room(room.id));
    raw.assert_refused(repository.leave(room.id, guest.id), not_found, "is deleted")
        .await;
}
