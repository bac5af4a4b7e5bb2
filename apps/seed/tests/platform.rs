//! The platform is what the settings say, the same each time, and the doctor finds nothing in it; on both backends.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use conferencing_migration::{MIGRATION_TABLE, Migrator, MigratorTrait};
use conferencing_seed::{SeedError, SeedSettings, Size, Summary, connect_settings, seed};
use conferencing_store::clock::{Clock, ManualClock, SystemClock};
use conferencing_store::{
    Actor, Check, ConnectSettings, Durability, Order, PageRequest, Severity, Store, StoreSettings,
};
use conferencing_testing::{Backend, Builder, TestStore, on_both_backends};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement};
use sha2::{Digest, Sha256};

const EVENTS: u64 = 3_000;

fn until() -> DateTime<Utc> {
    "2026-06-30T15:00:00Z".parse().unwrap()
}

fn settings(seed: u64) -> SeedSettings {
    SeedSettings {
        users: Some(100),
        days: 40,
        ..SeedSettings::new(Size::Events(EVENTS), seed, until())
    }
}

fn store_settings() -> StoreSettings {
    StoreSettings {
        connect: connect_settings(8, ConnectSettings::default()),
        ..StoreSettings::default()
    }
}

async fn filled(db: &DatabaseConnection, settings: &SeedSettings) -> Result<Summary, SeedError> {
    seed(db, settings, store_settings(), |_| {}).await
}

async fn texts(db: &DatabaseConnection, sql: &str) -> Vec<String> {
    let rows = db
        .query_all_raw(Statement::from_string(db.get_database_backend(), sql))
        .await
        .unwrap();
    rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect()
}

async fn number(db: &DatabaseConnection, sql: &str) -> i64 {
    texts(db, &format!("SELECT CAST(({sql}) AS text)")).await[0]
        .parse()
        .unwrap()
}

/// A digest of each table, of all columns of all rows.
async fn digests(db: &DatabaseConnection) -> BTreeMap<&'static str, (usize, String)> {
    let tables = [
        "users",
        "auth_providers",
        "rooms",
        "room_participants",
        "media_nodes",
        "recordings",
        "audit_logs",
    ];
    let mut digests = BTreeMap::new();
    for table in tables {
        let rows = match db.get_database_backend() {
            DbBackend::Sqlite => {
                let columns = texts(
                    db,
                    &format!("SELECT name FROM pragma_table_info('{table}') ORDER BY cid"),
                )
                .await;
                let quoted: Vec<String> = columns.iter().map(|name| format!("quote(\"{name}\")")).collect();
                texts(
                    db,
                    &format!("SELECT {} FROM {table} ORDER BY id", quoted.join(" || '|' || ")),
                )
                .await
            }
            _ => {
                // What is observed comes by a writer, in batches of any size: the transaction that wrote a row, and its place among all,
                // are the database's own and the only columns that may differ.
                let but = if table == "audit_logs" {
                    " - 'transaction' - 'sequence'"
                } else {
                    ""
                };
                texts(
                    db,
                    &format!("SELECT CAST(to_jsonb(t){but} AS text) FROM {table} AS t ORDER BY id"),
                )
                .await
            }
        };
        let digest = Sha256::digest(rows.join("\n").as_bytes());
        let digest: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        digests.insert(table, (rows.len(), digest));
    }
    digests
}

/// The sweeps' events are the only ones that no step has counted.
async fn every_event_is_accounted_for(db: &DatabaseConnection, made: Summary) {
    let swept = number(
        db,
        "SELECT count(*) FROM audit_logs WHERE metadata->>'system' = 'sweeper'",
    )
    .await;
    assert_eq!(
        i64::try_from(made.events).unwrap() - i64::try_from(made.played).unwrap(),
        swept,
        "{made:?}"
    );
}

/// Another database of the same kind.
async fn beside(kit: &TestStore) -> TestStore {
    let builder = with_workers(TestStore::builder());
    let builder = match kit.backend() {
        Backend::Sqlite => builder.sqlite_file(),
        Backend::Postgres => builder.postgres(),
    };
    builder.open().await.unwrap()
}

fn with_workers(builder: Builder) -> Builder {
    builder.settings(|settings| settings.connect = store_settings().connect)
}

