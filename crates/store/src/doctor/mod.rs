//! What a person should know about a database: one look at everything that can be wrong with it, each fault with its remedy.
//!
//! Nothing is written, and no statement runs for longer than [`DoctorSettings::limit`]. What cannot be asked is a finding itself.

mod audit_log;
mod check;
mod counters;
mod integrity;
mod migrations;
mod rights;
mod schema;
mod server;
mod settings;

use std::time::Duration;

use sea_orm::{DbErr, QueryResult, Statement};

use crate::context::Context;
use crate::database::statement::Query;
use crate::database::{Bounded, Dialect, fault};
use crate::error::{Error, Result, TimeLimit};
use crate::row::Cells;
use crate::store::Store;
use crate::telemetry;
use crate::unit::Reach;

pub use check::{Check, Severity};
pub use migrations::MIGRATIONS;

/// What was found, and what helps.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// What was looked for.
    pub check: Check,
    /// How grave it is: that of the check.
    pub severity: Severity,
    /// What was found, by name and number.
    pub what: String,
    /// A command or a sentence.
    pub remedy: String,
}

impl Finding {
    fn of(check: Check, what: impl Into<String>) -> Self {
        Self {
            check,
            severity: check.severity(),
            what: what.into(),
            remedy: check.remedy().to_owned(),
        }
    }

    /// Puts a name into the remedy.
    fn with(mut self, place: &str, name: &str) -> Self {
        self.remedy = self.remedy.replace(&format!("<{place}>"), name);
        self
    }
}

/// What [`Store::doctor`] found.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// Which database it is.
    pub database: &'static str,
    /// The gravest first.
    pub findings: Vec<Finding>,
}

impl Report {
    /// The gravest that there is; none of none.
    pub fn worst(&self) -> Option<Severity> {
        self.findings.iter().map(|finding| finding.severity).max()
    }
}

/// How [`Store::doctor_with`] looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DoctorSettings {
    /// The longest that a statement of it runs or waits for a lock; on SQLite the longest that all of one question take: 10 s. What
    /// takes longer is given up and told of as [`Check::NotChecked`].
    pub limit: Duration,
}

impl Default for DoctorSettings {
    fn default() -> Self {
        Self {
            limit: Duration::from_secs(10),
        }
    }
}

/// What the families of checks ask through.
struct Examined<'a> {
    context: &'a Context,
    limit: Duration,
}

impl Examined<'_> {
    fn dialect(&self) -> Dialect {
        self.context.dialect()
    }

    /// Runs one statement by itself.
    async fn rows(&self, query: &Query) -> Result<Vec<QueryResult>> {
        let dialect = self.dialect();
        let failed = |error: DbErr| fault::read(dialect, &error, DOCTOR, false);
        let bounded = Bounded::begin(self.context.connections(), dialect, self.limit).await;
        bounded.map_err(failed)?.rows(dialect, query).await.map_err(failed)
    }

    /// Runs one, and reads its rows.
    async fn read<T>(&self, query: &Query, read: impl Fn(&mut Cells<'_>) -> Result<T, DbErr>) -> Result<Vec<T>> {
        let rows = self.rows(query).await?;
        let values: Result<_, DbErr> = rows.iter().map(|row| read(&mut Cells::of(row))).collect();
        values.map_err(|error| fault::read(self.dialect(), &error, DOCTOR, false))
    }
}

const DOCTOR: &str = "doctor";

impl Store {
    /// Looks at the database for everything that can be wrong with it, for a person to read: what is missing of the schema, triggers that
    /// are off, rights, settings that lose data, counters, the audit log's months, clocks. [`Check`] lists it, docs/OPERATIONS.md says what
    /// each costs. It writes nothing and holds up no change of rows; what wants a table for itself, such as a migration, waits for a question that is
    /// asked just then. For a probe there is [`Store::health`].
    ///
    /// # Errors
    /// [`Error::Transient`], [`Error::Unreachable`] or [`Error::TimedOut`] when the database does not answer. A question that may not be
    /// asked, or takes too long, is a finding.
    pub async fn doctor(&self) -> Result<Report> {
        self.doctor_with(&DoctorSettings::default()).await
    }

    /// As [`Store::doctor`], with settings.
    ///
    /// # Errors
    /// As of [`Store::doctor`].
    pub async fn doctor_with(&self, settings: &DoctorSettings) -> Result<Report> {
        telemetry::observe(DOCTOR, examine(self.context(), settings.limit)).await
    }
}

async fn examine(context: &Context, limit: Duration) -> Result<Report> {
    let examined = &Examined { context, limit };
    let mut findings = Vec::new();
    let mut note = |what: &str, found: Result<Vec<Finding>>| -> Result<()> {
        match found {
            Ok(found) => findings.extend(found),
            Err(error) if is_away(&error) => return Err(error),
            Err(error) => findings.push(Finding::of(Check::NotChecked, format!("{what}: {error}"))),
        }
        Ok(())
    };
    note("migrations", migrations::check(examined).await)?;
    note("schema", schema::check(examined).await)?;
    note("indexes", schema::indexes(examined).await)?;
    note("counters", counters::check(examined).await)?;
    note("settings", settings::check(examined).await)?;
    match examined.dialect() {
        Dialect::Postgres => {
            note("the audit log's months", audit_log::check(examined).await)?;
            note("clock", server::clock(examined).await)?;
            note("pooler", server::pooler(examined).await)?;
            note("rights", rights::check(examined).await)?;
        }
        Dialect::Sqlite => {
            note("the file", integrity::file(examined).await)?;
            note("references", integrity::references(examined).await)?;
        }
    }
    findings.sort_by_key(|finding| (std::cmp::Reverse(finding.severity), finding.check));
    Ok(Report {
        database: context.dialect().name(),
        findings,
    })
}

/// Whether there is nobody to ask any further.
fn is_away(error: &Error) -> bool {
    matches!(
        error,
        Error::Transient { .. }
            | Error::Unreachable { .. }
            | Error::TimedOut {
                limit: TimeLimit::Answer,
                ..
            }
    )
}

/// Every statement of it, for the list of all.
pub(crate) fn all_statements(dialect: Dialect) -> Vec<Statement> {
    let mut queries = vec![
        migrations::query(),
        crate::schema::query(dialect),
        counters::query(),
        settings::query(dialect),
    ];
    queries.extend(match dialect {
        Dialect::Postgres => vec![
            schema::invalid(),
            schema::unused(),
            audit_log::query(&[]),
            server::time(),
            server::session(),
            rights::role(),
            rights::query(),
        ],
        Dialect::Sqlite => vec![integrity::damage(), integrity::loose_ends()],
    });
    queries.iter().map(|query| query.statement(dialect)).collect()
}
