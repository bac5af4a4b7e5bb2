//! A meeting's whole life: people register, a room is made, they come and go, one is refused, one is kicked and comes
//! back, the meeting ends; then who was there and what the audit trail says.
//!
//! The clock is moved by hand, so that half an hour takes no time.

use std::collections::HashMap;
use std::net::IpAddr;
use std::process::ExitCode;
use std::sync::Arc;

use chrono::TimeDelta;
use clap::Parser;
use examples::{DatabaseArgs, Sentence, clock_time, exit, length, table};
use store::clock::{Clock, Ids, ManualClock, RandomIds, SystemClock};
use store::entity::ParticipantRole::{CoHost, Host, Participant};
use store::entity::{ParticipantRole, Secret, UserId, room, room_participant, user};
use store::{
    Actor, AuditEvent, Change, Error, NewRoom, NewUser, Observation, Order, PageRequest, Rejected, Store, StoreSettings,
};

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
    let clock = Arc::new(ManualClock::at(SystemClock.now() - TimeDelta::minutes(40)));
    let settings = StoreSettings {
        clock: clock.clone(),
        ..StoreSettings::default()
    };
    let store = arguments.database.open(settings).await?;
    let stage = Stage { store, clock };
    let (room, people) = stage.play().await?;
    stage.tell(&room, &people).await?;
    stage.store.close().await?;
    Ok(())
}

struct Stage {
    store: Store,
    clock: Arc<ManualClock>,
}

type People = HashMap<UserId, String>;

impl Stage {
    async fn play(&self) -> Result<(room::Model, People), Sentence> {
        // Names are unique for ever, so each run has its own.
        let tag = RandomIds::default().room_code().to_lowercase();
        let ada = self.register("Ada", &tag).await?;
        let ben = self.register("Ben", &tag).await?;
        let cleo = self.register("Cleo", &tag).await?;
        let dora = self.register("Dora", &tag).await?;

        let host = actor(&ada, "203.0.113.7");
        let new = NewRoom {
            max_participants: 3,
            ..NewRoom::titled(ada.id, "Design review")
        };
        let room = self.store.acting(&host).rooms().create(new).await?;
        println!("{} opened by Ada: code {}, 3 seats\n", room.title, room.room_code);

        self.pass(1);
        self.join(&room, &ada, Host).await?;
        self.pass(2);
        self.join(&room, &ben, CoHost).await?;
        self.pass(1);
        self.join(&room, &cleo, Participant).await?;
        self.pass(1);
        self.join(&room, &dora, Participant).await?;
        self.pass(4);
        let observed = Observation::ScreenShareStarted {};
        self.store.acting(&host).audit().append(Some(room.id), observed).await?;
        self.say("Ada shares her screen");
        self.pass(3);
        let reason = Some("microphone left open");
        self.store
            .acting(&host)
            .participants()
            .kick(room.id, ben.id, reason)
            .await?;
        self.say("Ada kicks Ben: microphone left open");
        self.join(&room, &dora, Participant).await?;
        self.pass(1);
        self.join(&room, &ben, Participant).await?;
        self.pass(6);
        self.store
            .acting(&actor(&cleo, "198.51.100.4"))
            .participants()
            .leave(room.id, cleo.id)
            .await?;
        self.say("Cleo leaves");
        self.pass(1);
        self.join(&room, &ben, Participant).await?;
        self.pass(9);
        let room = self.store.acting(&host).rooms().end(room.id).await?;
        self.say("Ada ends the meeting");

        let people = [&ada, &ben, &cleo, &dora];
        let people = people.map(|user| (user.id, user.display_name.clone()));
        Ok((room, people.into_iter().collect()))
    }

    async fn register(&self, name: &str, tag: &str) -> Result<user::Model, Error> {
        let new = NewUser {
            username: &format!("{}-{tag}", name.to_lowercase()),
            email: Some(&format!("{}.{tag}@example.org", name.to_lowercase())),
            display_name: name,
            // A service hashes the password; the store takes the hash only.
            password_hash: Secret::new("$argon2id$v=19$m=19456,t=2,p=1$ZXhhbXBsZXNhbHQ$bm90IGEgcmVhbCBoYXNo"),
        };
        self.store.acting(&Actor::anonymous()).users().register(new).await
    }

