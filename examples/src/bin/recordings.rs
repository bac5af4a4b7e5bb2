//! What becomes of recordings: who may start one, the way from STARTED to READY over a failure and a retry, what the end of the
//! room does to one that still runs, how sweepers find what is stuck and what has expired, each just once, and how the files of what
//! was deleted are purged, also when the object store fails.
//!
//! The clock is moved by hand and begins in 2001. Sweeps and purges take whatever is due in the whole database: so these find what
//! this example made, and nothing of anybody else's.

use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use clap::Parser;
use conferencing_store::clock::{Clock, Ids, ManualClock, RandomIds};
use conferencing_store::entity::ParticipantRole::{Host, Participant};
use conferencing_store::entity::{ParticipantRole, RecordingId, Secret, recording, room, user};
use conferencing_store::{
    Acting, Actor, AuditEvent, AuditFilter, Change, Error, NewRecording, NewRoom, NewUser, Order, PageRequest,
    RecordingMeasures, Rejected, Store, StoreSettings, SweptRecording,
};
use examples::{DatabaseArgs, Sentence, clock_time, exit, length, table};

/// Records a meeting, loses one recording and rescues another, sweeps up, and tells what the audit log kept of it
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    database: DatabaseArgs,
}

#[tokio::main]
async fn main() -> ExitCode {
    exit("recordings", run(Arguments::parse()).await)
}

/// 1 January 2001, 09:00 UTC.
const BEGIN: i64 = 978_339_600;

async fn run(arguments: Arguments) -> Result<(), Sentence> {
    let clock = Arc::new(ManualClock::at(DateTime::from_timestamp(BEGIN, 0).unwrap_or_default()));
    let settings = StoreSettings {
        clock: clock.clone(),
        ..StoreSettings::default()
    };
    let store = arguments.database.open(settings).await?;
    // Names and storage keys are unique for ever, so each run has its own.
    let tag = RandomIds::default().room_code().to_lowercase();
    let stage = Stage { store, clock, tag };
    stage.play().await?;
    stage.store.close().await?;
    Ok(())
}

struct Stage {
    store: Store,
    clock: Arc<ManualClock>,
    tag: String,
}

impl Stage {
    async fn play(&self) -> Result<(), Sentence> {
        let (ada, ben) = (self.register("Ada").await?, self.register("Ben").await?);
        let (host, guest) = (self.acting(&ada), self.acting(&ben));
        let system = self.store.acting(&Actor::system("media-server"));
        let room = host.rooms().create(NewRoom::titled(ada.id, "All hands")).await?;

        print("Who may record");
        self.start(&host, &room, &ada, "talk").await?;
        self.join(&host, &room, &ada, Host).await?;
        self.join(&guest, &room, &ben, Participant).await?;
        self.start(&guest, &room, &ben, "talk").await?;
        let talk = self.start(&host, &room, &ada, "talk").await?;
        self.start(&host, &room, &ada, "talk").await?;

        print("\nFrom STARTED to READY");
        let recordings = system.recordings();
        let Some(talk) = talk else {
            return Ok(());
        };
        self.pass(TimeDelta::seconds(2));
        self.say(&recordings.progress(talk).await?, "the first bytes are written");
        self.pass(TimeDelta::minutes(24));
        let measured = RecordingMeasures {
            size_bytes: Some(512_000_000),
            codec: Some("vp9"),
            resolution: Some("1920x1080"),
            fps: Some(30),
            bitrate: Some(2_800),
            ..RecordingMeasures::default()
        };
        let stopped = host.recordings().stop(talk, measured).await?;
        self.say(
            &stopped,
            &format!("Ada stops it after {}", length(stopped.duration_seconds.unwrap_or(0))),
        );
        self.say(&recordings.process(talk).await?, "the transcoder takes it");
        self.pass(TimeDelta::minutes(1));
        self.say(
            &recordings.fail(talk, "no space left on device").await?,
            "it runs out of disk space",
        );
        self.say(&recordings.retry(talk).await?, "another try, the first of three");
        self.pass(TimeDelta::minutes(5));
        let url = format!("https://media.example/{}/talk.mp4", self.tag);
        let smaller = RecordingMeasures {
            size_bytes: Some(301_000_000),
            codec: Some("h264"),
            ..RecordingMeasures::default()
        };
        self.say(&recordings.ready(talk, &url, smaller).await?, &url);
        if let Err(Error::Rejected(Rejected::RecordingStatus { status, .. })) = recordings.fail(talk, "late").await {
            print(format_args!(
                "{}  a failure reported now is refused: it is {status:?}",
                self.time()
            ));
        }

        print("\nWhat nobody stops");
        self.start(&host, &room, &ada, "silent").await?;
        self.pass(TimeDelta::minutes(10));
        let questions = self.start(&host, &room, &ada, "questions").await?;
        let stuck = recordings.sweep_stuck(Duration::from_secs(300), 10).await?;
        print(format_args!(
            "{}  the sweep of the stuck fails {}",
            self.time(),
            names(&stuck)
        ));
        self.pass(TimeDelta::minutes(6));
        host.rooms().end(room.id).await?;
        if let Some(id) = questions {
            let row = self.store.recordings().get(id).await?;
            self.say(&row, "Ada ends the meeting, and the recording stops with it");
        }

        print("\nWhat expires");
        for row in self.all(&room).await? {
            let expires_at = Some(self.clock.now() + TimeDelta::days(30));
            host.recordings().set_expiry(row.id, expires_at).await?;
        }
        host.recordings().set_expiry(talk, None).await?;
        print(format_args!(
            "{}  Ada keeps the talk for good, and the rest for 30 days",
            self.time()
        ));
        self.pass(TimeDelta::days(30));
        let (one, two) = tokio::try_join!(recordings.sweep_expired(1), recordings.sweep_expired(1))?;
        print(format_args!(
            "30 days later two sweepers, at once, take one each: {} are deleted",
            both(&one, &two)
        ));
        for swept in one.iter().chain(&two).take(1) {
            if let Err(error) = host.recordings().deleted().restore(swept.id).await {
                print(format_args!("Ada wants one back: {}", told(&error)));
            }
        }
        self.purge(&system).await?;
        self.tell(&room).await
    }

