-- UUIDs are 16-byte blobs; times are RFC 3339 text in UTC, so that text order is time order; enums are text with a CHECK.
-- STRICT refuses a value of another type. What PostgreSQL's types say in passing (length, boolean) is a CHECK here.

CREATE TABLE users (
    id BLOB NOT NULL CONSTRAINT pk_users PRIMARY KEY,
    username TEXT NOT NULL,
    email TEXT,
    password_hash TEXT,
    display_name TEXT NOT NULL,
    is_active INTEGER NOT NULL,
    is_verified INTEGER NOT NULL,
    deleted_at TEXT,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    last_login_at TEXT,
    CONSTRAINT ck_users_username CHECK (username <> ''),
    CONSTRAINT ck_users_email CHECK (email <> ''),
    CONSTRAINT ck_users_lengths CHECK (
        length(username) <= 100
        AND length(email) <= 255
        AND length(password_hash) <= 255
        AND length(display_name) <= 150
    ),
    CONSTRAINT ck_users_ids CHECK (length(id) = 16),
    CONSTRAINT ck_users_flags CHECK (is_active IN (0, 1) AND is_verified IN (0, 1)),
    CONSTRAINT ck_users_times CHECK (
        deleted_at LIKE '____-__-__T__:__:__%+00:00'
        AND created_at LIKE '____-__-__T__:__:__%+00:00'
        AND updated_at LIKE '____-__-__T__:__:__%+00:00'
        AND last_login_at LIKE '____-__-__T__:__:__%+00:00'
    )
) STRICT;
-- lower() folds A-Z alone here; the store folds the rest before it writes.
CREATE UNIQUE INDEX uq_users_username ON users (lower(username));
CREATE UNIQUE INDEX uq_users_email ON users (lower(email));

CREATE TABLE auth_providers (
    id BLOB NOT NULL CONSTRAINT pk_auth_providers PRIMARY KEY,
    user_id BLOB NOT NULL CONSTRAINT fk_auth_providers_user REFERENCES users (id) ON DELETE CASCADE,
    provider_type TEXT NOT NULL,
    provider_id TEXT NOT NULL,
    provider_email TEXT,
    access_token TEXT,
    refresh_token TEXT,
    token_expires_at TEXT,
    metadata TEXT,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    last_used_at TEXT,
    CONSTRAINT ck_auth_providers_provider_id CHECK (provider_id <> ''),
    CONSTRAINT ck_auth_providers_lengths CHECK (
        length(provider_id) <= 255
        AND length(provider_email) <= 255
    ),
    CONSTRAINT ck_auth_providers_ids CHECK (length(id) = 16 AND length(user_id) = 16),
    CONSTRAINT ck_auth_providers_times CHECK (
        token_expires_at LIKE '____-__-__T__:__:__%+00:00'
        AND created_at LIKE '____-__-__T__:__:__%+00:00'
        AND updated_at LIKE '____-__-__T__:__:__%+00:00'
        AND last_used_at LIKE '____-__-__T__:__:__%+00:00'
    ),
    CONSTRAINT ck_auth_providers_provider_type CHECK (provider_type IN ('LOCAL', 'GOOGLE', 'GITHUB', 'MICROSOFT', 'APPLE', 'SAML')),
    CONSTRAINT ck_auth_providers_metadata CHECK (json_valid(metadata))
) STRICT;
CREATE UNIQUE INDEX uq_auth_providers_account ON auth_providers (provider_type, provider_id);
CREATE INDEX ix_auth_providers_user ON auth_providers (user_id);

