//! The sweeps, which the platform runs from time to time.

use std::time::Duration;

use chrono::{DateTime, TimeDelta};
use sea_orm::{DatabaseExecutor, DbErr, QueryResult};

use super::{MAX_SWEEP, SweptRecording};
use crate::authority::{Operation as Asked, Standing, may};
use crate::backend::plan::Plan;
use crate::backend::recording_sweeps as sql;
use crate::clock::to_microseconds;
use crate::error::{Error, Invalid, Rejected, Rule};
use crate::operation::{Moment, Operation};

pub(super) fn limit(limit: u16) -> Result<u16, Invalid> {
    let broken = |rule| Invalid { field: "limit", rule };
    match limit {
        0 => Err(broken(Rule::AtLeast(1))),
        1..=MAX_SWEEP => Ok(limit),
        _ => Err(broken(Rule::AtMost(MAX_SWEEP.into()))),
    }
}

/// Less than a second would take recordings that are well. More than the clock can count back is longer than any silence.
pub(super) fn silence(older_than: Duration) -> Result<TimeDelta, Invalid> {
    if older_than < Duration::from_secs(1) {
        return Err(Invalid {
            field: "older_than",
            rule: Rule::AtLeast(1),
        });
    }
    Ok(TimeDelta::from_std(older_than).unwrap_or(TimeDelta::MAX))
}

fn only_the_platform(at: &Moment<'_>) -> Option<Error> {
    let operation = Asked::ProcessRecording;
    let standing = if at.actor.is_system() {
        Standing::System
    } else {
        Standing::Outsider
    };
    let not_allowed = Rejected::NotAllowed {
        operation,
        standing,
        room: None,
        user: None,
    };
    (!may(operation, standing, None)).then(|| not_allowed.into())
}

/// The one row of a sweep's plan: all that it took, as JSON.
fn read(row: &QueryResult) -> Result<Vec<SweptRecording>, DbErr> {
    let told: String = row.try_get_by("told")?;
    serde_json::from_str(&told).map_err(|error| DbErr::Json(error.to_string()))
}

pub(super) struct SweepExpired {
    pub(super) limit: u16,
}

impl Operation for SweepExpired {
    const NAME: &'static str = "recordings.sweep_expired";
    type Output = Vec<SweptRecording>;

    fn forbidden(&self, at: &Moment<'_>) -> Option<Error> {
        only_the_platform(at)
    }

    fn plan(&self, at: &Moment<'_>) -> Plan {
        sql::sweep_expired(at, self.limit)
    }

    fn read(&self, row: &QueryResult) -> Result<Self::Output, DbErr> {
        read(row)
    }

    /// The plan always yields: having found nothing is no refusal.
    async fn refusal(&self, _: &DatabaseExecutor<'_>, _: &Moment<'_>) -> Result<Option<Error>, DbErr> {
        Ok(None)
    }
}

pub(super) struct SweepStuck {
    pub(super) silence: TimeDelta,
    pub(super) limit: u16,
}

impl Operation for SweepStuck {
    const NAME: &'static str = "recordings.sweep_stuck";
    type Output = Vec<SweptRecording>;

    fn forbidden(&self, at: &Moment<'_>) -> Option<Error> {
        only_the_platform(at)
    }

    fn plan(&self, at: &Moment<'_>) -> Plan {
        // Not before 1970: both databases compare such times, SQLite as text.
        let before = at.now.checked_sub_signed(self.silence);
        let before = before.map_or(DateTime::UNIX_EPOCH, |before| before.max(DateTime::UNIX_EPOCH));
        let message = format!("no progress for {} s", self.silence.num_seconds());
        sql::sweep_stuck(at, self.limit, to_microseconds(before), &message)
    }

    fn read(&self, row: &QueryResult) -> Result<Self::Output, DbErr> {
        read(row)
    }

    /// As for [`SweepExpired`].
    async fn refusal(&self, _: &DatabaseExecutor<'_>, _: &Moment<'_>) -> Result<Option<Error>, DbErr> {
        Ok(None)
    }
}