    /// The loop that a service runs every few minutes, over an object store that fails once.
    async fn purge(&self, system: &Acting) -> Result<(), Sentence> {
        print("\nWhat is purged");
        let lease = Duration::from_secs(600);
        self.pass(TimeDelta::days(7));
        let mut fails = true;
        loop {
            let files = system.recordings().claim_purges(100, lease).await?;
            if files.is_empty() {
                return Ok(());
            }
            let mut gone = Vec::new();
            for file in &files {
                let name = file.storage_key.rsplit('/').next().unwrap_or_default();
                // Here a service deletes the object; that it is gone already is fine.
                if std::mem::take(&mut fails) {
                    print(format_args!(
                        "{}  the object store does not answer for {name}",
                        self.time()
                    ));
                    continue;
                }
                print(format_args!("{}  {name} is purged", self.time()));
                gone.push(file.recording);
            }
            system.recordings().confirm_purged(&gone).await?;
            if gone.len() < files.len() {
                self.pass(TimeDelta::minutes(10));
                print(format_args!(
                    "{}  the lease is over: what is left is handed out again",
                    self.time()
                ));
            }
        }
    }

    async fn register(&self, name: &str) -> Result<user::Model, Error> {
        let new = NewUser {
            username: &format!("{}-{}", name.to_lowercase(), self.tag),
            email: None,
            display_name: name,
            password_hash: Secret::new("$argon2id$v=19$m=19456,t=2,p=1$ZXhhbXBsZXNhbHQ$bm90IGEgcmVhbCBoYXNo"),
        };
        self.store.acting(&Actor::anonymous()).users().register(new).await
    }

    fn acting(&self, user: &user::Model) -> Acting {
        self.store.acting(&Actor::user(user.id))
    }

    async fn join(
        &self,
        acting: &Acting,
        room: &room::Model,
        user: &user::Model,
        role: ParticipantRole,
    ) -> Result<(), Error> {
        let seat = acting.participants().join(room.id, user.id, role).await?;
        print(format_args!(
            "{}  {} joins as {:?}",
            self.time(),
            user.display_name,
            seat.role
        ));
        Ok(())
    }

