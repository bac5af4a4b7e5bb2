//! How many statements an operation costs, as the PostgreSQL server sees them.

use conferencing_store::entity::ParticipantRole::Participant;
use conferencing_store::{
    Actor, AuditFilter, Error, LeaveDetails, MediaKind, NewRoom, NewUser, Observation, Order, PageRequest, Store,
};

use crate::harness::{Backend, TestDb, password_hash};
use crate::wire::Wire;

crate::cases![
    @Postgres each_operation_alone_is_one_statement,
    @Postgres an_end_is_two_statements_in_a_transaction,
    @Postgres a_unit_adds_begin_and_commit_alone,
    @Postgres a_unit_that_fails_sends_a_rollback,
    @Postgres each_read_is_one_statement,
];

/// A store whose statements are counted; none on SQLite, which has no wire.
async fn wired(db: &TestDb) -> Option<(Wire, Store)> {
    if db.backend == Backend::Sqlite {
        return None;
    }
    let wire = Wire::before(&db.url).await;
    let store = Store::connect(&wire.url).await.unwrap();
    wire.executions();
    Some((wire, store))
}

fn new_user(username: &str) -> NewUser<'_> {
    NewUser::named(username, username, password_hash())
}

async fn each_operation_alone_is_one_statement(db: TestDb) {
    let Some((wire, store)) = wired(&db).await else { return };
    let one = || assert_eq!(wire.executions(), ["execute"]);
    let system = store.acting(&Actor::system("test"));
    let ada = system.users().register(new_user("ada")).await.unwrap();
    one();
    let room = system.rooms().create(NewRoom::titled(ada.id, "A room")).await.unwrap();
    one();
    let other = system.rooms().create(NewRoom::titled(ada.id, "Another")).await.unwrap();
    one();
    system.rooms().start(other.id).await.unwrap();
    one();
    for _ in 0..2 {
        // The owner's join is not the usual one: the short statement does nothing, and the whole plan is the second.
        system.participants().join(room.id, ada.id, Participant).await.unwrap();
        assert_eq!(wire.executions(), ["execute", "execute"]);
        system.participants().leave(room.id, ada.id).await.unwrap();
        one();
    }
    let ben = db.user("ben").await;
    let seat = system.participants().join(room.id, ben.id, Participant).await.unwrap();
    one();
    let details = LeaveDetails::default();
    system.participants().leave_stay(seat.id, details).await.unwrap();
    one();
    // It does nothing, says why, and is read.
    system.participants().leave_stay(seat.id, details).await.unwrap();
    assert_eq!(wire.executions(), ["execute", "execute", "execute"]);
    system.participants().join(room.id, ben.id, Participant).await.unwrap();
    one();
    let owner = store.acting(&Actor::user(ada.id));
    owner.participants().kick(room.id, ben.id, Some("noise")).await.unwrap();
    one();
    let observation = Observation::UserMuted {
        target: ben.id,
        kind: MediaKind::Audio,
    };
    owner.audit().append(Some(room.id), observation).await.unwrap();
    one();
}

async fn an_end_is_two_statements_in_a_transaction(db: TestDb) {
    let Some((wire, store)) = wired(&db).await else { return };
    let (ada, ben) = (db.user("ada").await, db.user("ben").await);
    for guests in [vec![], vec![&ada], vec![&ada, &ben]] {
        let room = db.room(&ada, 10).await;
        db.system().rooms().start(room.id).await.unwrap();
        for guest in guests {
            db.seat(&room, guest).await;
        }
        store.acting(&Actor::user(ada.id)).rooms().end(room.id).await.unwrap();
        assert_eq!(wire.executions(), ["BEGIN", "execute", "execute", "COMMIT"]);
    }
}

async fn a_unit_adds_begin_and_commit_alone(db: TestDb) {
    let Some((wire, store)) = wired(&db).await else { return };
    let (ada, ben) = (db.user("ada").await.id, db.user("ben").await.id);
    let done: Result<(), Error> = store
        .transact(&Actor::system("test"), |unit| async move {
            unit.users().register(new_user("cleo")).await?;
            let room = unit.rooms().create(NewRoom::titled(ada, "A room")).await?.id;
            unit.rooms().start(room).await?;
            unit.participants().join(room, ada, Participant).await?;
            unit.participants().join(room, ben, Participant).await?;
            unit.participants().leave(room, ada).await?;
            unit.participants().kick(room, ben, None).await?;
            unit.audit()
                .append(Some(room), Observation::ScreenShareStarted {})
                .await?;
            unit.rooms().end(room).await?;
            Ok(())
        })
        .await;
    done.unwrap();
    let mut expected = vec!["BEGIN"];
    // One for each operation, and a second one for the end.
    expected.extend(["execute"; 10]);
    expected.push("COMMIT");
    assert_eq!(wire.executions(), expected);
}

async fn a_unit_that_fails_sends_a_rollback(db: TestDb) {
    let Some((wire, store)) = wired(&db).await else { return };
    let failed: Result<(), Error> = store
        .transact(&Actor::system("test"), |unit| async move {
            unit.users().register(new_user("cleo")).await?;
            unit.users().register(new_user(" ")).await?;
            Ok(())
        })
        .await;
    assert!(matches!(failed, Err(Error::Invalid(_))), "{failed:?}");
    assert_eq!(wire.executions(), ["BEGIN", "execute", "ROLLBACK"]);
}

async fn each_read_is_one_statement(db: TestDb) {
    let Some((wire, store)) = wired(&db).await else { return };
    let ada = db.user("ada").await;
    let room = db.room(&ada, 10).await;
    db.seat(&room, &ada).await;
    let one = || assert_eq!(wire.executions(), ["execute"]);
    store.users().get(ada.id).await.unwrap();
    one();
    store.users().find_for_login("ADA").await.unwrap().unwrap();
    one();
    store.rooms().get(room.id).await.unwrap();
    one();
    let code = room.room_code.as_str();
    store.rooms().find_by_code(code).await.unwrap().unwrap();
    one();
    store.rooms().find_overview(code).await.unwrap().unwrap();
    one();
    store.statistics().of_room(room.id).await.unwrap();
    one();
    store.statistics().of_user(ada.id).await.unwrap();
    one();
    let listed = PageRequest::first(10, Order::OldestFirst).unwrap();
    let present = store.participants().list_present(room.id, &listed).await.unwrap();
    one();
    store.participants().get(present.items[0].participant.id).await.unwrap();
    one();
    store.participants().standing(room.id, ada.id).await.unwrap();
    one();
    let acting = store.acting(&Actor::user(ada.id));
    acting.participants().actor_role(room.id).await.unwrap();
    one();
    let page = PageRequest::first(10, Order::NewestFirst).unwrap();
    assert_eq!(
        store
            .audit()
            .list(&AuditFilter::of_room(room.id), &page)
            .await
            .unwrap()
            .items
            .len(),
        3
    );
    one();
}
