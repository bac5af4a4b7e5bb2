//! What the schema refuses by itself, and what it must let through. All SQL here goes past the store.

use conferencing_store::constraint::{CONSTRAINTS, Meaning, listed_name};
use sea_orm::DbBackend;

use crate::catalog;
use crate::declared::{self, Facts};
use crate::harness::{Backend, Raw, TestDb};
use crate::rows::{self, Refusal, Sql, attempt, refusal_of, with_fixture};
use crate::violations::{EDGES, VIOLATIONS};

crate::cases![
    every_constraint_has_a_violation,
    each_violation_is_refused_by_its_constraint,
    each_violation_is_of_its_constraint_alone,
    edges_are_let_through,
    a_status_changes_only_as_the_schema_says,
    an_audit_row_withstands_every_statement,
    deleting_a_user_takes_accounts_and_participations_along,
    deleting_a_room_takes_its_participations_along,
];

/// The statement that lifts a constraint, where the backend has one.
async fn lifting(raw: &Raw, name: &str) -> Option<String> {
    let named = catalog::named(raw).await;
    let table = match (raw.backend(), name) {
        (DbBackend::Sqlite, "tr_users_kept" | "tr_rooms_kept" | "tr_media_nodes_kept") => {
            name[3..].strip_suffix("_kept").unwrap()
        }
        (DbBackend::Sqlite, "tr_room_participants_node") => "room_participants",
        (DbBackend::Sqlite, name) if name.ends_with("_account") => name[3..].strip_suffix("_account").unwrap(),
        _ => &named.iter().find(|named| named.name == name)?.table,
    };
    if raw.backend() == DbBackend::Postgres && name.starts_with("fk_audit_logs_") {
        return Some("DROP TRIGGER tr_audit_logs_references ON audit_logs".to_owned());
    }
    // A rule of a trigger's function: the function without it.
    let refusal = format!("broken := '{name}';");
    if raw.backend() == DbBackend::Postgres {
        let functions = "SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'public'::regnamespace";
        let of_rule = raw
            .texts(functions)
            .await
            .into_iter()
            .find(|text| text.contains(&refusal));
        if let Some(text) = of_rule {
            return Some(text.replace(&refusal, "NULL;"));
        }
    }
    match (raw.backend(), &name[..2]) {
        (DbBackend::Sqlite, "tr") if name.ends_with("_kept") => Some(format!(
            "DROP TRIGGER tr_{table}_no_delete; DROP TRIGGER tr_{table}_no_rename"
        )),
        (DbBackend::Sqlite, "tr") if name == "tr_room_participants_node" || name.ends_with("_account") => {
            Some(format!("DROP TRIGGER {name}_insert; DROP TRIGGER {name}_update"))
        }
        (DbBackend::Sqlite, "tr") => Some(format!("DROP TRIGGER {name}")),
        (DbBackend::Postgres, "tr") => Some(format!("DROP TRIGGER {name} ON {table}")),
        (_, "uq") => Some(format!("DROP INDEX {name}")),
        (DbBackend::Postgres, _) => Some(format!("ALTER TABLE {table} DROP CONSTRAINT {name} CASCADE")),
        _ => None,
    }
}

/// What answers before the constraint and has to be out of its way. On SQLite a trigger sees a second row of the same key
/// before the key does.
fn in_its_way(backend: DbBackend, name: &str) -> Vec<String> {
    match (backend, name) {
        (DbBackend::Sqlite, "pk_audit_logs") => vec!["DROP TRIGGER tr_audit_logs_no_replace".to_owned()],
        _ => Vec::new(),
    }
}

fn assert_is_of(backend: DbBackend, refusal: &Refusal, name: &str, sql: &str) {
    let (_, meaning) = CONSTRAINTS.iter().find(|(listed, _)| *listed == name).unwrap();
    if backend == DbBackend::Postgres {
        let reported = refusal.constraint.as_deref().map(listed_name);
        assert_eq!(reported, Some(name), "{sql}: {refusal:?}");
        return;
    }
    let message = match meaning {
        Meaning::Unique { sqlite } => format!("UNIQUE constraint failed: {sqlite}"),
        Meaning::Check => format!("CHECK constraint failed: {name}"),
        Meaning::Reference => "FOREIGN KEY constraint failed".to_owned(),
        Meaning::Trigger => name.to_owned(),
    };
    assert_eq!(refusal.message, message, "{sql}: {refusal:?}");
}

async fn every_constraint_has_a_violation(db: TestDb) {
    let types = declared::type_check_names();
    let listed = CONSTRAINTS.iter().map(|(name, _)| (*name).to_owned());
    let listed: Facts = listed
        .filter(|name| db.backend == Backend::Sqlite || !types.contains(name))
        .collect();
    let violated = VIOLATIONS.iter().map(|(name, _)| (*name).to_owned());
    // Those of the types come from the entities, a violation for each column.
    let violated: Facts = match db.backend {
        Backend::Sqlite => violated.chain(types).collect(),
        Backend::Postgres => violated.collect(),
    };
    assert_eq!(violated, listed);
}

