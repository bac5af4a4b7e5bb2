CREATE TYPE auth_provider_type AS ENUM ('LOCAL', 'GOOGLE', 'GITHUB', 'MICROSOFT', 'APPLE', 'SAML');
CREATE TYPE room_status AS ENUM ('CREATED', 'LIVE', 'ENDED', 'CANCELLED');
CREATE TYPE participant_role AS ENUM ('HOST', 'CO_HOST', 'PARTICIPANT');
CREATE TYPE recording_status AS ENUM ('STARTED', 'IN_PROGRESS', 'STOPPED', 'FAILED', 'PROCESSING', 'READY');
CREATE TYPE audit_action AS ENUM (
    'USER_REGISTERED', 'USER_LOGIN_SUCCESS', 'USER_LOGIN_FAILED', 'USER_LOGOUT', 'USER_DELETED',
    'ROOM_CREATED', 'ROOM_STARTED', 'ROOM_ENDED', 'ROOM_CANCELLED',
    'USER_JOINED', 'USER_LEFT', 'USER_KICKED', 'USER_BANNED',
    'ROLE_CHANGED', 'ROLE_PROMOTION', 'ROLE_DEMOTION',
    'USER_MUTED', 'USER_UNMUTED', 'ALL_MUTED', 'SCREEN_SHARE_STARTED', 'SCREEN_SHARE_STOPPED',
    'RECORDING_STARTED', 'RECORDING_STOPPED', 'RECORDING_DELETED',
    'PRODUCER_CREATED', 'PRODUCER_CLOSED', 'CONSUMER_CREATED', 'CONSUMER_CLOSED',
    'UNAUTHORIZED_ACCESS_ATTEMPT', 'RATE_LIMIT_EXCEEDED', 'SUSPICIOUS_ACTIVITY'
);

CREATE TABLE users (
    id uuid CONSTRAINT pk_users PRIMARY KEY,
    username varchar(100) NOT NULL,
    email varchar(255),
    password_hash varchar(255),
    display_name varchar(150) NOT NULL,
    is_active boolean NOT NULL,
    is_verified boolean NOT NULL,
    deleted_at timestamptz,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    last_login_at timestamptz
) WITH (fillfactor = 90);
-- COLLATE "C" makes lower() fold A-Z alone, whatever the database's locale, as SQLite's does; the store folds the rest.
CREATE UNIQUE INDEX uq_users_username ON users (lower(username COLLATE "C"));
CREATE UNIQUE INDEX uq_users_email ON users (lower(email COLLATE "C"));

CREATE TABLE auth_providers (
    id uuid CONSTRAINT pk_auth_providers PRIMARY KEY,
    user_id uuid NOT NULL CONSTRAINT fk_auth_providers_user REFERENCES users (id) ON DELETE CASCADE,
    provider_type auth_provider_type NOT NULL,
    provider_id varchar(255) NOT NULL,
    provider_email varchar(255),
    access_token text,
    refresh_token text,
    token_expires_at timestamptz,
    metadata jsonb,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    last_used_at timestamptz,
    CONSTRAINT ck_auth_providers_provider_id CHECK (provider_id <> '')
);
CREATE UNIQUE INDEX uq_auth_providers_account ON auth_providers (provider_type, provider_id);
CREATE INDEX ix_auth_providers_user ON auth_providers (user_id);

CREATE TABLE rooms (
    id uuid CONSTRAINT pk_rooms PRIMARY KEY,
    owner_id uuid NOT NULL CONSTRAINT fk_rooms_owner REFERENCES users (id) ON DELETE RESTRICT,
    room_code varchar(20) NOT NULL,
    title varchar(255) NOT NULL,
    description text,
    scheduled_start timestamptz,
    scheduled_end timestamptz,
    max_participants integer NOT NULL,
    is_public boolean NOT NULL,
    is_recordable boolean NOT NULL,
    require_auth boolean NOT NULL,
    status room_status NOT NULL,
    started_at timestamptz,
    ended_at timestamptz,
    peak_participants integer NOT NULL,
    total_joins integer NOT NULL,
    duration_seconds integer,
    active_participants integer NOT NULL,
    deleted_at timestamptz,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    CONSTRAINT ck_rooms_capacity CHECK (0 <= active_participants AND active_participants <= max_participants),
    CONSTRAINT ck_rooms_counters CHECK (active_participants <= peak_participants AND peak_participants <= total_joins),
    CONSTRAINT ck_rooms_present_only_live CHECK (active_participants = 0 OR status = 'LIVE')
) WITH (fillfactor = 70);
CREATE UNIQUE INDEX uq_rooms_room_code ON rooms (room_code);
CREATE INDEX ix_rooms_owner ON rooms (owner_id, created_at, id);
-- Neither active_participants nor updated_at may be in it: each join and leave changes them, in place.
CREATE INDEX ix_rooms_live ON rooms (is_public, started_at, id) WHERE status = 'LIVE' AND deleted_at IS NULL;
CREATE INDEX ix_rooms_upcoming ON rooms (scheduled_start, id) WHERE status = 'CREATED' AND deleted_at IS NULL;

