//! What belongs together happens together or not at all: several operations in one transaction. What reads see inside and
//! outside of it; a refusal in the middle, swallowed and returned; what is left of a unit that is dropped.
//!
//! Everything in a unit has one time, and a refused attempt is in the audit log even when the unit it was part of is not.
//!
//! Not for `sqlite::memory:`, whose only connection the unit has while somebody outside wants to read.

use std::process::ExitCode;

use clap::Parser;
use conferencing_store::entity::ParticipantRole::{Host, Participant};
use conferencing_store::entity::{room, user};
use conferencing_store::rooms::Rooms;
use conferencing_store::unit::Source;
use conferencing_store::{Actor, Error, NewRoom, Rejected, RoomFilter};
use examples::{DatabaseArgs, Sentence, Stage, clock_time, exit, print, table};

/// Runs several operations in one transaction: committed, with a refusal swallowed, with one returned, and dropped
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    database: DatabaseArgs,
}

#[tokio::main]
async fn main() -> ExitCode {
    exit("unit_of_work", run(Arguments::parse()).await)
}

async fn run(arguments: Arguments) -> Result<(), Sentence> {
    let mut stage = Stage::open(&arguments.database).await?;
    let cast = Cast {
        ada: stage.register("Ada").await?,
        ben: stage.register("Ben").await?,
        cleo: stage.register("Cleo").await?,
        dora: stage.register("Dora").await?,
    };
    let room = committed(&mut stage, &cast.ada).await?;
    swallowed(&stage, &cast, &room).await?;
    returned(&stage, &cast, &room).await?;
    attempted(&stage, &cast, &room).await?;
    dropped(&stage, &cast.ada).await?;
    print("\nThe audit_log of Seminar");
    print(stage.audit_log(room.id).await?);
    stage.close().await?;
    Ok(())
}

struct Cast {
    ada: user::Model,
    ben: user::Model,
    cleo: user::Model,
    dora: user::Model,
}

/// Reads through a unit see its changes; reads through the store see them once it is committed.
async fn committed(stage: &mut Stage, ada: &user::Model) -> Result<room::Model, Sentence> {
    print("1. Ada makes a room and takes a seat in one unit; Ben looks on");
    let unit = stage.store.begin(&stage.actor(ada)).await?;
    let begun = unit.now();
    let new = NewRoom {
        max_participants: 3,
        ..NewRoom::titled(ada.id, "Seminar")
    };
    let room = unit.rooms().create(new).await?;
    stage.introduce(room.id, "Seminar");
    let code = &room.room_code;
    let mut rows = vec![vec![
        "room made".to_owned(),
        seen(unit.rooms(), code).await?,
        seen(stage.store.rooms(), code).await?,
    ]];
    // The unit keeps the time of its begin.
    stage.pass(1);
    let seat = unit.participants().join(room.id, ada.id, Host).await?;
    rows.push(vec![
        "seat taken".to_owned(),
        seen(unit.rooms(), code).await?,
        seen(stage.store.rooms(), code).await?,
    ]);
    unit.commit().await?;
    let outside = seen(stage.store.rooms(), code).await?;
    rows.push(vec!["commit".to_owned(), "(it is gone)".to_owned(), outside]);
    print(table(&["After", "The unit sees", "Others see"], rows));
    print(format_args!(
        "   The unit began at {}; the seat that Ada took a minute later is hers since {}.",
        clock_time(begun),
        clock_time(seat.joined_at)
    ));
    Ok(room)
}

