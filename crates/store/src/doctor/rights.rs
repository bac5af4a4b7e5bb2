//! Rights that the session's role has too many or too few. docs/sql/grants.sql is what it needs; a test holds the two equal.

use std::collections::BTreeMap;

use super::{Check, Examined, Finding};
use crate::database::statement::Query;
use crate::error::Result;
use crate::schema::home;
use entity::MIGRATION_TABLE;

/// What the store needs on each table, the table of migrations left out, of which it needs SELECT.
const TABLES: &[(&str, &[&str])] = &[
    ("users", &["SELECT", "INSERT", "UPDATE"]),
    ("rooms", &["SELECT", "INSERT", "UPDATE"]),
    ("room_participants", &["SELECT", "INSERT", "UPDATE"]),
    ("media_nodes", &["SELECT", "INSERT", "UPDATE"]),
    ("recordings", &["SELECT", "INSERT", "UPDATE"]),
    ("auth_providers", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("inbox", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("feed_checkpoints", &["SELECT", "INSERT", "UPDATE"]),
    ("audit_logs", &["SELECT", "INSERT"]),
];
const SEQUENCES: &[(&str, &str)] = &[("audit_logs_sequence", "USAGE")];
const FUNCTIONS: &[(&str, &str)] = &[("only_by_index(uuid)", "EXECUTE")];

/// What one may be allowed on a table.
const OF_TABLES: [&str; 6] = ["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "TRIGGER"];

/// The role and what it is. Who may grant itself the owner's role is as good as a superuser.
pub(super) fn role() -> Query {
    let (home, tables) = (home(), table_names());
    Query::new(format!(
        "SELECT CAST(rolname AS text) AS role, rolsuper OR rolcreaterole OR rolreplication AS is_mighty, EXISTS (
            SELECT FROM pg_class WHERE relnamespace = {home} AND relname IN ({tables})
                AND pg_has_role(current_user, relowner, 'MEMBER')) AS is_owner
        FROM pg_roles WHERE rolname = current_user"
    ))
}

fn table_names() -> String {
    let names = TABLES.iter().map(|(table, _)| format!("'{table}'"));
    names.collect::<Vec<_>>().join(", ")
}

/// Every right that is missing or too much: `object`, as GRANT names it, `privilege`, `is_needed`. A right on some column alone is one too
/// many, and none that would do.
pub(super) fn query() -> Query {
    let home = home();
    let needs = |table: &str| -> &'static [&'static str] {
        let found = TABLES.iter().find(|(name, _)| *name == table);
        found.map_or(&["SELECT"], |(_, needed)| needed)
    };
    let tables = TABLES.iter().map(|(table, _)| *table).chain([MIGRATION_TABLE]);
    let of_tables = tables.flat_map(|table| {
        let needed = needs(table);
        OF_TABLES.map(|privilege| format!("('{table}', '{privilege}', {})", needed.contains(&privilege)))
    });
    let of_tables = of_tables.collect::<Vec<_>>().join(", ");
    let privileges = OF_TABLES.map(|privilege| format!("('{privilege}')")).join(", ");
    let listed = |list: &[(&str, &str)]| {
        let list = list
            .iter()
            .map(|(object, privilege)| format!("('{object}', '{privilege}')"));
        list.collect::<Vec<_>>().join(", ")
    };
    let (sequences, functions) = (listed(SEQUENCES), listed(FUNCTIONS));
    Query::new(format!(
        "WITH held AS (
            SELECT name AS object, privilege, is_needed, CASE
                WHEN is_needed OR privilege NOT IN ('SELECT', 'INSERT', 'UPDATE')
                    THEN has_table_privilege(CAST(to_regclass(name) AS oid), privilege)
                ELSE has_any_column_privilege(CAST(to_regclass(name) AS oid), privilege) END AS is_held
            FROM (VALUES {of_tables}) AS wanted(name, privilege, is_needed)
            UNION ALL
            SELECT CAST(relname AS text), privilege, FALSE, CASE WHEN privilege IN ('SELECT', 'INSERT', 'UPDATE')
                THEN has_any_column_privilege(pg_class.oid, privilege) ELSE has_table_privilege(pg_class.oid, privilege) END
            FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid, (VALUES {privileges}) AS of_tables(privilege)
            WHERE inhparent = to_regclass('audit_logs')
            UNION ALL
            SELECT 'SEQUENCE ' || name, privilege, TRUE, has_sequence_privilege(CAST(to_regclass(name) AS oid), privilege)
            FROM (VALUES {sequences}) AS wanted(name, privilege)
            UNION ALL
            SELECT 'FUNCTION ' || name, privilege, TRUE, has_function_privilege(CAST(to_regprocedure(name) AS oid), privilege)
            FROM (VALUES {functions}) AS wanted(name, privilege)
            UNION ALL
            SELECT 'SCHEMA ' || quote_ident(nspname), privilege, is_needed, has_schema_privilege(pg_namespace.oid, privilege)
            FROM pg_namespace, (VALUES ('USAGE', TRUE), ('CREATE', FALSE)) AS wanted(privilege, is_needed)
            WHERE pg_namespace.oid = {home}
        )
        -- Null of what is not there, which is no matter of rights.
        SELECT object, privilege, is_needed FROM held WHERE is_held <> is_needed ORDER BY object, privilege"
    ))
}

