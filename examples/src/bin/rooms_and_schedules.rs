//! How does a room come about, how is it planned, and how is it found again? Create, schedule, reschedule, cancel, transfer,
//! delete and restore; what is refused on the way; then the lists and the code as people type it.

use std::process::ExitCode;

use chrono::{DateTime, TimeDelta, Utc};
use clap::Parser;
use conferencing_store::entity::{ParticipantRole, room, user};
use conferencing_store::{Error, NewRoom, Order, PageRequest, RoomChanges, RoomFilter, Schedule};
use examples::{DatabaseArgs, Sentence, Stage, exit, print, table};

/// Plans meetings, moves them, calls one off, gives one away, deletes one and takes that back; lists and finds them
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    database: DatabaseArgs,
}

#[tokio::main]
async fn main() -> ExitCode {
    exit("rooms_and_schedules", run(Arguments::parse()).await)
}

async fn run(arguments: Arguments) -> Result<(), Sentence> {
    let mut stage = Stage::open(&arguments.database).await?;
    let ada = stage.register("Ada").await?;
    let ben = stage.register("Ben").await?;
    let plan = Plan {
        morning: stage.now() - TimeDelta::hours(9),
    };
    let town_hall = plan.make(&mut stage, &ada, &ben).await?;
    plan.meet(&stage, &ada, &ben, &town_hall).await?;
    plan.remove(&mut stage, &ada).await?;
    plan.list(&stage, &ada, &ben).await?;
    // Public and running, it would stand in the next run's list.
    stage.acting(&ada).rooms().end(town_hall.id).await?;
    stage.close().await?;
    Ok(())
}

struct Plan {
    /// Midnight before the first of the days that are planned.
    morning: DateTime<Utc>,
}

impl Plan {
    fn at(&self, day: i64, hour: i64) -> DateTime<Utc> {
        self.morning + TimeDelta::days(day) + TimeDelta::hours(hour)
    }

    /// Such as `tomorrow 10:00`, so that output does not depend on the date.
    fn say(&self, at: DateTime<Utc>) -> String {
        let time = at.format("%H:%M");
        match (at - self.morning).num_days() {
            0 => format!("today {time}"),
            1 => format!("tomorrow {time}"),
            days => format!("in {days} days {time}"),
        }
    }

    fn times(&self, room: &room::Model) -> String {
        match (room.scheduled_start, room.scheduled_end) {
            (Some(start), Some(end)) => format!("{} to {}", self.say(start), end.format("%H:%M")),
            (Some(start), None) => self.say(start),
            (None, _) => "not planned".to_owned(),
        }
    }

    async fn make(&self, stage: &mut Stage, ada: &user::Model, ben: &user::Model) -> Result<room::Model, Sentence> {
        let acting = stage.acting(ada);
        let rooms = acting.rooms();

        let new = NewRoom {
            description: Some("All hands.\nQuestions beforehand to Ada."),
            scheduled_start: Some(self.at(0, 14)),
            scheduled_end: Some(self.at(0, 15)),
            max_participants: 250,
            is_public: true,
            ..NewRoom::titled(ada.id, "Town hall")
        };
        let town_hall = rooms.create(new).await?;
        stage.introduce(town_hall.id, "Town hall");
        stage.say(format_args!("Ada plans Town hall, public, {}", self.times(&town_hall)));

        let new = NewRoom {
            scheduled_start: Some(self.at(1, 10)),
            scheduled_end: Some(self.at(1, 11)),
            ..NewRoom::titled(ada.id, "Weekly planning")
        };
        let weekly = rooms.create(new).await?;
        stage.introduce(weekly.id, "Weekly planning");
        stage.say(format_args!("Ada plans Weekly planning, {}", self.times(&weekly)));

        let upside_down = NewRoom {
            scheduled_start: Some(self.at(1, 11)),
            scheduled_end: Some(self.at(1, 10)),
            ..NewRoom::titled(ada.id, "Time machine")
        };
        let refusal = stage.refusal(rooms.create(upside_down).await)?;
        stage.say(format_args!("A meeting that ends before it starts: {refusal}"));

        stage.pass(5);
        let later = RoomChanges {
            schedule: Some(Some(Schedule {
                start: self.at(3, 15),
                end: Some(self.at(3, 16)),
            })),
            ..RoomChanges::default()
        };
        let weekly = rooms.update(weekly.id, later).await?;
        stage.say(format_args!("Ada moves Weekly planning to {}", self.times(&weekly)));
        let upside_down = RoomChanges {
            schedule: Some(Some(Schedule {
                start: self.at(3, 15),
                end: Some(self.at(3, 14)),
            })),
            ..RoomChanges::default()
        };
        let refusal = stage.refusal(rooms.update(weekly.id, upside_down).await)?;
        stage.say(format_args!("Moved so that it ends before it starts: {refusal}"));

        stage.pass(5);
        let new = NewRoom {
            scheduled_start: Some(self.at(2, 9)),
            ..NewRoom::titled(ada.id, "Vendor call")
        };
        let vendor = rooms.create(new).await?;
        stage.introduce(vendor.id, "Vendor call");
        let vendor = rooms.cancel(vendor.id).await?;
        stage.say(format_args!(
            "Ada plans Vendor call and calls it off: {:?}",
            vendor.status
        ));
        let refusal = stage.refusal(rooms.start(vendor.id).await)?;
        stage.say(format_args!("Started all the same: {refusal}"));

        stage.pass(5);
        let weekly = rooms.transfer(weekly.id, ben.id).await?;
        stage.say(format_args!(
            "Ada gives Weekly planning to {}",
            stage.name(weekly.owner_id)
        ));
        let renamed = RoomChanges {
            title: Some("Ada's planning"),
            ..RoomChanges::default()
        };
        let refusal = stage.refusal(rooms.update(weekly.id, renamed).await)?;
        stage.say(format_args!("Ada renames it: {refusal}"));
        Ok(town_hall)
    }

