//! PostgreSQL's catalogs. All that is asked of them is the same from version 14 to 18, where it was tried, and readable by anybody.

use crate::database::statement::Query;
use entity::MIGRATION_TABLE;

/// The schema that the tables lie in, by its number: that of the table of migrations as the session finds it, else the one in which a table
/// would be made.
pub(crate) fn home() -> String {
    format!(
        "COALESCE((SELECT relnamespace FROM pg_class WHERE oid = to_regclass('{MIGRATION_TABLE}')),
        CAST(to_regnamespace(quote_ident(current_schema())) AS oid))"
    )
}

/// Partitions come and go, so they are described by what they have in common: the triggers of each. Their columns, keys and indexes are those
/// of the whole, which is not valid otherwise. NOT NULL is a constraint from version 18 on (`n`), and a column's matter before. A row
/// trigger of a partition belongs to that of the whole, and was called internal before version 15.
pub(super) fn query() -> Query {
    let home = home();
    Query::new(format!(
        r"WITH home AS (
            SELECT oid, quote_ident(nspname) || '.' AS prefix FROM pg_namespace WHERE oid = {home}
        ), tables AS (
            SELECT pg_class.oid, relname, relkind FROM pg_class JOIN home ON relnamespace = home.oid
            WHERE relkind IN ('r', 'p') AND NOT relispartition AND relname <> '{MIGRATION_TABLE}'
        ), partitions AS (
            SELECT pg_class.oid, pg_class.relname, tables.relname AS whole
            FROM pg_inherits JOIN tables ON tables.oid = inhparent JOIN pg_class ON pg_class.oid = inhrelid WHERE relispartition
        ), triggers AS (
            SELECT tgrelid, tgname, pg_get_triggerdef(oid) AS definition, CASE tgenabled WHEN 'A' THEN 'ALWAYS'
                WHEN 'O' THEN 'not as a replica' WHEN 'R' THEN 'only as a replica' ELSE 'DISABLED' END AS fires
            FROM pg_trigger WHERE tgconstraint = 0 AND (NOT tgisinternal OR tgparentid <> 0)
        ), of_partitions AS (
            SELECT whole, relname, names.tgname, fires,
                replace(definition, format(' ON %s%I ', prefix, relname), ' ON a partition ') AS definition
            FROM partitions CROSS JOIN home CROSS JOIN (
                SELECT DISTINCT tgname FROM triggers WHERE tgrelid IN (SELECT oid FROM partitions)) AS names
            LEFT JOIN triggers ON tgrelid = partitions.oid AND triggers.tgname = names.tgname
        ), objects(kind, name, definition) AS (
            SELECT 'table', CAST(relname AS text),
                CASE relkind WHEN 'p' THEN 'PARTITION BY ' || pg_get_partkeydef(oid) ELSE '' END
            FROM tables
            UNION ALL
            SELECT 'table', whole || ' default partition', '' FROM partitions JOIN pg_class USING (oid)
            WHERE pg_get_expr(relpartbound, oid) = 'DEFAULT'
            UNION ALL
            SELECT 'column', format('%s.%s', relname, attname), format_type(atttypid, atttypmod)
                || CASE WHEN attnotnull THEN ' NOT NULL' ELSE '' END
                || COALESCE(' DEFAULT ' || pg_get_expr(adbin, adrelid), '')
            FROM tables JOIN pg_attribute ON attrelid = tables.oid
            LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
            WHERE attnum > 0 AND NOT attisdropped
            UNION ALL
            SELECT 'constraint', format('%s.%s', relname, conname), pg_get_constraintdef(pg_constraint.oid)
            FROM tables JOIN pg_constraint ON conrelid = tables.oid WHERE contype IN ('p', 'f', 'u', 'c', 'x')
            UNION ALL
            SELECT 'index', format('%s.%s', tables.relname, own.relname),
                pg_get_indexdef(indexrelid) || CASE WHEN indisvalid THEN '' ELSE ' INVALID' END
            FROM tables JOIN pg_index ON indrelid = tables.oid JOIN pg_class AS own ON own.oid = indexrelid
            WHERE NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid AND contype IN ('p', 'u', 'x'))
            UNION ALL
            SELECT 'trigger', format('%s.%s', relname, tgname), format('%s, fires %s', definition, fires)
            FROM tables JOIN triggers ON tgrelid = tables.oid
            UNION ALL
            SELECT 'trigger', format('%s_*.%s', whole, tgname), CASE
                WHEN count(definition) = count(*) AND min(definition) = max(definition) AND min(fires) = max(fires)
                    THEN format('%s, fires %s', min(definition), min(fires))
                ELSE COALESCE(string_agg(format('%s: %s', relname, COALESCE('fires ' || fires, 'missing')), ', ' ORDER BY relname)
                    FILTER (WHERE fires IS DISTINCT FROM 'ALWAYS'), 'not the same on each partition') END
            FROM of_partitions GROUP BY whole, tgname
            UNION ALL
            SELECT 'function', format('%s(%s)', proname, pg_get_function_identity_arguments(pg_proc.oid)),
                format('returns %s, %s, volatile %s, parallel %s, cost %s, definer %s, settings %s, sha256 %s',
                    pg_get_function_result(pg_proc.oid), lanname, provolatile, proparallel, procost, prosecdef,
                    COALESCE(array_to_string(proconfig, ', '), 'none'), encode(sha256(
                        convert_to(regexp_replace(prosrc, '\s+', ' ', 'g'), 'UTF8')), 'hex'))
            FROM pg_proc JOIN home ON pronamespace = home.oid JOIN pg_language ON pg_language.oid = prolang
            WHERE prokind = 'f' AND lanname IN ('sql', 'plpgsql')
            UNION ALL
            SELECT 'sequence', CAST(relname AS text), format('%s, by %s', format_type(seqtypid, NULL), seqincrement)
            FROM pg_sequence JOIN pg_class ON pg_class.oid = seqrelid JOIN home ON relnamespace = home.oid
            UNION ALL
            SELECT 'label', format('%s.%s', typname, enumlabel), ''
            FROM pg_enum JOIN pg_type ON pg_type.oid = enumtypid JOIN home ON typnamespace = home.oid
        )
        SELECT kind, name, replace(definition, prefix, '') AS definition FROM objects CROSS JOIN home"
    ))
}
