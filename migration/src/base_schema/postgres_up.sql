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
    last_login_at timestamptz,
    CONSTRAINT ck_users_username CHECK (username <> ''),
    CONSTRAINT ck_users_email CHECK (email <> '')
);
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
    CONSTRAINT ck_rooms_room_code CHECK (room_code <> ''),
    CONSTRAINT ck_rooms_max_participants CHECK (max_participants >= 1),
    CONSTRAINT ck_rooms_capacity CHECK (0 <= active_participants AND active_participants <= max_participants),
    CONSTRAINT ck_rooms_counters CHECK (active_participants <= peak_participants AND peak_participants <= total_joins),
    CONSTRAINT ck_rooms_present_only_live CHECK (active_participants = 0 OR status = 'LIVE'),
    CONSTRAINT ck_rooms_schedule CHECK (scheduled_end IS NULL OR (scheduled_start IS NOT NULL AND scheduled_start < scheduled_end)),
    CONSTRAINT ck_rooms_lifecycle CHECK (
        CASE status
            WHEN 'LIVE' THEN started_at IS NOT NULL AND ended_at IS NULL AND duration_seconds IS NULL
            WHEN 'ENDED' THEN started_at IS NOT NULL AND ended_at IS NOT NULL AND duration_seconds IS NOT NULL
                AND started_at <= ended_at AND duration_seconds >= 0
            ELSE started_at IS NULL AND ended_at IS NULL AND duration_seconds IS NULL
        END
    ),
    CONSTRAINT ck_rooms_not_deleted_live CHECK (deleted_at IS NULL OR status <> 'LIVE')
);
CREATE UNIQUE INDEX uq_rooms_room_code ON rooms (room_code);
CREATE INDEX ix_rooms_owner ON rooms (owner_id, created_at, id);
CREATE INDEX ix_rooms_live_public ON rooms (started_at, id) WHERE status = 'LIVE' AND is_public AND deleted_at IS NULL;
CREATE INDEX ix_rooms_upcoming ON rooms (scheduled_start, id) WHERE status = 'CREATED' AND deleted_at IS NULL;

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
    CONSTRAINT ck_room_participants_left CHECK (
        CASE WHEN left_at IS NULL THEN duration_seconds IS NULL
             ELSE duration_seconds IS NOT NULL AND duration_seconds >= 0 AND joined_at <= left_at END
    ),
    CONSTRAINT ck_room_participants_kick CHECK (
        CASE WHEN is_kicked THEN kicked_at IS NOT NULL AND left_at IS NOT NULL
             ELSE kicked_at IS NULL AND kicked_by IS NULL AND kick_reason IS NULL END
    ),
    CONSTRAINT ck_room_participants_ban CHECK (NOT is_banned OR (banned_at IS NOT NULL AND left_at IS NOT NULL)),
    CONSTRAINT ck_room_participants_ban_expiry CHECK (ban_expires_at IS NULL OR (banned_at IS NOT NULL AND banned_at < ban_expires_at))
);
CREATE UNIQUE INDEX uq_room_participants_joined ON room_participants (user_id, room_id, joined_at);
-- One seat, one ban, and never both: a second row of either kind for the same user and room cannot exist.
CREATE UNIQUE INDEX uq_room_participants_current ON room_participants (room_id, user_id) WHERE left_at IS NULL OR is_banned;
CREATE UNIQUE INDEX uq_room_participants_host ON room_participants (room_id) WHERE left_at IS NULL AND role = 'HOST';
CREATE INDEX ix_room_participants_present ON room_participants (room_id, joined_at, id) WHERE left_at IS NULL;
CREATE INDEX ix_room_participants_room ON room_participants (room_id, joined_at, id);

