//! `ban` and `unban`: a moderator bars a user from a room, and lets them in again.

use chrono::{DateTime, Utc};
use entity::{ParticipantId, RoomId, UserId, room_participant, user};
use sea_orm::{ColumnType, DbErr, QueryResult};

use super::Participants;
use super::join::{banned, lift_expired_ban, view_ban};
use super::kick::protects_oneself;
use super::leave::seat_in_room;
use crate::authority::Operation as Asked;
use crate::error::{Error, Invalid, Rejected, Result, Rule, Subject};
use crate::event::Change;
use crate::input;
use crate::operation::{Answer, Columns, Event, Lock, Moment, Operation, Plan, column};
use crate::rules::{ACTOR_ROLE, end_if_empty, end_participation_set, may_remove, not_allowed};
use crate::settings::EmptyRoomPolicy;
use crate::unit::Sink;

/// A ban that was put.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub struct Ban {
    /// The row it stands on: the participation that it ended, or one of no length for somebody who was absent.
    pub id: ParticipantId,
    /// Where.
    pub room: RoomId,
    /// Who.
    pub user: UserId,
    /// Until when; none means for good.
    pub until: Option<DateTime<Utc>>,
    /// Whether it put them out.
    pub was_present: bool,
}

impl Answer for Ban {
    fn read(row: &QueryResult) -> Result<Self, DbErr> {
        Ok(Self {
            id: row.try_get_by("id")?,
            room: row.try_get_by("room_id")?,
            user: row.try_get_by("user_id")?,
            until: row.try_get_by("ban_expires_at")?,
            was_present: row.try_get_by::<i32, _>("was_present")? == 1,
        })
    }

    fn columns() -> Vec<(String, ColumnType)> {
        vec![
            column::<ParticipantId>("id"),
            column::<RoomId>("room_id"),
            column::<UserId>("user_id"),
            column::<DateTime<Utc>>("ban_expires_at"),
            column::<i32>("was_present"),
        ]
    }
}

impl<S: Sink> Participants<'_, S> {
    /// Bars `user` from the room, for good or until `until`; if they are present, the same participation ends as kicked. Appends
    /// USER_BANNED. `reason` has at most 500 characters. Takes the user's lock (shared), then the room's; one statement on PostgreSQL.
    ///
    /// By the owner, the host or the system; by a co-host against a participant or somebody absent. Nobody bans the host, the
    /// owner, or themself. A ban that has run out does not stand: it is lifted (USER_UNBANNED, `expired`) when they join or
    /// are banned anew.
    ///
    /// # Errors
    /// [`Error::Invalid`] for the reason, or an `until` that is past; [`Error::NotFound`] for room or user; [`Rejected::Banned`]
    /// when one stands already; [`Rejected::Protected`]; [`Rejected::NotAllowed`].
    pub async fn ban(
        &self,
        room: RoomId,
        user: UserId,
        reason: Option<&str>,
        until: Option<DateTime<Utc>>,
    ) -> Result<Ban> {
        let reason = input::optional_line("ban_reason", reason, 500)?;
        let until = until.map(|at| input::time("ban_expires_at", at)).transpose()?;
        if until.is_some_and(|until| until <= self.source.context().now()) {
            let (field, rule) = ("ban_expires_at", Rule::After("now"));
            return Err(Invalid { field, rule }.into());
        }
        let empty_rooms = self.source.context().empty_rooms();
        let ban = PutBan {
            room,
            user,
            reason,
            until,
            empty_rooms,
        };
        self.source.perform(ban).await
    }

    /// Lifts the ban of `user`; they may join again. Appends USER_UNBANNED. By the owner, the host or the system. Takes the
    /// room's lock.
    ///
    /// # Errors
    /// [`Error::NotFound`] for the room; [`Rejected::NotBanned`]; [`Rejected::NotAllowed`].
    pub async fn unban(&self, room: RoomId, user: UserId) -> Result<room_participant::Model> {
        self.source.perform(Unban { room, user }).await
    }
}

pub(crate) struct PutBan {
    pub(crate) room: RoomId,
    pub(crate) user: UserId,
    pub(crate) reason: Option<String>,
    pub(crate) until: Option<DateTime<Utc>>,
    pub(crate) empty_rooms: EmptyRoomPolicy,
}

impl Operation for PutBan {
    const NAME: &'static str = "participants.ban";
    type Output = Ban;

