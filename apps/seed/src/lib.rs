//! Fills a database with a plausible platform of any size, the same for the same seed: organisations whose people register, sign in, plan
//! meetings, meet within working hours, are put out and come back, record, mute and unmute, and leave the platform again; and, at its
//! present, meetings under way.
//!
//! All of it goes through the store's own operations, at the times at which it happened (a clock of each organisation's own), never by SQL
//! past them: every counter and every event is what a service would have left. docs/SEED.md says more.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Datelike, Utc};
use conferencing_migration::MigrateError;
use conferencing_store::clock::{Clock, SystemClock};
use conferencing_store::{Actor, AuditFilter, ConnectSettings, Order, PageRequest, Store, StoreSettings, UserSearch};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement};
use tokio::task::JoinSet;

mod calendar;
mod error;
mod finish;
mod ids;
mod media;
mod meeting;
mod names;
mod organisation;
mod people;
mod play;
mod random;
mod settings;
mod stage;
mod step;

pub use error::SeedError;
pub use settings::{MAX_DAYS, MAX_USERS, NO_PASSWORD, SeedSettings, Size};

/// What was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// People who registered.
    pub users: u32,
    /// Organisations that they are in.
    pub organisations: u32,
    /// Events that were appended, by the audit log's own count.
    pub events: u64,
    /// Of these, those that the organisations' play accounts for; the rest are the sweeps' at the end.
    pub played: u64,
}

/// What the parts share.
pub(crate) struct Seeder {
    pub(crate) settings: SeedSettings,
    pub(crate) store_settings: StoreSettings,
    pub(crate) db: DatabaseConnection,
    pub(crate) tell: Arc<dyn Fn(u64) + Send + Sync>,
}

/// Opens a pool for so many workers. Sessions are as the store has them: there are no settings for speed (docs/SEED.md).
pub fn connect_settings(workers: u16, others: ConnectSettings) -> ConnectSettings {
    ConnectSettings {
        // Each plays over one connection while its media events are written over another.
        max_connections: others.max_connections.or(Some(u32::from(workers) * 2 + 2)),
        ..others
    }
}

/// How many people of a seed are asked for, the first organisation's first: it is begun before all others, so a run that failed early has
/// left people of it.
const ASKED_FOR: usize = 48;

/// Applies the migrations that a database lacks, unless [`seed`] would refuse its events or these settings.
///
/// # Errors
/// [`SeedError::NotEmpty`], [`SeedError::Settings`] before anything is written; [`SeedError::Migrate`].
pub async fn migrate(db: &DatabaseConnection, settings: &SeedSettings) -> Result<(), SeedError> {
    settings.checked()?;
    if !settings.append && has_events(db).await? {
        return Err(SeedError::NotEmpty);
    }
    conferencing_migration::migrate(db).await?;
    Ok(())
}