    /// A guest's way in, with what a signaling service would answer.
    async fn join(&self, room: &room::Model, user: &user::Model, role: ParticipantRole) -> Result<(), Error> {
        let acting = self.store.acting(&actor(user, "198.51.100.23"));
        let name = &user.display_name;
        match acting.participants().join(room.id, user.id, role).await {
            Ok(seat) => self.say(&format!("{name} joins as {:?}", seat.role)),
            Err(Error::Rejected(Rejected::RoomFull { capacity, .. })) => {
                self.say(&format!("{name} is refused: all {capacity} seats are taken"));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn pass(&self, minutes: i64) {
        self.clock.advance(TimeDelta::minutes(minutes));
    }

    fn say(&self, what: &str) {
        println!("{}  {what}", clock_time(self.clock.now()));
    }

    async fn tell(&self, room: &room::Model, people: &People) -> Result<(), Error> {
        let page = PageRequest::first(100, Order::OldestFirst)?;
        let stays = self.store.participants().list_stays(room.id, &page).await?;
        let rows = stays.items.iter().map(|stay| {
            let kept = &stay.participant;
            vec![
                stay.user.display_name.clone(),
                format!("{:?}", kept.role),
                clock_time(kept.joined_at),
                kept.left_at.map(clock_time).unwrap_or_default(),
                length(kept.duration_seconds.unwrap_or(0)),
                how_it_ended(kept, people),
            ]
        });
        println!("\nWho was in");
        println!("{}", table(&["Who", "As", "From", "To", "For", "Ended by"], rows));
        println!(
            "{} lasted {}; at most {} were in at once, {} joins in all.",
            room.title,
            length(room.duration_seconds.unwrap_or(0)),
            room.peak_participants,
            room.total_joins
        );

        let trail = self.store.audit().trail_of_room(room.id, &page).await?;
        let rows = trail.items.iter().map(|entry| {
            let by = entry.actor.and_then(|id| people.get(&id).cloned());
            vec![
                clock_time(entry.at),
                by.unwrap_or_default(),
                entry.event.action(),
                details(&entry.event, people),
                entry.address.map(|address| address.to_string()).unwrap_or_default(),
            ]
        });
        println!("\nAudit trail");
        println!("{}", table(&["When", "By", "Action", "Details", "From"], rows));
        Ok(())
    }
}

fn actor(user: &user::Model, address: &str) -> Actor {
    let actor = Actor::user(user.id).with_user_agent("meeting-example/1.0");
    match address.parse::<IpAddr>() {
        Ok(address) => actor.from_address(address),
        Err(_) => actor,
    }
}

fn how_it_ended(stay: &room_participant::Model, people: &People) -> String {
    if !stay.is_kicked {
        return String::new();
    }
    let by = stay
        .kicked_by
        .and_then(|id| people.get(&id))
        .map_or("the platform", String::as_str);
    format!(
        "kick by {by}: {}",
        stay.kick_reason.as_deref().unwrap_or("no reason given")
    )
}

fn details(event: &AuditEvent, people: &People) -> String {
    let name = |id: &UserId| people.get(id).cloned().unwrap_or_else(|| id.to_string());
    match event {
        AuditEvent::Change(Change::RoomCreated { room_code }) => format!("code {room_code}"),
        AuditEvent::Change(Change::RoomStarted { by_join: true }) => "by the first join".to_owned(),
        AuditEvent::Change(Change::UserJoined { role, .. }) => format!("as {role:?}"),
        AuditEvent::Change(Change::UserLeft { duration_seconds, .. }) => format!("after {}", length(*duration_seconds)),
        AuditEvent::Change(Change::UserKicked {
            target,
            reason,
            duration_seconds,
        }) => {
            let reason = reason.as_deref().unwrap_or("no reason given");
            format!("{} after {}: {reason}", name(target), length(*duration_seconds))
        }
        AuditEvent::Change(Change::RoomEnded {
            duration_seconds,
            closed_stays,
        }) => format!("after {}, {closed_stays} were still in", length(*duration_seconds)),
        _ => String::new(),
    }
}
