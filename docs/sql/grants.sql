-- The rights of the application and of auditors, least first: run by the tables' owner, after the first migration and again
-- whenever this file has changed. docs/OPERATIONS.md says why; the contract suite runs the whole store with exactly these.
--
-- The roles are made before, see there. Partitions need no rights of their own: those of audit_logs hold for statements on it.
-- Only what is ours is named: rights on your own tables beside it stay as they are.
REVOKE ALL ON users, auth_providers, rooms, media_nodes, room_participants, recordings, inbox, feed_checkpoints, audit_logs, conferencing_migrations
    FROM PUBLIC, meet_app, meet_auditor;
REVOKE ALL ON SEQUENCE audit_logs_sequence FROM PUBLIC, meet_app, meet_auditor;
REVOKE ALL ON FUNCTION refuse_audit_change(), only_by_index(uuid), refuse_removal(), check_audit_references(), check_users(), check_rooms(), refuse_guest(),
    check_media_nodes(), check_room_participants(), check_recordings(), attach_audit_partition(text, timestamptz, timestamptz)
    FROM PUBLIC, meet_app, meet_auditor;
-- What default privileges may have given on the audit log's months, and on those that are being archived.
DO $$
DECLARE
    month regclass;
BEGIN
    FOR month IN
        SELECT relid FROM pg_partition_tree('audit_logs')
        UNION SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relname LIKE 'audit\_logs\_detached\_%' AND relkind = 'r'
    LOOP
        EXECUTE format('REVOKE ALL ON %s FROM PUBLIC, meet_app, meet_auditor', month);
    END LOOP;
END
$$;
GRANT USAGE ON SCHEMA public TO meet_app, meet_auditor;

-- Rows of these are marked as deleted or lost, never deleted. UPDATE is also what locking a row takes.
GRANT SELECT, INSERT, UPDATE ON users, rooms, room_participants, media_nodes, recordings TO meet_app;
-- Unlinking an account and erasing a user delete here.
GRANT SELECT, INSERT, UPDATE, DELETE ON auth_providers TO meet_app;
-- Marked once, and purged when it is old; a purge locks what it takes.
GRANT SELECT, INSERT, UPDATE, DELETE ON inbox TO meet_app;
-- Where consumers of the feed are.
GRANT SELECT, INSERT, UPDATE ON feed_checkpoints TO meet_app;
-- The audit log is appended to and read.
GRANT SELECT, INSERT ON audit_logs TO meet_app;
GRANT USAGE ON SEQUENCE audit_logs_sequence TO meet_app;
-- Named in statements, never computed.
GRANT EXECUTE ON FUNCTION only_by_index(uuid) TO meet_app;
-- The store looks whether its migrations are there.
GRANT SELECT ON conferencing_migrations TO meet_app;

GRANT SELECT ON audit_logs TO meet_auditor;
