//! Roles, the host's seat, refused attempts, and rooms that end when they are empty.

use conferencing_store::authority::{ActorRole, Operation};
use conferencing_store::entity::ParticipantRole::{CoHost, Host, Participant};
use conferencing_store::entity::{ParticipantRole, RoomStatus, user};
use conferencing_store::{
    Actor, AuditEvent, AuditFilter, Change, EmptyRoomPolicy, Error, Observation, Order, PageRequest, Rejected,
    StoreSettings,
};

use sea_orm::ConnectionTrait;

use crate::harness::{Backend, TestDb};
use crate::wire::Wire;

crate::cases![
    promotion_and_demotion_can_be_told_apart,
    the_host_role_moves_and_is_never_doubled,
    an_owner_takes_the_host_seat_only_when_it_is_free,
    who_may_change_roles,
    a_refused_attempt_is_in_the_audit_log_even_when_its_unit_rolls_back,
    a_refused_attempt_commits_with_its_unit_once,
    a_refused_attempt_is_in_the_audit_log_even_when_its_units_commit_fails,
    the_last_one_out_ends_the_room_where_the_store_says_so,
    a_ban_and_a_change_of_role_are_one_statement_each,
];

fn page() -> PageRequest {
    PageRequest::first(100, Order::OldestFirst).unwrap()
}

async fn events(db: &TestDb, room: &conferencing_store::entity::room::Model) -> Vec<AuditEvent> {
    let audit_log = db
        .store
        .audit()
        .list(&AuditFilter::of_room(room.id), &page())
        .await
        .unwrap();
    audit_log.items.into_iter().map(|entry| entry.event).collect()
}

async fn promotion_and_demotion_can_be_told_apart(db: TestDb) {
    let (owner, guest) = (db.user("owner").await, db.user("guest").await);
    let room = db.room(&owner, 5).await;
    let acting = db.acting(&owner);
    let absent = acting.participants().promote(room.id, guest.id).await;
    assert!(matches!(absent, Err(Error::Rejected(Rejected::NotPresent { .. }))));
    db.seat(&room, &guest).await;
    assert_eq!(
        acting.participants().promote(room.id, guest.id).await.unwrap().role,
        CoHost
    );
    let again = acting.participants().promote(room.id, guest.id).await;
    assert!(matches!(
        again,
        Err(Error::Rejected(Rejected::AlreadyRole { role: CoHost, .. }))
    ));
    assert_eq!(
        acting.participants().demote(room.id, guest.id).await.unwrap().role,
        Participant
    );
    let target = guest.id;
    assert_eq!(
        events(&db, &room).await[3..],
        [
            Change::RolePromotion {
                target,
                from: Participant,
                to: CoHost
            }
            .into(),
            Change::RoleDemotion {
                target,
                from: CoHost,
                to: Participant
            }
            .into(),
        ]
    );
}