pub(super) async fn check(examined: &Examined<'_>) -> Result<Vec<Finding>> {
    let roles: Vec<(String, bool, bool)> = examined
        .read(&role(), |cells| {
            Ok((cells.next("role")?, cells.next("is_mighty")?, cells.next("is_owner")?))
        })
        .await?;
    let Some((role, is_mighty, is_owner)) = roles.first() else {
        return Ok(Vec::new());
    };
    // Such a role has every right there is.
    if *is_mighty {
        let what = format!("the role {role} is a superuser, or has CREATEROLE or REPLICATION");
        return Ok(vec![Finding::of(Check::Superuser, what)]);
    }
    if *is_owner {
        let what = format!("the role {role} owns tables, or may act as their owner");
        return Ok(vec![Finding::of(Check::OwnsTables, what)]);
    }
    let rights: Vec<(String, String, bool)> = examined
        .read(&query(), |cells| {
            Ok((
                cells.next("object")?,
                cells.next("privilege")?,
                cells.next("is_needed")?,
            ))
        })
        .await?;
    let mut by_object: BTreeMap<(bool, &str), Vec<&str>> = BTreeMap::new();
    for (object, privilege, is_needed) in &rights {
        by_object.entry((*is_needed, object)).or_default().push(privilege);
    }
    let finding = |((is_needed, object), privileges): ((bool, &str), Vec<&str>)| {
        let privileges = privileges.join(", ");
        let (check, what) = if is_needed {
            (
                Check::RightsMissing,
                format!("the role {role} lacks {privileges} on {object}"),
            )
        } else {
            (
                Check::RightsTooMany,
                format!("the role {role} has {privileges} on {object}"),
            )
        };
        Finding::of(check, what)
            .with("rights", &privileges)
            .with("object", object)
            .with("role", role)
    };
    Ok(by_object.into_iter().map(finding).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Object and right of each GRANT to the application.
    fn granted() -> BTreeSet<(String, String)> {
        let file = include_str!("../../../../docs/sql/grants.sql");
        let lines = file.lines().filter(|line| !line.starts_with("--"));
        let text = lines.collect::<Vec<_>>().join(" ");
        let mut granted = BTreeSet::new();
        for statement in text.split(';').map(str::trim) {
            let Some((grant, to)) = statement
                .strip_prefix("GRANT ")
                .and_then(|grant| grant.split_once(" TO "))
            else {
                continue;
            };
            if !to.contains("meet_app") {
                continue;
            }
            let (privileges, objects) = grant.split_once(" ON ").unwrap();
            for object in objects.split(", ") {
                granted.extend(
                    privileges
                        .split(", ")
                        .map(|privilege| (object.to_owned(), privilege.to_owned())),
                );
            }
        }
        granted
    }

    #[test]
    fn what_the_store_needs_is_what_is_granted() {
        let mut needed = BTreeSet::new();
        let mut need = |object: &str, privilege: &str| needed.insert((object.to_owned(), privilege.to_owned()));
        for (table, privileges) in TABLES {
            for privilege in *privileges {
                need(table, privilege);
            }
        }
        need(MIGRATION_TABLE, "SELECT");
        need("SCHEMA public", "USAGE");
        for (sequence, privilege) in SEQUENCES {
            need(&format!("SEQUENCE {sequence}"), privilege);
        }
        for (function, privilege) in FUNCTIONS {
            need(&format!("FUNCTION {function}"), privilege);
        }
        assert_eq!(needed, granted());
    }
}
