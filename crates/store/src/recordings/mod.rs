//! `recordings()`: what was recorded, where the file lies, and what becomes of it.
//!
//! STARTED → IN_PROGRESS, STOPPED, FAILED · IN_PROGRESS → STOPPED, FAILED · STOPPED → PROCESSING, FAILED ·
//! PROCESSING → READY, FAILED · FAILED → PROCESSING. A recording runs while it is STARTED or IN_PROGRESS.

mod alter;
mod start;
mod sweep;

use std::time::Duration;

use chrono::{DateTime, Utc};
use entity::{RecordingId, RoomId, UserId, recording};
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, QueryFilter};

use crate::error::{Error, Invalid, Result, Subject};
use crate::input;
use crate::page::{Page, PageRequest};
use crate::scope::{self, Any, Deleted, Live, Visibility};
use crate::unit::{Sink, Source};

use alter::Alter;
use start::Start;
use sweep::{SweepExpired, SweepStuck};

/// The most recordings that one call of a sweep takes.
pub const MAX_SWEEP: u16 = 500;

/// The repository of `recordings`: live ones unless [`Recordings::deleted`] or [`Recordings::any`] was asked for.
#[derive(Debug)]
pub struct Recordings<'a, S, V = Live> {
    source: &'a S,
    visibility: V,
}

/// What a recording is made of when it starts.
#[derive(Clone, Debug)]
pub struct NewRecording<'a> {
    /// What is recorded: a LIVE room that is recordable.
    pub room: RoomId,
    /// Whose it will be: the actor, or anybody live and active when the platform starts it.
    pub owner: UserId,
    /// Where the file is written: 1 to 100 characters, kept as they are.
    pub storage_bucket: &'a str,
    /// The file's key in the bucket: 1 to 500 characters, kept as they are; unique, for ever.
    pub storage_key: &'a str,
    /// The name it is offered under, 1 to 255 characters.
    pub filename: &'a str,
    /// Anybody with the link may watch.
    pub is_public: bool,
    /// When it is to be deleted, in the future; none means never.
    pub expires_at: Option<DateTime<Utc>>,
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

/// What a sweep took: enough to purge the file, or to tell the recorder.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct SweptRecording {
    /// The recording.
    pub id: RecordingId,
    /// Its room.
    pub room_id: RoomId,
    /// The bucket of its file.
    pub storage_bucket: String,
    /// The key of its file.
    pub storage_key: String,
}

/// A new recording's facts that kept the rules.
pub(crate) struct CheckedRecording {
    pub(crate) room: RoomId,
    pub(crate) owner: UserId,
    pub(crate) storage_bucket: String,
    pub(crate) storage_key: String,
    pub(crate) filename: String,
    pub(crate) is_public: bool,
    pub(crate) expires_at: Option<DateTime<Utc>>,
}

impl TryFrom<NewRecording<'_>> for CheckedRecording {
    type Error = Invalid;

    fn try_from(new: NewRecording<'_>) -> Result<Self, Invalid> {
        input::opaque("storage_bucket", new.storage_bucket, 100)?;
        input::opaque("storage_key", new.storage_key, 500)?;
        Ok(Self {
            room: new.room,
            owner: new.owner,
            storage_bucket: new.storage_bucket.to_owned(),
            storage_key: new.storage_key.to_owned(),
            filename: input::line("filename", new.filename, 255)?,
            is_public: new.is_public,
            expires_at: new.expires_at.map(|at| input::time("expires_at", at)).transpose()?,
        })
    }
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
    pub async fn get(&self, id: RecordingId) -> Result<Option<recording::Model>> {
        let _ = &self.visibility;
        scope::find::<recording::Entity, V>()
            .filter(recording::Column::Id.eq(id))
            .one(&self.source.executor())
            .await
            .map_err(|error| self.source.failed(&error, "recordings.get"))
    }

    /// The recording with this id.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is none.
    pub async fn require(&self, id: RecordingId) -> Result<recording::Model> {
        self.get(id).await?.ok_or(Error::NotFound(Subject::Recording(id)))
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
        let rows = page
            .apply(rows, recording::Column::StartedAt, recording::Column::Id)
            .all(&self.source.executor())
            .await
            .map_err(|error| self.source.failed(&error, during))?;
        Ok(page.page(rows, |row| (row.started_at, row.id.as_uuid())))
    }
}

