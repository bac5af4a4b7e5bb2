//! What becomes of one recording.

use chrono::{DateTime, Utc};
use entity::{RecordingId, RecordingStatus, recording, room, user};
use sea_orm::{ColumnTrait, DatabaseExecutor, DbErr, FromQueryResult, QueryFilter, QueryResult};

use super::CheckedMeasures;
use super::start::not_in_the_future;
use crate::authority::{Operation as Asked, Standing, may};
use crate::backend::plan::Plan;
use crate::backend::recordings::{self as sql, Alteration};
use crate::error::{Error, Rejected, Subject};
use crate::operation::{Moment, Operation};
use crate::participants;
use crate::scope::{self, Any, Deleted, Live};

/// One kind of change.
pub(super) trait Kind: Send + Sync {
    /// For errors.
    const NAME: &'static str;

    /// Its terms.
    fn alteration(&self, at: &Moment<'_>, id: RecordingId) -> Alteration;

    /// What is wrong with it at this time, whatever the database holds.
    fn forbidden(&self, _at: &Moment<'_>) -> Option<Error> {
        None
    }

    /// A reason against it that is more telling than the status, for an actor who may ask.
    fn why_not(&self, _at: &Moment<'_>, _standing: Standing, _recording: &recording::Model) -> Option<Rejected> {
        None
    }
}

pub(super) struct Alter<K>(pub(super) RecordingId, pub(super) K);

impl<K: Kind> Operation for Alter<K> {
    const NAME: &'static str = K::NAME;
    type Output = recording::Model;

    fn forbidden(&self, at: &Moment<'_>) -> Option<Error> {
        self.1.forbidden(at)
    }

    fn plan(&self, at: &Moment<'_>) -> Plan {
        sql::alter(at, self.0, self.1.alteration(at, self.0))
    }

    fn read(&self, row: &QueryResult) -> Result<recording::Model, DbErr> {
        recording::Model::from_query_result(row, "")
    }

    async fn refusal(&self, db: &DatabaseExecutor<'_>, at: &Moment<'_>) -> Result<Option<Error>, DbErr> {
        let Self(id, kind) = self;
        let alteration = kind.alteration(at, *id);
        let query = if alteration.restores {
            scope::find::<recording::Entity, Deleted>()
        } else {
            scope::find::<recording::Entity, Live>()
        };
        let Some(recording) = query.filter(recording::Column::Id.eq(*id)).one(db).await? else {
            return Ok(Some(Error::NotFound(Subject::Recording(*id))));
        };
        let standing = standing_towards(db, at, &recording).await?;
        if !may(alteration.asked, standing, None) {
            return Ok(Some(not_allowed(alteration.asked, standing, &recording).into()));
        }
        if let Some(rejected) = kind.why_not(at, standing, &recording) {
            return Ok(Some(rejected.into()));
        }
        let status = recording.status;
        if !alteration.from.contains(&status) {
            return Ok(Some(Rejected::RecordingStatus { recording: *id, status }.into()));
        }
        if alteration.restores {
            let owner = scope::find::<user::Entity, Live>().filter(user::Column::Id.eq(recording.owner_id));
            if owner.one(db).await?.is_none() {
                return Ok(Some(Error::NotFound(Subject::User(recording.owner_id))));
            }
        }
        Ok(None)
    }
}

fn not_allowed(operation: Asked, standing: Standing, recording: &recording::Model) -> Rejected {
    Rejected::NotAllowed {
        operation,
        standing,
        room: Some(recording.room_id),
        user: Some(recording.owner_id),
    }
}

/// What the actor is to a recording now: its owner counts as its room's.
async fn standing_towards(
    db: &DatabaseExecutor<'_>,
    at: &Moment<'_>,
    recording: &recording::Model,
) -> Result<Standing, DbErr> {
    if at.actor.user_id() == Some(recording.owner_id) {
        return Ok(Standing::Owner);
    }
    let room = scope::find::<room::Entity, Any>().filter(room::Column::Id.eq(recording.room_id));
    match room.one(db).await? {
        Some(room) => participants::standing_in(db, at, &room).await,
        None => Err(DbErr::RecordNotFound("a recording's room".to_owned())),
    }
}

pub(super) struct Progress;

impl Kind for Progress {
    const NAME: &'static str = "recordings.progress";

