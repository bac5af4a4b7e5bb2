//! A change as data: the rows that it locks, its guards, what it writes, its events.
//!
//! A plan is a list of named steps that read each other's rows by name. PostgreSQL gets them as one statement,
//! `WITH a AS (..), b AS (..) SELECT * FROM a`: one round trip, and one commit when it stands alone. SQLite, where
//! data-modifying CTEs do not exist and a round trip costs nothing, runs them one by one inside a transaction; the rows of
//! earlier steps reach later ones as `WITH a(..) AS (VALUES ..)`. So one text serves both.
//!
//! What keeps both readings equal, and must hold for every plan:
//! - **Guards first.** A step that must yield a row ends the plan where it does not, and later steps take their rows from
//!   it, so that on PostgreSQL nothing happens either; nothing may be written before the last guard has been asked.
//! - On PostgreSQL all steps see the database as it was when the statement began, plus what a locking select or an UPDATE
//!   finds newest. So a plan may change rows that it names by key, never "all rows that ..", of which new ones may have
//!   come in while it waited for a lock; what needs that is a second plan in the same transaction, see [`Plan::then`].
//! - What locks or changes the rows of a select takes their keys through [`Dialect::among`], which says why.
//! - Steps that write to one table must not touch the same row twice.
//!
//! A guard (see [`super::guard`]) is asked in the statement of its row; one that reads a later step's row is asked in the
//! step that makes the change.

use std::borrow::Cow;

use sea_orm::{DbErr, EntityTrait, IdenStatic, Iterable, QueryResult};

use super::Moment;
use super::guard::{Asks, Guard, Refusal};
use crate::actor::Actor;
use crate::database::Dialect;
use crate::database::statement::{Bind, Binds};
use crate::error::Error;
use crate::telemetry;

/// How a select takes its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lock {
    /// It only reads them.
    None,
    /// They stay as they are until the transaction ends.
    Share,
    /// They are to be changed, see [`Dialect::for_change`].
    Change,
}

impl Lock {
    pub(super) fn sql(self, dialect: Dialect) -> &'static str {
        match self {
            Self::None => "",
            Self::Share => dialect.for_share(),
            Self::Change => dialect.for_change(),
        }
    }
}

/// The columns of a row that its step yields.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Columns {
    /// All of the entity's, for a model to be read from.
    All,
    /// These.
    Of(&'static [&'static str]),
}

impl<const N: usize> From<&'static [&'static str; N]> for Columns {
    fn from(columns: &'static [&'static str; N]) -> Self {
        Self::Of(columns)
    }
}

/// A row of one table, found by a key: what guards look at.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) table: &'static str,
    pub(super) key: String,
    /// For a SELECT or RETURNING of columns of the entity; enums come as text.
    pub(super) list: fn(Dialect, Columns) -> String,
    /// A further column, and SQL for it.
    pub(super) computed: Option<(&'static str, &'static str)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// No row: the plan ends.
    Guard,
    /// Rows or none, both are fine.
    Lookup,
    /// Nothing comes back.
    Effect,
}

#[derive(Clone, Debug)]
pub(super) enum Body {
    Select {
        row: Row,
        columns: Columns,
        lock: Lock,
    },
    Update {
        row: Row,
        columns: Columns,
        set: String,
    },
    Delete {
        row: Row,
        columns: Columns,
    },
    /// The row of an earlier step, if all guards hold that have not been asked yet.
    Gate {
        of: &'static str,
    },
    Sql(String),
}

/// One statement of a plan.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) name: &'static str,
    pub(super) role: Role,
    /// Names of what it yields, for the steps that read it.
    pub(super) columns: Vec<&'static str>,
    pub(super) body: Body,
}

impl Step {
    pub(super) fn row(&self) -> Option<&Row> {
        match &self.body {
            Body::Select { row, .. } | Body::Update { row, .. } | Body::Delete { row, .. } => Some(row),
            Body::Gate { .. } | Body::Sql(_) => None,
        }
    }

