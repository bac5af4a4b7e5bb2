//! Opening a database: what can be wrong with it, and what an error about it may tell.

use std::time::Duration;

use conferencing_migration::{Migrator, MigratorTrait};
use conferencing_store::connect::{self, ConnectSettings};
use conferencing_store::entity::Secret;
use conferencing_store::{Actor, Error, REQUIRED_MIGRATION, ReplicaSettings, Store, StoreSettings};
use sea_orm::{ConnectionTrait, DbBackend, Statement, TransactionTrait};

use crate::harness::{Backend, TestDb, empty_database, settings};
use crate::through::as_service;
use crate::users::new_user;

crate::cases![
    an_unmigrated_database_is_told_by_the_missing_migration,
    an_address_of_another_kind_is_refused,
    @Postgres a_server_that_does_not_answer_is_unreachable_and_no_password_told,
    a_database_that_does_not_exist_is_unreachable,
    a_closed_store_says_so,
    an_unknown_parameter_is_refused_by_its_name,
    addresses_of_replicas_are_looked_at_when_a_store_is_made,
    @Postgres an_address_sets_what_it_says,
    the_document_has_every_setting,
    @Sqlite a_database_in_memory_lives_as_long_as_its_store,
    @Sqlite an_sqlite_file_keeps_what_was_committed_and_checks_references,
];

async fn an_unmigrated_database_is_told_by_the_missing_migration(db: TestDb) {
    let (url, _folder) = empty_database(db.backend).await;
    for sql in [
        "",
        // A service's own migrations.
        "CREATE TABLE seaql_migrations (version varchar(255) PRIMARY KEY, applied_at bigint);
         INSERT INTO seaql_migrations VALUES ('m20200101_000001_other', 0)",
        // Others of ours.
        "CREATE TABLE conferencing_migrations (version varchar(255) PRIMARY KEY, applied_at bigint);
         INSERT INTO conferencing_migrations VALUES ('m20200101_000001_other', 0)",
    ] {
        if !sql.is_empty() {
            let pool = connect::open(&as_service(&url), &ConnectSettings::default())
                .await
                .unwrap();
            pool.execute_unprepared(sql).await.unwrap();
        }
        let error = Store::connect(&as_service(&url)).await.unwrap_err();
        assert!(
            matches!(error, Error::Unmigrated { missing } if missing == REQUIRED_MIGRATION),
            "{error:?}"
        );
        assert!(!error.is_retryable());
        assert!(error.to_string().contains(REQUIRED_MIGRATION));
    }
    let (url, _folder) = empty_database(db.backend).await;
    let pool = connect::open(&as_service(&url), &ConnectSettings::default())
        .await
        .unwrap();
    Migrator::up(&pool, None).await.unwrap();
    Store::connect(&as_service(&url)).await.unwrap();
}

const PASSWORDS: [&str; 2] = ["hunter2", "tr0ub4dor"];

fn assert_no_password(error: &Error) {
    let text = format!("{error} {error:?} {:?}", std::error::Error::source(error));
    for password in PASSWORDS {
        assert!(!text.contains(password), "{text}");
    }
}

async fn an_address_of_another_kind_is_refused(_: TestDb) {
    for url in [
        "",
        "meeting.sqlite",
        "mysql://ada:hunter2@db.example/meet",
        "postgre://ada:hunter2@db.example/meet",
        "POSTGRES//ada:hunter2@db.example/meet",
        "http://ada:hunter2@db.example",
        "postgres://ada:hunter2@db.example:port/meet",
        "postgres://ada:hunter2@db.example:99999/meet",
        "postgres://ada:hunter2@[::1/meet",
        "postgres://ada:hunter2@db.example/meet?sslmode=tr0ub4dor",
    ] {
        let error = Store::connect(url).await.unwrap_err();
        assert!(matches!(error, Error::Address { .. }), "{url}: {error:?}");
        assert!(!error.is_retryable());
        assert_no_password(&error);
    }
}

fn impatient() -> StoreSettings {
    StoreSettings {
        connect: ConnectSettings {
            acquire_timeout: Duration::from_millis(500),
            ..ConnectSettings::default()
        },
        ..settings()
    }
}

