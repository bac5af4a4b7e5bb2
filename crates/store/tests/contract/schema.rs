//! The migrated schema is the one that the entities, the list of constraints and docs/SCHEMA.md speak of.

use std::collections::BTreeSet;

use conferencing_migration::{Migrator, MigratorTrait};
use conferencing_store::connect::{self, ConnectSettings};
use conferencing_store::constraint::{CONSTRAINTS, Meaning};
use sea_orm::DbBackend;

use crate::catalog::{self, Named};
use crate::declared::{self, Facts};
use crate::harness::{Backend, Raw, TestDb, empty_database, raw_of};

crate::cases![
    the_entities_declare_what_the_migrations_make,
    the_comparison_sees_every_kind_of_drift,
    there_are_twelve_foreign_keys_and_twenty_five_secondary_indexes,
    three_tables_are_soft_deleted,
    an_audit_row_has_no_time_of_change,
    no_column_has_a_default,
    every_name_tells_kind_and_table,
    both_backends_have_the_same_indexes,
    every_constraint_is_listed_and_every_listed_one_exists,
    the_list_says_what_each_constraint_is,
];

/// Lines on one side only, marked `+` where the database has them and `-` where the entities do.
async fn drift(raw: &Raw) -> Vec<String> {
    let (declared, made) = (
        declared::entity_facts(raw.backend()),
        catalog::database_facts(raw).await,
    );
    let missing = declared.difference(&made).map(|fact| format!("- {fact}"));
    let surplus = made.difference(&declared).map(|fact| format!("+ {fact}"));
    missing.chain(surplus).collect()
}

async fn the_entities_declare_what_the_migrations_make(db: TestDb) {
    assert_eq!(drift(&db.raw().await).await, Vec::<String>::new());
}

/// Changes by hand, one after the other, and the lines that each adds to the drift.
const POSTGRES_DRIFTS: &[(&str, &[&str])] = &[
    (
        "ALTER TABLE rooms ADD COLUMN colour text",
        &["+ rooms.colour: text, nullable"],
    ),
    (
        "ALTER TABLE rooms DROP COLUMN description",
        &["- rooms.description: text, nullable"],
    ),
    (
        "ALTER TABLE users ALTER COLUMN display_name DROP NOT NULL",
        &[
            "- users.display_name: character varying(150)",
            "+ users.display_name: character varying(150), nullable",
        ],
    ),
    (
        "ALTER TABLE recordings ALTER COLUMN codec TYPE varchar(51)",
        &[
            "- recordings.codec: character varying(50), nullable",
            "+ recordings.codec: character varying(51), nullable",
        ],
    ),
    (
        "ALTER TYPE participant_role ADD VALUE 'GUEST' BEFORE 'HOST'",
        &[
            "- type participant_role: HOST, CO_HOST, PARTICIPANT",
            "+ type participant_role: GUEST, HOST, CO_HOST, PARTICIPANT",
        ],
    ),
    (
        "ALTER TABLE recordings DROP CONSTRAINT fk_recordings_owner",
        &["- recordings.owner_id -> users.id on delete Restrict"],
    ),
    (
        "ALTER TABLE auth_providers DROP CONSTRAINT fk_auth_providers_user,
            ADD CONSTRAINT fk_auth_providers_user FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE SET NULL",
        &[
            "- auth_providers.user_id -> users.id on delete Cascade",
            "+ auth_providers.user_id -> users.id on delete SetNull",
        ],
    ),
    (
        // The key of a partitioned table has to have the time in it.
        "ALTER TABLE audit_logs DROP CONSTRAINT pk_audit_logs, ADD CONSTRAINT pk_audit_logs PRIMARY KEY (id, timestamp)",
        &[
            "- audit_logs: primary key (timestamp, id)",
            "+ audit_logs: primary key (id, timestamp)",
        ],
    ),
    (
        "CREATE TABLE notes (id uuid NOT NULL)",
        &["+ table notes", "+ notes.id: uuid"],
    ),
];

