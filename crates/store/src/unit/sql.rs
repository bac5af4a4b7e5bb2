//! The service's own statements: on its own tables, in the store's transaction or beside it.

use std::time::Instant;

use sea_orm::{ConnectionTrait, DbBackend, DbErr, ExecResult, QueryResult, Statement};

use super::OpenUnit;
use crate::context::Context;
use crate::database::{Executor, fault};
use crate::error::Error;
use crate::faults::{Point, PointKind};

/// What own statements are called where they are slow, and where a test lets them fail.
pub(crate) const OWN_SQL: &str = "own_sql";

/// A connection for the service's own tables: any query of SeaORM runs on it, of entities of the service's own or by hand. Our tables may
/// be read through it, joined with own ones; see [`scope`](crate::scope) for what a row that is deleted looks like.
///
/// From [`Unit::sql`](crate::Unit::sql), statements are part of the unit, and one that fails **spoils** it: [`commit`](crate::Unit::commit)
/// then answers [`Error::Aborted`], or [`Error::Transient`] when it failed for a passing reason, and nothing was done, whatever became of
/// the statement's error. That is so on both databases, although SQLite could go on. From [`Store::sql`](crate::Store::sql) each
/// statement stands alone and commits by itself.
///
/// It refuses, before anything is sent, what would undo the store's promises: statements that begin by changing one of our tables, which would
/// not be in the audit log, and those that begin or end transactions. It looks at a statement's first words: it stops mistakes, such as an
/// active model of our entities, and nobody who is bent on it. What a service may change in the database at all is for the
/// grants of docs/OPERATIONS.md to say.
#[derive(Debug)]
pub struct Sql<'a> {
    executor: Executor<'a>,
    context: &'a Context,
    /// The unit that a failure spoils.
    unit: Option<&'a OpenUnit>,
}

impl<'a> Sql<'a> {
    pub(crate) fn alone(context: &'a Context) -> Self {
        Self {
            executor: context.connections().into(),
            context,
            unit: None,
        }
    }

    pub(crate) fn within(unit: &'a OpenUnit, context: &'a Context) -> Self {
        Self {
            executor: unit.executor(),
            context,
            unit: Some(unit),
        }
    }

    /// What an error of one of its statements means: [`Error::Transient`], [`Error::TimedOut`] and so on as for the store's own, and
    /// [`Error::OwnSql`] where the database refused it, a table that is missing included. Nothing of a row is in it.
    pub fn error(&self, error: &DbErr) -> Error {
        // A unit's changes are undone; one that stood alone may have taken effect when the connection broke.
        match fault::read_own(self.context.dialect(), error, OWN_SQL, self.unit.is_none()) {
            Error::Backend {
                message,
                code,
                constraint,
            } => Error::OwnSql {
                message,
                code,
                constraint,
            },
            other => other,
        }
    }

    async fn send<T>(
        &self,
        refused: Option<String>,
        sent: impl Future<Output = Result<T, DbErr>> + Send,
    ) -> Result<T, DbErr> {
        let unsound = self.unit.and_then(OpenUnit::unsound);
        let done = match refused.or(unsound.map(|error| error.to_string())) {
            Some(why) => Err(DbErr::Custom(why)),
            None => {
                let begun = Instant::now();
                let kind = match self.unit {
                    Some(_) => PointKind::Step { alone: false },
                    None => PointKind::Change,
                };
                let (faults, dialect) = (self.context.faults(), self.context.dialect());
                let done = faults.around(dialect, Point::new(OWN_SQL, kind), sent, |_| true).await;
                self.context.sent(OWN_SQL, begun);
                done
            }
        };
        if let (Err(error), Some(unit)) = (&done, self.unit) {
            unit.spoiled(self.error(error));
        }
        done
    }
}

#[async_trait::async_trait]
impl ConnectionTrait for Sql<'_> {
    fn get_database_backend(&self) -> DbBackend {
        self.executor.get_database_backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        let refused = refused(&statement.sql);
        self.send(refused, self.executor.execute_raw(statement)).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.send(refused(sql), self.executor.execute_unprepared(sql)).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        let refused = refused(&statement.sql);
        self.send(refused, self.executor.query_one_raw(statement)).await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        let refused = refused(&statement.sql);
        self.send(refused, self.executor.query_all_raw(statement)).await
    }
}

