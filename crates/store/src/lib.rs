//! The data layer of a conferencing platform: users, rooms, participants, recordings and the audit trail.

pub mod actor;
pub mod audit;
pub mod authority;
mod backend;
pub mod clock;
pub mod connect;
pub mod constraint;
pub mod error;
mod input;
mod operation;
pub mod page;
pub mod participants;
pub mod rooms;
pub mod scope;
mod store;
pub mod unit;
pub mod users;

#[cfg(not(any(feature = "postgres", feature = "sqlite")))]
compile_error!("enable at least one of the features `postgres` and `sqlite`");

pub use entity;

pub use actor::Actor;
pub use audit::{AuditEntry, AuditEvent, Change, MediaKind, Observation};
pub use connect::ConnectSettings;
pub use error::{Conflict, Error, Invalid, Rejected, Result, Rule, Subject};
pub use page::{Cursor, Order, Page, PageRequest};
pub use rooms::NewRoom;
pub use store::{REQUIRED_MIGRATION, RetryPolicy, Store, StoreSettings};
pub use unit::{Acting, Unit};
pub use users::NewUser;

macro_rules! repositories_of {
    ($($source:ty),+) => {$(
        impl $source {
            /// Who exists.
            pub fn users(&self) -> users::Users<'_, Self> {
                users::Users::new(self)
            }

            /// Meetings.
            pub fn rooms(&self) -> rooms::Rooms<'_, Self> {
                rooms::Rooms::new(self)
            }

            /// Who is in them.
            pub fn participants(&self) -> participants::Participants<'_, Self> {
                participants::Participants::new(self)
            }

            /// What happened.
            pub fn audit(&self) -> audit::Audit<'_, Self> {
                audit::Audit::new(self)
            }
        }
    )+};
}

repositories_of!(Store, Acting, Unit);
