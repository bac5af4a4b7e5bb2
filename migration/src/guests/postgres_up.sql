-- Each statement may be run again after a failure further on.
-- Nullable and without a default: what older builds insert are accounts.
ALTER TABLE users ADD COLUMN IF NOT EXISTS guest_since timestamptz;

-- As before, with the rules of guests.
CREATE OR REPLACE FUNCTION check_users() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    broken text;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF OLD.guest_since IS DISTINCT FROM NEW.guest_since THEN
            broken := 'tr_users_guest';
        END IF;
    END IF;
    IF NEW.username = '' THEN
        broken := 'ck_users_username';
    ELSIF NEW.email = '' THEN
        broken := 'ck_users_email';
    ELSIF NEW.guest_since IS NOT NULL AND (num_nonnulls(NEW.email, NEW.password_hash) > 0 OR NEW.is_verified) THEN
        broken := 'ck_users_guest';
    END IF;
    IF broken IS NOT NULL THEN
        RAISE EXCEPTION 'new row for relation "%" violates check constraint "%"', TG_TABLE_NAME, broken
            USING ERRCODE = 'check_violation', CONSTRAINT = broken, TABLE = TG_TABLE_NAME;
    END IF;
    RETURN NULL;
END
$$;
DROP TRIGGER IF EXISTS tr_users_rules ON users;
CREATE TRIGGER tr_users_rules AFTER INSERT OR UPDATE OF username, email, password_hash, is_verified, guest_since ON users
    FOR EACH ROW EXECUTE FUNCTION check_users();
ALTER TABLE users ENABLE ALWAYS TRIGGER tr_users_rules;

-- Guests have no sign-in method, no room and no recording. Whoever is a guest stays one, so the row is read without a lock. The argument
-- is the column that has the user.
CREATE OR REPLACE FUNCTION refuse_guest() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT guest_since FROM users WHERE id = (to_jsonb(NEW) ->> TG_ARGV[0])::uuid) IS NOT NULL THEN
        RAISE EXCEPTION '% of % refused: its user is a guest', TG_OP, TG_TABLE_NAME
            USING ERRCODE = 'check_violation', CONSTRAINT = TG_NAME, TABLE = TG_TABLE_NAME;
    END IF;
    RETURN NULL;
END
$$;
DROP TRIGGER IF EXISTS tr_auth_providers_account ON auth_providers;
CREATE TRIGGER tr_auth_providers_account AFTER INSERT OR UPDATE OF user_id ON auth_providers
    FOR EACH ROW EXECUTE FUNCTION refuse_guest('user_id');
ALTER TABLE auth_providers ENABLE ALWAYS TRIGGER tr_auth_providers_account;
DROP TRIGGER IF EXISTS tr_rooms_account ON rooms;
CREATE TRIGGER tr_rooms_account AFTER INSERT OR UPDATE OF owner_id ON rooms
    FOR EACH ROW EXECUTE FUNCTION refuse_guest('owner_id');
ALTER TABLE rooms ENABLE ALWAYS TRIGGER tr_rooms_account;
DROP TRIGGER IF EXISTS tr_recordings_account ON recordings;
CREATE TRIGGER tr_recordings_account AFTER INSERT OR UPDATE OF owner_id ON recordings
    FOR EACH ROW EXECUTE FUNCTION refuse_guest('owner_id');
ALTER TABLE recordings ENABLE ALWAYS TRIGGER tr_recordings_account;