CREATE TABLE rooms (
    id BLOB NOT NULL CONSTRAINT pk_rooms PRIMARY KEY,
    owner_id BLOB NOT NULL CONSTRAINT fk_rooms_owner REFERENCES users (id) ON DELETE RESTRICT,
    room_code TEXT NOT NULL,
    title TEXT NOT NULL,
    description TEXT,
    scheduled_start TEXT,
    scheduled_end TEXT,
    max_participants INTEGER NOT NULL,
    is_public INTEGER NOT NULL,
    is_recordable INTEGER NOT NULL,
    require_auth INTEGER NOT NULL,
    status TEXT NOT NULL,
    started_at TEXT,
    ended_at TEXT,
    peak_participants INTEGER NOT NULL,
    total_joins INTEGER NOT NULL,
    duration_seconds INTEGER,
    active_participants INTEGER NOT NULL,
    deleted_at TEXT,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
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
    CONSTRAINT ck_rooms_not_deleted_live CHECK (deleted_at IS NULL OR status <> 'LIVE'),
    CONSTRAINT ck_rooms_lengths CHECK (
        length(room_code) <= 20
        AND length(title) <= 255
    ),
    CONSTRAINT ck_rooms_ids CHECK (length(id) = 16 AND length(owner_id) = 16),
    CONSTRAINT ck_rooms_flags CHECK (is_public IN (0, 1) AND is_recordable IN (0, 1) AND require_auth IN (0, 1)),
    CONSTRAINT ck_rooms_times CHECK (
        scheduled_start LIKE '____-__-__T__:__:__%+00:00'
        AND scheduled_end LIKE '____-__-__T__:__:__%+00:00'
        AND started_at LIKE '____-__-__T__:__:__%+00:00'
        AND ended_at LIKE '____-__-__T__:__:__%+00:00'
        AND deleted_at LIKE '____-__-__T__:__:__%+00:00'
        AND created_at LIKE '____-__-__T__:__:__%+00:00'
        AND updated_at LIKE '____-__-__T__:__:__%+00:00'
    ),
    CONSTRAINT ck_rooms_status CHECK (status IN ('CREATED', 'LIVE', 'ENDED', 'CANCELLED'))
) STRICT;
CREATE UNIQUE INDEX uq_rooms_room_code ON rooms (room_code);
CREATE INDEX ix_rooms_owner ON rooms (owner_id, created_at, id);
CREATE INDEX ix_rooms_live ON rooms (is_public, started_at, id) WHERE status = 'LIVE' AND deleted_at IS NULL;
CREATE INDEX ix_rooms_upcoming ON rooms (scheduled_start, id) WHERE status = 'CREATED' AND deleted_at IS NULL;

CREATE TABLE media_nodes (
    id BLOB NOT NULL CONSTRAINT pk_media_nodes PRIMARY KEY,
    name TEXT NOT NULL,
    registered_at TEXT NOT NULL,
    beat_at TEXT NOT NULL,
    lost_at TEXT,
    CONSTRAINT ck_media_nodes_name CHECK (name <> ''),
    CONSTRAINT ck_media_nodes_beat CHECK (registered_at <= beat_at AND (lost_at IS NULL OR beat_at <= lost_at)),
    CONSTRAINT ck_media_nodes_lengths CHECK (length(name) <= 100),
    CONSTRAINT ck_media_nodes_ids CHECK (length(id) = 16),
    CONSTRAINT ck_media_nodes_times CHECK (
        registered_at LIKE '____-__-__T__:__:__%+00:00'
        AND beat_at LIKE '____-__-__T__:__:__%+00:00'
        AND lost_at LIKE '____-__-__T__:__:__%+00:00'
    )
) STRICT;
CREATE UNIQUE INDEX uq_media_nodes_name ON media_nodes (name) WHERE lost_at IS NULL;