-- One row an incarnation. A beat changes beat_at alone, which no index has, so it stays on its page.
CREATE TABLE media_nodes (
    id uuid CONSTRAINT pk_media_nodes PRIMARY KEY,
    name varchar(100) NOT NULL,
    registered_at timestamptz NOT NULL,
    beat_at timestamptz NOT NULL,
    lost_at timestamptz
) WITH (fillfactor = 50);
CREATE UNIQUE INDEX uq_media_nodes_name ON media_nodes (name) WHERE lost_at IS NULL;

CREATE TABLE room_participants (
    id uuid CONSTRAINT pk_room_participants PRIMARY KEY,
    user_id uuid NOT NULL CONSTRAINT fk_room_participants_user REFERENCES users (id) ON DELETE CASCADE,
    room_id uuid NOT NULL CONSTRAINT fk_room_participants_room REFERENCES rooms (id) ON DELETE CASCADE,
    role participant_role NOT NULL,
    joined_at timestamptz NOT NULL,
    left_at timestamptz,
    is_kicked boolean NOT NULL,
    kicked_at timestamptz,
    kicked_by uuid CONSTRAINT fk_room_participants_kicked_by REFERENCES users (id),
    kick_reason varchar(500),
    is_banned boolean NOT NULL,
    banned_at timestamptz,
    banned_by uuid CONSTRAINT fk_room_participants_banned_by REFERENCES users (id),
    ban_reason varchar(500),
    ban_expires_at timestamptz,
    duration_seconds integer,
    -- References media_nodes, see check_room_participants: a foreign key would lock the node's row at each join.
    node_id uuid
) WITH (fillfactor = 90);
CREATE UNIQUE INDEX uq_room_participants_joined ON room_participants (user_id, joined_at, room_id);
-- For a condition that a partial index implies, such as `left_at IS NULL OR is_banned OR only_by_index(id)`: along that index it is
-- neither asked nor costed, and any other way to the rows costs more than the planner ever takes, however few it believes there
-- are. Plans are kept, and what was few is many later. It is never computed. IMMUTABLE, or the planner would not leave it out; of a
-- row, or it would compute it beforehand.
CREATE FUNCTION only_by_index(row_id uuid) RETURNS boolean LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE COST 1000000000 AS $$
BEGIN
    RETURN FALSE;
END
$$;
-- One seat, one ban, and never both: a second row of either kind for the same user and room cannot exist.
CREATE UNIQUE INDEX uq_room_participants_current ON room_participants (room_id, user_id) WHERE left_at IS NULL OR is_banned;
CREATE UNIQUE INDEX uq_room_participants_host ON room_participants (room_id) WHERE left_at IS NULL AND role = 'HOST';
CREATE INDEX ix_room_participants_present ON room_participants (room_id, joined_at, id) WHERE left_at IS NULL;
CREATE INDEX ix_room_participants_room ON room_participants (room_id, joined_at, id);
-- Who is served by a node; and whose participations ended with it.
CREATE INDEX ix_room_participants_node ON room_participants (node_id, room_id, id) WHERE left_at IS NULL AND node_id IS NOT NULL;
CREATE INDEX ix_room_participants_lost ON room_participants (node_id, left_at, id) WHERE left_at IS NOT NULL AND node_id IS NOT NULL;

