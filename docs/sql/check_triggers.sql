-- Triggers that hold the audit log and the rules of the schema, and that are missing or do not fire always, by table: no row means
-- that all is well.
SELECT CAST(wanted.relid AS text) AS name, wanted.trigger, coalesce(CAST(tgenabled AS text), 'missing') AS state
FROM (
    SELECT CAST(relid AS regclass) AS relid, trigger, function
    FROM pg_partition_tree('audit_logs') CROSS JOIN (VALUES
        ('tr_audit_logs_immutable', 'refuse_audit_change'),
        ('tr_audit_logs_no_truncate', 'refuse_audit_change'),
        ('tr_audit_logs_references', 'check_audit_references')) AS of_the_log(trigger, function)
    UNION ALL
    SELECT to_regclass(tablename), trigger, function FROM (VALUES
        ('users', 'tr_users_kept', 'refuse_removal'),
        ('users', 'tr_users_no_truncate', 'refuse_removal'),
        ('rooms', 'tr_rooms_kept', 'refuse_removal'),
        ('rooms', 'tr_rooms_no_truncate', 'refuse_removal'),
        ('media_nodes', 'tr_media_nodes_kept', 'refuse_removal'),
        ('media_nodes', 'tr_media_nodes_no_truncate', 'refuse_removal'),
        ('users', 'tr_users_rules', 'check_users'),
        ('rooms', 'tr_rooms_rules', 'check_rooms'),
        ('media_nodes', 'tr_media_nodes_rules', 'check_media_nodes'),
        ('room_participants', 'tr_room_participants_rules', 'check_room_participants'),
        ('recordings', 'tr_recordings_rules', 'check_recordings')) AS of_tables(tablename, trigger, function)
) AS wanted
LEFT JOIN pg_trigger ON tgrelid = wanted.relid AND tgname = wanted.trigger AND tgfoid = to_regproc(wanted.function)
WHERE tgenabled IS DISTINCT FROM 'A'
