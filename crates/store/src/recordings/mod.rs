//! `recordings()`: what was recorded, where the file lies, and what becomes of it.
//!
//! STARTED → IN_PROGRESS, STOPPED, FAILED · IN_PROGRESS → STOPPED, FAILED · STOPPED → PROCESSING, FAILED ·
//! PROCESSING → READY, FAILED · FAILED → PROCESSING. A recording runs while it is STARTED or IN_PROGRESS.
//!
//! One that is deleted (by somebody, by a sweep, with its owner) has its file in the queue of `purge` until that is confirmed to be gone.

mod change;
pub(crate) mod processing;
pub(crate) mod purge;
pub(crate) mod report;
pub(crate) mod retention;
pub(crate) mod running;
pub(crate) mod start;
pub(crate) mod sweep;

use entity::{RecordingId, RoomId, UserId, recording};
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, QueryFilter};

use crate::error::{Error, Invalid, Result, Subject};
use crate::input;
use crate::page::{Page, PageRequest};
use crate::read::FetchEntity;
use crate::scope::{self, Any, Deleted, Live, Visibility};
use crate::unit::Source;

pub use crate::input::MAX_SWEEP;
pub use purge::{MAX_PURGE_LEASE, StoredFile};
pub use report::{EgressReport, EgressState};
pub use start::NewRecording;
pub use sweep::SweptRecording;

/// The repository of `recordings`: live ones unless [`Recordings::deleted`] or [`Recordings::any`] was asked for.
#[derive(Debug)]
pub struct Recordings<'a, S, V = Live> {
    source: &'a S,
    visibility: V,
}

/// What a recorder or transcoder found out about the file. None leaves what is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordingMeasures<'a> {
    /// Bytes.
    pub size_bytes: Option<i64>,
    /// Whole seconds of media.
    pub duration_seconds: Option<i32>,
    /// Such as `h264`, at most 50 characters.
    pub codec: Option<&'a str>,
    /// Such as `1920x1080`, at most 20 characters.
    pub resolution: Option<&'a str>,
    /// Frames a second, at least 1.
    pub fps: Option<i32>,
    /// kbit/s.
    pub bitrate: Option<i32>,
}

/// Measures that kept the rules.
pub(crate) struct CheckedMeasures {
    pub(crate) size_bytes: Option<i64>,
    pub(crate) duration_seconds: Option<i32>,
    pub(crate) codec: Option<String>,
    pub(crate) resolution: Option<String>,
    pub(crate) fps: Option<i32>,
    pub(crate) bitrate: Option<i32>,
}

impl TryFrom<RecordingMeasures<'_>> for CheckedMeasures {
    type Error = Invalid;

    fn try_from(found: RecordingMeasures<'_>) -> Result<Self, Invalid> {
        Ok(Self {
            size_bytes: input::optional_at_least("size_bytes", found.size_bytes, 0)?,
            duration_seconds: input::optional_at_least("duration_seconds", found.duration_seconds, 0)?,
            codec: input::optional_line("codec", found.codec, 50)?,
            resolution: input::optional_line("resolution", found.resolution, 20)?,
            fps: input::optional_at_least("fps", found.fps, 1)?,
            bitrate: input::optional_at_least("bitrate", found.bitrate, 0)?,
        })
    }
}

impl<'a, S: Source> Recordings<'a, S> {
    pub(crate) fn new(source: &'a S) -> Self {
        Self {
            source,
            visibility: Live,
        }
    }

    /// Deleted recordings instead.
    pub fn deleted(self) -> Recordings<'a, S, Deleted> {
        Recordings {
            source: self.source,
            visibility: Deleted,
        }
    }

    /// Recordings, deleted or not.
    pub fn any(self) -> Recordings<'a, S, Any> {
        Recordings {
            source: self.source,
            visibility: Any,
        }
    }
}

impl<S: Source, V: Visibility> Recordings<'_, S, V> {
    /// The recording with this id.
    ///
    /// # Errors
    /// None beyond the database's own.
    pub async fn find(&self, id: RecordingId) -> Result<Option<recording::Model>> {
        self.find_only(recording::Column::Id.eq(id), "recordings.find").await
    }

    async fn find_only(&self, which: Expr, during: &'static str) -> Result<Option<recording::Model>> {
        let _ = &self.visibility;
        scope::find::<recording::Entity, V>()
            .filter(which)
            .fetch_one(self.source, during)
            .await
    }

    /// The recording with this id.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is none.
    pub async fn get(&self, id: RecordingId) -> Result<recording::Model> {
        self.find(id).await?.ok_or(Error::NotFound(Subject::Recording(id)))
    }

    /// The recording with this id of the media server's recorder. One statement, served by `uq_recordings_egress`.
    ///
    /// # Errors
    /// None beyond the database's own.
    pub async fn find_by_egress_id(&self, egress_id: &str) -> Result<Option<recording::Model>> {
        let of_egress = recording::Column::EgressId.eq(egress_id);
        self.find_only(of_egress, "recordings.find_by_egress_id").await
    }

    /// The recording whose file has this key. One statement, served by `uq_recordings_storage_key`.
    ///
    /// # Errors
    /// None beyond the database's own.
    pub async fn find_by_storage_key(&self, storage_key: &str) -> Result<Option<recording::Model>> {
        let of_file = recording::Column::StorageKey.eq(storage_key);
        self.find_only(of_file, "recordings.find_by_storage_key").await
    }

    /// The recordings of a room, deleted or not, by (started_at, id). One statement, served by `ix_recordings_room`.
    ///
    /// # Errors
    /// None beyond the database's own; a room that does not exist has no recordings.
    pub async fn list_of_room(&self, room: RoomId, page: &PageRequest) -> Result<Page<recording::Model>> {
        let of_room = recording::Column::RoomId.eq(room);
        self.list(of_room, page, "recordings.list_of_room").await
    }

    /// The recordings that a user owns, by (started_at, id). One statement, served by `ix_recordings_owner`.
    ///
    /// # Errors
    /// None beyond the database's own; a user who does not exist has no recordings.
    pub async fn list_of_owner(&self, owner: UserId, page: &PageRequest) -> Result<Page<recording::Model>> {
        let of_owner = recording::Column::OwnerId.eq(owner);
        self.list(of_owner, page, "recordings.list_of_owner").await
    }

    async fn list(&self, whose: Expr, page: &PageRequest, during: &'static str) -> Result<Page<recording::Model>> {
        let rows = scope::find::<recording::Entity, V>().filter(whose);
        let page = page.by_time()?;
        let rows = page
            .apply(rows, recording::Column::StartedAt, recording::Column::Id)
            .fetch_all(self.source, during)
            .await?;
        Ok(page.page(rows, |row| (row.started_at, row.id.as_uuid())))
    }
}