    fn alteration(&self, _: &Moment<'_>, id: RecordingId) -> Alteration {
        sql::progress(id)
    }
}

pub(super) struct Stop(pub(super) CheckedMeasures);

impl Kind for Stop {
    const NAME: &'static str = "recordings.stop";

    fn alteration(&self, at: &Moment<'_>, id: RecordingId) -> Alteration {
        sql::stop(at.dialect, id, &self.0)
    }
}

pub(super) struct Fail(pub(super) String);

impl Kind for Fail {
    const NAME: &'static str = "recordings.fail";

    fn alteration(&self, at: &Moment<'_>, id: RecordingId) -> Alteration {
        sql::fail(at.dialect, id, &self.0, at.actor.is_system())
    }

    fn why_not(&self, _: &Moment<'_>, standing: Standing, recording: &recording::Model) -> Option<Rejected> {
        let in_the_works = matches!(recording.status, RecordingStatus::Stopped | RecordingStatus::Processing);
        let operation = Asked::ProcessRecording;
        (in_the_works && !may(operation, standing, None)).then(|| not_allowed(operation, standing, recording))
    }
}

pub(super) struct Process;

impl Kind for Process {
    const NAME: &'static str = "recordings.process";

    fn alteration(&self, _: &Moment<'_>, id: RecordingId) -> Alteration {
        sql::process(id)
    }
}

pub(super) struct Ready {
    pub(super) url: String,
    pub(super) measures: CheckedMeasures,
}

impl Kind for Ready {
    const NAME: &'static str = "recordings.ready";

    fn alteration(&self, _: &Moment<'_>, id: RecordingId) -> Alteration {
        sql::ready(id, &self.url, &self.measures)
    }
}

pub(super) struct Retry {
    pub(super) max_retries: i32,
}

impl Kind for Retry {
    const NAME: &'static str = "recordings.retry";

    fn alteration(&self, at: &Moment<'_>, id: RecordingId) -> Alteration {
        sql::retry(at.dialect, id, self.max_retries)
    }

    fn why_not(&self, _: &Moment<'_>, _: Standing, recording: &recording::Model) -> Option<Rejected> {
        let exhausted = recording.status == RecordingStatus::Failed && recording.retry_count >= self.max_retries;
        exhausted.then_some(Rejected::RetriesExhausted {
            recording: recording.id,
            retries: recording.retry_count,
        })
    }
}

pub(super) struct Delete;

impl Kind for Delete {
    const NAME: &'static str = "recordings.delete";

    fn alteration(&self, _: &Moment<'_>, id: RecordingId) -> Alteration {
        sql::delete(id)
    }
}

pub(super) struct Restore;

impl Kind for Restore {
    const NAME: &'static str = "recordings.restore";

    fn alteration(&self, _: &Moment<'_>, id: RecordingId) -> Alteration {
        sql::restore(id)
    }

    fn why_not(&self, at: &Moment<'_>, _: Standing, recording: &recording::Model) -> Option<Rejected> {
        let expires_at = recording.expires_at?;
        let expired = expires_at <= at.now || recording.deleted_at.is_some_and(|deleted_at| expires_at <= deleted_at);
        expired.then_some(Rejected::RecordingExpired {
            recording: recording.id,
            expires_at,
        })
    }
}

pub(super) struct SetExpiry(pub(super) Option<DateTime<Utc>>);

impl Kind for SetExpiry {
    const NAME: &'static str = "recordings.set_expiry";

    fn alteration(&self, _: &Moment<'_>, id: RecordingId) -> Alteration {
        sql::set_expiry(id, self.0)
    }

    fn forbidden(&self, at: &Moment<'_>) -> Option<Error> {
        not_in_the_future(at, self.0)
    }
}
