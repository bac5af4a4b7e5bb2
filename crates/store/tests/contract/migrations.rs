//! Migrations: forth, back, again, and half. Many at once are in migrations_at_once.rs.

use conferencing_migration::{Migrator, MigratorTrait, migrate};
use conferencing_store::{Error, REQUIRED_MIGRATION, Store};
use sea_orm::TransactionTrait;
use tempfile::TempDir;

use crate::catalog;
use crate::declared::Facts;
use crate::harness::{Backend, Raw, TestDb, empty_database, raw_of};
use crate::rows::with_fixture;

crate::cases![
    the_store_requires_the_newest_migration,
    an_empty_database_has_everything_pending,
    down_leaves_nothing_and_up_brings_the_same_back,
    one_step_down_reverts_the_newest_migration_alone,
    fresh_and_refresh_empty_a_database_in_use,
    reset_leaves_nothing,
    fresh_clears_away_what_is_in_its_way,
    what_is_not_ours_is_never_dropped,
    a_database_of_a_newer_build_is_left_as_it_is,
    a_failed_way_up_leaves_nothing_behind,
    a_failed_way_down_leaves_everything,
    a_migration_goes_with_the_transaction_of_its_caller,
];

/// A database without schema.
pub struct Empty {
    pub url: String,
    pub raw: Raw,
    _folder: Option<TempDir>,
}

pub async fn empty(backend: Backend) -> Empty {
    let (url, folder) = empty_database(backend).await;
    Empty {
        raw: raw_of(&url).await,
        url,
        _folder: folder,
    }
}

/// The names of all migrations, in their order.
pub fn all() -> Vec<String> {
    let files = Migrator::get_migration_files();
    files.iter().map(|file| file.name().to_owned()).collect()
}

/// The names of those that were applied, in their order; none where nobody has counted yet.
pub async fn applied(raw: &Raw) -> Vec<String> {
    let applied = Migrator::get_applied_migrations_read_only(&raw.db).await.unwrap();
    applied.iter().map(|file| file.name().to_owned()).collect()
}

async fn nothing_is_left(raw: &Raw) {
    assert_eq!(catalog::snapshot(raw).await, Facts::new());
    assert_eq!(applied(raw).await, Vec::<String>::new());
}

async fn the_store_requires_the_newest_migration(db: TestDb) {
    let mut in_order = all();
    in_order.sort();
    assert_eq!(in_order, all());
    assert_eq!(in_order.last().map(String::as_str), Some(REQUIRED_MIGRATION));

    assert_eq!(applied(&db.raw().await).await, all());
    Migrator::down(&db.raw().await.db, Some(1)).await.unwrap();
    let refused = Store::connect(&db.service_url()).await.unwrap_err();
    assert!(
        matches!(refused, Error::Unmigrated { missing } if missing == REQUIRED_MIGRATION),
        "{refused:?}"
    );
}

async fn an_empty_database_has_everything_pending(db: TestDb) {
    let empty = empty(db.backend).await;
    for _ in 0..2 {
        let pending = Migrator::get_pending_migrations(&empty.raw.db).await.unwrap();
        let pending: Vec<&str> = pending.iter().map(|file| file.name()).collect();
        assert_eq!(pending, all());
        nothing_is_left(&empty.raw).await;
        // Looking changes nothing that the second look would see.
        Migrator::status(&empty.raw.db).await.unwrap();
    }
}

async fn down_leaves_nothing_and_up_brings_the_same_back(db: TestDb) {
    let raw = with_fixture(&db).await;
    let before = catalog::snapshot(&raw).await;
    assert!(before.len() > 30, "{before:?}");
    for _ in 0..2 {
        Migrator::down(&raw.db, None).await.unwrap();
        nothing_is_left(&raw).await;
        Migrator::up(&raw.db, None).await.unwrap();
        assert_eq!(catalog::snapshot(&raw).await, before);
        assert_eq!(applied(&raw).await, all());
    }
    Migrator::up(&raw.db, None).await.unwrap();
    assert_eq!(catalog::snapshot(&raw).await, before);
}

async fn one_step_down_reverts_the_newest_migration_alone(db: TestDb) {
    let raw = db.raw().await;
    let after_all = catalog::snapshot(&raw).await;
    let mut steps = Vec::new();
    while let Some((_, older)) = applied(&raw).await.split_last() {
        steps.push(catalog::snapshot(&raw).await);
        Migrator::down(&raw.db, Some(1)).await.unwrap();
        assert_eq!(applied(&raw).await, older);
    }
    assert_eq!(steps.len(), all().len());
    nothing_is_left(&raw).await;
    while let Some(step) = steps.pop() {
        Migrator::up(&raw.db, Some(1)).await.unwrap();
        assert_eq!(catalog::snapshot(&raw).await, step);
    }
    assert_eq!(catalog::snapshot(&raw).await, after_all);
}