CREATE TABLE recordings (
    id uuid CONSTRAINT pk_recordings PRIMARY KEY,
    room_id uuid NOT NULL CONSTRAINT fk_recordings_room REFERENCES rooms (id) ON DELETE RESTRICT,
    owner_id uuid NOT NULL CONSTRAINT fk_recordings_owner REFERENCES users (id) ON DELETE RESTRICT,
    storage_key varchar(500) NOT NULL,
    storage_url text,
    storage_bucket varchar(100) NOT NULL,
    egress_id varchar(255),
    filename varchar(255) NOT NULL,
    size_bytes bigint,
    duration_seconds integer,
    codec varchar(50),
    resolution varchar(20),
    fps integer,
    bitrate integer,
    status recording_status NOT NULL,
    started_at timestamptz NOT NULL,
    stopped_at timestamptz,
    error_message text,
    retry_count integer NOT NULL,
    is_public boolean NOT NULL,
    expires_at timestamptz,
    deleted_at timestamptz,
    purge_claimed_until timestamptz,
    purged_at timestamptz,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
) WITH (fillfactor = 90);
CREATE UNIQUE INDEX uq_recordings_storage_key ON recordings (storage_key);
CREATE UNIQUE INDEX uq_recordings_egress ON recordings (egress_id) WHERE egress_id IS NOT NULL;
CREATE INDEX ix_recordings_room ON recordings (room_id, started_at, id);
CREATE INDEX ix_recordings_owner ON recordings (owner_id, started_at, id);
CREATE INDEX ix_recordings_expiry ON recordings (expires_at, id) WHERE deleted_at IS NULL AND expires_at IS NOT NULL;
CREATE INDEX ix_recordings_running ON recordings (updated_at, id) WHERE status IN ('STARTED', 'IN_PROGRESS');
CREATE INDEX ix_recordings_purge ON recordings (deleted_at, id) WHERE deleted_at IS NOT NULL AND purged_at IS NULL;

-- What was received from elsewhere and must be acted on once. The key is all that it is for.
CREATE TABLE inbox (
    source varchar(100) NOT NULL CONSTRAINT ck_inbox_source CHECK (source <> ''),
    event_id varchar(255) NOT NULL CONSTRAINT ck_inbox_event_id CHECK (event_id <> ''),
    received_at timestamptz NOT NULL,
    CONSTRAINT pk_inbox PRIMARY KEY (source, event_id)
);
CREATE INDEX ix_inbox_received ON inbox (received_at);

-- How far consumers of the feed have come.
CREATE TABLE feed_checkpoints (
    consumer varchar(100) CONSTRAINT pk_feed_checkpoints PRIMARY KEY CONSTRAINT ck_feed_checkpoints_consumer CHECK (consumer <> ''),
    position text NOT NULL,
    updated_at timestamptz NOT NULL
) WITH (fillfactor = 50);

-- The order in which events were appended: within a room, that of its lock. Not owned by the column, whose table becomes a partition
-- that may be dropped.
CREATE SEQUENCE audit_logs_sequence AS bigint;
-- Whoever may append need not be told of it: there is nothing to be gained by counting on. docs/sql/grants.sql takes it back.
GRANT USAGE ON SEQUENCE audit_logs_sequence TO PUBLIC;
-- What its rows point at is checked by a trigger, see below. By the last two columns the feed finds what has been committed since; the
-- transaction stands first, because its number must be there before that of an event.
CREATE TABLE audit_logs (
    id uuid NOT NULL,
    action audit_action NOT NULL,
    user_id uuid,
    room_id uuid,
    target_user_id uuid,
    metadata jsonb,
    ip_address inet,
    user_agent varchar(500),
    "timestamp" timestamptz NOT NULL,
    transaction xid8 NOT NULL DEFAULT pg_current_xact_id(),
    sequence bigint NOT NULL DEFAULT nextval('audit_logs_sequence'),
    CONSTRAINT pk_audit_logs PRIMARY KEY ("timestamp", id)
);
CREATE INDEX ix_audit_logs_feed ON audit_logs (transaction, sequence);
CREATE INDEX ix_audit_logs_room ON audit_logs (room_id, "timestamp", id) WHERE room_id IS NOT NULL;
CREATE INDEX ix_audit_logs_user ON audit_logs (user_id, "timestamp", id) WHERE user_id IS NOT NULL;
CREATE INDEX ix_audit_logs_target_user ON audit_logs (target_user_id, "timestamp", id) WHERE target_user_id IS NOT NULL;

-- A refusal looks like a violated constraint of the trigger's name, so that callers treat both alike.
CREATE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% of audit_logs refused: the audit log is immutable', TG_OP
        USING ERRCODE = 'restrict_violation', CONSTRAINT = 'tr_audit_logs_immutable', TABLE = TG_TABLE_NAME;
END
$$;
CREATE TRIGGER tr_audit_logs_immutable BEFORE UPDATE OR DELETE ON audit_logs
    FOR EACH ROW EXECUTE FUNCTION refuse_audit_change();
