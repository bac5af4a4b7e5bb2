//! What does an auditor ask the audit log, and how is it asked? Who did it, to whom, where, from which address, when: one filter in
//! any combination, with the names of people and rooms, and how many events there are.
//!
//! With `--explain` it also tells how the database came to the page.

use std::process::ExitCode;

use clap::Parser;
use conferencing_store::audit::NamedEntry;
use conferencing_store::entity::ParticipantRole::Participant;
use conferencing_store::entity::{AuditAction, room, user};
use conferencing_store::{Actor, AuditFilter, Error, NewRoom, Order, PageRequest};
use examples::{DatabaseArgs, Sentence, Stage, clock_time, exit, print, table};

/// Plays an evening with some trouble in it, then answers what an auditor would ask about it
#[derive(Parser)]
struct Arguments {
    /// Tell how the database came to each page
    #[arg(long)]
    explain: bool,
    #[command(flatten)]
    database: DatabaseArgs,
}

#[tokio::main]
async fn main() -> ExitCode {
    exit("audit_search", run(Arguments::parse()).await)
}

async fn run(arguments: Arguments) -> Result<(), Sentence> {
    let mut stage = Stage::open(&arguments.database).await?;
    let evening = Evening::play(&mut stage).await?;
    let Evening {
        ada,
        mallory,
        town_hall,
        ..
    } = &evening;
    let since = Some(evening.began);

    for (question, filter) in [
        ("What happened in the town hall?", AuditFilter::of_room(town_hall.id)),
        ("What did Mallory do, wherever?", AuditFilter::by(mallory.id)),
        (
            "What was done to Mallory, by whomever?",
            AuditFilter {
                actions: vec![AuditAction::UserKicked, AuditAction::UserBanned],
                ..AuditFilter::about(mallory.id)
            },
        ),
        (
            "Whom did Ada put out of the town hall?",
            AuditFilter {
                actor: Some(ada.id),
                actions: vec![AuditAction::UserKicked, AuditAction::UserBanned],
                ..AuditFilter::of_room(town_hall.id)
            },
        ),
        (
            "What was tried this evening without success?",
            AuditFilter {
                since,
                ..AuditFilter::of_actions([AuditAction::UnauthorizedAccessAttempt, AuditAction::UserLoginFailed])
            },
        ),
        (
            "What came from the address that guessed at passwords?",
            AuditFilter {
                address: Some("203.0.113.66".parse()?),
                since,
                ..AuditFilter::default()
            },
        ),
    ] {
        answer(&stage, question, &filter, arguments.explain).await?;
    }
    stage.close().await?;
    Ok(())
}

/// Prints the first page of what the filter names, the newest first.
async fn answer(stage: &Stage, question: &str, filter: &AuditFilter, explain: bool) -> Result<(), Sentence> {
    let audit = stage.store.audit();
    let page = PageRequest::first(12, Order::NewestFirst)?;
    let found = audit.list_with_names(filter, &page).await?;
    let count = audit.count(filter).await?;
    if found.items.is_empty() {
        return Err(Sentence::new(format!("nothing answers: {question}")));
    }
    print(format_args!("\n{question}"));
    let rows = found.items.iter().map(|named| row(stage, named));
    print(table(&["When", "By", "Action", "To", "Where", "From"], rows));
    let more = if found.next.is_some() {
        ", of which these are the newest"
    } else {
        ""
    };
    print(format_args!("{count} events{more}"));
    if explain {
        let plan = audit.explain(filter, &page).await?;
        print(format_args!("{plan:#}"));
    }
    Ok(())
}

fn row(stage: &Stage, named: &NamedEntry) -> Vec<String> {
    let NamedEntry {
        entry,
        actor_name,
        target_name,
        room_name,
    } = named;
    let person = |person: &Option<conferencing_store::participants::Person>| {
        person
            .as_ref()
            .map(|person| person.display_name.clone())
            .unwrap_or_default()
    };
    let by = match &entry.system {
        Some(system) => system.clone(),
        None if actor_name.is_some() => person(actor_name),
        None => "nobody signed in".to_owned(),
    };
    vec![
        clock_time(entry.at),
        by,
        entry.event.action(),
        person(target_name),
        room_name
            .as_ref()
            .map(|room| stage.name(&room.title))
            .unwrap_or_default(),
        entry.address.map(|address| address.to_string()).unwrap_or_default(),
    ]
}

struct Evening {
    began: chrono::DateTime<chrono::Utc>,
    ada: user::Model,
    mallory: user::Model,
    town_hall: room::Model,
}

impl Evening {
    async fn play(stage: &mut Stage) -> Result<Self, Error> {
        let began = stage.now();
        let ada = stage.register("Ada").await?;
        let ben = stage.register("Ben").await?;
        let mallory = stage.register("Mallory").await?;
        let town_hall = stage
            .acting(&ada)
            .rooms()
            .create(NewRoom::titled(ada.id, "Town hall"))
            .await?;
        let lobby = stage
            .acting(&ben)
            .rooms()
            .create(NewRoom::titled(ben.id, "Lobby"))
            .await?;
        for user in [&ada, &ben, &mallory] {
            stage.pass(1);
            stage
                .acting(user)
                .participants()
                .join(town_hall.id, user.id, Participant)
                .await?;
        }
        // Somebody guesses at Ada's password, from elsewhere.
        let guesser = Actor::anonymous().from_address(std::net::IpAddr::from([203, 0, 113, 66]));
        for _ in 0..3 {
            stage.pass(1);
            stage
                .store
                .acting(&guesser)
                .users()
                .record_failed_login(&ada.username)
                .await?;
        }
        // Mallory tries what is not hers to do, is put out, comes back and is banned.
        stage.pass(2);
        let refused = stage
            .acting(&mallory)
            .participants()
            .kick(town_hall.id, ben.id, None)
            .await;
        debug_assert!(refused.is_err());
        stage
            .acting(&ada)
            .participants()
            .kick(town_hall.id, mallory.id, Some("shouting"))
            .await?;
        stage.pass(1);
        stage
            .acting(&mallory)
            .participants()
            .join(town_hall.id, mallory.id, Participant)
            .await?;
        stage.pass(1);
        stage
            .acting(&ada)
            .participants()
            .ban(town_hall.id, mallory.id, Some("shouting again"), None)
            .await?;
        stage
            .acting(&mallory)
            .participants()
            .join(lobby.id, mallory.id, Participant)
            .await?;
        stage.pass(5);
        stage.acting(&ada).rooms().end(town_hall.id).await?;
        Ok(Self {
            began,
            ada,
            mallory,
            town_hall,
        })
    }
}
