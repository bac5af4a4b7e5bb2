//! Which index serves each read of the back office, on a platform of some size: the plans of every statement that there is of it, and on
//! PostgreSQL what a page looks at. Logins are a filter of the audit log, which `audit_plans` has: a target and actions.

use chrono::{DateTime, TimeDelta, Utc};
use conferencing_store::entity::{RoomId, UserId};
use conferencing_store::{Order, PageRequest, RoomFilter, UserSearch, statements};
use sea_orm::{ConnectionTrait, DbBackend, Statement, Value};
use uuid::Uuid;

use crate::harness::{Backend, Raw, TestDb};
use crate::metering::{Meter, NO_AUTOVACUUM, one_connection};

crate::cases![every_read_walks_its_index, @Postgres a_page_costs_what_it_returns];

/// The first meeting; there is one an hour.
const START: i64 = 1_700_000_000;
const USERS: u32 = 20_000;
const ROOMS: u32 = 3_000;
/// In each room, with rooms that nobody was ever in apart.
const STAYS: u32 = 20;

/// SQL that both databases understand, but for `ID(x)`, `AT(x)` of seconds, and `NUMBERS(n)`, the numbers from 1 on as `n`.
fn spelt(backend: Backend, sql: &str) -> String {
    let mut spelt = String::new();
    let mut rest = sql;
    while let Some((before, name)) = ["ID(", "AT(", "NUMBERS("]
        .into_iter()
        .filter_map(|name| Some((rest.find(name)?, name)))
        .min()
    {
        spelt.push_str(&rest[..before]);
        let inside = &rest[before + name.len()..];
        let end = inside.find(')').unwrap();
        let x = &inside[..end];
        spelt.push_str(&match (name, backend) {
            ("ID(", Backend::Postgres) => format!("lpad(to_hex({x}), 32, '0')::uuid"),
            ("ID(", Backend::Sqlite) => format!("unhex(printf('%032x', {x}))"),
            ("AT(", Backend::Postgres) => format!("to_timestamp({x})"),
            ("AT(", Backend::Sqlite) => format!("strftime('%Y-%m-%dT%H:%M:%S+00:00', {x}, 'unixepoch')"),
            (_, Backend::Postgres) => format!("generate_series(1, {x}) AS n"),
            (_, Backend::Sqlite) => {
                format!(
                    "(WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {x}) SELECT n FROM c)"
                )
            }
        });
        rest = &inside[end + 1..];
    }
    spelt + rest
}

