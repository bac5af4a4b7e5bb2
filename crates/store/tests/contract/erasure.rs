//! The right to be forgotten: what goes, what stays, and who else is at it.

use chrono::TimeDelta;
use conferencing_store::entity::AuthProviderType::{GitHub, Google};
use conferencing_store::entity::ParticipantRole::Participant;
use conferencing_store::entity::{RecordingId, RoomId, RoomStatus, UserId, user};
use conferencing_store::{
    Actor, AuditEvent, AuditFilter, Change, Conflict, ErasureReceipt, Error, NewRoom, NewUser, Order, PageRequest,
    ProviderEmail, Rejected, Subject,
};
use sea_orm::{ConnectionTrait, TransactionTrait};
use uuid::Uuid;

use crate::accounts_support::{account, actions, appended, profile, until_blocked};
use crate::harness::{Raw, TestDb, password_hash};
use crate::tokens::whole_table;

crate::cases![
    everything_ends_and_the_receipt_says_it,
    erasing_again_changes_nothing,
    every_file_that_is_not_purged_is_in_the_receipt,
    nothing_tells_who_it_was,
    names_and_accounts_are_free_again,
    a_row_that_was_only_marked_as_deleted_is_erased,
    a_unit_that_is_rolled_back_erases_nobody,
    only_they_and_the_platform_erase,
    one_of_many_erasures_does_it,
    @Postgres rooms_that_change_meanwhile_are_not_left_out,
    @Postgres recordings_that_change_meanwhile_are_not_left_out,
    erasures_of_people_in_each_others_rooms_do_not_deadlock,
    erasures_race_with_everything,
];

/// An id in SQL by hand.
pub fn literal(raw: &Raw, id: Uuid) -> String {
    match raw.backend() {
        sea_orm::DbBackend::Postgres => format!("'{id}'"),
        _ => format!("x'{}'", id.simple()),
    }
}

/// A recording, by hand.
pub async fn record(raw: &Raw, room: RoomId, owner: UserId, status: &str, key: &str) -> Uuid {
    let id = conferencing_store::clock::Ids::uuid(
        &conferencing_store::clock::RandomIds::default(),
        chrono::DateTime::UNIX_EPOCH,
    );
    let stopped = match status {
        "STARTED" | "IN_PROGRESS" => "NULL",
        _ => "'2026-01-01T00:10:00+00:00'",
    };
    let at = "'2026-01-01T00:00:00+00:00'";
    let sql = format!(
        "INSERT INTO recordings (id, room_id, owner_id, storage_key, storage_bucket, filename, status, started_at, stopped_at,
            retry_count, is_public, created_at, updated_at)
        VALUES ({}, {}, {}, '{key}', 'bucket', 'file.mp4', '{status}', {at}, {stopped}, 0, FALSE, {at}, {at})",
        literal(raw, id),
        literal(raw, room.as_uuid()),
        literal(raw, owner.as_uuid())
    );
    raw.execute(&sql).await.unwrap();
    id
}

async fn audit_log(db: &TestDb, room: RoomId) -> Vec<AuditEvent> {
    let page = PageRequest::first(100, Order::OldestFirst).unwrap();
    let audit_log = db.store.audit().list(&AuditFilter::of_room(room), &page).await.unwrap();
    audit_log.items.into_iter().map(|entry| entry.event).collect()
}

/// What must hold whatever happened.
async fn check_invariants(raw: &Raw) {
    for (what, sql) in [
        (
            "counters are those of the seats",
            "SELECT count(*) FROM rooms r WHERE active_participants <> (
                SELECT count(*) FROM room_participants p WHERE p.room_id = r.id AND p.left_at IS NULL)",
        ),
        (
            "nobody is present who is deleted",
            "SELECT count(*) FROM room_participants p JOIN users u ON u.id = p.user_id
            WHERE p.left_at IS NULL AND u.deleted_at IS NOT NULL",
        ),
        (
            "nobody deleted has a room that is not over",
            "SELECT count(*) FROM rooms r JOIN users u ON u.id = r.owner_id
            WHERE u.deleted_at IS NOT NULL AND r.status IN ('CREATED', 'LIVE')",
        ),
        (
            "nobody deleted has a way in",
            "SELECT count(*) FROM auth_providers p JOIN users u ON u.id = p.user_id WHERE u.deleted_at IS NOT NULL",
        ),
        (
            "each erasure is recorded once",
            "SELECT abs((SELECT count(*) FROM users WHERE deleted_at IS NOT NULL)
                - (SELECT count(*) FROM audit_logs WHERE action = 'USER_DELETED'))",
        ),
    ] {
        assert_eq!(raw.number(sql).await, 0, "{what}");
    }
}

