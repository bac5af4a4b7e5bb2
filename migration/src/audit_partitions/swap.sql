-- The table becomes the first partition of a new one of its name. No row is read or written.
ALTER TABLE audit_logs RENAME TO audit_logs_before;
ALTER INDEX pk_audit_logs RENAME TO pk_audit_logs_before;
ALTER INDEX ix_audit_logs_feed RENAME TO ix_audit_logs_before_feed;
ALTER INDEX ix_audit_logs_room RENAME TO ix_audit_logs_before_room;
ALTER INDEX ix_audit_logs_user RENAME TO ix_audit_logs_before_user;
ALTER INDEX ix_audit_logs_target_user RENAME TO ix_audit_logs_before_target_user;
ALTER INDEX ix_audit_logs_action RENAME TO ix_audit_logs_before_action;
ALTER INDEX ix_audit_logs_room_action RENAME TO ix_audit_logs_before_room_action;
ALTER INDEX ix_audit_logs_user_action RENAME TO ix_audit_logs_before_user_action;
ALTER INDEX ix_audit_logs_address RENAME TO ix_audit_logs_before_address;
-- The parent's takes its place when it is attached.
DROP TRIGGER tr_audit_logs_immutable ON audit_logs_before;

CREATE TABLE audit_logs (
    LIKE audit_logs_before INCLUDING DEFAULTS INCLUDING STORAGE INCLUDING COMMENTS,
    CONSTRAINT pk_audit_logs PRIMARY KEY ("timestamp", id)
) PARTITION BY RANGE ("timestamp");
CREATE INDEX ix_audit_logs_feed ON audit_logs (transaction, sequence);
CREATE INDEX ix_audit_logs_room ON audit_logs (room_id, "timestamp", id) WHERE room_id IS NOT NULL;
CREATE INDEX ix_audit_logs_user ON audit_logs (user_id, "timestamp", id) WHERE user_id IS NOT NULL;
CREATE INDEX ix_audit_logs_target_user ON audit_logs (target_user_id, "timestamp", id) WHERE target_user_id IS NOT NULL;
CREATE INDEX ix_audit_logs_action ON audit_logs (action, "timestamp", id) WHERE action NOT IN ('USER_JOINED', 'USER_LEFT', 'USER_MUTED',
    'USER_UNMUTED', 'PRODUCER_CREATED', 'PRODUCER_CLOSED', 'CONSUMER_CREATED', 'CONSUMER_CLOSED');
CREATE INDEX ix_audit_logs_room_action ON audit_logs (room_id, action, "timestamp", id) WHERE room_id IS NOT NULL AND action NOT IN ('USER_JOINED', 'USER_LEFT', 'USER_MUTED',
    'USER_UNMUTED', 'PRODUCER_CREATED', 'PRODUCER_CLOSED', 'CONSUMER_CREATED', 'CONSUMER_CLOSED');
CREATE INDEX ix_audit_logs_user_action ON audit_logs (user_id, action, "timestamp", id) WHERE user_id IS NOT NULL AND action NOT IN ('USER_JOINED', 'USER_LEFT', 'USER_MUTED',
    'USER_UNMUTED', 'PRODUCER_CREATED', 'PRODUCER_CLOSED', 'CONSUMER_CREATED', 'CONSUMER_CLOSED');
CREATE INDEX ix_audit_logs_address ON audit_logs (ip_address, "timestamp", id) WHERE ip_address IS NOT NULL;
CREATE TRIGGER tr_audit_logs_immutable BEFORE UPDATE OR DELETE ON audit_logs
    FOR EACH ROW EXECUTE FUNCTION refuse_audit_change();
CREATE TRIGGER tr_audit_logs_no_truncate BEFORE TRUNCATE ON audit_logs
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change();
ALTER TABLE audit_logs ENABLE ALWAYS TRIGGER tr_audit_logs_immutable;
ALTER TABLE audit_logs ENABLE ALWAYS TRIGGER tr_audit_logs_no_truncate;
CREATE TRIGGER tr_audit_logs_references AFTER INSERT ON audit_logs REFERENCING NEW TABLE AS appended
    FOR EACH STATEMENT EXECUTE FUNCTION check_audit_references();
ALTER TABLE audit_logs ENABLE ALWAYS TRIGGER tr_audit_logs_references;
-- Before there are partitions, which get the owner of the whole.
SELECT carry_audit_privileges('audit_logs_before', 'audit_logs');
DROP FUNCTION carry_audit_privileges(regclass, regclass);

DO $$
DECLARE
    boundary timestamptz := (
        SELECT substring(pg_get_constraintdef(oid) FROM '''([^'']+)''')::timestamptz
        FROM pg_constraint WHERE conrelid = 'audit_logs_before'::regclass AND conname = 'ck_audit_logs_before');
    month timestamp := boundary AT TIME ZONE 'UTC';
BEGIN
    EXECUTE format('ALTER TABLE audit_logs ATTACH PARTITION audit_logs_before FOR VALUES FROM (MINVALUE) TO (%L)',
        to_char(month, 'YYYY-MM-DD HH24:MI:SS"+00"'));
    ALTER TABLE audit_logs_before DROP CONSTRAINT ck_audit_logs_before;
    ALTER TABLE audit_logs_before ENABLE ALWAYS TRIGGER tr_audit_logs_immutable;
    FOR ahead IN 1..3 LOOP
        PERFORM attach_audit_partition(to_char(month, '"audit_logs_"YYYY_MM'),
            month AT TIME ZONE 'UTC', (month + interval '1 month') AT TIME ZONE 'UTC');
        month := month + interval '1 month';
    END LOOP;
    -- So that no append fails for want of a partition.
    PERFORM attach_audit_partition('audit_logs_default', NULL, NULL);
END
$$;
