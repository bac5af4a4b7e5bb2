//! `join`: a user takes a seat.

use entity::{
    AuditAction, MediaNodeId, ParticipantId, ParticipantRole, RoomId, UserId, media_node, room, room_participant, user,
};

use serde_json::json;

use super::Participants;
use super::leave::of_seat;
use crate::actor::Actor;
use crate::authority::{Operation as Asked, may};
use crate::database::Dialect;
use crate::database::statement::{Bind, enum_text};
use crate::error::{Conflict, Rejected, Result};
use crate::event::{Change, UNKNOWN_STAY};
use crate::operation::{AskedList, DONE, Event, Grouped, Lock, Member, Moment, Operation, Plan, Refusal, Usual};
use crate::rules::{IN_SERVICE, active, in_service};
use crate::unit::Sink;

impl<S: Sink> Participants<'_, S> {
    /// Takes a seat for `user`. The first to come starts the meeting. Appends USER_JOINED, and ROOM_STARTED before it if the
    /// meeting began. Takes the room's lock; one statement on PostgreSQL.
    ///
    /// The owner gets the HOST seat whatever `role` says, or a CO_HOST one while somebody else is HOST. Nobody else can come
    /// in as HOST. Coming back after leaving or a kick is a new participation. For oneself, or by the system for anybody.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`] for room or user; [`Rejected::RoomStatus`] when the meeting is over or called off;
    /// [`Rejected::AccountRequired`] for a guest, where the room asks for an account;
    /// [`Rejected::RoomFull`]; [`Rejected::AlreadyPresent`] with the seat they have; [`Rejected::Banned`];
    /// [`Rejected::UserInactive`]; [`Rejected::HostSeat`]; [`Rejected::NotAllowed`]; [`Conflict::SameInstant`].
    pub async fn join(&self, room: RoomId, user: UserId, role: ParticipantRole) -> Result<room_participant::Model> {
        let node = None;
        self.source.perform_grouped(Join { room, user, role, node }).await
    }

    /// As [`Participants::join`], for a seat that `node` serves: if it falls silent, a [sweep](crate::nodes::Nodes::sweep_silent) closes
    /// the seat. Where the node is found lost at the same moment the seat may be taken all the same; the next sweep closes it.
    ///
    /// # Errors
    /// As of [`Participants::join`]; besides [`crate::Error::NotFound`] for the node, and [`Rejected::NodeLost`]: seat them on another one.
    pub async fn join_on(
        &self,
        room: RoomId,
        user: UserId,
        role: ParticipantRole,
        node: MediaNodeId,
    ) -> Result<room_participant::Model> {
        let node = Some(node);
        self.source.perform_grouped(Join { room, user, role, node }).await
    }
}

pub(crate) struct Join {
    pub(crate) room: RoomId,
    pub(crate) user: UserId,
    pub(crate) role: ParticipantRole,
    pub(crate) node: Option<MediaNodeId>,
}