async fn the_host_role_moves_and_is_never_doubled(db: TestDb) {
    let owner = db.user("owner").await;
    let guests = db.users("guest", 8).await;
    let room = db.room(&owner, 20).await;
    db.acting(&owner)
        .participants()
        .join(room.id, owner.id, Host)
        .await
        .unwrap();
    for guest in &guests {
        db.seat(&room, guest).await;
    }
    db.acting(&owner)
        .participants()
        .hand_over_host(room.id, guests[0].id)
        .await
        .unwrap();
    let handed = Change::RoleChanged {
        target: guests[0].id,
        from: Participant,
        to: Host,
        former_host: Some(owner.id),
    };
    assert_eq!(events(&db, &room).await.last(), Some(&handed.into()));
    let tasks: Vec<_> = (0..32)
        .map(|turn| {
            let (system, room, user) = (db.system(), room.id, guests[turn % 8].id);
            let owner = owner.id;
            tokio::spawn(async move {
                let done = match turn % 4 {
                    0 => system.participants().leave(room, owner).await.map(drop),
                    1 => system.participants().join(room, owner, Host).await.map(drop),
                    _ => system.participants().hand_over_host(room, user).await.map(drop),
                };
                assert!(matches!(done, Ok(()) | Err(Error::Rejected(_))), "{done:?}");
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let hosts = "SELECT count(*) FROM room_participants WHERE left_at IS NULL AND role = 'HOST'";
    assert_eq!(db.raw().await.number(hosts).await, 1);
}

async fn an_owner_takes_the_host_seat_only_when_it_is_free(db: TestDb) {
    let (owner, guest) = (db.user("owner").await, db.user("guest").await);
    let room = db.room(&owner, 5).await;
    db.seat(&room, &guest).await;
    db.acting(&owner)
        .participants()
        .hand_over_host(room.id, guest.id)
        .await
        .unwrap();
    let seat = db
        .acting(&owner)
        .participants()
        .join(room.id, owner.id, Host)
        .await
        .unwrap();
    assert_eq!(seat.role, CoHost);
    db.acting(&guest).participants().leave(room.id, guest.id).await.unwrap();
    db.acting(&owner).participants().leave(room.id, owner.id).await.unwrap();
    let seat = db
        .acting(&owner)
        .participants()
        .join(room.id, owner.id, Participant)
        .await
        .unwrap();
    assert_eq!(seat.role, Host);
}

/// Everybody's try at promoting a participant and at the hand-over, against the table in `authority`.
async fn who_may_change_roles(db: TestDb) {
    let (owner, host) = (db.user("owner").await, db.user("host").await);
    let (helper, guest) = (db.user("helper").await, db.user("guest").await);
    let (outsider, target) = (db.user("outsider").await, db.user("target").await);
    let room = db.room(&owner, 9).await;
    db.system()
        .participants()
        .join(room.id, helper.id, CoHost)
        .await
        .unwrap();
    for person in [&host, &guest, &target] {
        db.seat(&room, person).await;
    }
    db.system()
        .participants()
        .hand_over_host(room.id, host.id)
        .await
        .unwrap();
    let actor = |user: &user::Model| Actor::user(user.id);
    for (actor, actor_role) in [
        (Actor::system("test"), ActorRole::System),
        (actor(&owner), ActorRole::Owner),
        (actor(&host), ActorRole::Host),
        (actor(&helper), ActorRole::CoHost),
        (actor(&guest), ActorRole::Participant),
        (actor(&outsider), ActorRole::Outsider),
        (Actor::anonymous(), ActorRole::Outsider),
    ] {
        let acting = db.store.acting(&actor);
        let may = conferencing_store::authority::may(Operation::ChangeRole, actor_role, None);
        let done = acting.participants().promote(room.id, target.id).await;
        assert_eq!(done.is_ok(), may, "{actor_role:?}: {done:?}");
        if may {
            acting.participants().demote(room.id, target.id).await.unwrap();
        } else {
            let expected = Rejected::NotAllowed {
                operation: Operation::ChangeRole,
                actor_role,
                room: Some(room.id),
                user: Some(target.id),
            };
            assert!(matches!(done, Err(Error::Rejected(refused)) if refused == expected));
        }
    }
}

fn attempt(target: Option<conferencing_store::entity::UserId>, attempted: &str, actor_role: ActorRole) -> AuditEvent {
    Observation::UnauthorizedAccessAttempt {
        target,
        attempted: attempted.to_owned(),
        actor_role: Some(actor_role),
    }
    .into()
}

async fn a_refused_attempt_is_in_the_audit_log_even_when_its_unit_rolls_back(db: TestDb) {
    let (owner, guest) = (db.user("owner").await, db.user("guest").await);
    let room = db.room(&owner, 5).await;
    db.seat(&room, &guest).await;
    let before = events(&db, &room).await.len();
    let (id, user) = (room.id, guest.id);
    let refused: Result<(), Error> = db
        .store
        .transact(&Actor::user(user), |unit| async move {
            unit.participants().leave(id, user).await?;
            unit.rooms().end(id).await.map(drop)
        })
        .await;
    assert!(
        matches!(refused, Err(Error::Rejected(Rejected::NotAllowed { .. }))),
        "{refused:?}"
    );
    let after = events(&db, &room).await;
    assert_eq!(after[before..], [attempt(None, "end_room", ActorRole::Outsider)]);
    let alone = db.acting(&guest).participants().kick(id, owner.id, None).await;
    assert!(matches!(alone, Err(Error::Rejected(Rejected::NotAllowed { .. }))));
    let last = events(&db, &room).await.pop();
    assert_eq!(last, Some(attempt(Some(owner.id), "kick", ActorRole::Participant)));
}

async fn a_refused_attempt_commits_with_its_unit_once(db: TestDb) {
    let (owner, guest) = (db.user("owner").await, db.user("guest").await);
    let room = db.room(&owner, 5).await;
    db.seat(&room, &guest).await;
    let unit = db.store.begin(&Actor::user(guest.id)).await.unwrap();
    assert!(unit.rooms().end(room.id).await.is_err());
    unit.participants().leave(room.id, guest.id).await.unwrap();
    unit.commit().await.unwrap();
    let attempts = events(&db, &room)
        .await
        .into_iter()
        .filter(|event| event.action() == "UNAUTHORIZED_ACCESS_ATTEMPT");
    assert_eq!(attempts.count(), 1);
}

async fn a_refused_attempt_is_in_the_audit_log_even_when_its_units_commit_fails(db: TestDb) {
    let (owner, guest) = (db.user("owner").await, db.user("guest").await);
    let room = db.room(&owner, 5).await;
    db.seat(&room, &guest).await;
    let raw = db.raw().await;
    raw.run("CREATE TABLE own_parents (id integer PRIMARY KEY)").await;
    raw.run("CREATE TABLE own_children (parent integer REFERENCES own_parents (id) DEFERRABLE INITIALLY DEFERRED)")
        .await;
    let unit = db.store.begin(&Actor::user(guest.id)).await.unwrap();
    assert!(unit.rooms().end(room.id).await.is_err());
    let orphan = "INSERT INTO own_children (parent) VALUES (7)";
    unit.sql().execute_unprepared(orphan).await.unwrap();
    assert!(unit.commit().await.is_err());
    assert_eq!(raw.number("SELECT count(*) FROM own_children").await, 0);
    let last = events(&db, &room).await.pop();
    assert_eq!(last, Some(attempt(None, "end_room", ActorRole::Participant)));
}

async fn the_last_one_out_ends_the_room_where_the_store_says_so(db: TestDb) {
    let store = db
        .store_with(StoreSettings {
            empty_rooms: EmptyRoomPolicy::EndRoom,
            ..StoreSettings::default()
        })
        .await;
    let system = store.acting(&Actor::system("test"));
    let owner = db.user("owner").await;
    let guests = db.users("guest", 2).await;
    for how in ["leave", "kick", "ban"] {
        let room = db.room(&owner, 5).await;
        for guest in &guests {
            system
                .participants()
                .join(room.id, guest.id, ParticipantRole::Participant)
                .await
                .unwrap();
        }
        for (guest, still) in guests.iter().zip([RoomStatus::Live, RoomStatus::Ended]) {
            match how {
                "leave" => system.participants().leave(room.id, guest.id).await.map(drop).unwrap(),
                "kick" => system
                    .participants()
                    .kick(room.id, guest.id, None)
                    .await
                    .map(drop)
                    .unwrap(),
                _ => system
                    .participants()
                    .ban(room.id, guest.id, None, None)
                    .await
                    .map(drop)
                    .unwrap(),
            }
            assert_eq!(store.rooms().get(room.id).await.unwrap().status, still, "{how}");
        }
        let ended: Vec<AuditEvent> = events(&db, &room).await;
        let last = ended.last().unwrap();
        assert!(
            matches!(
                last,
                AuditEvent::Change(Change::RoomEnded {
                    ended_participations: 0,
                    ..
                })
            ),
            "{last:?}"
        );
    }
    let room = db.room(&owner, 5).await;
    db.seat(&room, &guests[0]).await;
    db.system().participants().leave(room.id, guests[0].id).await.unwrap();
    assert_eq!(db.store.rooms().get(room.id).await.unwrap().status, RoomStatus::Live);
}

async fn a_ban_and_a_change_of_role_are_one_statement_each(db: TestDb) {
    let (owner, guest) = (db.user("owner").await, db.user("guest").await);
    let room = db.room(&owner, 5).await;
    db.seat(&room, &guest).await;
    let statements = async |store: &conferencing_store::Store, wire: Option<&Wire>| {
        let system = store.acting(&Actor::system("test"));
        let participants = system.participants();
        let count = |what: &str| {
            if let Some(wire) = wire {
                assert_eq!(wire.executions(), ["execute"], "{what}");
            }
        };
        if let Some(wire) = wire {
            wire.executions();
        }
        participants.promote(room.id, guest.id).await.unwrap();
        count("promote");
        participants.demote(room.id, guest.id).await.unwrap();
        count("demote");
        participants.ban(room.id, guest.id, None, None).await.unwrap();
        count("ban of somebody present");
        participants.unban(room.id, guest.id).await.unwrap();
        count("unban");
        participants.ban(room.id, guest.id, None, None).await.unwrap();
        count("ban of somebody absent");
    };
    match db.backend {
        Backend::Sqlite => statements(&db.store, None).await,
        Backend::Postgres => {
            let wire = Wire::before(&db.url).await;
            let store = conferencing_store::Store::connect(&wire.url).await.unwrap();
            statements(&store, Some(&wire)).await;
        }
    }
}
