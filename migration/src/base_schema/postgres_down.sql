DROP TABLE audit_logs, recordings, room_participants, rooms, auth_providers, users;
DROP FUNCTION refuse_audit_change();
DROP FUNCTION refuse_status_change();
DROP TYPE audit_action, recording_status, participant_role, room_status, auth_provider_type;
