//! The audit log in partitions, and how it gets there. PostgreSQL only.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use conferencing_migration::{Migrator, MigratorTrait};
use conferencing_store::constraint::listed_name;
use conferencing_store::{Actor, Observation};
use sea_orm::{ConnectionTrait, DbErr, Statement, TransactionTrait};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::catalog;
use crate::harness::{Raw, TestDb, empty_database_with, race, raw_of, to_migrate};
use crate::metering::one_connection;
use crate::migrations::{all, applied};
use crate::rows::{Refusal, Sql, refusal_of, spelled, with_fixture};

crate::cases![
    @Postgres every_partition_has_what_the_audit_log_has,
    @Postgres every_partition_refuses_changes,
    @Postgres every_partition_names_what_a_row_violates,
    @Postgres rows_of_any_time_are_appended_and_read_back,
    @Postgres a_partition_is_made_once_however_many_ask,
    @Postgres a_partition_is_attached_while_others_append,
    @Postgres a_partition_is_not_made_over_rows_of_the_default_one,
    @Postgres a_table_of_half_a_million_rows_is_partitioned_online,
    @Postgres a_busy_lock_is_waited_for_without_blocking_others,
    @Postgres a_migration_that_was_cut_off_goes_on,
    @Postgres owner_and_privileges_are_carried_over,
    @Postgres the_way_back_keeps_every_row,
];

/// The newest migration before the one that makes the partitions.
const BEFORE: u32 = 4;

/// How many came after the one that makes the partitions.
fn later() -> u32 {
    u32::try_from(all().len()).unwrap() - BEFORE - 1
}

const PATIENCE: Duration = Duration::from_secs(60);

/// The partitions, by name, each with a time that falls into it.
async fn partitions(raw: &Raw) -> Vec<(String, String)> {
    let sql = "SELECT relname || '|' || CASE
            WHEN pg_get_expr(relpartbound, oid) LIKE '%MINVALUE%' THEN '1999-01-01 00:00:00+00'
            ELSE coalesce(substring(pg_get_expr(relpartbound, oid) FROM 'FROM \\(''([^'']+)'), '2999-01-01 00:00:00+00') END
        FROM pg_class JOIN pg_inherits ON inhrelid = oid WHERE inhparent = 'audit_logs'::regclass ORDER BY relname";
    let lines = raw.texts(sql).await.into_iter();
    let pairs = lines.map(|line| {
        line.split_once('|')
            .map(|(name, at)| (name.to_owned(), at.to_owned()))
            .unwrap()
    });
    pairs.collect()
}

/// A database with the fixture's rows, and one row more in each partition.
async fn with_rows_in_all(db: &TestDb) -> Raw {
    let raw = with_fixture(db).await;
    for (number, (name, at)) in partitions(&raw).await.into_iter().enumerate() {
        let id = Uuid::from_u128(number as u128);
        raw.run(&format!(
            "INSERT INTO audit_logs (id, action, timestamp) VALUES ('{id}', 'USER_LOGOUT', '{at}')"
        ))
        .await;
        assert_ne!(
            raw.number(&format!("SELECT count(*) FROM ONLY {name}")).await,
            0,
            "{name}"
        );
    }
    raw
}