async fn a_server_that_does_not_answer_is_unreachable_and_no_password_told(_: TestDb) {
    // One address where nobody listens, and one where somebody listens who never says a word.
    let port = || async { tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap() };
    let (closed, mute) = (port().await, port().await);
    let place = closed.local_addr().unwrap();
    drop(closed);
    for place in [place, mute.local_addr().unwrap()] {
        for url in [
            format!("postgres://ada:hunter2@{place}/meet"),
            format!("postgres://ada:hunter2@tr0ub4dor@{place}/meet"),
            format!("postgres://{place}/meet?user=ada&password=hunter2"),
            format!("postgresql://ada:hunter2@{place}/meet?application_name=tr0ub4dor"),
        ] {
            let error = Store::connect_with(&url, impatient()).await.unwrap_err();
            match &error {
                Error::Unreachable { server, .. } => {
                    assert!(server.ends_with(&format!("{place}/meet")), "{server}");
                    assert!(!server.contains("ada"), "{server}");
                }
                other => panic!("{url}: {other:?}"),
            }
            assert!(error.is_retryable());
            assert_no_password(&error);
        }
    }
}

async fn a_database_that_does_not_exist_is_unreachable(db: TestDb) {
    let folder = tempfile::tempdir().unwrap();
    let urls = match db.backend {
        Backend::Postgres => {
            let address = db.service_url();
            let (server, name) = address.rsplit_once('/').unwrap();
            let (_, parameters) = name.split_once('?').unwrap_or((name, ""));
            vec![format!("{server}/no_such_database?{parameters}")]
        }
        Backend::Sqlite => vec![
            // Not to be made, and in a folder that is not there.
            format!("sqlite://{}/missing.sqlite", folder.path().display()),
            format!("sqlite://{}/missing/missing.sqlite?mode=rwc", folder.path().display()),
        ],
    };
    for url in urls {
        let error = Store::connect_with(&url, impatient()).await.unwrap_err();
        assert!(matches!(error, Error::Unreachable { .. }), "{url}: {error:?}");
    }
}

async fn an_unknown_parameter_is_refused_by_its_name(db: TestDb) {
    let address = db.service_url();
    let separator = if address.contains('?') { '&' } else { '?' };
    let postgres_only = db.backend == Backend::Sqlite;
    for (parameter, told) in [
        ("pool_size=hunter2", "pool_size"),
        ("lock_timout=hunter2", "lock_timout"),
        ("max_connections=hunter2", "max_connections"),
        ("acquire_timeout=0", "acquire_timeout"),
        ("idle_timeout=30", "idle_timeout"),
        ("lock_timeout=hunter2", "lock_timeout"),
        ("options=-c%20hunter2", "options"),
    ] {
        let error = Store::connect(&format!("{address}{separator}{parameter}"))
            .await
            .unwrap_err();
        assert!(matches!(error, Error::Address { .. }), "{error:?}");
        assert!(error.to_string().contains(told), "{error}");
        assert_no_password(&error);
    }
    let limited = Store::connect(&format!("{address}{separator}lock_timeout=1s")).await;
    assert_eq!(limited.is_err(), postgres_only, "{limited:?}");
}

async fn an_address_sets_what_it_says(db: TestDb) {
    let separator = if db.url.contains('?') { '&' } else { '?' };
    let parameters = "max_connections=3&lock_timeout=7s&statement_timeout=2min&application_name=meet-signaling";
    let pool = connect::open(
        &format!("{}{separator}{parameters}", db.url),
        &ConnectSettings::default(),
    )
    .await
    .unwrap();
    assert_eq!(pool.get_postgres_connection_pool().options().get_max_connections(), 3);
    for (name, expected) in [
        ("lock_timeout", "7s"),
        ("statement_timeout", "2min"),
        ("application_name", "meet-signaling"),
        ("client_min_messages", "error"),
        ("extra_float_digits", "1"),
    ] {
        let sql = format!("SELECT current_setting('{name}')");
        let row = pool
            .query_one_raw(Statement::from_string(DbBackend::Postgres, sql))
            .await
            .unwrap()
            .unwrap();
        let set: String = row.try_get_by_index(0).unwrap();
        assert_eq!(set, expected, "{name}");
    }
}

