//! How a plan becomes SQL and is run: as one statement on PostgreSQL, step by step on SQLite; and the SELECT that explains why
//! it did nothing.

use std::fmt::Write as _;

use sea_orm::{ConnectionTrait, DbErr, QueryResult, Statement, Value};

use super::guard::{Asks, Facts, Guard, fact_name};
use super::plan::{Body, Columns, Plan, Role, Row, Step};
use crate::database::Dialect;
use crate::database::statement::{Text, mentions, stored_value};
use crate::error::Error;

impl Plan {
    /// The SQL of the steps, each with its guards in it.
    fn statements(&self, dialect: Dialect) -> Vec<String> {
        let mut conditions: Vec<Vec<String>> = vec![Vec::new(); self.steps.len()];
        for guard in self.guards.iter().filter(|guard| guard.asked) {
            let (step, condition) = self.place(guard);
            if condition != "TRUE" {
                conditions[step].push(condition);
            }
        }
        let mut statements = Vec::with_capacity(self.steps.len());
        let mut last_guard: Option<&'static str> = None;
        for (step, conditions) in self.steps.iter().zip(conditions) {
            let all = |key: &str| {
                let mut all = key.to_owned();
                for condition in &conditions {
                    let _ = write!(all, " AND ({condition})");
                }
                all
            };
            statements.push(match &step.body {
                Body::Select { row, columns, lock } => {
                    let mut all = all(&row.key);
                    // Locks are taken in the order of the steps.
                    if let Some(last) = last_guard.filter(|last| !mentions(&all, last)) {
                        let _ = write!(all, " AND EXISTS (SELECT 1 FROM {last})");
                    }
                    let list = row.list(dialect, *columns);
                    format!("SELECT {list} FROM {} WHERE {all}{}", row.table, lock.sql(dialect))
                }
                Body::Update { row, columns, set } => format!(
                    "UPDATE {} SET {set} WHERE {} RETURNING {}",
                    row.table,
                    all(&row.key),
                    row.list(dialect, *columns)
                ),
                Body::Delete { row, columns } => format!(
                    "DELETE FROM {} WHERE {} RETURNING {}",
                    row.table,
                    all(&row.key),
                    row.list(dialect, *columns)
                ),
                Body::Gate { of } => {
                    format!("SELECT {} FROM {of} WHERE {}", step.columns.join(", "), all("TRUE"))
                }
                Body::Sql(sql) => sql.clone(),
            });
            if step.role == Role::Guard {
                last_guard = Some(step.name);
            }
        }
        statements
    }

    /// In which step a guard is asked, and how.
    fn place(&self, guard: &Guard) -> (usize, String) {
        let position = |name: &str| self.steps.iter().position(|step| step.name == name);
        let view = self.views.iter().find(|view| view.name == guard.row);
        let own = position(guard.row);
        let text = view.map_or(guard.condition.as_str(), |view| view.key.as_str());
        let read = self.steps.iter().rposition(|step| mentions(text, step.name));
        if let (Some(own), Asks::Fulfilled) = (own, guard.asks)
            && self.steps[own].row().is_some()
            && self.steps[own].role == Role::Guard
            && read.is_none_or(|read| read <= own)
        {
            return (own, guard.condition.clone());
        }
        let known = read.max(own).map_or(0, |last| last + 1);
        let acting = (known..self.steps.len()).find(|step| self.steps[*step].acts());
        // A plan's shape is a constant of this crate, and a test prepares every plan.
        let acting = acting.unwrap_or_else(|| unreachable!("no step asks the guard of {}", guard.row));
        let row = match view {
            Some(view) => format!("{} WHERE {}", view.table, view.key),
            None => guard.row.to_owned(),
        };
        let condition = match (view, guard.asks) {
            (Some(_), Asks::Fulfilled) => format!("EXISTS (SELECT 1 FROM {row} AND {})", guard.condition),
            _ => guard.over(&row),
        };
        (acting, condition)
    }

    /// One SELECT that finds the first guard which fails: column `refused`, its index, and the facts of all refusals. None
    /// where the plan has no guard.
    pub(crate) fn explanation(&self, dialect: Dialect) -> Option<Statement> {
        if self.guards.is_empty() {
            return None;
        }
        let mut cases = String::new();
        let mut facts = String::new();
        for (index, guard) in self.guards.iter().enumerate() {
            let _ = write!(cases, " WHEN NOT ({}) THEN {index}", guard.over(guard.row));
            for (number, fact) in guard.refusal.facts.iter().enumerate() {
                let name = fact_name(index, number);
                let _ = write!(facts, ", (SELECT {fact} FROM {} LIMIT 1) AS {name}", guard.row);
            }
        }
        let select = format!("SELECT CASE{cases} END AS refused{facts}");
        let mut text = Text::new(dialect, &self.binds);
        for (index, (name, sql)) in self.seen(dialect, &select).into_iter().enumerate() {
            text.push(if index == 0 { "WITH " } else { ", " });
            text.push(name);
            text.push(" AS (");
            text.push(&sql);
            text.push(")");
        }
        text.push(" ");
        text.push(&select);
        Some(text.statement())
    }

