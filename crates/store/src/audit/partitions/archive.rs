//! Retiring a partition: detached, written to a file, the file verified, and only then dropped.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use chrono::{DateTime, SecondsFormat, Utc};
use entity::audit_log;
use sea_orm::{ConnectionTrait, QueryResult};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncWriteExt, BufWriter};

use super::{AuditPartition, AuditPartitions, PartitionState, sql};
use crate::audit::{Change, ExportedEvent};
use crate::authority::Operation as Asked;
use crate::database::statement::Query;
use crate::database::{Dialect, fault};
use crate::error::{Error, Rejected, Result, Subject};
use crate::notice::Notice;
use crate::page::{MAX_PAGE_SIZE, Place};
use crate::row::Cells;
use crate::unit::only_the_system;
use crate::unit::{Sink, Source, Unit};

/// A partition that is in a file now, and nowhere else.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ArchivedPartition {
    /// The table that was dropped.
    pub partition: String,
    /// Events of this time or later; none: of any earlier time.
    pub since: Option<DateTime<Utc>>,
    /// Events of before this time.
    pub until: DateTime<Utc>,
    /// How many.
    pub events: i64,
    /// The file, in the shape of [`ExportedEvent`]; beside it is one called `.sha256`, as `sha256sum --check` reads it.
    pub file: PathBuf,
    /// Of the file, in hexadecimal digits.
    pub sha256: String,
}

impl AuditPartitions<'_> {
    /// Archives a partition that ended before the last `keep` whole months: takes it out of the audit log, writes its events to
    /// `folder/<name>.jsonl`, reads the file back and compares number and checksum, and drops the table, together with an
    /// AUDIT_ARCHIVED in the audit log. The file is synced to disk before that.
    ///
    /// When it breaks off, whatever the reason, no event is lost: the table is still there, and the next call goes on, from
    /// [`AuditPartitions::due`]. Of several processes one does it.
    ///
    /// Detaching locks the audit log for a moment, and gives way after 200 ms to try again as
    /// [`crate::RetryPolicy`] says. The export takes as long as it takes and holds up nobody. By the system alone.
    ///
    /// # Errors
    /// [`Rejected::WithinRetention`]; [`Error::NotFound`], also for the default one; [`Error::Invalid`] when `keep` is 0;
    /// [`Error::File`] when the file cannot be written or read; [`Error::Corrupt`] when what was read back is not what was written;
    /// [`Error::Transient`] when another process is at it, or the tables were too busy; [`Rejected::NotAllowed`];
    /// [`Error::Backend`] when the role does not own the tables.
    pub async fn archive(&self, name: &str, keep: u32, folder: &Path) -> Result<ArchivedPartition> {
        only_the_system(self.acting, Asked::ArchiveAuditLog).await?;
        let kept_from = self.kept_from(keep)?;
        let mut retries = self.acting.context().retries();
        loop {
            let one = self.find(name).await?;
            let until = one.until.filter(|_| one.state != PartitionState::Default);
            let until = until.ok_or_else(|| not_found(name))?;
            if until > kept_from {
                return Err(Rejected::WithinRetention { until, kept_from }.into());
            }
            let error = match one.state {
                PartitionState::Detached => match self.export_and_drop(&one, until, folder).await {
                    Err(error) => error,
                    done => return done,
                },
                _ => match self.detach(&one, until).await {
                    Err(error) => error,
                    Ok(()) => continue,
                },
            };
            // The table has another name by now, or none: somebody else was faster.
            let has_moved = matches!(error, Error::Unmigrated { .. });
            if !(error.is_retryable() || has_moved) {
                return Err(error);
            }
            if !retries.another().await {
                return Err(if has_moved { busy(name) } else { error });
            }
        }
    }

    /// By the name that it has in the audit log, also once it is detached.
    async fn find(&self, name: &str) -> Result<AuditPartition> {
        let mut all = self.list().await?.into_iter();
        all.find(|one| one.name == name || attached_name(&one.name) == name)
            .ok_or_else(|| not_found(name))
    }

    async fn detach(&self, one: &AuditPartition, until: DateTime<Utc>) -> Result<()> {
        let time = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Micros, true);
        let times = format!("{}/{}", one.since.map(time).unwrap_or_default(), time(until));
        let detached = one.name.replacen(TRAIL, DETACHED, 1);
        let unit = self.acting.begin().await?;
        unit.without_limits().await?;
        run(&unit, sql::LOCK_TIMEOUT).await?;
        for statement in sql::detach(&quoted(&one.name), &quoted(&detached), &times) {
            run(&unit, &statement).await?;
        }
        unit.commit().await
    }

    /// In one transaction, so that nobody else is at it and the event is there if and only if the table is not.
    async fn export_and_drop(
        &self,
        one: &AuditPartition,
        until: DateTime<Utc>,
        folder: &Path,
    ) -> Result<ArchivedPartition> {
        let (table, partition) = (quoted(&one.name), attached_name(&one.name));
        let unit = self.acting.begin().await?;
        unit.without_limits().await?;
        run(&unit, sql::LOCK_TIMEOUT).await?;
        run(&unit, &sql::claim(&table)).await?;
        let file = folder.join(format!("{partition}.jsonl"));
        let written = write(&unit, &table, &file).await?;
        let events = count(&unit, &table).await?;
        let read = tokio::task::spawn_blocking({
            let file = file.clone();
            move || digest_of(&file)
        });
        let read = read.await.map_err(|_| Error::Aborted {
            reason: "the runtime is shutting down",
        })??;
        if read != written || written.events != events {
            return Err(Error::Corrupt {
                detail: format!(
                    "{}: {events} events in the table, {} written, {} read back",
                    file.display(),
                    written.events,
                    read.events
                ),
            });
        }
        let archived = ArchivedPartition {
            partition,
            since: one.since,
            until,
            events,
            file,
            sha256: read.sha256,
        };
        write_checksum(&archived).await?;
        let event = Change::AuditArchived {
            partition: archived.partition.clone(),
            since: archived.since,
            until,
            events,
            sha256: archived.sha256.clone(),
        };
        unit.perform(Notice::of(None, &event)).await?;
        run(&unit, &sql::drop_detached(&table)).await?;
        unit.commit().await?;
        Ok(archived)
    }
}

