//! What a database has, as lines of text that can be compared with those of the entities (declared.rs) or of another
//! database.

use std::collections::BTreeMap;

use sea_orm::DbBackend;

use crate::declared::{Facts, type_check_names};
use crate::harness::Raw;

/// The facts that a database has.
pub async fn database_facts(raw: &Raw) -> Facts {
    let sql = match raw.backend() {
        DbBackend::Sqlite => SQLITE_FACTS,
        _ => POSTGRES_FACTS,
    };
    let mut facts: Facts = raw.texts(sql).await.into_iter().collect();
    if raw.backend() == DbBackend::Sqlite {
        let types = type_check_names();
        for (table, sql) in sqlite_tables(raw).await {
            for (name, body) in sqlite_checks(&sql) {
                if types.contains(&name) {
                    facts.extend(body.split(" AND ").map(|check| format!("{table}: {check}")));
                }
            }
        }
    }
    facts
}

/// Partitions are left out: `partitions` has them.
const POSTGRES_FACTS: &str = "
    WITH tables AS (
        SELECT oid, relname FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'f', 'v', 'm') AND relname <> 'conferencing_migrations'
            AND NOT relispartition
    )
    SELECT format('table %s', relname) FROM tables
    UNION ALL
    SELECT format('%s.%s: %s%s', relname, attname, format_type(atttypid, atttypmod),
        CASE WHEN attnotnull THEN '' ELSE ', nullable' END)
    FROM tables JOIN pg_attribute ON attrelid = tables.oid WHERE attnum > 0 AND NOT attisdropped
    UNION ALL
    SELECT format('%s: primary key (%s)', relname, (
        SELECT string_agg(attname, ', ' ORDER BY place)
        FROM unnest(conkey) WITH ORDINALITY AS key (number, place)
        JOIN pg_attribute ON attrelid = conrelid AND attnum = number))
    FROM tables JOIN pg_constraint ON conrelid = tables.oid WHERE contype = 'p'
    UNION ALL
    SELECT format('%s.%s -> %s.%s on delete %s', relname, from_column.attname, confrelid::regclass, to_column.attname,
        CASE confdeltype WHEN 'a' THEN 'NoAction' WHEN 'r' THEN 'Restrict' WHEN 'c' THEN 'Cascade'
            WHEN 'n' THEN 'SetNull' ELSE 'SetDefault' END)
    FROM tables JOIN pg_constraint ON conrelid = tables.oid
    JOIN pg_attribute AS from_column ON from_column.attrelid = conrelid AND from_column.attnum = ANY (conkey)
    JOIN pg_attribute AS to_column ON to_column.attrelid = confrelid AND to_column.attnum = ANY (confkey)
    WHERE contype = 'f'
    UNION ALL
    SELECT format('type %s: %s', typname, (
        SELECT string_agg(enumlabel, ', ' ORDER BY enumsortorder) FROM pg_enum WHERE enumtypid = pg_type.oid))
    FROM pg_type WHERE typnamespace = 'public'::regnamespace AND typtype = 'e'";

const SQLITE_FACTS: &str = r#"
    WITH tables AS (
        SELECT name, strict FROM pragma_table_list
        WHERE schema = 'main' AND name NOT LIKE 'sqlite_%' AND name NOT IN ('conferencing_migrations', 'audit_feed')
    )
    SELECT format('table %s%s', name, iif(strict, ', strict', '')) FROM tables
    UNION ALL
    SELECT format('%s.%s: %s%s', tables.name, info.name, info.type, iif(info."notnull", '', ', nullable'))
    FROM tables, pragma_table_xinfo(tables.name) AS info
    UNION ALL
    SELECT format('%s: primary key (%s)', tables.name, group_concat(info.name, ', ' ORDER BY info.pk))
    FROM tables, pragma_table_xinfo(tables.name) AS info WHERE info.pk > 0 GROUP BY tables.name
    UNION ALL
    SELECT format('%s.%s -> %s.%s on delete %s', tables.name, key."from", key."table", key."to",
        CASE key.on_delete WHEN 'NO ACTION' THEN 'NoAction' WHEN 'RESTRICT' THEN 'Restrict' WHEN 'CASCADE' THEN 'Cascade'
            WHEN 'SET NULL' THEN 'SetNull' ELSE 'SetDefault' END)
    FROM tables, pragma_foreign_key_list(tables.name) AS key"#;

