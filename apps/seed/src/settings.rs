//! How large a platform is to be made, of which time, and by which seed.

use chrono::{DateTime, TimeDelta, Utc};
use conferencing_store::entity::Secret;

use crate::error::{SeedError, refused};

/// The most days that a platform may be old: its months of the audit log are made at once, and the store makes no more than 120.
pub const MAX_DAYS: u32 = 3_600;
/// The most people: their names are held in memory.
pub const MAX_USERS: u32 = 1_000_000;

/// How much is to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// As many meetings as it takes to have at least so many events in the audit log. It ends up at most 5 % above, but for the smallest.
    Events(u64),
    /// About so many meetings that were held, each with as many events as come of it: some 70.
    Rooms(u64),
}

/// What to make. The same settings make the same rows, whatever the workers do (docs/SEED.md).
#[derive(Clone, Debug)]
pub struct SeedSettings {
    /// How much.
    pub size: Size,
    /// How many people there are at the end, at least 12. None: as many as suit the size.
    pub users: Option<u32>,
    /// How many days the platform is old, 2 to [`MAX_DAYS`].
    pub days: u32,
    /// What all chance comes from.
    pub seed: u64,
    /// The present of the platform: some meetings are under way then, and nothing is later, but for plans and expiries.
    pub until: DateTime<Utc>,
    /// Add to a database that has events already. What is there is left alone: the sweeps at the end, which would find it, are left out.
    pub append: bool,
    /// How many organisations are played at once, each over a connection or two. SQLite, which has one writer, plays them one by one.
    pub workers: u16,
    /// The password's hash of everybody who has a password.
    pub password_hash: Secret,
}

/// A hash that no password fits.
pub const NO_PASSWORD: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$bm8gcGFzc3dvcmQgZml0cw$bm8gcGFzc3dvcmQgZml0cyB0aGlzIGhhc2gu";

impl SeedSettings {
    /// A platform of 90 days.
    pub fn new(size: Size, seed: u64, until: DateTime<Utc>) -> Self {
        Self {
            size,
            users: None,
            days: 90,
            seed,
            until,
            append: false,
            workers: 8,
            password_hash: Secret::new(NO_PASSWORD),
        }
    }

    /// When the platform began.
    pub fn since(&self) -> DateTime<Utc> {
        self.until - TimeDelta::days(self.days.into())
    }

    /// How many events there will be, about.
    pub fn expected_events(&self) -> u64 {
        match self.size {
            Size::Events(events) => events,
            Size::Rooms(rooms) => rooms.saturating_mul(EVENTS_OF_A_MEETING) + u64::from(self.people()) * 3,
        }
    }

    /// How many people there will be.
    pub fn people(&self) -> u32 {
        self.users.unwrap_or_else(|| {
            let events = match self.size {
                Size::Events(events) => events,
                Size::Rooms(rooms) => rooms.saturating_mul(EVENTS_OF_A_MEETING),
            };
            u32::try_from(events / 200)
                .unwrap_or(MAX_USERS)
                .clamp(LEAST_USERS, MAX_USERS)
        })
    }

    /// In how many organisations they are. It decides what is made, so the workers have no part in it.
    pub(crate) fn organisations(&self) -> u32 {
        (self.people() / 60).clamp(2, 1_000)
    }

    pub(crate) fn checked(&self) -> Result<(), SeedError> {
        if !(2..=MAX_DAYS).contains(&self.days) {
            return Err(refused(format!("days: 2 to {MAX_DAYS}")));
        }
        if !(LEAST_USERS..=MAX_USERS).contains(&self.people()) {
            return Err(refused(format!("users: {LEAST_USERS} to {MAX_USERS}")));
        }
        if self.workers == 0 {
            return Err(refused("workers: at least 1"));
        }
        let least = u64::from(self.people()) * 4;
        match self.size {
            Size::Events(events) if events < least => Err(refused(format!(
                "events: at least {least} for {} people, who register and sign in",
                self.people()
            ))),
            _ => Ok(()),
        }
    }
}

const LEAST_USERS: u32 = 12;
/// As measured; docs/SEED.md.
const EVENTS_OF_A_MEETING: u64 = 70;