async fn fresh_and_refresh_empty_a_database_in_use(db: TestDb) {
    let schema = catalog::snapshot(&db.raw().await).await;
    for way in ["fresh", "refresh"] {
        let raw = with_fixture(&db).await;
        assert_eq!(raw.number("SELECT count(*) FROM audit_logs").await, 1);
        match way {
            "fresh" => Migrator::fresh(&raw.db).await.unwrap(),
            _ => Migrator::refresh(&raw.db).await.unwrap(),
        }
        assert_eq!(catalog::snapshot(&raw).await, schema, "after {way}");
        assert_eq!(applied(&raw).await, all(), "after {way}");
        assert_eq!(raw.number("SELECT count(*) FROM audit_logs").await, 0, "after {way}");
        assert_eq!(raw.number("SELECT count(*) FROM users").await, 0, "after {way}");
    }
}

async fn reset_leaves_nothing(db: TestDb) {
    let raw = with_fixture(&db).await;
    let schema = catalog::snapshot(&raw).await;
    Migrator::reset(&raw.db).await.unwrap();
    nothing_is_left(&raw).await;
    Migrator::up(&raw.db, None).await.unwrap();
    assert_eq!(catalog::snapshot(&raw).await, schema);
}

async fn fresh_clears_away_what_is_in_its_way(db: TestDb) {
    let schema = catalog::snapshot(&db.raw().await).await;
    let empty = empty(db.backend).await;
    let mut leftovers = vec![
        "CREATE TABLE rooms (id integer PRIMARY KEY)",
        "CREATE TABLE recordings (room integer NOT NULL REFERENCES rooms (id))",
        "INSERT INTO rooms (id) VALUES (1)",
        "INSERT INTO recordings (room) VALUES (1)",
    ];
    if db.backend == Backend::Postgres {
        leftovers.extend([
            "CREATE TYPE room_status AS ENUM ('OPEN')",
            "CREATE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
            "CREATE FUNCTION attach_audit_partition(a text, b timestamptz, c timestamptz) RETURNS int LANGUAGE sql AS 'SELECT 1'",
        ]);
    }
    for sql in leftovers {
        empty.raw.execute(sql).await.unwrap();
    }
    Migrator::fresh(&empty.raw.db).await.unwrap();
    assert_eq!(catalog::snapshot(&empty.raw).await, schema);
    assert_eq!(applied(&empty.raw).await, all());
}

/// A service's own tables beside ours, one of which points at ours, and its own table of migrations.
async fn what_is_not_ours_is_never_dropped(db: TestDb) {
    let raw = with_fixture(&db).await;
    let schema = catalog::snapshot(&db.raw().await).await;
    let id = match db.backend {
        Backend::Sqlite => "BLOB",
        Backend::Postgres => "uuid",
    };
    raw.run(
        "CREATE TABLE seaql_migrations (version text); INSERT INTO seaql_migrations VALUES ('m20300101_000001_notes')",
    )
    .await;
    raw.run(&format!(
        "CREATE TABLE notes (author {id} REFERENCES users (id) ON DELETE CASCADE); INSERT INTO notes SELECT id FROM users"
    ))
    .await;
    let notes = raw.number("SELECT count(*) FROM notes").await;
    assert_ne!(notes, 0);
    let before = catalog::snapshot(&raw).await;
    for way in ["fresh", "refresh", "reset", "down"] {
        let refused = match way {
            "fresh" => Migrator::fresh(&raw.db).await,
            "refresh" => Migrator::refresh(&raw.db).await,
            "reset" => Migrator::reset(&raw.db).await,
            _ => Migrator::down(&raw.db, None).await,
        };
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("point at ours"), "{way}: {refused}");
        assert!(refused.contains("notes"), "{way}: {refused}");
        assert_eq!(catalog::snapshot(&raw).await, before, "after {way}");
        assert_eq!(applied(&raw).await, all(), "after {way}");
        assert_eq!(raw.number("SELECT count(*) FROM notes").await, notes, "after {way}");
    }
    raw.run("DROP TABLE notes; CREATE TABLE notes (author text); INSERT INTO notes VALUES ('ada')")
        .await;
    Migrator::fresh(&raw.db).await.unwrap();
    assert_eq!(raw.number("SELECT count(*) FROM users").await, 0);
    assert_eq!(raw.number("SELECT count(*) FROM notes").await, 1);
    assert_eq!(raw.number("SELECT count(*) FROM seaql_migrations").await, 1);
    raw.run("DROP TABLE notes; DROP TABLE seaql_migrations").await;
    assert_eq!(catalog::snapshot(&raw).await, schema);
}