CREATE TRIGGER tr_audit_logs_no_truncate BEFORE TRUNCATE ON audit_logs
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change();
-- ALWAYS: session_replication_role = replica does not switch these off.
ALTER TABLE audit_logs ENABLE ALWAYS TRIGGER tr_audit_logs_immutable;
ALTER TABLE audit_logs ENABLE ALWAYS TRIGGER tr_audit_logs_no_truncate;

-- Users, rooms and media nodes are marked as deleted or lost, never deleted: whoever has seen one can point at it for ever without a lock.
CREATE FUNCTION refuse_removal() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% of % refused: its rows are marked as deleted, never deleted', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation', CONSTRAINT = 'tr_' || TG_TABLE_NAME || '_kept', TABLE = TG_TABLE_NAME;
END
$$;
CREATE TRIGGER tr_users_kept BEFORE DELETE OR UPDATE OF id ON users FOR EACH ROW EXECUTE FUNCTION refuse_removal();
CREATE TRIGGER tr_users_no_truncate BEFORE TRUNCATE ON users FOR EACH STATEMENT EXECUTE FUNCTION refuse_removal();
CREATE TRIGGER tr_rooms_kept BEFORE DELETE OR UPDATE OF id ON rooms FOR EACH ROW EXECUTE FUNCTION refuse_removal();
CREATE TRIGGER tr_rooms_no_truncate BEFORE TRUNCATE ON rooms FOR EACH STATEMENT EXECUTE FUNCTION refuse_removal();
ALTER TABLE users ENABLE ALWAYS TRIGGER tr_users_kept;
ALTER TABLE users ENABLE ALWAYS TRIGGER tr_users_no_truncate;
ALTER TABLE rooms ENABLE ALWAYS TRIGGER tr_rooms_kept;
ALTER TABLE rooms ENABLE ALWAYS TRIGGER tr_rooms_no_truncate;
CREATE TRIGGER tr_media_nodes_kept BEFORE DELETE OR UPDATE OF id ON media_nodes FOR EACH ROW EXECUTE FUNCTION refuse_removal();
CREATE TRIGGER tr_media_nodes_no_truncate BEFORE TRUNCATE ON media_nodes FOR EACH STATEMENT EXECUTE FUNCTION refuse_removal();
ALTER TABLE media_nodes ENABLE ALWAYS TRIGGER tr_media_nodes_kept;
ALTER TABLE media_nodes ENABLE ALWAYS TRIGGER tr_media_nodes_no_truncate;

-- The references of all events that a statement appends, asked at once and without locks. A scalar subquery each: EXISTS might
-- be planned as a hash of the whole table.
CREATE FUNCTION check_audit_references() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    broken text;
BEGIN
    IF EXISTS (
        SELECT FROM appended AS event
        WHERE (event.user_id IS NOT NULL AND (SELECT TRUE FROM users WHERE id = event.user_id) IS NULL)
            OR (event.room_id IS NOT NULL AND (SELECT TRUE FROM rooms WHERE id = event.room_id) IS NULL)
            OR (event.target_user_id IS NOT NULL AND (SELECT TRUE FROM users WHERE id = event.target_user_id) IS NULL)
    ) THEN
        SELECT CASE
            WHEN event.user_id IS NOT NULL AND NOT EXISTS (SELECT FROM users WHERE id = event.user_id) THEN 'fk_audit_logs_user'
            WHEN event.room_id IS NOT NULL AND NOT EXISTS (SELECT FROM rooms WHERE id = event.room_id) THEN 'fk_audit_logs_room'
            WHEN event.target_user_id IS NOT NULL AND NOT EXISTS (SELECT FROM users WHERE id = event.target_user_id)
                THEN 'fk_audit_logs_target_user' END AS name
        INTO broken FROM appended AS event ORDER BY name LIMIT 1;
        RAISE EXCEPTION 'insert into audit_logs violates foreign key "%"', broken
            USING ERRCODE = 'foreign_key_violation', CONSTRAINT = broken, TABLE = TG_TABLE_NAME;
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER tr_audit_logs_references AFTER INSERT ON audit_logs REFERENCING NEW TABLE AS appended
    FOR EACH STATEMENT EXECUTE FUNCTION check_audit_references();
ALTER TABLE audit_logs ENABLE ALWAYS TRIGGER tr_audit_logs_references;

