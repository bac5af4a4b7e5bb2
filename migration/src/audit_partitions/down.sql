-- One plain table again, with every row of every partition.
DO $$
BEGIN
    IF to_regclass('audit_logs_before') IS NULL THEN
        -- The first partition has been archived: an empty one in its place, for a time of which there is no row.
        PERFORM attach_audit_partition('audit_logs_before', '0001-01-01 00:00:00+00', '0001-01-02 00:00:00+00');
    END IF;
END
$$;
ALTER TABLE audit_logs DETACH PARTITION audit_logs_before;
INSERT INTO audit_logs_before (id, action, user_id, room_id, target_user_id, metadata, ip_address, user_agent, "timestamp",
        transaction, sequence)
    SELECT id, action, user_id, room_id, target_user_id, metadata, ip_address, user_agent, "timestamp", transaction, sequence
    FROM audit_logs;
SELECT carry_audit_privileges('audit_logs', 'audit_logs_before');
DROP FUNCTION carry_audit_privileges(regclass, regclass);
DROP TABLE audit_logs;
DROP FUNCTION attach_audit_partition(text, timestamptz, timestamptz);

ALTER TABLE audit_logs_before RENAME TO audit_logs;
ALTER INDEX pk_audit_logs_before RENAME TO pk_audit_logs;
ALTER INDEX ix_audit_logs_before_feed RENAME TO ix_audit_logs_feed;
ALTER INDEX ix_audit_logs_before_room RENAME TO ix_audit_logs_room;
ALTER INDEX ix_audit_logs_before_user RENAME TO ix_audit_logs_user;
ALTER INDEX ix_audit_logs_before_target_user RENAME TO ix_audit_logs_target_user;
ALTER INDEX ix_audit_logs_before_action RENAME TO ix_audit_logs_action;
ALTER INDEX ix_audit_logs_before_room_action RENAME TO ix_audit_logs_room_action;
ALTER INDEX ix_audit_logs_before_user_action RENAME TO ix_audit_logs_user_action;
ALTER INDEX ix_audit_logs_before_address RENAME TO ix_audit_logs_address;
CREATE TRIGGER tr_audit_logs_immutable BEFORE UPDATE OR DELETE ON audit_logs
    FOR EACH ROW EXECUTE FUNCTION refuse_audit_change();
ALTER TABLE audit_logs ENABLE ALWAYS TRIGGER tr_audit_logs_immutable;
