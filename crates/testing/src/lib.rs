//! For the tests of services that link [`conferencing_store`]: a private, migrated database for each test; builders; a clock that is moved by hand;
//! keys that are the same in every run; faults on demand; the audit log as it is expected.
//!
//! ```
//! use conferencing_store::entity::{AuditAction, ParticipantRole};
//! use conferencing_store::{Error, Rejected};
//! use conferencing_testing::{Fault, TestStore, event};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let kit = TestStore::sqlite().await; // or sqlite_file(), postgres(), from_env(), builder()
//! let ada = kit.user("ada").await;
//! let ben = kit.user("ben").await;
//! let room = kit.room(&ada).seats(1).live().await;
//!
//! // The database fails once, for a passing reason. The store tries again, so nobody hears of it.
//! let fault = kit.faults().fail_next("participants.join", Fault::Transient);
//! let ben_acts = kit.acting_as(&ben);
//! ben_acts.participants().join(room.id, ben.id, ParticipantRole::Participant).await.unwrap();
//! assert_eq!(fault.met(), 1);
//!
//! // Exactly this has happened. What the builders did does not count.
//! kit.expect_events([event(AuditAction::UserJoined).by(&ben).in_room(&room)]).await;
//!
//! let full = kit.seat(&room, kit.user("eve").await).try_build().await;
//! assert!(matches!(full, Err(Error::Rejected(Rejected::RoomFull { .. }))));
//! # }
//! ```
//!
//! docs/TESTING_KIT.md has it by task; `examples/downstream/service/tests` is a service that is tested so.
//!
//! | | |
//! |---|---|
//! | [`TestStore`], [`Builder`] | the database and the store on it |
//! | [`mod@build`] | what is there before the test begins |
//! | [`Faults`], [`Fault`], [`Gate`] | what goes wrong, and when |
//! | [`event`], [`TestStore::expect_events`] | the audit log |
//! | [`SeededIds`], [`TestStore::advance`] | keys and time |
//! | [`on_both_backends!`] | each test on SQLite and on PostgreSQL |

pub mod build;
mod database;
mod diff;
mod error;
mod faults;
mod ids;
mod kit;
mod trail;

pub use conferencing_store;
pub use database::Backend;
pub use error::SetUpError;
pub use faults::{Fault, Faults, Gate, Outcome, Planned};
pub use ids::SeededIds;
pub use kit::{Builder, TestStore};
pub use trail::{ExpectedEvent, event};

/// Makes of each `async fn name(kit: TestStore)` two tests, `sqlite::name` and `postgres::name`, on an SQLite file and on PostgreSQL. Once a module;
/// it needs Tokio with `macros` and `rt-multi-thread`. Where all kits are made in one way of the test's own, `with` names it:
///
/// ```
/// use conferencing_testing::{Builder, TestStore, on_both_backends};
///
/// on_both_backends! {
///     with |builder: Builder| builder.seed(7);
///
///     async fn a_room_has_a_code(kit: TestStore) {
///         let ada = kit.user("ada").await;
///         assert_eq!(kit.room(&ada).await.room_code.len(), 8);
///     }
/// }
/// ```
#[macro_export]
macro_rules! on_both_backends {
    ($(#[$meta:meta])* async fn $($rest:tt)*) => {
        $crate::on_both_backends! { with |builder: $crate::Builder| builder; $(#[$meta])* async fn $($rest)* }
    };
    (with $prepare:expr; $($(#[$meta:meta])* async fn $name:ident($kit:ident: $kind:ty) $body:block)+) => {
        $($(#[$meta])* async fn $name($kit: $kind) $body)+

        mod sqlite {
            $(#[::tokio::test(flavor = "multi_thread")]
            async fn $name() {
                let kit = super::opened_by_the_kit(|builder| builder.sqlite_file()).await;
                super::$name(kit).await;
            })+
        }

        mod postgres {
            $(#[::tokio::test(flavor = "multi_thread")]
            async fn $name() {
                let kit = super::opened_by_the_kit(|builder| builder.postgres()).await;
                super::$name(kit).await;
            })+
        }

        /// Of the service's own making, on the backend that is chosen.
        #[cfg(test)]
        async fn opened_by_the_kit(choose: fn($crate::Builder) -> $crate::Builder) -> $crate::TestStore {
            let prepare: fn($crate::Builder) -> $crate::Builder = $prepare;
            match choose(prepare($crate::TestStore::builder())).open().await {
                Ok(kit) => kit,
                Err(error) => ::core::panic!("{error}"),
            }
        }
    };
}

/// Compiles its examples.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/TESTING_KIT.md")]
struct TestingKit;
