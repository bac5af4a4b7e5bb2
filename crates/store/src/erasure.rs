//! The right to be forgotten.

use chrono::{DateTime, Utc};
use entity::{AuditAction, RecordedAction, RecordingId, RecordingStatus, RoomId, RoomStatus, UserId};
use entity::{audit_log, recording, user};
use sea_orm::{ColumnTrait, DatabaseExecutor, DbErr, QueryFilter, QueryOrder, QueryResult};
use serde::Deserialize;
use uuid::Uuid;

use crate::audit::{AuditEntry, AuditEvent, Change};
use crate::authority::Operation as Asked;
use crate::backend::erasure::{self as sql, Doomed};
use crate::backend::plan::Plan;
use crate::error::{Error, Result, Subject};
use crate::operation::{Moment, Operation};
use crate::scope::{self, Any};
use crate::unit::Sink;
use crate::users::Users;

/// What an erasure did.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ErasureReceipt {
    /// Who was erased.
    pub user: UserId,
    /// When.
    pub erased_at: DateTime<Utc>,
    /// It had been done before, and nothing was done now; the numbers are those of then.
    pub already_erased: bool,
    /// Ways in that are gone, their tokens with them.
    pub providers_removed: i32,
    /// Rooms of theirs that were LIVE and ended.
    pub rooms_ended: i32,
    /// Rooms of theirs that were CREATED and are called off.
    pub rooms_cancelled: i32,
    /// Stays that ended: their own, and everybody's in the rooms that ended.
    pub closed_stays: i32,
    /// Recordings of theirs that are deleted now.
    pub recordings_deleted: i32,
    /// The files of those recordings. The store keeps their names only: purging them is for the caller.
    pub files: Vec<StoredFile>,
}

/// A file in the object store.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct StoredFile {
    /// What it is a recording of.
    pub recording: RecordingId,
    /// Its bucket.
    pub storage_bucket: String,
    /// Its key there.
    pub storage_key: String,
}

impl<S: Sink> Users<'_, S> {
    /// Erases a user, in one transaction. Their row stays, because the trail points at it, and says nothing any more: no
    /// address, no password, called `deleted-<id>` and "Deleted user"; name and address are free for others. Their ways in are
    /// gone with all tokens. Their live rooms end with all stays, those not begun are called off; they leave every other room.
    /// Their recordings are deleted, running ones STOPPED first, as are others' that run in a room that ends.
    ///
    /// The trail is never changed. It has ids and no names by design, but for what was typed at logins that failed. What people
    /// wrote stays as well: titles of rooms, names of files, reasons of kicks and bans; and where their recordings lie, for the
    /// purge.
    ///
    /// Appends USER_DELETED with the receipt's numbers, and before it ROOM_ENDED, ROOM_CANCELLED, RECORDING_STOPPED and
    /// RECORDING_DELETED for each. Erasing again changes and appends nothing, and returns the receipt once more. A user whom
    /// something else marked as deleted and left in the clear is erased like any other.
    ///
    /// Takes the user's lock, then those of the rooms and the recordings, each by ascending id; four statements in one
    /// transaction. For oneself, or by the platform for anybody.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there never was such a user; [`crate::Rejected::NotAllowed`].
    pub async fn erase(&self, user: UserId) -> Result<ErasureReceipt> {
        match self.source.perform(Erase(user)).await {
            Ok(progress) => Ok(progress.receipt),
            Err(Error::NotFound(Subject::User(id))) if id == user => self.receipt_of(user).await,
            Err(error) => Err(error),
        }
    }

    /// The receipt of an erasure of before.
    async fn receipt_of(&self, user: UserId) -> Result<ErasureReceipt> {
        let failed = |error: DbErr| self.source.failed(&error, "users.erase");
        let row = self.any_user(user).await?.ok_or(Error::NotFound(Subject::User(user)))?;
        let deleted = RecordedAction::from(AuditAction::UserDeleted);
        let told = scope::find_undeletable::<audit_log::Entity>()
            .filter(audit_log::Column::TargetUserId.eq(user))
            .filter(audit_log::Column::Action.eq(deleted))
            .order_by_desc(audit_log::Column::Timestamp)
            .one(&self.source.executor())
            .await
            .map_err(failed)?
            .map(AuditEntry::from);
        let mut receipt = ErasureReceipt {
            already_erased: true,
            ..ErasureReceipt::of(user, row.deleted_at.unwrap_or(row.updated_at))
        };
        let Some(told) = told else {
            return Ok(receipt);
        };
        receipt.erased_at = told.at;
        receipt.take_numbers(&told.event);
        receipt.files = scope::find::<recording::Entity, Any>()
            .filter(recording::Column::OwnerId.eq(user))
            .filter(recording::Column::DeletedAt.eq(told.at))
            .order_by_asc(recording::Column::Id)
            .all(&self.source.executor())
            .await
            .map_err(failed)?
            .into_iter()
            .map(|row| StoredFile {
                recording: row.id,
                storage_bucket: row.storage_bucket,
                storage_key: row.storage_key,
            })
            .collect();
        Ok(receipt)
    }

    async fn any_user(&self, user: UserId) -> Result<Option<user::Model>> {
        scope::find::<user::Entity, Any>()
            .filter(user::Column::Id.eq(user))
            .one(&self.source.executor())
            .await
            .map_err(|error| self.source.failed(&error, "users.erase"))
    }
}

