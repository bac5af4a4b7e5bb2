-- Everything that any migration makes, whichever of them were applied.
DROP TABLE IF EXISTS audit_logs, feed_checkpoints, inbox, recordings, room_participants, media_nodes, rooms, auth_providers, users;
DO $$
DECLARE
    detached regclass;
BEGIN
    -- Months on their way into an archive.
    FOR detached IN
        SELECT oid FROM pg_class
        WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r' AND relname LIKE 'audit\_logs\_detached\_%'
    LOOP
        EXECUTE format('DROP TABLE %s', detached);
    END LOOP;
END
$$;
DROP SEQUENCE IF EXISTS audit_logs_sequence;
DROP FUNCTION IF EXISTS refuse_audit_change(), only_by_index(uuid), refuse_removal(), check_audit_references(), check_users(), refuse_guest(), check_rooms(),
    check_media_nodes(), check_room_participants(), check_recordings(), attach_audit_partition(text, timestamptz, timestamptz),
    carry_audit_privileges(regclass, regclass);
DROP TYPE IF EXISTS audit_action, recording_status, participant_role, room_status, auth_provider_type;
