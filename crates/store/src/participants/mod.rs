//! `participants()`: who is in which room, and who was. One file an operation; what is read is here.

pub(crate) mod assign_node;
pub(crate) mod ban;
mod bans;
mod history;
pub(crate) mod join;
pub(crate) mod kick;
pub(crate) mod leave;
pub(crate) mod leave_stay;
pub(crate) mod lists;
pub(crate) mod reconcile;
pub(crate) mod role;
pub(crate) mod standing;

use chrono::{DateTime, Utc};
use entity::{RoomId, room_participant};
use sea_orm::DbErr;
use uuid::Uuid;

use crate::error::Result;
use crate::page::{Page, PageRequest};
use crate::person::Names;
use crate::read::{ByHand, Fetch};
use crate::row::Cells;
use crate::unit::Source;

use lists::Which;

pub use crate::person::{Person, RoomName};
pub use ban::Ban;
pub use bans::{BanInRoom, BanState};
pub use history::ParticipantInRoom;
pub use leave_stay::LeaveDetails;
pub use reconcile::{ClosedSeat, MAX_RECONCILED, Reconciled};
pub use standing::SeatOrBan;

/// The repository of `room_participants`. Stays are never deleted.
#[derive(Debug)]
pub struct Participants<'a, S> {
    source: &'a S,
}

/// A participation, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ParticipantWithUser {
    /// The participation.
    pub participant: room_participant::Model,
    /// Who it is.
    pub user: Person,
}

impl ParticipantWithUser {
    /// From the columns of a participation and the names of its user.
    pub(crate) fn read(cells: &mut Cells<'_>) -> Result<Self, DbErr> {
        let participant: room_participant::Model = cells.read()?;
        let user = cells.read::<Names>()?.of(participant.user_id);
        Ok(Self { participant, user })
    }

    /// Its place in the lists of a room.
    pub(crate) fn place(&self) -> (DateTime<Utc>, Uuid) {
        (self.participant.joined_at, self.participant.id.as_uuid())
    }
}

impl<'a, S: Source> Participants<'a, S> {
    pub(crate) fn new(source: &'a S) -> Self {
        Self { source }
    }

    /// Who is present in a room, with their users, by (joined_at, id). One statement, however many, and however many were there
    /// before: served by `ix_room_participants_present`, and a look at each user's row by its key.
    ///
    /// # Errors
    /// None beyond the database's own; a room that does not exist has nobody in it.
    pub async fn list_present(&self, room: RoomId, page: &PageRequest) -> Result<Page<ParticipantWithUser>> {
        self.list(room, Which::Present, page, "participants.list_present").await
    }

    /// All participations in a room, past and present, with their users, by (joined_at, id). One statement, however many, served by
    /// `ix_room_participants_room`.
    ///
    /// # Errors
    /// None beyond the database's own; a room that does not exist had nobody in it.
    pub async fn list_history(&self, room: RoomId, page: &PageRequest) -> Result<Page<ParticipantWithUser>> {
        self.list(room, Which::All, page, "participants.list_history").await
    }

    /// The bans in force of a room, those that have run out left out, by (joined_at of the row, id). One statement. All bans of a user:
    /// [`Participants::bans_of`].
    ///
    /// # Errors
    /// None beyond the database's own.
    pub async fn list_bans(&self, room: RoomId, page: &PageRequest) -> Result<Page<ParticipantWithUser>> {
        let banned = Which::BannedAt(self.source.context().now());
        self.list(room, banned, page, "participants.list_bans").await
    }

    async fn list(
        &self,
        room: RoomId,
        which: Which,
        page: &PageRequest,
        during: &'static str,
    ) -> Result<Page<ParticipantWithUser>> {
        let (dialect, page) = (self.source.context().dialect(), page.by_time()?);
        let rows = ByHand(lists::page(dialect, room, which, page).statement(dialect));
        let rows = rows.fetch_with(self.source, during, ParticipantWithUser::read).await?;
        Ok(page.page(rows, ParticipantWithUser::place))
    }
}
