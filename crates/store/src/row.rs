//! How rows are read: each column at its place, in the order in which it was asked for.
//!
//! SeaORM's own way is to look each column up by its name, in every row again, and to write a message for each NULL that it meets.
//! On a page of a hundred rows that was most of what a client did. Here it is one step for each column, and a build with debug
//! assertions, which is what the tests are, holds the name of each column to what is read from it.

use chrono::{DateTime, Utc};
use entity::{
    AuditLogId, AuthProviderId, AuthProviderType, ClientAddress, MediaNodeId, ParticipantId, ParticipantRole,
    RecordedAction, RecordingId, RecordingStatus, RoomId, RoomStatus, Secret, UserId, audit_log, auth_provider,
    feed_checkpoint, media_node, recording, room, room_participant, user,
};
use sea_orm::sqlx::Row as _;
use sea_orm::{ColumnTrait, ColumnType, DbErr, EntityTrait, Iterable, QueryResult, RuntimeErr, SqlxError};
use serde_json::Value as Json;
use uuid::Uuid;

fn failed(error: SqlxError) -> DbErr {
    DbErr::Query(RuntimeErr::SqlxError(error.into()))
}

/// Asks the driver's row, whichever it is.
macro_rules! of_the_driver {
    ($row:ident, |$driver:ident| $ask:expr) => {
        of_the_driver!($row, |$driver| $ask, on PostgreSQL $ask)
    };
    ($row:ident, |$driver:ident| $ask:expr, on PostgreSQL $otherwise:expr) => {{
        #[cfg(feature = "postgres")]
        if let Some($driver) = $row.try_as_pg_row() {
            return $otherwise.map_err(failed);
        }
        #[cfg(feature = "sqlite")]
        if let Some($driver) = $row.try_as_sqlite_row() {
            return $ask.map_err(failed);
        }
        Err(DbErr::Type("a row of another database".to_owned()))
    }};
}

/// What columns that follow each other are read as.
pub(crate) trait FromRow: Sized {
    /// Their names, in the order in which they are read.
    const COLUMNS: &'static [&'static str];

    fn read(cells: &mut Cells<'_>) -> Result<Self, DbErr>;
}

/// None where the first of the columns is NULL, as of a row that was not joined.
impl<T: FromRow> FromRow for Option<T> {
    const COLUMNS: &'static [&'static str] = T::COLUMNS;

    fn read(cells: &mut Cells<'_>) -> Result<Self, DbErr> {
        if is_null(cells.row, cells.next)? {
            cells.skip(Self::COLUMNS.len());
            return Ok(None);
        }
        T::read(cells).map(Some)
    }
}

/// The columns of a row, from the first one on.
pub(crate) struct Cells<'r> {
    row: &'r QueryResult,
    next: usize,
}

impl<'r> Cells<'r> {
    pub(crate) fn of(row: &'r QueryResult) -> Self {
        Self { row, next: 0 }
    }

    /// The next column, which is called `name`.
    pub(crate) fn next<T: Cell>(&mut self, name: &'static str) -> Result<T, DbErr> {
        let place = self.next;
        debug_assert_called(self.row, place, name);
        self.next += 1;
        let found = T::read(self.row, place)?;
        found.ok_or_else(|| DbErr::Type(format!("{name} is NULL")))
    }

    /// The next columns, as many as it takes.
    pub(crate) fn read<T: FromRow>(&mut self) -> Result<T, DbErr> {
        T::read(self)
    }

    /// Leaves columns out.
    pub(crate) fn skip(&mut self, columns: usize) {
        self.next += columns;
    }
}

/// The name may have the prefix by which SeaORM tells two entities apart.
fn debug_assert_called(row: &QueryResult, place: usize, name: &str) {
    if cfg!(debug_assertions) {
        let found = column_name(row, place).unwrap_or_default();
        let bare = found.strip_prefix("A_").or(found.strip_prefix("B_")).unwrap_or(found);
        assert_eq!(bare, name, "column {place} of {:?}", row.column_names());
    }
}

fn column_name(row: &QueryResult, place: usize) -> Result<&str, DbErr> {
    use sea_orm::sqlx::Column as _;
    of_the_driver!(row, |driver| driver.try_column(place).map(|column| column.name()))
}

/// A value of one column.
pub(crate) trait Cell: Sized {
    /// None if it is NULL.
    fn read(row: &QueryResult, place: usize) -> Result<Option<Self>, DbErr>;
}

impl<T: Cell> Cell for Option<T> {
    fn read(row: &QueryResult, place: usize) -> Result<Option<Self>, DbErr> {
        T::read(row, place).map(Some)
    }
}

fn is_null(row: &QueryResult, place: usize) -> Result<bool, DbErr> {
    use sea_orm::sqlx::ValueRef as _;
    of_the_driver!(row, |driver| driver.try_get_raw(place).map(|value| value.is_null()))
}

/// PostgreSQL's driver compares the type of a column that is read as text with each of the six that can be, which takes as long as all
/// else about it. Tests let it; otherwise anything that is UTF-8 is taken.
fn text(row: &QueryResult, place: usize) -> Result<Option<&str>, DbErr> {
    of_the_driver!(row, |driver| driver.try_get(place), on PostgreSQL if cfg!(debug_assertions) {
        driver.try_get(place)
    } else {
        driver.try_get_unchecked(place)
    })
}

impl Cell for String {
    fn read(row: &QueryResult, place: usize) -> Result<Option<Self>, DbErr> {
        Ok(text(row, place)?.map(str::to_owned))
    }
}

