//! How does one read from servers that follow the primary, and still see what one has just done? With `--replica` such servers are read; without,
//! as on SQLite, the same calls are answered by the primary. docs/REPLICATION.md says when which server answers.

use std::process::ExitCode;

use clap::Parser;
use conferencing_store::clock::{Ids, RandomIds};
use conferencing_store::entity::ParticipantRole::Participant;
use conferencing_store::entity::Secret;
use conferencing_store::{Actor, CommitToken, NewRoom, NewUser, Order, PageRequest, ReplicaSettings, StoreSettings};
use examples::{DatabaseArgs, Sentence, exit, print, table};

/// Takes a seat, and reads the room behind it on whichever server has it
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    database: DatabaseArgs,
    /// The address of a server that follows the database's; may be given more than once
    #[arg(long, env = "DATABASE_REPLICAS", hide_env_values = true, value_delimiter = ' ')]
    replica: Vec<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    exit("replica_reads", run(Arguments::parse()).await)
}

async fn run(arguments: Arguments) -> Result<(), Sentence> {
    let settings = StoreSettings {
        replicas: ReplicaSettings {
            addresses: arguments.replica.iter().map(Secret::new).collect(),
            ..ReplicaSettings::from_environment()?
        },
        ..StoreSettings::default()
    };
    let store = arguments.database.open(settings).await?;
    let system = store.acting(&Actor::system("example"));
    let tag = RandomIds::default().room_code();
    let hash = Secret::new("$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2g");
    let name = format!("ada-{}", tag.to_lowercase());
    let new = NewUser::named(&name, "Ada Lovelace", hash);
    let ada = system.users().register(new).await?;
    let room = system.rooms().create(NewRoom::titled(ada.id, "Replicas")).await?;
    system.participants().join(room.id, ada.id, Participant).await?;

    // It would travel with the answer to the join, in a header or a cookie.
    let text = store.commit_token().await?.to_string();
    print("The seat lies before a commit token.");

    // Another request, perhaps in another process.
    let token: CommitToken = text.parse()?;
    let page = PageRequest::first(50, Order::OldestFirst)?;
    let behind = store.replica_reads().after(token);
    let present = behind.participants().list_present(room.id, &page).await?;
    print(format_args!("Read behind it: {} present.", present.items.len()));

    // Who needs no token takes what there is, up to `max_lag` old.
    let lately = store.replica_reads().rooms().find(room.id).await?;
    print(format_args!(
        "Read without it, the room is {}.",
        if lately.is_some() { "there" } else { "not there yet" }
    ));
    let rows = store.replica_status().into_iter().map(|replica| {
        let lag = replica
            .lag
            .map_or_else(|| "unknown".to_owned(), |lag| format!("{lag:.1?}"));
        vec![replica.server, format!("{:?}", replica.state), lag]
    });
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() {
        print("There are no replicas: the primary has answered.");
    } else {
        print(table(&["replica", "state", "behind by at most"], rows));
    }
    store.close().await?;
    Ok(())
}