async fn the_document_has_every_setting(_: TestDb) {
    let document = include_str!("../../../../docs/CONFIGURATION.md");
    let rows: Vec<&str> = document.lines().filter(|line| line.starts_with("| `")).collect();
    let names: Vec<String> = connect::PARAMETERS
        .iter()
        .map(|one| format!("| `{}` | `{}` |", one.name, one.variable()))
        .chain(ReplicaSettings::VARIABLES.map(|variable| format!("| `{variable}` |")))
        .collect();
    for name in &names {
        assert!(
            rows.iter().any(|row| row.starts_with(name)),
            "{name} is not in the document"
        );
    }
    for row in rows {
        assert!(names.iter().any(|name| row.starts_with(name)), "{row} is no setting");
    }
}

async fn a_closed_store_says_so(db: TestDb) {
    let ada = db.user("ada").await;
    let clone = db.store.clone();
    db.store.close().await.unwrap();
    let system = Actor::system("test");
    let outcomes = [
        clone.users().find(ada.id).await.map(drop),
        clone.begin(&system).await.map(drop),
        clone
            .acting(&system)
            .users()
            .register(new_user("ben", None))
            .await
            .map(drop),
    ];
    for outcome in outcomes {
        assert!(matches!(outcome, Err(Error::Transient { .. })), "{outcome:?}");
    }
    let raw = db.raw().await;
    assert_eq!(raw.number("SELECT count(*) FROM users").await, 1);
}

async fn a_database_in_memory_lives_as_long_as_its_store(_: TestDb) {
    let pool = connect::open("sqlite::memory:", &ConnectSettings::default())
        .await
        .unwrap();
    Migrator::up(&pool, None).await.unwrap();
    let store = Store::from_connection(pool, settings()).await.unwrap();
    let tasks = (0..32).map(|number| {
        let acting = store.acting(&Actor::anonymous());
        async move { acting.users().register(new_user(&format!("guest{number}"), None)).await }
    });
    for user in crate::harness::race(tasks.collect::<Vec<_>>()).await {
        let user = user.unwrap();
        assert_eq!(store.users().find(user.id).await.unwrap(), Some(user));
    }
    // Another one in memory is another database.
    let error = Store::connect("sqlite::memory:").await.unwrap_err();
    assert!(matches!(error, Error::Unmigrated { .. }), "{error:?}");
}

async fn an_sqlite_file_keeps_what_was_committed_and_checks_references(db: TestDb) {
    let pool = connect::open(&db.url, &ConnectSettings::default()).await.unwrap();
    // All connections of the pool at once, so that each is asked.
    let mut connections = Vec::new();
    for _ in 0..5 {
        connections.push(pool.begin().await.unwrap());
    }
    for connection in &connections {
        for (pragma, value) in [("journal_mode", "wal"), ("synchronous", "2"), ("foreign_keys", "1")] {
            let sql = format!("SELECT CAST({pragma} AS text) FROM pragma_{pragma}()");
            let statement = Statement::from_string(DbBackend::Sqlite, sql);
            let row = connection.query_one_raw(statement).await.unwrap().unwrap();
            let found: String = row.try_get_by_index(0).unwrap();
            assert_eq!(found, value, "{pragma}");
        }
    }
}

/// Whether anybody answers there is seen later: a replica that is away keeps no store from opening.
async fn addresses_of_replicas_are_looked_at_when_a_store_is_made(db: TestDb) {
    let with = |address: &str| {
        let replicas = ReplicaSettings {
            addresses: vec![Secret::new(address)],
            ..ReplicaSettings::default()
        };
        let url = db.service_url();
        async move { Store::connect_with(&url, StoreSettings { replicas, ..settings() }).await }
    };
    for address in [
        "postgres://meet:hunter2@a.example,b.example/meet",
        "postgres://meet:hunter2@a.example/meet?hunter3=1",
        "sqlite://replica.sqlite",
    ] {
        let refused = with(address).await;
        let Err(error @ Error::Address { .. }) = refused else {
            panic!("{address}: {refused:?}");
        };
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
    let away = with("postgres://meet:hunter2@127.0.0.1:1/meet").await;
    if db.backend == Backend::Sqlite {
        assert!(matches!(away, Err(Error::Address { .. })), "{away:?}");
        return;
    }
    let store = away.unwrap();
    assert_eq!(store.replica_status()[0].server, "127.0.0.1:1");
    // The primary answers.
    let user = db.user("somebody").await;
    let token = store.commit_token().await.unwrap();
    let found = store.replica_reads().after(token).users().get(user.id).await;
    assert_eq!(found.unwrap().id, user.id);
    store.close().await.unwrap();
}