/// A database migrated to where the audit log is one table, with so many rows of 20 users and 50 rooms over the last months.
async fn one_table(rows: u32) -> String {
    let url = empty_database_with("").await;
    let raw = raw_of(&url).await;
    Migrator::up(&raw.db, Some(BEFORE)).await.unwrap();
    raw.run(
        "INSERT INTO users SELECT lpad(to_hex(n), 32, '0')::uuid, 'user' || n, NULL, NULL, 'User', true, false, NULL, now(), now()
            FROM generate_series(1, 20) AS n;
         INSERT INTO rooms (id, owner_id, room_code, title, max_participants, is_public, is_recordable, require_auth, status,
                peak_participants, total_joins, active_participants, created_at, updated_at)
            SELECT lpad(to_hex(n), 32, '0')::uuid, lpad(to_hex(n % 20 + 1), 32, '0')::uuid, 'room' || n, 'Room', 9, true, true,
                true, 'CREATED', 0, 0, 0, now(), now()
            FROM generate_series(1, 50) AS n",
    )
    .await;
    raw.run(&format!(
        "INSERT INTO audit_logs (id, action, user_id, room_id, timestamp)
            SELECT lpad(to_hex(n), 32, '0')::uuid, 'USER_LOGOUT', lpad(to_hex(n % 20 + 1), 32, '0')::uuid,
                lpad(to_hex(n % 50 + 1), 32, '0')::uuid, now() - interval '120 days' * (1 - n / {rows}.0)
            FROM generate_series(1, {rows}) AS n"
    ))
    .await;
    raw.run("ANALYZE").await;
    raw.db.close().await.unwrap();
    url
}

async fn every_partition_has_what_the_audit_log_has(db: TestDb) {
    let raw = db.raw().await;
    let deviating = async || {
        let mut family = catalog::partitions(&raw).await;
        let audit_log = family.remove("audit_logs").unwrap();
        // Owner, columns, the key, nine indexes, three triggers.
        assert_eq!(audit_log.len(), 15, "{audit_log:?}");
        assert_eq!(family.len(), 5, "{family:?}");
        let mut deviating = BTreeMap::new();
        for (name, facts) in family {
            let different: Vec<String> = facts.symmetric_difference(&audit_log).cloned().collect();
            if !different.is_empty() {
                deviating.insert(name, different.len());
            }
        }
        deviating
    };
    assert_eq!(deviating().await, BTreeMap::new());
    raw.run("SELECT attach_audit_partition('audit_logs_2040_02', '2040-02-01 00:00+00', '2040-03-01 00:00+00')")
        .await;
    raw.run("ALTER TABLE audit_logs DETACH PARTITION audit_logs_default")
        .await;
    assert_eq!(deviating().await, BTreeMap::new());
    // It sees what a partition lacks.
    raw.run("DROP TRIGGER tr_audit_logs_no_truncate ON audit_logs_2040_02")
        .await;
    raw.run("ALTER TABLE audit_logs_before ENABLE TRIGGER tr_audit_logs_immutable")
        .await;
    let seen = [
        ("audit_logs_2040_02".to_owned(), 1),
        ("audit_logs_before".to_owned(), 2),
    ];
    assert_eq!(deviating().await, BTreeMap::from(seen));
}

async fn every_partition_refuses_changes(db: TestDb) {
    let raw = with_rows_in_all(&db).await;
    let triggers = "SELECT format('%s %s', tgname, tgenabled) FROM pg_trigger
        WHERE NOT tgisinternal AND tgname LIKE 'tr_audit_logs%'";
    let triggers = raw.texts(triggers).await;
    assert_eq!(triggers.len(), 18);
    assert!(triggers.iter().all(|trigger| trigger.ends_with(" A")), "{triggers:?}");
    let mut tables: Vec<String> = partitions(&raw).await.into_iter().map(|(name, _)| name).collect();
    tables.push("audit_logs".to_owned());
    let before = raw.snapshot().await;
    for table in tables {
        for role in ["origin", "local", "replica"] {
            let role = [format!("SET LOCAL session_replication_role = {role}")];
            for sql in [
                format!("UPDATE {table} SET user_agent = 'y'"),
                format!("UPDATE {table} SET timestamp = timestamp + interval '1 month'"),
                format!("DELETE FROM {table}"),
                format!("TRUNCATE {table}"),
                format!("TRUNCATE {table} CASCADE"),
            ] {
                let refusal = refusal_of(&raw, &role, &sql).await;
                assert_eq!(
                    refusal.constraint.as_deref(),
                    Some("tr_audit_logs_immutable"),
                    "{sql}: {refusal:?}"
                );
                assert_eq!(refusal.code, "23001", "{sql}");
                assert!(
                    refusal.message.contains("the audit log is immutable"),
                    "{sql}: {refusal:?}"
                );
            }
        }
    }
    assert_eq!(raw.snapshot().await, before);
}

