//! `start`: a recording of a room begins.

use chrono::{DateTime, Utc};
use entity::{RecordingId, RoomId, UserId, recording, user};

use super::Recordings;
use super::change::not_in_the_future;
use crate::authority::{ActorRole, Operation as Asked};
use crate::error::{Conflict, Error, Invalid, Rejected, Result};
use crate::event::Change;
use crate::input;
use crate::operation::{Event, Lock, Moment, Operation, Plan, Refusal};
use crate::rules::{active, has_account};
use crate::unit::Sink;

/// What a recording is made of when it starts.
#[derive(Clone, Debug)]
pub struct NewRecording<'a> {
    /// What is recorded: a LIVE room that is recordable.
    pub room: RoomId,
    /// Whose it will be: the actor, or anybody live and active when the system starts it.
    pub owner: UserId,
    /// Where the file is written: 1 to 100 characters, kept as they are.
    pub storage_bucket: &'a str,
    /// The file's key in the bucket: 1 to 500 characters, kept as they are; unique, for ever; not beginning with `purged:`.
    pub storage_key: &'a str,
    /// The name it is offered under, 1 to 255 characters.
    pub filename: &'a str,
    /// The media server's own id of the recorder, if it has begun: 1 to 255 characters, kept as they are; unique, for ever. One that is
    /// not known yet comes with the [first report](Recordings::report_egress).
    pub egress_id: Option<&'a str>,
    /// Anybody with the link may watch.
    pub is_public: bool,
    /// When it is to be deleted, in the future; none means never.
    pub expires_at: Option<DateTime<Utc>>,
}

/// Where a file lies, and what it is called.
pub(crate) struct CheckedFile {
    pub(crate) storage_bucket: String,
    pub(crate) storage_key: String,
    pub(crate) filename: String,
}

impl CheckedFile {
    pub(super) fn new(storage_bucket: &str, storage_key: &str, filename: &str) -> Result<Self, Invalid> {
        input::opaque("storage_bucket", storage_bucket, 100)?;
        input::storage_key(storage_key)?;
        Ok(Self {
            storage_bucket: storage_bucket.to_owned(),
            storage_key: storage_key.to_owned(),
            filename: input::line("filename", filename, 255)?,
        })
    }
}

/// A new recording's facts that kept the rules.
pub(crate) struct CheckedRecording {
    pub(crate) room: RoomId,
    pub(crate) owner: UserId,
    pub(crate) file: CheckedFile,
    pub(crate) egress_id: Option<String>,
    pub(crate) is_public: bool,
    pub(crate) expires_at: Option<DateTime<Utc>>,
}

impl TryFrom<NewRecording<'_>> for CheckedRecording {
    type Error = Invalid;

    fn try_from(new: NewRecording<'_>) -> Result<Self, Invalid> {
        if let Some(egress_id) = new.egress_id {
            input::opaque("egress_id", egress_id, 255)?;
        }
        Ok(Self {
            room: new.room,
            owner: new.owner,
            file: CheckedFile::new(new.storage_bucket, new.storage_key, new.filename)?,
            egress_id: new.egress_id.map(str::to_owned),
            is_public: new.is_public,
            expires_at: new.expires_at.map(|at| input::time("expires_at", at)).transpose()?,
        })
    }
}

impl<S: Sink> Recordings<'_, S> {
    /// Begins a recording, STARTED. Appends RECORDING_STARTED. Takes the room's lock; one statement on PostgreSQL. By the room's
    /// owner or its host, for themself and while present; or by the system for anybody, present or not.
    ///
    /// # Errors
    /// [`Error::Invalid`]; [`Error::NotFound`] for room or owner; [`Rejected::NotAllowed`]; [`Rejected::UserInactive`];
    /// [`Rejected::AccountRequired`] for a guest; [`Rejected::RoomStatus`] when the room is not LIVE; [`Rejected::NotRecordable`]; [`Rejected::NotPresent`];
    /// [`Conflict::StorageKeyTaken`] and [`Conflict::EgressIdTaken`], which count deleted recordings too.
    ///
    /// [`Rejected::NotAllowed`]: crate::Rejected::NotAllowed
    /// [`Rejected::UserInactive`]: crate::Rejected::UserInactive
    /// [`Rejected::AccountRequired`]: crate::Rejected::AccountRequired
    /// [`Rejected::RoomStatus`]: crate::Rejected::RoomStatus
    /// [`Rejected::NotRecordable`]: crate::Rejected::NotRecordable
    /// [`Rejected::NotPresent`]: crate::Rejected::NotPresent
    /// [`Conflict::StorageKeyTaken`]: crate::Conflict::StorageKeyTaken
    /// [`Conflict::EgressIdTaken`]: crate::Conflict::EgressIdTaken
    pub async fn start(&self, new: NewRecording<'_>) -> Result<recording::Model> {
        let new = CheckedRecording::try_from(new)?;
        self.source.perform(Start(new)).await
    }
}

