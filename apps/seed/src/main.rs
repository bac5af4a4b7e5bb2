//! `conferencing-seed`: fills a database with a plausible platform. docs/SEED.md.

use std::process::ExitCode;
use std::time::Duration;

use argon2::Argon2;
use argon2::password_hash::PasswordHasher;
use argon2::password_hash::phc::PasswordHash;
use chrono::{DateTime, DurationRound, NaiveDate, NaiveTime, TimeDelta, Utc};
use clap::Parser;
use conferencing_seed::{SeedSettings, Size, connect_settings, migrate, seed};
use conferencing_store::clock::{Clock, SystemClock};
use conferencing_store::entity::Secret;
use conferencing_store::{ConnectSettings, Error, StoreSettings, connect};
use indicatif::{ProgressBar, ProgressStyle};

/// Fills a database with a plausible conferencing platform, the same for the same seed
#[derive(Parser)]
#[command(name = "conferencing-seed", version)]
struct Arguments {
    /// postgres://user:password@host/database or sqlite://file?mode=rwc; without it, conferencing-seed.sqlite is made in this folder
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: Option<String>,
    /// Apply the migrations that a database given by address lacks
    #[arg(long)]
    migrate: bool,
    /// How many events the audit log is to have
    #[arg(long, default_value_t = 20_000)]
    events: u64,
    /// How many meetings are to be held, instead of a number of events
    #[arg(long, conflicts_with = "events")]
    rooms: Option<u64>,
    /// How many people; without it, one for each 200 events
    #[arg(long)]
    users: Option<u32>,
    /// How many days the platform is old
    #[arg(long, default_value_t = 90)]
    days: u32,
    /// What all chance comes from: the same seed and --until make the same rows
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// The platform's present (UTC): 2026-06-30, or 2026-06-30T15:00:00Z; without it, the last full hour
    #[arg(long, value_parser = time)]
    until: Option<DateTime<Utc>>,
    /// Add to a database that has events already
    #[arg(long)]
    append: bool,
    /// How many organisations are played at once, on PostgreSQL
    #[arg(long, default_value_t = 8)]
    workers: u16,
    /// The password of everybody who signs in by one; without it, no password fits. For a demonstration: it is as secret as this command
    #[arg(long)]
    password: Option<String>,
    /// No progress bar
    #[arg(long)]
    quiet: bool,
}

/// A time, or the end of a working day.
fn time(text: &str) -> Result<DateTime<Utc>, String> {
    if let Ok(at) = text.parse::<DateTime<Utc>>() {
        return Ok(at);
    }
    let day: NaiveDate = text
        .parse()
        .map_err(|_| "a date such as 2026-06-30, or a time such as 2026-06-30T15:00:00Z")?;
    let afternoon = NaiveTime::from_hms_opt(15, 0, 0).unwrap_or(NaiveTime::MIN);
    Ok(day.and_time(afternoon).and_utc())
}

#[tokio::main]
async fn main() -> ExitCode {
    match Box::pin(run(Arguments::parse())).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("conferencing-seed: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let (url, is_migrated) = match &arguments.database_url {
        Some(url) => (url.clone(), arguments.migrate),
        None => ("sqlite://conferencing-seed.sqlite?mode=rwc".to_owned(), true),
    };
    let size = match arguments.rooms {
        Some(rooms) => Size::Rooms(rooms),
        None => Size::Events(arguments.events),
    };
    let now = SystemClock.now();
    let until = arguments.until.unwrap_or(now.duration_trunc(TimeDelta::hours(1))?);
    let mut settings = SeedSettings {
        users: arguments.users,
        days: arguments.days,
        append: arguments.append,
        workers: arguments.workers,
        ..SeedSettings::new(size, arguments.seed, until)
    };
    if let Some(password) = &arguments.password {
        settings.password_hash = hash(password, arguments.seed)?;
    }
    let store_settings = StoreSettings {
        connect: connect_settings(arguments.workers, ConnectSettings::from_environment()?),
        ..StoreSettings::default()
    };
    let db = connect::open(&url, &store_settings.connect).await?;
    if is_migrated {
        migrate(&db, &settings).await?;
    }
    let bar = if arguments.quiet {
        ProgressBar::hidden()
    } else {
        bar(settings.expected_events())
    };
    let counting = bar.clone();
    let made = seed(&db, &settings, store_settings, move |events| counting.inc(events)).await;
    bar.finish_and_clear();
    let made = match made {
        Err(conferencing_seed::SeedError::Store(error @ Error::Unmigrated { .. })) => {
            return Err(format!("{error} (or this command with --migrate)").into());
        }
        other => other?,
    };
    let seconds = bar.elapsed().as_secs_f64();
    println!(
        "{} events of {} people in {} organisations, from {} to {} (UTC), in {seconds:.0} s",
        made.events,
        made.users,
        made.organisations,
        settings.since().format("%Y-%m-%d"),
        settings.until.format("%Y-%m-%d %H:%M"),
    );
    db.close().await?;
    Ok(())
}

fn bar(events: u64) -> ProgressBar {
    let bar = ProgressBar::new(events);
    let template = "{wide_bar} {human_pos}/{human_len} events, {per_sec}, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// With a salt of the seed, so that the rows are the same each time.
fn hash(password: &str, seed: u64) -> Result<Secret, Box<dyn std::error::Error>> {
    let salt = format!("seed {seed:016x}");
    let hash: PasswordHash = Argon2::default()
        .hash_password_with_salt(password.as_bytes(), salt.as_bytes())
        .map_err(|error| error.to_string())?;
    Ok(Secret::new(hash.to_string()))
}
