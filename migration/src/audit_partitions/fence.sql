-- Promises that every row is older than a boundary, so that the table can later be attached as a partition without a look at
-- its rows. The promise of a failed try is kept if there is time enough left to use it.
DO $$
DECLARE
    until timestamptz;
BEGIN
    SELECT substring(pg_get_constraintdef(oid) FROM '''([^'']+)''')::timestamptz INTO until
    FROM pg_constraint WHERE conrelid = 'audit_logs'::regclass AND conname = 'ck_audit_logs_before';
    IF until > now() + interval '1 day' THEN
        RETURN;
    END IF;
    -- Before the look at the newest row: nobody can append a newer one in between.
    LOCK TABLE audit_logs IN ACCESS EXCLUSIVE MODE;
    ALTER TABLE audit_logs DROP CONSTRAINT IF EXISTS ck_audit_logs_before;
    SELECT date_trunc('month', greatest(now(), max("timestamp")) AT TIME ZONE 'UTC' + interval '1 month 7 days') AT TIME ZONE 'UTC'
    INTO until FROM audit_logs;
    EXECUTE format(
        'ALTER TABLE audit_logs ADD CONSTRAINT ck_audit_logs_before CHECK ("timestamp" < %L) NOT VALID',
        to_char(until AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') || '+00');
END
$$;