async fn everything_ends_and_the_receipt_says_it(db: TestDb) {
    let raw = db.raw().await;
    let (ada, ben, cleo) = (db.user("ada").await, db.user("ben").await, db.user("cleo").await);
    let (store, clock) = db.with_manual_clock().await;
    let system = store.acting(&Actor::system("test"));
    system
        .auth_providers()
        .link(ada.id, account(Google, "g1"))
        .await
        .unwrap();
    let (live, open) = (db.room(&ada, 5).await, db.room(&ada, 5).await);
    let (elsewhere, over) = (db.room(&ben, 5).await, db.room(&ada, 5).await);
    for (room, user) in [
        (&live, &ada),
        (&live, &ben),
        (&elsewhere, &ada),
        (&elsewhere, &cleo),
        (&over, &ada),
    ] {
        system.participants().join(room.id, user.id, Participant).await.unwrap();
    }
    system.rooms().end(over.id).await.unwrap();
    let running = record(&raw, elsewhere.id, ada.id, "IN_PROGRESS", "ada/1").await;
    let ready = record(&raw, over.id, ada.id, "READY", "ada/2").await;
    let of_ben = record(&raw, live.id, ben.id, "STARTED", "ben/1").await;
    clock.advance(TimeDelta::seconds(75));

    let (receipt, events) = appended(&raw, store.acting(&Actor::user(ada.id)).users().erase(ada.id)).await;
    let receipt = receipt.unwrap();
    let mut files: Vec<&str> = receipt.files.iter().map(|file| file.storage_key.as_str()).collect();
    files.sort_unstable();
    assert_eq!(files, ["ada/1", "ada/2"]);
    let now = conferencing_store::clock::Clock::now(&*clock);
    assert_eq!(
        receipt,
        ErasureReceipt {
            user: ada.id,
            erased_at: now,
            already_erased: false,
            providers_removed: 2,
            rooms_ended: 1,
            rooms_cancelled: 1,
            ended_participations: 3,
            recordings_deleted: 2,
            files: receipt.files.clone(),
        }
    );
    let mut sorted = events.clone();
    sorted.sort_unstable();
    assert_eq!(
        sorted,
        [
            "RECORDING_DELETED",
            "RECORDING_DELETED",
            "RECORDING_STOPPED",
            "RECORDING_STOPPED",
            "ROOM_CANCELLED",
            "ROOM_ENDED",
            "USER_DELETED",
            "USER_LEFT",
            "USER_LEFT",
            "USER_LEFT",
        ]
    );
    assert_eq!(events.last().unwrap(), "USER_DELETED");

    let rooms = store.rooms();
    let ended = rooms.get(live.id).await.unwrap();
    assert_eq!((ended.status, ended.active_participants), (RoomStatus::Ended, 0));
    assert_eq!((ended.duration_seconds, ended.ended_at), (Some(75), Some(now)));
    let recorded = Change::RoomEnded {
        duration_seconds: 75,
        ended_participations: 2,
    };
    assert!(audit_log(&db, live.id).await.contains(&recorded.into()));
    assert_eq!(rooms.get(open.id).await.unwrap().status, RoomStatus::Cancelled);
    assert!(audit_log(&db, open.id).await.contains(&Change::RoomCancelled {}.into()));
    let left = rooms.get(elsewhere.id).await.unwrap();
    assert_eq!((left.status, left.active_participants), (RoomStatus::Live, 1));
    let page = PageRequest::first(10, Order::OldestFirst).unwrap();
    for room in [live.id, elsewhere.id] {
        let participations = raw
            .number(&format!(
                "SELECT count(*) FROM room_participants WHERE room_id = {} AND left_at IS NOT NULL AND duration_seconds = 75",
                literal(&raw, room.as_uuid())
            ))
            .await;
        assert_eq!(participations, if room == live.id { 2 } else { 1 });
        // Erased people are no longer shown.
        let shown = store.participants().list_history(room, &page).await.unwrap();
        assert!(shown.items.iter().all(|participation| participation.user.id != ada.id));
    }
    for (recording, status, deleted) in [(running, "STOPPED", 1), (ready, "READY", 1), (of_ben, "STOPPED", 0)] {
        let row = format!(
            "SELECT count(*) FROM recordings WHERE id = {} AND status = '{status}' AND stopped_at IS NOT NULL
                AND CASE WHEN deleted_at IS NULL THEN 0 ELSE 1 END = {deleted}",
            literal(&raw, recording)
        );
        assert_eq!(raw.number(&row).await, 1, "{status}");
    }
    let with_room = |event: &AuditEvent| matches!(event, AuditEvent::Change(Change::RecordingStopped { recording, with_room: true }) if recording.as_uuid() == of_ben);
    assert!(audit_log(&db, live.id).await.iter().any(with_room));
    let alone = |event: &AuditEvent| matches!(event, AuditEvent::Change(Change::RecordingStopped { recording, with_room: false }) if recording.as_uuid() == running);
    assert!(audit_log(&db, elsewhere.id).await.iter().any(alone));

    assert!(store.users().find(ada.id).await.unwrap().is_none());
    let row = store.users().deleted().get(ada.id).await.unwrap();
    assert_eq!(row.username, format!("deleted-{}", ada.id));
    assert_eq!(
        (row.display_name.as_str(), row.email, row.password_hash),
        ("Deleted user", None, None)
    );
    assert_eq!(
        (row.is_active, row.is_verified, row.deleted_at),
        (false, false, Some(now))
    );
    assert!(store.users().find_for_login("ada").await.unwrap().is_none());
    assert!(store.users().find_for_provider(Google, "g1").await.unwrap().is_none());
    let refused = system.participants().join(elsewhere.id, ada.id, Participant).await;
    assert!(matches!(refused, Err(Error::NotFound(Subject::User(_)))));
    check_invariants(&raw).await;
}

