//! Promise 3: nothing changes what the audit log has recorded, whoever writes the SQL.

use conferencing_store::entity::ParticipantRole::Participant;
use sea_orm::{ConnectionTrait, TransactionTrait};

use crate::harness::{Backend, Raw, TestDb};

crate::cases![
    rows_of_the_audit_log_are_not_updated,
    rows_of_the_audit_log_are_not_deleted,
    rows_of_the_audit_log_are_not_replaced,
    @Postgres the_audit_log_is_not_truncated,
    @Postgres replication_mode_does_not_open_the_audit_log,
    what_the_audit_log_speaks_of_is_not_deleted,
    rows_are_still_appended_by_hand,
];

/// A database with an audit log of every kind of reference in it.
async fn with_a_audit_log(db: &TestDb) -> Raw {
    let (ada, ben) = (db.user("ada").await, db.user("ben").await);
    let room = db
        .acting(&ada)
        .rooms()
        .create(conferencing_store::NewRoom::titled(ada.id, "A room"))
        .await
        .unwrap();
    db.acting(&ben)
        .participants()
        .join(room.id, ben.id, Participant)
        .await
        .unwrap();
    db.acting(&ada)
        .participants()
        .kick(room.id, ben.id, None)
        .await
        .unwrap();
    db.raw().await
}

/// Fails unless the database refuses the statement by the name of the audit log's trigger, and nothing changed.
async fn assert_immutable(raw: &Raw, sql: &str) {
    let before = raw.snapshot().await;
    let outcome = raw.execute(sql).await;
    let recorded = format!("{outcome:?}");
    assert!(outcome.is_err(), "{sql}");
    assert!(recorded.contains("tr_audit_logs_immutable"), "{sql}: {recorded}");
    assert_eq!(raw.snapshot().await, before, "{sql}");
}

const UPDATES: [&str; 10] = [
    "UPDATE audit_logs SET action = 'USER_LOGOUT'",
    "UPDATE audit_logs SET action = action",
    "UPDATE audit_logs SET user_id = NULL WHERE user_id IS NOT NULL",
    "UPDATE audit_logs SET room_id = NULL WHERE action = 'USER_KICKED'",
    "UPDATE audit_logs SET target_user_id = NULL WHERE action = 'USER_KICKED'",
    "UPDATE audit_logs SET metadata = '{}'",
    "UPDATE audit_logs SET ip_address = NULL",
    "UPDATE audit_logs SET user_agent = 'Agent/1.0'",
    "UPDATE audit_logs SET timestamp = (SELECT created_at FROM rooms)",
    "UPDATE audit_logs SET id = room_id WHERE action = 'USER_KICKED'",
];

async fn rows_of_the_audit_log_are_not_updated(db: TestDb) {
    let raw = with_a_audit_log(&db).await;
    for sql in UPDATES {
        assert_immutable(&raw, sql).await;
    }
}

async fn rows_of_the_audit_log_are_not_deleted(db: TestDb) {
    let raw = with_a_audit_log(&db).await;
    for sql in [
        "DELETE FROM audit_logs",
        "DELETE FROM audit_logs WHERE action = 'USER_KICKED'",
        "DELETE FROM audit_logs WHERE id IN (SELECT id FROM audit_logs)",
    ] {
        assert_immutable(&raw, sql).await;
    }
}

async fn rows_of_the_audit_log_are_not_replaced(db: TestDb) {
    let raw = with_a_audit_log(&db).await;
    let columns = "id, action, timestamp";
    let same = "SELECT id, 'USER_LOGOUT', timestamp FROM audit_logs WHERE action = 'USER_KICKED'";
    let statements = match db.backend {
        Backend::Sqlite => vec![
            format!("INSERT OR REPLACE INTO audit_logs ({columns}) {same}"),
            format!("REPLACE INTO audit_logs ({columns}) {same}"),
            format!("INSERT INTO audit_logs ({columns}) {same} ON CONFLICT DO UPDATE SET action = excluded.action"),
            "UPDATE OR REPLACE audit_logs SET id = (SELECT id FROM audit_logs WHERE action = 'USER_KICKED'),
                timestamp = (SELECT timestamp FROM audit_logs WHERE action = 'USER_KICKED')
             WHERE action = 'USER_JOINED'"
                .to_owned(),
        ],
        Backend::Postgres => vec![format!(
            "INSERT INTO audit_logs ({columns}) {}
             ON CONFLICT ON CONSTRAINT pk_audit_logs DO UPDATE SET action = excluded.action",
            same.replace("'USER_LOGOUT'", "CAST('USER_LOGOUT' AS audit_action)")
        )],
    };
    for sql in statements {
        assert_immutable(&raw, &sql).await;
    }
}

