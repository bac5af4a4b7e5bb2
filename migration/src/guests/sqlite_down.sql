DROP TRIGGER tr_auth_providers_account_insert;
DROP TRIGGER tr_auth_providers_account_update;
DROP TRIGGER tr_rooms_account_insert;
DROP TRIGGER tr_rooms_account_update;
DROP TRIGGER tr_recordings_account_insert;
DROP TRIGGER tr_recordings_account_update;
DROP TRIGGER tr_users_guest;
DROP INDEX ix_users_guests;
ALTER TABLE users DROP COLUMN guest_since;