/// By SQL, because no store opens a database that lacks migrations.
async fn has_events(db: &DatabaseConnection) -> Result<bool, MigrateError> {
    let backend = db.get_database_backend();
    let table = match backend {
        DbBackend::Sqlite => "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'audit_logs'",
        _ => "SELECT 1 WHERE to_regclass('audit_logs') IS NOT NULL",
    };
    for sql in [table, "SELECT 1 FROM audit_logs LIMIT 1"] {
        let found = db.query_one_raw(Statement::from_string(backend, sql)).await;
        let found = found.map_err(|error| MigrateError::Database {
            reason: error.to_string(),
        })?;
        if found.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Makes the platform that the settings describe, in a migrated database that `db` is a pool on. `tell` hears of events as they are
/// appended, by their number. If it fails, or is dropped, what was made until then stays.
///
/// The role must own the tables: months of the audit log are made first, so that past events do not end up in its default partition.
///
/// # Errors
/// [`SeedError::NotEmpty`], [`SeedError::SeedUsed`], [`SeedError::Settings`] before anything is written; [`SeedError::Store`].
pub async fn seed(
    db: &DatabaseConnection,
    settings: &SeedSettings,
    store_settings: StoreSettings,
    tell: impl Fn(u64) + Send + Sync + 'static,
) -> Result<Summary, SeedError> {
    settings.checked()?;
    let seeder = Arc::new(Seeder {
        settings: settings.clone(),
        store_settings,
        db: db.clone(),
        tell: Arc::new(tell),
    });
    let organisations = people::organisations(settings);
    let count = settings.organisations();
    // The last source of ids is nobody else's.
    let (present, _) = seeder.store_at(settings.until, count).await?;
    refuse_what_is_there(&present, settings, &organisations).await?;
    let before = present.audit().count(&AuditFilter::default()).await?;
    seeder.make_months(&present).await?;
    let shares = people::shares(count);
    let played = play_all(&seeder, organisations.into_iter().zip(shares).collect()).await?;
    if !settings.append {
        finish::sweep(&present).await?;
    }
    let events = present.audit().count(&AuditFilter::default()).await?;
    Ok(Summary {
        users: settings.people(),
        organisations: count,
        events: events - before,
        played,
    })
}

async fn refuse_what_is_there(
    store: &Store,
    settings: &SeedSettings,
    organisations: &[people::Organisation],
) -> Result<(), SeedError> {
    let first = PageRequest::first(1, Order::OldestFirst).map_err(conferencing_store::Error::from)?;
    let is_empty = store
        .audit()
        .list(&AuditFilter::default(), &first)
        .await?
        .items
        .is_empty();
    if is_empty {
        return Ok(());
    }
    if !settings.append {
        return Err(SeedError::NotEmpty);
    }
    if is_used(store, organisations).await? {
        return Err(SeedError::SeedUsed { seed: settings.seed });
    }
    Ok(())
}

/// Whether people of this seed are there. Some of them leave the platform, and the erased ones have lost their names.
async fn is_used(store: &Store, organisations: &[people::Organisation]) -> Result<bool, SeedError> {
    let first = PageRequest::first(1, Order::OldestFirst).map_err(conferencing_store::Error::from)?;
    for person in organisations.iter().flat_map(|one| &one.people).take(ASKED_FOR) {
        // The name itself comes before all that go on behind it.
        let named = UserSearch::username(&person.username);
        let found = store.users().any().search(&named, &first).await?;
        if found.items.iter().any(|user| user.username == person.username) {
            return Ok(true);
        }
    }
    Ok(false)
}

impl Seeder {
    /// The audit log's months from the platform's first day on, and three beyond the machine's present, as upkeep would have it.
    async fn make_months(&self, present: &Store) -> Result<(), SeedError> {
        let upkeep = Actor::system("upkeep");
        let (past, _) = self
            .store_at(self.settings.since(), self.settings.organisations())
            .await?;
        let ahead = months_between(self.settings.since(), self.settings.until);
        past.acting(&upkeep).audit_partitions().ensure_partitions(ahead).await?;
        present.acting(&upkeep).audit_partitions().ensure_partitions(3).await?;
        let now = SystemClock.now();
        let (today, _) = self.store_at(now, self.settings.organisations()).await?;
        today.acting(&upkeep).audit_partitions().ensure_partitions(3).await?;
        Ok(())
    }
}

fn months_between(since: DateTime<Utc>, until: DateTime<Utc>) -> u32 {
    let month = |at: DateTime<Utc>| i64::from(at.year()) * 12 + i64::from(at.month());
    u32::try_from(month(until) - month(since)).unwrap_or(0)
}

/// Plays the organisations, several at once, the largest first.
async fn play_all(
    seeder: &Arc<Seeder>,
    organisations: VecDeque<(people::Organisation, f64)>,
) -> Result<u64, SeedError> {
    let workers = match seeder.db.get_database_backend() {
        DbBackend::Sqlite => 1,
        _ => seeder.settings.workers,
    };
    let waiting = Arc::new(Mutex::new(organisations));
    let mut playing = JoinSet::new();
    for _ in 0..workers {
        let (seeder, waiting) = (Arc::clone(seeder), Arc::clone(&waiting));
        playing.spawn(async move {
            let mut events = 0;
            loop {
                let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                let Some((organisation, share)) = next else {
                    return Ok::<u64, SeedError>(events);
                };
                events += Box::pin(organisation::play(&seeder, organisation, share)).await?;
            }
        });
    }
    let mut events = 0;
    // The first that fails ends the others: they are aborted when the set is dropped.
    while let Some(ended) = playing.join_next().await {
        match ended {
            Ok(played) => events += played?,
            Err(died) => return Err(SeedError::Settings(format!("a worker ended early: {died}"))),
        }
    }
    Ok(events)
}
