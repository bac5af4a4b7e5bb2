//! `delete`, `restore`, `set_expiry`: how long a recording is kept.

use chrono::{DateTime, Utc};
use entity::{RecordingId, recording};

use super::Recordings;
use super::change::{AT_REST, changed, changing, in_status, not_in_the_future, restoring};
use crate::authority::Operation as Asked;
use crate::error::{Error, Rejected, Result, Subject};
use crate::event::Change;
use crate::input;
use crate::operation::{Moment, Operation, Plan, Refusal};
use crate::scope::Deleted;
use crate::unit::Sink;

impl<S: Sink> Recordings<'_, S> {
    /// Deletes a recording that does not run: its row is kept, marked as deleted. Its file is due to be purged once
    /// [`StoreSettings::purge_grace`](crate::StoreSettings::purge_grace) is over: see [`Recordings::claim_purges`]. Appends
    /// RECORDING_DELETED. Takes the room's lock; one statement on PostgreSQL. By the recording's or the room's owner, or the system.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Rejected::RecordingStatus`] while it runs: stop it first;
    /// [`Rejected::NotAllowed`].
    pub async fn delete(&self, id: RecordingId) -> Result<recording::Model> {
        self.source.perform(Delete(id)).await
    }

    /// Sets when it is to be deleted, in the future; none means never. Appends RECORDING_EXPIRY_CHANGED. Takes the room's lock;
    /// one statement on PostgreSQL. By the recording's or the room's owner, or the system.
    ///
    /// # Errors
    /// [`Error::Invalid`] for the time; [`Error::NotFound`], also when a sweep was faster;
    /// [`Rejected::NotAllowed`].
    pub async fn set_expiry(&self, id: RecordingId, expires_at: Option<DateTime<Utc>>) -> Result<recording::Model> {
        let expires_at = expires_at.map(|at| input::time("expires_at", at)).transpose()?;
        self.source.perform(SetExpiry(id, expires_at)).await
    }
}

impl<S: Sink> Recordings<'_, S, Deleted> {
    /// Brings a deleted recording back, as it was. Appends RECORDING_RESTORED. Takes the room's lock; one statement on
    /// PostgreSQL. By the recording's or the room's owner, or the system.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no deleted one with this id, or its owner is deleted;
    /// [`Rejected::RecordingExpired`] when its time has come, and [`Rejected::FileHandedOut`] when its file was handed out to be
    /// purged, however long ago: in both cases the file may be gone; [`Rejected::NotAllowed`].
    pub async fn restore(&self, id: RecordingId) -> Result<recording::Model> {
        self.source.perform(Restore(id)).await
    }
}

pub(crate) struct Delete(pub(crate) RecordingId);

impl Operation for Delete {
    const NAME: &'static str = "recordings.delete";
    type Output = recording::Model;

    fn plan(&self, at: &Moment<'_>) -> Plan {
        let (recording, expired) = (self.0, false);
        let plan = changing(at, recording, Asked::ManageRecording, "deleted_at = :now");
        let plan = in_status(plan, recording, AT_REST);
        changed(at, plan, &Change::RecordingDeleted { recording, expired })
    }
}

pub(crate) struct SetExpiry(pub(crate) RecordingId, pub(crate) Option<DateTime<Utc>>);

impl Operation for SetExpiry {
    const NAME: &'static str = "recordings.set_expiry";
    type Output = recording::Model;

    fn plan(&self, at: &Moment<'_>) -> Plan {
        let Self(recording, expires_at) = *self;
        let plan = changing(at, recording, Asked::ManageRecording, "expires_at = :expires_at")
            .denied(not_in_the_future(at, expires_at))
            .bind("expires_at", expires_at);
        changed(at, plan, &Change::RecordingExpiryChanged { recording, expires_at })
    }
}

pub(crate) struct Restore(pub(crate) RecordingId);

impl Operation for Restore {
    const NAME: &'static str = "recordings.restore";
    type Output = recording::Model;

    /// The clocks of a sweep and of this may differ; what a sweep deleted has `deleted_at` at or after `expires_at`.
    ///
    /// That a claim has run out does not let the recording come back: whoever had the file may have purged it and died, or be
    /// slow and purge it yet.
    fn plan(&self, at: &Moment<'_>) -> Plan {
        let recording = self.0;
        let plan = restoring(at, recording, Asked::ManageRecording, "deleted_at = NULL")
            .guard(
                "changed",
                "expires_at IS NULL OR (expires_at > :now AND expires_at > deleted_at)",
                Refusal::with("expires_at", move |expires_at| Rejected::RecordingExpired {
                    recording,
                    expires_at,
                }),
            )
            .guard(
                "changed",
                "purge_claimed_until IS NULL AND purged_at IS NULL",
                Rejected::FileHandedOut { recording },
            )
            .guard(
                "member",
                "deleted_at IS NULL",
                Refusal::with("id", |owner| Error::NotFound(Subject::User(owner))),
            );
        changed(at, plan, &Change::RecordingRestored { recording })
    }
}
