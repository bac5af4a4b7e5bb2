//! Statements about the audit log's partitions. PostgreSQL alone has any; whoever runs those that change something must own the tables.

use chrono::{DateTime, Utc};
use entity::audit_log;

use crate::database::Dialect;
use crate::database::statement::Query;
use crate::page::Place;
use crate::read::behind;

/// How long a lock is waited for before giving way and trying again: everybody else queues behind it. Three of these are less than
/// `deadlock_timeout`, so that it is never somebody else's statement that is given up.
pub(crate) const LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '200ms'";

/// All partitions, and the tables that were partitions and have not been exported yet, by their times. A detached table has its times in
/// its comment.
pub(crate) fn list() -> Query {
    Query::new(
        r"WITH attached AS (
            SELECT inhrelid AS id, pg_get_expr(relpartbound, inhrelid) AS bounds
            FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid WHERE inhparent = to_regclass('audit_logs')
        ), detached AS (
            SELECT pg_class.oid AS id, string_to_array(obj_description(pg_class.oid, 'pg_class'), '/') AS times
            FROM pg_class WHERE relkind = 'r' AND relname ~ '^audit_logs_detached_' AND relnamespace = (
                SELECT relnamespace FROM pg_class WHERE oid = to_regclass('audit_logs'))
        ), found AS (
            SELECT id, CASE bounds WHEN 'DEFAULT' THEN 'default' ELSE 'attached' END AS state,
                CAST(substring(bounds FROM 'FROM \(''([^'']+)''\)') AS timestamptz) AS since,
                CAST(substring(bounds FROM 'TO \(''([^'']+)''\)') AS timestamptz) AS until
            FROM attached
            UNION ALL
            SELECT id, 'detached', CAST(NULLIF(times[1], '') AS timestamptz), CAST(times[2] AS timestamptz) FROM detached
        )
        SELECT CAST(relname AS text) AS name, state, since, until, COALESCE(pg_total_relation_size(id), 0) AS bytes,
            CAST(greatest(reltuples, 0) AS bigint) AS about_events
        FROM found JOIN pg_class ON pg_class.oid = id
        -- Null for one that is dropped at this moment.
        WHERE pg_total_relation_size(id) IS NOT NULL
        ORDER BY state = 'default', since NULLS FIRST, until"
            .to_owned(),
    )
}

/// Makes a partition: `made` is false if it is there. Appends go on meanwhile.
pub(crate) fn attach(name: &str, since: DateTime<Utc>, until: DateTime<Utc>) -> Query {
    Query::new("SELECT attach_audit_partition(:name, :since, :until) AS made".to_owned())
        .bind("name", name)
        .bind("since", since)
        .bind("until", until)
}

/// Takes a partition out of the audit log; the table goes on as `detached`, as immutable as before.
pub(crate) fn detach(name: &str, detached: &str, times: &str) -> [String; 2] {
    [
        "LOCK TABLE audit_logs IN ACCESS EXCLUSIVE MODE".to_owned(),
        // A partition's own row triggers go with the parent's.
        format!(
            "ALTER TABLE audit_logs DETACH PARTITION {name};
            CREATE TRIGGER tr_audit_logs_immutable BEFORE UPDATE OR DELETE ON {name}
                FOR EACH ROW EXECUTE FUNCTION refuse_audit_change();
            ALTER TABLE {name} ENABLE ALWAYS TRIGGER tr_audit_logs_immutable;
            COMMENT ON TABLE {name} IS '{times}';
            ALTER TABLE {name} RENAME TO {detached}"
        ),
    ]
}

/// Keeps others from exporting the same table, and fails at once if they do.
pub(crate) fn claim(detached: &str) -> String {
    format!("LOCK TABLE {detached} IN SHARE UPDATE EXCLUSIVE MODE NOWAIT")
}

pub(crate) fn drop_detached(detached: &str) -> String {
    format!("DROP TABLE {detached}")
}

/// The next events of a detached table, oldest first.
pub(crate) fn rows(detached: &str, after: Option<Place>, limit: u16) -> Query {
    let beyond = match after {
        Some(_) => r#"WHERE ("timestamp", id) > (:at, :last)"#,
        None => "",
    };
    let columns = Dialect::Postgres.columns_of::<audit_log::Entity>();
    let query = Query::new(format!(
        r#"SELECT {columns} FROM {detached} {beyond} ORDER BY "timestamp", id LIMIT :limit"#
    ))
    .bind("limit", i64::from(limit));
    behind(query, after)
}

/// Column `events`.
pub(crate) fn count(table: &str) -> Query {
    Query::new(format!("SELECT count(*) AS events FROM {table}"))
}