impl Operation for Join {
    const NAME: &'static str = "participants.join";
    type Output = room_participant::Model;
    const CONTESTED: &'static [&'static str] = &["uq_room_participants_current", "uq_room_participants_joined"];

    /// An active user who is not the owner, has no seat and no ban, and comes into a live room that is not full: 3 changes, of
    /// which the room's comes first, since it is what others wait for. Whether there is a seat or a ban is asked before the room
    /// is locked, so it may have grown old by then: the unique indexes hold it, and the plan answers.
    fn usual(&self, at: &Moment<'_>) -> Option<Usual<Self::Output>> {
        let Self { room, user, role, node } = *self;
        if !self.is_ordinary(at.actor) {
            return None;
        }
        let (node_column, node_value) = self.node_sql();
        let on_node = match node {
            Some(_) => format!(" AND (SELECT TRUE FROM media_nodes WHERE id = :node AND {IN_SERVICE})"),
            None => String::new(),
        };
        let id = at.id();
        let joined = self.joined(at.actor);
        let plan = Plan::new(at, "event_1")
            .bind("room", room)
            .bind("user", user)
            .bind("participant", id)
            .bind("role", Bind::of_enum(&role))
            .bind("node", node)
            .update::<room::Entity>(
                "room",
                &["id"],
                format!("{}, updated_at = :now", counted_in(at.dialect, "1")),
                format!(
                    "id = :room AND deleted_at IS NULL AND status = 'LIVE' AND owner_id <> :user
                        AND active_participants < max_participants
                        AND NOT EXISTS (SELECT 1 FROM room_participants WHERE {OF_USER} AND (left_at IS NULL OR is_banned){})
                        AND require_auth <= (SELECT guest_since IS NULL FROM users WHERE id = :user AND deleted_at IS NULL AND is_active{}){on_node}",
                    at.dialect.among_current(),
                    at.dialect.for_share()
                ),
            )
            .lookup(
                "seat",
                &["id", "room_id"],
                format!(
                    "INSERT INTO room_participants (id, user_id, room_id, role, joined_at, is_kicked, is_banned{node_column})
                    SELECT :participant, :user, room.id, :role, :now, FALSE, FALSE{node_value} FROM room RETURNING id, room_id"
                ),
            )
            .event_as(at, "event_1", &of_seat(at, &joined).room("seat.room_id"));
        let answer = room_participant::Model {
            id: ParticipantId::from_uuid(id),
            user_id: user,
            room_id: room,
            role,
            joined_at: at.now,
            left_at: None,
            is_kicked: false,
            kicked_at: None,
            kicked_by: None,
            kick_reason: None,
            is_banned: false,
            banned_at: None,
            banned_by: None,
            ban_reason: None,
            ban_expires_at: None,
            duration_seconds: None,
            node_id: node,
        };
        Some(Usual { plan, answer })
    }

    fn plan(&self, at: &Moment<'_>) -> Plan {
        let Self { room, user, role, node } = *self;
        let plan = Plan::new(at, "seat")
            .denied(at.only_oneself(Asked::Join, Some(room), user))
            .bind("user", user)
            .bind("participant", at.id())
            .bind("role_text", enum_text(&role))
            // Users before rooms.
            .lock::<user::Entity>("member", Lock::Share, &["id"], "id = :user")
            .yielding("has_account", "guest_since IS NULL");
        let plan = match node {
            // Not locked, or all who join would write to its row: whoever comes while it is found lost is found by the next sweep.
            Some(node) => plan
                .bind("node", node)
                .lock::<media_node::Entity>("node", Lock::None, &["id"], "id = :node"),
            None => plan,
        };
        let plan = plan
            .lock_room(room, &["id", "owner_id", "status"])
            .view::<room_participant::Entity>("present", format!("{OF_USER} AND left_at IS NULL"))
            .view::<room_participant::Entity>("twin", format!("{OF_USER} AND joined_at = :now"));

        let plan = active(view_ban(plan).room_exists(room), "member", user)
            .guard(
                "room",
                "status IN ('CREATED', 'LIVE')",
                Refusal::with("status", move |status| Rejected::RoomStatus { room, status }),
            )
            .absent_by("uq_room_participants_current", "present", already_present(room, user))
            .absent_by("uq_room_participants_current", "ban", banned(room, user))
            // Of two booleans: what is required is there. It asks for the member too.
            .guard(
                "room",
                "require_auth <= (SELECT has_account FROM member)",
                Rejected::AccountRequired { user, room: Some(room) },
            )
            .guard(
                "room",
                "owner_id = :user OR :role_text <> 'HOST'",
                Rejected::HostSeat { room },
            )
            .guard(
                "room",
                "active_participants < max_participants",
                Refusal::with("max_participants", move |capacity| Rejected::RoomFull {
                    room,
                    capacity,
                }),
            )
            .absent_by(
                "uq_room_participants_joined",
                "twin",
                Conflict::SameInstant { user, room },
            );
        let plan = match node {
            Some(node) => in_service(plan, "node", node),
            None => plan,
        };
        let (node_column, node_value) = self.node_sql();

        let seat_role = at.dialect.as_enum(
            "CASE WHEN room.owner_id <> :user THEN :role_text
                WHEN EXISTS (SELECT 1 FROM room_participants WHERE room_id = :room AND left_at IS NULL AND role = 'HOST')
                    THEN 'CO_HOST'
                ELSE 'HOST' END",
            "participant_role",
        );
        let joined = self.joined(at.actor);
        lift_expired_ban(at, plan, user, "room")
            // The unique indexes see what others committed meanwhile, and say no without an error.
            .insert::<room_participant::Entity>(
                "seat",
                at.dialect,
                format!(
                    "INSERT INTO room_participants (id, user_id, room_id, role, joined_at, is_kicked, is_banned{node_column})
                    SELECT :participant, :user, room.id, {seat_role}, :now, FALSE, FALSE{node_value} FROM room
                    WHERE (SELECT count(*) FROM lifted) >= 0 ON CONFLICT DO NOTHING"
                ),
            )
            .effect(
                "counted",
                format!(
                    "UPDATE rooms SET {}, status = 'LIVE', started_at = COALESCE(started_at, :now), updated_at = :now
                    WHERE id = (SELECT room_id FROM seat)",
                    counted_in(at.dialect, "1")
                ),
            )
            .event(
                at,
                &Event::of(
                    &Change::RoomStarted { by_join: true },
                    "seat, room WHERE room.status = 'CREATED'",
                )
                .room("seat.room_id"),
            )
            .event(
                at,
                &of_seat(at, &joined).room("seat.room_id").computed("role", "seat.role"),
            )
    }
}