async fn every_partition_names_what_a_row_violates(db: TestDb) {
    let raw = with_rows_in_all(&db).await;
    for (number, (name, at)) in partitions(&raw).await.into_iter().enumerate() {
        let at = format!("timestamp='{at}'");
        let again = format!("id='{}'", Uuid::from_u128(number as u128));
        for (values, constraint) in [
            (again.as_str(), "pk_audit_logs"),
            ("user_id=#nobody", "fk_audit_logs_user"),
            ("target_user_id=#nobody", "fk_audit_logs_target_user"),
            ("room_id=#nowhere", "fk_audit_logs_room"),
        ] {
            let values = [crate::rows::required("audit_logs"), &at, values];
            let sql = crate::rows::insert(raw.backend(), "audit_logs", &values);
            let refusal = refusal_of(&raw, &[], &sql).await;
            assert_eq!(
                refusal.constraint.as_deref().map(listed_name),
                Some(constraint),
                "{name}: {refusal:?}"
            );
        }
        // What a row points at stays, whichever partition it is in.
        let values = [crate::rows::required("audit_logs"), &at, "user_id=#eve"];
        let pointing = crate::rows::insert(raw.backend(), "audit_logs", &values);
        let delete = spelled(raw.backend(), "DELETE FROM users WHERE id = #eve");
        let refusal = refusal_of(&raw, &[pointing], &delete).await;
        assert_eq!(
            refusal.constraint.as_deref(),
            Some("tr_users_kept"),
            "{name}: {refusal:?}"
        );
    }
    let null = Sql::Bare("audit_logs", "timestamp=NULL").text(raw.backend());
    assert_eq!(refusal_of(&raw, &[], &null).await.code, "23502");
}

async fn rows_of_any_time_are_appended_and_read_back(db: TestDb) {
    let raw = db.raw().await;
    let start: DateTime<Utc> = "1999-01-01T00:00:00Z".parse().unwrap();
    let room = db.room(&db.user("ada").await, 5).await;
    let mut expected = Vec::new();
    let partitions = partitions(&raw).await;
    for (_, at) in &partitions {
        let at = DateTime::parse_from_str(at, "%Y-%m-%d %H:%M:%S%#z").unwrap().to_utc();
        let (store, _) = db.with_clock_at(at.max(start)).await;
        let system = store.acting(&Actor::system("test"));
        let id = system
            .audit()
            .append(Some(room.id), Observation::ScreenShareStarted {})
            .await
            .unwrap();
        expected.push((at, id));
    }
    expected.sort_by_key(|(at, _)| *at);
    let audit_log = db.audit_log(room.id).await.into_iter();
    let found: Vec<_> = audit_log
        .filter(|entry| entry.event.action() == "SCREEN_SHARE_STARTED")
        .map(|entry| (entry.at, entry.id))
        .collect();
    assert_eq!(found, expected);
    let sql =
        "SELECT CAST(tableoid::regclass AS text) FROM audit_logs WHERE action = 'SCREEN_SHARE_STARTED' ORDER BY 1";
    let names: Vec<String> = partitions.into_iter().map(|(name, _)| name).collect();
    assert_eq!(raw.texts(sql).await, names);
}

const MONTH: &str = "attach_audit_partition('audit_logs_2040_02', '2040-02-01 00:00+00', '2040-03-01 00:00+00')";