macro_rules! as_the_driver_reads_it {
    ($($type:ty),+ $(,)?) => {$(
        impl Cell for $type {
            fn read(row: &QueryResult, place: usize) -> Result<Option<Self>, DbErr> {
                of_the_driver!(row, |driver| driver.try_get(place))
            }
        }
    )+};
}

as_the_driver_reads_it!(bool, i32, i64, Uuid, DateTime<Utc>, Json);

macro_rules! ids {
    ($($type:ty),+ $(,)?) => {$(
        impl Cell for $type {
            fn read(row: &QueryResult, place: usize) -> Result<Option<Self>, DbErr> {
                Ok(Uuid::read(row, place)?.map(Self::from_uuid))
            }
        }
    )+};
}

ids!(
    UserId,
    AuthProviderId,
    RoomId,
    ParticipantId,
    MediaNodeId,
    RecordingId,
    AuditLogId
);

macro_rules! enums {
    ($($type:ty),+ $(,)?) => {$(
        impl Cell for $type {
            fn read(row: &QueryResult, place: usize) -> Result<Option<Self>, DbErr> {
                text(row, place)?.map(<Self as TryFrom<&str>>::try_from).transpose()
            }
        }
    )+};
}

enums!(AuthProviderType, RoomStatus, ParticipantRole, RecordingStatus);

impl Cell for RecordedAction {
    fn read(row: &QueryResult, place: usize) -> Result<Option<Self>, DbErr> {
        Ok(text(row, place)?.map(Self::from))
    }
}

impl Cell for Secret {
    fn read(row: &QueryResult, place: usize) -> Result<Option<Self>, DbErr> {
        Ok(text(row, place)?.map(Self::new))
    }
}

impl Cell for ClientAddress {
    fn read(row: &QueryResult, place: usize) -> Result<Option<Self>, DbErr> {
        let parse = |text: &str| {
            text.parse()
                .map_err(|_| DbErr::Type(format!("not a network address: {text}")))
        };
        text(row, place)?.map(parse).transpose()
    }
}

/// The columns of each entity, in the entity's order. The compiler misses one that is not here, and a test one that is elsewhere.
macro_rules! models {
    ($($module:ident { $($field:ident),+ $(,)? })+) => {
        $(impl FromRow for $module::Model {
            const COLUMNS: &'static [&'static str] = &[$(stringify!($field)),+];

            fn read(cells: &mut Cells<'_>) -> Result<Self, DbErr> {
                Ok(Self { $($field: cells.next(stringify!($field))?),+ })
            }
        })+

        #[cfg(test)]
        mod tests {
            use sea_orm::IdenStatic as _;

            use super::*;

            #[test]
            fn models_are_read_in_the_order_of_their_columns() {
                $(
                    let columns: Vec<&str> = $module::Column::iter().map(|column| column.as_str()).collect();
                    assert_eq!(<$module::Model as FromRow>::COLUMNS, columns);
                )+
            }

            #[test]
            fn enum_columns_are_asked_for_as_text() {
                let columns = columns_of::<room_participant::Entity>(Some("seat"));
                assert!(columns.contains("CAST(seat.role AS text) AS role"), "{columns}");
                assert!(columns.contains(r#", seat."left_at", "#), "{columns}");
            }
        }
    };
}

models! {
    user {
        id, username, email, password_hash, display_name, is_active, is_verified, deleted_at, created_at, updated_at, last_login_at, guest_since,
    }
    auth_provider {
        id, user_id, provider_type, provider_id, provider_email, access_token, refresh_token, token_expires_at, metadata, created_at, updated_at, last_used_at,
    }
    room {
        id, owner_id, room_code, title, description, scheduled_start, scheduled_end, max_participants, is_public, is_recordable, require_auth, status, started_at, ended_at, peak_participants, total_joins, duration_seconds, active_participants, deleted_at, created_at, updated_at,
    }
    room_participant {
        id, user_id, room_id, role, joined_at, left_at, is_kicked, kicked_at, kicked_by, kick_reason, is_banned, banned_at, banned_by, ban_reason, ban_expires_at, duration_seconds, node_id,
    }
    media_node {
        id, name, registered_at, beat_at, lost_at,
    }
    recording {
        id, room_id, owner_id, storage_key, storage_url, storage_bucket, egress_id, filename, size_bytes, duration_seconds, codec, resolution, fps, bitrate, status, started_at, stopped_at, error_message, retry_count, is_public, expires_at, deleted_at, purge_claimed_until, purged_at, created_at, updated_at,
    }
    feed_checkpoint {
        consumer, position, updated_at,
    }
    audit_log {
        timestamp, id, action, user_id, room_id, target_user_id, metadata, ip_address, user_agent,
    }
}

/// All columns of an entity as a SELECT list, to be read as its model: of the table that is called so in the statement, if it is said.
pub(crate) fn columns_of<E: EntityTrait>(table: Option<&str>) -> String {
    select_list(table, E::Column::iter())
}

/// Some columns, likewise. Enums come as text.
pub(crate) fn select_list<C: ColumnTrait>(table: Option<&str>, columns: impl Iterator<Item = C>) -> String {
    let table = table.map(|table| format!("{table}.")).unwrap_or_default();
    let columns: Vec<String> = columns
        .map(|column| {
            let name = column.as_str();
            match column.def().get_column_type() {
                ColumnType::Enum { .. } => format!("CAST({table}{name} AS text) AS {name}"),
                _ => format!(r#"{table}"{name}""#),
            }
        })
        .collect();
    columns.join(", ")
}

/// NULLs as a SELECT list, where there is no `T` to be read in this row.
pub(crate) fn nothing_of<T: FromRow>() -> String {
    let nulls: Vec<String> = T::COLUMNS.iter().map(|name| format!(r#"NULL AS "{name}""#)).collect();
    nulls.join(", ")
}
