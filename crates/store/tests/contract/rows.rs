//! Rows by hand: SQL past the store, for what the schema itself has to refuse or to let through.
//!
//! `#name` stands for a UUID of that name, `~10` for the time ten seconds into 2026 (`~10.000001` a microsecond later).

use sea_orm::{ConnectionTrait, DbBackend, DbErr, RuntimeErr, SqlxError, TransactionTrait};

use crate::declared::{self, Table};
use crate::harness::{Raw, TestDb};

/// An INSERT of a row that is valid but for the columns given, as `column=value; column=value`.
#[derive(Clone, Copy, Debug)]
pub enum Sql {
    /// Every column that may be NULL is.
    Bare(&'static str, &'static str),
    /// No column is NULL.
    Full(&'static str, &'static str),
    /// Any statement.
    Plain(&'static str),
}

impl Sql {
    /// The statement for a backend.
    pub fn text(self, backend: DbBackend) -> String {
        match self {
            Self::Bare(table, values) => insert(backend, table, &[required(table), values]),
            Self::Full(table, values) => insert(backend, table, &[required(table), optional(table), values]),
            Self::Plain(sql) => spelled(backend, sql),
        }
    }
}

/// An INSERT of the values given, later ones before earlier ones; all other columns are NULL.
pub fn insert(backend: DbBackend, table: &str, values: &[&str]) -> String {
    let columns: Vec<&str> = columns_of(table).columns.iter().map(|column| column.name).collect();
    for assignment in values
        .iter()
        .flat_map(|values| values.split("; "))
        .filter(|text| !text.is_empty())
    {
        let (name, _) = assignment.split_once('=').unwrap();
        assert!(columns.contains(&name), "{table} has no column {name}");
    }
    let values: Vec<&str> = columns.iter().map(|column| value_of(values, column)).collect();
    let sql = format!(
        "INSERT INTO {table} ({}) VALUES ({})",
        columns.join(", "),
        values.join(", ")
    );
    spelled(backend, &sql)
}

/// What a column gets from `column=value; column=value` texts, of which the last one counts.
pub fn value_of<'a>(values: &[&'a str], column: &str) -> &'a str {
    let assignments = values.iter().rev().flat_map(|values| values.split("; "));
    let mut assignments = assignments.filter_map(|assignment| assignment.split_once('='));
    let found = assignments.find_map(|(name, value)| (name == column).then_some(value));
    found.unwrap_or("NULL")
}

pub fn columns_of(table: &str) -> Table {
    let mut tables = declared::tables().into_iter();
    tables.find(|declared| declared.name == table).unwrap()
}

/// Values of the columns that must have one.
pub fn required(table: &str) -> &'static str {
    match table {
        "users" => {
            "id=#new; username='new'; display_name='New'; is_active=TRUE; is_verified=FALSE; created_at=~01; updated_at=~01"
        }
        "auth_providers" => {
            "id=#new; user_id=#ada; provider_type='LOCAL'; provider_id='new'; created_at=~01; updated_at=~01"
        }
        "rooms" => {
            "id=#new; owner_id=#ada; room_code='new'; title='New'; max_participants=10; is_public=FALSE; \
             is_recordable=TRUE; require_auth=TRUE; status='CREATED'; peak_participants=0; total_joins=0; \
             active_participants=0; created_at=~01; updated_at=~01"
        }
        "media_nodes" => "id=#new; name='new'; registered_at=~01; beat_at=~10",
        "room_participants" => {
            "id=#new; user_id=#ada; room_id=#plain; role='PARTICIPANT'; joined_at=~10; is_kicked=FALSE; is_banned=FALSE"
        }
        "recordings" => {
            "id=#new; room_id=#plain; owner_id=#ada; storage_key='new'; storage_bucket='media'; filename='new.mkv'; \
             status='STARTED'; started_at=~10; retry_count=0; is_public=FALSE; created_at=~01; updated_at=~01"
        }
        "inbox" => "source='new'; event_id='new'; received_at=~10",
        "feed_checkpoints" => "consumer='new'; position='new'; updated_at=~10",
        "audit_logs" => "id=#new; action='USER_JOINED'; timestamp=~10",
        other => panic!("no table {other}"),
    }
}

