//! Seats: who gets one, who loses one, and what stays behind.

use store::audit::AuditEvent;
use store::entity::ParticipantRole::{CoHost, Host, Participant};
use store::entity::RoomStatus;
use store::{Change, Error, Order, PageRequest, Rejected};

use crate::harness::{Backend, TestDb};
use crate::wire::Wire;

crate::cases![
    the_first_join_starts_the_room,
    the_last_seat_has_one_winner,
    join_leave_and_kick_are_one_statement,
];

async fn the_first_join_starts_the_room(db: TestDb) {
    let (ada, ben) = (db.user("ada").await, db.user("ben").await);
    let room = db.room(&ada, 10).await;
    let seat = db
        .acting(&ada)
        .participants()
        .join(room.id, ada.id, Participant)
        .await
        .unwrap();
    assert_eq!(seat.role, Host);
    let seat = db
        .acting(&ben)
        .participants()
        .join(room.id, ben.id, CoHost)
        .await
        .unwrap();
    assert_eq!(seat.role, CoHost);
    let room = db.store.rooms().require(room.id).await.unwrap();
    assert_eq!(
        (room.status, room.active_participants, room.total_joins),
        (RoomStatus::Live, 2, 2)
    );
    let page = PageRequest::first(50, Order::OldestFirst).unwrap();
    let trail = db.store.audit().trail_of_room(room.id, &page).await.unwrap();
    let events: Vec<AuditEvent> = trail.items.into_iter().map(|entry| entry.event).collect();
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
                role: Host
            }
            .into(),
            Change::UserJoined {
                target: None,
                role: CoHost
            }
            .into(),
        ]
    );
}

async fn the_last_seat_has_one_winner(db: TestDb) {
    let users = db.users("guest", 32).await;
    let owner = db.user("owner").await;
    let room = db.room(&owner, 1).await;
    let tasks: Vec<_> = users
        .into_iter()
        .map(|user| {
            let (acting, room) = (db.acting(&user), room.id);
            tokio::spawn(async move { acting.participants().join(room, user.id, Participant).await })
        })
        .collect();
    let mut seated = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(_) => seated += 1,
            Err(Error::Rejected(Rejected::RoomFull { capacity: 1, .. })) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
    assert_eq!(seated, 1);
}

async fn join_leave_and_kick_are_one_statement(db: TestDb) {
    if db.backend != Backend::Postgres {
        return;
    }
    let (ada, ben) = (db.user("ada").await, db.user("ben").await);
    let room = db.room(&ada, 10).await;
    let wire = Wire::before(&db.url).await;
    let store = store::Store::connect(&wire.url).await.unwrap();
    let platform = store.acting(&store::Actor::system("test"));
    wire.executions();
    platform
        .participants()
        .join(room.id, ben.id, Participant)
        .await
        .unwrap();
    assert_eq!(wire.executions(), ["execute"]);
    platform.participants().leave(room.id, ben.id).await.unwrap();
    assert_eq!(wire.executions(), ["execute"]);
    platform
        .participants()
        .join(room.id, ben.id, Participant)
        .await
        .unwrap();
    wire.executions();
    platform
        .participants()
        .kick(room.id, ben.id, Some("noise"))
        .await
        .unwrap();
    assert_eq!(wire.executions(), ["execute"]);
}