impl<S: Sink> Recordings<'_, S> {
    /// Begins a recording, STARTED. Appends RECORDING_STARTED. Takes the room's lock; one statement on PostgreSQL. By the room's
    /// owner or its host, for themself and while present; or by the platform for anybody, present or not.
    ///
    /// # Errors
    /// [`Error::Invalid`]; [`Error::NotFound`] for room or owner; [`Rejected::NotAllowed`]; [`Rejected::UserInactive`];
    /// [`Rejected::RoomStatus`] when the room is not LIVE; [`Rejected::NotRecordable`]; [`Rejected::NotPresent`];
    /// [`Conflict::StorageKeyTaken`], which counts deleted recordings too.
    ///
    /// [`Rejected::NotAllowed`]: crate::Rejected::NotAllowed
    /// [`Rejected::UserInactive`]: crate::Rejected::UserInactive
    /// [`Rejected::RoomStatus`]: crate::Rejected::RoomStatus
    /// [`Rejected::NotRecordable`]: crate::Rejected::NotRecordable
    /// [`Rejected::NotPresent`]: crate::Rejected::NotPresent
    /// [`Conflict::StorageKeyTaken`]: crate::Conflict::StorageKeyTaken
    pub async fn start(&self, new: NewRecording<'_>) -> Result<recording::Model> {
        let new = CheckedRecording::try_from(new)?;
        self.source.perform(Start(new)).await
    }

    /// Says that media is being written: STARTED to IN_PROGRESS. Said again it is a sign of life, which moves `updated_at`: a
    /// recording that gives none for long is taken by [`Recordings::sweep_stuck`]. Appends RECORDING_PROGRESSED each time, so
    /// say it once a minute rather than once a second. Takes the room's lock; one statement on PostgreSQL. By the recording's
    /// or the room's owner, the host, or the platform.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Rejected::RecordingStatus`](crate::Rejected::RecordingStatus) when it does not run;
    /// [`Rejected::NotAllowed`](crate::Rejected::NotAllowed).
    pub async fn progress(&self, id: RecordingId) -> Result<recording::Model> {
        self.source.perform(Alter(id, alter::Progress)).await
    }

    /// Ends the writing: to STOPPED, with what is known of the file. Without a duration it is the time since the start, in
    /// whole seconds. `stopped_at` is never before `started_at`, whatever the clocks say. Appends RECORDING_STOPPED. The end of
    /// the room does the same to what still runs. Takes the room's lock; one statement on PostgreSQL. By the recording's or the
    /// room's owner, the host, or the platform.
    ///
    /// # Errors
    /// [`Error::Invalid`] for the measures; [`Error::NotFound`];
    /// [`Rejected::RecordingStatus`](crate::Rejected::RecordingStatus) when it does not run;
    /// [`Rejected::NotAllowed`](crate::Rejected::NotAllowed).
    pub async fn stop(&self, id: RecordingId, measures: RecordingMeasures<'_>) -> Result<recording::Model> {
        let measures = measures.try_into()?;
        self.source.perform(Alter(id, alter::Stop(measures))).await
    }

    /// Says what went wrong, in 1 to 2,000 characters: to FAILED, and the writing has ended if it had not. Appends
    /// RECORDING_FAILED. Takes the room's lock; one statement on PostgreSQL. A running one by the recording's or the room's
    /// owner, the host, or the platform; a STOPPED or PROCESSING one by the platform.
    ///
    /// # Errors
    /// [`Error::Invalid`] for the message; [`Error::NotFound`];
    /// [`Rejected::RecordingStatus`](crate::Rejected::RecordingStatus) when it is FAILED or READY;
    /// [`Rejected::NotAllowed`](crate::Rejected::NotAllowed).
    pub async fn fail(&self, id: RecordingId, message: &str) -> Result<recording::Model> {
        let message = input::text("error_message", message, 2000)?;
        self.source.perform(Alter(id, alter::Fail(message))).await
    }

    /// Begins the work on the file: STOPPED to PROCESSING. Appends RECORDING_PROCESSING. Takes the room's lock; one statement on
    /// PostgreSQL. By the platform.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Rejected::RecordingStatus`](crate::Rejected::RecordingStatus) when it is not STOPPED;
    /// [`Rejected::NotAllowed`](crate::Rejected::NotAllowed).
    pub async fn process(&self, id: RecordingId) -> Result<recording::Model> {
        self.source.perform(Alter(id, alter::Process)).await
    }

    /// Says where it can be watched: PROCESSING to READY, for good. `url` has at most 2,048 characters. The measures are those
    /// of the finished file; none of them is needed, and they are the only way to give any to a recording that stopped with
    /// its room. Appends RECORDING_READY. Takes the room's lock; one statement on PostgreSQL. By the platform.
    ///
    /// # Errors
    /// [`Error::Invalid`]; [`Error::NotFound`]; [`Rejected::RecordingStatus`](crate::Rejected::RecordingStatus) when it is not
    /// PROCESSING; [`Rejected::NotAllowed`](crate::Rejected::NotAllowed).
    pub async fn ready(&self, id: RecordingId, url: &str, measures: RecordingMeasures<'_>) -> Result<recording::Model> {
        let url = input::line("storage_url", url, 2048)?;
        let measures = measures.try_into()?;
        self.source.perform(Alter(id, alter::Ready { url, measures })).await
    }

    /// Has another try: FAILED to PROCESSING, with `retry_count` raised and the message gone, which the trail keeps. As often
    /// as [`StoreSettings::max_recording_retries`](crate::StoreSettings) says. Appends RECORDING_RETRIED. Takes the room's lock;
    /// one statement on PostgreSQL. By the platform.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Rejected::RecordingStatus`](crate::Rejected::RecordingStatus) when it is not FAILED;
    /// [`Rejected::RetriesExhausted`](crate::Rejected::RetriesExhausted); [`Rejected::NotAllowed`](crate::Rejected::NotAllowed).
    pub async fn retry(&self, id: RecordingId) -> Result<recording::Model> {
        let max_retries = self.source.store().max_recording_retries();
        self.source.perform(Alter(id, alter::Retry { max_retries })).await
    }

    /// Deletes a recording that does not run: it is kept, marked as deleted, and so is its file. Appends RECORDING_DELETED. Takes
    /// the room's lock; one statement on PostgreSQL. By the recording's or the room's owner, or the platform.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Rejected::RecordingStatus`](crate::Rejected::RecordingStatus) while it runs: stop it first;
    /// [`Rejected::NotAllowed`](crate::Rejected::NotAllowed).
    pub async fn delete(&self, id: RecordingId) -> Result<recording::Model> {
        self.source.perform(Alter(id, alter::Delete)).await
    }

    /// Sets when it is to be deleted, in the future; none means never. Appends RECORDING_EXPIRY_CHANGED. Takes the room's lock;
    /// one statement on PostgreSQL. By the recording's or the room's owner, or the platform.
    ///
    /// # Errors
    /// [`Error::Invalid`] for the time; [`Error::NotFound`], also when a sweep was faster;
    /// [`Rejected::NotAllowed`](crate::Rejected::NotAllowed).
    pub async fn set_expiry(&self, id: RecordingId, expires_at: Option<DateTime<Utc>>) -> Result<recording::Model> {
        let expires_at = expires_at.map(|at| input::time("expires_at", at)).transpose()?;
        self.source.perform(Alter(id, alter::SetExpiry(expires_at))).await
    }

    /// Deletes recordings whose time has come, the longest due first, at most `limit` (1 to [`MAX_SWEEP`]), and returns them in
    /// no order: their files are to be purged. Fewer than `limit` means that nothing is left, or that others are at it. Those
    /// that run are left until they have stopped. Appends RECORDING_DELETED for each. One statement on PostgreSQL; locks the
    /// recordings alone and waits for nobody, so any number of sweepers share the work. By the platform. Served by
    /// `ix_recordings_expiry`.
    ///
    /// Each recording is returned once, to one sweeper. Whoever must not lose any to a crash of their own sweeps inside
    /// [`Store::transact`](crate::Store::transact) and writes the keys down before it ends.
    ///
    /// # Errors
    /// [`Error::Invalid`] for the limit; [`Rejected::NotAllowed`](crate::Rejected::NotAllowed).
    pub async fn sweep_expired(&self, limit: u16) -> Result<Vec<SweptRecording>> {
        let limit = sweep::limit(limit)?;
        self.source.perform(SweepExpired { limit }).await
    }

    /// Fails recordings that run and gave no sign of life for longer than `older_than`, which is at least a second: at most
    /// `limit` (1 to [`MAX_SWEEP`]), the longest silent first; returns them in no order. They count as written until their last
    /// sign of life. Appends RECORDING_FAILED for each. Locks, sharing and authority as for [`Recordings::sweep_expired`].
    /// Served by `ix_recordings_running`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for limit or time; [`Rejected::NotAllowed`](crate::Rejected::NotAllowed).
    pub async fn sweep_stuck(&self, older_than: Duration, limit: u16) -> Result<Vec<SweptRecording>> {
        let limit = sweep::limit(limit)?;
        let silence = sweep::silence(older_than)?;
        self.source.perform(SweepStuck { silence, limit }).await
    }
}

impl<S: Sink> Recordings<'_, S, Deleted> {
    /// Brings a deleted recording back, as it was. Appends RECORDING_RESTORED. Takes the room's lock; one statement on
    /// PostgreSQL. By the recording's or the room's owner, or the platform.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no deleted one with this id, or its owner is deleted;
    /// [`Rejected::RecordingExpired`](crate::Rejected::RecordingExpired) when its time has come: its file may be gone;
    /// [`Rejected::NotAllowed`](crate::Rejected::NotAllowed).
    pub async fn restore(&self, id: RecordingId) -> Result<recording::Model> {
        self.source.perform(Alter(id, alter::Restore)).await
    }
}
