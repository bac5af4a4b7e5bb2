//! The start of a recording.

use chrono::{DateTime, Utc};
use entity::{RecordingId, RoomStatus, recording, room_participant};
use sea_orm::{ColumnTrait, DatabaseExecutor, DbErr, FromQueryResult, QueryFilter, QueryResult};

use super::CheckedRecording;
use crate::authority::{Operation as Asked, Standing, may};
use crate::backend::plan::Plan;
use crate::backend::recordings as sql;
use crate::error::{Conflict, Error, Invalid, Rejected, Rule, Subject};
use crate::operation::{Moment, Operation};
use crate::scope::{self, Any};
use crate::{participants, rooms, users};

/// What is to be deleted in the past would be gone at once.
pub(super) fn not_in_the_future(at: &Moment<'_>, expires_at: Option<DateTime<Utc>>) -> Option<Error> {
    let invalid = Invalid {
        field: "expires_at",
        rule: Rule::After("now"),
    };
    expires_at
        .is_some_and(|expires_at| expires_at <= at.now)
        .then(|| invalid.into())
}

pub(super) struct Start(pub(super) CheckedRecording);

impl Operation for Start {
    const NAME: &'static str = "recordings.start";
    type Output = recording::Model;

    fn forbidden(&self, at: &Moment<'_>) -> Option<Error> {
        let standing = at.actor.standing_towards(self.0.owner);
        if standing == Standing::Outsider {
            let somebody_elses = Rejected::NotAllowed {
                operation: Asked::Record,
                standing,
                room: Some(self.0.room),
                user: Some(self.0.owner),
            };
            return Some(somebody_elses.into());
        }
        not_in_the_future(at, self.0.expires_at)
    }

    fn plan(&self, at: &Moment<'_>) -> Plan {
        sql::start(at, RecordingId::from_uuid(at.id()), &self.0)
    }

    fn read(&self, row: &QueryResult) -> Result<recording::Model, DbErr> {
        recording::Model::from_query_result(row, "")
    }

    async fn refusal(&self, db: &DatabaseExecutor<'_>, at: &Moment<'_>) -> Result<Option<Error>, DbErr> {
        let CheckedRecording { room: id, owner, .. } = self.0;
        let Some(room) = rooms::find(db, id).await? else {
            return Ok(Some(Error::NotFound(Subject::Room(id))));
        };
        let standing = participants::standing_in(db, at, &room).await?;
        if !may(Asked::Record, standing, None) {
            let not_allowed = Rejected::NotAllowed {
                operation: Asked::Record,
                standing,
                room: Some(id),
                user: None,
            };
            return Ok(Some(not_allowed.into()));
        }
        if let Some(error) = users::why_not_active(db, owner).await? {
            return Ok(Some(error));
        }
        if room.status != RoomStatus::Live {
            let status = room.status;
            return Ok(Some(Rejected::RoomStatus { room: id, status }.into()));
        }
        if !room.is_recordable {
            return Ok(Some(Rejected::NotRecordable { room: id }.into()));
        }
        if !at.actor.is_system() {
            let seat = scope::find_undeletable::<room_participant::Entity>()
                .filter(room_participant::Column::RoomId.eq(id))
                .filter(room_participant::Column::UserId.eq(owner))
                .filter(room_participant::Column::LeftAt.is_null());
            if seat.one(db).await?.is_none() {
                return Ok(Some(Rejected::NotPresent { user: owner, room: id }.into()));
            }
        }
        let same_key = scope::find::<recording::Entity, Any>()
            .filter(recording::Column::StorageKey.eq(self.0.storage_key.as_str()))
            .one(db)
            .await?;
        Ok(same_key.map(|_| Conflict::StorageKeyTaken.into()))
    }
}