/// SQLite alters little, so most of this edits the stored statements themselves.
const SQLITE_DRIFTS: &[(&str, &[&str])] = &[
    (
        "ALTER TABLE rooms ADD COLUMN colour TEXT",
        &["+ rooms.colour: TEXT, nullable"],
    ),
    (
        "ALTER TABLE rooms DROP COLUMN description",
        &["- rooms.description: TEXT, nullable"],
    ),
    (
        "display_name TEXT NOT NULL => display_name TEXT",
        &["- users.display_name: TEXT", "+ users.display_name: TEXT, nullable"],
    ),
    (
        "length(codec) <= 50 => length(codec) <= 51",
        &["- recordings: length(codec) <= 50", "+ recordings: length(codec) <= 51"],
    ),
    (
        "role IN ('HOST', => role IN ('GUEST', 'HOST',",
        &[
            "- room_participants: role IN ('HOST', 'CO_HOST', 'PARTICIPANT')",
            "+ room_participants: role IN ('GUEST', 'HOST', 'CO_HOST', 'PARTICIPANT')",
        ],
    ),
    (
        "CONSTRAINT fk_recordings_owner REFERENCES users (id) ON DELETE RESTRICT => ",
        &["- recordings.owner_id -> users.id on delete Restrict"],
    ),
    (
        "CONSTRAINT fk_auth_providers_user REFERENCES users (id) ON DELETE CASCADE => REFERENCES users (id) ON DELETE SET NULL",
        &[
            "- auth_providers.user_id -> users.id on delete Cascade",
            "+ auth_providers.user_id -> users.id on delete SetNull",
        ],
    ),
    (
        "retry_count INTEGER NOT NULL => retry_count TEXT NOT NULL",
        &["- recordings.retry_count: INTEGER", "+ recordings.retry_count: TEXT"],
    ),
    (
        "CREATE TABLE notes (id BLOB NOT NULL)",
        &["+ table notes", "+ notes.id: BLOB"],
    ),
];

async fn the_comparison_sees_every_kind_of_drift(db: TestDb) {
    let settings = ConnectSettings {
        max_connections: Some(1),
        ..ConnectSettings::default()
    };
    let raw = Raw {
        db: connect::open(&db.url, &settings).await.unwrap(),
    };
    let drifts = match db.backend {
        Backend::Sqlite => SQLITE_DRIFTS,
        Backend::Postgres => POSTGRES_DRIFTS,
    };
    let mut expected = BTreeSet::new();
    for (change, lines) in drifts {
        match change.split_once(" => ") {
            Some((old, new)) => edit_statements(&raw, old, new).await,
            None => raw.execute(change).await.map(drop).unwrap(),
        }
        expected.extend(lines.iter().map(|line| (*line).to_owned()));
        let seen: BTreeSet<String> = drift(&raw).await.into_iter().collect();
        assert_eq!(seen, expected, "after {change}");
    }
}

/// Replaces text in the stored statements of an SQLite database.
pub async fn edit_statements(raw: &Raw, old: &str, new: &str) {
    let quoted = |text: &str| text.replace('\'', "''");
    let (old, new) = (quoted(old), quoted(new));
    let sql = format!(
        "PRAGMA writable_schema = ON;
         UPDATE sqlite_master SET sql = replace(sql, '{old}', '{new}') WHERE type = 'table';
         PRAGMA writable_schema = RESET;"
    );
    raw.execute(&sql).await.unwrap();
}

async fn count_of(raw: &Raw, kinds: &[&str]) -> usize {
    let named = catalog::named(raw).await;
    named
        .iter()
        .filter(|named| kinds.contains(&named.kind.as_str()))
        .count()
}

async fn there_are_twelve_foreign_keys_and_twenty_five_secondary_indexes(db: TestDb) {
    let raw = db.raw().await;
    assert_eq!(count_of(&raw, &["fk"]).await, 12);
    assert_eq!(count_of(&raw, &["pk"]).await, 9);
    assert!(count_of(&raw, &["uq", "ix"]).await >= 25);
}

async fn tables_with(raw: &Raw, column: &str) -> Vec<String> {
    let facts = catalog::database_facts(raw).await;
    let named = |fact: &String| {
        let (table, rest) = fact.split_once('.')?;
        rest.starts_with(&format!("{column}: ")).then(|| table.to_owned())
    };
    facts.iter().filter_map(named).collect()
}

