//! Guards: each condition of a change beside the refusal that it stands for.
//!
//! A guard is written once and read twice. The change asks it, under its locks, and does nothing where it fails. Only then
//! the plan's *explanation* asks all guards again, in the order in which a caller should hear of them, as one SELECT that
//! locks nothing; the first that fails says why.

use std::fmt;

use sea_orm::{DbErr, QueryResult, TryGetable};

use crate::error::{Conflict, Error, Rejected};

/// What a caller is told when a guard fails.
pub(crate) struct Refusal {
    /// Expressions over the guard's row that the error needs.
    pub(super) facts: Vec<String>,
    pub(super) error: Reason,
}

type Reason = Box<dyn Fn(&Facts<'_>) -> Result<Error, DbErr> + Send + Sync>;

impl Refusal {
    /// An error that needs one value of the guard's row: a column, or SQL over its columns.
    pub(crate) fn with<T: TryGetable, E: Into<Error>>(
        fact: impl Into<String>,
        error: impl Fn(T) -> E + Send + Sync + 'static,
    ) -> Self {
        Self::with_all([fact.into()], move |facts| Ok(error(facts.get(0)?).into()))
    }

    /// An error that needs several.
    pub(crate) fn with_all<const N: usize>(
        facts: [impl Into<String>; N],
        error: impl Fn(&Facts<'_>) -> Result<Error, DbErr> + Send + Sync + 'static,
    ) -> Self {
        Self {
            facts: facts.map(Into::into).into(),
            error: Box::new(error),
        }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::with_all::<0>([] as [String; 0], move |_| Ok(error.clone()))
    }
}

impl From<Rejected> for Refusal {
    fn from(rejected: Rejected) -> Self {
        Error::from(rejected).into()
    }
}

impl From<Conflict> for Refusal {
    fn from(conflict: Conflict) -> Self {
        Error::from(conflict).into()
    }
}

impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refusal")
            .field("facts", &self.facts)
            .finish_non_exhaustive()
    }
}

/// The values that a refusal asked for.
pub(crate) struct Facts<'a> {
    pub(super) row: &'a QueryResult,
    pub(super) guard: usize,
}

impl Facts<'_> {
    /// The value of the fact with this index.
    pub(crate) fn get<T: TryGetable>(&self, index: usize) -> Result<T, DbErr> {
        self.row.try_get_by(fact_name(self.guard, index).as_str())
    }
}

pub(super) fn fact_name(guard: usize, index: usize) -> String {
    format!("fact_{guard}_{index}")
}

/// How a guard is asked of its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asks {
    /// The row is there and fulfils the condition.
    Fulfilled,
    /// There is no such row.
    Absent,
    /// The condition holds; there is no row.
    Holds,
}

/// A condition, and what is said when it fails.
#[derive(Debug)]
pub(super) struct Guard {
    pub(super) row: &'static str,
    pub(super) asks: Asks,
    pub(super) condition: String,
    pub(super) refusal: Refusal,
    /// False where the change need not ask: another guard implies it, or a constraint holds it.
    pub(super) asked: bool,
}

impl Guard {
    /// As a condition for a statement that reads the row by its name, or as the select `row`.
    pub(super) fn over(&self, row: &str) -> String {
        match self.asks {
            Asks::Holds => self.condition.clone(),
            Asks::Absent => format!("NOT EXISTS (SELECT 1 FROM {row})"),
            Asks::Fulfilled => format!("EXISTS (SELECT 1 FROM {row} WHERE {})", self.condition),
        }
    }
}