/// Name and statement of each table of ours, the statement without comments, quotes and line breaks.
async fn sqlite_tables(raw: &Raw) -> Vec<(String, String)> {
    let sql = "SELECT name, sql FROM sqlite_master WHERE type = 'table' AND name NOT IN ('conferencing_migrations', 'audit_feed')";
    let tables = raw.rows(sql).await.into_iter().map(|row| {
        let (table, sql): (String, String) = (row.try_get_by("name").unwrap(), row.try_get_by("sql").unwrap());
        let lines = sql.lines().map(|line| line.split("--").next().unwrap_or_default());
        let words: Vec<&str> = lines.flat_map(str::split_whitespace).collect();
        let sql = words.join(" ").replace('"', "").replace("( ", "(").replace(" )", ")");
        (table, sql)
    });
    tables.collect()
}

/// Name and condition of each named CHECK of a `CREATE TABLE`.
fn sqlite_checks(sql: &str) -> Vec<(String, String)> {
    let mut checks = Vec::new();
    for part in sql.split("CONSTRAINT ").skip(1) {
        let Some((name, condition)) = part.split_once(" CHECK (") else {
            continue;
        };
        let mut depth = 1;
        let end = condition.find(|letter| {
            depth += i32::from(letter == '(') - i32::from(letter == ')');
            depth == 0
        });
        checks.push((name.to_owned(), condition[..end.unwrap()].to_owned()));
    }
    checks
}

/// A constraint, index or trigger. An unnamed constraint has an empty name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Named {
    /// `pk`, `fk`, `ck`, `uq` (a constraint or an index), `ix` or `tr`.
    pub kind: String,
    pub table: String,
    pub name: String,
}

/// Every constraint, index and trigger of a database, those that PostgreSQL makes for itself left out, and what SQLite has for the
/// feed: PostgreSQL has columns instead.
pub async fn named(raw: &Raw) -> Vec<Named> {
    let sql = match raw.backend() {
        DbBackend::Sqlite => SQLITE_NAMES,
        _ => POSTGRES_NAMES,
    };
    let mut named: Vec<Named> = raw
        .texts(sql)
        .await
        .iter()
        .map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            entry(words[0], words[1], words[2])
        })
        .collect();
    if raw.backend() == DbBackend::Sqlite {
        for (table, sql) in sqlite_tables(raw).await {
            let words: Vec<&str> = sql.split(' ').collect();
            for (at, word) in words.iter().enumerate() {
                let kinds = [
                    ("PRIMARY", "pk"),
                    ("REFERENCES", "fk"),
                    ("CHECK", "ck"),
                    ("UNIQUE", "uq"),
                ];
                if let Some((_, kind)) = kinds.iter().find(|(keyword, _)| word.starts_with(keyword)) {
                    let is_named = at >= 2 && words[at - 2] == "CONSTRAINT";
                    named.push(entry(kind, &table, if is_named { words[at - 1] } else { "" }));
                }
            }
        }
    }
    named.sort();
    named
}

fn entry(kind: &str, table: &str, name: &str) -> Named {
    Named {
        kind: kind.to_owned(),
        table: table.to_owned(),
        name: name.to_owned(),
    }
}

