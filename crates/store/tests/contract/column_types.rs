//! Each column takes the values of its type and no others, on SQLite too, where a CHECK says what the type is.

use sea_orm::DbBackend;
use sea_orm::sea_query::{ColumnType, StringLen};

use crate::declared::{self, Column};
use crate::harness::{Backend, TestDb};
use crate::rows::{self, attempt, optional, refusal_of, required, with_fixture};

crate::cases![
    a_value_of_another_type_is_refused_in_every_column,
    every_text_takes_as_many_characters_as_it_says,
    every_column_takes_null_exactly_if_it_is_nullable,
];

/// A value that a column must not take, and the code that PostgreSQL then answers with. None if it takes any.
fn wrong_value(backend: DbBackend, table: &str, column: &Column) -> Option<(String, &'static str)> {
    let sqlite = backend == DbBackend::Sqlite;
    let either = |on_sqlite: &str, on_postgres: &str| if sqlite { on_sqlite } else { on_postgres }.to_owned();
    let (value, code) = match &column.kind {
        ColumnType::Uuid => (either("x'00'", "'00'"), "22P02"),
        ColumnType::String(StringLen::N(length)) => (format!("'{}'", "x".repeat(*length as usize + 1)), "22001"),
        // On SQLite the same time in another spelling, which would break the order of texts.
        ColumnType::TimestampWithTimeZone => {
            let right = rows::value_of(&["guest_since=~10", required(table), optional(table)], column.name);
            let respelled = rows::spelled(backend, right).replace("+00:00", "Z");
            (either(&respelled, "'soon'"), "22007")
        }
        ColumnType::JsonBinary => ("'{'".to_owned(), "22P02"),
        ColumnType::Enum { variants, .. } if variants.is_empty() => (format!("'{}'", "1".repeat(46)), "22P02"),
        ColumnType::Enum { .. } => ("'live'".to_owned(), "22P02"),
        ColumnType::Boolean => ("2".to_owned(), "42804"),
        ColumnType::Integer | ColumnType::BigInteger => ("'many'".to_owned(), "22P02"),
        _ => return None,
    };
    Some((value, code))
}

/// A row without NULL, but for a wrong status, which the rest of an ended room would not fit.
fn row_with(backend: DbBackend, table: &str, assignment: &str) -> String {
    let fill = if assignment.starts_with("status=") && table == "rooms" {
        ""
    } else if assignment.starts_with("guest_since=") {
        // A guest has nothing to sign in with.
        "deleted_at=~50; last_login_at=~20"
    } else {
        optional(table)
    };
    rows::insert(backend, table, &[required(table), fill, assignment])
}

async fn a_value_of_another_type_is_refused_in_every_column(db: TestDb) {
    let raw = with_fixture(&db).await;
    let backend = raw.backend();
    let mut tried = 0;
    for table in declared::tables() {
        for column in &table.columns {
            let Some((value, code)) = wrong_value(backend, table.name, column) else {
                continue;
            };
            let sql = row_with(backend, table.name, &format!("{}={value}", column.name));
            let refusal = refusal_of(&raw, &[], &sql).await;
            let expected = match (db.backend, declared::type_check_name(table.name, column)) {
                (Backend::Postgres, _) => {
                    assert_eq!(refusal.code, code, "{sql}: {refusal:?}");
                    continue;
                }
                (Backend::Sqlite, Some(name)) => format!("CHECK constraint failed: {name}"),
                (Backend::Sqlite, None) => {
                    format!(
                        "cannot store TEXT value in INTEGER column {}.{}",
                        table.name, column.name
                    )
                }
            };
            assert_eq!(refusal.message, expected, "{sql}");
            tried += 1;
        }
    }
    assert!(tried > 80 || db.backend == Backend::Postgres, "{tried} columns tried");
}

/// Characters, not bytes or UTF-16 units.
async fn every_text_takes_as_many_characters_as_it_says(db: TestDb) {
    let raw = with_fixture(&db).await;
    for table in declared::tables() {
        let texts = table.columns.iter().filter_map(|column| match column.kind {
            ColumnType::String(StringLen::N(length)) => {
                Some(format!("{}='{}'", column.name, "𝒳".repeat(length as usize)))
            }
            _ => None,
        });
        let texts: Vec<String> = texts.collect();
        assert!(!texts.is_empty());
        let sql = row_with(raw.backend(), table.name, &texts.join("; "));
        let rows = attempt(&raw, &[], &sql).await;
        assert_eq!(rows.unwrap_or_else(|error| panic!("{sql}: {error}")), 1);
    }
}

/// Where PostgreSQL looks for a row of which this column is NULL.
fn partition_of<'a>(table: &'a str, column: &str) -> &'a str {
    match (table, column) {
        ("audit_logs", "timestamp") => "audit_logs_default",
        ("audit_logs", _) => "audit_logs_before",
        _ => table,
    }
}

/// A row of which this column alone is NULL, or alone is not, where other columns depend on it being so.
async fn every_column_takes_null_exactly_if_it_is_nullable(db: TestDb) {
    let raw = with_fixture(&db).await;
    for table in declared::tables() {
        let bare = rows::insert(raw.backend(), table.name, &[required(table.name)]);
        assert_eq!(attempt(&raw, &[], &bare).await.unwrap(), 1);
        for column in &table.columns {
            let given = rows::value_of(&[required(table.name)], column.name);
            assert_eq!(given == "NULL", column.nullable, "{}.{}", table.name, column.name);
            if column.nullable {
                let guest = "guest_since=~10";
                let full = rows::value_of(&[guest, optional(table.name)], column.name);
                assert_ne!(full, "NULL", "{}.{}", table.name, column.name);
                continue;
            }
            let null = format!("{}=NULL", column.name);
            let sql = rows::insert(raw.backend(), table.name, &[required(table.name), &null]);
            let refusal = refusal_of(&raw, &[], &sql).await;
            let expected = match db.backend {
                Backend::Sqlite => format!("NOT NULL constraint failed: {}.{}", table.name, column.name),
                Backend::Postgres => format!(
                    "null value in column \"{}\" of relation \"{}\" violates not-null constraint",
                    column.name,
                    partition_of(table.name, column.name)
                ),
            };
            assert_eq!(refusal.message, expected, "{sql}");
        }
    }
}
