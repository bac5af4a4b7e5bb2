//! A meeting's whole life: people register, a room is made, they come and go, one is refused, one is kicked and comes
//! back, the meeting ends; then who was there and what the audit log says.
//!
//! The clock is moved by hand, so that half an hour takes no time.

use std::process::ExitCode;

use clap::Parser;
use conferencing_store::entity::ParticipantRole::{CoHost, Host, Participant};
use conferencing_store::entity::{ParticipantRole, room, room_participant, user};
use conferencing_store::{Error, NewRoom, Observation, Order, PageRequest, Rejected};
use examples::{DatabaseArgs, Sentence, Stage, clock_time, exit, length, print, table};

/// Plays a meeting with a host, guests, a full room and a kicked guest who comes back, and tells what happened
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    database: DatabaseArgs,
}

#[tokio::main]
async fn main() -> ExitCode {
    exit("meeting", run(Arguments::parse()).await)
}

async fn run(arguments: Arguments) -> Result<(), Sentence> {
    let mut stage = Stage::open(&arguments.database).await?;
    let room = play(&mut stage).await?;
    tell(&stage, &room).await?;
    stage.close().await?;
    Ok(())
}

async fn play(stage: &mut Stage) -> Result<room::Model, Error> {
    let ada = stage.register("Ada").await?;
    let ben = stage.register("Ben").await?;
    let cleo = stage.register("Cleo").await?;
    let dora = stage.register("Dora").await?;

    let host = stage.acting(&ada);
    let new = NewRoom {
        max_participants: 3,
        ..NewRoom::titled(ada.id, "Design review")
    };
    let room = host.rooms().create(new).await?;
    let (title, code) = (&room.title, &room.room_code);
    print(format_args!("{title} opened by Ada: code {code}, 3 seats\n"));

    stage.pass(1);
    join(stage, &room, &ada, Host).await?;
    stage.pass(2);
    join(stage, &room, &ben, CoHost).await?;
    stage.pass(1);
    join(stage, &room, &cleo, Participant).await?;
    stage.pass(1);
    join(stage, &room, &dora, Participant).await?;
    stage.pass(4);
    let observed = Observation::ScreenShareStarted {};
    host.audit().append(Some(room.id), observed).await?;
    stage.say("Ada shares her screen");
    stage.pass(3);
    let reason = Some("microphone left open");
    host.participants().kick(room.id, ben.id, reason).await?;
    stage.say("Ada kicks Ben: microphone left open");
    join(stage, &room, &dora, Participant).await?;
    stage.pass(1);
    join(stage, &room, &ben, Participant).await?;
    stage.pass(6);
    stage.acting(&cleo).participants().leave(room.id, cleo.id).await?;
    stage.say("Cleo leaves");
    stage.pass(1);
    join(stage, &room, &ben, Participant).await?;
    stage.pass(9);
    let room = host.rooms().end(room.id).await?;
    stage.say("Ada ends the meeting");
    Ok(room)
}

/// A guest's sign-in method, with what a signaling service would answer.
async fn join(stage: &Stage, room: &room::Model, user: &user::Model, role: ParticipantRole) -> Result<(), Error> {
    let acting = stage.acting(user);
    let name = &user.display_name;
    match acting.participants().join(room.id, user.id, role).await {
        Ok(seat) => stage.say(format_args!("{name} joins as {:?}", seat.role)),
        Err(Error::Rejected(Rejected::RoomFull { capacity, .. })) => {
            stage.say(format_args!("{name} is refused: all {capacity} seats are taken"));
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

async fn tell(stage: &Stage, room: &room::Model) -> Result<(), Error> {
    let page = PageRequest::first(100, Order::OldestFirst)?;
    let participations = stage.store.participants().list_history(room.id, &page).await?;
    let rows = participations.items.iter().map(|participation| {
        let kept = &participation.participant;
        vec![
            participation.user.display_name.clone(),
            format!("{:?}", kept.role),
            clock_time(kept.joined_at),
            kept.left_at.map(clock_time).unwrap_or_default(),
            length(kept.duration_seconds.unwrap_or(0)),
            how_it_ended(stage, kept),
        ]
    });
    print("\nWho was in");
    print(table(&["Who", "As", "From", "To", "For", "Ended by"], rows));
    print(format_args!(
        "{} lasted {}; at most {} were in at once, {} joins in all.",
        room.title,
        length(room.duration_seconds.unwrap_or(0)),
        room.peak_participants,
        room.total_joins
    ));
    print("\nAudit audit_log");
    print(stage.audit_log(room.id).await?);
    Ok(())
}

fn how_it_ended(stage: &Stage, participation: &room_participant::Model) -> String {
    if !participation.is_kicked {
        return String::new();
    }
    let by = participation
        .kicked_by
        .map_or("the system".to_owned(), |id| stage.name(id));
    format!(
        "kick by {by}: {}",
        participation.kick_reason.as_deref().unwrap_or("no reason given")
    )
}
