//! One process acts, another one hears of it: a signaling server follows a room by the feed while somebody else changes it. Then it is
//! restarted, and goes on where it was, by the position that it has kept as text.
//!
//! Not for `sqlite::memory:`, which no two processes share.

use std::collections::BTreeSet;
use std::pin::pin;
use std::process::ExitCode;

use clap::Parser;
use conferencing_store::entity::ParticipantRole::Participant;
use conferencing_store::entity::UserId;
use conferencing_store::{AuditEvent, Change, FeedEvent, FeedFilter, FeedPosition, NewRoom, Store, StoreSettings};
use examples::{DatabaseArgs, Sentence, Stage, exit, print};
use futures_util::TryStreamExt;

/// Follows a room from another process, is restarted, and misses nothing
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    database: DatabaseArgs,
}

#[tokio::main]
async fn main() -> ExitCode {
    exit("feed", run(Arguments::parse()).await)
}

/// What the signaling server knows of the room: by the feed alone.
#[derive(Default)]
struct Room {
    present: BTreeSet<UserId>,
    /// How far it has come: what it would keep in a file, or in a table of its own.
    position: Option<String>,
}

impl Room {
    /// Works an event off, and only then keeps its position: whoever dies in between hears of it again.
    fn take_in(&mut self, stage: &Stage, event: &FeedEvent) {
        let entry = &event.entry;
        match &entry.event {
            AuditEvent::Change(Change::UserJoined { target, .. }) => {
                if let Some(user) = target.or(entry.actor) {
                    self.present.insert(user);
                    print(format_args!("   signaling: {} is in", stage.name(user)));
                }
            }
            AuditEvent::Change(Change::UserLeft { target, .. }) => {
                if let Some(user) = target.or(entry.actor) {
                    self.present.remove(&user);
                    print(format_args!("   signaling: {} is out", stage.name(user)));
                }
            }
            AuditEvent::Change(Change::UserKicked { target, .. }) => {
                self.present.remove(target);
                print(format_args!(
                    "   signaling: closes the socket of {}",
                    stage.name(target)
                ));
            }
            other => print(format_args!("   signaling: {}", other.action())),
        }
        self.position = Some(event.position.to_string());
    }

    /// Follows until so many are in the room.
    async fn follow(
        &mut self,
        stage: &Stage,
        store: &Store,
        filter: &FeedFilter,
        until: usize,
    ) -> Result<(), Sentence> {
        let position: Option<FeedPosition> = self.position.as_deref().map(str::parse).transpose()?;
        let mut events = pin!(store.feed().subscribe(filter.clone(), position).await?);
        while self.present.len() != until {
            match events.try_next().await? {
                Some(event) => self.take_in(stage, &event),
                None => return Err(Sentence::new("the feed has no end")),
            }
        }
        Ok(())
    }
}

async fn run(arguments: Arguments) -> Result<(), Sentence> {
    let mut stage = Stage::open(&arguments.database).await?;
    let (ada, ben, cleo) = (
        stage.register("Ada").await?,
        stage.register("Ben").await?,
        stage.register("Cleo").await?,
    );
    let room = stage
        .acting(&ada)
        .rooms()
        .create(NewRoom::titled(ada.id, "Rehearsal"))
        .await?;
    let filter = FeedFilter::of_room(room.id);

    print("1. A signaling server of its own process begins to follow the room");
    let signaling = arguments.database.open(StoreSettings::default()).await?;
    let mut seen = Room {
        position: Some(signaling.feed().now().await?.to_string()),
        ..Room::default()
    };
    for user in [&ada, &ben, &cleo] {
        stage
            .acting(user)
            .participants()
            .join(room.id, user.id, Participant)
            .await?;
    }
    seen.follow(&stage, &signaling, &filter, 3).await?;

    print("2. It is restarted; meanwhile Ada puts Ben out, and Cleo leaves");
    signaling.close().await?;
    stage
        .acting(&ada)
        .participants()
        .kick(room.id, ben.id, Some("the wrong rehearsal"))
        .await?;
    stage.acting(&cleo).participants().leave(room.id, cleo.id).await?;

    print("3. It goes on from where it was");
    let signaling = arguments.database.open(StoreSettings::default()).await?;
    seen.follow(&stage, &signaling, &filter, 1).await?;
    let left: Vec<_> = seen.present.iter().map(|user| stage.name(user)).collect();
    print(format_args!("   in the room by the feed alone: {}", left.join(", ")));
    signaling.close().await?;
    stage.close().await?;
    Ok(())
}