    /// A meeting that runs can no longer be planned, and is found by its code.
    async fn meet(
        &self,
        stage: &Stage,
        ada: &user::Model,
        ben: &user::Model,
        room: &room::Model,
    ) -> Result<(), Sentence> {
        let acting = stage.acting(ada);
        stage.pass(45);
        acting.rooms().start(room.id).await?;
        stage.say("Ada starts Town hall before its time");
        let nobody_planned_it = RoomChanges {
            schedule: Some(None),
            ..RoomChanges::default()
        };
        let refusal = stage.refusal(acting.rooms().update(room.id, nobody_planned_it).await)?;
        stage.say(format_args!("Its plan withdrawn now: {refusal}"));
        acting
            .participants()
            .join(room.id, ada.id, ParticipantRole::Host)
            .await?;
        stage
            .acting(ben)
            .participants()
            .join(room.id, ben.id, ParticipantRole::Participant)
            .await?;

        let (left, right) = room.room_code.split_at(4);
        let typed = format!(" {}-{} ", left.to_lowercase(), right.to_lowercase());
        let Some(found) = stage.store.rooms().find_overview(&typed).await? else {
            return Err(Sentence::new("a room was not found by its code"));
        };
        let present: Vec<&str> = found.present.iter().map(|who| who.user.display_name.as_str()).collect();
        stage.say(format_args!(
            "{typed:?} is typed: {}, of {}; {} of {} seats taken, by {}",
            found.room.title,
            found.owner.map_or_else(String::new, |owner| owner.display_name),
            found.room.active_participants,
            found.room.max_participants,
            present.join(" and ")
        ));
        Ok(())
    }

    async fn remove(&self, stage: &mut Stage, ada: &user::Model) -> Result<(), Sentence> {
        let acting = stage.acting(ada);
        stage.pass(5);
        let scratch = acting.rooms().create(NewRoom::titled(ada.id, "Scratch")).await?;
        stage.introduce(scratch.id, "Scratch");
        acting.rooms().delete(scratch.id).await?;
        let code = &scratch.room_code;
        let found = stage.store.rooms().find_by_code(code).await?;
        let kept = stage.store.rooms().deleted().find_by_code(code).await?;
        stage.say(format_args!(
            "Ada makes Scratch and deletes it; its code leads to {}, among the deleted to {}",
            which(found.as_ref()),
            which(kept.as_ref())
        ));
        let refusal = stage.refusal(acting.rooms().start(scratch.id).await)?;
        stage.say(format_args!("Started all the same: {refusal}"));
        acting.rooms().deleted().restore(scratch.id).await?;
        let found = stage.store.rooms().find_by_code(code).await?;
        stage.say(format_args!(
            "Ada takes that back; its code leads to {}",
            which(found.as_ref())
        ));
        Ok(())
    }

    async fn list(&self, stage: &Stage, ada: &user::Model, ben: &user::Model) -> Result<(), Error> {
        let lists = [
            ("Ada's rooms", RoomFilter::OwnedBy(ada.id)),
            ("Ben's rooms", RoomFilter::OwnedBy(ben.id)),
            ("Rooms that Ben is in", RoomFilter::AttendedBy(ben.id)),
            ("Upcoming, Ben's", RoomFilter::Upcoming { owner: Some(ben.id) }),
            ("Running and public, whoever's", RoomFilter::LivePublic),
        ];
        for (title, filter) in lists {
            self.print_list(stage, title, filter).await?;
        }
        Ok(())
    }

    async fn print_list(&self, stage: &Stage, title: &str, filter: RoomFilter) -> Result<(), Error> {
        // The same filter counts and lists, so that the two cannot disagree.
        let count = stage.store.rooms().count(filter).await?;
        let page = PageRequest::first(20, Order::OldestFirst)?;
        let rooms = stage.store.rooms().list(filter, &page).await?;
        let rows = rooms.items.iter().map(|room| {
            vec![
                room.title.clone(),
                room.room_code.clone(),
                format!("{:?}", room.status),
                self.times(room),
                room.max_participants.to_string(),
            ]
        });
        print(format_args!("\n{title}: {count}"));
        print(table(&["Title", "Code", "Status", "Planned", "Seats"], rows));
        Ok(())
    }
}

fn which(found: Option<&room::Model>) -> &str {
    found.map_or("nothing", |room| room.title.as_str())
}
