//! Rooms, and who is or was in them.

use std::panic::Location;

use chrono::{DateTime, Utc};
use conferencing_store::entity::{MediaNodeId, ParticipantRole, RoomId, RoomStatus, UserId, room, room_participant};
use conferencing_store::participants::Ban;
use conferencing_store::{Error, NewRoom};

use super::{IsNode, IsRoom, IsUser, awaited, builder, builder_as};
use crate::kit::TestStore;

impl TestStore {
    /// A room in status CREATED: "A room", 100 seats, private, recordable, for people who signed in.
    #[track_caller]
    pub fn room<'k>(&'k self, owner: impl IsUser) -> RoomBuilder<'k> {
        RoomBuilder {
            kit: self,
            at: Location::caller(),
            new: NewRoom::titled(owner.user_id(), "A room"),
            status: RoomStatus::Created,
            is_deleted: false,
        }
    }

    /// A seat as a participant. The first one in a room starts the meeting; the owner is its host.
    #[track_caller]
    pub fn seat(&self, room: impl IsRoom, user: impl IsUser) -> SeatBuilder<'_> {
        SeatBuilder {
            kit: self,
            at: Location::caller(),
            room: room.room_id(),
            user: user.user_id(),
            role: ParticipantRole::Participant,
            node: None,
            end: End::None,
        }
    }

    /// A ban for good, by the system; who is present is put out.
    #[track_caller]
    pub fn ban<'k>(&'k self, room: impl IsRoom, user: impl IsUser) -> BanBuilder<'k> {
        BanBuilder {
            kit: self,
            at: Location::caller(),
            room: room.room_id(),
            user: user.user_id(),
            by: None,
            reason: None,
            until: None,
        }
    }
}

/// See [`TestStore::room`].
#[derive(Debug)]
#[must_use = "it is built when it is awaited"]
pub struct RoomBuilder<'k> {
    kit: &'k TestStore,
    at: &'static Location<'static>,
    new: NewRoom<'k>,
    status: RoomStatus,
    is_deleted: bool,
}

impl<'k> RoomBuilder<'k> {
    /// Another title.
    pub fn titled(mut self, title: &'k str) -> Self {
        self.new.title = title;
        self
    }

    /// What it is about.
    pub fn described(mut self, description: &'k str) -> Self {
        self.new.description = Some(description);
        self
    }

    /// So many seats.
    pub fn seats(mut self, seats: i32) -> Self {
        self.new.max_participants = seats;
        self
    }

    /// Planned from then to then.
    pub fn scheduled(mut self, start: DateTime<Utc>, end: DateTime<Utc>) -> Self {
        (self.new.scheduled_start, self.new.scheduled_end) = (Some(start), Some(end));
        self
    }

    /// Listed for everybody.
    pub fn public(mut self) -> Self {
        self.new.is_public = true;
        self
    }

    /// May not be recorded.
    pub fn not_recordable(mut self) -> Self {
        self.new.is_recordable = false;
        self
    }

    /// Also for people who have not signed in.
    pub fn without_sign_in(mut self) -> Self {
        self.new.require_auth = false;
        self
    }

    /// Started, with nobody in it.
    pub fn live(mut self) -> Self {
        self.status = RoomStatus::Live;
        self
    }

    /// Started and ended.
    pub fn ended(mut self) -> Self {
        self.status = RoomStatus::Ended;
        self
    }

    /// Called off.
    pub fn cancelled(mut self) -> Self {
        self.status = RoomStatus::Cancelled;
        self
    }

    /// Deleted, after all else; one that is live is ended before.
    pub fn deleted(mut self) -> Self {
        self.is_deleted = true;
        self
    }

    async fn work(self) -> Result<room::Model, Error> {
        let acting = builder(self.kit);
        let rooms = acting.rooms();
        let mut room = rooms.create(self.new).await?;
        match self.status {
            RoomStatus::Created => {}
            RoomStatus::Live => room = rooms.start(room.id).await?,
            RoomStatus::Ended => {
                rooms.start(room.id).await?;
                room = rooms.end(room.id).await?;
            }
            RoomStatus::Cancelled => room = rooms.cancel(room.id).await?,
        }
        if self.is_deleted {
            if room.status == RoomStatus::Live {
                rooms.end(room.id).await?;
            }
            room = rooms.delete(room.id).await?;
        }
        Ok(room)
    }
}

