//! Recordings in each state, and events that a service observed.

use std::panic::Location;

use chrono::{DateTime, Utc};
use conferencing_store::entity::{AuditLogId, RecordingStatus, RoomId, RoomStatus, UserId, recording};
use conferencing_store::{Error, NewRecording, Observation, RecordingMeasures};

use super::{IsRoom, IsUser, awaited, builder, builder_as};
use crate::kit::TestStore;

impl TestStore {
    /// A recording of the room that is being written (IN_PROGRESS), of the room's owner. A room in status CREATED is started for it.
    #[track_caller]
    pub fn recording<'k>(&'k self, room: impl IsRoom) -> RecordingBuilder<'k> {
        RecordingBuilder {
            kit: self,
            at: Location::caller(),
            room: room.room_id(),
            owner: None,
            key: None,
            egress_id: None,
            status: RecordingStatus::InProgress,
            is_public: false,
            expires_at: None,
            is_deleted: false,
        }
    }

    /// An event that a service observed, by the system and in no room unless that is said.
    #[track_caller]
    pub fn audit_event(&self, observation: Observation) -> EventBuilder<'_> {
        EventBuilder {
            kit: self,
            at: Location::caller(),
            observation,
            room: None,
            by: None,
        }
    }
}

/// See [`TestStore::recording`].
#[derive(Debug)]
#[must_use = "it is built when it is awaited"]
pub struct RecordingBuilder<'k> {
    kit: &'k TestStore,
    at: &'static Location<'static>,
    room: RoomId,
    owner: Option<UserId>,
    key: Option<&'k str>,
    egress_id: Option<&'k str>,
    status: RecordingStatus,
    is_public: bool,
    expires_at: Option<DateTime<Utc>>,
    is_deleted: bool,
}

impl<'k> RecordingBuilder<'k> {
    /// Somebody else's than the room's owner's.
    pub fn of(mut self, owner: impl IsUser) -> Self {
        self.owner = Some(owner.user_id());
        self
    }

    /// The file's key in the bucket `recordings`; by default one that is free.
    pub fn stored_at(mut self, key: &'k str) -> Self {
        self.key = Some(key);
        self
    }

    /// The media server's own id of the recorder.
    pub fn egress(mut self, id: &'k str) -> Self {
        self.egress_id = Some(id);
        self
    }

    /// In another state. It comes there by the usual way, an event each.
    pub fn in_status(mut self, status: RecordingStatus) -> Self {
        self.status = status;
        self
    }

    /// Ready to be watched.
    pub fn ready(self) -> Self {
        self.in_status(RecordingStatus::Ready)
    }

    /// Anybody with the link may watch.
    pub fn public(mut self) -> Self {
        self.is_public = true;
        self
    }

    /// To be deleted then, in the future.
    pub fn expiring(mut self, at: DateTime<Utc>) -> Self {
        self.expires_at = Some(at);
        self
    }

    /// Deleted, after all else; one that runs is stopped before.
    pub fn deleted(mut self) -> Self {
        self.is_deleted = true;
        self
    }

    async fn work(self) -> Result<recording::Model, Error> {
        let acting = builder(self.kit);
        let room = acting.rooms().get(self.room).await?;
        if room.status == RoomStatus::Created {
            acting.rooms().start(room.id).await?;
        }
        let usual = format!("{}/{}.mp4", room.room_code, self.kit.store().ids().uuid(self.kit.now()));
        let recordings = acting.recordings();
        let new = NewRecording {
            room: room.id,
            owner: self.owner.unwrap_or(room.owner_id),
            storage_bucket: "recordings",
            storage_key: self.key.unwrap_or(&usual),
            filename: "recording.mp4",
            egress_id: self.egress_id,
            is_public: self.is_public,
            expires_at: self.expires_at,
        };
        let mut recording = recordings.start(new).await?;
        for step in steps(self.status) {
            let id = recording.id;
            recording = match step {
                RecordingStatus::Started => recording,
                RecordingStatus::InProgress => recordings.progress(id).await?,
                RecordingStatus::Stopped => recordings.stop(id, measures()).await?,
                RecordingStatus::Failed => recordings.fail(id, "the recorder lost its disk").await?,
                RecordingStatus::Processing => recordings.process(id).await?,
                RecordingStatus::Ready => {
                    let url = format!("https://files.example.org/{}", recording.storage_key);
                    recordings.ready(id, &url, measures()).await?
                }
            };
        }
        if self.is_deleted {
            if matches!(recording.status, RecordingStatus::Started | RecordingStatus::InProgress) {
                recordings.stop(recording.id, measures()).await?;
            }
            recording = recordings.delete(recording.id).await?;
        }
        Ok(recording)
    }
}

awaited!(RecordingBuilder -> recording::Model, "a recording");

/// How a recording comes to a state.
fn steps(status: RecordingStatus) -> &'static [RecordingStatus] {
    use RecordingStatus::{Failed, InProgress, Processing, Ready, Started, Stopped};
    match status {
        Started => &[],
        InProgress => &[InProgress],
        Stopped => &[InProgress, Stopped],
        Failed => &[InProgress, Failed],
        Processing => &[InProgress, Stopped, Processing],
        Ready => &[InProgress, Stopped, Processing, Ready],
    }
}

/// A minute of video.
fn measures() -> RecordingMeasures<'static> {
    RecordingMeasures {
        size_bytes: Some(12_000_000),
        duration_seconds: Some(60),
        codec: Some("h264"),
        resolution: Some("1920x1080"),
        fps: Some(30),
        bitrate: Some(1_600),
    }
}

/// See [`TestStore::audit_event`].
#[derive(Debug)]
#[must_use = "it is built when it is awaited"]
pub struct EventBuilder<'k> {
    kit: &'k TestStore,
    at: &'static Location<'static>,
    observation: Observation,
    room: Option<RoomId>,
    by: Option<UserId>,
}

impl EventBuilder<'_> {
    /// In a room.
    pub fn in_room(mut self, room: impl IsRoom) -> Self {
        self.room = Some(room.room_id());
        self
    }

    /// By somebody.
    pub fn by(mut self, user: impl IsUser) -> Self {
        self.by = Some(user.user_id());
        self
    }

    async fn work(self) -> Result<AuditLogId, Error> {
        let acting = match self.by {
            Some(user) => builder_as(self.kit, user),
            None => builder(self.kit),
        };
        acting.audit().append(self.room, self.observation).await
    }
}

awaited!(EventBuilder -> AuditLogId, "an event");
