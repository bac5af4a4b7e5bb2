//! The data layer of a conferencing platform: who exists, which rooms there are, who is in them, what was recorded, and
//! what happened. PostgreSQL 14+ in production, SQLite embedded; one behaviour on both.
//!
//! # Using it
//!
//! A [`Store`] is a pool, made once and cloned freely. Reads start from it; writes name an [`Actor`], because every change
//! records who did it in the audit log.
//!
//! ```
//! # use conferencing_store::{Actor, ConnectSettings, Error, NewRoom, NewUser, Rejected, Store, StoreSettings};
//! # use conferencing_store::entity::{ParticipantRole, Secret};
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let db = conferencing_store::connect::open("sqlite::memory:", &ConnectSettings::default()).await?;
//! # conferencing_migration::migrate(&db).await?;
//! # let store = Store::from_connection(db, StoreSettings::default()).await?;
//! // let store = Store::connect("postgres://meet@db.example/meet").await?;
//! let ada = store
//!     .acting(&Actor::anonymous())
//!     .users()
//!     .register(NewUser {
//!         email: Some("ada@example.org"),
//!         ..NewUser::named("ada", "Ada Lovelace", Secret::new("$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2g"))
//!     })
//!     .await?;
//!
//! let acting = store.acting(&Actor::user(ada.id).from_address("203.0.113.7".parse()?));
//! let room = acting.rooms().create(NewRoom::titled(ada.id, "Design review")).await?;
//!
//! match acting.participants().join(room.id, ada.id, ParticipantRole::Host).await {
//!     Ok(seat) => println!("seated as {:?}", seat.role),
//!     Err(Error::Rejected(Rejected::RoomFull { capacity, .. })) => println!("all {capacity} seats are taken"),
//!     Err(error) => return Err(error.into()),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Each such call is a unit of work of its own. Several that belong together go through [`Store::transact`], which hands
//! out a [`Unit`] with the same repositories and does the whole again when the database fails for a passing reason.
//!
//! # What comes back
//!
//! Lookups (`find`, `find_by_…`) return `Option`; `get` makes of none an [`Error::NotFound`]. Lists are keyset
//! [`Page`]s. Changes return the row as they left it, or one of
//!
//! | error | meaning | what to do |
//! |---|---|---|
//! | [`Error::Invalid`] | the input breaks a rule; the database was not asked | tell the client which field and rule |
//! | [`Error::NotFound`], [`Error::Conflict`], [`Error::Rejected`] | things are not as the operation needs them | answer the client; the ids are in it |
//! | [`Error::Transient`] | did not happen, may work later ([`Error::is_retryable`]) | the store has retried; shed load or retry |
//! | [`Error::TimedOut`] | took too long, was given up and did nothing | shed load or retry, once |
//! | [`Error::QueueFull`] | an audit writer has no room now | wait with `append`, or drop the event and count it |
//! | [`Error::Indeterminate`] | the connection broke in the middle | look before trying again |
//! | the rest | a fault of set-up, schema or server | page somebody |
//!
//! A refusal inside a [`Unit`] leaves it usable; an error of the database does not.
//!
//! # The map
//!
//! | module | what is in it |
//! |---|---|
//! | [`users`], [`auth_providers`], [`rooms`], [`participants`], [`nodes`], [`recordings`], [`statistics`], [`audit`] | one repository each, named after its accessor |
//! | [`mod@unit`] | [`Acting`], [`Unit`], and what reads and writes go through |
//! | [`actor`], [`authority`] | who acts; the table of who may do what |
//! | [`scope`] | live, deleted or any rows: where every find starts |
//! | [`audit::writer`], [`audit::partitions`] | events in batches; the audit log's months |
//! | [`feed`] | what was committed, as a stream from a position |
//! | [`inbox`] | what other systems deliver, acted on once |
//! | [`error`], [`constraint`] | what can go wrong; every constraint of the schema by name |
//! | [`page`] | keyset pages and their cursors |
//! | [`erasure`], [`export`] | the right to be forgotten; data portability |
//! | [`tokens`] | providers' tokens, encrypted at rest, and their keys |
//! | [`clock`] | time, ids and room codes, which tests replace |
//! | [`connect`] | opening a database |
//! | [`health`], [`schema`], [`doctor`] | for a probe; what this build expects of the schema; what a person should know of the database |
//! | [`telemetry`] | spans and metrics |
//! | `operation`, `rules` (private) | the shape of every change; locks and guards that several share |
//! | `database` (private) | what differs between PostgreSQL and SQLite |
//! | `input` (private) | rules that input keeps before the database is asked |
//!
//! # Adding to it
//!
//! docs/EXTENDING.md: a read, a change, a column, a table, each with the files it touches.