async fn erasing_again_changes_nothing(db: TestDb) {
    let raw = db.raw().await;
    let ada = db.user("ada").await;
    let room = db.room(&ada, 5).await;
    db.seat(&room, &ada).await;
    record(&raw, room.id, ada.id, "READY", "ada/1").await;
    let first = db.acting(&ada).users().erase(ada.id).await.unwrap();
    let row = db.store.users().any().get(ada.id).await.unwrap();
    for acting in [db.acting(&ada), db.system()] {
        let (again, events) = appended(&raw, acting.users().erase(ada.id)).await;
        assert!(events.is_empty());
        let expected = ErasureReceipt {
            already_erased: true,
            ..first.clone()
        };
        assert_eq!(again.unwrap(), expected);
    }
    assert_eq!(db.store.users().any().get(ada.id).await.unwrap(), row);
}

async fn every_file_that_is_not_purged_is_in_the_receipt(db: TestDb) {
    let raw = db.raw().await;
    let (ada, ben) = (db.user("ada").await, db.user("ben").await);
    let room = db.room(&ada, 5).await;
    db.seat(&room, &ada).await;
    let system = db.system();
    let mut recordings = Vec::new();
    for key in ["kept", "deleted", "purged"] {
        recordings.push(RecordingId::from_uuid(
            record(&raw, room.id, ada.id, "READY", key).await,
        ));
    }
    record(&raw, room.id, ben.id, "READY", "ben").await;
    for deleted in &recordings[1..] {
        system.recordings().delete(*deleted).await.unwrap();
    }
    system.recordings().confirm_purged(&recordings[2..]).await.unwrap();
    let keys = |receipt: &ErasureReceipt| {
        let mut keys: Vec<String> = receipt.files.iter().map(|file| file.storage_key.clone()).collect();
        keys.sort_unstable();
        keys
    };

    let receipt = system.users().erase(ada.id).await.unwrap();
    assert_eq!(
        keys(&receipt),
        ["deleted", "kept"],
        "also of what she had deleted before"
    );
    assert_eq!(receipt.recordings_deleted, 1);
    assert!(receipt.files.is_sorted_by_key(|file| file.recording));
    let confirmed = system.recordings().confirm_purged(&recordings[..1]).await.unwrap();
    assert_eq!(confirmed, recordings[..1], "what an erasure handed out");
    let again = system.users().erase(ada.id).await.unwrap();
    assert_eq!((again.already_erased, keys(&again)), (true, vec!["deleted".to_owned()]));
    system.recordings().confirm_purged(&recordings).await.unwrap();
    assert_eq!(system.users().erase(ada.id).await.unwrap().files, []);
}