CREATE TABLE recordings (
    id uuid CONSTRAINT pk_recordings PRIMARY KEY,
    room_id uuid NOT NULL CONSTRAINT fk_recordings_room REFERENCES rooms (id) ON DELETE RESTRICT,
    owner_id uuid NOT NULL CONSTRAINT fk_recordings_owner REFERENCES users (id) ON DELETE RESTRICT,
    storage_key varchar(500) NOT NULL,
    storage_url text,
    storage_bucket varchar(100) NOT NULL,
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
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    CONSTRAINT ck_recordings_measures CHECK (size_bytes >= 0 AND duration_seconds >= 0 AND fps > 0 AND bitrate >= 0),
    CONSTRAINT ck_recordings_retry_count CHECK (retry_count >= 0),
    CONSTRAINT ck_recordings_lifecycle CHECK (
        CASE status
            WHEN 'STARTED' THEN stopped_at IS NULL
            WHEN 'IN_PROGRESS' THEN stopped_at IS NULL
            WHEN 'FAILED' THEN error_message IS NOT NULL
            ELSE stopped_at IS NOT NULL
        END
    ),
    CONSTRAINT ck_recordings_stopped CHECK (stopped_at IS NULL OR started_at <= stopped_at)
);
CREATE UNIQUE INDEX uq_recordings_storage_key ON recordings (storage_key);
CREATE INDEX ix_recordings_room ON recordings (room_id, started_at, id);
CREATE INDEX ix_recordings_owner ON recordings (owner_id, started_at, id);
CREATE INDEX ix_recordings_expiry ON recordings (expires_at, id) WHERE deleted_at IS NULL AND expires_at IS NOT NULL;
CREATE INDEX ix_recordings_running ON recordings (updated_at, id) WHERE status IN ('STARTED', 'IN_PROGRESS');

CREATE TABLE audit_logs (
    id uuid NOT NULL,
    action audit_action NOT NULL,
    user_id uuid CONSTRAINT fk_audit_logs_user REFERENCES users (id) ON DELETE RESTRICT,
    room_id uuid CONSTRAINT fk_audit_logs_room REFERENCES rooms (id) ON DELETE RESTRICT,
    target_user_id uuid CONSTRAINT fk_audit_logs_target_user REFERENCES users (id) ON DELETE RESTRICT,
    metadata jsonb,
    ip_address inet,
    user_agent varchar(500),
    "timestamp" timestamptz NOT NULL,
    CONSTRAINT pk_audit_logs PRIMARY KEY (id, "timestamp")
);
CREATE INDEX ix_audit_logs_time ON audit_logs ("timestamp", id);
CREATE INDEX ix_audit_logs_room ON audit_logs (room_id, "timestamp", id);
CREATE INDEX ix_audit_logs_user ON audit_logs (user_id, "timestamp", id);
CREATE INDEX ix_audit_logs_target_user ON audit_logs (target_user_id, "timestamp", id);
CREATE INDEX ix_audit_logs_action ON audit_logs (action, "timestamp", id);

-- A refusal looks like a violated constraint of the trigger's name, so that callers treat both alike.
CREATE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% of audit_logs refused: the audit audit_log is immutable', TG_OP
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

CREATE FUNCTION refuse_status_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'status of % cannot change from % to %', TG_TABLE_NAME, OLD.status, NEW.status
        USING ERRCODE = 'check_violation', CONSTRAINT = TG_NAME, TABLE = TG_TABLE_NAME;
END
$$;
CREATE TRIGGER tr_rooms_status BEFORE UPDATE OF status ON rooms FOR EACH ROW
    WHEN (OLD.status <> NEW.status AND (OLD.status, NEW.status) NOT IN (
        ('CREATED', 'LIVE'), ('CREATED', 'CANCELLED'), ('LIVE', 'ENDED')))
    EXECUTE FUNCTION refuse_status_change();
CREATE TRIGGER tr_recordings_status BEFORE UPDATE OF status ON recordings FOR EACH ROW
    WHEN (OLD.status <> NEW.status AND (OLD.status, NEW.status) NOT IN (
        ('STARTED', 'IN_PROGRESS'), ('STARTED', 'STOPPED'), ('STARTED', 'FAILED'),
        ('IN_PROGRESS', 'STOPPED'), ('IN_PROGRESS', 'FAILED'),
        ('STOPPED', 'PROCESSING'), ('STOPPED', 'FAILED'),
        ('PROCESSING', 'READY'), ('PROCESSING', 'FAILED'),
        ('FAILED', 'PROCESSING')))
    EXECUTE FUNCTION refuse_status_change();
