//! The files beside `schema/mod.rs` are the migrated schema, and what a database lacks of it is told.

use std::path::PathBuf;

use conferencing_store::{SchemaDifference, Store};

use crate::harness::{Backend, Raw, TestDb, settings};
use crate::schema::edit_statements;

crate::cases![
    the_files_are_the_migrated_schema,
    what_a_newer_build_adds_is_no_difference,
    @Postgres months_come_and_go,
    everything_that_is_missing_or_different_is_told,
];

/// With WRITE_SCHEMA set the files are written anew, not compared.
async fn the_files_are_the_migrated_schema(db: TestDb) {
    let name = match db.backend {
        Backend::Postgres => "postgres.txt",
        Backend::Sqlite => "sqlite.txt",
    };
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/schema").join(name);
    let described = db.store.describe_schema().await.unwrap();
    if std::env::var_os("WRITE_SCHEMA").is_some() {
        std::fs::write(&file, &described).unwrap();
        return;
    }
    let written = std::fs::read_to_string(&file).unwrap();
    let missing: Vec<&str> = written
        .lines()
        .filter(|line| !described.lines().any(|one| one == *line))
        .collect();
    let surplus: Vec<&str> = described
        .lines()
        .filter(|line| !written.lines().any(|one| one == *line))
        .collect();
    assert!(
        missing.is_empty() && surplus.is_empty(),
        "in {name} alone: {missing:#?}\nin the database alone: {surplus:#?}\nWRITE_SCHEMA=1 writes the file anew"
    );
    assert_eq!(described, written);
    assert_eq!(db.store.check_schema().await.unwrap(), []);
}