/// NOT NULL is a constraint from PostgreSQL 18 on (`n`), which nobody names. The last part finds the rules that a trigger's function
/// holds under the name of a constraint. Partitions are left out: `partitions` has them.
const POSTGRES_NAMES: &str = "
    SELECT format('%s %s %s', CASE contype WHEN 'p' THEN 'pk' WHEN 'f' THEN 'fk' WHEN 'c' THEN 'ck' ELSE 'uq' END,
        conrelid::regclass, conname)
    FROM pg_constraint JOIN pg_class ON pg_class.oid = conrelid
    WHERE connamespace = 'public'::regnamespace AND contype <> 'n' AND conrelid <> 'conferencing_migrations'::regclass
        AND NOT relispartition
    UNION ALL
    SELECT format('%s %s %s', CASE WHEN indisunique THEN 'uq' ELSE 'ix' END, indrelid::regclass, indexrelid::regclass)
    FROM pg_index JOIN pg_class ON pg_class.oid = indrelid
    WHERE relnamespace = 'public'::regnamespace AND NOT relispartition
        AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid AND contype IN ('p', 'u', 'x'))
    UNION ALL
    SELECT format('tr %s %s', tgrelid::regclass, tgname)
    FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
    WHERE relnamespace = 'public'::regnamespace AND NOT tgisinternal AND NOT relispartition
    UNION
    SELECT format('%s %s %s', left(name[1], 2), tgrelid::regclass, name[1])
    FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid JOIN pg_proc ON pg_proc.oid = tgfoid,
        regexp_matches(prosrc, '''((?:ck|fk|tr)_' || relname || '_[a-z_]+)''', 'g') AS name
    WHERE relnamespace = 'public'::regnamespace AND NOT tgisinternal AND NOT relispartition";

const SQLITE_NAMES: &str = r#"
    SELECT format('%s %s %s', iif(list."unique", 'uq', 'ix'), tables.name, list.name)
    FROM sqlite_master AS tables, pragma_index_list(tables.name) AS list
    WHERE tables.type = 'table' AND tables.name <> 'conferencing_migrations' AND list.origin <> 'pk'
    UNION ALL
    SELECT format('tr %s %s', tbl_name, name) FROM sqlite_master WHERE type = 'trigger' AND 'audit_feed' NOT IN (tbl_name, replace(name, 'tr_audit_logs_feed', 'audit_feed'))"#;

/// The shape of each index of ours: name, table, columns in order, and whether it has a condition.
pub async fn index_shapes(raw: &Raw) -> Facts {
    let sql = match raw.backend() {
        DbBackend::Sqlite => SQLITE_INDEXES,
        _ => POSTGRES_INDEXES,
    };
    raw.texts(sql).await.into_iter().collect()
}

const POSTGRES_INDEXES: &str = "
    SELECT format('%s%s on %s (%s)%s', CASE WHEN indisunique THEN 'unique ' ELSE '' END, indexrelid::regclass,
        indrelid::regclass, (
            SELECT string_agg(coalesce(attname, 'an expression'), ', ' ORDER BY place)
            FROM unnest(indkey::int2[]) WITH ORDINALITY AS key (number, place)
            LEFT JOIN pg_attribute ON attrelid = indrelid AND attnum = number AND number <> 0),
        CASE WHEN indpred IS NULL THEN '' ELSE ' where' END)
    FROM pg_index JOIN pg_class ON pg_class.oid = indrelid
    WHERE relnamespace = 'public'::regnamespace AND NOT indisprimary AND relname <> 'conferencing_migrations'
        AND NOT relispartition";

const SQLITE_INDEXES: &str = r#"
    SELECT format('%s%s on %s (%s)%s', iif(list."unique", 'unique ', ''), list.name, tables.name, (
            SELECT group_concat(coalesce(name, 'an expression'), ', ' ORDER BY seqno) FROM pragma_index_info(list.name)),
        iif(list.partial, ' where', ''))
    FROM sqlite_master AS tables, pragma_index_list(tables.name) AS list
    WHERE tables.type = 'table' AND tables.name <> 'conferencing_migrations' AND list.origin <> 'pk'"#;

/// The audit log and each of its partitions on PostgreSQL, by name: columns in order, owner, constraints, indexes and triggers, all
/// called as the audit log calls them. A partition is right if it has what the audit log has.
pub async fn partitions(raw: &Raw) -> BTreeMap<String, Facts> {
    let mut family: BTreeMap<String, Facts> = BTreeMap::new();
    for line in raw.texts(POSTGRES_PARTITIONS).await {
        let (name, fact) = line.split_once(' ').unwrap();
        family.entry(name.to_owned()).or_default().insert(fact.to_owned());
    }
    family
}

