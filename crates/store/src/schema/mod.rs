//! What this build expects of the schema, and what a database has instead.
//!
//! Beside this file lie `postgres.txt` and `sqlite.txt`: what the migrations make, an object a line, as the database's own catalogs describe
//! it. A test makes both anew from a migrated database and compares (docs/TESTING.md says how they are written).

mod postgres;
mod sqlite;

use std::collections::BTreeMap;
use std::fmt;

use sea_orm::{DbErr, QueryResult};

use crate::database::Dialect;
use crate::database::statement::Query;
use crate::error::Result;
use crate::row::Cells;
use crate::store::Store;
use crate::unit::Reach;

pub(crate) use postgres::home;

/// What a schema consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ObjectKind {
    /// A table: how it is partitioned, on SQLite whether it is STRICT.
    Table,
    /// A column: its type, whether it may be NULL, its default.
    Column,
    /// A primary, foreign or unique key or a CHECK.
    Constraint,
    /// An index that serves no constraint, and whether it is valid.
    Index,
    /// A trigger, and when it fires; `audit_logs_*` are the partitions of the audit log, all of them.
    Trigger,
    /// A function, its text by a hash.
    Function,
    /// A sequence.
    Sequence,
    /// A value of an enum.
    Label,
}

impl ObjectKind {
    const ALL: [(&'static str, Self); 8] = [
        ("table", Self::Table),
        ("column", Self::Column),
        ("constraint", Self::Constraint),
        ("index", Self::Index),
        ("trigger", Self::Trigger),
        ("function", Self::Function),
        ("sequence", Self::Sequence),
        ("label", Self::Label),
    ];

    /// As the catalogs' queries and the files call it.
    pub fn name(self) -> &'static str {
        let found = Self::ALL.iter().find(|(_, kind)| *kind == self);
        found.map_or("object", |(name, _)| name)
    }

    fn named(name: &str) -> Option<Self> {
        let found = Self::ALL.iter().find(|(known, _)| *known == name);
        found.map(|(_, kind)| *kind)
    }
}

/// An object that this build expects, and that is missing or different.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct SchemaDifference {
    /// What it is.
    pub kind: ObjectKind,
    /// Its name, in its table's where it has one: `rooms.status`.
    pub name: String,
    /// As this build expects it. Empty where there is no more to say than that it is there.
    pub expected: String,
    /// As it is. None: it is missing.
    pub found: Option<String>,
}

impl fmt::Display for SchemaDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kind,
            name,
            expected,
            found,
        } = self;
        let kind = kind.name();
        match found {
            None => write!(f, "{kind} {name} is missing"),
            Some(found) => write!(f, "{kind} {name} is `{found}`, not `{expected}`"),
        }
    }
}

/// Objects by kind and name, with their definitions.
type Objects = BTreeMap<(ObjectKind, String), String>;

impl Store {
    /// Compares the schema with what this build expects. Empty: all of it is there. Further tables, columns, indexes, labels and
    /// migrations, as a newer build or the service itself may have made, are no difference, so builds before and after a migration that
    /// only adds can run side by side. Reads the catalogs, in one statement on each database; takes no right on any table.
    ///
    /// # Errors
    /// None beyond the database's own.
    pub async fn check_schema(&self) -> Result<Vec<SchemaDifference>> {
        let dialect = self.context().dialect();
        let rows = self.rows("schema.check", query(dialect).statement(dialect)).await?;
        differences(dialect, &rows).map_err(|error| self.failed(&error, "schema.check"))
    }

    /// The schema as the database has it, in the form of the files that [`Store::check_schema`] compares with: an object a line,
    /// `kind name : definition`, sorted. Table of migrations and partitions by name left out.
    ///
    /// # Errors
    /// None beyond the database's own.
    pub async fn describe_schema(&self) -> Result<String> {
        let dialect = self.context().dialect();
        let rows = self.rows("schema.describe", query(dialect).statement(dialect)).await?;
        let objects = read(dialect, &rows).map_err(|error| self.failed(&error, "schema.describe"))?;
        let line = |((kind, name), definition): (&(ObjectKind, String), &String)| {
            format!("{} {name} : {definition}", kind.name()).trim_end().to_owned() + "\n"
        };
        Ok(objects.iter().map(line).collect())
    }
}

/// What the catalogs are asked: `kind`, `name`, `definition`.
pub(crate) fn query(dialect: Dialect) -> Query {
    match dialect {
        Dialect::Postgres => postgres::query(),
        Dialect::Sqlite => sqlite::query(),
    }
}

/// What rows of [`query`] lack.
pub(crate) fn differences(dialect: Dialect, rows: &[QueryResult]) -> Result<Vec<SchemaDifference>, DbErr> {
    let found = read(dialect, rows)?;
    let expected = expected(match dialect {
        Dialect::Postgres => include_str!("postgres.txt"),
        Dialect::Sqlite => include_str!("sqlite.txt"),
    });
    let differs = expected.into_iter().filter_map(|((kind, name), expected)| {
        let key = (kind, name);
        let found = found.get(&key).cloned();
        (found.as_ref() != Some(&expected)).then_some(SchemaDifference {
            kind,
            name: key.1,
            expected,
            found,
        })
    });
    Ok(differs.collect())
}

fn read(dialect: Dialect, rows: &[QueryResult]) -> Result<Objects, DbErr> {
    let mut objects = Objects::new();
    for row in rows {
        let cells = &mut Cells::of(row);
        let (kind, name): (String, String) = (cells.next("kind")?, cells.next("name")?);
        let definition = in_one_line(&cells.next::<String>("definition")?);
        match (ObjectKind::named(&kind), dialect) {
            (Some(kind), _) => {
                objects.insert((kind, name), definition);
            }
            // The text of a table, of which SQLite lists no constraint by itself.
            (None, _) => objects.extend(sqlite::checks(&name, &definition)),
        }
    }
    Ok(objects)
}

fn in_one_line(definition: &str) -> String {
    let lines = definition
        .lines()
        .map(|line| line.split("--").next().unwrap_or_default());
    let words: Vec<&str> = lines.flat_map(str::split_whitespace).collect();
    words.join(" ")
}

fn expected(file: &str) -> Objects {
    let line = |line: &str| {
        let (kind, rest) = line.split_once(' ')?;
        let (name, definition) = rest.split_once(" :")?;
        Some((
            (ObjectKind::named(kind)?, name.to_owned()),
            definition.trim().to_owned(),
        ))
    };
    file.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_files_is_an_object() {
        for file in [include_str!("postgres.txt"), include_str!("sqlite.txt")] {
            assert_eq!(expected(file).len(), file.lines().count());
            assert!(file.lines().count() > 150);
        }
    }
}
