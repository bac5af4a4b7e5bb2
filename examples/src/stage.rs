//! Where an example plays: a store, a clock moved by hand, and the names of who and what takes part.

use std::collections::HashMap;
use std::fmt::Display;
use std::net::IpAddr;
use std::sync::Arc;

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use conferencing_store::LeaveReason;
use conferencing_store::authority::ActorRole;
use conferencing_store::clock::{Clock, Ids, ManualClock, RandomIds, SystemClock};
use conferencing_store::entity::{RoomId, Secret, UserId, user};
use conferencing_store::{
    Acting, Actor, AuditEvent, AuditFilter, Change, Error, NewUser, Observation, Order, PageRequest, Store,
    StoreSettings,
};

use crate::{DatabaseArgs, Sentence, clock_time, length, print, table};

/// A store whose clock stands still until [`Stage::pass`] moves it. It knows what its ids are called, so that an example can
/// speak of Ada and not of `0193f2c1-…`.
pub struct Stage {
    /// The store.
    pub store: Store,
    clock: Arc<ManualClock>,
    tag: String,
    names: HashMap<String, String>,
    addresses: HashMap<UserId, IpAddr>,
}

impl Stage {
    /// Opens the database, at nine o'clock yesterday: what an example prints is the same each time, save room codes.
    ///
    /// # Errors
    /// As of [`DatabaseArgs::open`].
    pub async fn open(database: &DatabaseArgs) -> Result<Self, Sentence> {
        let midnight = SystemClock.now().duration_trunc(TimeDelta::days(1))?;
        let clock = Arc::new(ManualClock::at(midnight - TimeDelta::hours(15)));
        let settings = StoreSettings {
            clock: clock.clone(),
            ..StoreSettings::default()
        };
        Ok(Self {
            store: database.open(settings).await?,
            clock,
            // Names are unique for ever, so each run has its own.
            tag: RandomIds::default().room_code().to_lowercase(),
            names: HashMap::new(),
            addresses: HashMap::new(),
        })
    }

    /// The stage's time.
    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// The clock itself.
    pub fn clock(&self) -> &ManualClock {
        &self.clock
    }

    /// Moves the clock on.
    pub fn pass(&self, minutes: i64) {
        self.clock.advance(TimeDelta::minutes(minutes));
    }

    /// Prints what happens now.
    pub fn say(&self, what: impl Display) {
        print(format_args!("{}  {what}", clock_time(self.now())));
    }