/// Blue and green: the newer build has migrated, the older one is started again.
async fn a_database_of_a_newer_build_is_left_as_it_is(db: TestDb) {
    let raw = db.raw().await;
    raw.run("INSERT INTO conferencing_migrations (version, applied_at) VALUES ('m29990101_000001_later', 0)")
        .await;
    let schema = catalog::snapshot(&raw).await;
    let migrated = migrate(&raw.db).await.unwrap();
    assert_eq!(migrated.applied, Vec::<String>::new());
    assert_eq!(migrated.unknown, ["m29990101_000001_later"]);
    Migrator::up(&raw.db, None).await.unwrap();
    Migrator::status(&raw.db).await.unwrap();
    assert_eq!(applied(&raw).await, all());
    assert!(Migrator::get_pending_migrations(&raw.db).await.unwrap().is_empty());
    Store::connect(&db.url).await.unwrap().health().await.unwrap();
    // In a transaction of the caller's too.
    let transaction = raw.db.begin().await.unwrap();
    Migrator::up(&transaction, None).await.unwrap();
    transaction.commit().await.unwrap();
    // What lies below it is not reverted.
    for steps in [Some(1), None] {
        let refused = Migrator::down(&raw.db, steps).await.unwrap_err().to_string();
        assert!(refused.contains("m29990101_000001_later"), "{refused}");
    }
    Migrator::refresh(&raw.db).await.unwrap_err();
    Migrator::reset(&raw.db).await.unwrap_err();
    assert_eq!(catalog::snapshot(&raw).await, schema);
    // An older build that has something pending too applies it.
    let older = empty(db.backend).await;
    Migrator::up(&older.raw.db, Some(1)).await.unwrap();
    older
        .raw
        .run("INSERT INTO conferencing_migrations (version, applied_at) VALUES ('m29990101_000001_later', 0)")
        .await;
    assert_eq!(migrate(&older.raw.db).await.unwrap().applied, all()[1..]);
}

/// Something that is in the way of the base schema halfway, something that is in the way of nearly its last statement, and
/// how to be rid of each.
const OBSTACLES: &[(&str, &str)] = &[
    ("CREATE TABLE rooms (id integer)", "DROP TABLE rooms"),
    (
        "CREATE TABLE notes (id integer); CREATE INDEX ix_audit_logs_target_user ON notes (id)",
        "DROP TABLE notes",
    ),
];

async fn a_failed_way_up_leaves_nothing_behind(db: TestDb) {
    for (obstacle, riddance) in OBSTACLES {
        let Empty { raw, _folder, .. } = empty(db.backend).await;
        raw.execute(obstacle).await.unwrap();
        let before = catalog::snapshot(&raw).await;
        let failed = Migrator::up(&raw.db, None).await.unwrap_err().to_string();
        assert!(failed.contains("already exists"), "{failed}");
        assert_eq!(catalog::snapshot(&raw).await, before);
        assert_eq!(applied(&raw).await, Vec::<String>::new());

        raw.execute(riddance).await.unwrap();
        Migrator::up(&raw.db, None).await.unwrap();
        assert_eq!(catalog::snapshot(&raw).await, catalog::snapshot(&db.raw().await).await);
        assert_eq!(applied(&raw).await, all());
    }
}

/// A table of somebody else's refers to the users, who are dropped last.
async fn a_failed_way_down_leaves_everything(db: TestDb) {
    let raw = with_fixture(&db).await;
    let id = match db.backend {
        Backend::Sqlite => "BLOB",
        Backend::Postgres => "uuid",
    };
    let notes = format!("CREATE TABLE notes (author {id} REFERENCES users (id))");
    raw.execute(&notes).await.unwrap();
    raw.execute("INSERT INTO notes SELECT id FROM users").await.unwrap();
    // The base schema alone: on PostgreSQL each migration is reverted in a transaction of its own.
    let newer = u32::try_from(all().len() - 1).unwrap();
    Migrator::down(&raw.db, Some(newer)).await.unwrap();
    let before = catalog::snapshot(&raw).await;
    Migrator::down(&raw.db, None).await.unwrap_err();
    assert_eq!(catalog::snapshot(&raw).await, before);
    assert_eq!(applied(&raw).await, all()[..1]);
    assert_eq!(raw.number("SELECT count(*) FROM audit_logs").await, 1);
}

async fn a_migration_goes_with_the_transaction_of_its_caller(db: TestDb) {
    let empty = empty(db.backend).await;
    let transaction = empty.raw.db.begin().await.unwrap();
    Migrator::up(&transaction, None).await.unwrap();
    transaction.rollback().await.unwrap();
    nothing_is_left(&empty.raw).await;
    let transaction = empty.raw.db.begin().await.unwrap();
    Migrator::up(&transaction, None).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(applied(&empty.raw).await, all());
}