async fn what_a_newer_build_adds_is_no_difference(db: TestDb) {
    let raw = db.raw().await;
    let more = match db.backend {
        Backend::Postgres => [
            "ALTER TYPE audit_action ADD VALUE 'ROOM_PAINTED'",
            "CREATE FUNCTION paint() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        ],
        Backend::Sqlite => ["SELECT 1"; 2],
    };
    for sql in more.into_iter().chain([
        "ALTER TABLE rooms ADD COLUMN colour text",
        "CREATE TABLE chat_messages (id integer PRIMARY KEY, text text NOT NULL, CONSTRAINT ck_chat_text CHECK (text <> ''))",
        "CREATE INDEX ix_rooms_colour ON rooms (colour)",
        "INSERT INTO conferencing_migrations VALUES ('m20990101_000001_colours', 0)",
    ]) {
        raw.run(sql).await;
    }
    if db.backend == Backend::Sqlite {
        edit_statements(&raw, "'ROOM_ENDED',", "'ROOM_ENDED', 'ROOM_PAINTED',").await;
    }
    let store = db.store_with(settings()).await;
    assert_eq!(store.check_schema().await.unwrap(), []);
}

async fn months_come_and_go(db: TestDb) {
    let raw = db.raw().await;
    for sql in [
        "SELECT attach_audit_partition('audit_logs_2040_02', '2040-02-01 00:00+00', '2040-03-01 00:00+00')",
        "ALTER TABLE audit_logs DETACH PARTITION audit_logs_before",
        "DROP TABLE audit_logs_before",
    ] {
        raw.run(sql).await;
        assert_eq!(db.store.check_schema().await.unwrap(), [], "{sql}");
    }
}

/// Changes by hand, one after the other, and what each is told as: the beginning of the sentence.
const ON_POSTGRES: &[(&str, &[&str])] = &[
    (
        "ALTER TABLE rooms DROP COLUMN description",
        &["column rooms.description is missing"],
    ),
    (
        "ALTER TABLE recordings ALTER COLUMN codec TYPE varchar(51)",
        &["column recordings.codec is `character varying(51)`, not `character varying(50)`"],
    ),
    (
        "ALTER TABLE users ALTER COLUMN display_name DROP NOT NULL",
        &["column users.display_name is `character varying(150)`, not `character varying(150) NOT NULL`"],
    ),
    (
        "ALTER TABLE users ALTER COLUMN is_active SET DEFAULT TRUE",
        &["column users.is_active is `boolean NOT NULL DEFAULT true`, not `boolean NOT NULL`"],
    ),
    (
        "ALTER TABLE audit_logs ALTER COLUMN sequence DROP DEFAULT",
        &["column audit_logs.sequence is `bigint NOT NULL`"],
    ),
    ("DROP INDEX ix_rooms_live", &["index rooms.ix_rooms_live is missing"]),
    (
        "DROP INDEX uq_rooms_room_code; CREATE INDEX uq_rooms_room_code ON rooms (room_code)",
        &["index rooms.uq_rooms_room_code is `CREATE INDEX"],
    ),
    (
        "DROP INDEX ix_audit_logs_room",
        &["index audit_logs.ix_audit_logs_room is missing"],
    ),
    (
        "UPDATE pg_index SET indisvalid = FALSE WHERE indexrelid = 'ix_rooms_owner'::regclass",
        &[
            "index rooms.ix_rooms_owner is `CREATE INDEX ix_rooms_owner ON rooms USING btree (owner_id, created_at, id) INVALID`",
        ],
    ),
    (
        "ALTER TABLE rooms DROP CONSTRAINT ck_rooms_capacity",
        &["constraint rooms.ck_rooms_capacity is missing"],
    ),
    (
        "ALTER TABLE recordings DROP CONSTRAINT fk_recordings_owner,
            ADD CONSTRAINT fk_recordings_owner FOREIGN KEY (owner_id) REFERENCES users (id) ON DELETE CASCADE",
        &[
            "constraint recordings.fk_recordings_owner is `FOREIGN KEY (owner_id) REFERENCES users(id) ON DELETE CASCADE`",
        ],
    ),
    (
        "ALTER TABLE rooms DISABLE TRIGGER tr_rooms_rules",
        &["trigger rooms.tr_rooms_rules is `CREATE TRIGGER"],
    ),
    (
        "ALTER TABLE users ENABLE TRIGGER tr_users_kept",
        &["trigger users.tr_users_kept is `CREATE TRIGGER"],
    ),
    (
        "DROP TRIGGER tr_users_rules ON users",
        &["trigger users.tr_users_rules is missing"],
    ),
    (
        "ALTER TABLE audit_logs_before DISABLE TRIGGER tr_audit_logs_no_truncate",
        &["trigger audit_logs_*.tr_audit_logs_no_truncate is `audit_logs_before: fires DISABLED`"],
    ),
    (
        "DROP TRIGGER tr_audit_logs_references ON audit_logs_before",
        &["trigger audit_logs_*.tr_audit_logs_references is `audit_logs_before: missing`"],
    ),
    (
        "CREATE OR REPLACE FUNCTION check_rooms() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        &["function check_rooms() is `"],
    ),
    (
        "ALTER FUNCTION only_by_index(uuid) COST 1",
        &["function only_by_index(row_id uuid) is `"],
    ),
    (
        "ALTER TYPE participant_role RENAME VALUE 'CO_HOST' TO 'COHOST'",
        &["label participant_role.CO_HOST is missing"],
    ),
    (
        "DROP TABLE feed_checkpoints",
        &[
            "column feed_checkpoints.consumer is missing",
            "column feed_checkpoints.position is missing",
            "column feed_checkpoints.updated_at is missing",
            "constraint feed_checkpoints.ck_feed_checkpoints_consumer is missing",
            "constraint feed_checkpoints.pk_feed_checkpoints is missing",
            "table feed_checkpoints is missing",
        ],
    ),
    (
        "ALTER SEQUENCE audit_logs_sequence INCREMENT BY 2",
        &["sequence audit_logs_sequence is `bigint, by 2`, not `bigint, by 1`"],
    ),
    (
        "ALTER TABLE audit_logs DETACH PARTITION audit_logs_default",
        &["table audit_logs default partition is missing"],
    ),
];

const ON_SQLITE: &[(&str, &[&str])] = &[
    (
        "ALTER TABLE rooms DROP COLUMN description",
        &["column rooms.description is missing"],
    ),
    (
        "retry_count INTEGER NOT NULL => retry_count TEXT NOT NULL",
        &["column recordings.retry_count is `TEXT NOT NULL`, not `INTEGER NOT NULL`"],
    ),
    (
        "display_name TEXT NOT NULL => display_name TEXT",
        &["column users.display_name is `TEXT`, not `TEXT NOT NULL`"],
    ),
    (
        "length(codec) <= 50 => length(codec) <= 51",
        &["constraint recordings.ck_recordings_lengths is `CHECK ("],
    ),
    (
        "CONSTRAINT fk_recordings_owner REFERENCES users (id) ON DELETE RESTRICT => ",
        &["constraint recordings.owner_id is missing"],
    ),
    (
        "'HOST', 'CO_HOST' => 'HOST'",
        &["label room_participants.role.CO_HOST is missing"],
    ),
    ("DROP INDEX ix_rooms_live", &["index rooms.ix_rooms_live is missing"]),
    (
        "DROP INDEX uq_rooms_room_code; CREATE INDEX uq_rooms_room_code ON rooms (room_code)",
        &["index rooms.uq_rooms_room_code is `CREATE INDEX"],
    ),
    (
        "DROP TRIGGER tr_users_no_delete",
        &["trigger users.tr_users_no_delete is missing"],
    ),
    (
        "DROP TRIGGER tr_rooms_no_delete; CREATE TRIGGER tr_rooms_no_delete BEFORE DELETE ON rooms BEGIN SELECT 1; END",
        &["trigger rooms.tr_rooms_no_delete is `CREATE TRIGGER"],
    ),
];

async fn differences(store: &Store) -> Vec<String> {
    let differences = store.check_schema().await.unwrap();
    let mut told: Vec<String> = differences.iter().map(SchemaDifference::to_string).collect();
    told.sort();
    told
}

async fn everything_that_is_missing_or_different_is_told(db: TestDb) {
    let changes = match db.backend {
        Backend::Postgres => ON_POSTGRES,
        Backend::Sqlite => ON_SQLITE,
    };
    let mut expected: Vec<&str> = Vec::new();
    for (change, told) in changes {
        let raw = db.raw().await;
        make(&raw, change).await;
        raw.db.close().await.unwrap();
        expected.extend(*told);
        expected.sort_unstable();
        // Another one: SQLite's connections know the schema that they have read.
        let store = db.store_with(settings()).await;
        let differences = differences(&store).await;
        assert_eq!(differences.len(), expected.len(), "after {change}: {differences:#?}");
        for (difference, expected) in differences.iter().zip(&expected) {
            assert!(
                difference.starts_with(expected),
                "after {change}: {difference}, not {expected}"
            );
        }
        store.close().await.unwrap();
    }
}

async fn make(raw: &Raw, change: &str) {
    match change.split_once(" => ") {
        Some((old, new)) => edit_statements(raw, old, new).await,
        None => raw.run(change).await,
    }
}