/// What the tables' names begin with.
const TRAIL: &str = "audit_logs_";
const DETACHED: &str = "audit_logs_detached_";

fn attached_name(name: &str) -> String {
    name.replacen(DETACHED, TRAIL, 1)
}

fn busy(name: &str) -> Error {
    Error::Transient {
        reason: format!("other processes are at partition {name}"),
    }
}

fn not_found(name: &str) -> Error {
    Error::NotFound(Subject::Partition(name.to_owned()))
}

/// Names come from the catalogue; these are the characters that partitions of ours have.
fn quoted(name: &str) -> String {
    format!(r#""{}""#, name.replace('"', r#""""#))
}

async fn run(unit: &Unit, statement: &str) -> Result<()> {
    let done = unit.executor().execute_unprepared(statement).await;
    done.map(drop)
        .map_err(|error| unit.failed(&error, "audit_partitions.archive"))
}

async fn rows(unit: &Unit, query: &Query) -> Result<Vec<QueryResult>> {
    let rows = query.rows(Dialect::Postgres, &unit.executor()).await;
    rows.map_err(|error| unit.failed(&error, "audit_partitions.archive"))
}

async fn count(unit: &Unit, table: &str) -> Result<i64> {
    let found = rows(unit, &sql::count(table)).await?;
    let events = found.first().map_or(Ok(0), |row| Cells::of(row).next("events"));
    events.map_err(|error| fault::read(Dialect::Postgres, &error, "audit_partitions.archive", false))
}

/// What a file has.
#[derive(PartialEq, Eq)]
struct Contents {
    events: i64,
    sha256: String,
}

/// Writes the table's events; the file has its name only when it is whole and on disk.
async fn write(unit: &Unit, table: &str, file: &Path) -> Result<Contents> {
    let unfinished = file.with_extension("jsonl.unfinished");
    let failed = |error: std::io::Error| file_error(&unfinished, &error);
    let mut to = BufWriter::new(tokio::fs::File::create(&unfinished).await.map_err(failed)?);
    let (mut hash, mut events, mut after) = (Sha256::new(), 0, None::<Place>);
    loop {
        let page = rows(unit, &sql::rows(table, after, MAX_PAGE_SIZE)).await?;
        for row in &page {
            let row = Cells::of(row)
                .read::<audit_log::Model>()
                .map_err(|error| unit.failed(&error, "audit_partitions.archive"))?;
            let event = ExportedEvent::from(row);
            after = Some(event.place());
            let line = event.to_json_line() + "\n";
            hash.update(&line);
            to.write_all(line.as_bytes()).await.map_err(failed)?;
            events += 1;
        }
        if page.len() < usize::from(MAX_PAGE_SIZE) {
            break;
        }
    }
    to.flush().await.map_err(failed)?;
    to.into_inner().sync_all().await.map_err(failed)?;
    tokio::fs::rename(&unfinished, file).await.map_err(failed)?;
    sync_folder(file).await?;
    Ok(Contents {
        events,
        sha256: hex(hash),
    })
}

/// Makes a file's name last as well.
async fn sync_folder(file: &Path) -> Result<()> {
    let Some(folder) = file.parent() else { return Ok(()) };
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    let failed = |error: std::io::Error| file_error(folder, &error);
    let opened = tokio::fs::File::open(folder).await.map_err(failed)?;
    opened.sync_all().await.map_err(failed)
}

async fn write_checksum(archived: &ArchivedPartition) -> Result<()> {
    let path = archived.file.with_extension("jsonl.sha256");
    let failed = |error: std::io::Error| file_error(&path, &error);
    let name = archived.file.file_name().unwrap_or_default().to_string_lossy();
    let mut file = tokio::fs::File::create(&path).await.map_err(failed)?;
    let line = format!("{}  {name}\n", archived.sha256);
    file.write_all(line.as_bytes()).await.map_err(failed)?;
    file.sync_all().await.map_err(failed)
}

/// Reads a file back, line by line.
fn digest_of(file: &Path) -> Result<Contents> {
    let failed = |error: std::io::Error| file_error(file, &error);
    let mut from = BufReader::new(std::fs::File::open(file).map_err(failed)?);
    let (mut hash, mut events, mut line) = (Sha256::new(), 0, Vec::new());
    // No line is longer than its texts in UTF-8, every character escaped: far from this.
    while from
        .by_ref()
        .take(1 << 24)
        .read_until(b'\n', &mut line)
        .map_err(failed)?
        > 0
    {
        let event: Result<serde_json::Value, _> = serde_json::from_slice(&line);
        if event.is_err() {
            return Err(Error::Corrupt {
                detail: format!("line {} of {}", events + 1, file.display()),
            });
        }
        hash.update(&line);
        events += 1;
        line.clear();
    }
    Ok(Contents {
        events,
        sha256: hex(hash),
    })
}

fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn file_error(path: &Path, error: &std::io::Error) -> Error {
    Error::File {
        path: path.to_owned(),
        reason: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_known_by_its_contents() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.jsonl");
        std::fs::write(&file, "{\"v\":1}\n{\"v\":1}\n").unwrap();
        let whole = digest_of(&file).unwrap();
        assert_eq!(whole.events, 2);
        // As sha256sum says.
        assert_eq!(
            whole.sha256,
            "61a113e165286c92df4d33f8fcaaf1121a7c530e178372adb602757529448bdc"
        );
        std::fs::write(&file, "{\"v\":1}\n{\"v\":2}\n").unwrap();
        assert!(digest_of(&file).unwrap() != whole);
        std::fs::write(&file, "{\"v\":1}\n{\"v\":").unwrap();
        assert!(matches!(digest_of(&file), Err(Error::Corrupt { .. })));
        std::fs::remove_file(&file).unwrap();
        assert!(matches!(digest_of(&file), Err(Error::File { .. })));
    }
}