const POSTGRES_PARTITIONS: &str = "
    WITH family AS (
        SELECT oid, relname, relowner FROM pg_class
        WHERE oid = 'audit_logs'::regclass OR oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'audit_logs'::regclass)
    )
    SELECT format('%s owner %s', relname, pg_get_userbyid(relowner)) FROM family
    UNION ALL
    SELECT format('%s columns %s', relname, (
        SELECT string_agg(format('%s %s %s', attname, format_type(atttypid, atttypmod), attnotnull), ', ' ORDER BY attnum)
        FROM pg_attribute WHERE attrelid = family.oid AND attnum > 0 AND NOT attisdropped))
    FROM family
    UNION ALL
    SELECT format('%s constraint %s %s %s', relname, replace(conname, relname, 'audit_logs'),
        pg_get_constraintdef(pg_constraint.oid), convalidated)
    FROM family JOIN pg_constraint ON conrelid = family.oid WHERE contype <> 'n'
    UNION ALL
    SELECT format('%s index %s %s', relname,
        replace(replace(pg_get_indexdef(indexrelid), ' ON ONLY ', ' ON '), relname, 'audit_logs'), indisvalid)
    FROM family JOIN pg_index ON indrelid = family.oid
    UNION ALL
    SELECT format('%s trigger %s %s', relname, replace(pg_get_triggerdef(pg_trigger.oid), relname, 'audit_logs'), tgenabled)
    FROM family JOIN pg_trigger ON tgrelid = family.oid WHERE NOT tgisinternal";

/// Everything in a database that is not the table of migrations, each with its full definition.
pub async fn snapshot(raw: &Raw) -> Facts {
    let sql = match raw.backend() {
        DbBackend::Sqlite => {
            "SELECT concat_ws(' ', type, name, sql) FROM sqlite_master WHERE tbl_name <> 'conferencing_migrations'"
        }
        _ => POSTGRES_SNAPSHOT,
    };
    raw.texts(sql).await.into_iter().collect()
}

const POSTGRES_SNAPSHOT: &str = "
    WITH relations AS (
        SELECT pg_class.* FROM pg_class LEFT JOIN pg_index ON indexrelid = pg_class.oid
        WHERE relnamespace = 'public'::regnamespace
            AND coalesce(indrelid, pg_class.oid) IS DISTINCT FROM to_regclass('public.conferencing_migrations')
    )
    SELECT format('relation %s %s %s', relkind, relname, CASE
        WHEN relkind IN ('i', 'I') THEN pg_get_indexdef(oid)
        WHEN relkind = 'p' THEN pg_get_partkeydef(oid)
        WHEN relispartition THEN pg_get_expr(relpartbound, oid) END)
    FROM relations
    UNION ALL
    SELECT format('column %s.%s %s %s %s', relname, attname, format_type(atttypid, atttypmod), attnotnull, atthasdef)
    FROM relations JOIN pg_attribute ON attrelid = relations.oid WHERE attnum > 0 AND NOT attisdropped
    UNION ALL
    SELECT format('constraint %s %s %s', relname, conname, pg_get_constraintdef(pg_constraint.oid))
    FROM relations JOIN pg_constraint ON conrelid = relations.oid
    UNION ALL
    SELECT format('trigger %s %s', pg_get_triggerdef(pg_trigger.oid), tgenabled)
    FROM relations JOIN pg_trigger ON tgrelid = relations.oid WHERE NOT tgisinternal
    UNION ALL
    SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    UNION ALL
    SELECT format('type %s %s', typname, (
        SELECT string_agg(enumlabel, ', ' ORDER BY enumsortorder) FROM pg_enum WHERE enumtypid = pg_type.oid))
    FROM pg_type WHERE typnamespace = 'public'::regnamespace AND typtype IN ('e', 'd', 'r')";