pub(crate) struct Start(pub(crate) CheckedRecording);

impl Operation for Start {
    const NAME: &'static str = "recordings.start";
    type Output = recording::Model;

    fn plan(&self, at: &Moment<'_>) -> Plan {
        let new = &self.0;
        let (room, user, asked) = (new.room, new.owner, Asked::Record);
        let recording = RecordingId::from_uuid(at.id());
        let plan = Plan::new(at, "started")
            .denied(for_somebody_else(at, room, user))
            .denied(not_in_the_future(at, new.expires_at))
            .bind("recording", recording)
            .bind("owner", user)
            .bind("storage_key", new.file.storage_key.clone())
            .bind("storage_bucket", new.file.storage_bucket.clone())
            .bind("filename", new.file.filename.clone())
            .bind("egress_id", new.egress_id.clone())
            .bind("is_public", new.is_public)
            .bind("expires_at", new.expires_at)
            // Users before rooms.
            .lock::<user::Entity>("member", Lock::Share, &["id"], "id = :owner")
            .lock_room(room, &["id", "owner_id"])
            .find_own_seat(at)
            .view::<recording::Entity>("same_key", "storage_key = :storage_key")
            .view::<recording::Entity>("same_egress", "egress_id = :egress_id")
            .room_exists(room)
            .allowed(asked, room, None);
        let mut plan = has_account(active(plan, "member", user), "member", user)
            .guard(
                "room",
                "status = 'LIVE'",
                Refusal::with("status", move |status| Rejected::RoomStatus { room, status }),
            )
            .guard("room", "is_recordable", Rejected::NotRecordable { room });
        if !at.actor.is_system() {
            // The actor's own seat is the owner's.
            plan = plan.found("own_seat", Rejected::NotPresent { user, room });
        }
        plan.absent_by("uq_recordings_storage_key", "same_key", Conflict::StorageKeyTaken)
            .absent_by("uq_recordings_egress", "same_egress", egress_id_taken())
            .gate("allowed", "room")
            .insert::<recording::Entity>(
                "started",
                at.dialect,
                format!(
                    "INSERT INTO recordings (id, room_id, owner_id, storage_key, storage_bucket, egress_id, filename, status, started_at,
                        retry_count, is_public, expires_at, created_at, updated_at)
                    SELECT :recording, allowed.id, :owner, :storage_key, :storage_bucket, :egress_id, :filename, {status}, :now,
                        0, :is_public, :expires_at, :now, :now
                    FROM allowed WHERE TRUE
                    ON CONFLICT DO NOTHING",
                    status = at.dialect.as_enum("'STARTED'", "recording_status"),
                ),
            )
            .event(
                at,
                &Event::of(&Change::RecordingStarted { recording }, "started").room("started.room_id"),
            )
    }
}

fn for_somebody_else(at: &Moment<'_>, room: RoomId, user: UserId) -> Option<Error> {
    let actor_role = at.actor.role_towards(user);
    let refusal = Rejected::NotAllowed {
        operation: Asked::Record,
        actor_role,
        room: Some(room),
        user: Some(user),
    };
    (actor_role == ActorRole::Outsider).then(|| refusal.into())
}

pub(super) fn egress_id_taken() -> Refusal {
    Refusal::with("id", |recording| Conflict::EgressIdTaken { recording })
}
