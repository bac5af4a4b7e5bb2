//! A change that takes several statements, as data.
//!
//! A plan is a list of named steps that read each other's rows by name. PostgreSQL gets them as one statement,
//! `WITH a AS (..), b AS (..) SELECT * FROM a`: one round trip, and one commit when it stands alone. SQLite, where
//! data-modifying CTEs do not exist and a round trip costs nothing, runs them one by one inside a transaction; the rows of
//! earlier steps reach later ones as `WITH a(..) AS (VALUES ..)`. So one text serves both.
//!
//! What keeps both readings equal, and must hold for every plan:
//! - **Guards first.** A [`Step::guard`] that yields no row ends the plan. Later steps must take their rows from it, so
//!   that on PostgreSQL nothing happens either; and nothing may be written before the last guard has yielded.
//! - On PostgreSQL all steps see the database as it was when the statement began, plus what a locking select or an UPDATE
//!   finds newest. So a plan may change rows that it names by key, never "all rows that ..", of which new ones may have
//!   come in while it waited for a lock; what needs that is two plans in one transaction (see `Operation::then`).
//! - What locks or changes the rows of a select takes their keys through [`Dialect::among`], which says why.
//! - Steps that write to one table must not touch the same row twice.
//!
//! Parameters are written `:name`.

use std::fmt::Write as _;

use sea_orm::{ConnectionTrait, DbErr, QueryResult, Statement, Value};
use serde_json::Value as Json;
use uuid::Uuid;

use super::Dialect;

/// A parameter's value, and the type that PostgreSQL must be told when the driver's own is not it.
#[derive(Clone, Debug)]
pub(crate) struct Bind {
    value: Value,
    cast: Option<&'static str>,
}

impl<V: Into<Value>> From<V> for Bind {
    fn from(value: V) -> Self {
        Self {
            value: value.into(),
            cast: None,
        }
    }
}

impl Bind {
    /// Text that PostgreSQL takes as a value of `type_name`.
    pub(crate) fn text_as(type_name: &'static str, text: Option<String>) -> Self {
        Self {
            value: text.into(),
            cast: Some(type_name),
        }
    }
}

/// Type of a column that a later step reads.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Uuid,
    Integer,
    Text,
}

/// The columns of a step that later steps read.
pub(crate) type Handed = &'static [(&'static str, Kind)];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// No row: the plan ends.
    Guard,
    /// Rows or none, both are fine.
    Lookup,
    /// Nothing comes back.
    Effect,
}

/// One statement of a plan.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    name: &'static str,
    role: Role,
    sql: String,
    handed: Handed,
}

impl Step {
    /// A statement that must yield a row.
    pub(crate) fn guard(name: &'static str, handed: Handed, sql: impl Into<String>) -> Self {
        Self::new(name, Role::Guard, handed, sql)
    }

    /// A select whose rows, if any, later steps read.
    pub(crate) fn lookup(name: &'static str, handed: Handed, sql: impl Into<String>) -> Self {
        Self::new(name, Role::Lookup, handed, sql)
    }

    /// A change of which nobody needs the rows.
    pub(crate) fn effect(name: &'static str, sql: impl Into<String>) -> Self {
        Self::new(name, Role::Effect, &[], sql)
    }

    fn new(name: &'static str, role: Role, handed: Handed, sql: impl Into<String>) -> Self {
        Self {
            name,
            role,
            sql: sql.into(),
            handed,
        }
    }
}

/// See the module's documentation.
#[derive(Clone, Debug)]
pub struct Plan {
    steps: Vec<Step>,
    binds: Vec<(&'static str, Bind)>,
    result: &'static str,
}

impl Plan {
    /// A plan whose outcome is the row of the guard called `result`.
    pub(crate) fn yielding(result: &'static str) -> Self {
        Self {
            steps: Vec::new(),
            binds: Vec::new(),
            result,
        }
    }

    pub(crate) fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    pub(crate) fn bind(mut self, name: &'static str, value: impl Into<Bind>) -> Self {
        self.binds.push((name, value.into()));
        self
    }

    /// Runs the plan. None means that a guard yielded nothing, and that nothing was changed.
    ///
    /// On SQLite `db` must be a transaction; on PostgreSQL it may be a pool.
    pub(crate) async fn run(&self, dialect: Dialect, db: &impl ConnectionTrait) -> Result<Option<QueryResult>, DbErr> {
        match dialect {
            Dialect::Postgres => db.query_one_raw(self.as_one_statement()).await,
            Dialect::Sqlite => self.run_step_by_step(db).await,
        }
    }

