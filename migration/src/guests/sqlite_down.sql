-- A guest without the mark would be an account that nobody can sign in to.
CREATE TEMP TABLE no_guests (guests INTEGER CONSTRAINT there_are_guests_erase_them_first CHECK (guests = 0));
INSERT INTO no_guests SELECT count(*) FROM users WHERE guest_since IS NOT NULL AND deleted_at IS NULL;
DROP TABLE temp.no_guests;
DROP TRIGGER tr_auth_providers_account_insert;
DROP TRIGGER tr_auth_providers_account_update;
DROP TRIGGER tr_rooms_account_insert;
DROP TRIGGER tr_rooms_account_update;
DROP TRIGGER tr_recordings_account_insert;
DROP TRIGGER tr_recordings_account_update;
DROP TRIGGER tr_users_guest;
DROP INDEX ix_users_guests;
ALTER TABLE users DROP COLUMN guest_since;
