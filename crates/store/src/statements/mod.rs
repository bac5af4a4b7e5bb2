//! Every statement that the store can send, made by calling every method on a source that notes its statements instead of
//! sending them. A test prepares each of them on both migrated databases, and another holds the list complete: nothing that
//! the suite sends is missing from it.

mod samples;

use std::sync::{Arc, Mutex};

use chrono::DateTime;
use sea_orm::{ColumnType, DatabaseConnection, DbBackend, QueryResult, Statement};

use crate::actor::Actor;
use crate::context::Context;
use crate::database::replicas::{PRIMARY_POSITION, REPLICA_POSITION};
use crate::database::{Dialect, Executor, durability};
use crate::error::{Error, Result};
use crate::operation::{Answer, Grouped, Member, Operation};
use crate::settings::{EmptyRoomPolicy, StoreSettings};
use crate::unit::{Reach, Sink, moment};

/// A statement, and what is known of it.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The operation or read that sends it.
    pub name: &'static str,
    /// Its text, with values of the types that are bound.
    pub statement: Statement,
    /// The columns that are read from it, where it has the answer of an operation.
    pub columns: Vec<(String, ColumnType)>,
}

/// Notes statements instead of sending them: reads find nothing, changes come to nothing.
pub(crate) struct Recorder {
    context: Context,
    actor: Actor,
    listed: Arc<Mutex<Vec<Listed>>>,
}

impl Recorder {
    fn note(&self, listed: Listed) {
        let mut all = self.listed.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if !all.iter().any(|one| one.statement.sql == listed.statement.sql) {
            all.push(listed);
        }
    }
}

impl Reach for Recorder {
    fn executor(&self) -> Executor<'_> {
        self.context.connections().into()
    }

    fn context(&self) -> &Context {
        &self.context
    }

    async fn rows(&self, name: &'static str, statement: Statement) -> Result<Vec<QueryResult>> {
        let columns = Vec::new();
        self.note(Listed {
            name,
            statement,
            columns,
        });
        Ok(Vec::new())
    }
}

impl Sink for Recorder {
    fn actor(&self) -> &Actor {
        &self.actor
    }

    async fn perform<O: Operation>(&self, operation: O) -> Result<O::Output> {
        let dialect = self.context.dialect();
        let moment = moment(&self.context, DateTime::UNIX_EPOCH, &self.actor);
        if let (Some(usual), Dialect::Postgres) = (operation.usual(&moment), dialect) {
            self.note(Listed {
                name: O::NAME,
                statement: usual.plan.as_one_statement(),
                columns: Vec::new(),
            });
        }
        for (statement, has_answer) in operation.plan(&moment).all_statements(dialect) {
            let columns = if has_answer { O::Output::columns() } else { Vec::new() };
            self.note(Listed {
                name: O::NAME,
                statement,
                columns,
            });
        }
        Err(Error::Aborted {
            reason: "the statement was listed, not sent",
        })
    }

    async fn perform_grouped<O: Grouped>(&self, operation: O) -> Result<O::Output> {
        let dialect = self.context.dialect();
        if dialect == Dialect::Postgres {
            let moment = moment(&self.context, DateTime::UNIX_EPOCH, &self.actor);
            let member = Member {
                operation: &operation,
                actor: &self.actor,
            };
            let plan = O::together(&moment, operation.room(), &[member]);
            self.note(Listed {
                name: O::NAME,
                statement: plan.as_one_statement(),
                columns: O::Output::columns(),
            });
        }
        self.perform(operation).await
    }
}

/// The operations and reads whose statements can be made to fail, see [`crate::faults`].
#[cfg(feature = "testing")]
pub async fn names(backend: DbBackend) -> std::collections::BTreeSet<&'static str> {
    let names = called(dialect_of(backend)).await.into_iter().map(|one| one.name);
    names
        .chain([crate::faults::BEGIN, crate::faults::COMMIT, crate::unit::OWN_SQL])
        .collect()
}

/// Lists the statements for one of the two databases.
pub async fn list(backend: DbBackend) -> Vec<Listed> {
    let dialect = dialect_of(backend);
    let mut all = called(dialect).await;
    all.extend(of_the_store(dialect));
    all
}

fn dialect_of(backend: DbBackend) -> Dialect {
    match backend {
        DbBackend::Sqlite => Dialect::Sqlite,
        _ => Dialect::Postgres,
    }
}

/// What every method sends.
async fn called(dialect: Dialect) -> Vec<Listed> {
    let listed = Arc::<Mutex<Vec<Listed>>>::default();
    for empty_rooms in [EmptyRoomPolicy::KeepOpen, EmptyRoomPolicy::EndRoom] {
        for actor in [Actor::system("list"), Actor::user(samples::USER)] {
            let settings = StoreSettings {
                empty_rooms,
                token_keys: samples::keys(),
                ..StoreSettings::default()
            };
            let recorder = Recorder {
                context: Context::of(DatabaseConnection::default(), dialect, settings),
                actor,
                listed: Arc::clone(&listed),
            };
            samples::call_everything(&recorder).await;
        }
    }
    let mut all = listed.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    std::mem::take(&mut *all)
}

/// What the store asks when it opens, and what the maintenance of partitions asks. The utility commands of the latter (LOCK,
/// ALTER, DROP) cannot be prepared; its cases run them all.
fn of_the_store(dialect: Dialect) -> Vec<Listed> {
    let listed = |name, statement| Listed {
        name,
        statement,
        columns: Vec::new(),
    };
    let backend = dialect.backend();
    let schema = backend.build(&crate::store::applied_migration());
    let mut all = vec![listed("connect", schema)];
    let questions = durability::questions(dialect);
    all.extend(questions.map(|sql| listed("connect", Statement::from_string(backend, sql))));
    let doctor = crate::doctor::all_statements(dialect);
    all.extend(doctor.into_iter().map(|statement| listed("doctor", statement)));
    if dialect == Dialect::Postgres {
        all.push(listed("connect", Statement::from_string(backend, durability::LIMITS)));
        for question in [PRIMARY_POSITION, REPLICA_POSITION] {
            all.push(listed("replicas", Statement::from_string(backend, question)));
        }
        let queries = crate::audit::partitions::all_queries();
        all.extend(queries.map(|query| listed("audit_partitions", query.statement(dialect))));
    }
    all
}
