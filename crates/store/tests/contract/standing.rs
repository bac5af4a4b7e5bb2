//! What somebody is to a room: `find`, `get`, `standing`, `actor_role`.

use chrono::TimeDelta;
use conferencing_store::authority::ActorRole;
use conferencing_store::entity::ParticipantRole::{CoHost, Participant};
use conferencing_store::entity::{ParticipantId, RoomId, UserId};
use conferencing_store::{Actor, Error, SeatOrBan, Store, Subject};
use uuid::Uuid;

use crate::harness::TestDb;

crate::cases![
    a_stay_is_found_by_its_id_past_or_present,
    a_standing_is_the_seat_or_the_ban_in_force,
    the_actor_s_role_is_what_the_guards_see,
];

async fn a_stay_is_found_by_its_id_past_or_present(db: TestDb) {
    let ada = db.user("ada").await;
    let room = db.room(&ada, 5).await;
    let seat = db.seat(&room, &ada).await;
    assert_eq!(db.store.participants().find(seat.id).await.unwrap(), Some(seat.clone()));
    let left = db.system().participants().leave(room.id, ada.id).await.unwrap();
    db.seat(&room, &ada).await;
    assert_eq!(db.store.participants().get(seat.id).await.unwrap(), left);
    let unknown = ParticipantId::from_uuid(Uuid::from_u128(7));
    assert_eq!(db.store.participants().find(unknown).await.unwrap(), None);
    let missing = db.store.participants().get(unknown).await;
    assert!(matches!(missing, Err(Error::NotFound(Subject::Participant(id))) if id == unknown));
}

async fn a_standing_is_the_seat_or_the_ban_in_force(db: TestDb) {
    let (ada, ben) = (db.user("ada").await, db.user("ben").await);
    let (store, clock) = db.with_manual_clock().await;
    let (room, other) = (db.room(&ada, 5).await.id, db.room(&ada, 5).await.id);
    let system = store.acting(&Actor::system("test"));
    let participants = system.participants();
    let standing = |room: RoomId, user: UserId| {
        let store: Store = store.clone();
        async move { store.participants().standing(room, user).await.unwrap() }
    };
    assert_eq!(standing(room, ben.id).await, SeatOrBan::Neither);
    let seat = participants.join(room, ben.id, Participant).await.unwrap();
    participants.join(room, ada.id, Participant).await.unwrap();
    assert_eq!(standing(room, ben.id).await, SeatOrBan::Seat(seat.clone()));
    assert_eq!(standing(other, ben.id).await, SeatOrBan::Neither);
    participants.leave(room, ben.id).await.unwrap();
    assert_eq!(standing(room, ben.id).await, SeatOrBan::Neither);
    clock.advance(TimeDelta::seconds(1));
    let seat = participants.join(room, ben.id, Participant).await.unwrap();
    let until = seat.joined_at + TimeDelta::seconds(60);
    participants.ban(room, ben.id, None, Some(until)).await.unwrap();
    let SeatOrBan::Ban(ban) = standing(room, ben.id).await else {
        panic!("no ban");
    };
    assert_eq!((ban.id, ban.ban_expires_at), (seat.id, Some(until)));
    // It is in force until the very moment at which a join would lift it.
    clock.advance(TimeDelta::microseconds(59_999_999));
    assert_eq!(standing(room, ben.id).await, SeatOrBan::Ban(ban));
    clock.advance(TimeDelta::microseconds(1));
    assert_eq!(standing(room, ben.id).await, SeatOrBan::Neither);
    let seat = participants.join(room, ben.id, Participant).await.unwrap();
    assert_eq!(standing(room, ben.id).await, SeatOrBan::Seat(seat));
    participants.ban(room, ben.id, None, None).await.unwrap();
    assert!(matches!(standing(room, ben.id).await, SeatOrBan::Ban(_)));
    participants.unban(room, ben.id).await.unwrap();
    assert_eq!(standing(room, ben.id).await, SeatOrBan::Neither);
    let nowhere = RoomId::from_uuid(Uuid::from_u128(7));
    assert_eq!(standing(nowhere, ben.id).await, SeatOrBan::Neither);
    // A unit sees its own.
    clock.advance(TimeDelta::seconds(1));
    let unit = store.begin(&Actor::system("test")).await.unwrap();
    let seat = unit.participants().join(room, ben.id, Participant).await.unwrap();
    let seen = unit.participants().standing(room, ben.id).await.unwrap();
    assert_eq!(seen, SeatOrBan::Seat(seat));
    unit.roll_back().await.unwrap();
}

async fn the_actor_s_role_is_what_the_guards_see(db: TestDb) {
    let owner = db.user("owner").await;
    let guests = db.users("guest", 4).await;
    let room = db.room(&owner, 9).await;
    let system = db.system();
    for (guest, role) in guests.iter().zip([Participant, CoHost, Participant]) {
        system.participants().join(room.id, guest.id, role).await.unwrap();
    }
    system
        .participants()
        .hand_over_host(room.id, guests[2].id)
        .await
        .unwrap();
    let roles = [
        (Actor::system("test"), ActorRole::System),
        (Actor::user(owner.id), ActorRole::Owner),
        (Actor::user(guests[0].id), ActorRole::Participant),
        (Actor::user(guests[1].id), ActorRole::CoHost),
        (Actor::user(guests[2].id), ActorRole::Host),
        (Actor::user(guests[3].id), ActorRole::Outsider),
        (Actor::anonymous(), ActorRole::Outsider),
    ];
    for (actor, role) in &roles {
        let acting = db.store.acting(actor);
        assert_eq!(
            acting.participants().actor_role(room.id).await.unwrap(),
            *role,
            "{actor:?}"
        );
    }
    // Whoever has left is an outsider; an owner who is present is the owner.
    db.seat(&room, &owner).await;
    system.participants().leave(room.id, guests[1].id).await.unwrap();
    for (user, role) in [(owner.id, ActorRole::Owner), (guests[1].id, ActorRole::Outsider)] {
        let acting = db.store.acting(&Actor::user(user));
        assert_eq!(acting.participants().actor_role(room.id).await.unwrap(), role);
    }
    system.rooms().end(room.id).await.unwrap();
    system.rooms().delete(room.id).await.unwrap();
    for room in [room.id, RoomId::from_uuid(Uuid::from_u128(7))] {
        let missing = db.acting(&owner).participants().actor_role(room).await;
        assert!(matches!(missing, Err(Error::NotFound(Subject::Room(id))) if id == room));
    }
}
