//! How does the audit log get out of the database, for an auditor or an archive? As JSON Lines, a line an event, streamed with
//! little memory, and gone on with from a cursor after a break. docs/AUDIT_EXPORT.md describes the lines.
//!
//! It first fills the audit log with media events through the audit writer, which writes them in batches; then exports them, breaks
//! off half-way, and goes on where it stopped.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use conferencing_store::clock::{Ids, RandomIds};
use conferencing_store::entity::{AuditAction, Secret, UserId};
use conferencing_store::{
    Acting, Actor, AuditFilter, Cursor, Error, MediaKind, NewUser, Observation, Store, StoreSettings, WriterSettings,
};
use examples::{DatabaseArgs, Sentence, exit, print};
use futures_util::TryStreamExt;
use indicatif::{ProgressBar, ProgressStyle};

/// Fills the audit log with media events and exports them to a file, with a break in the middle
#[derive(Parser)]
struct Arguments {
    /// How many events to append and export
    #[arg(long, default_value_t = 3_000, value_parser = clap::value_parser!(u64).range(2..))]
    events: u64,
    /// The file; it is overwritten
    #[arg(long, default_value = "audit_export.jsonl")]
    output: PathBuf,
    #[command(flatten)]
    database: DatabaseArgs,
}

#[tokio::main]
async fn main() -> ExitCode {
    exit("audit_export", run(Arguments::parse()).await)
}

async fn run(arguments: Arguments) -> Result<(), Sentence> {
    let store = arguments.database.open(StoreSettings::default()).await?;
    let speaker = register(&store).await?;
    append(&store, speaker, arguments.events).await?;

    let acting = store.acting(&Actor::system("audit_export"));
    let filter = AuditFilter {
        actions: vec![AuditAction::ProducerCreated],
        ..AuditFilter::by(speaker)
    };
    let total = store.audit().count(&filter).await?;
    let bar = ProgressBar::new(total).with_style(
        ProgressStyle::with_template("{bar:40} {human_pos} of {human_len} events, {eta} left")
            .map_err(|error| Sentence::new(error.to_string()))?,
    );
    let half = usize::try_from(total / 2)?;
    let mut file = create(&arguments.output)?;
    let broke_off_at = export(&acting, &filter, None, half, &mut file, &bar).await?;
    print(format_args!(
        "It breaks off after {half} events. The cursor is kept: {}",
        told(broke_off_at.as_ref())
    ));

    // As text, which is how it would be kept beside the file.
    let cursor: Option<Cursor> = broke_off_at.map(|cursor| cursor.to_string().parse()).transpose()?;
    let ended_at = export(&acting, &filter, cursor, usize::MAX, &mut file, &bar).await?;
    bar.finish_and_clear();
    file.flush()?;
    print(format_args!(
        "It goes on from there, up to the end: {}",
        told(ended_at.as_ref())
    ));

    let (lines, first) = read_back(&arguments.output)?;
    if lines != total {
        return Err(Sentence::new(format!("{lines} lines for {total} events")));
    }
    print(format_args!(
        "{} has {lines} lines, none lost, none twice. The first:",
        arguments.output.display()
    ));
    print(first);
    let exports = store
        .audit()
        .count(&AuditFilter::of_actions([AuditAction::AuditExported]))
        .await?;
    print(format_args!(
        "The audit_log tells of its exports as well: {exports} so far."
    ));
    store.close().await?;
    Ok(())
}

/// Writes events to the file until there are no more, or `most` are written. Returns where to go on.
async fn export(
    acting: &Acting,
    filter: &AuditFilter,
    after: Option<Cursor>,
    most: usize,
    file: &mut impl Write,
    bar: &ProgressBar,
) -> Result<Option<Cursor>, Sentence> {
    let audit = acting.audit();
    let export = audit.export(filter.clone(), after.clone()).await?;
    let mut events = std::pin::pin!(export.events);
    let (mut written, mut last) = (0, after);
    while written < most
        && let Some(event) = events.try_next().await?
    {
        writeln!(file, "{}", event.to_json_line())?;
        last = Some(event.cursor());
        written += 1;
        bar.inc(1);
    }
    Ok(last)
}

fn told(cursor: Option<&Cursor>) -> String {
    cursor.map(|cursor| cursor.to_string()).unwrap_or_default()
}

fn create(path: &Path) -> Result<BufWriter<File>, Sentence> {
    let file = File::create(path).map_err(|error| Sentence::new(format!("{}: {error}", path.display())))?;
    Ok(BufWriter::new(file))
}

/// How many lines there are, and the first.
fn read_back(path: &Path) -> Result<(u64, String), Sentence> {
    let mut lines = BufReader::new(File::open(path)?).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    let mut count = 1;
    for line in lines {
        line?;
        count += 1;
    }
    Ok((count, first))
}

async fn register(store: &Store) -> Result<UserId, Error> {
    // Names are unique for ever, so each run has its own.
    let name = format!("speaker-{}", RandomIds::default().room_code().to_lowercase());
    let new = NewUser::named(
        &name,
        "Speaker",
        Secret::new("$argon2id$v=19$m=19456,t=2,p=1$ZXhhbXBsZXNhbHQ$bm90IGEgcmVhbCBoYXNo"),
    );
    let user = store.acting(&Actor::anonymous()).users().register(new).await?;
    Ok(user.id)
}

/// Appends media events as a media server would: it does not wait for each, and looks at the end whether all are there.
async fn append(store: &Store, speaker: UserId, count: u64) -> Result<(), Sentence> {
    let writer = store.audit_writer(WriterSettings::default())?;
    let actor = Actor::user(speaker);
    for number in 0..count {
        let observation = Observation::ProducerCreated {
            producer_id: format!("producer-{number}"),
            kind: MediaKind::Audio,
        };
        // Full means that the database does not keep up: a media server would count it and carry on; this one waits.
        match writer.try_append(&actor, None, &observation) {
            Ok(_) => {}
            Err(Error::QueueFull { .. }) => drop(writer.append(&actor, None, observation).await?),
            Err(error) => return Err(error.into()),
        }
    }
    let stats = writer.close().await;
    if stats.written != count {
        return Err(Sentence::new(format!(
            "{} of {count} events were written",
            stats.written
        )));
    }
    print(format_args!(
        "{count} media events were appended in {} batches.",
        stats.batches
    ));
    Ok(())
}