/// Why a statement is not sent, if it is not.
fn refused(sql: &str) -> Option<String> {
    let mut words = words(sql);
    let first = words.next()?.to_ascii_uppercase();
    match first.as_str() {
        "BEGIN" | "START" | "COMMIT" | "END" | "ROLLBACK" | "ABORT" | "SAVEPOINT" | "RELEASE" => Some(format!(
            "{first} is not for own statements: a unit of work begins and ends its transaction"
        )),
        "INSERT" | "REPLACE" | "UPDATE" | "DELETE" | "MERGE" | "TRUNCATE" | "ALTER" | "DROP" => {
            let next = words.clone().take(2).map(|word| word.to_ascii_uppercase());
            if next.eq(["OR", "ROLLBACK"]) {
                let why = "OR ROLLBACK is not for own statements: a unit of work begins and ends its transaction";
                return Some(why.to_owned());
            }
            let table = words.find(|word| !is_between(word))?;
            let table = ours(&table)?;
            Some(format!(
                "{first} of {table} is not for own statements: the store changes it, and records the change in the audit log"
            ))
        }
        _ => None,
    }
}

/// May stand between a change's first word and the name of its table.
fn is_between(word: &str) -> bool {
    let between = [
        "INTO", "FROM", "ONLY", "TABLE", "OR", "REPLACE", "IGNORE", "ABORT", "FAIL", "ROLLBACK", "IF", "EXISTS",
    ];
    between.iter().any(|known| word.eq_ignore_ascii_case(known))
}

/// A statement's words, without comments and quotes; a name with its schema is one.
fn words(sql: &str) -> impl Iterator<Item = String> + Clone {
    let mut rest = sql;
    std::iter::from_fn(move || {
        loop {
            rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ';');
            let comment = match rest {
                _ if rest.starts_with("--") => "\n",
                _ if rest.starts_with("/*") => "*/",
                _ => break,
            };
            rest = rest.split_once(comment).map_or("", |(_, after)| after);
        }
        let end = rest
            .find(|c: char| c.is_whitespace() || "();,".contains(c))
            .unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        rest = after;
        let word: String = word.chars().filter(|c| !matches!(c, '"' | '`' | '[' | ']')).collect();
        (!word.is_empty()).then_some(word)
    })
}

/// The table of ours that a name means, with a schema before it or not.
fn ours(name: &str) -> Option<&'static str> {
    let name = name.rsplit('.').next().unwrap_or(name);
    let is_partition = name.to_ascii_lowercase().starts_with("audit_logs_");
    let same = |table: &&&str| name.eq_ignore_ascii_case(table) || is_partition && **table == "audit_logs";
    entity::TABLES
        .iter()
        .chain(&[entity::MIGRATION_TABLE])
        .find(same)
        .copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_of_our_tables_and_ends_of_transactions_are_refused() {
        for sql in [
            "UPDATE users SET username = 'x'",
            "update \"rooms\" set title = $1",
            "INSERT INTO \"audit_logs\" (id) VALUES ($1)",
            "insert or replace into `users` values (1)",
            "DELETE FROM ONLY public.room_participants",
            "DELETE FROM \"public\".\"recordings\" WHERE true",
            "TRUNCATE TABLE inbox",
            "DELETE FROM audit_feed",
            "DROP TABLE IF EXISTS media_nodes",
            "ALTER TABLE audit_logs_2026_01 RENAME TO x",
            "  -- a note\n /* and another */ UPDATE users SET email = NULL",
            "INSERT INTO users(id) VALUES (1)",
            "COMMIT",
            ";; rollback",
            "INSERT OR ROLLBACK INTO mine VALUES (1)",
            "update or rollback mine set id = 1",
            "SAVEPOINT one",
        ] {
            assert!(refused(sql).is_some(), "{sql}");
        }
    }

    #[test]
    fn own_tables_and_reads_are_not() {
        for sql in [
            "SELECT * FROM users",
            "INSERT INTO webhooks (id) VALUES (1)",
            "UPDATE user_notes SET text = 'DELETE FROM users'",
            "DELETE FROM mine.outbox",
            "INSERT OR IGNORE INTO mine VALUES (1)",
            "CREATE TABLE users_of_mine (id int)",
            "WITH due AS (SELECT 1) SELECT * FROM due",
            "",
            "--",
        ] {
            assert_eq!(refused(sql), None, "{sql}");
        }
    }
}