/// A refusal is a value: who catches it goes on, and the rest of the unit is kept.
async fn swallowed(stage: &Stage, cast: &Cast, room: &room::Model) -> Result<(), Sentence> {
    print("\n2. The system seats three guests in one unit; for the last there is no chair, and it goes on without");
    let (id, guests) = (room.id, [&cast.ben, &cast.cleo, &cast.dora]);
    let left_out = stage
        .store
        .transact(&Actor::system("import"), |unit| async move {
            let mut left_out = Vec::new();
            for guest in guests {
                match unit.participants().join(id, guest.id, Participant).await {
                    Ok(_) => {}
                    Err(Error::Rejected(Rejected::RoomFull { .. })) => left_out.push(guest.display_name.clone()),
                    Err(error) => return Err(error),
                }
            }
            Ok(left_out)
        })
        .await?;
    print(format_args!("   left out: {}", left_out.join(", ")));
    print_seen(stage, room).await?;
    Ok(())
}

/// Returned from the closure, the same kind of refusal undoes all.
async fn returned(stage: &Stage, cast: &Cast, room: &room::Model) -> Result<(), Sentence> {
    print("\n3. Ada kicks Cleo and hands the host role to Dora, who is not there; Ada wants both or none");
    stage.pass(5);
    let (id, cleo, dora) = (room.id, cast.cleo.id, cast.dora.id);
    let result = stage
        .store
        .transact(&stage.actor(&cast.ada), |unit| async move {
            unit.participants().kick(id, cleo, Some("making place")).await?;
            unit.participants().hand_over_host(id, dora).await
        })
        .await;
    print(format_args!("   refused: {}", stage.refusal(result)?));
    print_seen(stage, room).await?;
    Ok(())
}

/// What is refused for want of authority is noted, whatever becomes of the unit.
async fn attempted(stage: &Stage, cast: &Cast, room: &room::Model) -> Result<(), Sentence> {
    print("\n4. Ben leaves and ends the meeting for all, in one unit; he may not end it");
    stage.pass(5);
    let (id, ben) = (room.id, cast.ben.id);
    let result = stage
        .store
        .transact(&stage.actor(&cast.ben), |unit| async move {
            unit.participants().leave(id, ben).await?;
            unit.rooms().end(id).await
        })
        .await;
    print(format_args!("   refused: {}", stage.refusal(result)?));
    print_seen(stage, room).await?;
    print("   The audit_log below has the attempt, and no USER_LEFT.");
    Ok(())
}

/// A unit that is not committed leaves nothing behind, however it ends.
async fn dropped(stage: &Stage, ada: &user::Model) -> Result<(), Sentence> {
    print("\n5. Ada makes a room in a unit that is rolled back, and one in a unit that is dropped");
    let actor = stage.actor(ada);
    let unit = stage.store.begin(&actor).await?;
    unit.rooms().create(NewRoom::titled(ada.id, "Rolled back")).await?;
    unit.roll_back().await?;

    let unit = stage.store.begin(&actor).await?;
    let forgotten = unit.rooms().create(NewRoom::titled(ada.id, "Forgotten")).await?;
    let inside = unit.rooms().count(RoomFilter::OwnedBy(ada.id)).await?;
    drop(unit);

    let outside = stage.store.rooms().count(RoomFilter::OwnedBy(ada.id)).await?;
    let left = stage.store.rooms().any().find(forgotten.id).await?;
    print(format_args!(
        "   rooms of Ada that the dropped unit saw: {inside}; now: {outside}; left of Forgotten: {}",
        left.map_or("nothing".to_owned(), |room| room.title)
    ));
    Ok(())
}

async fn print_seen(stage: &Stage, room: &room::Model) -> Result<(), Error> {
    let seen = seen(stage.store.rooms(), &room.room_code).await?;
    print(format_args!("   afterwards: {seen}"));
    Ok(())
}

/// What a room looks like from a store or a unit.
async fn seen<S: Source>(rooms: Rooms<'_, S>, code: &str) -> Result<String, Error> {
    let Some(found) = rooms.find_overview(code).await? else {
        return Ok("no such room".to_owned());
    };
    let present: Vec<String> = found.present.into_iter().map(|who| who.user.display_name).collect();
    Ok(if present.is_empty() {
        format!("{}, empty", found.room.title)
    } else {
        format!("{} with {}", found.room.title, present.join(", "))
    })
}
