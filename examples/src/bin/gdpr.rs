//! What does the store hold about somebody, how do they get it, and what is left when they ask to be forgotten?
//!
//! Shows an export as JSON Lines, an erasure with its receipt, what became of their rooms and seats, the receipt again when
//! it is asked for twice, and the name that is free for the next.

use std::process::ExitCode;

use clap::Parser;
use conferencing_store::clock::{Ids, RandomIds};
use conferencing_store::entity::AuthProviderType::Google;
use conferencing_store::entity::ParticipantRole::Participant;
use conferencing_store::entity::{RoomId, Secret, user};
use conferencing_store::{
    Actor, AuditFilter, ErasureReceipt, Error, NewRoom, NewUser, Order, PageRequest, ProviderAccount, Store,
    StoreSettings,
};
use examples::{DatabaseArgs, Sentence, exit, table};
use futures_util::TryStreamExt;

/// Exports all that is held about a user, erases them, and shows what is left
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    database: DatabaseArgs,
}

#[tokio::main]
async fn main() -> ExitCode {
    exit("gdpr", run(Arguments::parse()).await)
}

async fn run(arguments: Arguments) -> Result<(), Sentence> {
    let store = arguments.database.open(StoreSettings::default()).await?;
    let tag = RandomIds::default().room_code().to_lowercase();
    let ada = register(&store, "ada", &tag).await?;
    let ben = register(&store, "ben", &tag).await?;
    let (rooms, of_ada) = live_a_little(&store, &ada, &ben, &tag).await?;

    println!("All that is held about Ada, as JSON Lines");
    let acting = store.acting(&of_ada);
    let users = acting.users();
    let mut records = std::pin::pin!(users.export(ada.id).await?);
    while let Some(record) = records.try_next().await? {
        let line = record.to_json_line();
        let shown: String = line.chars().take(150).collect();
        println!("{shown}{}", if shown.len() < line.len() { "…" } else { "" });
    }

    println!("\nAda asks to be forgotten");
    show(&acting.users().erase(ada.id).await?);
    let again = acting.users().erase(ada.id).await?;
    println!(
        "asked again: already erased: {}, at the same time, with the same numbers",
        again.already_erased
    );

    let row = store.users().deleted().get(ada.id).await?;
    println!(
        "\nWhat is left of her: {} ({}), no address, no password",
        row.username, row.display_name
    );
    show_rooms(&store, &rooms).await?;
    let page = PageRequest::first(50, Order::OldestFirst)?;
    let audit_log = store.audit().list(&AuditFilter::of_room(rooms[0].1), &page).await?;
    let actions: Vec<String> = audit_log.items.iter().map(|entry| entry.event.action()).collect();
    println!(
        "\nThe audit_log of her live room, which is never changed: {}",
        actions.join(", ")
    );

    let next = register(&store, "ada", &tag).await?;
    println!("\nThe name {} is free: somebody else has it now", next.username);
    store.close().await?;
    Ok(())
}

async fn register(store: &Store, name: &str, tag: &str) -> Result<user::Model, Error> {
    let new = NewUser {
        username: &format!("{name}-{tag}"),
        email: Some(&format!("{name}-{tag}@example.org")),
        display_name: name,
        password_hash: Secret::new("$argon2id$v=19$m=19456,t=2,p=1$ZXhhbXBsZXNhbHQ$bm90IGEgcmVhbCBoYXNo"),
    };
    store.acting(&Actor::anonymous()).users().register(new).await
}

type NamedRoom = (&'static str, RoomId);

/// Ada has a live room with Ben in it and one that is planned, and sits in Ben's.
async fn live_a_little(
    store: &Store,
    ada: &user::Model,
    ben: &user::Model,
    tag: &str,
) -> Result<(Vec<NamedRoom>, Actor), Sentence> {
    let of_ada = Actor::user(ada.id).from_address("203.0.113.7".parse()?);
    let (by_ada, by_ben) = (store.acting(&of_ada), store.acting(&Actor::user(ben.id)));
    let account = ProviderAccount {
        provider: Google,
        provider_id: &format!("go-{tag}"),
        email: None,
        metadata: None,
    };
    by_ada.auth_providers().link(ada.id, account).await?;
    let live = by_ada.rooms().create(NewRoom::titled(ada.id, "Ada's meeting")).await?;
    let planned = by_ada
        .rooms()
        .create(NewRoom::titled(ada.id, "Ada's next meeting"))
        .await?;
    let of_ben = by_ben.rooms().create(NewRoom::titled(ben.id, "Ben's meeting")).await?;
    for room in [live.id, of_ben.id] {
        by_ada.participants().join(room, ada.id, Participant).await?;
        by_ben.participants().join(room, ben.id, Participant).await?;
    }
    let rooms = vec![
        ("Ada's, live", live.id),
        ("Ada's, planned", planned.id),
        ("Ben's", of_ben.id),
    ];
    Ok((rooms, of_ada))
}

fn show(receipt: &ErasureReceipt) {
    let rows = [
        ("ways in removed", receipt.providers_removed),
        ("live rooms ended", receipt.rooms_ended),
        ("planned rooms called off", receipt.rooms_cancelled),
        ("participations ended", receipt.ended_participations),
        ("recordings deleted", receipt.recordings_deleted),
    ];
    let rows = rows.map(|(what, number)| vec![what.to_owned(), number.to_string()]);
    println!("{}", table(&["The receipt", ""], rows));
}

async fn show_rooms(store: &Store, rooms: &[NamedRoom]) -> Result<(), Error> {
    let mut rows = Vec::new();
    for (name, id) in rooms {
        let room = store.rooms().get(*id).await?;
        rows.push(vec![
            (*name).to_owned(),
            room.title,
            format!("{:?}", room.status),
            room.active_participants.to_string(),
        ]);
    }
    println!("{}", table(&["Room", "Called", "Is", "Present"], rows));
    Ok(())
}
