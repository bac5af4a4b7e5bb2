//! What the doctor says of an SQLite file and of how it is opened.

use std::time::Duration;

use conferencing_store::connect::{self, ConnectSettings};
use conferencing_store::{Actor, Check, DoctorSettings, Durability, Store, StoreSettings};
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sea_orm::{ConnectOptions, Database};

use crate::doctor::{examine, grave, of, the};
use crate::harness::TestDb;
use crate::limits::soon;

crate::cases![
    @Sqlite settings_that_lose_data_are_found_in_the_file,
    @Sqlite a_database_in_memory_has_nothing_to_keep,
    @Sqlite a_damaged_file_is_found,
    @Sqlite a_broken_reference_is_found,
    @Sqlite a_trigger_that_is_another_one_is_found,
    @Sqlite what_takes_too_long_is_interrupted,
];

type Opened = fn(SqliteConnectOptions) -> SqliteConnectOptions;

async fn opened(db: &TestDb, how: Opened) -> Store {
    let mut options = ConnectOptions::new(&db.url);
    options.map_sqlx_sqlite_opts(how);
    let forgetful = StoreSettings {
        durability: Durability::AsConfigured,
        ..StoreSettings::default()
    };
    Store::from_connection(Database::connect(options).await.unwrap(), forgetful)
        .await
        .unwrap()
}

async fn settings_that_lose_data_are_found_in_the_file(db: TestDb) {
    db.store.close().await.unwrap();
    let full: Opened = |options| options.synchronous(SqliteSynchronous::Full).foreign_keys(true);
    let cases: [(Opened, Check, &str); 4] = [
        (
            |options| options.synchronous(SqliteSynchronous::Normal).foreign_keys(true),
            Check::LosesData,
            "synchronous = 1",
        ),
        (
            |options| options.synchronous(SqliteSynchronous::Full).foreign_keys(false),
            Check::ForeignKeysOff,
            "foreign_keys = 0",
        ),
        (
            |options| {
                options
                    .journal_mode(SqliteJournalMode::Delete)
                    .synchronous(SqliteSynchronous::Full)
                    .foreign_keys(true)
            },
            Check::JournalNotWal,
            "journal_mode = delete",
        ),
        (
            |options| {
                options
                    .journal_mode(SqliteJournalMode::Memory)
                    .synchronous(SqliteSynchronous::Full)
                    .foreign_keys(true)
            },
            Check::LosesData,
            "journal_mode = memory",
        ),
    ];
    for (how, check, what) in cases {
        let store = opened(&db, |options| options.journal_mode(SqliteJournalMode::Wal)).await;
        store.close().await.unwrap();
        let store = opened(&db, how).await;
        let report = examine(&store).await;
        the(&report, check, what);
        let above: Vec<Check> = report.findings.iter().map(|finding| finding.check).collect();
        assert_eq!(above, [check], "{report:#?}");
        store.close().await.unwrap();
    }
    let store = opened(&db, |options| options.journal_mode(SqliteJournalMode::Wal)).await;
    store.close().await.unwrap();
    let report = examine(&opened(&db, full).await).await;
    assert_eq!(report.findings, []);
    assert_eq!(report.worst(), None);
}

async fn a_database_in_memory_has_nothing_to_keep(_: TestDb) {
    use conferencing_migration::{Migrator, MigratorTrait};
    let memory = connect::open("sqlite::memory:", &ConnectSettings::default())
        .await
        .unwrap();
    Migrator::up(&memory, None).await.unwrap();
    let store = Store::from_connection(memory, StoreSettings::default()).await.unwrap();
    assert_eq!(examine(&store).await.findings, []);
}

async fn a_damaged_file_is_found(db: TestDb) {
    let ada = db.user("ada").await;
    db.room(&ada, 5).await;
    db.raw()
        .await
        .run("PRAGMA ignore_check_constraints = ON; UPDATE rooms SET room_code = ''; PRAGMA ignore_check_constraints = OFF")
        .await;
    the(
        &examine(&db.store).await,
        Check::FileDamaged,
        "CHECK constraint failed in rooms",
    );
}

async fn a_broken_reference_is_found(db: TestDb) {
    let ada = db.user("ada").await;
    db.room(&ada, 5).await;
    db.raw()
        .await
        .run("PRAGMA foreign_keys = OFF; UPDATE rooms SET owner_id = X'00000000000000000000000000000001'; PRAGMA foreign_keys = ON")
        .await;
    the(
        &examine(&db.store).await,
        Check::BrokenReference,
        "1 rows of rooms point at rows of users",
    );
}

async fn a_trigger_that_is_another_one_is_found(db: TestDb) {
    let raw = db.raw().await;
    raw.run(
        "DROP TRIGGER tr_rooms_no_delete; CREATE TRIGGER tr_rooms_no_delete BEFORE DELETE ON rooms BEGIN SELECT 1; END",
    )
    .await;
    let finding = the(&examine(&db.store).await, Check::TriggerOff, "rooms.tr_rooms_no_delete");
    raw.run(&finding.remedy).await;
    assert_eq!(grave(&examine(&db.store).await), Vec::<String>::new());
}

async fn what_takes_too_long_is_interrupted(db: TestDb) {
    let many =
        "INSERT INTO inbox WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 20000)
        SELECT 'test', n, '2026-01-01T00:00:00+00:00' FROM numbers";
    db.raw().await.run(many).await;
    let mut one = crate::harness::settings();
    one.connect.max_connections = Some(1);
    let store = db.store_with(one).await;
    let hurried = DoctorSettings { limit: Duration::ZERO };
    let report = soon(store.doctor_with(&hurried)).await.unwrap();
    let given_up = of(&report, Check::NotChecked);
    assert!(
        given_up.iter().any(|finding| finding.what.starts_with("the file: ")),
        "{report:#?}"
    );
    // The connection is the same one, and whoever has it next is not interrupted.
    let system = store.acting(&Actor::system("test"));
    let purged = system.inbox().purge(Duration::from_secs(1), 1_000).await.unwrap();
    assert_eq!(purged, 1_000);
    assert_eq!(examine(&store).await.findings, []);
}
