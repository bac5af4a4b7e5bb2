//! Builders: `kit.user("ada").await`, `kit.room(&ada).seats(2).live().await`. Each works by the store's own operations, so that all is as it would
//! be in earnest, the audit log included; the assertions leave out what they appended.
//!
//! Awaited, a builder that is refused fails the test and says where it was asked. Where the refusal is wanted, there is `try_build`.

mod people;
mod recordings;
mod rooms;

use std::panic::Location;

use conferencing_store::entity::{MediaNodeId, RoomId, UserId, media_node, room, user};
use conferencing_store::{Acting, Actor, Error};

use crate::kit::{BUILDER, TestStore};

pub use people::{NodeBuilder, ProviderAccountBuilder, UserBuilder};
pub use recordings::{EventBuilder, RecordingBuilder};
pub use rooms::{BanBuilder, RoomBuilder, SeatBuilder};

macro_rules! stands_for {
    ($trait:ident, $method:ident, $id:ty, $module:ident) => {
        impl $trait for $id {
            fn $method(&self) -> $id {
                *self
            }
        }

        impl $trait for $module::Model {
            fn $method(&self) -> $id {
                self.id
            }
        }

        impl<T: $trait> $trait for &T {
            fn $method(&self) -> $id {
                (**self).$method()
            }
        }
    };
}

/// A user, by row or by key.
pub trait IsUser {
    /// The key.
    fn user_id(&self) -> UserId;
}

/// A room, by row or by key.
pub trait IsRoom {
    /// The key.
    fn room_id(&self) -> RoomId;
}

/// A media node, by row or by key.
pub trait IsNode {
    /// The key.
    fn node_id(&self) -> MediaNodeId;
}

stands_for!(IsUser, user_id, UserId, user);
stands_for!(IsRoom, room_id, RoomId, room);
stands_for!(IsNode, node_id, MediaNodeId, media_node);

/// Who builds.
fn builder(kit: &TestStore) -> Acting {
    let actor = Actor::system("conferencing-testing").with_user_agent(BUILDER);
    kit.plain().acting(&actor)
}

/// Somebody as whom something is built.
fn builder_as(kit: &TestStore, user: UserId) -> Acting {
    let actor = Actor::user(user).with_user_agent(BUILDER);
    kit.plain().acting(&actor)
}

#[expect(clippy::panic, reason = "a test fails by panicking")]
fn refused(what: &str, at: &Location<'_>, error: &Error) -> ! {
    panic!("{what} at {at} could not be built: {error}")
}

/// Lets a builder be awaited.
macro_rules! awaited {
    ($builder:ident -> $output:ty, $what:literal) => {
        impl $builder<'_> {
            /// As by `.await`, for those who want the refusal.
            ///
            /// # Errors
            /// Those of the operations by which it is built; what was done before stays.
            pub async fn try_build(self) -> Result<$output, conferencing_store::Error> {
                self.work().await
            }
        }

        impl<'k> IntoFuture for $builder<'k> {
            type Output = $output;
            type IntoFuture = std::pin::Pin<Box<dyn Future<Output = $output> + Send + 'k>>;

            fn into_future(self) -> Self::IntoFuture {
                let at = self.at;
                Box::pin(async move {
                    match self.work().await {
                        Ok(built) => built,
                        Err(error) => crate::build::refused($what, at, &error),
                    }
                })
            }
        }
    };
}
use awaited;