async fn each_violation_is_refused_by_its_constraint(db: TestDb) {
    let raw = with_fixture(&db).await;
    let backend = raw.backend();
    for (name, sql) in VIOLATIONS {
        let sql = sql.text(backend);
        let refusal = refusal_of(&raw, &in_its_way(backend, name), &sql).await;
        assert_is_of(backend, &refusal, name, &sql);
    }
}

/// Without its constraint each of them gets through. SQLite can lift indexes and triggers alone.
async fn each_violation_is_of_its_constraint_alone(db: TestDb) {
    let raw = with_fixture(&db).await;
    let mut lifted = 0;
    for (name, sql) in VIOLATIONS {
        let mut before = in_its_way(raw.backend(), name);
        if raw.backend() == DbBackend::Sqlite && *name == "tr_audit_logs_immutable" {
            let names = ["update", "delete", "replace"].map(|what| format!("DROP TRIGGER tr_audit_logs_no_{what}"));
            before.extend(names);
        } else if let Some(statement) = lifting(&raw, name).await {
            before.push(statement);
        } else {
            continue;
        }
        let sql = sql.text(raw.backend());
        let rows = attempt(&raw, &before, &sql).await;
        let rows = rows.unwrap_or_else(|error| panic!("{sql} violates more than {name}: {error}"));
        assert_ne!(rows, 0, "{sql}");
        lifted += 1;
    }
    let can_be_lifted = |name: &str| db.backend == Backend::Postgres || ["uq", "tr"].contains(&&name[..2]);
    assert_eq!(
        lifted,
        VIOLATIONS.iter().filter(|(name, _)| can_be_lifted(name)).count()
    );
}

async fn edges_are_let_through(db: TestDb) {
    let raw = with_fixture(&db).await;
    for sql in EDGES {
        let sql = sql.text(raw.backend());
        let rows = attempt(&raw, &[], &sql).await;
        assert_eq!(rows.unwrap_or_else(|error| panic!("{sql}: {error}")), 1, "{sql}");
    }
}

const ROOM_STATUSES: &[(&str, &str)] = &[
    ("CREATED", "started_at=NULL; ended_at=NULL; duration_seconds=NULL"),
    ("LIVE", "started_at=~10; ended_at=NULL; duration_seconds=NULL"),
    ("ENDED", "started_at=~10; ended_at=~20; duration_seconds=10"),
    ("CANCELLED", "started_at=NULL; ended_at=NULL; duration_seconds=NULL"),
];

const ROOM_CHANGES: &[(&str, &[&str])] = &[("CREATED", &["LIVE", "CANCELLED"]), ("LIVE", &["ENDED"])];

const RECORDING_STATUSES: &[(&str, &str)] = &[
    ("STARTED", "stopped_at=NULL; error_message=NULL"),
    ("IN_PROGRESS", "stopped_at=NULL; error_message=NULL"),
    ("STOPPED", "stopped_at=~20; error_message=NULL"),
    ("FAILED", "stopped_at=NULL; error_message='disk full'"),
    ("PROCESSING", "stopped_at=~20; error_message=NULL"),
    ("READY", "stopped_at=~20; error_message=NULL"),
];

const RECORDING_CHANGES: &[(&str, &[&str])] = &[
    ("STARTED", &["IN_PROGRESS", "STOPPED", "FAILED"]),
    ("IN_PROGRESS", &["STOPPED", "FAILED"]),
    ("STOPPED", &["PROCESSING", "FAILED"]),
    ("PROCESSING", &["READY", "FAILED"]),
    ("FAILED", &["PROCESSING"]),
];

/// Every pair of statuses, each row otherwise as its status wants it.
async fn a_status_changes_only_as_the_schema_says(db: TestDb) {
    let raw = with_fixture(&db).await;
    let tables = [
        ("rooms", ROOM_STATUSES, ROOM_CHANGES),
        ("recordings", RECORDING_STATUSES, RECORDING_CHANGES),
    ];
    for (table, statuses, changes) in tables {
        for (from, values) in statuses {
            let status = format!("status='{from}'");
            let row = rows::insert(raw.backend(), table, &[rows::required(table), &status, values]);
            for (to, values) in statuses {
                let values = values.replace("; ", ", ");
                let sql = format!("UPDATE {table} SET status='{to}', {values} WHERE id = #new");
                let sql = rows::spelled(raw.backend(), &sql);
                let changed = attempt(&raw, std::slice::from_ref(&row), &sql).await;
                let may = from == to || changes.iter().any(|(begin, ends)| begin == from && ends.contains(to));
                match changed {
                    Ok(changed) => assert!(may && changed == 1, "{table} went from {from} to {to}"),
                    Err(error) => {
                        assert!(!may, "{table} cannot go from {from} to {to}: {error}");
                        let name = format!("tr_{table}_status");
                        assert_is_of(raw.backend(), &Refusal::of(&error), &name, &sql);
                    }
                }
            }
        }
    }
}

