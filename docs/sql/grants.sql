-- The rights of the application and of auditors, least first: run by the tables' owner, after the first migration and again
-- whenever this file has changed. docs/OPERATIONS.md says why; the contract suite runs the whole store with exactly these.
--
-- The roles are made before, see there. Partitions need no rights of their own: those of audit_logs hold for statements on it.
REVOKE ALL ON ALL TABLES IN SCHEMA public FROM PUBLIC, meet_app, meet_auditor;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA public FROM PUBLIC, meet_app, meet_auditor;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM PUBLIC, meet_app, meet_auditor;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
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