CREATE TABLE room_participants (
    id BLOB NOT NULL CONSTRAINT pk_room_participants PRIMARY KEY,
    user_id BLOB NOT NULL CONSTRAINT fk_room_participants_user REFERENCES users (id) ON DELETE CASCADE,
    room_id BLOB NOT NULL CONSTRAINT fk_room_participants_room REFERENCES rooms (id) ON DELETE CASCADE,
    role TEXT NOT NULL,
    joined_at TEXT NOT NULL,
    left_at TEXT,
    is_kicked INTEGER NOT NULL,
    kicked_at TEXT,
    kicked_by BLOB CONSTRAINT fk_room_participants_kicked_by REFERENCES users (id),
    kick_reason TEXT,
    is_banned INTEGER NOT NULL,
    banned_at TEXT,
    banned_by BLOB CONSTRAINT fk_room_participants_banned_by REFERENCES users (id),
    ban_reason TEXT,
    ban_expires_at TEXT,
    duration_seconds INTEGER,
    node_id BLOB CONSTRAINT fk_room_participants_node REFERENCES media_nodes (id),
    CONSTRAINT ck_room_participants_left CHECK (
        CASE WHEN left_at IS NULL THEN duration_seconds IS NULL
             ELSE duration_seconds IS NOT NULL AND duration_seconds >= 0 AND joined_at <= left_at END
    ),
    CONSTRAINT ck_room_participants_kick CHECK (
        CASE WHEN is_kicked THEN kicked_at IS NOT NULL AND left_at IS NOT NULL
             ELSE kicked_at IS NULL AND kicked_by IS NULL AND kick_reason IS NULL END
    ),
    CONSTRAINT ck_room_participants_ban CHECK (NOT is_banned OR (banned_at IS NOT NULL AND left_at IS NOT NULL)),
    CONSTRAINT ck_room_participants_ban_expiry CHECK (ban_expires_at IS NULL OR (banned_at IS NOT NULL AND banned_at < ban_expires_at)),
    CONSTRAINT ck_room_participants_lengths CHECK (
        length(kick_reason) <= 500
        AND length(ban_reason) <= 500
    ),
    CONSTRAINT ck_room_participants_ids CHECK (
        length(id) = 16 AND length(user_id) = 16 AND length(room_id) = 16 AND length(kicked_by) = 16 AND length(banned_by) = 16
        AND length(node_id) = 16
    ),
    CONSTRAINT ck_room_participants_flags CHECK (is_kicked IN (0, 1) AND is_banned IN (0, 1)),
    CONSTRAINT ck_room_participants_times CHECK (
        joined_at LIKE '____-__-__T__:__:__%+00:00'
        AND left_at LIKE '____-__-__T__:__:__%+00:00'
        AND kicked_at LIKE '____-__-__T__:__:__%+00:00'
        AND banned_at LIKE '____-__-__T__:__:__%+00:00'
        AND ban_expires_at LIKE '____-__-__T__:__:__%+00:00'
    ),
    CONSTRAINT ck_room_participants_role CHECK (role IN ('HOST', 'CO_HOST', 'PARTICIPANT'))
) STRICT;
CREATE UNIQUE INDEX uq_room_participants_joined ON room_participants (user_id, joined_at, room_id);
-- One seat, one ban, and never both: a second row of either kind for the same user and room cannot exist.
CREATE UNIQUE INDEX uq_room_participants_current ON room_participants (room_id, user_id) WHERE left_at IS NULL OR is_banned;
CREATE UNIQUE INDEX uq_room_participants_host ON room_participants (room_id) WHERE left_at IS NULL AND role = 'HOST';
CREATE INDEX ix_room_participants_present ON room_participants (room_id, joined_at, id) WHERE left_at IS NULL;
CREATE INDEX ix_room_participants_room ON room_participants (room_id, joined_at, id);
-- Who is served by a node; and whose participations ended with it.
CREATE INDEX ix_room_participants_node ON room_participants (node_id, room_id, id) WHERE left_at IS NULL AND node_id IS NOT NULL;
CREATE INDEX ix_room_participants_lost ON room_participants (node_id, left_at, id) WHERE left_at IS NOT NULL AND node_id IS NOT NULL;