async fn an_audit_row_withstands_every_statement(db: TestDb) {
    let raw = with_fixture(&db).await;
    let again = rows::insert(
        raw.backend(),
        "audit_logs",
        &[rows::required("audit_logs"), "id=#entry"],
    );
    let upsert = format!("{again} ON CONFLICT (id, timestamp) DO UPDATE SET user_agent = 'y'");
    let mut statements = vec![
        ("", "UPDATE audit_logs SET user_agent = 'y'"),
        ("", "UPDATE audit_logs SET id = id"),
        ("", "DELETE FROM audit_logs"),
        ("", &upsert),
    ];
    statements.extend(match db.backend {
        Backend::Sqlite => vec![
            ("", "INSERT OR REPLACE INTO audit_logs SELECT * FROM audit_logs"),
            ("", "INSERT OR IGNORE INTO audit_logs SELECT * FROM audit_logs"),
            ("", "UPDATE OR REPLACE audit_logs SET user_agent = 'y'"),
            (
                "PRAGMA recursive_triggers = ON",
                "REPLACE INTO audit_logs SELECT * FROM audit_logs",
            ),
            ("PRAGMA ignore_check_constraints = ON", "DELETE FROM audit_logs"),
            ("", "UPDATE audit_feed SET sequence = sequence + 1"),
            ("", "DELETE FROM audit_feed"),
            ("", "INSERT OR REPLACE INTO audit_feed SELECT * FROM audit_feed"),
        ],
        Backend::Postgres => vec![
            ("", "TRUNCATE audit_logs"),
            ("SET LOCAL session_replication_role = replica", "DELETE FROM audit_logs"),
            (
                "SET LOCAL session_replication_role = replica",
                "UPDATE audit_logs SET user_agent = 'y'",
            ),
            ("SET LOCAL session_replication_role = replica", "TRUNCATE audit_logs"),
        ],
    });
    for (before, sql) in statements {
        let before: Vec<String> = Some(before.to_owned())
            .filter(|sql| !sql.is_empty())
            .into_iter()
            .collect();
        let refusal = refusal_of(&raw, &before, sql).await;
        assert_is_of(raw.backend(), &refusal, "tr_audit_logs_immutable", sql);
    }
}

async fn count(raw: &Raw, table: &str, condition: &str) -> i64 {
    let sql = format!("SELECT count(*) FROM {table} WHERE {condition}");
    raw.number(&rows::spelled(raw.backend(), &sql)).await
}

async fn delete(raw: &Raw, table: &str, id: &str) {
    // Past the triggers that keep every row of these, see `VIOLATIONS`.
    let unlock = match raw.backend() {
        DbBackend::Sqlite => format!("DROP TRIGGER tr_{table}_no_delete"),
        _ => format!("ALTER TABLE {table} DISABLE TRIGGER tr_{table}_kept"),
    };
    raw.run(&unlock).await;
    let sql = rows::spelled(raw.backend(), &format!("DELETE FROM {table} WHERE id = {id}"));
    assert_eq!(raw.execute(&sql).await.unwrap().rows_affected(), 1);
}

async fn deleting_a_user_takes_accounts_and_participations_along(db: TestDb) {
    let raw = with_fixture(&db).await;
    let account = Sql::Full("auth_providers", "user_id=#dan").text(raw.backend());
    raw.execute(&account).await.unwrap();
    delete(&raw, "users", "#dan").await;
    assert_eq!(count(&raw, "auth_providers", "user_id = #dan").await, 0);
    assert_eq!(count(&raw, "auth_providers", "user_id = #ada").await, 1);
    assert_eq!(count(&raw, "room_participants", "user_id = #dan").await, 0);
    assert_eq!(count(&raw, "room_participants", "room_id = #live").await, 2);
}

async fn deleting_a_room_takes_its_participations_along(db: TestDb) {
    let raw = with_fixture(&db).await;
    let elsewhere = Sql::Bare("room_participants", "").text(raw.backend());
    raw.execute(&elsewhere).await.unwrap();
    delete(&raw, "rooms", "#live").await;
    assert_eq!(count(&raw, "room_participants", "room_id = #live").await, 0);
    assert_eq!(count(&raw, "room_participants", "room_id = #plain").await, 1);
    assert_eq!(count(&raw, "users", "id = #ben").await, 1);
}