/// Every tenth user is erased, every tenth room live, eight of ten have ended; each room has a ban, by one of 50.
async fn fill(raw: &Raw, backend: Backend) {
    if backend == Backend::Postgres {
        raw.run(NO_AUTOVACUUM).await;
    }
    let stays = ROOMS * STAYS;
    for sql in [
        format!(
            "INSERT INTO users (id, username, email, display_name, is_active, is_verified, deleted_at, created_at, updated_at)
            SELECT ID(n), CASE WHEN n % 10 = 0 THEN 'deleted-' ELSE 'user' END || n,
                CASE WHEN n % 10 <> 0 THEN 'user' || n || '@example.org' END, 'Somebody', TRUE, FALSE,
                CASE WHEN n % 10 = 0 THEN AT({START}) END, AT({START}), AT({START}) FROM NUMBERS({USERS})"
        ),
        format!(
            "INSERT INTO rooms (id, owner_id, room_code, title, max_participants, is_public, is_recordable, require_auth, status,
                started_at, ended_at, duration_seconds, peak_participants, total_joins, active_participants, created_at, updated_at)
            SELECT ID(n), ID(n), 'room' || n, 'Room', 9, n % 20 = 0, TRUE, TRUE, STATUS,
                CASE WHEN n % 10 < 9 THEN AT({START} + n * 3600) END, CASE WHEN n % 10 BETWEEN 1 AND 8 THEN AT({START} + n * 3600 + 3600) END,
                CASE WHEN n % 10 BETWEEN 1 AND 8 THEN 3600 END, 0, 0, 0, AT({START}), AT({START}) FROM NUMBERS({ROOMS})"
        ),
        format!(
            "INSERT INTO room_participants (id, user_id, room_id, role, joined_at, left_at, is_kicked, is_banned, duration_seconds)
            SELECT ID(n), ID(n % {USERS} + 1), ID(n % {ROOMS} + 1), 'PARTICIPANT', AT({START} + n % {ROOMS} * 3600 + 3600 + n / {ROOMS} * 60),
                AT({START} + n % {ROOMS} * 3600 + 3600 + n / {ROOMS} * 60 + 30), FALSE, FALSE, 30 FROM NUMBERS({stays})"
        ),
        format!(
            "INSERT INTO room_participants (id, user_id, room_id, role, joined_at, left_at, is_kicked, is_banned, banned_at, banned_by,
                duration_seconds)
            SELECT ID(1000000 + n), ID(n % 100 + 1), ID(n), 'PARTICIPANT', AT({START} + n), AT({START} + n), FALSE, TRUE,
                AT({START} + n), ID(n % 50 + 1), 0 FROM NUMBERS({ROOMS})"
        ),
        format!(
            "INSERT INTO recordings (id, room_id, owner_id, storage_key, storage_bucket, filename, status, started_at, stopped_at, retry_count,
                is_public, created_at, updated_at)
            SELECT ID(n), ID(n), ID(n % 10 + 1), 'key' || n, 'b', 'f', 'STOPPED', AT({START} + n), AT({START} + n), 0, FALSE,
                AT({START}), AT({START}) FROM NUMBERS({ROOMS})"
        ),
    ] {
        let status = "CASE WHEN n % 10 = 0 THEN 'LIVE' WHEN n % 10 < 9 THEN 'ENDED' ELSE 'CREATED' END";
        let status = match backend {
            Backend::Postgres => format!("CAST({status} AS room_status)"),
            Backend::Sqlite => status.to_owned(),
        };
        raw.run(&spelt(backend, &sql.replace("STATUS", &status))).await;
    }
}

/// The indexes that a statement is to be served by; none if it is no read of the back office.
fn expected(name: &str, sql: &str) -> Option<&'static [&'static str]> {
    let of_deleted = sql.contains("deleted_at IS NOT NULL");
    let by_email = sql.contains("lower(email");
    Some(match name {
        "users.search" if of_deleted && by_email => &["ix_users_deleted"],
        "users.search" if of_deleted => &["ix_users_deleted_username"],
        "users.search" if by_email => &["uq_users_email"],
        "users.search" => &["uq_users_username"],
        "users.list" if of_deleted => &["ix_users_deleted"],
        "users.list" => &["pk_users"],
        "rooms.list" if sql.contains("UNION ALL") && of_deleted => &[],
        "rooms.list" if sql.contains("UNION ALL") => &["ix_rooms_live"],
        "participants.present_at" => &["ix_room_participants_room", "pk_users"],
        "participants.stays_of" => &["uq_room_participants_joined", "pk_rooms"],
        "participants.bans_of" => &["ix_room_participants_banned ", "pk_users", "pk_rooms"],
        "participants.bans_by" => &["ix_room_participants_banned_by", "pk_users", "pk_rooms"],
        "recordings.list_of_owner" => &["ix_recordings_owner"],
        "statistics.daily" => &["ix_rooms_live", "ix_rooms_ended", "ix_room_participants_room"],
        "statistics.busiest_rooms" => &[
            "ix_rooms_live",
            "ix_rooms_ended",
            "ix_room_participants_room",
            "pk_rooms",
        ],
        _ => return None,
    })
}

/// The plan that the server keeps, without values.
async fn plan_on_postgres(raw: &Raw, statement: Statement) -> String {
    let values = statement.values.map(|values| values.0).unwrap_or_default();
    let typed = values.iter().map(|value| match value {
        Value::Uuid(_) => ("uuid", "gen_random_uuid()"),
        Value::ChronoDateTimeUtc(_) => ("timestamptz", "now()"),
        Value::String(_) => ("text", "'a'"),
        _ => ("bigint", "100"),
    });
    let (types, values): (Vec<_>, Vec<_>) = typed.unzip();
    let types = if types.is_empty() {
        String::new()
    } else {
        format!("({})", types.join(", "))
    };
    raw.run(&format!("PREPARE listed {types} AS {}", statement.sql)).await;
    let plan = raw
        .texts(&format!("EXPLAIN EXECUTE listed ({})", values.join(", ")))
        .await;
    raw.run("DEALLOCATE listed").await;
    plan.join("\n")
}

