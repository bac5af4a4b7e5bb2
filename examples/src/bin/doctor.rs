//! What is wrong with this database, and what helps? Everything that `Store::doctor` looks for, as a table or as JSON; docs/OPERATIONS.md
//! explains it. Nothing is written, but the embedded database of this folder, which is made if it is not there.
//!
//! The exit code is 0 where nothing is above a note, 1 where there are warnings or errors, 2 where it could not look.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use conferencing_store::{DoctorSettings, Durability, Report, Severity, StoreSettings};
use examples::{DatabaseArgs, Sentence, print, table};

/// Looks at the database for everything that can be wrong with it, and says what helps
#[derive(Parser)]
struct Arguments {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// The longest that one question may take, in seconds
    #[arg(long, default_value_t = 10)]
    limit: u64,
    #[command(flatten)]
    database: DatabaseArgs,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(Some(Severity::Warning | Severity::Error)) => ExitCode::FAILURE,
        Ok(_) => ExitCode::SUCCESS,
        Err(sentence) => {
            eprintln!("doctor: {sentence}");
            ExitCode::from(2)
        }
    }
}

/// The gravest finding.
async fn run(arguments: Arguments) -> Result<Option<Severity>, Sentence> {
    // A database that may forget commits is a finding here, not a reason not to look.
    let settings = StoreSettings {
        durability: Durability::AsConfigured,
        ..StoreSettings::default()
    };
    let store = arguments.database.open(settings).await?;
    let limit = Duration::from_secs(arguments.limit);
    let report = store.doctor_with(&DoctorSettings { limit }).await?;
    store.close().await?;
    if arguments.json {
        print(serde_json::to_string_pretty(&report)?);
    } else {
        print_table(&report);
    }
    Ok(report.worst())
}

fn print_table(report: &Report) {
    if report.findings.is_empty() {
        print(format_args!("{}: nothing is wrong.", report.database));
        return;
    }
    let rows = report.findings.iter().map(|finding| {
        vec![
            finding.severity.to_string(),
            finding.check.to_string(),
            finding.what.clone(),
            finding.remedy.clone(),
        ]
    });
    print(table(&["Severity", "Check", "What", "Remedy"], rows));
    print(format_args!("{}: {} findings.", report.database, report.findings.len()));
}
