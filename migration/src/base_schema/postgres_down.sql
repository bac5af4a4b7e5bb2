DROP TABLE audit_logs, feed_checkpoints, inbox, recordings, room_participants, media_nodes, rooms, auth_providers, users;
DROP SEQUENCE audit_logs_sequence;
DROP FUNCTION refuse_audit_change();
DROP FUNCTION only_by_index(uuid), refuse_removal(), check_audit_references(), check_users(), check_rooms(), check_media_nodes(), check_room_participants(),
    check_recordings();
DROP TYPE audit_action, recording_status, participant_role, room_status, auth_provider_type;