awaited!(RoomBuilder -> room::Model, "a room");

#[derive(Debug)]
enum End {
    None,
    Left,
    Kicked(Option<UserId>),
}

/// See [`TestStore::seat`].
#[derive(Debug)]
#[must_use = "it is built when it is awaited"]
pub struct SeatBuilder<'k> {
    kit: &'k TestStore,
    at: &'static Location<'static>,
    room: RoomId,
    user: UserId,
    role: ParticipantRole,
    node: Option<MediaNodeId>,
    end: End,
}

impl SeatBuilder<'_> {
    /// As a co-host.
    pub fn co_host(mut self) -> Self {
        self.role = ParticipantRole::CoHost;
        self
    }

    /// As the host: the owner by their coming, anybody else by a hand-over.
    pub fn host(mut self) -> Self {
        self.role = ParticipantRole::Host;
        self
    }

    /// Served by a media node.
    pub fn on_node(mut self, node: impl IsNode) -> Self {
        self.node = Some(node.node_id());
        self
    }

    /// Came and left, at one time: move the clock and call the store's own `leave` for a stay that took a while.
    pub fn left(mut self) -> Self {
        self.end = End::Left;
        self
    }

    /// Came and was kicked, by the system.
    pub fn kicked(mut self) -> Self {
        self.end = End::Kicked(None);
        self
    }

    /// Came and was kicked by somebody who may.
    pub fn kicked_by(mut self, user: impl IsUser) -> Self {
        self.end = End::Kicked(Some(user.user_id()));
        self
    }

    async fn work(self) -> Result<room_participant::Model, Error> {
        let (kit, room, user) = (self.kit, self.room, self.user);
        let acting = builder(kit);
        let participants = acting.participants();
        // Nobody but the owner comes in as the host.
        let role = match self.role {
            ParticipantRole::Host => ParticipantRole::Participant,
            role => role,
        };
        let mut seat = match self.node {
            Some(node) => participants.join_on(room, user, role, node).await?,
            None => participants.join(room, user, role).await?,
        };
        if self.role == ParticipantRole::Host && seat.role != ParticipantRole::Host {
            seat = participants.hand_over_host(room, user).await?;
        }
        if self.role == ParticipantRole::CoHost && seat.role == ParticipantRole::Participant {
            seat = participants.promote(room, user).await?;
        }
        match self.end {
            End::None => Ok(seat),
            End::Left => participants.leave(room, user).await,
            End::Kicked(None) => participants.kick(room, user, None).await,
            End::Kicked(Some(by)) => builder_as(kit, by).participants().kick(room, user, None).await,
        }
    }
}

awaited!(SeatBuilder -> room_participant::Model, "a seat");

/// See [`TestStore::ban`].
#[derive(Debug)]
#[must_use = "it is built when it is awaited"]
pub struct BanBuilder<'k> {
    kit: &'k TestStore,
    at: &'static Location<'static>,
    room: RoomId,
    user: UserId,
    by: Option<UserId>,
    reason: Option<&'k str>,
    until: Option<DateTime<Utc>>,
}

impl<'k> BanBuilder<'k> {
    /// By somebody who may.
    pub fn by(mut self, user: impl IsUser) -> Self {
        self.by = Some(user.user_id());
        self
    }

    /// What is said about it.
    pub fn because(mut self, reason: &'k str) -> Self {
        self.reason = Some(reason);
        self
    }

    /// It runs out then.
    pub fn until(mut self, at: DateTime<Utc>) -> Self {
        self.until = Some(at);
        self
    }

    async fn work(self) -> Result<Ban, Error> {
        let acting = match self.by {
            Some(user) => builder_as(self.kit, user),
            None => builder(self.kit),
        };
        acting
            .participants()
            .ban(self.room, self.user, self.reason, self.until)
            .await
    }
}

awaited!(BanBuilder -> Ban, "a ban");