    /// Makes a user by this name, with a network address of their own.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn register(&mut self, name: &str) -> Result<user::Model, Error> {
        let (small, tag) = (name.to_lowercase(), &self.tag);
        let new = NewUser {
            username: &format!("{small}-{tag}"),
            email: Some(&format!("{small}.{tag}@example.org")),
            display_name: name,
            // A service hashes the password; the store takes the hash only.
            password_hash: Secret::new("$argon2id$v=19$m=19456,t=2,p=1$ZXhhbXBsZXNhbHQ$bm90IGEgcmVhbCBoYXNo"),
        };
        let user = self.store.acting(&Actor::anonymous()).users().register(new).await?;
        let host = u8::try_from(self.addresses.len() + 1).unwrap_or(u8::MAX);
        self.addresses.insert(user.id, IpAddr::from([198, 51, 100, host]));
        self.introduce(user.id, name);
        Ok(user)
    }

    /// The user as the actor of a request, as a service would make it.
    pub fn actor(&self, user: &user::Model) -> Actor {
        let actor = Actor::user(user.id).with_user_agent("examples/1.0");
        match self.addresses.get(&user.id) {
            Some(address) => actor.from_address(*address),
            None => actor,
        }
    }

    /// Writes in the name of this user.
    pub fn acting(&self, user: &user::Model) -> Acting {
        self.store.acting(&self.actor(user))
    }

    /// Says what an id is to be called from now on.
    pub fn introduce(&mut self, id: impl Display, name: &str) {
        self.names.insert(id.to_string(), name.to_owned());
    }

    /// What an id is called.
    pub fn name(&self, id: impl Display) -> String {
        let id = id.to_string();
        self.names.get(&id).cloned().unwrap_or(id)
    }

    /// The refusal that was to be expected, in its own words, with names for the ids in it.
    ///
    /// # Errors
    /// When it was not refused, or failed for another reason.
    pub fn refusal<T>(&self, result: Result<T, Error>) -> Result<String, Sentence> {
        match result {
            Ok(_) => Err(Sentence::new("the store allowed what it was expected to refuse")),
            Err(error @ (Error::Invalid(_) | Error::NotFound(_) | Error::Conflict(_) | Error::Rejected(_))) => {
                let mut text = error.to_string();
                for (id, name) in &self.names {
                    text = text.replace(id, name);
                }
                Ok(text)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// What the audit log says about a room, as a table.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn audit_log(&self, room: RoomId) -> Result<String, Error> {
        let page = PageRequest::first(200, Order::OldestFirst)?;
        let audit_log = self.store.audit().list(&AuditFilter::of_room(room), &page).await?;
        let rows = audit_log.items.iter().map(|entry| {
            let by = entry.actor.map(|id| self.name(id)).or_else(|| entry.system.clone());
            vec![
                clock_time(entry.at),
                by.unwrap_or_default(),
                entry.event.action(),
                self.details(&entry.event),
                entry.address.map(|address| address.to_string()).unwrap_or_default(),
            ]
        });
        Ok(table(&["When", "By", "Action", "Details", "From"], rows))
    }

    fn details(&self, event: &AuditEvent) -> String {
        let reason = |reason: &Option<String>| reason.clone().unwrap_or_else(|| "no reason given".to_owned());
        let change = match event {
            AuditEvent::Change(change) => change,
            AuditEvent::Observation(Observation::UnauthorizedAccessAttempt {
                target,
                attempted,
                actor_role,
            }) => {
                let target = target.map(|id| format!(" of {}", self.name(id)));
                let actor_role = actor_role.map(|actor_role: ActorRole| format!(", as {actor_role}"));
                return format!(
                    "{attempted}{}{}",
                    target.unwrap_or_default(),
                    actor_role.unwrap_or_default()
                );
            }
            _ => return String::new(),
        };
        match change {
            Change::RoomCreated { room_code } => format!("code {room_code}"),
            Change::RoomStarted { by_join: true } => "by the first join".to_owned(),
            Change::RoomUpdated { fields } => fields.join(", "),
            Change::RoomOwnershipTransferred { target, .. } => format!("to {}", self.name(target)),
            Change::UserJoined { target, role, .. } => {
                let who = target.map(|id| format!("{} ", self.name(id)));
                format!("{}as {role:?}", who.unwrap_or_default())
            }
            Change::UserLeft {
                target,
                reason,
                duration_seconds,
                ..
            } => {
                let who = target.map(|id| format!("{} ", self.name(id)));
                let why = match reason {
                    LeaveReason::Left => String::new(),
                    other => format!(", {other:?}"),
                };
                format!("{}after {}{why}", who.unwrap_or_default(), length(*duration_seconds))
            }
            Change::UserKicked {
                target,
                reason: why,
                duration_seconds,
                ..
            } => format!(
                "{} after {}: {}",
                self.name(target),
                length(*duration_seconds),
                reason(why)
            ),
            Change::UserBanned {
                target,
                reason: why,
                expires_at,
                ..
            } => {
                let until = expires_at.map_or("for good".to_owned(), |at| format!("until {}", clock_time(at)));
                format!("{} {until}: {}", self.name(target), reason(why))
            }
            Change::UserUnbanned { target, expired: true } => format!("{}: it had run out", self.name(target)),
            Change::UserUnbanned { target, .. } => self.name(target),
            Change::RolePromotion { target, from, to } | Change::RoleDemotion { target, from, to } => {
                format!("{}: {from:?} to {to:?}", self.name(target))
            }
            Change::RoleChanged {
                target,
                from,
                to,
                former_host,
            } => {
                let before = former_host.map(|id| format!("; {} was before", self.name(id)));
                format!(
                    "{}: {from:?} to {to:?}{}",
                    self.name(target),
                    before.unwrap_or_default()
                )
            }
            Change::RoomEnded {
                duration_seconds,
                ended_participations,
            } => format!(
                "after {}, {ended_participations} were still in",
                length(*duration_seconds)
            ),
            _ => String::new(),
        }
    }

    /// Closes the database.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn close(self) -> Result<(), Error> {
        self.store.close().await
    }
}