async fn a_partition_is_made_once_however_many_ask(db: TestDb) {
    let raw = db.raw().await;
    let asking = (0..16).map(|_| {
        let db = raw.db.clone();
        async move {
            loop {
                let asked = Raw { db: db.clone() };
                let statement = Statement::from_string(asked.backend(), format!("SELECT {MONTH}"));
                match asked.db.query_one_raw(statement).await {
                    Ok(row) => return row.unwrap().try_get_by_index::<bool>(0).unwrap(),
                    // It gives up a lock that it waits too long for.
                    Err(error) => assert_eq!(Refusal::of(&error).code, "55P03", "{error}"),
                }
            }
        }
    });
    let made = race(asking.collect::<Vec<_>>()).await;
    assert_eq!(made.iter().filter(|made| **made).count(), 1);
    let bounds = "SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE relname = 'audit_logs_2040_02'";
    let bounds = raw.texts(bounds).await;
    assert_eq!(
        bounds,
        ["FOR VALUES FROM ('2040-02-01 00:00:00+00') TO ('2040-03-01 00:00:00+00')"]
    );
    // Whatever zone and style the session has.
    let session = one_connection(&db.url).await;
    session
        .run("SET TimeZone = 'Asia/Kolkata'; SET DateStyle = 'SQL, DMY'")
        .await;
    session
        .run("SELECT attach_audit_partition('audit_logs_2040_03', '2040-03-01T00:00:00Z', '2040-04-01T00:00:00Z')")
        .await;
    let bounds = "SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE relname = 'audit_logs_2040_03'";
    let bounds = raw.texts(bounds).await;
    assert_eq!(
        bounds,
        ["FOR VALUES FROM ('2040-03-01 00:00:00+00') TO ('2040-04-01 00:00:00+00')"]
    );
}

async fn a_partition_is_attached_while_others_append(db: TestDb) {
    let raw = db.raw().await;
    let room = db.room(&db.user("ada").await, 5).await;
    let upkeep = raw.db.begin().await.unwrap();
    upkeep.execute_unprepared(&format!("SELECT {MONTH}")).await.unwrap();
    // Uncommitted: what it has locked is locked still.
    let system = db.system();
    let audit = system.audit();
    let append = audit.append(Some(room.id), Observation::ScreenShareStarted {});
    tokio::time::timeout(PATIENCE, append).await.unwrap().unwrap();
    upkeep.commit().await.unwrap();
    assert_eq!(
        raw.number("SELECT count(*) FROM pg_inherits WHERE inhparent = 'audit_logs'::regclass")
            .await,
        6
    );
}

async fn a_partition_is_not_made_over_rows_of_the_default_one(db: TestDb) {
    let raw = db.raw().await;
    raw.run("INSERT INTO audit_logs (id, action, timestamp) VALUES (gen_random_uuid(), 'USER_LOGOUT', '2040-02-29 12:00+00')")
        .await;
    assert_eq!(refusal_of(&raw, &[], &format!("SELECT {MONTH}")).await.code, "23514");
    raw.run("SELECT attach_audit_partition('audit_logs_2040_03', '2040-03-01 00:00+00', '2040-04-01 00:00+00')")
        .await;
    assert_eq!(raw.number("SELECT count(*) FROM audit_logs").await, 1);
}

/// Rows that were acknowledged, and how long the slowest took.
#[derive(Debug, Default)]
struct Appended {
    ids: Vec<Uuid>,
    longest: Duration,
}

/// What tasks in the background share.
#[derive(Default)]
struct Background {
    stop: AtomicBool,
    done: AtomicUsize,
}

