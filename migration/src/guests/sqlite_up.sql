ALTER TABLE users ADD COLUMN guest_since TEXT
    CONSTRAINT ck_users_guest_since CHECK (guest_since LIKE '____-__-__T__:__:__%+00:00')
    CONSTRAINT ck_users_guest CHECK (guest_since IS NULL OR (email IS NULL AND password_hash IS NULL AND is_verified = 0));
CREATE TRIGGER tr_users_guest BEFORE UPDATE OF guest_since ON users
WHEN OLD.guest_since IS NOT NEW.guest_since
BEGIN SELECT RAISE(ABORT, 'tr_users_guest'); END;

-- Guests have no sign-in method, no room and no recording.
CREATE TRIGGER tr_auth_providers_account_insert BEFORE INSERT ON auth_providers
WHEN (SELECT guest_since FROM users WHERE id = NEW.user_id) IS NOT NULL
BEGIN SELECT RAISE(ABORT, 'tr_auth_providers_account'); END;
CREATE TRIGGER tr_auth_providers_account_update BEFORE UPDATE OF user_id ON auth_providers
WHEN (SELECT guest_since FROM users WHERE id = NEW.user_id) IS NOT NULL
BEGIN SELECT RAISE(ABORT, 'tr_auth_providers_account'); END;
CREATE TRIGGER tr_rooms_account_insert BEFORE INSERT ON rooms
WHEN (SELECT guest_since FROM users WHERE id = NEW.owner_id) IS NOT NULL
BEGIN SELECT RAISE(ABORT, 'tr_rooms_account'); END;
CREATE TRIGGER tr_rooms_account_update BEFORE UPDATE OF owner_id ON rooms
WHEN (SELECT guest_since FROM users WHERE id = NEW.owner_id) IS NOT NULL
BEGIN SELECT RAISE(ABORT, 'tr_rooms_account'); END;
CREATE TRIGGER tr_recordings_account_insert BEFORE INSERT ON recordings
WHEN (SELECT guest_since FROM users WHERE id = NEW.owner_id) IS NOT NULL
BEGIN SELECT RAISE(ABORT, 'tr_recordings_account'); END;
CREATE TRIGGER tr_recordings_account_update BEFORE UPDATE OF owner_id ON recordings
WHEN (SELECT guest_since FROM users WHERE id = NEW.owner_id) IS NOT NULL
BEGIN SELECT RAISE(ABORT, 'tr_recordings_account'); END;