    /// Somebody present is put out, and the ban stands on the participation that this ended; for somebody absent a row is made
    /// that begins and ends at once.
    fn plan(&self, at: &Moment<'_>) -> Plan {
        let (room, user, operation) = (self.room, self.user, Asked::Ban);
        let protected = Rejected::Protected { operation, user };
        let may_put_out = may_remove(operation);
        let actor_role = format!("(SELECT {ACTOR_ROLE} FROM room)");
        let banned_event = Change::UserBanned {
            target: user,
            reason: self.reason.clone(),
            expires_at: self.until,
            was_present: false,
            stay: None,
        };
        let seat = seat_in_room(at.dialect);
        let plan = Plan::new(at, "done")
            .denied(protects_oneself(at, operation, user))
            .bind("user", user)
            .bind("participant", at.id())
            .bind("reason", self.reason.clone())
            .bind("expires_at", self.until)
            // An erasure comes wholly before this or after it: nothing is said of somebody who is erased.
            .lock::<user::Entity>("known", Lock::Share, &["id"], "id = :user")
            .lock_room(room, &["id", "owner_id"])
            .find_own_seat(at)
            .view::<room_participant::Entity>("host_seat", format!("{seat} AND role = 'HOST'"))
            .view::<room_participant::Entity>("other_seat", format!("{seat} AND NOT ({may_put_out})"));

        // All that may refuse a ban of somebody absent is asked at the gate: past it, an expired ban is lifted for good.
        let plan = view_ban(plan)
            .gate("bannable", "room")
            .room_exists(room)
            .allowed(operation, room, Some(user))
            .guard("known", "deleted_at IS NULL", Error::NotFound(Subject::User(user)))
            .guard("room", "owner_id <> :user", protected.clone())
            .absent_by("uq_room_participants_current", "ban", banned(room, user))
            .absent_by("closed", "host_seat", protected)
            .absent_by(
                "closed",
                "other_seat",
                not_allowed(&actor_role, operation, room, Some(user)),
            );

        let plan = lift_expired_ban(at, plan, user, "bannable")
            .update_if_there::<room_participant::Entity>(
                "closed",
                BANNED,
                format!(
                    "{}, is_kicked = TRUE, kicked_at = {}, kicked_by = :actor, kick_reason = :reason, is_banned = TRUE,
                    banned_at = :now, banned_by = :actor, ban_reason = :reason, ban_expires_at = :expires_at",
                    end_participation_set(at.dialect),
                    at.dialect.later(":now", "joined_at"),
                ),
                format!("{seat} AND EXISTS (SELECT 1 FROM bannable) AND {may_put_out}"),
            )
            .count_out("closed")
            .lookup(
                "barred",
                BANNED_COLUMNS,
                format!(
                    "INSERT INTO room_participants (id, user_id, room_id, role, joined_at, left_at, duration_seconds, is_kicked,
                        is_banned, banned_at, banned_by, ban_reason, ban_expires_at)
                    SELECT :participant, :user, bannable.id, {role}, :now, :now, 0, FALSE, TRUE, :now, :actor, :reason,
                        :expires_at
                    FROM bannable WHERE NOT EXISTS (SELECT 1 FROM closed) AND (SELECT count(*) FROM lifted) >= 0
                    ON CONFLICT DO NOTHING RETURNING {columns}",
                    role = at.dialect.as_enum("'PARTICIPANT'", "participant_role"),
                    columns = BANNED_COLUMNS.join(", "),
                ),
            )
            .step(
                "done",
                &["id", "room_id", "user_id", "ban_expires_at", "was_present"],
                format!(
                    "SELECT {columns}, 1 AS was_present FROM closed UNION ALL SELECT {columns}, 0 AS was_present FROM barred",
                    columns = BANNED_COLUMNS.join(", "),
                ),
            )
            .event(
                at,
                &Event::of(&banned_event, "done")
                    .room(":room")
                    .computed("was_present", at.dialect.json_bool("done.was_present = 1"))
                    .computed("stay", at.dialect.uuid_text("(SELECT id FROM closed)")),
            );
        let put_out = "EXISTS (SELECT 1 FROM room_participants WHERE room_id = :room AND user_id = :user AND is_banned
            AND is_kicked AND banned_at = :now)";
        let binds = [("room", room.into()), ("user", user.into())];
        end_if_empty(at, plan, self.empty_rooms, ":room", put_out, binds)
    }
}

const BANNED_COLUMNS: &[&str] = &["id", "room_id", "user_id", "ban_expires_at"];
const BANNED: Columns = Columns::Of(BANNED_COLUMNS);

pub(crate) struct Unban {
    pub(crate) room: RoomId,
    pub(crate) user: UserId,
}

impl Operation for Unban {
    const NAME: &'static str = "participants.unban";
    type Output = room_participant::Model;

    fn plan(&self, at: &Moment<'_>) -> Plan {
        let Self { room, user } = *self;
        let lifted = Change::UserUnbanned {
            target: user,
            expired: false,
        };
        Plan::new(at, "ban")
            .bind("user", user)
            .lock_room(room, &["id", "owner_id"])
            .find_own_seat(at)
            .update::<room_participant::Entity>(
                "ban",
                Columns::All,
                "is_banned = FALSE",
                "room_id = (SELECT id FROM room) AND user_id = :user AND is_banned",
            )
            .room_exists(room)
            .allowed(Asked::Unban, room, Some(user))
            .found("ban", Rejected::NotBanned { user, room })
            .event(at, &Event::of(&lifted, "ban").room("ban.room_id"))
    }
}