    fn as_one_statement(&self) -> Statement {
        let mut text = Text::new(Dialect::Postgres, &self.binds);
        for (index, step) in self.steps.iter().enumerate() {
            let lead = if index == 0 { "WITH" } else { "," };
            // MATERIALIZED: a lookup or a lock happens once, not where the planner would rather have it.
            let how = if step.sql.starts_with("SELECT") {
                "MATERIALIZED "
            } else {
                ""
            };
            let _ = write!(text.sql, "{lead} {} AS {how}(", step.name);
            text.push(&step.sql);
            text.sql.push(')');
        }
        let _ = write!(text.sql, " SELECT * FROM {}", self.result);
        text.statement()
    }

    async fn run_step_by_step(&self, db: &impl ConnectionTrait) -> Result<Option<QueryResult>, DbErr> {
        let mut outcome = None;
        let mut earlier: Vec<(&Step, Vec<Vec<Value>>)> = Vec::new();
        for step in &self.steps {
            let mut text = Text::new(Dialect::Sqlite, &self.binds);
            let read = earlier.iter().filter(|(past, _)| mentions(&step.sql, past.name));
            for (index, (past, rows)) in read.enumerate() {
                let lead = if index == 0 { "WITH" } else { "," };
                let columns: Vec<&str> = past.handed.iter().map(|(name, _)| *name).collect();
                let _ = write!(text.sql, "{lead} {}({}) AS (", past.name, columns.join(", "));
                text.push_rows(columns.len(), rows);
                text.sql.push_str(") ");
            }
            text.push(&step.sql);
            if step.role == Role::Effect {
                db.execute_raw(text.statement()).await?;
                continue;
            }
            let rows = db.query_all_raw(text.statement()).await?;
            if rows.is_empty() && step.role == Role::Guard {
                return Ok(None);
            }
            let handed = rows
                .iter()
                .map(|row| read_handed(row, step.handed))
                .collect::<Result<_, _>>()?;
            earlier.push((step, handed));
            if step.name == self.result {
                outcome = rows.into_iter().next();
            }
        }
        Ok(outcome)
    }
}

fn read_handed(row: &QueryResult, handed: Handed) -> Result<Vec<Value>, DbErr> {
    let read = |(name, kind): &(&str, Kind)| {
        Ok(match kind {
            Kind::Uuid => row.try_get_by::<Option<Uuid>, _>(*name)?.into(),
            Kind::Integer => row.try_get_by::<Option<i64>, _>(*name)?.into(),
            Kind::Text => row.try_get_by::<Option<String>, _>(*name)?.into(),
        })
    };
    handed.iter().map(read).collect()
}

/// Whether a statement reads the step of that name: the name stands in it as a word of its own.
fn mentions(sql: &str, name: &str) -> bool {
    sql.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'))
        .any(|word| word == name)
}

/// A single statement that reads, with its parameters by name.
#[derive(Clone, Debug)]
pub(crate) struct Query {
    sql: String,
    binds: Vec<(&'static str, Bind)>,
}

impl Query {
    pub(crate) fn new(sql: String) -> Self {
        Self { sql, binds: Vec::new() }
    }

    /// A value that the statement may mention; if it does not, it is not sent.
    pub(crate) fn bind(mut self, name: &'static str, value: impl Into<Bind>) -> Self {
        self.binds.push((name, value.into()));
        self
    }

    pub(crate) async fn rows(&self, dialect: Dialect, db: &impl ConnectionTrait) -> Result<Vec<QueryResult>, DbErr> {
        db.query_all_raw(self.statement(dialect, "")).await
    }

    /// Runs it and tells how it was run: on PostgreSQL the plan with times and buffers, on SQLite the steps of the plan.
    pub(crate) async fn explain(&self, dialect: Dialect, db: &impl ConnectionTrait) -> Result<Json, DbErr> {
        let (prefix, column) = match dialect {
            Dialect::Postgres => ("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) ", "QUERY PLAN"),
            Dialect::Sqlite => ("EXPLAIN QUERY PLAN ", "detail"),
        };
        let rows = db.query_all_raw(self.statement(dialect, prefix)).await?;
        let read = |row: &QueryResult| match dialect {
            Dialect::Postgres => row.try_get_by::<Json, _>(column),
            Dialect::Sqlite => row.try_get_by::<String, _>(column).map(Json::from),
        };
        rows.iter().map(read).collect()
    }