impl Grouped for Join {
    fn room(&self) -> RoomId {
        self.room
    }

    fn user(&self) -> UserId {
        self.user
    }

    fn is_ordinary(&self, actor: &Actor) -> bool {
        self.role != ParticipantRole::Host && may(Asked::Join, actor.role_towards(self.user), None)
    }

    /// Seats all for whom [`Join::usual`] would do it, as far as there are seats, up to the first for whom it would not: whoever is
    /// behind them comes after them.
    fn together(at: &Moment<'_>, room: RoomId, those: &[Member<'_, Self>]) -> Plan {
        let mut asked = AskedList::of(AuditAction::UserJoined);
        for Member { operation, actor } in those {
            let own = [
                ("participant", json!(at.id())),
                ("role", enum_text(&operation.role).into()),
                ("node", json!(operation.node)),
            ];
            let event = operation.joined(actor);
            asked.push(at, operation.user, actor, &event, &own);
        }
        let (node_column, node, on_node) = if those.iter().any(|member| member.operation.node.is_some()) {
            (
                ", node_id",
                ", node",
                format!(
                    " AND (asked.node IS NULL OR (SELECT TRUE FROM media_nodes WHERE id = asked.node AND {IN_SERVICE}))"
                ),
            )
        } else {
            ("", "", String::new())
        };
        Plan::new(at, DONE)
            .bind("room", room)
            .asked(asked, ", participant uuid, role participant_role, node uuid")
            // Users before rooms, and they in one order.
            .lookup(
                "member",
                &["id", "has_account"],
                format!(
                    "SELECT id, guest_since IS NULL AS has_account FROM users WHERE {} AND deleted_at IS NULL AND is_active ORDER BY id{}",
                    at.dialect.among("id", "SELECT about FROM asked"),
                    at.dialect.for_share()
                ),
            )
            .lookup(
                "room",
                &["id", "owner_id", "require_auth", "free"],
                format!(
                    "SELECT id, owner_id, require_auth, max_participants - active_participants AS free FROM rooms
                    WHERE id = :room AND deleted_at IS NULL AND status = 'LIVE' AND EXISTS (SELECT 1 FROM member){}",
                    at.dialect.for_change()
                ),
            )
            .lookup(
                "seat",
                &["room_id"],
                // The scalar subquery is a look by key for each; NOT EXISTS might be planned as a walk through all who are present.
                format!(
                    "INSERT INTO room_participants (id, user_id, room_id, role, joined_at, is_kicked, is_banned{node_column})
                    SELECT participant, about, room_id, role, :now, FALSE, FALSE{node} FROM (
                        SELECT asked.*, room.id AS room_id, room.free, min(CASE WHEN member.id IS NOT NULL
                            AND room.require_auth <= member.has_account AND asked.about <> room.owner_id{on_node} AND (SELECT id FROM room_participants
                            WHERE room_id = :room AND user_id = asked.about AND (left_at IS NULL OR is_banned){} LIMIT 1) IS NULL THEN NULL ELSE asked.place END) OVER () AS unfit
                        FROM room CROSS JOIN asked LEFT JOIN member ON member.id = asked.about
                    ) AS those WHERE place < free AND place < COALESCE(unfit, place + 1) ORDER BY place ON CONFLICT DO NOTHING RETURNING {}",
                    at.dialect.among_current(),
                    at.dialect.columns_of::<room_participant::Entity>()
                ),
            )
            .done_together(at, &counted_in(at.dialect, "done.number"), &[])
    }
}