on_both_backends! {
    with with_workers;

    async fn the_same_seed_makes_the_same_rows(kit: TestStore) {
        let (other, third) = (beside(&kit).await, beside(&kit).await);
        filled(kit.db(), &settings(7)).await.unwrap();
        // However many play at once.
        let alone = SeedSettings {
            workers: 1,
            ..settings(7)
        };
        filled(other.db(), &alone).await.unwrap();
        filled(third.db(), &settings(8)).await.unwrap();
        let (first, second, different) = (
            digests(kit.db()).await,
            digests(other.db()).await,
            digests(third.db()).await,
        );
        assert_eq!(first, second);
        for (table, digest) in &first {
            assert_ne!(digest, &different[table], "{table} does not hang on the seed");
        }
    }

    async fn it_is_as_large_as_was_asked_for(kit: TestStore) {
        let heard = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
        let hears = heard.clone();
        let made = seed(kit.db(), &settings(42), store_settings(), move |events| {
            hears.fetch_add(events, std::sync::atomic::Ordering::Relaxed);
        })
        .await
        .unwrap();
        let counted = number(kit.db(), "SELECT count(*) FROM audit_logs").await;
        assert_eq!(i64::try_from(made.events).unwrap(), counted);
        assert!((EVENTS..EVENTS * 105 / 100).contains(&made.events), "{made:?}");
        assert_eq!(heard.load(std::sync::atomic::Ordering::Relaxed), made.played);
        assert_eq!(number(kit.db(), "SELECT count(*) FROM users").await, 100);
        every_event_is_accounted_for(kit.db(), made).await;
    }

    /// Each of these is somewhere on a platform of this size.
    async fn there_is_something_of_everything(kit: TestStore) {
        let settings = SeedSettings {
            size: Size::Events(14_000),
            users: Some(240),
            ..settings(42)
        };
        let made = filled(kit.db(), &settings).await.unwrap();
        let db = kit.db();
        every_event_is_accounted_for(db, made).await;
        let present = until().to_rfc3339();
        let mut missing = Vec::new();
        for (table, condition) in [
            ("users", "deleted_at IS NOT NULL"),
            ("users", "NOT is_active AND deleted_at IS NULL"),
            ("users", "is_verified"),
            ("auth_providers", "provider_type <> 'LOCAL'"),
            ("rooms", "status = 'LIVE' AND active_participants > 0"),
            ("rooms", "status = 'LIVE' AND NOT is_public"),
            ("rooms", "status = 'ENDED'"),
            ("rooms", "status = 'CREATED' AND scheduled_start IS NOT NULL"),
            ("rooms", "status = 'CANCELLED'"),
            ("rooms", "deleted_at IS NOT NULL"),
            ("room_participants", "left_at IS NULL"),
            ("room_participants", "is_kicked AND NOT is_banned"),
            ("room_participants", "is_banned AND ban_expires_at IS NULL"),
            ("room_participants", "role = 'CO_HOST'"),
            ("media_nodes", "lost_at IS NULL"),
            ("media_nodes", "lost_at IS NOT NULL"),
            ("recordings", "status = 'READY'"),
            ("recordings", "status = 'FAILED'"),
            ("recordings", "status = 'STOPPED'"),
            ("recordings", "deleted_at IS NOT NULL"),
            ("recordings", "expires_at IS NOT NULL"),
        ] {
            if number(db, &format!("SELECT count(*) FROM {table} WHERE {condition}")).await == 0 {
                missing.push(format!("{table}: {condition}"));
            }
        }
        let actions = texts(db, "SELECT DISTINCT CAST(action AS text) FROM audit_logs").await;
        for action in [
            "USER_LOGIN_SUCCESS",
            "USER_LOGIN_FAILED",
            "USER_LOGOUT",
            "USER_DELETED",
            "USER_DEACTIVATED",
            "ROOM_UPDATED",
            "ROOM_OWNERSHIP_TRANSFERRED",
            "ROLE_PROMOTION",
            "ROLE_DEMOTION",
            "ROLE_CHANGED",
            "USER_UNBANNED",
            "USER_MUTED",
            "ALL_MUTED",
            "SCREEN_SHARE_STARTED",
            "CONSUMER_CREATED",
            "PRODUCER_CLOSED",
            "RECORDING_PROGRESSED",
            "UNAUTHORIZED_ACCESS_ATTEMPT",
            "MEDIA_NODE_LOST",
        ] {
            if !actions.iter().any(|there| there == action) {
                missing.push(action.to_owned());
            }
        }
        assert!(missing.is_empty(), "{missing:?}");
        // Nothing is later than the present, nothing earlier than the beginning.
        let beyond = match kit.backend() {
            Backend::Sqlite => format!(
                "julianday(timestamp) > julianday('{present}') OR julianday(timestamp) < julianday('{present}') - 40.001"
            ),
            Backend::Postgres => {
                format!("timestamp > '{present}' OR timestamp < timestamptz '{present}' - interval '40 days'")
            }
        };
        assert_eq!(
            number(db, &format!("SELECT count(*) FROM audit_logs WHERE {beyond}")).await,
            0
        );
    }

    async fn the_doctor_finds_nothing(kit: TestStore) {
        // As of the last hour, so that the months ahead are the doctor's.
        let now = SystemClock.now();
        let settings = SeedSettings {
            until: now - TimeDelta::minutes(5),
            ..settings(42)
        };
        filled(kit.db(), &settings).await.unwrap();
        let open = StoreSettings {
            durability: Durability::AsConfigured,
            ..StoreSettings::default()
        };
        let store = Store::from_connection(kit.db().clone(), open).await.unwrap();
        let mut report = store.doctor().await.unwrap();
        // What is said of the test's own server: its owner asks, and it is thrown away afterwards.
        report
            .findings
            .retain(|finding| !matches!(finding.check, Check::Superuser | Check::OwnsTables | Check::LosesData));
        assert!(report.worst() <= Some(Severity::Note), "{report:#?}");
    }

    async fn only_an_empty_database_is_filled_unasked(kit: TestStore) {
        filled(kit.db(), &settings(42)).await.unwrap();
        let before = digests(kit.db()).await;
        assert!(matches!(
            filled(kit.db(), &settings(43)).await,
            Err(SeedError::NotEmpty)
        ));
        let appending = |seed| SeedSettings {
            append: true,
            ..settings(seed)
        };
        assert_eq!(digests(kit.db()).await, before);
        let added = filled(kit.db(), &appending(43)).await.unwrap();
        let after = digests(kit.db()).await;
        assert_eq!(before["users"].0 + 100, after["users"].0);
        assert_eq!(
            before["audit_logs"].0 + usize::try_from(added.events).unwrap(),
            after["audit_logs"].0
        );
        assert!(matches!(
            filled(kit.db(), &appending(43)).await,
            Err(SeedError::SeedUsed { seed: 43 })
        ));
        assert_eq!(digests(kit.db()).await, after);
    }

    async fn a_seed_is_known_though_its_first_people_have_left(kit: TestStore) {
        let settings = SeedSettings {
            size: Size::Events(600),
            users: Some(24),
            days: 10,
            append: true,
            ..settings(43)
        };
        filled(kit.db(), &settings).await.unwrap();
        let later = StoreSettings {
            clock: Arc::new(ManualClock::at(until())),
            ..store_settings()
        };
        let store = Store::from_connection(kit.db().clone(), later).await.unwrap();
        let accounts = store.acting(&Actor::system("accounts"));
        let all = PageRequest::first(24, Order::OldestFirst).unwrap();
        let people = store.users().list(&all).await.unwrap().items;
        assert!(people.len() > 20);
        for (number, person) in people.iter().enumerate() {
            if number % 4 == 0 {
                accounts.users().deactivate(person.id).await.unwrap();
            } else {
                accounts.users().erase(person.id).await.unwrap();
            }
        }
        let before = digests(kit.db()).await;
        assert!(matches!(
            filled(kit.db(), &settings).await,
            Err(SeedError::SeedUsed { seed: 43 })
        ));
        assert_eq!(digests(kit.db()).await, before);
    }

    async fn what_is_refused_is_not_migrated(kit: TestStore) {
        kit.user("ada").await;
        Migrator::down(kit.db(), Some(1)).await.unwrap();
        let migrations = format!("SELECT CAST(version AS text) FROM {MIGRATION_TABLE} ORDER BY 1");
        let before = texts(kit.db(), &migrations).await;
        for (arguments, reason) in [(&["--events", "600"][..], "not empty"), (&["--days", "1"], "days")] {
            let said = Command::new(env!("CARGO_BIN_EXE_conferencing-seed"))
                .args(["--quiet", "--migrate", "--database-url", kit.url()])
                .args(arguments)
                .output()
                .unwrap();
            let reasons = String::from_utf8(said.stderr).unwrap();
            assert!(!said.status.success() && reasons.contains(reason), "{reasons}");
            assert_eq!(texts(kit.db(), &migrations).await, before, "{arguments:?}");
        }
    }

    async fn settings_are_checked_before_anything_is_written(kit: TestStore) {
        for settings in [
            SeedSettings { days: 1, ..settings(1) },
            SeedSettings {
                users: Some(3),
                ..settings(1)
            },
            SeedSettings {
                workers: 0,
                ..settings(1)
            },
            SeedSettings {
                size: Size::Events(100),
                ..settings(1)
            },
        ] {
            assert!(matches!(
                filled(kit.db(), &settings).await,
                Err(SeedError::Settings(_))
            ));
        }
        assert_eq!(number(kit.db(), "SELECT count(*) FROM audit_logs").await, 0);
    }

    async fn a_number_of_meetings_is_held(kit: TestStore) {
        let settings = SeedSettings {
            size: Size::Rooms(60),
            users: Some(60),
            ..settings(5)
        };
        filled(kit.db(), &settings).await.unwrap();
        let held = number(kit.db(), "SELECT count(*) FROM rooms WHERE started_at IS NOT NULL").await;
        assert!((50..=75).contains(&held), "{held}");
    }
}
