-- Triggers of the audit log that are missing or do not fire always, by table: no row means that all is well.
SELECT CAST(relid AS text) AS name, wanted.trigger, coalesce(CAST(tgenabled AS text), 'missing') AS state
FROM pg_partition_tree('audit_logs')
CROSS JOIN (VALUES ('tr_audit_logs_immutable'), ('tr_audit_logs_no_truncate')) AS wanted(trigger)
LEFT JOIN pg_trigger ON tgrelid = relid AND tgname = wanted.trigger AND tgfoid = to_regproc('refuse_audit_change')
WHERE tgenabled IS DISTINCT FROM 'A'
