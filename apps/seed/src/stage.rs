//! What an organisation's play goes by: its store, its clock, who has which id, who is where.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use conferencing_store::audit::writer::Appending;
use conferencing_store::clock::{Clock, ManualClock};
use conferencing_store::entity::{
    AuthProviderId, MediaNodeId, ParticipantId, ParticipantRole, RecordingId, RecordingStatus, RoomId, RoomStatus,
    Secret, UserId,
};
use conferencing_store::{Acting, Actor, AuditWriter, Error, Observation, Store, StoreSettings, WriterSettings};

use crate::Seeder;
use crate::error::SeedError;
use crate::ids::SeededIds;
use crate::meeting::Outline;
use crate::people::{Organisation, Person};
use crate::random::{self, Chance};
use crate::settings::SeedSettings;
use crate::step::{Agenda, Tape, Which, Who};

/// Somebody who has registered.
#[derive(Clone, Copy)]
pub(crate) struct Account {
    pub(crate) id: UserId,
    pub(crate) provider: AuthProviderId,
}

/// A meeting whose room is there.
pub(crate) struct Meeting {
    pub(crate) outline: Outline,
    pub(crate) owner: Who,
    pub(crate) room: Option<RoomId>,
    pub(crate) status: RoomStatus,
    pub(crate) host: Option<Who>,
    pub(crate) present: BTreeMap<Who, (ParticipantId, ParticipantRole)>,
    /// Until when; none is for good.
    pub(crate) banned: BTreeMap<Who, Option<DateTime<Utc>>>,
}

impl Meeting {
    pub(crate) fn of(outline: Outline) -> Self {
        Self {
            owner: outline.owner,
            outline,
            room: None,
            status: RoomStatus::Created,
            host: None,
            present: BTreeMap::new(),
            banned: BTreeMap::new(),
        }
    }

    /// Puts somebody out.
    pub(crate) fn out(&mut self, who: Who) {
        self.present.remove(&who);
        if self.host == Some(who) {
            self.host = None;
        }
    }
}

/// A recording that has begun.
#[derive(Clone, Copy)]
pub(crate) struct Taped {
    pub(crate) id: RecordingId,
    pub(crate) which: Which,
    pub(crate) status: RecordingStatus,
}

/// An organisation at play.
pub(crate) struct Stage {
    pub(crate) number: u32,
    pub(crate) name: String,
    pub(crate) tag: String,
    pub(crate) people: Vec<Person>,
    pub(crate) accounts: Vec<Option<Account>>,
    pub(crate) meetings: HashMap<Which, Meeting>,
    pub(crate) tapes: HashMap<Tape, Taped>,
    pub(crate) nodes: Vec<MediaNodeId>,
    pub(crate) agenda: Agenda,
    pub(crate) chance: Chance,
    pub(crate) password_hash: Secret,
    pub(crate) store: Store,
    /// How many events it has appended.
    pub(crate) events: u64,
    clock: Arc<ManualClock>,
    writer: AuditWriter,
    written: VecDeque<Appending>,
    tell: Arc<dyn Fn(u64) + Send + Sync>,
}

/// How many media events of one organisation may be on their way.
const ON_THEIR_WAY: usize = 4_000;

impl Stage {
    pub(crate) async fn open(
        seeder: &Seeder,
        settings: &SeedSettings,
        organisation: Organisation,
    ) -> Result<Self, SeedError> {
        let (store, clock) = seeder.store_at(settings.since(), organisation.number).await?;
        // SQLite has one writer, and PostgreSQL enough of them by the other organisations.
        let writer = store.audit_writer(WriterSettings {
            lanes: 1,
            ..WriterSettings::default()
        })?;
        let number = organisation.number;
        Ok(Self {
            number,
            name: organisation.name,
            tag: if settings.append {
                format!("-{}", settings.seed)
            } else {
                String::new()
            },
            accounts: vec![None; organisation.people.len()],
            people: organisation.people,
            meetings: HashMap::new(),
            tapes: HashMap::new(),
            nodes: Vec::new(),
            agenda: Agenda::default(),
            chance: Chance::new(settings.seed, &[random::MEETINGS, number.into()]),
            password_hash: settings.password_hash.clone(),
            store,
            events: 0,
            clock,
            writer,
            written: VecDeque::new(),
            tell: Arc::clone(&seeder.tell),
        })
    }

    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// Moves the clock; it never goes back.
    pub(crate) fn set(&self, at: DateTime<Utc>) {
        let now = self.clock.now();
        if at > now {
            self.clock.advance(at - now);
        }
    }

    /// A meeting, while it is live.
    pub(crate) fn live(&self, which: Which) -> Option<&Meeting> {
        let meeting = self.meetings.get(&which);
        meeting.filter(|meeting| meeting.status == RoomStatus::Live)
    }

    /// Notes that so many events were appended.
    pub(crate) fn count(&mut self, events: u64) {
        self.events += events;
        (self.tell)(events);
    }

    /// Somebody as the actor of a request; none before they register.
    pub(crate) fn actor(&self, who: Who) -> Option<Actor> {
        let account = self.accounts[who]?;
        Some(self.asking(Actor::user(account.id), who))
    }

    /// As it comes from somebody's machine.
    pub(crate) fn asking(&self, actor: Actor, who: Who) -> Actor {
        let person = &self.people[who];
        actor.from_address(person.address).with_user_agent(person.user_agent)
    }

    pub(crate) fn by(&self, actor: &Actor) -> Acting {
        self.store.acting(actor)
    }

    pub(crate) fn by_system(&self, part: &'static str) -> Acting {
        self.store.acting(&Actor::system(part))
    }

    /// Appends what a media server tells, without waiting for it.
    pub(crate) async fn observe(
        &mut self,
        actor: &Actor,
        room: Option<RoomId>,
        event: &Observation,
    ) -> Result<(), SeedError> {
        if self.written.len() >= ON_THEIR_WAY
            && let Some(oldest) = self.written.pop_front()
        {
            oldest.await?;
        }
        let appending = self.writer.try_append(actor, room, event)?;
        self.written.push_back(appending);
        self.count(1);
        Ok(())
    }

    /// Waits until all is written.
    pub(crate) async fn close(mut self) -> Result<u64, SeedError> {
        self.writer.close().await;
        for appending in self.written.drain(..) {
            appending.await?;
        }
        Ok(self.events)
    }
}

impl Seeder {
    /// A store with a clock and ids of its own, on the pool that all share.
    pub(crate) async fn store_at(&self, at: DateTime<Utc>, source: u32) -> Result<(Store, Arc<ManualClock>), Error> {
        let clock = Arc::new(ManualClock::at(at));
        let settings = StoreSettings {
            clock: clock.clone(),
            ids: Arc::new(SeededIds::new(self.settings.seed, source)),
            ..self.store_settings.clone()
        };
        Ok((Store::from_connection(self.db.clone(), settings).await?, clock))
    }
}