async fn nothing_tells_who_it_was(db: TestDb) {
    let raw = db.raw().await;
    let system = db.system();
    let email = Some(ProviderEmail::Verified("lovelace@example.org"));
    let ada = system
        .users()
        .sign_in_with_provider(profile("augusta-7", email, "countess"))
        .await
        .unwrap()
        .user;
    system.users().set_password_hash(ada.id, password_hash()).await.unwrap();
    let room = db.room(&ada, 5).await;
    db.seat(&room, &ada).await;
    system.users().record_failed_login("COUNTESS").await.unwrap();
    let receipt = system.users().erase(ada.id).await.unwrap();
    assert!(!receipt.already_erased);
    for table in ["users", "auth_providers", "rooms", "room_participants", "recordings"] {
        let text = whole_table(&raw, table).await.to_lowercase();
        for word in ["lovelace", "augusta", "countess", "argon2id"] {
            assert!(!text.contains(word), "{word} in {table}");
        }
    }
    // The audit log is never changed. It holds no names by design, but for what was typed at a login that failed.
    let recorded = whole_table(&raw, "audit_logs").await.to_lowercase();
    assert!(recorded.contains("countess") && !recorded.contains("lovelace") && !recorded.contains("augusta"));
    assert_eq!(
        raw.number("SELECT count(*) FROM audit_logs WHERE action = 'USER_LOGIN_FAILED'")
            .await,
        1
    );
}

async fn names_and_accounts_are_free_again(db: TestDb) {
    let system = db.system();
    let new = || NewUser {
        email: Some("ada@example.org"),
        ..NewUser::named("Ada", "Ada", password_hash())
    };
    let first = system.users().register(new()).await.unwrap();
    system
        .auth_providers()
        .link(first.id, account(GitHub, "41"))
        .await
        .unwrap();
    system.users().erase(first.id).await.unwrap();
    let second = system.users().register(new()).await.unwrap();
    system
        .auth_providers()
        .link(second.id, account(GitHub, "41"))
        .await
        .unwrap();
    system.users().erase(second.id).await.unwrap();
    system.users().register(new()).await.unwrap();
    // Nobody can stand in the way by taking the name that an erased user gets.
    let squatter = NewUser {
        username: &format!("DELETED-{}", second.id),
        email: None,
        ..new()
    };
    assert!(matches!(
        system.users().register(squatter).await,
        Err(Error::Invalid(_))
    ));
}

async fn a_row_that_was_only_marked_as_deleted_is_erased(db: TestDb) {
    let raw = db.raw().await;
    let ada = db.user("ada").await;
    db.room(&ada, 5).await;
    // What the predecessor left behind.
    raw.execute("UPDATE users SET deleted_at = '2024-01-01T00:00:00+00:00', is_active = FALSE")
        .await
        .unwrap();
    let receipt = db.system().users().erase(ada.id).await.unwrap();
    assert_eq!(
        (
            receipt.already_erased,
            receipt.providers_removed,
            receipt.rooms_cancelled
        ),
        (false, 1, 1)
    );
    let row = db.store.users().deleted().get(ada.id).await.unwrap();
    assert_eq!(row.display_name, "Deleted user");
    assert_eq!(row.deleted_at.unwrap().to_rfc3339(), "2024-01-01T00:00:00+00:00");
    let again = db.system().users().erase(ada.id).await.unwrap();
    assert!(again.already_erased);
    assert_eq!(again.erased_at, receipt.erased_at);
}