CREATE TABLE recordings (
    id BLOB NOT NULL CONSTRAINT pk_recordings PRIMARY KEY,
    room_id BLOB NOT NULL CONSTRAINT fk_recordings_room REFERENCES rooms (id) ON DELETE RESTRICT,
    owner_id BLOB NOT NULL CONSTRAINT fk_recordings_owner REFERENCES users (id) ON DELETE RESTRICT,
    storage_key TEXT NOT NULL,
    storage_url TEXT,
    storage_bucket TEXT NOT NULL,
    egress_id TEXT,
    filename TEXT NOT NULL,
    size_bytes INTEGER,
    duration_seconds INTEGER,
    codec TEXT,
    resolution TEXT,
    fps INTEGER,
    bitrate INTEGER,
    status TEXT NOT NULL,
    started_at TEXT NOT NULL,
    stopped_at TEXT,
    error_message TEXT,
    retry_count INTEGER NOT NULL,
    is_public INTEGER NOT NULL,
    expires_at TEXT,
    deleted_at TEXT,
    purge_claimed_until TEXT,
    purged_at TEXT,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
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
    CONSTRAINT ck_recordings_stopped CHECK (stopped_at IS NULL OR started_at <= stopped_at),
    CONSTRAINT ck_recordings_purge CHECK (deleted_at IS NOT NULL OR (purge_claimed_until IS NULL AND purged_at IS NULL)),
    CONSTRAINT ck_recordings_egress CHECK (egress_id <> ''),
    CONSTRAINT ck_recordings_lengths CHECK (
        length(storage_key) <= 500
        AND length(storage_bucket) <= 100
        AND length(egress_id) <= 255
        AND length(filename) <= 255
        AND length(codec) <= 50
        AND length(resolution) <= 20
    ),
    CONSTRAINT ck_recordings_ids CHECK (length(id) = 16 AND length(room_id) = 16 AND length(owner_id) = 16),
    CONSTRAINT ck_recordings_flags CHECK (is_public IN (0, 1)),
    CONSTRAINT ck_recordings_times CHECK (
        started_at LIKE '____-__-__T__:__:__%+00:00'
        AND stopped_at LIKE '____-__-__T__:__:__%+00:00'
        AND expires_at LIKE '____-__-__T__:__:__%+00:00'
        AND deleted_at LIKE '____-__-__T__:__:__%+00:00'
        AND purge_claimed_until LIKE '____-__-__T__:__:__%+00:00'
        AND purged_at LIKE '____-__-__T__:__:__%+00:00'
        AND created_at LIKE '____-__-__T__:__:__%+00:00'
        AND updated_at LIKE '____-__-__T__:__:__%+00:00'
    ),
    CONSTRAINT ck_recordings_status CHECK (status IN ('STARTED', 'IN_PROGRESS', 'STOPPED', 'FAILED', 'PROCESSING', 'READY'))
) STRICT;
CREATE UNIQUE INDEX uq_recordings_storage_key ON recordings (storage_key);
CREATE UNIQUE INDEX uq_recordings_egress ON recordings (egress_id) WHERE egress_id IS NOT NULL;
CREATE INDEX ix_recordings_room ON recordings (room_id, started_at, id);
CREATE INDEX ix_recordings_owner ON recordings (owner_id, started_at, id);
CREATE INDEX ix_recordings_expiry ON recordings (expires_at, id) WHERE deleted_at IS NULL AND expires_at IS NOT NULL;
CREATE INDEX ix_recordings_running ON recordings (updated_at, id) WHERE status IN ('STARTED', 'IN_PROGRESS');
CREATE INDEX ix_recordings_purge ON recordings (deleted_at, id) WHERE deleted_at IS NOT NULL AND purged_at IS NULL;

-- What was received from elsewhere and must be acted on once. The key is all that it is for.
CREATE TABLE inbox (
    source TEXT NOT NULL,
    event_id TEXT NOT NULL,
    received_at TEXT NOT NULL,
    CONSTRAINT pk_inbox PRIMARY KEY (source, event_id),
    CONSTRAINT ck_inbox_source CHECK (source <> ''),
    CONSTRAINT ck_inbox_event_id CHECK (event_id <> ''),
    CONSTRAINT ck_inbox_lengths CHECK (
        length(source) <= 100
        AND length(event_id) <= 255
    ),
    CONSTRAINT ck_inbox_times CHECK (
        received_at LIKE '____-__-__T__:__:__%+00:00'
    )
) STRICT;
CREATE INDEX ix_inbox_received ON inbox (received_at);

-- How far consumers of the feed have come.
CREATE TABLE feed_checkpoints (
    consumer TEXT NOT NULL CONSTRAINT pk_feed_checkpoints PRIMARY KEY,
    position TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    CONSTRAINT ck_feed_checkpoints_consumer CHECK (consumer <> ''),
    CONSTRAINT ck_feed_checkpoints_lengths CHECK (
        length(consumer) <= 100
    ),
    CONSTRAINT ck_feed_checkpoints_times CHECK (
        updated_at LIKE '____-__-__T__:__:__%+00:00'
    )
) STRICT;