async fn three_tables_are_soft_deleted(db: TestDb) {
    assert_eq!(
        tables_with(&db.raw().await, "deleted_at").await,
        ["recordings", "rooms", "users"]
    );
}

async fn an_audit_row_has_no_time_of_change(db: TestDb) {
    assert_eq!(
        tables_with(&db.raw().await, "updated_at").await,
        ["auth_providers", "feed_checkpoints", "recordings", "rooms", "users"]
    );
}

/// But those by which the feed finds events, which nobody else may say.
async fn no_column_has_a_default(db: TestDb) {
    let raw = db.raw().await;
    let with_default = match raw.backend() {
        DbBackend::Sqlite => {
            "SELECT format('%s.%s', tables.name, info.name)
             FROM sqlite_master AS tables, pragma_table_xinfo(tables.name) AS info
             WHERE tables.type = 'table' AND (info.dflt_value IS NOT NULL OR info.hidden <> 0)"
        }
        _ => {
            "SELECT format('%s.%s', attrelid::regclass, attname)
             FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
             WHERE relnamespace = 'public'::regnamespace AND attnum > 0 AND NOT attisdropped
                AND (atthasdef OR attidentity <> '' OR attgenerated <> '')
                AND NOT (relname LIKE 'audit_logs%' AND attname IN ('transaction', 'sequence'))"
        }
    };
    assert_eq!(raw.texts(with_default).await, Vec::<String>::new());
    raw.execute("ALTER TABLE rooms ADD COLUMN colour text DEFAULT 'red'")
        .await
        .unwrap();
    assert_eq!(raw.texts(with_default).await, ["rooms.colour"]);
}

fn misnamed(named: &[Named]) -> Vec<&Named> {
    let tells = |named: &&Named| {
        let stem = format!("{}_{}", named.kind, named.table);
        match named.name.strip_prefix(&stem) {
            Some("") => named.kind == "pk",
            Some(rest) => rest.len() > 1 && rest.starts_with('_'),
            None => false,
        }
    };
    named.iter().filter(|named| !tells(named)).collect()
}

async fn every_name_tells_kind_and_table(db: TestDb) {
    let raw = db.raw().await;
    assert_eq!(misnamed(&catalog::named(&raw).await), Vec::<&Named>::new());
    let nameless = [
        "CREATE TABLE notes (id int PRIMARY KEY)",
        "CREATE TABLE drafts (id int UNIQUE, CHECK (id > 0))",
        "CREATE INDEX rooms_title ON rooms (title)",
    ];
    for sql in nameless {
        raw.execute(sql).await.unwrap();
    }
    let named = catalog::named(&raw).await;
    let seen: BTreeSet<&str> = misnamed(&named).iter().map(|named| named.table.as_str()).collect();
    assert_eq!(seen, ["drafts", "notes", "rooms"].into());
}

/// SQLite is always at hand, so the case of PostgreSQL compares the two; SQLite's own looks at what the other would see.
async fn both_backends_have_the_same_indexes(db: TestDb) {
    let (url, _folder) = empty_database(Backend::Sqlite).await;
    let sqlite = raw_of(&url).await;
    Migrator::up(&sqlite.db, None).await.unwrap();
    let (here, mut there) = (
        catalog::index_shapes(&db.raw().await).await,
        catalog::index_shapes(&sqlite).await,
    );
    if db.backend == Backend::Postgres {
        // SQLite has a table for it.
        there.insert("ix_audit_logs_feed on audit_logs (transaction, sequence)".to_owned());
    }
    assert_eq!(here, there);
    assert!(
        here.contains("unique uq_users_email on users (an expression)"),
        "{here:?}"
    );
    assert!(
        here.contains("ix_rooms_upcoming on rooms (scheduled_start, id) where"),
        "{here:?}"
    );
}