async fn a_unit_that_is_rolled_back_erases_nobody(db: TestDb) {
    let raw = db.raw().await;
    let ada = db.user("ada").await;
    let room = db.room(&ada, 5).await;
    db.seat(&room, &ada).await;
    let before = (
        whole_table(&raw, "users").await,
        whole_table(&raw, "rooms").await,
        actions(&raw).await,
    );
    let unit = db.store.begin(&Actor::system("test")).await.unwrap();
    let receipt = unit.users().erase(ada.id).await.unwrap();
    assert_eq!(receipt.rooms_ended, 1);
    assert!(unit.users().erase(ada.id).await.unwrap().already_erased);
    unit.roll_back().await.unwrap();
    let after = (
        whole_table(&raw, "users").await,
        whole_table(&raw, "rooms").await,
        actions(&raw).await,
    );
    assert_eq!(before, after);
}

async fn only_they_and_the_platform_erase(db: TestDb) {
    let raw = db.raw().await;
    let (ada, ben) = (db.user("ada").await, db.user("ben").await);
    for actor in [Actor::user(ben.id), Actor::anonymous()] {
        let (refused, events) = appended(&raw, db.store.acting(&actor).users().erase(ada.id)).await;
        assert!(matches!(refused, Err(Error::Rejected(Rejected::NotAllowed { .. }))));
        assert_eq!(events, ["UNAUTHORIZED_ACCESS_ATTEMPT"]);
    }
    let nobody = UserId::from_uuid(Uuid::from_u128(7));
    let (refused, events) = appended(&raw, db.system().users().erase(nobody)).await;
    assert!(matches!(refused, Err(Error::NotFound(Subject::User(id))) if id == nobody));
    assert!(events.is_empty());
    // A deactivated account has the same right.
    db.system().users().deactivate(ben.id).await.unwrap();
    db.acting(&ben).users().erase(ben.id).await.unwrap();
}

async fn one_of_many_erasures_does_it(db: TestDb) {
    let ada = db.user("ada").await;
    let room = db.room(&ada, 5).await;
    db.seat(&room, &ada).await;
    let tasks: Vec<_> = (0..32)
        .map(|_| {
            let (system, id) = (db.system(), ada.id);
            tokio::spawn(async move { system.users().erase(id).await.unwrap() })
        })
        .collect();
    let mut did = 0;
    for task in tasks {
        let receipt = task.await.unwrap();
        assert_eq!((receipt.rooms_ended, receipt.ended_participations), (1, 1));
        did += usize::from(!receipt.already_erased);
    }
    assert_eq!(did, 1);
    check_invariants(&db.raw().await).await;
}

async fn rooms_that_change_meanwhile_are_not_left_out(db: TestDb) {
    erase_while_it_changes(db, "rooms").await;
}

async fn recordings_that_change_meanwhile_are_not_left_out(db: TestDb) {
    erase_while_it_changes(db, "recordings").await;
}

/// Erases somebody while each row of `table` is changed by another transaction.
async fn erase_while_it_changes(db: TestDb, table: &str) {
    let raw = db.raw().await;
    // What is left is the plan of large tables: rows by their key, one for each that a select yields.
    let database = raw.texts("SELECT quote_ident(current_database())").await;
    for step in ["hashjoin", "mergejoin", "seqscan", "memoize", "material"] {
        raw.run(&format!("ALTER DATABASE {} SET enable_{step} = off", database[0]))
            .await;
    }
    let store = db.store_with(crate::harness::settings()).await;
    let (owner, ada) = (db.user("owner").await, db.user("ada").await);
    let mut rooms = vec![db.room(&ada, 9).await];
    for _ in 0..3 {
        rooms.push(db.room(&owner, 9).await);
    }
    for (number, room) in rooms.iter().enumerate() {
        db.seat(room, &ada).await;
        // Her own in rooms that go on, and somebody else's in the room that ends with her.
        let recorded_by = if number == 0 { &owner } else { &ada };
        record(&raw, room.id, recorded_by.id, "STARTED", &format!("key{number}")).await;
    }
    let held = raw.db.begin().await.unwrap();
    let touch = format!("UPDATE {table} SET updated_at = updated_at");
    held.execute_unprepared(&touch).await.unwrap();
    let (acting, id) = (store.acting(&Actor::system("test")), ada.id);
    let erased = tokio::spawn(async move { acting.users().erase(id).await });
    until_blocked(&raw, 1).await;
    held.commit().await.unwrap();
    let receipt = erased.await.unwrap().unwrap();
    assert_eq!((receipt.rooms_ended, receipt.recordings_deleted), (1, 3));
    let open = "SELECT count(*) FROM room_participants WHERE left_at IS NULL";
    assert_eq!(raw.number(open).await, 0);
    let running = "SELECT count(*) FROM recordings WHERE status <> 'STOPPED'";
    assert_eq!(raw.number(running).await, 0);
    check_invariants(&raw).await;
}