CREATE TABLE audit_logs (
    id BLOB NOT NULL,
    action TEXT NOT NULL,
    user_id BLOB CONSTRAINT fk_audit_logs_user REFERENCES users (id) ON DELETE RESTRICT,
    room_id BLOB CONSTRAINT fk_audit_logs_room REFERENCES rooms (id) ON DELETE RESTRICT,
    target_user_id BLOB CONSTRAINT fk_audit_logs_target_user REFERENCES users (id) ON DELETE RESTRICT,
    metadata TEXT,
    ip_address TEXT,
    user_agent TEXT,
    "timestamp" TEXT NOT NULL,
    CONSTRAINT pk_audit_logs PRIMARY KEY ("timestamp", id),
    CONSTRAINT ck_audit_logs_ids CHECK (length(id) = 16 AND length(user_id) = 16 AND length(room_id) = 16 AND length(target_user_id) = 16),
    CONSTRAINT ck_audit_logs_lengths CHECK (
        length(ip_address) <= 45
        AND length(user_agent) <= 500
    ),
    CONSTRAINT ck_audit_logs_times CHECK (
        "timestamp" LIKE '____-__-__T__:__:__%+00:00'
    ),
    CONSTRAINT ck_audit_logs_action CHECK (action IN (
        'USER_REGISTERED', 'USER_LOGIN_SUCCESS', 'USER_LOGIN_FAILED', 'USER_LOGOUT', 'USER_DELETED',
        'ROOM_CREATED', 'ROOM_STARTED', 'ROOM_ENDED', 'ROOM_CANCELLED', 'USER_JOINED',
        'USER_LEFT', 'USER_KICKED', 'USER_BANNED', 'ROLE_CHANGED', 'ROLE_PROMOTION',
        'ROLE_DEMOTION', 'USER_MUTED', 'USER_UNMUTED', 'ALL_MUTED', 'SCREEN_SHARE_STARTED',
        'SCREEN_SHARE_STOPPED', 'RECORDING_STARTED', 'RECORDING_STOPPED', 'RECORDING_DELETED', 'PRODUCER_CREATED',
        'PRODUCER_CLOSED', 'CONSUMER_CREATED', 'CONSUMER_CLOSED', 'UNAUTHORIZED_ACCESS_ATTEMPT', 'RATE_LIMIT_EXCEEDED',
        'SUSPICIOUS_ACTIVITY'
    )),
    CONSTRAINT ck_audit_logs_metadata CHECK (json_valid(metadata))
) STRICT, WITHOUT ROWID;
CREATE INDEX ix_audit_logs_room ON audit_logs (room_id, "timestamp", id) WHERE room_id IS NOT NULL;
CREATE INDEX ix_audit_logs_user ON audit_logs (user_id, "timestamp", id) WHERE user_id IS NOT NULL;
CREATE INDEX ix_audit_logs_target_user ON audit_logs (target_user_id, "timestamp", id) WHERE target_user_id IS NOT NULL;

-- The order in which events were committed, for the feed: SQLite has one writer at a time. No row is ever deleted, so no number comes twice.
CREATE TABLE audit_feed (
    sequence INTEGER PRIMARY KEY,
    "timestamp" TEXT NOT NULL,
    id BLOB NOT NULL
) STRICT;
CREATE TRIGGER tr_audit_logs_feed AFTER INSERT ON audit_logs
BEGIN INSERT INTO audit_feed ("timestamp", id) VALUES (NEW."timestamp", NEW.id); END;
CREATE TRIGGER tr_audit_feed_no_update BEFORE UPDATE ON audit_feed
BEGIN SELECT RAISE(ABORT, 'tr_audit_logs_immutable'); END;
CREATE TRIGGER tr_audit_feed_no_delete BEFORE DELETE ON audit_feed
BEGIN SELECT RAISE(ABORT, 'tr_audit_logs_immutable'); END;
CREATE TRIGGER tr_audit_feed_no_replace BEFORE INSERT ON audit_feed
WHEN EXISTS (SELECT 1 FROM audit_feed WHERE sequence = NEW.sequence)
BEGIN SELECT RAISE(ABORT, 'tr_audit_logs_immutable'); END;

