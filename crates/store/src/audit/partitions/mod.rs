//! The audit log's months: making those ahead, and archiving those whose time is over.
//!
//! On PostgreSQL `audit_logs` has a partition for each month, one for what came before there were any, and one for rows of which the
//! month is missing. On SQLite it is one table: there is nothing to list, make or archive, and nothing here is an error.

mod archive;
mod sql;

use chrono::{DateTime, Datelike, Months, NaiveDate, Utc};
use sea_orm::{DbErr, QueryResult};

use crate::authority::Operation as Asked;
use crate::database::statement::Query;
use crate::database::{Dialect, fault};
use crate::error::{Error, Invalid, Result, Rule};
use crate::page::Place;
use crate::row::Cells;
use crate::unit::only_the_system;
use crate::unit::{Acting, Source};

pub use archive::ArchivedPartition;

/// Partitions of the audit log. Changing them takes a role that owns the tables: run this from a maintenance job, not from the services.
#[derive(Debug)]
pub struct AuditPartitions<'a> {
    acting: &'a Acting,
}

/// Where a partition stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PartitionState {
    /// Part of the audit log, for the rows of its time.
    Attached,
    /// Part of the audit log, for rows whose time no other has.
    Default,
    /// No part of the audit log any more; not exported and dropped yet, because that was broken off.
    Detached,
}

/// A part of the audit log.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct AuditPartition {
    /// Of the table.
    pub name: String,
    /// Where it stands.
    pub state: PartitionState,
    /// It has events of this time or later; none: of any earlier time.
    pub since: Option<DateTime<Utc>>,
    /// It has events of before this time; only the default has no bound.
    pub until: Option<DateTime<Utc>>,
    /// On disk, with indexes.
    pub bytes: i64,
    /// As the server last estimated.
    pub about_events: i64,
}

/// What [`AuditPartitions::ensure_partitions`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct EnsuredPartitions {
    /// Partitions that it made.
    pub made: Vec<String>,
    /// Partitions that cannot be made, because events of their months are in the default partition already. These and later events
    /// of those months stay there, and are found like all others; they are never archived.
    pub in_default: Vec<String>,
}

impl Acting {
    /// The audit log's partitions.
    pub fn audit_partitions(&self) -> AuditPartitions<'_> {
        AuditPartitions { acting: self }
    }
}

impl AuditPartitions<'_> {
    /// All of them, the oldest first, the default last.
    ///
    /// # Errors
    /// None beyond the database's own.
    pub async fn list(&self) -> Result<Vec<AuditPartition>> {
        if self.dialect() == Dialect::Sqlite {
            return Ok(Vec::new());
        }
        let failed = |error: DbErr| self.acting.failed(&error, "audit_partitions.list");
        let rows = sql::list().rows(Dialect::Postgres, &self.acting.executor()).await;
        read_list(&rows.map_err(failed)?).map_err(failed)
    }

    /// Makes the partitions of this month and of so many months ahead, those that are missing. Any number of processes may do so
    /// at once. Run it at least monthly; were it forgotten, appends would go on, into the default partition.
    ///
    /// Each takes locks for a moment that changes of users and rooms wait for, and gives way after 200 ms to try again as
    /// [`crate::RetryPolicy`] says. By the system alone.
    ///
    /// # Errors
    /// [`Error::Invalid`] when `ahead` is above 120; [`crate::Rejected::NotAllowed`]; [`Error::Transient`] when the tables were too
    /// busy; [`Error::Backend`] when the role does not own them.
    pub async fn ensure_partitions(&self, ahead: u32) -> Result<EnsuredPartitions> {
        only_the_system(self.acting, Asked::ArchiveAuditLog).await?;
        if ahead > MOST_MONTHS_AHEAD {
            return Err(Invalid {
                field: "ahead",
                rule: Rule::AtMost(MOST_MONTHS_AHEAD.into()),
            }
            .into());
        }
        let there = self.list().await?;
        let mut upkeep = EnsuredPartitions::default();
        if self.dialect() == Dialect::Sqlite {
            return Ok(upkeep);
        }
        let this_month = month_of(self.acting.context().now());
        for number in 0..=ahead {
            let (since, until) = (later(this_month, number), later(this_month, number + 1));
            if is_covered(&there, since, until) {
                continue;
            }
            let name = format!("audit_logs_{:04}_{:02}", since.year(), since.month());
            match self.attach(&name, since, until).await {
                Ok(true) => upkeep.made.push(name),
                Ok(false) => {}
                Err(Error::Backend { code: Some(code), .. }) if code == ROWS_IN_DEFAULT => upkeep.in_default.push(name),
                Err(error) => return Err(error),
            }
        }
        Ok(upkeep)
    }

    async fn attach(&self, name: &str, since: DateTime<Utc>, until: DateTime<Utc>) -> Result<bool> {
        let mut retries = self.acting.context().retries();
        loop {
            let made = async {
                let rows = sql::attach(name, since, until)
                    .rows(Dialect::Postgres, &self.acting.executor())
                    .await?;
                rows.first().map_or(Ok(false), |row| Cells::of(row).next("made"))
            };
            let error = match made.await {
                Ok(made) => return Ok(made),
                Err(error) => fault::read(Dialect::Postgres, &error, "audit_partitions.ensure_partitions", false),
            };
            if !error.is_retryable() || !retries.another().await {
                return Err(error);
            }
        }
    }

    /// What [`AuditPartitions::archive`] would archive now: those that ended before the last `keep` whole months, those
    /// included whose archiving was broken off. Changes nothing: the dry run.
    ///
    /// # Errors
    /// [`Error::Invalid`] when `keep` is 0.
    pub async fn due(&self, keep: u32) -> Result<Vec<AuditPartition>> {
        let kept_from = self.kept_from(keep)?;
        let mut all = self.list().await?;
        all.retain(|one| is_over(one, kept_from));
        Ok(all)
    }

    /// The first moment of what must stay: so many whole months before this one.
    fn kept_from(&self, keep: u32) -> Result<DateTime<Utc>> {
        if keep == 0 {
            return Err(Invalid {
                field: "keep",
                rule: Rule::AtLeast(1),
            }
            .into());
        }
        let this_month = month_of(self.acting.context().now());
        Ok(this_month
            .checked_sub_months(Months::new(keep))
            .unwrap_or(DateTime::UNIX_EPOCH))
    }

    fn dialect(&self) -> Dialect {
        self.acting.context().dialect()
    }
}

