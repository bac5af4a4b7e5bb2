//! Rows to measure with, made by SQL. Foreign keys are not asked while they are made; what is measured asks them.

use sea_orm::{ConnectionTrait, DatabaseConnection};

use crate::subject::{
    CODED_CROWD, CODED_ROOMS, CROWD, CROWDS, ENDED_CROWD, HOT_ROOMS, Kind, OPEN_ROOMS, OWNED, OWNERS, SEATS, USERS,
    id_sql,
};

pub const HASH: &str = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2g";

/// Of each of the audit pages that are read.
pub const PAGE: u16 = 100;

async fn run(db: &DatabaseConnection, statements: &[String]) {
    let text = statements.join(";\n");
    let text = format!("BEGIN;\nSET LOCAL session_replication_role = replica;\n{text};\nCOMMIT");
    db.execute_unprepared(&text).await.unwrap();
}

/// All that is there from the beginning, in a database that has been migrated. The far page is number `depth`.
pub async fn world(db: &DatabaseConnection, depth: u64) {
    let mut statements = vec![users(), providers()];
    statements.extend(rooms(Kind::OpenRoom, 0, OPEN_ROOMS));
    statements.extend(rooms(Kind::HotRoom, 0, HOT_ROOMS));
    statements.extend(rooms(Kind::CrowdRoom, 0, CROWDS));
    statements.extend(rooms(Kind::CodedRoom, 0, CODED_ROOMS));
    statements.extend(rooms(Kind::OwnedRoom, 0, OWNERS * OWNED));
    statements.extend(rooms(Kind::TrailRoom, 0, 20));
    let count = 2 * u64::from(PAGE) * (depth + 2);
    statements.push(events(1, count, "now() - interval '30 days'", "interval '29 days'"));
    run(db, &statements).await;
    db.execute_unprepared("VACUUM (ANALYZE)").await.unwrap();
}

/// Rows from number `from` to before `to`, of those that operations use up.
pub async fn more(db: &DatabaseConnection, kind: Kind, from: u64, to: u64) {
    if kind == Kind::Recording {
        run(db, &[recordings(from, to)]).await;
    } else {
        run(db, &rooms(kind, from, to)).await;
    }
}

fn users() -> String {
    format!(
        "INSERT INTO users (id, username, email, password_hash, display_name, is_active, is_verified, created_at, updated_at)
        SELECT {id}, 'u' || i, 'u' || i || '@example.org', '{HASH}', 'User ' || i, TRUE, FALSE, now(), now()
        FROM generate_series(0, {USERS} - 1) AS i",
        id = Kind::User.sql("i"),
    )
}

fn providers() -> String {
    format!(
        "INSERT INTO auth_providers (id, user_id, provider_type, provider_id, created_at, updated_at)
        SELECT {id}, {user}, 'LOCAL', CAST({user} AS text), now(), now() FROM generate_series(0, {USERS} - 1) AS i",
        id = Kind::Provider.sql("i"),
        user = Kind::User.sql("i"),
    )
}

/// How many are present in each room of a kind.
const fn present(kind: Kind) -> u64 {
    match kind {
        Kind::LeaveRoom | Kind::KickRoom | Kind::BanRoom => 1,
        Kind::EndRoom => ENDED_CROWD,
        Kind::CrowdRoom => CROWD,
        Kind::CodedRoom => CODED_CROWD,
        _ => 0,
    }
}

fn rooms(kind: Kind, from: u64, to: u64) -> Vec<String> {
    let present = present(kind);
    let (status, started) = match kind {
        Kind::NewRoom | Kind::OwnedRoom => ("CREATED", "NULL"),
        _ => ("LIVE", "now() - interval '1 hour'"),
    };
    let owner = match kind {
        Kind::OwnedRoom => format!("i / {OWNED}"),
        _ => format!("(i + 1) % {USERS}"),
    };
    let code = match kind {
        Kind::CodedRoom => "'C' || i".to_owned(),
        _ => format!("'S{number}X' || i", number = kind as u16),
    };
    let mut statements = vec![format!(
        "INSERT INTO rooms (id, owner_id, room_code, title, max_participants, is_public, is_recordable, require_auth, status,
            started_at, active_participants, peak_participants, total_joins, created_at, updated_at)
        SELECT {id}, {owner}, {code}, 'A room', 100000, FALSE, TRUE, TRUE, '{status}', {started}, {present}, {present}, {present},
            now() - interval '2 hours' + i * interval '1 millisecond', now() - interval '1 hour'
        FROM generate_series({from}, {to} - 1) AS i",
        id = kind.sql("i"),
        owner = Kind::User.sql(&owner),
    )];
    if present > 0 {
        statements.push(format!(
            "INSERT INTO room_participants (id, user_id, room_id, role, joined_at, is_kicked, is_banned)
            SELECT {id}, {user}, {room}, 'PARTICIPANT', now() - interval '30 minutes' + j * interval '1 second', FALSE, FALSE
            FROM generate_series({from}, {to} - 1) AS i, generate_series(0, {present} - 1) AS j",
            id = id_sql(SEATS + kind as u16, &format!("i * {present} + j")),
            user = Kind::User.sql(&format!("(i * {present} + j) % {USERS}")),
            room = kind.sql("i"),
        ));
    }
    statements
}

