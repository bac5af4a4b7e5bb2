//! Who may do what to whom in a meeting? The table; then a kick, bans for a while and for good, roles up and down, the host
//! role handed over, and what is refused; then what the audit log kept of it, refused attempts included.
//!
//! The clock is moved by hand: that is how the ban runs out.

use std::process::ExitCode;

use chrono::TimeDelta;
use clap::Parser;
use conferencing_store::authority::{ActorRole, Operation, may};
use conferencing_store::entity::ParticipantRole::{CoHost, Host, Participant};
use conferencing_store::entity::{ParticipantRole, RoomId, user};
use conferencing_store::{Error, NewRoom, Order, PageRequest, Rejected};
use examples::{DatabaseArgs, Sentence, Stage, clock_time, exit, print, table};

/// Shows who may do what in a room, and plays it: kicks, bans, roles, a hand-over, and attempts that are refused
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    database: DatabaseArgs,
}

#[tokio::main]
async fn main() -> ExitCode {
    exit("moderation", run(Arguments::parse()).await)
}

async fn run(arguments: Arguments) -> Result<(), Sentence> {
    print_authority();
    let mut stage = Stage::open(&arguments.database).await?;
    let ada = stage.register("Ada").await?;
    let ben = stage.register("Ben").await?;
    let cleo = stage.register("Cleo").await?;
    let dora = stage.register("Dora").await?;
    let eve = stage.register("Eve").await?;

    let room = stage
        .acting(&ada)
        .rooms()
        .create(NewRoom::titled(ada.id, "Open mic"))
        .await?;
    stage.introduce(room.id, &room.title);
    let cast = Cast {
        stage,
        room: room.id,
        ada,
        ben,
        cleo,
        dora,
        eve,
    };
    print("\nOpen mic");
    cast.gather().await?;
    cast.kick().await?;
    cast.change_roles().await?;
    cast.ban().await?;
    cast.hand_over().await?;
    cast.print_present().await?;
    print("\nAudit audit_log");
    print(cast.stage.audit_log(cast.room).await?);
    cast.stage.close().await?;
    Ok(())
}

/// The same function that the store asks: what a user interface may show as a button.
fn print_authority() {
    let asked = [
        ("change, delete, transfer the room", Operation::ManageRoom, None),
        ("end the meeting", Operation::EndRoom, None),
        ("change a role", Operation::ChangeRole, Some(Participant)),
        ("hand the host role over", Operation::HandOver, Some(Participant)),
        ("kick a participant", Operation::Kick, Some(Participant)),
        ("kick a co-host", Operation::Kick, Some(CoHost)),
        ("kick the host", Operation::Kick, Some(Host)),
        ("ban somebody absent", Operation::Ban, None),
        ("ban a participant", Operation::Ban, Some(Participant)),
        ("ban a co-host", Operation::Ban, Some(CoHost)),
        ("lift a ban", Operation::Unban, None),
        ("record", Operation::Record, None),
    ];
    let standings = [
        ActorRole::System,
        ActorRole::Owner,
        ActorRole::Host,
        ActorRole::CoHost,
        ActorRole::Participant,
        ActorRole::Outsider,
    ];
    let rows = asked.map(|(what, operation, target)| {
        let allowed = standings.map(|actor_role| if may(operation, actor_role, target) { "yes" } else { "" });
        std::iter::once(what).chain(allowed).map(str::to_owned).collect()
    });
    print("Who may do what");
    let heading = ["", "system", "owner", "host", "co-host", "participant", "others"];
    print(table(&heading, rows));
}

struct Cast {
    stage: Stage,
    room: RoomId,
    ada: user::Model,
    ben: user::Model,
    cleo: user::Model,
    dora: user::Model,
    eve: user::Model,
}

impl Cast {
    async fn join(&self, user: &user::Model, role: ParticipantRole) -> Result<(), Error> {
        let acting = self.stage.acting(user);
        let seat = acting.participants().join(self.room, user.id, role).await?;
        self.stage
            .say(format_args!("{} joins as {:?}", user.display_name, seat.role));
        Ok(())
    }

    async fn gather(&self) -> Result<(), Error> {
        self.join(&self.ada, Host).await?;
        self.stage.pass(1);
        self.join(&self.ben, CoHost).await?;
        self.join(&self.cleo, Participant).await?;
        self.join(&self.dora, Participant).await
    }

    async fn kick(&self) -> Result<(), Sentence> {
        let Self { stage, room, .. } = self;
        stage.pass(2);
        let by_ben = stage.acting(&self.ben);
        let reason = Some("drum solo");
        by_ben.participants().kick(*room, self.cleo.id, reason).await?;
        stage.say("Ben, a co-host, kicks Cleo: drum solo");
        let by_dora = stage.acting(&self.dora);
        let refusal = stage.refusal(by_dora.participants().kick(*room, self.ben.id, None).await)?;
        stage.say(format_args!("Dora kicks Ben for that: {refusal}"));
        stage.pass(1);
        self.join(&self.cleo, Participant).await?;
        Ok(())
    }