/// Whether a partition of its own takes what is of this time.
fn is_covered(all: &[AuditPartition], since: DateTime<Utc>, until: DateTime<Utc>) -> bool {
    all.iter().any(|one| {
        one.state == PartitionState::Attached
            && one.since.is_none_or(|start| start <= since)
            && one.until.is_some_and(|end| until <= end)
    })
}

/// For how many months from the one after this on, without a gap, there are partitions; none if this month has none itself.
pub(crate) fn months_ahead(all: &[AuditPartition], now: DateTime<Utc>) -> u32 {
    let this_month = month_of(now);
    let covered = (0..=MOST_MONTHS_AHEAD)
        .take_while(|number| is_covered(all, later(this_month, *number), later(this_month, number + 1)));
    u32::try_from(covered.count()).map_or(0, |months| months.saturating_sub(1))
}

/// What [`AuditPartitions::list`] asks.
pub(crate) fn list_query() -> Query {
    sql::list()
}

/// Reads its rows.
pub(crate) fn read_list(rows: &[QueryResult]) -> Result<Vec<AuditPartition>, DbErr> {
    let read = |row: &QueryResult| {
        let cells = &mut Cells::of(row);
        Ok(AuditPartition {
            name: cells.next("name")?,
            state: match cells.next::<String>("state")?.as_str() {
                "attached" => PartitionState::Attached,
                "default" => PartitionState::Default,
                _ => PartitionState::Detached,
            },
            since: cells.next("since")?,
            until: cells.next("until")?,
            bytes: cells.next("bytes")?,
            about_events: cells.next("about_events")?,
        })
    };
    rows.iter().map(read).collect()
}

fn is_over(one: &AuditPartition, kept_from: DateTime<Utc>) -> bool {
    one.state != PartitionState::Default && one.until.is_some_and(|until| until <= kept_from)
}

/// Ten years; a mistyped number should not make a thousand tables.
const MOST_MONTHS_AHEAD: u32 = 120;
/// `check_violation`: PostgreSQL will not attach a partition for rows that the default one has.
const ROWS_IN_DEFAULT: &str = "23514";

fn month_of(at: DateTime<Utc>) -> DateTime<Utc> {
    let first = NaiveDate::from_ymd_opt(at.year(), at.month(), 1).unwrap_or_default();
    first.and_time(chrono::NaiveTime::MIN).and_utc()
}

fn later(month: DateTime<Utc>, by: u32) -> DateTime<Utc> {
    month
        .checked_add_months(Months::new(by))
        .unwrap_or(DateTime::<Utc>::MAX_UTC)
}

/// For the list of all statements: what is asked of a partition, here of the whole.
pub(crate) fn all_queries() -> impl Iterator<Item = Query> {
    let table = r#""audit_logs""#;
    let cursor = Place {
        at: DateTime::UNIX_EPOCH,
        id: uuid::Uuid::nil(),
    };
    let rows = [None, Some(cursor)].map(|after| sql::rows(table, after, 1));
    let attach = sql::attach("audit_logs_2000_01", DateTime::UNIX_EPOCH, DateTime::UNIX_EPOCH);
    rows.into_iter().chain([sql::list(), attach, sql::count(table)])
}
