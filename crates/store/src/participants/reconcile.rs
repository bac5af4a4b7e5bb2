//! `reconcile`: the seats of a room become what the media server says.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use entity::{ParticipantId, RoomId, UserId};
use sea_orm::{ColumnType, DbErr, QueryResult};

use super::Participants;
use crate::authority::Operation as Asked;
use crate::database::statement::Bind;
use crate::error::{Invalid, Result, Rule};
use crate::event::LeaveReason;
use crate::input;
use crate::operation::{Answer, Moment, Operation, Plan, column, json};
use crate::rules::{CLOSED, count_all_out, each_left, end_if_empty, end_participation_at};
use crate::settings::EmptyRoomPolicy;
use crate::unit::Sink;

/// How many users one call of [`Participants::reconcile`] may name: as many as a room can have seats.
pub const MAX_RECONCILED: usize = 10_000;

/// What [`Participants::reconcile`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub struct Reconciled {
    /// The seats of those who were not there any more, which are closed, in no order.
    pub closed: Vec<ClosedSeat>,
    /// Those who are said to be there and have no seat, by ascending id: whoever asked either seats or disconnects them.
    pub missing: Vec<UserId>,
}

/// A seat that was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub struct ClosedSeat {
    /// The participation that ended.
    pub stay: ParticipantId,
    /// Whose it was.
    pub user: UserId,
}

impl<S: Sink> Participants<'_, S> {
    /// Makes the seats of a room what the media server says they are: `present` were there at `as_of`, and nobody else. Ends the
    /// participation of everybody else who had come by then, at `as_of`, and says who is there without a seat. Who came after `as_of`
    /// is not touched, so it does no harm that the list is old when it arrives; nor does asking twice. The last one out may end the
    /// meeting, see [`EmptyRoomPolicy`]. Appends a USER_LEFT ([`LeaveReason::Reconciled`]) for each.
    ///
    /// `as_of` is compared with the times at which the store seated people: where the media server's clock is ahead of the store's, say a
    /// time that is as much earlier.
    ///
    /// Takes the room's lock; two statements in one transaction. By the system.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for more than [`MAX_RECONCILED`] users, or an `as_of` that is to come; [`crate::Error::NotFound`] for the
    /// room; [`Rejected::NotAllowed`](crate::Rejected::NotAllowed).
    pub async fn reconcile(&self, room: RoomId, present: &[UserId], as_of: DateTime<Utc>) -> Result<Reconciled> {
        let invalid = |field, rule| Invalid { field, rule };
        if present.len() > MAX_RECONCILED {
            let most = i64::try_from(MAX_RECONCILED).unwrap_or(i64::MAX);
            return Err(invalid("present", Rule::AtMost(most)).into());
        }
        let as_of = input::time("as_of", as_of)?;
        if as_of > self.source.context().now() {
            return Err(invalid("as_of", Rule::NotAfter("now")).into());
        }
        let reconcile = Reconcile {
            room,
            present: present.iter().copied().collect(),
            as_of,
            empty_rooms: self.source.context().empty_rooms(),
        };
        self.source.perform(reconcile).await
    }
}

/// The one row of the second plan: both lists, as JSON.
impl Answer for Reconciled {
    fn read(row: &QueryResult) -> Result<Self, DbErr> {
        let mut missing: Vec<UserId> = json(row, "missing_users")?;
        missing.sort_unstable();
        let closed = json(row, "closed_seats")?;
        Ok(Self { closed, missing })
    }

    fn columns() -> Vec<(String, ColumnType)> {
        vec![column::<String>("closed_seats"), column::<String>("missing_users")]
    }
}

pub(crate) struct Reconcile {
    pub(crate) room: RoomId,
    pub(crate) present: BTreeSet<UserId>,
    pub(crate) as_of: DateTime<Utc>,
    pub(crate) empty_rooms: EmptyRoomPolicy,
}

impl Operation for Reconcile {
    const NAME: &'static str = "participants.reconcile";
    type Output = Reconciled;

    /// The first plan takes the room's lock; the second sees all who came before it had it.
    fn plan(&self, at: &Moment<'_>) -> Plan {
        let room = self.room;
        let plan = Plan::without_answer(at, "room")
            .denied(at.only_the_system(Asked::KeepPresence))
            .lock_room(room, &["id"])
            .room_exists(room)
            .then(self.close(at));
        // The room's row was written at this very time only if somebody was put out, or by an earlier change of the same unit.
        let put_out = "updated_at = :now AND total_joins > 0";
        end_if_empty(at, plan, self.empty_rooms, ":room", put_out, [("room", room.into())])
    }
}

impl Reconcile {
    fn close(&self, at: &Moment<'_>) -> Plan {
        let dialect = at.dialect;
        let present = serde_json::json!(self.present).to_string();
        let (stay, user) = (dialect.uuid_text("id"), dialect.uuid_text("user_id"));
        let plan = Plan::new(at, "result")
            .bind("room", self.room)
            .bind("as_of", self.as_of)
            .bind("present", Bind::text_as("jsonb", Some(present)))
            .lookup("listed", &["id"], dialect.listed_uuids(":present"))
            .lookup(
                "gone",
                &["id"],
                format!(
                    "SELECT id FROM room_participants WHERE room_id = :room AND left_at IS NULL{} AND joined_at <= :as_of
                        AND user_id NOT IN (SELECT id FROM listed)",
                    dialect.among_current()
                ),
            )
            .lookup(
                "missing",
                &["id"],
                format!(
                    "SELECT id FROM listed WHERE NOT EXISTS (SELECT 1 FROM room_participants
                        WHERE room_id = :room AND user_id = listed.id AND left_at IS NULL{})",
                    dialect.only_by_index("left_at IS NULL OR is_banned", "room_participants.id")
                ),
            )
            .lookup(
                "closed",
                CLOSED,
                format!(
                    "UPDATE room_participants SET {} WHERE {} AND left_at IS NULL RETURNING {}",
                    end_participation_at(dialect, ":as_of"),
                    dialect.among("id", "SELECT id FROM gone"),
                    CLOSED.join(", ")
                ),
            )
            .step(
                "result",
                &["closed_seats", "missing_users"],
                format!(
                    "SELECT (SELECT {} FROM closed) AS closed_seats, (SELECT {} FROM missing) AS missing_users",
                    dialect.json_rows(&[("stay", &stay), ("user", &user)]),
                    dialect.json_list(&stay),
                ),
            );
        each_left(at, count_all_out(plan, "closed"), "closed", LeaveReason::Reconciled)
    }
}