async fn plan_on_sqlite(raw: &Raw, statement: Statement) -> String {
    let explain = Statement {
        sql: format!("EXPLAIN QUERY PLAN {}", statement.sql),
        ..statement
    };
    let steps = raw.db.query_all_raw(explain).await.unwrap();
    let steps = steps.iter().map(|step| step.try_get_by::<String, _>("detail").unwrap());
    steps.collect::<Vec<_>>().join("\n")
}

/// Tables that no step may read from end to end.
fn read_whole(plan: &str) -> bool {
    let is_whole = |step: &str| {
        let table = step.strip_prefix("SCAN ").and_then(|rest| rest.split(' ').next());
        let tables = [
            "users",
            "rooms",
            "room_participants",
            "recordings",
            "person",
            "room",
            "other",
        ];
        table.is_some_and(|table| tables.contains(&table)) && !step.contains(" USING ")
    };
    plan.contains("Seq Scan") || plan.lines().any(is_whole)
}

/// Before the database has statistics of what it holds, and afterwards. Lists of users are walked when there are some: PostgreSQL takes
/// users that are not deleted for a rarity until then, and sorts.
async fn every_read_walks_its_index(db: TestDb) {
    let raw = match db.backend {
        Backend::Postgres => one_connection(&db.url).await,
        Backend::Sqlite => db.raw().await,
    };
    fill(&raw, db.backend).await;
    let backend = raw.backend();
    if backend == DbBackend::Postgres {
        raw.run("SET plan_cache_mode = force_generic_plan").await;
    }
    let listed = statements::list(backend).await;
    let (mut wrong, mut seen) = (Vec::new(), std::collections::BTreeSet::new());
    for analyzed in [false, true] {
        if analyzed {
            raw.run("ANALYZE").await;
        }
        for one in &listed {
            let Some(indexes) = expected(one.name, &one.statement.sql) else {
                continue;
            };
            if !analyzed && one.name.starts_with("users.") {
                continue;
            }
            seen.insert(one.name);
            let plan = match db.backend {
                Backend::Postgres => plan_on_postgres(&raw, one.statement.clone()).await,
                Backend::Sqlite => plan_on_sqlite(&raw, one.statement.clone()).await,
            };
            // SQLite names what holds a key by itself.
            let mut missing = indexes.iter().filter(|index| {
                let is_key = index.starts_with("pk_") && db.backend == Backend::Sqlite;
                !is_key && !plan.contains(*index)
            });
            if let Some(index) = missing.next().or(read_whole(&plan).then_some(&"no whole table")) {
                wrong.push(format!(
                    "{} wants {index}, analyzed: {analyzed}\n{}\n{plan}",
                    one.name, one.statement.sql
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{} plans:\n{}", wrong.len(), wrong.join("\n\n"));
    assert_eq!(seen.len(), 10, "{seen:?}");
}

fn id(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(START + seconds, 0).unwrap()
}

/// Of a plan that is kept, in pages: an index's way down and the rows; a user or a room more for each where they are named.
async fn a_page_costs_what_it_returns(db: TestDb) {
    const PAGE: i64 = 101;
    const DELETED: i64 = USERS as i64 / 10;
    /// The way down an index, the leaves that a page's entries are on, and one leaf more.
    const WAY: i64 = 8;
    /// A look at a row by its key.
    const KEY: i64 = 4;
    let raw = one_connection(&db.url).await;
    fill(&raw, db.backend).await;
    raw.run("VACUUM ANALYZE").await;
    raw.db.close().await.unwrap();
    let meter = Meter::of(&db).await;
    let store = &meter.store;
    let mut table = Vec::new();
    macro_rules! cost {
        ($what:expr, $most:expr, $rows:expr, |$page:ident| $read:expr) => {{
            let (mut $page, mut deep, mut least) = (PageRequest::first(100, Order::OldestFirst).unwrap(), 0, i64::MAX);
            // By then the plan is kept; and pages behind the first cost the same.
            for run in 0..14 {
                let (found, spent) = meter.spent($read).await;
                let found = found.unwrap();
                if run == 7 {
                    assert_eq!(found.items.len(), $rows, "{}", $what);
                    least = spent.buffers;
                }
                if run > 6
                    && let Some(next) = found.next
                {
                    $page = $page.after(next);
                    deep = if run > 12 { spent.buffers } else { deep };
                }
            }
            table.push(($what, least.max(deep), $most));
        }};
    }
    let (name, all) = (UserSearch::username("user1"), UserSearch::username(""));
    cost!("users by name", PAGE + WAY, 100, |page| store
        .users()
        .search(&name, &page));
    let email = UserSearch::email("USER");
    cost!("users by address", PAGE + WAY, 100, |page| store
        .users()
        .search(&email, &page));
    // On both sides of 2,000 erased ones.
    cost!("all users by name", 2 * (PAGE + WAY), 100, |page| store
        .users()
        .search(&all, &page));
    cost!("deleted users by name", PAGE + WAY, 100, |page| store
        .users()
        .deleted()
        .search(&all, &page));
    cost!("deleted users by address", DELETED, 0, |page| store
        .users()
        .deleted()
        .search(&email, &page));
    // A tenth is passed over.
    cost!("users", PAGE * 10 / 9 + WAY, 100, |page| store.users().list(&page));
    cost!("deleted users", PAGE + WAY, 100, |page| store
        .users()
        .deleted()
        .list(&page));
    cost!("live rooms", 2 * (PAGE + WAY), 100, |page| store
        .rooms()
        .list(RoomFilter::Live, &page));
    let stays = i64::from(STAYS);
    let (room, people) = (RoomId::from_uuid(id(11)), store.participants());
    // The room's ban comes first, and all but one have gone.
    let moment = at(11 * 3600 + 5 * 60);
    cost!("who was in a room", stays + WAY + KEY, 1, |page| people
        .present_at(room, moment, &page));
    let user = UserId::from_uuid(id(51));
    let span = at(0)..at(1_000 * 3600);
    cost!("stays of a user", 40 + WAY + 2 * KEY, 1, |page| people.stays_of(
        user,
        span.clone(),
        &page
    ));
    cost!("bans of a user", 30 * (1 + 2 * KEY) + WAY, 30, |page| people
        .bans_of(user, &page));
    let moderator = UserId::from_uuid(id(7));
    cost!("bans by a user", 60 * (1 + 2 * KEY) + WAY, 60, |page| people
        .bans_by(moderator, &page));
    cost!("recordings of a user", PAGE + WAY, 100, |page| store
        .recordings()
        .list_of_owner(user_of(1), &page));
    let day = at(1_000 * 3600).date_naive();
    let days = day..day + chrono::Days::new(1);
    let mut of_day = i64::MAX;
    for _ in 0..8 {
        let (found, spent) = meter.spent(store.statistics().daily(days.clone())).await;
        assert!(found.unwrap()[0].joins > 300);
        of_day = of_day.min(spent.buffers);
    }
    // 300 live rooms, begun before the day or in it, and some 22 that ended on it, with 20 stays each; the entries of 1,600 that ended since.
    table.push(("a day", of_day, (140 + 26) * (stays + 1 + 3) + 40));
    let hours = at(0)..at(0) + TimeDelta::hours(3);
    let (found, spent) = meter.spent(store.statistics().busiest_rooms(hours, 10)).await;
    assert!(!found.unwrap().is_empty());
    println!("{table:#?} {spent:?}");
    assert!(table.iter().all(|(_, buffers, most)| buffers <= most), "{table:#?}");
}

fn user_of(number: u128) -> UserId {
    UserId::from_uuid(id(number))
}