    /// The rows that an explanation reads, as they are found without locks, each before those that read it.
    fn seen(&self, dialect: Dialect, select: &str) -> Vec<(&'static str, String)> {
        let find = |row: &Row| {
            let list = row.list(dialect, Columns::All);
            (row.name, format!("SELECT {list} FROM {} WHERE {}", row.table, row.key))
        };
        let steps = self.steps.iter().filter_map(|step| match &step.body {
            Body::Gate { of } => Some((step.name, format!("SELECT * FROM {of}"))),
            _ => step.row().map(find),
        });
        let mut all: Vec<_> = steps.chain(self.views.iter().map(find)).collect();
        let mut needed = select.to_owned();
        for index in (0..all.len()).rev() {
            if mentions(&needed, all[index].0) {
                needed.push(' ');
                needed.push_str(&all[index].1);
            } else {
                all.remove(index);
            }
        }
        all
    }

    /// Why the plan yielded nothing, as far as can be seen now.
    pub(crate) async fn explain(&self, dialect: Dialect, db: &impl ConnectionTrait) -> Result<Option<Error>, DbErr> {
        let Some(statement) = self.explanation(dialect) else {
            return Ok(None);
        };
        let row = db.query_one_raw(statement).await?;
        let row = row.ok_or_else(|| DbErr::RecordNotFound("a plan's explanation".to_owned()))?;
        let refused: Option<i32> = row.try_get_by("refused")?;
        let Some(guard) = refused.and_then(|index| usize::try_from(index).ok()) else {
            return Ok(None);
        };
        let refusal = &self.guards[guard].refusal;
        (refusal.error)(&Facts { row: &row, guard }).map(Some)
    }

    /// Runs the plan, but not what follows it. None means that a guard failed, and that nothing was changed.
    ///
    /// On SQLite `db` must be a transaction; on PostgreSQL it may be a pool.
    pub(crate) async fn run(&self, dialect: Dialect, db: &impl ConnectionTrait) -> Result<Option<QueryResult>, DbErr> {
        match dialect {
            Dialect::Postgres => db.query_one_raw(self.as_one_statement()).await,
            Dialect::Sqlite => self.run_step_by_step(db).await,
        }
    }

    pub(crate) fn refused_already(&self) -> Option<&Error> {
        self.denied.as_ref()
    }

    pub(crate) fn has_answer(&self) -> bool {
        self.is_answer
    }

    pub(crate) fn following(&self) -> &[Self] {
        &self.then
    }

    pub(crate) fn take_following(&mut self) -> Vec<Self> {
        std::mem::take(&mut self.then)
    }

    pub(crate) fn as_one_statement(&self) -> Statement {
        let mut text = Text::new(Dialect::Postgres, &self.binds);
        let last = self.steps.len().saturating_sub(1);
        for (index, (step, sql)) in self.steps.iter().zip(self.statements(Dialect::Postgres)).enumerate() {
            // A last step that is the answer needs no SELECT around it.
            if index == last && step.name == self.result && step.changes() {
                text.push(if index == 0 { "" } else { " " });
                text.push(&sql);
                return text.statement();
            }
            text.push(if index == 0 { "WITH " } else { ", " });
            text.push(step.name);
            // MATERIALIZED: a lookup or a lock happens once, not where the planner would rather have it.
            let select = sql.starts_with("SELECT");
            text.push(if select { " AS MATERIALIZED (" } else { " AS (" });
            text.push(&sql);
            text.push(")");
        }
        text.push(" SELECT * FROM ");
        text.push(self.result);
        text.statement()
    }

    async fn run_step_by_step(&self, db: &impl ConnectionTrait) -> Result<Option<QueryResult>, DbErr> {
        let mut outcome = None;
        let mut earlier: Vec<(&Step, Vec<Vec<Value>>)> = Vec::new();
        for (step, sql) in self.steps.iter().zip(self.statements(Dialect::Sqlite)) {
            let statement = self.one_step(&sql, &earlier);
            if step.role == Role::Effect {
                db.execute_raw(statement).await?;
                continue;
            }
            let rows = db.query_all_raw(statement).await?;
            if rows.is_empty() && step.role == Role::Guard {
                return Ok(None);
            }
            let handed = rows.iter().map(|row| hand_on(row, &step.columns));
            earlier.push((step, handed.collect::<Result<_, _>>()?));
            if step.name == self.result {
                outcome = rows.into_iter().next();
            }
        }
        Ok(outcome)
    }

    fn one_step(&self, sql: &str, earlier: &[(&Step, Vec<Vec<Value>>)]) -> Statement {
        let mut text = Text::new(Dialect::Sqlite, &self.binds);
        let read = earlier.iter().filter(|(past, _)| mentions(sql, past.name));
        for (index, (past, rows)) in read.enumerate() {
            text.push(if index == 0 { "WITH " } else { ", " });
            text.push_table(past.name, &past.columns, rows);
        }
        text.push(" ");
        text.push(sql);
        text.statement()
    }