    /// A start, with what a service would answer when it is refused.
    async fn start(
        &self,
        acting: &Acting,
        room: &room::Model,
        user: &user::Model,
        name: &str,
    ) -> Result<Option<RecordingId>, Error> {
        let new = NewRecording {
            room: room.id,
            owner: user.id,
            storage_bucket: "meetings",
            storage_key: &format!("{}/{name}.webm", self.tag),
            filename: &format!("{name}.mp4"),
            egress_id: None,
            is_public: false,
            expires_at: None,
        };
        let who = &user.display_name;
        match acting.recordings().start(new).await {
            Ok(begun) => {
                self.say(&begun, &format!("{who} starts it"));
                Ok(Some(begun.id))
            }
            Err(error @ (Error::Rejected(_) | Error::Conflict(_))) => {
                print(format_args!("{}  {who} is refused: {}", self.time(), told(&error)));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    async fn all(&self, room: &room::Model) -> Result<Vec<recording::Model>, Sentence> {
        let page = PageRequest::first(100, Order::OldestFirst)?;
        Ok(self.store.recordings().any().list_of_room(room.id, &page).await?.items)
    }

    async fn tell(&self, room: &room::Model) -> Result<(), Sentence> {
        let rows = self.all(room).await?;
        let known: Vec<_> = rows.iter().map(|row| (row.id, row.filename.clone())).collect();
        print("\nWhat is left, deleted ones included");
        let lines = rows.iter().map(|row| {
            vec![
                row.filename.clone(),
                format!("{:?}", row.status),
                length(row.duration_seconds.unwrap_or(0)),
                row.size_bytes
                    .map(|bytes| format!("{} MB", bytes / 1_000_000))
                    .unwrap_or_default(),
                row.retry_count.to_string(),
                row.error_message.clone().unwrap_or_default(),
                day(row.deleted_at),
                day(row.purged_at),
            ]
        });
        print(format_args!(
            "{}",
            table(
                &[
                    "File", "Status", "Length", "Size", "Retries", "Error", "Deleted", "Purged"
                ],
                lines
            )
        ));

        let page = PageRequest::first(100, Order::OldestFirst)?;
        let audit_log = self.store.audit().list(&AuditFilter::of_room(room.id), &page).await?;
        let lines = audit_log.items.iter().filter_map(|entry| {
            let (id, details) = about(&entry.event)?;
            let (_, file) = known.iter().find(|(known, _)| *known == id)?;
            let by = entry.system.clone().unwrap_or_else(|| "Ada".to_owned());
            let at = entry.at.format("%d %b %H:%M:%S").to_string();
            Some(vec![at, by, entry.event.action(), file.clone(), details])
        });
        print("\nWhat the audit_log kept");
        print(format_args!(
            "{}",
            table(&["When", "By", "Action", "File", "Details"], lines)
        ));
        Ok(())
    }

    fn say(&self, row: &recording::Model, what: &str) {
        print(format_args!(
            "{}  {:<14} {:<11} {what}",
            self.time(),
            row.filename,
            format!("{:?}", row.status)
        ));
    }

    fn pass(&self, time: TimeDelta) {
        self.clock.advance(time);
    }

    fn time(&self) -> String {
        clock_time(self.clock.now())
    }
}

/// Prints a line. Unlike `println!` it does not panic when the reader has gone (`| head`).
fn print(line: impl Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn day(at: Option<DateTime<Utc>>) -> String {
    at.map(|at| at.format("%d %b").to_string()).unwrap_or_default()
}

/// A refusal without its ids.
fn told(error: &Error) -> String {
    match error {
        Error::Rejected(Rejected::RoomStatus { status, .. }) => format!("the room is {status:?}"),
        Error::Rejected(Rejected::NotAllowed { actor_role, .. }) => format!("not for {actor_role}"),
        Error::Rejected(Rejected::RecordingExpired { .. }) => {
            "refused, its time has come and the file may be gone".to_owned()
        }
        other => other.to_string(),
    }
}

/// The files' names, without the folder of this run.
fn names(swept: &[SweptRecording]) -> String {
    let mut names: Vec<&str> = swept
        .iter()
        .filter_map(|one| one.storage_key.rsplit('/').next())
        .collect();
    names.sort_unstable();
    names.join(" and ")
}

fn both(one: &[SweptRecording], two: &[SweptRecording]) -> String {
    names(&[one, two].concat())
}

/// Which recording an event is about, and what else it says.
fn about(event: &AuditEvent) -> Option<(RecordingId, String)> {
    let AuditEvent::Change(change) = event else {
        return None;
    };
    match change {
        Change::RecordingStarted { recording }
        | Change::RecordingProgressed { recording }
        | Change::RecordingProcessing { recording }
        | Change::RecordingReady { recording }
        | Change::RecordingRestored { recording } => Some((*recording, String::new())),
        Change::RecordingStopped { recording, with_room } => Some((
            *recording,
            if *with_room {
                "with the room".to_owned()
            } else {
                String::new()
            },
        )),
        Change::RecordingFailed { recording, message, .. } => Some((*recording, message.clone())),
        Change::RecordingRetried { recording, retry_count } => Some((*recording, format!("try {retry_count}"))),
        Change::RecordingDeleted { recording, expired } => {
            Some((*recording, if *expired { "expired".to_owned() } else { String::new() }))
        }
        Change::RecordingExpiryChanged { recording, expires_at } => {
            let until = expires_at.map(|at| at.format("%d %b").to_string());
            Some((
                *recording,
                until.map_or("kept for good".to_owned(), |day| format!("until {day}")),
            ))
        }
        _ => None,
    }
}