    /// Changes rows, and does not only read them.
    pub(super) fn changes(&self) -> bool {
        match &self.body {
            Body::Update { .. } | Body::Delete { .. } => true,
            Body::Sql(sql) => sql.starts_with("INSERT"),
            Body::Select { .. } | Body::Gate { .. } => false,
        }
    }

    /// Takes the guards that are still open.
    pub(super) fn acts(&self) -> bool {
        matches!(self.body, Body::Update { .. } | Body::Delete { .. } | Body::Gate { .. })
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Plan {
    pub(super) steps: Vec<Step>,
    /// Rows that only guards look at.
    pub(super) views: Vec<Row>,
    pub(super) guards: Vec<Guard>,
    pub(super) binds: Binds,
    pub(super) result: &'static str,
    pub(super) is_answer: bool,
    pub(super) denied: Option<Error>,
    events: usize,
    given: Option<&'static str>,
    pub(super) then: Vec<Plan>,
}

impl Plan {
    /// Tells the span of the operation, where somebody listens, whose keys it is about.
    pub(crate) fn tell(&self, actor: &Actor) {
        let Some(span) = telemetry::current() else {
            return;
        };
        if let Some(user) = actor.user_id() {
            telemetry::by(&span, user);
        }
        for (name, id) in self.binds.keys() {
            telemetry::about(&span, name, id);
        }
    }

    /// A plan whose answer is the row of the step called `answer`. `:now`, `:actor` (null for the system) and `:is_system`
    /// are bound.
    pub(crate) fn new(at: &Moment<'_>, answer: &'static str) -> Self {
        let mut binds = Binds::default();
        binds.bind("now", at.now);
        binds.bind("actor", at.actor.user_id());
        binds.bind("is_system", at.actor.is_system());
        Self {
            steps: Vec::new(),
            views: Vec::new(),
            guards: Vec::new(),
            binds,
            result: answer,
            is_answer: true,
            denied: None,
            events: 0,
            given: None,
            then: Vec::new(),
        }
    }

    /// As [`Plan::new`], for a plan beside which another one has the answer: the step called `result` must yield a row.
    pub(crate) fn without_answer(at: &Moment<'_>, result: &'static str) -> Self {
        Self {
            is_answer: false,
            ..Self::new(at, result)
        }
    }

    /// Binds a name once; what is bound already stays.
    pub(crate) fn bind(mut self, name: impl Into<Cow<'static, str>>, value: impl Into<Bind>) -> Self {
        self.binds.bind(name, value);
        self
    }

    /// Another plan after this one, in the same transaction: it sees what others committed before this one had its locks.
    /// It must yield a row of its result.
    pub(crate) fn then(mut self, next: Self) -> Self {
        self.then.push(next);
        self
    }

    /// Of a plan that comes after another: binds `name` to the JSON text that the row of the other's result has in the column of that
    /// name, so that what the one has locked is what this one changes.
    pub(crate) fn given(mut self, name: &'static str) -> Self {
        self.given = Some(name);
        self.bind(name, Bind::text_as("jsonb", Some("[]".to_owned())))
    }

    /// Takes what it is to be given from the row of the plan before.
    pub(crate) fn take_given(&mut self, row: &QueryResult) -> Result<(), DbErr> {
        if let Some(name) = self.given {
            let text: String = row.try_get_by(name)?;
            self.binds.set(name, Bind::text_as("jsonb", Some(text)));
        }
        Ok(())
    }

    /// Refuses before the database is asked, where there is a reason.
    pub(crate) fn denied(mut self, reason: Option<Error>) -> Self {
        self.denied = self.denied.or(reason);
        self
    }

    /// A row that must be there: found by its key and locked.
    pub(crate) fn lock<E: EntityTrait>(
        self,
        name: &'static str,
        lock: Lock,
        columns: impl Into<Columns>,
        key: impl Into<String>,
    ) -> Self {
        self.select::<E>(name, Role::Guard, lock, columns.into(), key.into())
    }

    /// Lets the last step, a select, yield an expression over its row too.
    pub(crate) fn yielding(mut self, name: &'static str, sql: &'static str) -> Self {
        if let Some(Step {
            columns,
            body: Body::Select { row, .. },
            ..
        }) = self.steps.last_mut()
        {
            columns.push(name);
            row.computed = Some((name, sql));
        }
        self
    }

    /// A row that need not be there.
    pub(crate) fn look<E: EntityTrait>(
        self,
        name: &'static str,
        lock: Lock,
        columns: impl Into<Columns>,
        key: impl Into<String>,
    ) -> Self {
        self.select::<E>(name, Role::Lookup, lock, columns.into(), key.into())
    }

    fn select<E: EntityTrait>(self, name: &'static str, role: Role, lock: Lock, columns: Columns, key: String) -> Self {
        let row = Row::of::<E>(name, key);
        self.push(name, role, names::<E>(columns), Body::Select { row, columns, lock })
    }

    /// A row that no step takes: guards read it, or a constraint keeps it from being there.
    pub(crate) fn view<E: EntityTrait>(mut self, name: &'static str, key: impl Into<String>) -> Self {
        self.views.push(Row::of::<E>(name, key.into()));
        self
    }

    /// Changes a row that must be there.
    ///
    /// PostgreSQL runs a SELECT step only where something reads it, so the key reads the last row that was locked.
    pub(crate) fn update<E: EntityTrait>(
        self,
        name: &'static str,
        columns: impl Into<Columns>,
        set: impl Into<String>,
        key: impl Into<String>,
    ) -> Self {
        self.change::<E>(name, Role::Guard, columns.into(), set.into(), key.into())
    }

    /// Changes a row, if it is there.
    pub(crate) fn update_if_there<E: EntityTrait>(
        self,
        name: &'static str,
        columns: impl Into<Columns>,
        set: impl Into<String>,
        key: impl Into<String>,
    ) -> Self {
        self.change::<E>(name, Role::Lookup, columns.into(), set.into(), key.into())
    }

    fn change<E: EntityTrait>(
        self,
        name: &'static str,
        role: Role,
        columns: Columns,
        set: String,
        key: String,
    ) -> Self {
        let row = Row::of::<E>(name, key);
        self.push(name, role, names::<E>(columns), Body::Update { row, columns, set })
    }

    /// Deletes a row that must be there.
    pub(crate) fn delete<E: EntityTrait>(
        self,
        name: &'static str,
        columns: impl Into<Columns>,
        key: impl Into<String>,
    ) -> Self {
        let (row, columns) = (Row::of::<E>(name, key.into()), columns.into());
        self.push(name, Role::Guard, names::<E>(columns), Body::Delete { row, columns })
    }

    /// Goes on only where all guards hold that could not be asked before, for a change that cannot ask them itself. It yields
    /// the row of the step `of`.
    pub(crate) fn gate(self, name: &'static str, of: &'static str) -> Self {
        let columns = self.steps.iter().find(|step| step.name == of);
        let columns = columns.map(|step| step.columns.clone()).unwrap_or_default();
        self.push(name, Role::Guard, columns, Body::Gate { of })
    }

    /// A statement that must yield a row.
    pub(crate) fn step(self, name: &'static str, columns: &'static [&'static str], sql: impl Into<String>) -> Self {
        self.push(name, Role::Guard, columns.to_vec(), Body::Sql(sql.into()))
    }

    /// A statement that inserts one row of an entity, `RETURNING` all of it, which must be there.
    pub(crate) fn insert<E: EntityTrait>(self, name: &'static str, dialect: Dialect, sql: impl Into<String>) -> Self {
        let sql = format!("{} RETURNING {}", sql.into(), dialect.columns_of::<E>());
        self.push(name, Role::Guard, names::<E>(Columns::All), Body::Sql(sql))
    }

    /// A statement whose rows, if any, later steps read.
    pub(crate) fn lookup(self, name: &'static str, columns: &'static [&'static str], sql: impl Into<String>) -> Self {
        self.push(name, Role::Lookup, columns.to_vec(), Body::Sql(sql.into()))
    }

    /// A change of which nobody needs the rows.
    pub(crate) fn effect(self, name: &'static str, sql: impl Into<String>) -> Self {
        self.push(name, Role::Effect, Vec::new(), Body::Sql(sql.into()))
    }

    fn push(mut self, name: &'static str, role: Role, columns: Vec<&'static str>, body: Body) -> Self {
        self.steps.push(Step {
            name,
            role,
            columns,
            body,
        });
        self
    }

    /// Requires of a row that it is there and fulfils a condition, SQL over its columns. The order of guards is that in which a
    /// caller hears of them.
    pub(crate) fn guard(self, row: &'static str, condition: impl Into<String>, otherwise: impl Into<Refusal>) -> Self {
        self.push_guard(row, Asks::Fulfilled, condition.into(), otherwise.into(), true)
    }

    /// Requires of a row that it is there.
    pub(crate) fn found(self, row: &'static str, otherwise: impl Into<Refusal>) -> Self {
        self.guard(row, "TRUE", otherwise)
    }

    /// Requires of a row that it is not there.
    pub(crate) fn absent(self, row: &'static str, otherwise: impl Into<Refusal>) -> Self {
        self.push_guard(row, Asks::Absent, String::new(), otherwise.into(), true)
    }

    /// A guard that a later one implies: it is there to be heard of first.
    pub(crate) fn first(self, row: &'static str, condition: impl Into<String>, otherwise: impl Into<Refusal>) -> Self {
        self.push_guard(row, Asks::Fulfilled, condition.into(), otherwise.into(), false)
    }

    /// Requires of a row that it is not there, which `_what` sees to and the change need not ask: a unique index, where the
    /// change says `ON CONFLICT DO NOTHING`, or one of the plan's steps.
    pub(crate) fn absent_by(self, _what: &'static str, row: &'static str, otherwise: impl Into<Refusal>) -> Self {
        self.push_guard(row, Asks::Absent, String::new(), otherwise.into(), false)
    }

    /// A condition that the change's own SQL asks, on no one row: it is there for the explanation.
    pub(crate) fn explained(self, condition: impl Into<String>, otherwise: impl Into<Refusal>) -> Self {
        self.push_guard("", Asks::Holds, condition.into(), otherwise.into(), false)
    }

    fn push_guard(mut self, row: &'static str, asks: Asks, condition: String, refusal: Refusal, asked: bool) -> Self {
        self.guards.push(Guard {
            row,
            asks,
            condition,
            refusal,
            asked,
        });
        self
    }

    pub(super) fn next_event(&mut self) -> usize {
        self.events += 1;
        self.events
    }
}

impl Row {
    pub(super) fn list(&self, dialect: Dialect, columns: Columns) -> String {
        let list = (self.list)(dialect, columns);
        match self.computed {
            Some((name, sql)) => format!("{list}, {sql} AS {name}"),
            None => list,
        }
    }

    fn of<E: EntityTrait>(name: &'static str, key: String) -> Self {
        Self {
            name,
            table: E::default().table_name(),
            key,
            computed: None,
            list: |dialect, columns| match columns {
                Columns::All => dialect.columns_of::<E>(),
                Columns::Of(columns) => dialect.some_columns_of::<E>(columns),
            },
        }
    }
}

fn names<E: EntityTrait>(columns: Columns) -> Vec<&'static str> {
    match columns {
        Columns::All => E::Column::iter().map(|column| column.as_str()).collect(),
        Columns::Of(columns) => columns.to_vec(),
    }
}
