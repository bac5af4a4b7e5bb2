//! What the actor is to a room, as SQL, and the guard that asks `authority::may`.

use entity::{ParticipantRole, RoomId, UserId, room, room_participant};
use sea_orm::Iterable;
use uuid::Uuid;

use crate::authority::{ActorRole, Operation as Asked, may};
use crate::database::Dialect;
use crate::database::statement::enum_text;
use crate::error::{Error, Rejected, Subject};
use crate::operation::{Columns, Lock, Moment, Plan, Refusal};

/// SQL over the step `room`: what the actor is to it, given their seat in the step `own_seat`.
pub(crate) const ACTOR_ROLE: &str = "CASE WHEN :is_system THEN 'SYSTEM' WHEN owner_id = :actor THEN 'OWNER'
    ELSE COALESCE((SELECT role FROM own_seat), 'OUTSIDER') END";

impl Plan {
    /// Locks the room `:room`: step `room`.
    pub(crate) fn lock_room(self, room: RoomId, columns: &'static [&'static str]) -> Self {
        self.bind("room", room)
            .lock::<room::Entity>("room", Lock::Change, Columns::Of(columns), "id = :room")
    }

    /// Requires that the room is there and not deleted.
    pub(crate) fn room_exists(self, room: RoomId) -> Self {
        self.guard("room", "deleted_at IS NULL", Error::NotFound(Subject::Room(room)))
    }

    /// Finds the actor's own seat in the step `room`, for [`ACTOR_ROLE`]: step `own_seat`. Who is no user is looked for as one that
    /// does not exist: a comparison with NULL costs nothing where it is planned, and so would be planned anew each time.
    pub(crate) fn find_own_seat(self, at: &Moment<'_>) -> Self {
        let key = seat_key(at.dialect, "(SELECT id FROM room)", ":own_user");
        let own_user = at.actor.user_id().unwrap_or(UserId::from_uuid(Uuid::nil()));
        self.bind("own_user", own_user)
            .look::<room_participant::Entity>("own_seat", Lock::Share, &["role"], key)
    }

    /// Requires that the actor may do `asked` in the step `room`, to nobody or to `user`.
    pub(crate) fn allowed(self, asked: Asked, room: RoomId, user: Option<UserId>) -> Self {
        let refusal = not_allowed(ACTOR_ROLE, asked, room, user);
        self.guard("room", format!("{ACTOR_ROLE} IN ({})", allowed(asked, None)), refusal)
    }
}

/// The key of a user's seat in a room, each given as SQL for its id.
pub(crate) fn seat_key(dialect: Dialect, room: &str, user: &str) -> String {
    let among_current = dialect.among_current();
    format!("room_id = {room} AND user_id = {user} AND left_at IS NULL{among_current}")
}

/// The refusal for want of authority; `actor_role` is SQL over the guard's row.
pub(crate) fn not_allowed(actor_role: &str, operation: Asked, room: RoomId, user: Option<UserId>) -> Refusal {
    Refusal::with(actor_role, move |code: String| Rejected::NotAllowed {
        operation,
        actor_role: ActorRole::of_code(&code),
        room: Some(room),
        user,
    })
}

/// The roles that may do it to a user present in the role `target`, or in a room as such; SQL to stand between parentheses.
pub(crate) fn allowed(asked: Asked, target: Option<ParticipantRole>) -> String {
    let allowed = ActorRole::IN_A_ROOM
        .into_iter()
        .filter(|actor_role| may(asked, *actor_role, target))
        .map(|actor_role| format!("'{}'", actor_role.code()));
    allowed.collect::<Vec<_>>().join(", ")
}

/// SQL over a present seat: the actor may put its user out by `asked`.
pub(crate) fn may_remove(asked: Asked) -> String {
    let pairs: Vec<String> = ActorRole::IN_A_ROOM
        .into_iter()
        .flat_map(|actor_role| ParticipantRole::iter().map(move |role| (actor_role, role)))
        .filter(|(actor_role, role)| may(asked, *actor_role, Some(*role)))
        .map(|(actor_role, role)| format!("('{}', '{}')", actor_role.code(), enum_text(&role)))
        .collect();
    format!(
        "((SELECT {ACTOR_ROLE} FROM room), CAST(role AS text)) IN (VALUES {})",
        pairs.join(", ")
    )
}