impl Join {
    /// The column of the node and its value, for an INSERT of a seat that has one.
    fn node_sql(&self) -> (&'static str, &'static str) {
        match self.node {
            Some(_) => (", node_id", ", :node"),
            None => ("", ""),
        }
    }

    fn joined(&self, actor: &Actor) -> Change {
        Change::UserJoined {
            target: actor.other_than_self(self.user),
            stay: UNKNOWN_STAY,
            role: self.role,
        }
    }
}

/// SQL that counts so many in.
fn counted_in(dialect: Dialect, number: &str) -> String {
    let peak = dialect.later("peak_participants", &format!("active_participants + {number}"));
    format!(
        "active_participants = active_participants + {number}, total_joins = total_joins + {number},
            peak_participants = {peak}"
    )
}

/// A participation of `:user` in `:room`.
const OF_USER: &str = "room_id = :room AND user_id = :user";

/// Of a participation: it carries a ban that has not run out.
pub(super) const BANNED_NOW: &str = "is_banned AND (ban_expires_at IS NULL OR ban_expires_at > :now)";

fn already_present(room: RoomId, user: UserId) -> Refusal {
    Refusal::with_all(["id", "role", "joined_at"], move |seat| {
        let already = Rejected::AlreadyPresent {
            user,
            room,
            seat: seat.get(0)?,
            role: seat.get(1)?,
            since: seat.get(2)?,
        };
        Ok(already.into())
    })
}

pub(super) fn banned(room: RoomId, user: UserId) -> Refusal {
    Refusal::with("ban_expires_at", move |until| Rejected::Banned { user, room, until })
}

/// A ban of `:user` in `:room` that stands: the view `ban`.
pub(super) fn view_ban(plan: Plan) -> Plan {
    plan.view::<room_participant::Entity>("ban", format!("{OF_USER} AND {BANNED_NOW}"))
}

/// Lifts the ban of `:user` if it has run out, in the room of the step `room`: step `lifted`, with USER_UNBANNED. It may write
/// although a unique index then refuses the plan's own row, which is fine for once: the ban is over either way, and the
/// step has an event of its own.
pub(super) fn lift_expired_ban(at: &Moment<'_>, plan: Plan, user: UserId, room: &str) -> Plan {
    let change = Change::UserUnbanned {
        target: user,
        expired: true,
    };
    plan.update_if_there::<room_participant::Entity>(
        "lifted",
        &["id", "room_id"],
        "is_banned = FALSE",
        format!(
            "room_id = (SELECT id FROM {room}) AND user_id = :user AND is_banned AND ban_expires_at <= :now{}",
            at.dialect.among_current()
        ),
    )
    .event(at, &Event::of(&change, "lifted").room("lifted.room_id"))
}
