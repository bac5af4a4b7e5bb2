//! What is there to do for the audit log as months go by? On PostgreSQL it has a partition for each month: those ahead have to be
//! made, those whose time is over go into files and out of the database.
//!
//! By itself this only looks. With `--make` it makes the months ahead; with `--archive` it archives what is over. Both take a role
//! that owns the tables. On SQLite the audit log is one table, and there is nothing to do.

use std::path::PathBuf;
use std::process::ExitCode;

use chrono::{DateTime, Utc};
use clap::Parser;
use conferencing_store::{Actor, AuditPartition, StoreSettings};
use examples::{DatabaseArgs, Sentence, exit, print, table};

/// Lists the months of the audit log, makes those ahead, archives those that are over
#[derive(Parser)]
struct Arguments {
    /// Make the months ahead that are missing
    #[arg(long)]
    make: bool,
    /// How many months ahead
    #[arg(long, default_value_t = 3)]
    ahead: u32,
    /// Archive what is over into files in this folder
    #[arg(long, value_name = "FOLDER")]
    archive: Option<PathBuf>,
    /// How many whole months to keep in the database
    #[arg(long, default_value_t = 12)]
    keep: u32,
    #[command(flatten)]
    database: DatabaseArgs,
}

#[tokio::main]
async fn main() -> ExitCode {
    exit("audit_months", run(Arguments::parse()).await)
}

async fn run(arguments: Arguments) -> Result<(), Sentence> {
    let store = arguments.database.open(StoreSettings::default()).await?;
    let acting = store.acting(&Actor::system("audit_months"));
    let partitions = acting.audit_partitions();
    if arguments.make {
        let upkeep = partitions.ensure_partitions(arguments.ahead).await?;
        for name in &upkeep.made {
            print(format_args!("Made {name}."));
        }
        for name in &upkeep.in_default {
            print(format_args!(
                "{name} cannot be made: the default partition has events of that month."
            ));
        }
    }
    let all = partitions.list().await?;
    if all.is_empty() {
        print("This database keeps the audit_log in one table.");
    } else {
        print(table(
            &["Partition", "From", "Until", "State", "About events", "KiB"],
            all.iter().map(row),
        ));
    }
    let due = partitions.due(arguments.keep).await?;
    print(format_args!(
        "{} of them ended more than {} whole months ago.",
        due.len(),
        arguments.keep
    ));
    for one in &due {
        match &arguments.archive {
            None => print(format_args!("--archive would archive {}.", one.name)),
            Some(folder) => {
                let archived = partitions.archive(&one.name, arguments.keep, folder).await?;
                print(format_args!(
                    "{}: {} events, sha256 {}",
                    archived.file.display(),
                    archived.events,
                    archived.sha256
                ));
            }
        }
    }
    store.close().await?;
    Ok(())
}

fn row(one: &AuditPartition) -> Vec<String> {
    let time = |at: Option<DateTime<Utc>>| at.map(|at| at.format("%Y-%m-%d").to_string()).unwrap_or_default();
    vec![
        one.name.clone(),
        time(one.since),
        time(one.until),
        format!("{:?}", one.state).to_lowercase(),
        one.about_events.to_string(),
        (one.bytes / 1024).to_string(),
    ]
}