CREATE TRIGGER tr_audit_logs_no_update BEFORE UPDATE ON audit_logs
BEGIN SELECT RAISE(ABORT, 'tr_audit_logs_immutable'); END;
CREATE TRIGGER tr_audit_logs_no_delete BEFORE DELETE ON audit_logs
BEGIN SELECT RAISE(ABORT, 'tr_audit_logs_immutable'); END;
-- INSERT OR REPLACE would take the old row away without asking the trigger above.
CREATE TRIGGER tr_audit_logs_no_replace BEFORE INSERT ON audit_logs
WHEN EXISTS (SELECT 1 FROM audit_logs WHERE id = NEW.id AND "timestamp" = NEW."timestamp")
BEGIN SELECT RAISE(ABORT, 'tr_audit_logs_immutable'); END;

-- Users, rooms and media nodes are marked as deleted or lost, never deleted.
CREATE TRIGGER tr_users_no_delete BEFORE DELETE ON users
BEGIN SELECT RAISE(ABORT, 'tr_users_kept'); END;
CREATE TRIGGER tr_users_no_rename BEFORE UPDATE OF id ON users
BEGIN SELECT RAISE(ABORT, 'tr_users_kept'); END;
CREATE TRIGGER tr_rooms_no_delete BEFORE DELETE ON rooms
BEGIN SELECT RAISE(ABORT, 'tr_rooms_kept'); END;
CREATE TRIGGER tr_rooms_no_rename BEFORE UPDATE OF id ON rooms
BEGIN SELECT RAISE(ABORT, 'tr_rooms_kept'); END;
CREATE TRIGGER tr_media_nodes_no_delete BEFORE DELETE ON media_nodes
BEGIN SELECT RAISE(ABORT, 'tr_media_nodes_kept'); END;
CREATE TRIGGER tr_media_nodes_no_rename BEFORE UPDATE OF id ON media_nodes
BEGIN SELECT RAISE(ABORT, 'tr_media_nodes_kept'); END;
CREATE TRIGGER tr_media_nodes_lost BEFORE UPDATE OF name, registered_at, beat_at, lost_at ON media_nodes
WHEN OLD.lost_at IS NOT NULL
BEGIN SELECT RAISE(ABORT, 'tr_media_nodes_lost'); END;

-- A participation that ended names a node only if that is lost.
CREATE TRIGGER tr_room_participants_node_insert BEFORE INSERT ON room_participants
WHEN NEW.left_at IS NOT NULL AND NEW.node_id IS NOT NULL
    AND EXISTS (SELECT 1 FROM media_nodes WHERE id = NEW.node_id AND lost_at IS NULL)
BEGIN SELECT RAISE(ABORT, 'tr_room_participants_node'); END;
CREATE TRIGGER tr_room_participants_node_update BEFORE UPDATE OF left_at, node_id ON room_participants
WHEN NEW.left_at IS NOT NULL AND NEW.node_id IS NOT NULL
    AND EXISTS (SELECT 1 FROM media_nodes WHERE id = NEW.node_id AND lost_at IS NULL)
BEGIN SELECT RAISE(ABORT, 'tr_room_participants_node'); END;

CREATE TRIGGER tr_rooms_status BEFORE UPDATE OF status ON rooms
WHEN OLD.status <> NEW.status AND (OLD.status, NEW.status) NOT IN (VALUES
    ('CREATED', 'LIVE'), ('CREATED', 'CANCELLED'), ('LIVE', 'ENDED'))
BEGIN SELECT RAISE(ABORT, 'tr_rooms_status'); END;
CREATE TRIGGER tr_recordings_status BEFORE UPDATE OF status ON recordings
WHEN OLD.status <> NEW.status AND (OLD.status, NEW.status) NOT IN (VALUES
    ('STARTED', 'IN_PROGRESS'), ('STARTED', 'STOPPED'), ('STARTED', 'FAILED'),
    ('IN_PROGRESS', 'STOPPED'), ('IN_PROGRESS', 'FAILED'),
    ('STOPPED', 'PROCESSING'), ('STOPPED', 'FAILED'),
    ('PROCESSING', 'READY'), ('PROCESSING', 'FAILED'),
    ('FAILED', 'PROCESSING'))
BEGIN SELECT RAISE(ABORT, 'tr_recordings_status'); END;
CREATE TRIGGER tr_recordings_purged BEFORE UPDATE OF purged_at ON recordings
WHEN OLD.purged_at IS NOT NULL AND OLD.purged_at IS NOT NEW.purged_at
BEGIN SELECT RAISE(ABORT, 'tr_recordings_purged'); END;