fn recordings(from: u64, to: u64) -> String {
    format!(
        "INSERT INTO recordings (id, room_id, owner_id, storage_key, storage_bucket, filename, status, started_at, retry_count,
            is_public, created_at, updated_at)
        SELECT {id}, {room}, {owner}, 'r' || i, 'bucket', 'a.mkv', 'STARTED', now() - interval '10 minutes', 0, FALSE,
            now() - interval '10 minutes', now() - interval '10 minutes'
        FROM generate_series({from}, {to} - 1) AS i",
        id = Kind::Recording.sql("i"),
        room = Kind::OpenRoom.sql(&format!("i % {OPEN_ROOMS}")),
        owner = Kind::User.sql(&format!("i % {USERS}")),
    )
}

/// The first `count` events of an audit log that takes `span` from `begin` on, half of which is of one room.
fn events(from: u64, count: u64, begin: &str, span: &str) -> String {
    format!(
        r#"INSERT INTO audit_logs (id, action, user_id, room_id, target_user_id, metadata, ip_address, user_agent, "timestamp")
        SELECT {id}, 'CONSUMER_CREATED', {actor}, {room}, CASE i / 2 % 2 WHEN 0 THEN {target} END,
            jsonb_build_object('consumer_id', md5(CAST(i AS text)), 'producer_id', md5(CAST(-i AS text))),
            '203.0.113.7', 'Mozilla/5.0', {begin} + i * ({span} / {count})
        FROM generate_series({from}, {count}) AS i"#,
        id = Kind::Event.sql("i"),
        actor = Kind::User.sql("i % 1000"),
        target = Kind::User.sql("i * 7 % 1000"),
        room = Kind::TrailRoom.sql("CASE i % 2 WHEN 0 THEN 0 ELSE 1 + i % 19 END"),
    )
}

/// What [`crate::growth`] begins with: users, and rooms for the audit log.
pub async fn people(db: &DatabaseConnection) {
    let mut statements = vec![users()];
    statements.extend(rooms(Kind::TrailRoom, 0, 20));
    run(db, &statements).await;
}

/// Events alone; see [`events`].
pub async fn audit_log(db: &DatabaseConnection, count: u64, begin: &str, span: &str) {
    run(db, &[events(1, count, begin, span)]).await;
    db.execute_unprepared("VACUUM (ANALYZE)").await.unwrap();
}

/// How many are present in each room with a past.
pub const PRESENT: u64 = 20;

/// Live rooms, numbers `from` to before `to`, with so many stays each that are over.
pub async fn rooms_with_past(db: &DatabaseConnection, from: u64, to: u64, past: u64) {
    let room = Kind::CodedRoom;
    let all = past + PRESENT;
    let stays = format!(
        "INSERT INTO room_participants (id, user_id, room_id, role, joined_at, left_at, duration_seconds, is_kicked, is_banned)
        SELECT {id}, {user}, {room}, 'PARTICIPANT', joined, CASE WHEN j < {past} THEN joined + interval '1 minute' END,
            CASE WHEN j < {past} THEN 60 END, FALSE, FALSE
        FROM generate_series({from}, {to} - 1) AS i, generate_series(0, {all} - 1) AS j,
            LATERAL (SELECT now() - interval '20 days' + j * interval '10 seconds') AS times (joined)",
        id = id_sql(SEATS, "i * 1000000 + j"),
        user = Kind::User.sql(&format!("j % {USERS}")),
        room = room.sql("i"),
    );
    let rooms = format!(
        "INSERT INTO rooms (id, owner_id, room_code, title, max_participants, is_public, is_recordable, require_auth, status,
            started_at, active_participants, peak_participants, total_joins, created_at, updated_at)
        SELECT {id}, {owner}, 'C' || i, 'A room', 100000, FALSE, TRUE, TRUE, 'LIVE', now() - interval '21 days', {PRESENT}, {PRESENT},
            {all}, now() - interval '22 days', now() FROM generate_series({from}, {to} - 1) AS i",
        id = room.sql("i"),
        owner = Kind::User.sql("i"),
    );
    run(db, &[rooms, stays]).await;
    db.execute_unprepared("VACUUM (ANALYZE)").await.unwrap();
}