    fn statement(&self, dialect: Dialect, prefix: &str) -> Statement {
        let mut text = Text::new(dialect, &self.binds);
        text.push(prefix);
        text.push(&self.sql);
        text.statement()
    }
}

/// SQL with its values, while it is put together.
struct Text<'a> {
    dialect: Dialect,
    binds: &'a [(&'static str, Bind)],
    /// Place of each bind that was used, so that a name used twice is sent once.
    places: Vec<Option<usize>>,
    sql: String,
    values: Vec<Value>,
}

impl<'a> Text<'a> {
    fn new(dialect: Dialect, binds: &'a [(&'static str, Bind)]) -> Self {
        Self {
            dialect,
            binds,
            places: vec![None; binds.len()],
            sql: String::with_capacity(1024),
            values: Vec::new(),
        }
    }

    /// Appends SQL, each `:name` turned into a placeholder. A colon before anything but a letter is text, as in `+00:00`.
    fn push(&mut self, sql: &str) {
        let mut rest = sql;
        while let Some((before, after)) = rest.split_once(':') {
            self.sql.push_str(before);
            let end = after.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
            let (name, beyond) = after.split_at(end.unwrap_or(after.len()));
            if name.starts_with(|c: char| c.is_ascii_alphabetic()) {
                self.push_bind(name);
            } else {
                self.sql.push(':');
                self.sql.push_str(name);
            }
            rest = beyond;
        }
        self.sql.push_str(rest);
    }

    fn push_bind(&mut self, name: &str) {
        let Some(index) = self.binds.iter().position(|(known, _)| *known == name) else {
            // A plan's text is a constant of this crate, and the tests run every plan.
            unreachable!("the plan binds no value named {name}");
        };
        let (_, bind) = &self.binds[index];
        let place = *self.places[index].get_or_insert_with(|| {
            self.values.push(bind.value.clone());
            self.values.len()
        });
        let _ = match (self.dialect, bind.cast) {
            (Dialect::Postgres, Some(cast)) => write!(self.sql, "CAST(${place} AS {cast})"),
            _ => write!(self.sql, "${place}"),
        };
    }

    fn push_rows(&mut self, width: usize, rows: &[Vec<Value>]) {
        if rows.is_empty() {
            let nothing = vec!["NULL"; width].join(", ");
            let _ = write!(self.sql, "SELECT {nothing} WHERE FALSE");
            return;
        }
        for (index, row) in rows.iter().enumerate() {
            self.sql.push_str(if index == 0 { "VALUES (" } else { ", (" });
            for (column, value) in row.iter().enumerate() {
                self.values.push(value.clone());
                let lead = if column == 0 { "" } else { ", " };
                let _ = write!(self.sql, "{lead}${}", self.values.len());
            }
            self.sql.push(')');
        }
    }

    fn statement(self) -> Statement {
        Statement::from_sql_and_values(self.dialect.backend(), self.sql, self.values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn postgres_gets_one_statement_and_each_value_once() {
        let plan = Plan::yielding("b")
            .bind("id", 7)
            .bind("role", Bind::text_as("participant_role", Some("HOST".to_owned())))
            .step(Step::guard(
                "a",
                &[("id", Kind::Integer)],
                "SELECT id FROM t WHERE id = :id",
            ))
            .step(Step::guard(
                "b",
                &[],
                "INSERT INTO u SELECT id, :id, :role FROM a RETURNING id",
            ));
        let statement = plan.as_one_statement();
        assert_eq!(
            statement.sql,
            "WITH a AS MATERIALIZED (SELECT id FROM t WHERE id = $1), b AS (INSERT INTO u SELECT id, $1, \
             CAST($2 AS participant_role) FROM a RETURNING id) SELECT * FROM b"
        );
        assert_eq!(statement.values.unwrap().0.len(), 2);
    }

    #[test]
    fn a_step_is_mentioned_by_its_whole_name_only() {
        assert!(mentions("SELECT id FROM seat", "seat"));
        assert!(mentions("WHERE id = (SELECT seat.id)", "seat"));
        assert!(!mentions("SELECT seat_id FROM seats WHERE x = :seat", "seat"));
    }
}
