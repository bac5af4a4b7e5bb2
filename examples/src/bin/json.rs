//! What does a service put on the wire? What the store returns is JSON as it is, an error too, and what a client sends (a page request, a
//! filter, a cursor) is read from JSON and refused there if it is wrong. `--schema NAME` prints the JSON Schema of a type.

use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use conferencing_store::audit::NamedEntry;
use conferencing_store::entity::{ParticipantRole, room};
use conferencing_store::participants::ParticipantWithUser;
use conferencing_store::rooms::RoomOverview;
use conferencing_store::{AuditFilter, Error, ExportedEvent, FeedEvent, NewRoom, Page, PageRequest, RoomFilter};
use examples::{DatabaseArgs, Sentence, Stage, exit, print};
use schemars::{Schema, schema_for};
use serde_json::json;

/// Shows what the store's answers, errors and questions look like as JSON
#[derive(Parser)]
struct Arguments {
    /// Print the JSON Schema of a type instead
    #[arg(long)]
    schema: Option<Name>,
    #[command(flatten)]
    database: DatabaseArgs,
}

#[derive(Clone, Copy, ValueEnum)]
enum Name {
    Error,
    PageRequest,
    AuditFilter,
    RoomFilter,
    RoomPage,
    RoomOverview,
    Participants,
    AuditEntries,
    ExportedEvent,
    FeedEvent,
}

impl Name {
    fn schema(self) -> Schema {
        match self {
            Self::Error => schema_for!(Error),
            Self::PageRequest => schema_for!(PageRequest),
            Self::AuditFilter => schema_for!(AuditFilter),
            Self::RoomFilter => schema_for!(RoomFilter),
            Self::RoomPage => schema_for!(Page<room::Model>),
            Self::RoomOverview => schema_for!(RoomOverview),
            Self::Participants => schema_for!(Page<ParticipantWithUser>),
            Self::AuditEntries => schema_for!(Page<NamedEntry>),
            Self::ExportedEvent => schema_for!(ExportedEvent),
            Self::FeedEvent => schema_for!(FeedEvent),
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    exit("json", run(Arguments::parse()).await)
}

async fn run(arguments: Arguments) -> Result<(), Sentence> {
    if let Some(name) = arguments.schema {
        print(serde_json::to_string_pretty(&name.schema())?);
        return Ok(());
    }
    let mut stage = Stage::open(&arguments.database).await?;
    let (ada, ben) = (stage.register("Ada").await?, stage.register("Ben").await?);
    let new = NewRoom {
        max_participants: 1,
        ..NewRoom::titled(ada.id, "Design review")
    };
    let room = stage.acting(&ada).rooms().create(new).await?;
    let (host, guest) = (stage.acting(&ada), stage.acting(&ben));
    host.participants().join(room.id, ada.id, ParticipantRole::Host).await?;

    print("A page of rooms, asked for by a client's JSON:");
    let request: PageRequest = serde_json::from_value(json!({ "size": 1, "order": "newest_first" }))?;
    let filter: RoomFilter = serde_json::from_value(json!({ "owned_by": ada.id }))?;
    let page = stage.store.rooms().list(filter, &request).await?;
    print(serde_json::to_string_pretty(&page)?);

    print("\nA refusal:");
    let joined = guest
        .participants()
        .join(room.id, ben.id, ParticipantRole::Participant)
        .await;
    let Err(refusal) = joined else {
        return Err(Sentence::new("a full room took somebody in"));
    };
    print(serde_json::to_string_pretty(&refusal)?);
    print(format_args!("which over HTTP is {}", refusal.http_status()));

    print("\nThe audit log of the room, an event a line:");
    let filter: AuditFilter = serde_json::from_value(json!({ "room": room.id }))?;
    for entry in stage.store.audit().list(&filter, &PageRequest::default()).await?.items {
        print(serde_json::to_string(&entry)?);
    }

    print("\nWhat is refused while it is read:");
    for wrong in [
        json!({ "size": 501 }),
        json!({ "after": "yesterday" }),
        json!({ "offset": 20 }),
    ] {
        if let Err(error) = serde_json::from_value::<PageRequest>(wrong.clone()) {
            print(format_args!("{wrong}: {error}"));
        }
    }
    stage.close().await?;
    Ok(())
}