-- Rules of a row that a trigger asks, and not a CHECK: PostgreSQL reads every CHECK of a table anew for each statement, which
-- cost a join more than all its indexes (ADR 11). A trigger is asked only where a statement sets a column that its rules read.
CREATE FUNCTION check_users() RETURNS trigger LANGUAGE plpgsql AS $$
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

CREATE FUNCTION check_rooms() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    broken text;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF OLD.status <> NEW.status AND (OLD.status, NEW.status) NOT IN (
            ('CREATED', 'LIVE'), ('CREATED', 'CANCELLED'), ('LIVE', 'ENDED'))
        THEN
            broken := 'tr_rooms_status';
        END IF;
    END IF;
    IF NEW.room_code = '' THEN
        broken := 'ck_rooms_room_code';
    ELSIF NEW.max_participants < 1 THEN
        broken := 'ck_rooms_max_participants';
    ELSIF NEW.scheduled_end IS NOT NULL AND (NEW.scheduled_start IS NULL OR NEW.scheduled_end <= NEW.scheduled_start) THEN
        broken := 'ck_rooms_schedule';
    ELSIF NEW.deleted_at IS NOT NULL AND NEW.status = 'LIVE' THEN
        broken := 'ck_rooms_not_deleted_live';
    ELSIF NOT (CASE NEW.status
        WHEN 'LIVE' THEN NEW.started_at IS NOT NULL AND NEW.ended_at IS NULL AND NEW.duration_seconds IS NULL
        WHEN 'ENDED' THEN NEW.started_at IS NOT NULL AND NEW.ended_at IS NOT NULL AND NEW.duration_seconds IS NOT NULL
            AND NEW.started_at <= NEW.ended_at AND NEW.duration_seconds >= 0
        ELSE NEW.started_at IS NULL AND NEW.ended_at IS NULL AND NEW.duration_seconds IS NULL END)
    THEN
        broken := 'ck_rooms_lifecycle';
    END IF;
    IF broken IS NOT NULL THEN
        RAISE EXCEPTION 'new row for relation "%" violates check constraint "%"', TG_TABLE_NAME, broken
            USING ERRCODE = 'check_violation', CONSTRAINT = broken, TABLE = TG_TABLE_NAME;
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER tr_rooms_rules AFTER INSERT OR UPDATE OF room_code, max_participants, scheduled_start, scheduled_end, status,
    started_at, ended_at, duration_seconds, deleted_at ON rooms
    FOR EACH ROW EXECUTE FUNCTION check_rooms();
ALTER TABLE rooms ENABLE ALWAYS TRIGGER tr_rooms_rules;

CREATE FUNCTION check_media_nodes() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    broken text;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF OLD.lost_at IS NOT NULL THEN
            broken := 'tr_media_nodes_lost';
        END IF;
    END IF;
    IF NEW.name = '' THEN
        broken := 'ck_media_nodes_name';
    ELSIF NEW.beat_at < NEW.registered_at OR NEW.lost_at < NEW.beat_at THEN
        broken := 'ck_media_nodes_beat';
    END IF;
    IF broken IS NOT NULL THEN
        RAISE EXCEPTION 'new row for relation "%" violates check constraint "%"', TG_TABLE_NAME, broken
            USING ERRCODE = 'check_violation', CONSTRAINT = broken, TABLE = TG_TABLE_NAME;
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER tr_media_nodes_rules AFTER INSERT OR UPDATE OF name, registered_at, beat_at, lost_at ON media_nodes
    FOR EACH ROW EXECUTE FUNCTION check_media_nodes();
ALTER TABLE media_nodes ENABLE ALWAYS TRIGGER tr_media_nodes_rules;