impl ErasureReceipt {
    fn of(user: UserId, erased_at: DateTime<Utc>) -> Self {
        Self {
            user,
            erased_at,
            already_erased: false,
            providers_removed: 0,
            rooms_ended: 0,
            rooms_cancelled: 0,
            closed_stays: 0,
            recordings_deleted: 0,
            files: Vec::new(),
        }
    }

    fn take_numbers(&mut self, event: &AuditEvent) {
        if let AuditEvent::Change(Change::UserDeleted {
            target: _,
            providers_removed,
            rooms_ended,
            rooms_cancelled,
            closed_stays,
            recordings_deleted,
        }) = event
        {
            self.providers_removed = *providers_removed;
            self.rooms_ended = *rooms_ended;
            self.rooms_cancelled = *rooms_cancelled;
            self.closed_stays = *closed_stays;
            self.recordings_deleted = *recordings_deleted;
        }
    }
}

struct Erase(UserId);

/// How far it has come.
struct Progress {
    stage: Stage,
    receipt: ErasureReceipt,
    doomed: Doomed,
}

enum Stage {
    UserLocked,
    RoomsLocked,
    RecordingsLocked,
    Done,
}

#[derive(Deserialize)]
struct LockedRoom {
    id: Uuid,
    owner: Uuid,
    status: RoomStatus,
}

#[derive(Deserialize)]
struct LockedRecording {
    id: Uuid,
    room: Uuid,
    owner: Uuid,
    status: RecordingStatus,
    bucket: String,
    key: String,
}

impl Operation for Erase {
    const NAME: &'static str = "users.erase";
    type Output = Progress;

    fn forbidden(&self, at: &Moment<'_>) -> Option<Error> {
        at.only_oneself(Asked::EraseAccount, None, self.0)
    }

    fn in_transaction(&self) -> bool {
        true
    }

    fn plan(&self, at: &Moment<'_>) -> Plan {
        sql::anonymise(at, self.0)
    }

    fn read(&self, row: &QueryResult) -> Result<Progress, DbErr> {
        Ok(Progress {
            stage: Stage::UserLocked,
            receipt: ErasureReceipt::of(self.0, row.try_get_by("erased_at")?),
            doomed: Doomed::default(),
        })
    }

    fn next(&self, progress: &Progress, _: usize, at: &Moment<'_>) -> Option<Plan> {
        match progress.stage {
            Stage::UserLocked => Some(sql::lock_rooms(at, self.0)),
            Stage::RoomsLocked => {
                let ended = sql::listed_rooms(at, &progress.doomed.ended);
                Some(sql::lock_recordings(at, self.0, &ended))
            }
            Stage::RecordingsLocked => Some(sql::finish(at, self.0, &progress.doomed)),
            Stage::Done => None,
        }
    }

    fn read_then(&self, mut progress: Progress, row: &QueryResult) -> Result<Progress, DbErr> {
        let user = self.0.as_uuid();
        progress.stage = match progress.stage {
            Stage::UserLocked => {
                progress.doomed.take_rooms(user, found(row)?);
                Stage::RoomsLocked
            }
            Stage::RoomsLocked => {
                progress.take_recordings(user, found(row)?);
                Stage::RecordingsLocked
            }
            Stage::RecordingsLocked | Stage::Done => {
                let (receipt, doomed) = (&mut progress.receipt, &progress.doomed);
                let count = |rows: usize| i32::try_from(rows).unwrap_or(i32::MAX);
                receipt.providers_removed = row.try_get_by("providers")?;
                receipt.closed_stays = row.try_get_by("stays")?;
                receipt.rooms_ended = count(doomed.ended.len());
                receipt.rooms_cancelled = count(doomed.cancelled.len());
                receipt.recordings_deleted = count(doomed.deleted.len());
                Stage::Done
            }
        };
        Ok(progress)
    }

    /// Not found may mean erased before; [`Users::erase`] looks.
    async fn refusal(&self, _: &DatabaseExecutor<'_>, _: &Moment<'_>) -> Result<Option<Error>, DbErr> {
        Ok(Some(Error::NotFound(Subject::User(self.0))))
    }
}

fn found<T: serde::de::DeserializeOwned>(row: &QueryResult) -> Result<Vec<T>, DbErr> {
    let text: String = row.try_get_by("found")?;
    serde_json::from_str(&text).map_err(|error| DbErr::Json(error.to_string()))
}

impl Doomed {
    fn take_rooms(&mut self, user: Uuid, rooms: Vec<LockedRoom>) {
        for room in rooms {
            let id = RoomId::from_uuid(room.id);
            match (room.owner == user, room.status) {
                (true, RoomStatus::Live) => self.ended.push(id),
                (true, RoomStatus::Created) => self.cancelled.push(id),
                (false, RoomStatus::Live) => self.left.push(id),
                // It ended while its lock was waited for.
                _ => {}
            }
        }
    }
}

impl Progress {
    fn take_recordings(&mut self, user: Uuid, recordings: Vec<LockedRecording>) {
        let Self { doomed, receipt, .. } = self;
        for found in recordings {
            let (id, room) = (RecordingId::from_uuid(found.id), RoomId::from_uuid(found.room));
            if matches!(found.status, RecordingStatus::Started | RecordingStatus::InProgress) {
                if doomed.ended.contains(&room) {
                    doomed.stopped_with_room.push((id, room));
                } else {
                    doomed.stopped.push((id, room));
                }
            }
            if found.owner == user {
                doomed.deleted.push((id, room));
                receipt.files.push(StoredFile {
                    recording: id,
                    storage_bucket: found.bucket,
                    storage_key: found.key,
                });
            }
        }
    }
}