pub mod actor;
pub mod audit;
pub mod auth_providers;
pub mod authority;
pub mod clock;
mod database;
mod event;
pub use database::connect;
pub mod constraint;
mod context;
pub mod doctor;
pub mod erasure;
pub mod error;
pub mod export;
pub mod feed;
pub mod health;
pub mod inbox;
mod input;
pub mod nodes;
mod notice;
mod operation;
pub mod page;
pub mod participants;
mod person;
mod read;
pub mod recordings;
mod replica_reads;
pub mod rooms;
mod row;
mod rules;
pub mod schema;
pub mod scope;
mod settings;
#[doc(hidden)]
pub mod statements;
pub mod statistics;
mod store;
pub mod telemetry;
pub mod tokens;
pub mod unit;
pub mod users;

#[cfg(not(any(feature = "postgres", feature = "sqlite")))]
compile_error!("enable at least one of the features `postgres` and `sqlite`");

pub use entity;

pub use actor::Actor;
pub use audit::partitions::{ArchivedPartition, AuditPartition, AuditPartitions, EnsuredPartitions, PartitionState};
pub use audit::writer::{AuditWriter, WriterSettings, WriterStats};
pub use audit::{
    AuditEntry, AuditEvent, AuditExport, AuditFilter, Change, EgressPhase, ExportedEvent, LeaveReason, MediaKind,
    NamedEntry, NodeLossReason, Observation,
};
pub use auth_providers::{ProviderAccount, ProviderTokens, Reencrypted};
pub use connect::{ConnectSettings, TlsMode, TlsSettings};
pub use database::{ReplicaSettings, ReplicaState, ReplicaStatus};
pub use doctor::{Check, DoctorSettings, Finding, Report, Severity};
pub use entity::MIGRATION_TABLE;
pub use erasure::ErasureReceipt;
pub use error::REQUIRED_MIGRATION;
pub use error::{Conflict, Error, Invalid, Rejected, Result, Rule, Subject, TimeLimit};
pub use export::ExportRecord;
pub use feed::{FeedBatch, FeedEvent, FeedFilter, FeedPosition};
pub use health::Health;
pub use nodes::{Heartbeat, LostSeat, NodeSweep};
pub use page::{Cursor, Order, Page, PageRequest};
pub use participants::{BanInRoom, BanState, ClosedSeat, LeaveDetails, ParticipantInRoom, Reconciled, SeatOrBan};
pub use recordings::{EgressReport, EgressState, NewRecording, RecordingMeasures, StoredFile, SweptRecording};
pub use replica_reads::{CommitToken, ReplicaReads};
pub use rooms::{EndedRoom, NewRoom, RoomChanges, RoomFilter, Schedule};
pub use schema::{ObjectKind, SchemaDifference};
pub use settings::{Durability, EmptyRoomPolicy, FeedSettings, ModerationReasons, RetryPolicy, StoreSettings};
pub use statistics::{BusyRoom, DayOfUse};
pub use store::Store;
pub use tokens::{KeyRing, TokenKey};
pub use unit::{Acting, Unit};
pub use users::{
    EmailChange, LoginOutcome, LoginRecord, NewUser, ProfileChange, ProviderEmail, ProviderLogin, ProviderProfile,
    SignedInHow, UserSearch,
};

macro_rules! reads_of {
    ($($source:ty),+) => {$(
        impl $source {
            /// Who exists.
            pub fn users(&self) -> users::Users<'_, Self> {
                users::Users::new(self)
            }

            /// How they sign in.
            pub fn auth_providers(&self) -> auth_providers::AuthProviders<'_, Self> {
                auth_providers::AuthProviders::new(self)
            }

            /// Meetings.
            pub fn rooms(&self) -> rooms::Rooms<'_, Self> {
                rooms::Rooms::new(self)
            }

            /// Who is in them.
            pub fn participants(&self) -> participants::Participants<'_, Self> {
                participants::Participants::new(self)
            }

            /// The media servers that serve them.
            pub fn nodes(&self) -> nodes::Nodes<'_, Self> {
                nodes::Nodes::new(self)
            }

            /// Sums.
            pub fn statistics(&self) -> statistics::Statistics<'_, Self> {
                statistics::Statistics::new(self)
            }

            /// What was recorded.
            pub fn recordings(&self) -> recordings::Recordings<'_, Self> {
                recordings::Recordings::new(self)
            }

            /// What happened.
            pub fn audit(&self) -> audit::Audit<'_, Self> {
                audit::Audit::new(self)
            }
        }
    )+};
}

/// What only the primary can tell, or change.
macro_rules! deliveries_of {
    ($($source:ty),+) => {$(
        impl $source {
            /// What was committed, from a position on.
            pub fn feed(&self) -> feed::Feed<'_, Self> {
                feed::Feed::new(self)
            }

            /// What other systems deliver, acted on once.
            pub fn inbox(&self) -> inbox::Inbox<'_, Self> {
                inbox::Inbox::new(self)
            }
        }
    )+};
}

reads_of!(Store, Acting, Unit, ReplicaReads);
deliveries_of!(Store, Acting, Unit);

/// Compiles the README's example.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

/// Compiles its examples.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/REPLICATION.md")]
struct Replication;

/// Compiles its examples.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/MIGRATIONS.md")]
struct Migrations;