/// Values of the columns that need none, and of those that must go with them.
pub fn optional(table: &str) -> &'static str {
    match table {
        "users" => "email='new@example.org'; password_hash='hash'; deleted_at=~50; last_login_at=~20",
        "auth_providers" => {
            "provider_email='new@example.org'; access_token='access'; refresh_token='refresh'; token_expires_at=~40; \
             metadata='{}'; last_used_at=~20"
        }
        "rooms" => {
            "description='About'; scheduled_start=~05; scheduled_end=~30; status='ENDED'; started_at=~10; ended_at=~20; \
             duration_seconds=10; peak_participants=1; total_joins=1; deleted_at=~50"
        }
        "media_nodes" => "lost_at=~20",
        "room_participants" => {
            "left_at=~20; duration_seconds=10; is_kicked=TRUE; kicked_at=~20; kicked_by=#kicker; kick_reason='noise'; \
             is_banned=TRUE; banned_at=~20; banned_by=#banner; ban_reason='noise'; ban_expires_at=~40; node_id=#gone"
        }
        "recordings" => {
            "storage_url='https://media.example/new'; size_bytes=1; duration_seconds=1; codec='h264'; \
             resolution='1920x1080'; fps=30; bitrate=2500; status='READY'; stopped_at=~20; error_message='once'; \
             egress_id='new'; expires_at=~40; deleted_at=~50; purge_claimed_until=~51; purged_at=~52"
        }
        "inbox" | "feed_checkpoints" => "",
        "audit_logs" => {
            "user_id=#actor; room_id=#venue; target_user_id=#target; metadata='{}'; ip_address='10.1.2.3'; user_agent='x'"
        }
        other => panic!("no table {other}"),
    }
}

/// Valid rows. The users landlord, artist, kicker, banner, actor and target and the rooms studio and venue are referred to
/// by one foreign key each, and eve by none.
pub const FIXTURE: &[Sql] = &[
    Sql::Full("users", "id=#ada; username='ada'; email='ada@example.org'"),
    Sql::Bare("users", "id=#ben; username='ben'"),
    Sql::Bare("users", "id=#gia; username='guest-gia'; guest_since=~10"),
    Sql::Bare("users", "id=#cyd; username='cyd'"),
    Sql::Bare("users", "id=#dan; username='dan'"),
    Sql::Bare("users", "id=#eve; username='eve'"),
    Sql::Bare("users", "id=#landlord; username='landlord'"),
    Sql::Bare("users", "id=#artist; username='artist'"),
    Sql::Bare("users", "id=#kicker; username='kicker'"),
    Sql::Bare("users", "id=#banner; username='banner'"),
    Sql::Bare("users", "id=#actor; username='actor'"),
    Sql::Bare("users", "id=#target; username='target'"),
    Sql::Full("auth_providers", "id=#login; provider_id='ada'"),
    Sql::Bare("rooms", "id=#plain; room_code='plain'; owner_id=#landlord"),
    Sql::Bare(
        "rooms",
        "id=#live; room_code='live'; status='LIVE'; started_at=~10; active_participants=1; peak_participants=3; total_joins=3",
    ),
    Sql::Full("rooms", "id=#ended; room_code='ended'"),
    Sql::Bare("rooms", "id=#studio; room_code='studio'"),
    Sql::Bare("rooms", "id=#venue; room_code='venue'"),
    // One in service; one that is lost.
    Sql::Bare("media_nodes", "id=#sfu; name='sfu'"),
    Sql::Full("media_nodes", "id=#gone; name='gone'"),
    Sql::Bare(
        "room_participants",
        "id=#seat; user_id=#ben; room_id=#live; role='HOST'",
    ),
    Sql::Full("room_participants", "id=#ban; user_id=#cyd; room_id=#live"),
    Sql::Bare(
        "room_participants",
        "id=#visit; user_id=#dan; room_id=#live; left_at=~20; duration_seconds=10",
    ),
    Sql::Bare(
        "recordings",
        "id=#tape; room_id=#studio; owner_id=#artist; storage_key='tape'; egress_id='tape'",
    ),
    // Its file is being purged; its file is purged.
    Sql::Bare(
        "recordings",
        "id=#scrap; room_id=#studio; owner_id=#artist; storage_key='scrap'; deleted_at=~20; purge_claimed_until=~40",
    ),
    Sql::Bare(
        "recordings",
        "id=#ash; room_id=#studio; owner_id=#artist; storage_key='ash'; deleted_at=~20; purged_at=~50",
    ),
    Sql::Bare("inbox", "source='livekit'; event_id='EV_1'"),
    Sql::Bare("feed_checkpoints", "consumer='mailer'"),
    Sql::Full("audit_logs", "id=#entry"),
];

