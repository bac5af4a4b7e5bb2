-- Ours is not dropped while somebody else's foreign key points at it.
DO $$
DECLARE
    ours CONSTANT text[] := ARRAY['audit_logs', 'feed_checkpoints', 'inbox', 'recordings', 'room_participants', 'media_nodes', 'rooms',
        'auth_providers', 'users'];
    others text;
BEGIN
    SELECT string_agg(DISTINCT referring.oid::regclass::text, ', ') INTO others
    FROM pg_constraint JOIN pg_class AS target ON target.oid = confrelid JOIN pg_class AS referring ON referring.oid = conrelid
    WHERE contype = 'f' AND target.relnamespace = current_schema()::regnamespace AND target.relname = ANY (ours)
        AND NOT (referring.relnamespace = target.relnamespace AND referring.relname = ANY (ours));
    IF others IS NOT NULL THEN
        RAISE EXCEPTION 'foreign keys of other tables point at ours, drop those tables first: %', others
            USING ERRCODE = 'dependent_objects_still_exist';
    END IF;
END
$$;
