//! How much was a room used, and how much did somebody take part? Sums over several meetings, made by the database: different
//! people, participations, time, peak, kicks. They also hold while a meeting runs, and the ban of somebody who never came is no participation.

use std::process::ExitCode;

use clap::Parser;
use conferencing_store::entity::{ParticipantRole, room, user};
use conferencing_store::{Error, NewRoom};
use examples::{DatabaseArgs, Sentence, Stage, exit, length, print, table};

/// Plays three meetings by a script and prints the sums of each room and each user, while they run and afterwards
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    database: DatabaseArgs,
}

#[tokio::main]
async fn main() -> ExitCode {
    exit("statistics", run(Arguments::parse()).await)
}

/// What happens next.
enum Step {
    Wait(i64),
    Join(usize),
    Leave(usize),
    Kick(usize),
    Ban(usize),
}

use Step::{Ban, Join, Kick, Leave, Wait};

const PEOPLE: [&str; 4] = ["Ada", "Ben", "Cleo", "Dora"];
const ADA: usize = 0;
const BEN: usize = 1;
const CLEO: usize = 2;
const DORA: usize = 3;

/// Ada's meetings. The last one goes on.
const MEETINGS: [(&str, &[Step]); 3] = [
    ("Stand-up", &[Join(ADA), Join(BEN), Wait(1), Join(CLEO), Wait(14)]),
    (
        "Design review",
        &[
            Join(ADA),
            Join(BEN),
            Wait(20),
            Leave(BEN),
            Wait(5),
            Join(BEN),
            Join(CLEO),
            Wait(10),
            Kick(CLEO),
            Wait(5),
            Join(CLEO),
            Wait(20),
        ],
    ),
    ("Board meeting", &[Join(ADA), Ban(DORA), Wait(10), Join(BEN), Wait(20)]),
];

async fn run(arguments: Arguments) -> Result<(), Sentence> {
    let mut stage = Stage::open(&arguments.database).await?;
    let health = stage.store.health().await?;
    print(format_args!(
        "{} answers; its schema is that of {}",
        health.database, health.migration
    ));
    let mut people = Vec::new();
    for name in PEOPLE {
        people.push(stage.register(name).await?);
    }
    let ada = stage.acting(&people[ADA]);
    let mut rooms = Vec::new();
    for (title, script) in MEETINGS {
        if let Some(before) = rooms.last() {
            end(&stage, &people[ADA], before).await?;
            stage.pass(30);
        }
        let room = ada.rooms().create(NewRoom::titled(people[ADA].id, title)).await?;
        stage.say(format_args!("{title} begins"));
        for step in script {
            play(&stage, &room, &people, step).await?;
        }
        rooms.push(room);
    }
    stage.say("Board meeting is still running");
    print_sums(&stage, &rooms, &people).await?;

    print("");
    stage.pass(30);
    if let Some(room) = rooms.last() {
        end(&stage, &people[ADA], room).await?;
    }
    print_sums(&stage, &rooms, &people).await?;
    stage.close().await?;
    Ok(())
}

async fn play(stage: &Stage, room: &room::Model, people: &[user::Model], step: &Step) -> Result<(), Error> {
    let host = stage.acting(&people[ADA]);
    let (room, role) = (room.id, ParticipantRole::Participant);
    match *step {
        Wait(minutes) => stage.pass(minutes),
        Join(who) => {
            let user = &people[who];
            stage.acting(user).participants().join(room, user.id, role).await?;
        }
        Leave(who) => {
            let user = &people[who];
            stage.acting(user).participants().leave(room, user.id).await?;
        }
        Kick(who) => {
            host.participants().kick(room, people[who].id, None).await?;
        }
        Ban(who) => {
            host.participants().ban(room, people[who].id, None, None).await?;
        }
    }
    Ok(())
}

async fn end(stage: &Stage, owner: &user::Model, room: &room::Model) -> Result<(), Error> {
    let ended = stage.acting(owner).rooms().end(room.id).await?;
    let lasted = length(ended.duration_seconds.unwrap_or(0));
    stage.say(format_args!("{} ends after {lasted}", ended.title));
    Ok(())
}

async fn print_sums(stage: &Stage, rooms: &[room::Model], people: &[user::Model]) -> Result<(), Error> {
    let mut rows = Vec::new();
    for room in rooms {
        let sums = stage.store.statistics().of_room(room.id).await?;
        rows.push(vec![
            room.title.clone(),
            sums.distinct_participants.to_string(),
            sums.participations.to_string(),
            length(sums.total_participation.num_seconds()),
            sums.peak_participants.to_string(),
            sums.kicks.to_string(),
        ]);
    }
    print("\nRooms");
    let heading = ["Room", "People", "Participations", "Time of all", "At once", "Put out"];
    print(table(&heading, rows));

    let mut rows = Vec::new();
    for user in people {
        let sums = stage.store.statistics().of_user(user.id).await?;
        rows.push(vec![
            user.display_name.clone(),
            sums.distinct_rooms.to_string(),
            sums.participations.to_string(),
            length(sums.total_participation.num_seconds()),
            sums.kicks.to_string(),
            sums.rooms_owned.to_string(),
        ]);
    }
    print("People");
    let heading = ["Who", "Rooms", "Participations", "Time", "Put out", "Rooms owned"];
    print(table(&heading, rows));
    Ok(())
}
