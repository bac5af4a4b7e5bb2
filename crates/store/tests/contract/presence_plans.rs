//! What PostgreSQL makes of the statements that read who is present.

use conferencing_store::statements;
use sea_orm::{ConnectionTrait, DbBackend, TransactionTrait, Value};

use crate::harness::TestDb;

crate::cases![@Postgres no_plan_walks_past_those_who_left];

/// Plans that the server made while all participations went on, and keeps for a room that many have left since.
async fn no_plan_walks_past_those_who_left(db: TestDb) {
    let owner = db.user("owner").await;
    let mut rooms = Vec::new();
    for _ in 0..7 {
        rooms.push(db.room(&owner, 5).await);
    }
    let raw = db.raw().await;
    let (room, code) = (raw.id(rooms[0].id.as_uuid()), &rooms[0].room_code);
    // One connection, whose plans they are; nobody makes statistics of what is not committed.
    let connection = raw.db.begin().await.unwrap();
    let run = async |sql: &str| {
        let done = connection.execute_unprepared(sql).await;
        done.unwrap_or_else(|error| panic!("{error}: {sql}"));
    };
    run(
        "INSERT INTO users (id, username, display_name, is_active, is_verified, created_at, updated_at)
        SELECT gen_random_uuid(), 'guest_' || n, 'Guest', TRUE, FALSE, now(), now() FROM generate_series(1, 2000) AS n",
    )
    .await;
    let stays = async |numbers: &str, left_at: &str, seconds: &str, room: &str| {
        run(&format!(
            "INSERT INTO room_participants
            (id, user_id, room_id, role, joined_at, left_at, is_kicked, is_banned, duration_seconds)
            SELECT gen_random_uuid(), guest.id, {room}, 'PARTICIPANT', now() + n * interval '1 hour', {left_at}, FALSE, FALSE, {seconds}
            FROM (SELECT id, row_number() OVER () AS place FROM users WHERE username LIKE 'guest%') AS guest,
                generate_series({numbers}) AS n"
        ))
        .await;
    };
    let any_room = "(SELECT id FROM rooms ORDER BY id OFFSET guest.place % 7 LIMIT 1)";
    stays("0, 0", "NULL", "NULL", any_room).await;
    run("ANALYZE users").await;
    run("ANALYZE room_participants").await;
    run("SET LOCAL plan_cache_mode = force_generic_plan").await;
    let mut prepared = Vec::new();
    for listed in statements::list(DbBackend::Postgres).await {
        if !["participants.list_present", "rooms.find_overview"].contains(&listed.name) {
            continue;
        }
        let values = listed.statement.values.map(|values| values.0).unwrap_or_default();
        let typed = values.iter().map(|value| match value {
            Value::Uuid(_) => ("uuid", room.clone()),
            Value::ChronoDateTimeUtc(_) => ("timestamptz", "now()".to_owned()),
            Value::String(_) => ("text", format!("'{code}'")),
            _ => ("bigint", "100".to_owned()),
        });
        let (types, values): (Vec<_>, Vec<_>) = typed.unzip();
        let name = format!("listed_{}", prepared.len());
        run(&format!(
            "PREPARE {name} ({}) AS {}",
            types.join(", "),
            listed.statement.sql
        ))
        .await;
        let call = format!("EXECUTE {name} ({})", values.join(", "));
        run(&call).await;
        prepared.push(call);
    }
    assert!(prepared.len() >= 7, "{prepared:?}");
    stays("1, 10", "now() + n * interval '1 hour'", "0", &room).await;
    for call in prepared {
        let explain = sea_orm::Statement::from_string(DbBackend::Postgres, format!("EXPLAIN {call}"));
        let plan = connection.query_all_raw(explain).await.unwrap();
        let plan: Vec<String> = plan.iter().map(|row| row.try_get_by_index(0).unwrap()).collect();
        let plan = plan.join("\n");
        for index in ["ix_room_participants_present", "pk_users"] {
            assert!(plan.contains(index), "{call}:\n{plan}");
        }
        for other in [
            "ix_room_participants_room",
            "Seq Scan on room_participants",
            "Seq Scan on users",
        ] {
            assert!(!plan.contains(other), "{call}:\n{plan}");
        }
    }
}