    async fn change_roles(&self) -> Result<(), Sentence> {
        let Self { stage, room, .. } = self;
        stage.pass(3);
        let (by_ada, by_ben) = (stage.acting(&self.ada), stage.acting(&self.ben));
        let refusal = stage.refusal(by_ben.participants().promote(*room, self.cleo.id).await)?;
        stage.say(format_args!("Ben promotes Cleo: {refusal}"));
        by_ada.participants().promote(*room, self.cleo.id).await?;
        stage.say("Ada promotes Cleo");
        let refusal = stage.refusal(by_ada.participants().promote(*room, self.cleo.id).await)?;
        stage.say(format_args!("Once more: {refusal}"));
        let refusal = stage.refusal(by_ben.participants().kick(*room, self.cleo.id, None).await)?;
        stage.say(format_args!("Ben kicks Cleo, who is a co-host now: {refusal}"));
        stage.pass(1);
        by_ada.participants().demote(*room, self.cleo.id).await?;
        stage.say("Ada demotes Cleo");
        Ok(())
    }

    async fn ban(&self) -> Result<(), Sentence> {
        let Self { stage, room, .. } = self;
        stage.pass(2);
        let (by_ada, by_ben) = (stage.acting(&self.ada), stage.acting(&self.ben));
        let until = stage.now() + TimeDelta::minutes(15);
        let reason = Some("advertising");
        let ban = by_ben
            .participants()
            .ban(*room, self.dora.id, reason, Some(until))
            .await?;
        stage.say(format_args!(
            "Ben bans Dora until {}: advertising; she {}",
            clock_time(until),
            what_it_did(ban.was_present)
        ));
        let ban = by_ada
            .participants()
            .ban(*room, self.eve.id, Some("known from last time"), None)
            .await?;
        stage.say(format_args!(
            "Ada bans Eve for good; she {}",
            what_it_did(ban.was_present)
        ));
        self.print_bans().await?;

        stage.pass(5);
        let by_dora = stage.acting(&self.dora);
        match by_dora.participants().join(*room, self.dora.id, Participant).await {
            Err(Error::Rejected(Rejected::Banned { until: Some(until), .. })) => {
                stage.say(format_args!("Dora joins: banned until {}", clock_time(until)));
            }
            Err(error) => return Err(error.into()),
            Ok(_) => return Err(Sentence::new("somebody came in who is banned")),
        }
        stage.pass(10);
        stage.say("Dora's ban has run out");
        self.print_bans().await?;
        self.join(&self.dora, Participant).await?;

        stage.pass(1);
        by_ada.participants().unban(*room, self.eve.id).await?;
        stage.say("Ada lifts Eve's ban");
        let refusal = stage.refusal(by_ada.participants().unban(*room, self.eve.id).await)?;
        stage.say(format_args!("Once more: {refusal}"));
        self.join(&self.eve, Participant).await?;
        Ok(())
    }

    async fn print_bans(&self) -> Result<(), Error> {
        let page = PageRequest::first(50, Order::OldestFirst)?;
        let bans = self.stage.store.participants().list_bans(self.room, &page).await?;
        let rows = bans.items.iter().map(|ban| {
            let kept = &ban.participant;
            vec![
                ban.user.display_name.clone(),
                kept.banned_at.map(clock_time).unwrap_or_default(),
                kept.ban_expires_at.map_or("for good".to_owned(), clock_time),
                kept.banned_by.map(|id| self.stage.name(id)).unwrap_or_default(),
                kept.ban_reason.clone().unwrap_or_default(),
            ]
        });
        print(table(&["Banned", "Since", "Until", "By", "Reason"], rows));
        Ok(())
    }

    async fn hand_over(&self) -> Result<(), Sentence> {
        let Self { stage, room, .. } = self;
        stage.pass(5);
        let (by_ada, by_ben) = (stage.acting(&self.ada), stage.acting(&self.ben));
        by_ada.participants().hand_over_host(*room, self.ben.id).await?;
        stage.say("Ada hands the host role to Ben");
        let refusal = stage.refusal(by_ben.participants().kick(*room, self.ada.id, None).await)?;
        stage.say(format_args!("Ben kicks Ada, who still owns the room: {refusal}"));
        by_ada.participants().leave(*room, self.ada.id).await?;
        stage.say("Ada leaves");
        stage.pass(1);
        // The owner, but there is a host.
        self.join(&self.ada, Host).await?;
        Ok(())
    }

    async fn print_present(&self) -> Result<(), Error> {
        let page = PageRequest::first(50, Order::OldestFirst)?;
        let present = self.stage.store.participants().list_present(self.room, &page).await?;
        let rows = present.items.iter().map(|seat| {
            vec![
                seat.user.display_name.clone(),
                format!("{:?}", seat.participant.role),
                clock_time(seat.participant.joined_at),
            ]
        });
        print("\nWho is in");
        print(table(&["Who", "As", "Since"], rows));
        Ok(())
    }
}

fn what_it_did(was_present: bool) -> &'static str {
    if was_present { "was put out" } else { "was not there" }
}