impl Background {
    /// Waits until so many more statements have been answered.
    async fn goes_on(&self, count: usize) {
        let enough = self.done.load(Ordering::Relaxed) + count;
        let waiting = async {
            while self.done.load(Ordering::Relaxed) < enough {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("others go on");
    }
}

/// Appends rows until it is recorded to stop.
async fn append(url: &str, number: u64, background: &Arc<Background>) -> JoinHandle<Appended> {
    let (raw, background) = (one_connection(url).await, Arc::clone(background));
    tokio::spawn(async move {
        let mut appended = Appended::default();
        while !background.stop.load(Ordering::Relaxed) {
            let count = appended.ids.len() as u64;
            let id = Uuid::from_u64_pair(u64::MAX - number, count);
            let key = |n: u64| Uuid::from_u64_pair(0, n + 1);
            let sql = "INSERT INTO audit_logs (id, action, user_id, room_id, timestamp) VALUES ($1, 'USER_LOGOUT', $2, $3, now())";
            let values = [id.into(), key(count % 20).into(), key(count % 50).into()];
            let asked = Instant::now();
            let done = raw
                .db
                .execute_raw(Statement::from_sql_and_values(raw.backend(), sql, values))
                .await;
            assert_eq!(done.unwrap().rows_affected(), 1);
            appended.longest = appended.longest.max(asked.elapsed());
            appended.ids.push(id);
            background.done.fetch_add(1, Ordering::Relaxed);
        }
        appended
    })
}

/// Reads the audit log of rooms, a page after the other, each to some depth.
async fn read(url: &str, number: u64, background: &Arc<Background>) -> JoinHandle<usize> {
    let (raw, background) = (one_connection(url).await, Arc::clone(background));
    tokio::spawn(async move {
        let (mut pages, mut room) = (0, number);
        while !background.stop.load(Ordering::Relaxed) {
            room = room % 50 + 1;
            let mut at: (DateTime<Utc>, Uuid) = ("9999-01-01T00:00:00Z".parse().unwrap(), Uuid::max());
            for _ in 0..10 {
                let sql = r#"SELECT "timestamp", id FROM audit_logs WHERE room_id = $1 AND ("timestamp", id) < ($2, $3)
                    ORDER BY "timestamp" DESC, id DESC LIMIT 50"#;
                let values = [Uuid::from_u64_pair(0, room).into(), at.0.into(), at.1.into()];
                let found = raw
                    .db
                    .query_all_raw(Statement::from_sql_and_values(raw.backend(), sql, values))
                    .await;
                let found = found.unwrap();
                assert_eq!(found.len(), 50);
                for row in found {
                    let next = (row.try_get_by_index(0).unwrap(), row.try_get_by_index(1).unwrap());
                    assert!(next < at);
                    at = next;
                }
                pages += 1;
                background.done.fetch_add(1, Ordering::Relaxed);
            }
        }
        pages
    })
}

/// Where the rows of a table and the entries of its indexes lie on the disk, and its foreign keys, each by its name.
async fn storage(raw: &Raw, table: &str) -> BTreeSet<String> {
    let sql = format!(
        "SELECT replace(format('%s %s %s', relname, oid, relfilenode), '{table}', 'audit_logs') FROM pg_class
            WHERE oid = '{table}'::regclass OR oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = '{table}'::regclass)
         UNION ALL
         SELECT format('%s %s', conname, oid) FROM pg_constraint WHERE conrelid = '{table}'::regclass AND contype = 'f'"
    );
    raw.texts(&sql).await.into_iter().collect()
}

/// How often a table was read from end to end, as soon as the server has counted at least `least` such scans.
async fn scans(raw: &Raw, table: &str, least: i64) -> i64 {
    let sql = format!("SELECT coalesce((SELECT seq_scan FROM pg_stat_user_tables WHERE relname = '{table}'), 0)");
    let counted = async {
        loop {
            let scans = raw.number(&sql).await;
            if scans >= least {
                return scans;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, counted)
        .await
        .expect("the server counts")
}

async fn a_table_of_half_a_million_rows_is_partitioned_online(_: TestDb) {
    const ROWS: u32 = 500_000;
    let began = Instant::now();
    let url = one_table(ROWS).await;
    let filled = began.elapsed();
    let raw = one_connection(&url).await;
    let before = storage(&raw, "audit_logs").await;
    assert_eq!(before.len(), 1 + 9, "{before:?}");
    let background = Arc::new(Background::default());
    let (mut appenders, mut readers) = (Vec::new(), Vec::new());
    for number in 0..8 {
        appenders.push(append(&url, number, &background).await);
    }
    for number in 0..4 {
        readers.push(read(&url, number, &background).await);
    }
    background.goes_on(200).await;
    // Those who made the table have left, so that what they did is counted.
    let scanned = scans(&raw, "audit_logs", 0).await;
    let migrator = to_migrate(&url).await;
    let began = Instant::now();
    Migrator::up(&migrator.db, None).await.unwrap();
    let took = began.elapsed();
    migrator.db.close().await.unwrap();
    background.goes_on(200).await;
    background.stop.store(true, Ordering::Relaxed);
    let (mut acknowledged, mut longest, mut pages) = (BTreeSet::new(), Duration::ZERO, 0);
    for appender in appenders {
        let appended = appender.await.unwrap();
        longest = longest.max(appended.longest);
        acknowledged.extend(appended.ids);
    }
    for reader in readers {
        pages += reader.await.unwrap();
    }
    eprintln!(
        "{ROWS} rows in {filled:?}; partitioned in {took:?}, {} appends and {pages} pages around it, the longest append {longest:?}",
        acknowledged.len()
    );
    assert_eq!(applied(&raw).await, all());
    assert_eq!(storage(&raw, "audit_logs_before").await, before);
    // The look that proves the boundary, under a lock that lets others write, is the only one.
    assert_eq!(scans(&raw, "audit_logs_before", scanned + 1).await, scanned + 1);
    let appended =
        "SELECT CAST(id AS text) FROM audit_logs WHERE id >= '80000000-0000-0000-0000-000000000000' ORDER BY id";
    let acknowledged: Vec<String> = acknowledged.iter().map(Uuid::to_string).collect();
    assert_eq!(raw.texts(appended).await, acknowledged);
    let count = i64::from(ROWS) + i64::try_from(acknowledged.len()).unwrap();
    assert_eq!(raw.number("SELECT count(*) FROM audit_logs").await, count);
}

/// Starts the rest of the migrations, on a pool of their own.
async fn migrate(url: &str) -> JoinHandle<Result<(), DbErr>> {
    let raw = raw_of(url).await;
    tokio::spawn(async move { Migrator::up(&raw.db, None).await })
}

/// Waits until the migration is seen waiting for a lock in so many transactions, one after the other; gives the last one's
/// process.
async fn tries(raw: &Raw, count: usize) -> String {
    let sql = "SELECT format('%s %s', pid, xact_start) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock' AND (query LIKE 'LOCK TABLE%' OR query LIKE '-- Promises%')";
    let waiting = async {
        let mut seen: BTreeSet<String> = BTreeSet::new();
        loop {
            if let Some(last) = raw.texts(sql).await.pop() {
                seen.insert(last.clone());
                if seen.len() >= count {
                    return last.split(' ').next().unwrap().to_owned();
                }
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("it tries again")
}

const PROMISE: &str =
    r#"ALTER TABLE audit_logs ADD CONSTRAINT ck_audit_logs_before CHECK ("timestamp" < '2100-01-01 00:00:00+00')"#;

async fn a_busy_lock_is_waited_for_without_blocking_others(_: TestDb) {
    // What is waited for first: the lock of the promise, and where that is there already, those of the swap.
    for promised in [false, true] {
        let url = one_table(30_000).await;
        let raw = one_connection(&url).await;
        if promised {
            raw.run(PROMISE).await;
        }
        let holding = one_connection(&url).await;
        let holder = holding.db.begin().await.unwrap();
        let sql = "INSERT INTO audit_logs (id, action, timestamp) VALUES (gen_random_uuid(), 'USER_LOGOUT', now())";
        holder.execute_unprepared(sql).await.unwrap();
        let background = Arc::new(Background::default());
        let appender = append(&url, 0, &background).await;
        let reader = read(&url, 0, &background).await;
        let migrating = migrate(&url).await;
        for _ in 0..3 {
            tries(&raw, 2).await;
            background.goes_on(20).await;
        }
        assert!(!migrating.is_finished());
        assert_eq!(applied(&raw).await, all()[..4]);
        holder.commit().await.unwrap();
        tokio::time::timeout(PATIENCE, migrating)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        background.goes_on(20).await;
        background.stop.store(true, Ordering::Relaxed);
        let appended = appender.await.unwrap();
        reader.await.unwrap();
        eprintln!(
            "behind a busy lock: {} appends, the longest {:?}",
            appended.ids.len(),
            appended.longest
        );
        assert_eq!(applied(&raw).await, all());
        let count = 30_000 + 1 + i64::try_from(appended.ids.len()).unwrap();
        assert_eq!(raw.number("SELECT count(*) FROM audit_logs").await, count);
    }
}

async fn a_migration_that_was_cut_off_goes_on(db: TestDb) {
    let schema = catalog::snapshot(&db.raw().await).await;
    let bound = "SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE relname = 'audit_logs_before'";
    let near = db
        .raw()
        .await
        .texts("SELECT to_char(now() + interval '1 hour', 'YYYY-MM-DD HH24:MI:SSOF')")
        .await;
    // Whatever was left: an untested promise, a tested one, one that is nearly over.
    for (left, kept) in [
        (format!("{PROMISE} NOT VALID"), true),
        (PROMISE.to_owned(), true),
        (PROMISE.replace("2100-01-01 00:00:00+00", &near[0]), false),
    ] {
        let url = one_table(100).await;
        let raw = one_connection(&url).await;
        raw.run(&left).await;
        Migrator::up(&to_migrate(&url).await.db, None).await.unwrap();
        let until_2100 = raw.texts(bound).await[0].contains("2100-01-01 00:00:00+00");
        assert_eq!(until_2100, kept, "{left}");
        if !kept {
            assert_eq!(catalog::snapshot(&raw).await, schema);
        }
        assert_eq!(applied(&raw).await, all());
        assert_eq!(raw.number("SELECT count(*) FROM audit_logs").await, 100);
    }
    // For real: its connection is cut off while it waits for the swap.
    let url = one_table(100).await;
    let raw = one_connection(&url).await;
    // The promise is there, so that what it waits for is the lock of the swap.
    let boundary = "SELECT substring(pg_get_expr(relpartbound, oid) FROM 'TO \\(''([^'']+)')
        FROM pg_class WHERE relname = 'audit_logs_before'";
    let boundary = db.raw().await.texts(boundary).await.remove(0);
    raw.run(&PROMISE.replace("2100-01-01 00:00:00+00", &boundary)).await;
    let holding = one_connection(&url).await;
    let holder = holding.db.begin().await.unwrap();
    holder
        .execute_unprepared("LOCK TABLE audit_logs IN ROW SHARE MODE")
        .await
        .unwrap();
    let migrating = migrate(&url).await;
    let process = tries(&raw, 1).await;
    raw.run(&format!("SELECT pg_terminate_backend({process})")).await;
    migrating.await.unwrap().unwrap_err();
    let promise = "SELECT count(*) FROM pg_constraint WHERE conname = 'ck_audit_logs_before' AND convalidated";
    assert_eq!(raw.number(promise).await, 1);
    assert_eq!(applied(&raw).await, all()[..4]);
    holder.rollback().await.unwrap();
    Migrator::up(&to_migrate(&url).await.db, None).await.unwrap();
    assert_eq!(catalog::snapshot(&raw).await, schema);
    // Cut off and given up: the way back takes the promise along.
    let url = one_table(100).await;
    let raw = raw_of(&url).await;
    let before = catalog::snapshot(&raw).await;
    raw.run(PROMISE).await;
    let name = &all()[usize::try_from(BEFORE).unwrap()];
    raw.run(&format!("INSERT INTO conferencing_migrations VALUES ('{name}', 0)"))
        .await;
    Migrator::down(&raw.db, Some(1)).await.unwrap();
    assert_eq!(catalog::snapshot(&raw).await, before);
}

async fn owner_and_privileges_are_carried_over(_: TestDb) {
    let url = one_table(100).await;
    let (raw, owner) = (raw_of(&url).await, one_connection(&url).await);
    // Roles are the whole server's.
    let [keeper, clerk, auditor, stranger] =
        ["keeper", "clerk", "auditor", "stranger"].map(|role| format!("contract_{}_{role}", std::process::id()));
    owner
        .run(&format!(
            "CREATE ROLE {keeper}; CREATE ROLE {clerk}; CREATE ROLE {auditor}; CREATE ROLE {stranger};
             ALTER TABLE audit_logs OWNER TO {keeper};
             GRANT SELECT, INSERT ON audit_logs TO {clerk} WITH GRANT OPTION;
             GRANT SELECT (id) ON users, rooms TO {clerk};
             GRANT SELECT (id, action) ON audit_logs TO {auditor};
             ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {stranger}"
        ))
        .await;
    let privileges = "SELECT format('%s %s', relowner::regrole, relacl) FROM pg_class WHERE oid = 'audit_logs'::regclass
        UNION ALL SELECT format('%s %s', attname, attacl) FROM pg_attribute WHERE attrelid = 'audit_logs'::regclass AND attacl IS NOT NULL";
    let before: BTreeSet<String> = raw.texts(privileges).await.into_iter().collect();
    assert_eq!(before.len(), 3, "{before:?}");
    for step in ["up", "down", "up"] {
        match step {
            "up" => Migrator::up(&raw.db, None).await.unwrap(),
            _ => Migrator::down(&raw.db, Some(1 + later())).await.unwrap(),
        }
        let after: BTreeSet<String> = raw.texts(privileges).await.into_iter().collect();
        assert_eq!(after, before, "{step}");
    }
    let owners = "SELECT DISTINCT CAST(relowner::regrole AS text) FROM pg_class WHERE relname LIKE 'audit_logs%' AND relkind IN ('r', 'p')";
    assert_eq!(owner.texts(owners).await, [keeper.as_str()]);
    let append = "INSERT INTO audit_logs (id, action, timestamp) VALUES (gen_random_uuid(), 'USER_LOGOUT', now() + interval '90 days')";
    for (role, sql, may) in [
        (&clerk, append, true),
        (&clerk, "SELECT count(*) FROM audit_logs", true),
        (&clerk, "UPDATE audit_logs SET user_agent = NULL", false),
        (&auditor, "SELECT id, action FROM audit_logs", true),
        (&auditor, "SELECT metadata FROM audit_logs", false),
        (&auditor, append, false),
        (&stranger, "SELECT id FROM audit_logs", false),
    ] {
        owner.run(&format!("SET ROLE {role}")).await;
        let outcome = owner.execute(sql).await;
        owner.run("RESET ROLE").await;
        match outcome {
            Ok(_) => assert!(may, "{role}: {sql}"),
            Err(error) => {
                assert_eq!(Refusal::of(&error).code, "42501", "{role}: {sql}: {error}");
                assert!(!may, "{role}: {sql}: {error}");
            }
        }
    }
    raw.db.close().await.unwrap();
    for role in [keeper, clerk, auditor, stranger] {
        owner
            .run(&format!("DROP OWNED BY {role} CASCADE; DROP ROLE {role}"))
            .await;
    }
}

async fn the_way_back_keeps_every_row(db: TestDb) {
    let raw = with_rows_in_all(&db).await;
    Migrator::down(&raw.db, Some(later())).await.unwrap();
    let rows = raw.snapshot().await;
    Migrator::down(&raw.db, Some(1)).await.unwrap();
    assert_eq!(raw.snapshot().await, rows);
    let kind = "SELECT CAST(relkind AS text) FROM pg_class WHERE relname LIKE 'audit_logs%' AND relkind IN ('r', 'p')";
    assert_eq!(raw.texts(kind).await, ["r"]);
    let plain = catalog::snapshot(&raw).await;
    Migrator::up(&raw.db, Some(1)).await.unwrap();
    assert_eq!(raw.snapshot().await, rows);
    // Also when the first partition has been archived meanwhile.
    raw.run("ALTER TABLE audit_logs DETACH PARTITION audit_logs_before; DROP TABLE audit_logs_before")
        .await;
    Migrator::down(&raw.db, Some(1)).await.unwrap();
    assert_eq!(catalog::snapshot(&raw).await, plain);
}
