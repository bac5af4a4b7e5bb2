//! Presence that heals: media servers say that they are there; one falls silent, and a sweep closes the seats that it served; it comes
//! back and hears what it lost; another one says who is really there; and a room that this leaves empty is ended.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use conferencing_store::entity::ParticipantRole::Participant;
use conferencing_store::entity::RoomStatus;
use conferencing_store::{Acting, Actor, Heartbeat, NewRoom, Order, PageRequest};
use examples::{DatabaseArgs, Sentence, Stage, exit, print};

/// Media servers that beat, fall silent and come back, and the sweeps that heal what they leave
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    database: DatabaseArgs,
}

#[tokio::main]
async fn main() -> ExitCode {
    exit("media_nodes", run(Arguments::parse()).await)
}

/// A node may be silent for so long; it beats several times as often.
const SILENCE: Duration = Duration::from_secs(30);

/// What a service does every few seconds, in as many processes as there are.
async fn sweep(stage: &Stage, system: &Acting) -> Result<(), Sentence> {
    loop {
        let swept = system.nodes().sweep_silent(SILENCE, 100).await?;
        for node in &swept.lost {
            stage.say(format_args!("the sweep finds {} silent", stage.name(node)));
        }
        for seat in &swept.closed {
            stage.say(format_args!(
                "and closes the seat of {} in {}",
                stage.name(seat.user),
                stage.name(seat.room)
            ));
        }
        if !swept.remaining {
            return Ok(());
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Sentence> {
    let mut stage = Stage::open(&arguments.database).await?;
    let system = stage.store.acting(&Actor::system("media"));
    // What earlier runs have left.
    system.nodes().sweep_silent(SILENCE, 500).await?;
    let (ada, ben, cleo) = (
        stage.register("Ada").await?,
        stage.register("Ben").await?,
        stage.register("Cleo").await?,
    );
    let room = stage
        .acting(&ada)
        .rooms()
        .create(NewRoom::titled(ada.id, "Rehearsal"))
        .await?
        .id;
    stage.introduce(room, "the rehearsal");

    print("1. Two media servers register; a seat names the one that serves it");
    let (berlin, oslo) = (
        system.nodes().register("sfu-berlin").await?,
        system.nodes().register("sfu-oslo").await?,
    );
    for node in [&berlin, &oslo] {
        stage.introduce(node.id, &node.name);
    }
    for (user, node) in [(&ada, &oslo), (&ben, &berlin), (&cleo, &berlin)] {
        stage
            .acting(user)
            .participants()
            .join_on(room, user.id, Participant, node.id)
            .await?;
        stage.say(format_args!("{} joins by {}", stage.name(user.id), node.name));
    }

    print("2. One falls silent");
    stage.pass(1);
    system.nodes().beat(oslo.id).await?;
    sweep(&stage, &system).await?;
    let late = stage
        .acting(&ben)
        .participants()
        .join_on(room, ben.id, Participant, berlin.id)
        .await;
    stage.say(format_args!("Ben tries again by it: {}", stage.refusal(late)?));
    stage
        .acting(&ben)
        .participants()
        .join_on(room, ben.id, Participant, oslo.id)
        .await?;
    stage.say("and comes back by sfu-oslo");

    print("3. It was only cut off, and hears what it lost");
    let mut again = None;
    if let Heartbeat::Lost { .. } = system.nodes().beat(berlin.id).await? {
        let page = PageRequest::first(100, Order::OldestFirst)?;
        for seat in system.nodes().lost_seats(berlin.id, &page).await?.items {
            stage.say(format_args!("sfu-berlin disconnects {}", stage.name(seat.user)));
        }
        let node = system.nodes().register("sfu-berlin").await?;
        stage.introduce(node.id, &node.name);
        stage.say(format_args!("{} is in service again, as another node", node.name));
        again = Some(node.id);
    }

    print("4. sfu-oslo says who is there: Ada's browser has crashed, and Cleo has come without a seat");
    let as_of = stage.now();
    let found = system.participants().reconcile(room, &[ben.id, cleo.id], as_of).await?;
    for seat in &found.closed {
        stage.say(format_args!("the seat of {} is closed", stage.name(seat.user)));
    }
    for user in &found.missing {
        stage.say(format_args!("{} is seated", stage.name(user)));
        system.participants().join_on(room, *user, Participant, oslo.id).await?;
    }

    print("5. It stops for an update, nobody comes back, and the room is ended");
    stage.pass(1);
    if let Some(node) = again {
        system.nodes().beat(node).await?;
    }
    system.nodes().retire(oslo.id).await?;
    sweep(&stage, &system).await?;
    stage.pass(6);
    for ended in system.rooms().sweep_empty(500).await? {
        if ended.room == room {
            stage.say("the rehearsal was empty for more than five minutes, and ends");
        }
    }
    if stage.store.rooms().get(room).await?.status != RoomStatus::Ended {
        return Err(Sentence::new("the room was expected to end"));
    }
    print(stage.audit_log(room).await?);
    stage.close().await?;
    Ok(())
}