/// Writes names and times out.
pub fn spelled(backend: DbBackend, sql: &str) -> String {
    let mut spelled = String::new();
    let mut rest = sql;
    while let Some(at) = rest.find(['#', '~']) {
        spelled.push_str(&rest[..at]);
        let word = &rest[at + 1..];
        let is_time = rest[at..].starts_with('~');
        let belongs = |letter: char| letter.is_ascii_alphanumeric() || (is_time && letter == '.');
        let end = word.find(|letter| !belongs(letter)).unwrap_or(word.len());
        let (word, tail) = word.split_at(end);
        spelled.push_str(&if is_time { time(word) } else { uuid(backend, word) });
        rest = tail;
    }
    spelled + rest
}

fn time(seconds: &str) -> String {
    format!("'2026-01-01T00:00:{seconds}+00:00'")
}

fn uuid(backend: DbBackend, name: &str) -> String {
    let mut bytes = [0; 16];
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    match backend {
        DbBackend::Sqlite => format!("x'{hex}'"),
        _ => format!("'{hex}'::uuid"),
    }
}

/// What the database said: code, message, and on PostgreSQL the constraint.
#[derive(Debug)]
pub struct Refusal {
    pub code: String,
    pub message: String,
    pub constraint: Option<String>,
}

impl Refusal {
    pub fn of(error: &DbErr) -> Self {
        let (DbErr::Exec(RuntimeErr::SqlxError(error)) | DbErr::Query(RuntimeErr::SqlxError(error))) = error else {
            panic!("not a refusal: {error:?}");
        };
        let SqlxError::Database(refusal) = &**error else {
            panic!("not a refusal: {error:?}");
        };
        Self {
            code: refusal.code().unwrap_or_default().into_owned(),
            message: refusal.message().to_owned(),
            constraint: refusal.constraint().map(str::to_owned),
        }
    }
}

/// A connection to a database with the valid rows in it.
pub async fn with_fixture(db: &TestDb) -> Raw {
    let raw = db.raw().await;
    for row in FIXTURE {
        let sql = row.text(raw.backend());
        raw.execute(&sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
    raw
}

/// Runs statements in a transaction that is then undone, and tells how the last one ended.
pub async fn attempt(raw: &Raw, before: &[String], sql: &str) -> Result<u64, DbErr> {
    let transaction = raw.db.begin().await.unwrap();
    for statement in before {
        transaction.execute_unprepared(statement).await.unwrap();
    }
    let outcome = transaction.execute_unprepared(sql).await;
    transaction.rollback().await.unwrap();
    outcome.map(|done| done.rows_affected())
}

pub async fn refusal_of(raw: &Raw, before: &[String], sql: &str) -> Refusal {
    match attempt(raw, before, sql).await {
        Ok(rows) => panic!("let through, {rows} rows: {sql}"),
        Err(error) => Refusal::of(&error),
    }
}