async fn erasures_of_people_in_each_others_rooms_do_not_deadlock(db: TestDb) {
    let users = db.users("user", 16).await;
    let mut rooms = Vec::new();
    for user in &users {
        rooms.push(db.room(user, 50).await);
    }
    for (number, user) in users.iter().enumerate() {
        for shift in 0..4 {
            db.seat(&rooms[(number + shift * 5) % 16], user).await;
        }
    }
    let settings = conferencing_store::StoreSettings {
        retry: conferencing_store::RetryPolicy {
            attempts: 1,
            ..conferencing_store::RetryPolicy::default()
        },
        ..conferencing_store::StoreSettings::default()
    };
    let mut settings = settings;
    settings.connect.max_connections = Some(32);
    settings.connect.acquire_timeout = std::time::Duration::from_secs(30);
    // Without retries, so that a deadlock would show.
    let store = db.store_with(settings).await;
    let tasks: Vec<_> = users
        .iter()
        .flat_map(|user| [user.id, user.id])
        .enumerate()
        .map(|(number, id)| {
            let acting = store.acting(&Actor::system("test"));
            tokio::spawn(async move {
                match number % 2 {
                    0 => acting.users().erase(id).await.map(|_| ()),
                    _ => acting.users().deactivate(id).await.map(|_| ()),
                }
            })
        })
        .collect();
    for task in tasks {
        match task.await.unwrap() {
            Ok(()) | Err(Error::NotFound(Subject::User(_))) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
    let raw = db.raw().await;
    assert_eq!(
        raw.number("SELECT count(*) FROM users WHERE deleted_at IS NOT NULL")
            .await,
        16
    );
    assert_eq!(
        raw.number("SELECT count(*) FROM room_participants WHERE left_at IS NULL")
            .await,
        0
    );
    check_invariants(&raw).await;
}

async fn erasures_race_with_everything(db: TestDb) {
    let users = db.users("user", 8).await;
    let owner = db.user("owner").await;
    let mut rooms = vec![db.room(&owner, 100).await];
    for user in &users[..4] {
        rooms.push(db.room(user, 100).await);
    }
    let mut tasks = Vec::new();
    for round in 0..4 {
        for (number, user) in users.iter().enumerate() {
            let system = db.system();
            let (user, room) = (user.clone(), rooms[(number + round) % rooms.len()].id);
            tasks.push(tokio::spawn(async move {
                let done = match (round + number) % 4 {
                    0 => system.users().erase(user.id).await.map(|_| ()),
                    1 => come_and_go(&system, room, &user).await,
                    2 => system.rooms().create(NewRoom::titled(user.id, "New")).await.map(|_| ()),
                    _ => again(&system, &user).await,
                };
                match done {
                    Ok(())
                    | Err(Error::NotFound(_) | Error::Rejected(_))
                    | Err(Error::Conflict(Conflict::UsernameTaken | Conflict::ProviderAccountTaken)) => {}
                    Err(error) => panic!("{error:?}"),
                }
            }));
        }
    }
    assert_eq!(tasks.len(), 32);
    for task in tasks {
        task.await.unwrap();
    }
    let raw = db.raw().await;
    check_invariants(&raw).await;
    assert_eq!(
        raw.number("SELECT count(*) FROM users WHERE username LIKE 'deleted-%'")
            .await,
        8
    );
}

/// Comes, is kicked, comes back.
async fn come_and_go(system: &conferencing_store::Acting, room: RoomId, user: &user::Model) -> Result<(), Error> {
    system.participants().join(room, user.id, Participant).await?;
    system.participants().kick(room, user.id, None).await?;
    system.participants().join(room, user.id, Participant).await?;
    Ok(())
}

/// Registers under the name, which is free once its user is erased, and links an account that everybody wants.
async fn again(system: &conferencing_store::Acting, user: &user::Model) -> Result<(), Error> {
    let new = NewUser::named(&user.username, "Again", password_hash());
    system.auth_providers().link(user.id, account(Google, "wanted")).await?;
    system.users().register(new).await?;
    Ok(())
}
