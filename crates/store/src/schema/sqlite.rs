//! SQLite's catalogs, and the constraints that only the text of a table tells of.

use super::{ObjectKind, Objects};
use crate::database::statement::Query;
use entity::MIGRATION_TABLE;

/// The kind `text` is that of a table's statement, for [`checks`].
pub(super) fn query() -> Query {
    Query::new(format!(
        r#"WITH tables AS (
            SELECT name, wr, strict FROM pragma_table_list
            WHERE schema = 'main' AND type = 'table' AND substr(name, 1, 7) <> 'sqlite_' AND name <> '{MIGRATION_TABLE}'
        )
        SELECT 'table' AS kind, name, iif(strict, 'STRICT', '') || iif(wr, ' WITHOUT ROWID', '') AS definition FROM tables
        UNION ALL
        SELECT 'column', tables.name || '.' || info.name, info.type || iif(info."notnull", ' NOT NULL', '')
            || iif(info.dflt_value IS NULL, '', ' DEFAULT ' || info.dflt_value)
            || iif(info.pk, ' PRIMARY KEY ' || info.pk, '')
        FROM tables, pragma_table_xinfo(tables.name) AS info
        UNION ALL
        SELECT 'constraint', tables.name || '.' || key."from", 'REFERENCES ' || key."table" || ' (' || key."to" || ') ON DELETE '
            || key.on_delete
        FROM tables, pragma_foreign_key_list(tables.name) AS key
        UNION ALL
        SELECT type, tbl_name || '.' || name, sql FROM sqlite_master WHERE type IN ('index', 'trigger') AND sql IS NOT NULL
        UNION ALL
        SELECT 'text', name, sql FROM sqlite_master WHERE type = 'table' AND name IN (SELECT name FROM tables)"#
    ))
}

/// Each named CHECK in the statement of a table. One that lists the values of a column is those values, each by itself, as the labels of an
/// enum are: a newer build may have more of them.
pub(super) fn checks(table: &str, statement: &str) -> Objects {
    let mut objects = Objects::new();
    for part in statement.split("CONSTRAINT ").skip(1) {
        let Some((name, condition)) = part.split_once(" CHECK (") else {
            continue;
        };
        let condition = up_to_its_end(condition).trim();
        let name = format!("{table}.{}", name.trim_matches('"'));
        match condition.split_once(" IN (") {
            Some((column, values)) if values.starts_with(['\'', ' ']) && is_a_name(column) => {
                for value in values.trim_end_matches(')').split(',') {
                    let label = format!("{table}.{column}.{}", value.trim().trim_matches('\''));
                    objects.insert((ObjectKind::Label, label), String::new());
                }
                objects.insert(
                    (ObjectKind::Constraint, name),
                    format!("CHECK ({column} IN its labels)"),
                );
            }
            _ => {
                objects.insert((ObjectKind::Constraint, name), format!("CHECK ({condition})"));
            }
        }
    }
    objects
}

/// What stands before the parenthesis that closes it.
fn up_to_its_end(condition: &str) -> &str {
    let mut depth = 1;
    let end = condition.find(|letter| {
        depth += i32::from(letter == '(') - i32::from(letter == ')');
        depth == 0
    });
    &condition[..end.unwrap_or(condition.len())]
}

fn is_a_name(text: &str) -> bool {
    text.chars()
        .all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_are_taken_apart() {
        let found = checks(
            "rooms",
            "CREATE TABLE rooms (id BLOB CONSTRAINT pk_rooms PRIMARY KEY, CONSTRAINT ck_a CHECK ((a > 1) AND b), \
             CONSTRAINT ck_status CHECK (status IN ( 'LIVE', 'ENDED' )), CONSTRAINT ck_flags CHECK (c IN (0, 1)))",
        );
        let found: Vec<String> = found
            .iter()
            .map(|((kind, name), definition)| format!("{} {name} {definition}", kind.name()))
            .collect();
        assert_eq!(
            found,
            [
                "constraint rooms.ck_a CHECK ((a > 1) AND b)",
                "constraint rooms.ck_flags CHECK (c IN (0, 1))",
                "constraint rooms.ck_status CHECK (status IN its labels)",
                "label rooms.status.ENDED ",
                "label rooms.status.LIVE ",
            ]
        );
    }
}
