DROP TRIGGER IF EXISTS tr_auth_providers_account ON auth_providers;
DROP TRIGGER IF EXISTS tr_rooms_account ON rooms;
DROP TRIGGER IF EXISTS tr_recordings_account ON recordings;
DROP FUNCTION IF EXISTS refuse_guest();
DROP TRIGGER IF EXISTS tr_users_rules ON users;
CREATE OR REPLACE FUNCTION check_users() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    broken text;
BEGIN
    IF NEW.username = '' THEN
        broken := 'ck_users_username';
    ELSIF NEW.email = '' THEN
        broken := 'ck_users_email';
    END IF;
    IF broken IS NOT NULL THEN
        RAISE EXCEPTION 'new row for relation "%" violates check constraint "%"', TG_TABLE_NAME, broken
            USING ERRCODE = 'check_violation', CONSTRAINT = broken, TABLE = TG_TABLE_NAME;
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER tr_users_rules AFTER INSERT OR UPDATE OF username, email ON users
    FOR EACH ROW EXECUTE FUNCTION check_users();
ALTER TABLE users ENABLE ALWAYS TRIGGER tr_users_rules;
DROP INDEX IF EXISTS ix_users_guests;
ALTER TABLE users DROP COLUMN IF EXISTS guest_since;