/// The name that an error carries: SQLite has a trigger for each statement, and TRUNCATE one of its own on PostgreSQL.
fn answers_as(name: &str) -> &str {
    match name {
        "tr_audit_logs_no_update"
        | "tr_audit_logs_no_delete"
        | "tr_audit_logs_no_replace"
        | "tr_audit_logs_no_truncate" => "tr_audit_logs_immutable",
        "tr_users_no_delete" | "tr_users_no_rename" | "tr_users_no_truncate" => "tr_users_kept",
        "tr_rooms_no_delete" | "tr_rooms_no_rename" | "tr_rooms_no_truncate" => "tr_rooms_kept",
        "tr_media_nodes_no_delete" | "tr_media_nodes_no_rename" | "tr_media_nodes_no_truncate" => "tr_media_nodes_kept",
        "tr_room_participants_node_insert" | "tr_room_participants_node_update" => "tr_room_participants_node",
        "tr_auth_providers_account_insert" | "tr_auth_providers_account_update" => "tr_auth_providers_account",
        "tr_rooms_account_insert" | "tr_rooms_account_update" => "tr_rooms_account",
        "tr_recordings_account_insert" | "tr_recordings_account_update" => "tr_recordings_account",
        other => other,
    }
}

async fn every_constraint_is_listed_and_every_listed_one_exists(db: TestDb) {
    let only_on_sqlite = match db.backend {
        Backend::Sqlite => Facts::new(),
        Backend::Postgres => declared::type_check_names(),
    };
    let names = CONSTRAINTS.iter().map(|(name, _)| (*name).to_owned());
    assert_eq!(names.clone().collect::<Facts>().len(), CONSTRAINTS.len());
    let listed: Facts = names.filter(|name| !only_on_sqlite.contains(name)).collect();
    let named = catalog::named(&db.raw().await).await;
    // Triggers that refuse under the names of the rules that they hold.
    let of_rules = |name: &str| name.ends_with("_rules") || name.ends_with("_references");
    let existing = named
        .iter()
        .filter(|named| named.kind != "ix" && !of_rules(&named.name));
    let existing: Facts = existing.map(|named| answers_as(&named.name).to_owned()).collect();
    assert_eq!(listed, existing);
}

/// The columns as SQLite puts them into an error, or the index if they are expressions.
fn sqlite_text(shape: &str) -> (String, String) {
    let (name, rest) = shape.strip_prefix("unique ").unwrap().split_once(" on ").unwrap();
    let (table, columns) = rest.split_once(" (").unwrap();
    let columns: Vec<&str> = columns.split(')').next().unwrap().split(", ").collect();
    let text = if columns.contains(&"an expression") {
        format!("index '{name}'")
    } else {
        let qualified: Vec<String> = columns.iter().map(|column| format!("{table}.{column}")).collect();
        qualified.join(", ")
    };
    (name.to_owned(), text)
}

async fn the_list_says_what_each_constraint_is(db: TestDb) {
    let raw = db.raw().await;
    let shapes = catalog::index_shapes(&raw).await;
    let mut texts: Vec<(String, String)> = shapes
        .iter()
        .filter(|shape| shape.starts_with("unique "))
        .map(|shape| sqlite_text(shape))
        .collect();
    for fact in declared::entity_facts(raw.backend()) {
        if let Some((table, columns)) = fact.split_once(": primary key ") {
            texts.push(sqlite_text(&format!("unique pk_{table} on {table} {columns}")));
        }
    }
    let mut listed = Vec::new();
    for (name, meaning) in CONSTRAINTS {
        let kind = match meaning {
            Meaning::Unique { sqlite } => {
                listed.push(((*name).to_owned(), (*sqlite).to_owned()));
                name.get(..2)
                    .filter(|kind| ["pk", "uq"].contains(kind))
                    .unwrap_or("pk or uq")
            }
            Meaning::Reference => "fk",
            Meaning::Check => "ck",
            Meaning::Trigger => "tr",
        };
        assert!(name.starts_with(&format!("{kind}_")), "{name} is listed as {kind}");
    }
    let count_of_texts = listed.iter().map(|(_, text)| text).collect::<BTreeSet<_>>().len();
    assert_eq!(count_of_texts, listed.len(), "one text stands for two constraints");
    listed.sort();
    texts.sort();
    assert_eq!(listed, texts);
}