CREATE FUNCTION check_room_participants() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    broken text;
BEGIN
    -- Of somebody who came in and was neither put out nor banned, one rule is left to ask.
    IF NEW.left_at IS NULL THEN
        IF NEW.duration_seconds IS NOT NULL THEN
            broken := 'ck_room_participants_left';
        END IF;
    ELSIF NEW.duration_seconds IS NULL OR NEW.duration_seconds < 0 OR NEW.left_at < NEW.joined_at THEN
        broken := 'ck_room_participants_left';
    END IF;
    IF NEW.is_kicked THEN
        IF NEW.kicked_at IS NULL OR NEW.left_at IS NULL THEN
            broken := 'ck_room_participants_kick';
        END IF;
    ELSIF num_nonnulls(NEW.kicked_at, NEW.kicked_by, NEW.kick_reason) > 0 THEN
        broken := 'ck_room_participants_kick';
    END IF;
    IF NEW.is_banned AND (NEW.banned_at IS NULL OR NEW.left_at IS NULL) THEN
        broken := 'ck_room_participants_ban';
    END IF;
    IF NEW.ban_expires_at IS NOT NULL AND (NEW.banned_at IS NULL OR NEW.ban_expires_at <= NEW.banned_at) THEN
        broken := 'ck_room_participants_ban_expiry';
    END IF;
    -- Most participations name no node, and ask nothing of the table. Without a lock: a node stays, and once lost it stays lost.
    IF NEW.node_id IS NOT NULL THEN
        IF NOT EXISTS (SELECT FROM media_nodes WHERE id = NEW.node_id) THEN
            broken := 'fk_room_participants_node';
        ELSIF NEW.left_at IS NOT NULL AND EXISTS (SELECT FROM media_nodes WHERE id = NEW.node_id AND lost_at IS NULL) THEN
            broken := 'tr_room_participants_node';
        END IF;
    END IF;
    IF broken IS NOT NULL THEN
        RAISE EXCEPTION 'new row for relation "%" violates check constraint "%"', TG_TABLE_NAME, broken
            USING ERRCODE = CASE broken WHEN 'fk_room_participants_node' THEN 'foreign_key_violation' ELSE 'check_violation' END, CONSTRAINT = broken, TABLE = TG_TABLE_NAME;
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER tr_room_participants_rules AFTER INSERT OR UPDATE OF joined_at, left_at, duration_seconds, is_kicked, kicked_at,
    kicked_by, kick_reason, is_banned, banned_at, ban_expires_at, node_id ON room_participants
    FOR EACH ROW EXECUTE FUNCTION check_room_participants();
ALTER TABLE room_participants ENABLE ALWAYS TRIGGER tr_room_participants_rules;

CREATE FUNCTION check_recordings() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    broken text;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF OLD.status <> NEW.status AND (OLD.status, NEW.status) NOT IN (
            ('STARTED', 'IN_PROGRESS'), ('STARTED', 'STOPPED'), ('STARTED', 'FAILED'),
            ('IN_PROGRESS', 'STOPPED'), ('IN_PROGRESS', 'FAILED'),
            ('STOPPED', 'PROCESSING'), ('STOPPED', 'FAILED'),
            ('PROCESSING', 'READY'), ('PROCESSING', 'FAILED'),
            ('FAILED', 'PROCESSING'))
        THEN
            broken := 'tr_recordings_status';
        END IF;
        IF OLD.purged_at IS NOT NULL AND NEW.purged_at IS DISTINCT FROM OLD.purged_at THEN
            broken := 'tr_recordings_purged';
        END IF;
    END IF;
    IF NEW.size_bytes < 0 OR NEW.duration_seconds < 0 OR NEW.fps <= 0 OR NEW.bitrate < 0 THEN
        broken := 'ck_recordings_measures';
    ELSIF NEW.retry_count < 0 THEN
        broken := 'ck_recordings_retry_count';
    ELSIF NOT (CASE NEW.status
        WHEN 'STARTED' THEN NEW.stopped_at IS NULL
        WHEN 'IN_PROGRESS' THEN NEW.stopped_at IS NULL
        WHEN 'FAILED' THEN NEW.error_message IS NOT NULL
        ELSE NEW.stopped_at IS NOT NULL END)
    THEN
        broken := 'ck_recordings_lifecycle';
    ELSIF NEW.stopped_at < NEW.started_at THEN
        broken := 'ck_recordings_stopped';
    ELSIF NEW.deleted_at IS NULL AND num_nonnulls(NEW.purge_claimed_until, NEW.purged_at) > 0 THEN
        broken := 'ck_recordings_purge';
    ELSIF NEW.egress_id = '' THEN
        broken := 'ck_recordings_egress';
    END IF;
    IF broken IS NOT NULL THEN
        RAISE EXCEPTION 'new row for relation "%" violates check constraint "%"', TG_TABLE_NAME, broken
            USING ERRCODE = 'check_violation', CONSTRAINT = broken, TABLE = TG_TABLE_NAME;
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER tr_recordings_rules AFTER INSERT OR UPDATE OF size_bytes, duration_seconds, fps, bitrate, retry_count, status,
    started_at, stopped_at, error_message, deleted_at, purge_claimed_until, purged_at, egress_id ON recordings
    FOR EACH ROW EXECUTE FUNCTION check_recordings();
ALTER TABLE recordings ENABLE ALWAYS TRIGGER tr_recordings_rules;