    /// Every statement that the plan may send, and whether the answer is read from it.
    pub(crate) fn all_statements(&self, dialect: Dialect) -> Vec<(Statement, bool)> {
        let mut all = match dialect {
            Dialect::Postgres => vec![(self.as_one_statement(), self.is_answer)],
            Dialect::Sqlite => {
                let readable = |step: &&Step| step.role != Role::Effect;
                let texts = self.steps.iter().zip(self.statements(dialect)).enumerate();
                let listed = texts.map(|(index, (step, sql))| {
                    let earlier = self.steps[..index].iter().filter(readable);
                    let earlier: Vec<_> = earlier.map(|step| (step, Vec::new())).collect();
                    let has_answer = self.is_answer && step.name == self.result;
                    (self.one_step(&sql, &earlier), has_answer)
                });
                listed.collect()
            }
        };
        all.extend(self.explanation(dialect).map(|explanation| (explanation, false)));
        all.extend(self.then.iter().flat_map(|next| next.all_statements(dialect)));
        all
    }
}

/// A row's values as they are stored, for a later step of SQLite's.
fn hand_on(row: &QueryResult, columns: &[&'static str]) -> Result<Vec<Value>, DbErr> {
    columns.iter().map(|column| stored_value(row, column)).collect()
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use entity::{RoomId, room, user};
    use uuid::Uuid;

    use super::*;
    use crate::actor::Actor;
    use crate::clock::RandomIds;
    use crate::error::{Rejected, Subject};
    use crate::operation::{Lock, Moment, Refusal};

    fn plan(actor: &Actor) -> Plan {
        let ids = RandomIds::default();
        let at = Moment {
            now: DateTime::UNIX_EPOCH,
            actor,
            dialect: Dialect::Postgres,
            ids: &ids,
        };
        let room = RoomId::from_uuid(Uuid::nil());
        Plan::new(&at, "changed")
            .bind("room", room)
            .lock::<user::Entity>("member", Lock::Share, &["id"], "id = :actor")
            .lock::<room::Entity>("room", Lock::Change, &["id", "status"], "id = :room")
            .view::<room::Entity>("other", "id <> :room AND owner_id = :actor")
            .update::<room::Entity>("changed", &["id"], "updated_at = :now", "id = (SELECT id FROM room)")
            .guard("room", "deleted_at IS NULL", Error::NotFound(Subject::Room(room)))
            .guard(
                "room",
                "status IN ('LIVE')",
                Refusal::with("status", move |status| Rejected::RoomStatus { room, status }),
            )
            .guard("member", "id = (SELECT id FROM room)", Rejected::NotRecordable { room })
            .absent("other", Rejected::NotRecordable { room })
    }

    #[test]
    fn a_guard_is_asked_where_its_rows_are_known() {
        let statement = plan(&Actor::system("test")).as_one_statement();
        let sql: String = statement.sql.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(
            sql,
            "WITH member AS MATERIALIZED (SELECT \"id\" FROM users WHERE id = $1 FOR SHARE), \
             room AS MATERIALIZED (SELECT \"id\", CAST(status AS text) AS status FROM rooms WHERE id = $2 \
             AND (deleted_at IS NULL) AND (status IN ('LIVE')) AND EXISTS (SELECT 1 FROM member) FOR NO KEY UPDATE) \
             UPDATE rooms SET updated_at = $3 WHERE id = (SELECT id FROM room) \
             AND (EXISTS (SELECT 1 FROM member WHERE id = (SELECT id FROM room))) \
             AND (NOT EXISTS (SELECT 1 FROM rooms WHERE id <> $2 AND owner_id = $1)) RETURNING \"id\""
        );
        assert_eq!(statement.values.unwrap().0.len(), 3);
    }

    #[test]
    fn an_explanation_asks_all_guards_in_their_order_and_locks_nothing() {
        let statement = plan(&Actor::system("test")).explanation(Dialect::Postgres).unwrap();
        let sql: String = statement.sql.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(!sql.contains("FOR "), "{sql}");
        let select = sql.split_once("SELECT CASE").unwrap().1;
        assert_eq!(
            select,
            " WHEN NOT (EXISTS (SELECT 1 FROM room WHERE deleted_at IS NULL)) THEN 0 \
             WHEN NOT (EXISTS (SELECT 1 FROM room WHERE status IN ('LIVE'))) THEN 1 \
             WHEN NOT (EXISTS (SELECT 1 FROM member WHERE id = (SELECT id FROM room))) THEN 2 \
             WHEN NOT (NOT EXISTS (SELECT 1 FROM other)) THEN 3 END AS refused, \
             (SELECT status FROM room LIMIT 1) AS fact_1_0"
        );
    }
}