async fn the_audit_log_is_not_truncated(db: TestDb) {
    let raw = with_a_audit_log(&db).await;
    for sql in [
        "TRUNCATE audit_logs",
        "TRUNCATE audit_logs CASCADE",
        "TRUNCATE audit_logs RESTART IDENTITY",
        "TRUNCATE users, audit_logs CASCADE",
        "TRUNCATE users CASCADE",
        "TRUNCATE rooms CASCADE",
    ] {
        let before = raw.snapshot().await;
        let outcome = raw.execute(sql).await;
        let told = format!("{outcome:?}");
        assert!(
            told.contains("immutable") || told.contains("never deleted"),
            "{sql}: {outcome:?}"
        );
        assert_eq!(raw.snapshot().await, before, "{sql}");
    }
}

async fn replication_mode_does_not_open_the_audit_log(db: TestDb) {
    let raw = with_a_audit_log(&db).await;
    let before = raw.snapshot().await;
    let deletes = ["DELETE FROM audit_logs", "TRUNCATE audit_logs"];
    for sql in UPDATES.into_iter().chain(deletes) {
        let transaction = raw.db.begin().await.unwrap();
        let replica = "SET LOCAL session_replication_role = replica";
        transaction.execute_unprepared(replica).await.unwrap();
        // Other triggers are indeed asleep now.
        let sleeping = "UPDATE auth_providers SET user_id = gen_random_uuid()";
        transaction.execute_unprepared(sleeping).await.unwrap();
        let outcome = transaction.execute_unprepared(sql).await;
        assert!(format!("{outcome:?}").contains("immutable"), "{sql}: {outcome:?}");
        transaction.rollback().await.unwrap();
        assert_eq!(raw.snapshot().await, before, "{sql}");
    }
}

async fn what_the_audit_log_speaks_of_is_not_deleted(db: TestDb) {
    let raw = with_a_audit_log(&db).await;
    // Nothing points at them but the audit log: no participations, no recordings, and as for users, no rooms.
    raw.run("DELETE FROM room_participants").await;
    let idle = db.user("idle").await;
    let room = db.room(&idle, 5).await;
    let mut statements = vec![
        "DELETE FROM rooms".to_owned(),
        format!("DELETE FROM rooms WHERE id = {}", raw.id(room.id.as_uuid())),
        "DELETE FROM users".to_owned(),
        // ben: an actor and a target, who owns no room.
        "DELETE FROM users WHERE username = 'ben'".to_owned(),
        format!(
            "UPDATE users SET id = {} WHERE username = 'ben'",
            raw.id(uuid::Uuid::from_u128(1))
        ),
        format!(
            "UPDATE rooms SET id = {} WHERE id = {}",
            raw.id(uuid::Uuid::from_u128(1)),
            raw.id(room.id.as_uuid())
        ),
    ];
    if db.backend == Backend::Sqlite {
        statements.push("REPLACE INTO users SELECT * FROM users WHERE username = 'ben'".to_owned());
        statements.push("REPLACE INTO rooms SELECT * FROM rooms".to_owned());
    }
    for sql in statements {
        let before = raw.snapshot().await;
        let outcome = raw.execute(&sql).await;
        let recorded = format!("{outcome:?}").to_lowercase();
        assert!(
            recorded.contains("never deleted") || recorded.contains("_kept") || recorded.contains("foreign key"),
            "{sql}: {recorded}"
        );
        assert_eq!(raw.snapshot().await, before, "{sql}");
    }
}

async fn rows_are_still_appended_by_hand(db: TestDb) {
    let raw = with_a_audit_log(&db).await;
    let id = raw.id(uuid::Uuid::from_u128(1));
    let before = raw.number("SELECT count(*) FROM audit_logs").await;
    raw.run(&format!(
        "INSERT INTO audit_logs (id, action, timestamp) SELECT {id}, 'USER_LOGOUT', created_at FROM rooms"
    ))
    .await;
    assert_eq!(raw.number("SELECT count(*) FROM audit_logs").await, before + 1);
}
