-- Makes an empty partition of audit_logs for rows from `since` up to, not including, `until`; for all that no other takes if
-- both are NULL. False if there is a partition of that name already.
--
-- Appends and changes go on meanwhile: PARTITION OF would lock the parent against them, ATTACH does not. It gives up with 55P03
-- rather than have others queue behind it. Rows of the range that lie in the default partition refuse it with 23514.
CREATE FUNCTION attach_audit_partition(name text, since timestamptz, until timestamptz) RETURNS boolean
LANGUAGE plpgsql SET lock_timeout = '200ms' AS $$
DECLARE
    holder oid := (SELECT relowner FROM pg_class WHERE oid = 'audit_logs'::regclass);
    utc CONSTANT text := 'YYYY-MM-DD HH24:MI:SS.US"+00"';
    index record;
BEGIN
    FOR round IN 1..2 LOOP
        IF EXISTS (
            SELECT FROM pg_inherits
            WHERE inhparent = 'audit_logs'::regclass AND inhrelid = to_regclass(quote_ident(name))
        ) THEN
            RETURN false;
        END IF;
        -- Whoever waited for somebody who made the same one looks again.
        IF round = 1 THEN
            LOCK TABLE ONLY audit_logs IN SHARE UPDATE EXCLUSIVE MODE;
        END IF;
    END LOOP;
    EXECUTE format('CREATE TABLE %I (LIKE audit_logs INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE)', name);
    IF holder <> (SELECT relowner FROM pg_class WHERE oid = to_regclass(quote_ident(name))) THEN
        EXECUTE format('ALTER TABLE %I OWNER TO %I', name, pg_get_userbyid(holder));
    END IF;
    -- A partition gets its parent's row triggers, but not those of statements.
    EXECUTE format('CREATE TRIGGER tr_audit_logs_no_truncate BEFORE TRUNCATE ON %I
        FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change()', name);
    EXECUTE format('ALTER TABLE %I ENABLE ALWAYS TRIGGER tr_audit_logs_no_truncate', name);
    EXECUTE format('CREATE TRIGGER tr_audit_logs_references AFTER INSERT ON %I REFERENCING NEW TABLE AS appended
        FOR EACH STATEMENT EXECUTE FUNCTION check_audit_references()', name);
    EXECUTE format('ALTER TABLE %I ENABLE ALWAYS TRIGGER tr_audit_logs_references', name);
    IF since IS NULL AND until IS NULL THEN
        EXECUTE format('ALTER TABLE audit_logs ATTACH PARTITION %I DEFAULT', name);
    ELSE
        EXECUTE format('ALTER TABLE audit_logs ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', name,
            to_char(since AT TIME ZONE 'UTC', utc), to_char(until AT TIME ZONE 'UTC', utc));
    END IF;
    EXECUTE format('ALTER TABLE %I ENABLE ALWAYS TRIGGER tr_audit_logs_immutable', name);
    FOR index IN
        SELECT own.relname AS given, replace(parents.relname, 'audit_logs', name) AS ours
        FROM pg_index JOIN pg_class AS own ON own.oid = indexrelid
        JOIN pg_inherits ON inhrelid = indexrelid JOIN pg_class AS parents ON parents.oid = inhparent
        WHERE indrelid = to_regclass(quote_ident(name))
    LOOP
        EXECUTE format('ALTER INDEX %I RENAME TO %I', index.given, index.ours);
    END LOOP;
    RETURN true;
END
$$;
