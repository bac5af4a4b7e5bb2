//! `update`, `transfer`, `delete`, `restore`: what a room is, not who is in it.

use chrono::{DateTime, Utc};
use entity::{RoomId, UserId, room, user};

use super::lifecycle::in_status;
use super::{MAX_CAPACITY, Rooms};
use crate::authority::Operation as Asked;
use crate::error::{Error, Invalid, Rejected, Result, Rule, Subject};
use crate::event::Change;
use crate::input;
use crate::operation::{Columns, Event, Lock, Moment, Operation, Plan, Refusal};
use crate::rules::{active, allowed, has_account, not_allowed};
use crate::scope::Deleted;
use crate::unit::Sink;

/// What to change of a room; what is none stays. Limits are those of [`super::NewRoom`].
#[derive(Clone, Debug, Default)]
pub struct RoomChanges<'a> {
    /// A new title.
    pub title: Option<&'a str>,
    /// A new description, or none any more.
    pub description: Option<Option<&'a str>>,
    /// New planned times, or none any more. Only before the meeting begins.
    pub schedule: Option<Option<Schedule>>,
    /// New number of seats, not below who is present.
    pub max_participants: Option<i32>,
    /// Listed for everybody.
    pub is_public: Option<bool>,
    /// May be recorded. A recording that runs goes on.
    pub is_recordable: Option<bool>,
    /// Only for people with an account. Guests who are present stay until they leave or are put out; they do not come in again.
    pub require_auth: Option<bool>,
}

/// Planned times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub struct Schedule {
    /// Planned begin.
    pub start: DateTime<Utc>,
    /// Planned end, after the begin.
    pub end: Option<DateTime<Utc>>,
}

/// Changes that kept the rules.
pub(crate) struct CheckedChanges {
    pub(crate) title: Option<String>,
    pub(crate) description: Option<Option<String>>,
    #[expect(clippy::type_complexity, reason = "start and end, if they are to change")]
    pub(crate) schedule: Option<(Option<DateTime<Utc>>, Option<DateTime<Utc>>)>,
    pub(crate) max_participants: Option<i32>,
    pub(crate) is_public: Option<bool>,
    pub(crate) is_recordable: Option<bool>,
    pub(crate) require_auth: Option<bool>,
}

impl TryFrom<RoomChanges<'_>> for CheckedChanges {
    type Error = Error;

    fn try_from(changes: RoomChanges<'_>) -> Result<Self> {
        let title = changes
            .title
            .map(|title| input::line("title", title, 255))
            .transpose()?;
        let description = changes
            .description
            .map(|text| input::optional_text("description", text, 10_000))
            .transpose()?;
        let schedule = changes
            .schedule
            .map(|times| input::schedule(times.map(|times| times.start), times.and_then(|times| times.end)))
            .transpose()?;
        let max_participants = changes
            .max_participants
            .map(|seats| input::number("max_participants", seats, 1, MAX_CAPACITY))
            .transpose()?;
        let checked = Self {
            title,
            description,
            schedule,
            max_participants,
            is_public: changes.is_public,
            is_recordable: changes.is_recordable,
            require_auth: changes.require_auth,
        };
        if checked.fields().is_empty() {
            let (field, rule) = ("changes", Rule::NotEmpty);
            return Err(Invalid { field, rule }.into());
        }
        Ok(checked)
    }
}

impl CheckedChanges {
    /// The names of what changes, for the audit log.
    pub(crate) fn fields(&self) -> Vec<String> {
        [
            ("title", self.title.is_some()),
            ("description", self.description.is_some()),
            ("schedule", self.schedule.is_some()),
            ("max_participants", self.max_participants.is_some()),
            ("is_public", self.is_public.is_some()),
            ("is_recordable", self.is_recordable.is_some()),
            ("require_auth", self.require_auth.is_some()),
        ]
        .into_iter()
        .filter(|(_, changes)| *changes)
        .map(|(name, _)| name.to_owned())
        .collect()
    }
}

impl<S: Sink> Rooms<'_, S> {
    /// Changes settings. Appends ROOM_UPDATED with the names of what changed. By the owner or the system. Takes the room's lock.
    ///
    /// # Errors
    /// [`Error::Invalid`], also when nothing is to change; [`Error::NotFound`]; [`Rejected::RoomStatus`] when the meeting is
    /// over or called off, or for the schedule when it has begun; [`Rejected::CapacityInUse`]; [`Rejected::NotAllowed`].
    pub async fn update(&self, id: RoomId, changes: RoomChanges<'_>) -> Result<room::Model> {
        let changes = CheckedChanges::try_from(changes)?;
        self.source.perform(Update { id, changes }).await
    }

    /// Gives the room to another live, active user. Roles of who is present stay as they are. Appends
    /// ROOM_OWNERSHIP_TRANSFERRED. By the owner or the system. Takes the new owner's lock (shared), then the room's.
    ///
    /// # Errors
    /// [`Error::NotFound`] for room or user; [`Rejected::UserInactive`]; [`Rejected::AccountRequired`];
    /// [`Rejected::AlreadyOwner`]; [`Rejected::NotAllowed`].
    pub async fn transfer(&self, id: RoomId, to: UserId) -> Result<room::Model> {
        self.source.perform(Transfer { id, to }).await
    }

    /// Deletes a room that is not running; [`Rooms::deleted`] still sees it, and its code is never used again. Appends
    /// ROOM_DELETED. By the owner or the system.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Rejected::RoomStatus`] while it is LIVE; [`Rejected::NotAllowed`].
    pub async fn delete(&self, id: RoomId) -> Result<room::Model> {
        self.source.perform(Delete(id)).await
    }
}

impl<S: Sink> Rooms<'_, S, Deleted> {
    /// Takes a deletion back. Appends ROOM_RESTORED. By the owner or the system.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such deleted room; [`Rejected::NotAllowed`].
    pub async fn restore(&self, id: RoomId) -> Result<room::Model> {
        self.source.perform(Restore(id)).await
    }
}

/// What changes of the room's row have in common: its lock, the actor's role, the update `changed`.
pub(super) fn changing(at: &Moment<'_>, asked: Asked, room: RoomId, set: impl Into<String>) -> Plan {
    change_locked(at, Plan::new(at, "changed"), asked, room, set)
}

fn change_locked(at: &Moment<'_>, plan: Plan, asked: Asked, room: RoomId, set: impl Into<String>) -> Plan {
    plan.lock_room(room, &["id", "owner_id"])
        .find_own_seat(at)
        .update::<room::Entity>("changed", Columns::All, set, "id = (SELECT id FROM room)")
        .room_exists(room)
        .allowed(asked, room, None)
}

/// The end of such a plan: its event.
pub(super) fn changed(at: &Moment<'_>, plan: Plan, change: &Change) -> Plan {
    plan.event(at, &Event::of(change, "changed").room("changed.id"))
}

pub(crate) struct Update {
    pub(crate) id: RoomId,
    pub(crate) changes: CheckedChanges,
}

impl Operation for Update {
    const NAME: &'static str = "rooms.update";
    type Output = room::Model;

    fn plan(&self, at: &Moment<'_>) -> Plan {
        let (room, changes) = (self.id, &self.changes);
        let mut plan = Plan::new(at, "changed");
        let mut sets = vec!["updated_at = :now"];
        if let Some(title) = &changes.title {
            plan = plan.bind("title", title.clone());
            sets.push("title = :title");
        }
        if let Some(description) = &changes.description {
            plan = plan.bind("description", description.clone());
            sets.push("description = :description");
        }
        if let Some((start, end)) = changes.schedule {
            plan = plan.bind("scheduled_start", start).bind("scheduled_end", end);
            sets.push("scheduled_start = :scheduled_start, scheduled_end = :scheduled_end");
        }
        if let Some(seats) = changes.max_participants {
            plan = plan.bind("max_participants", seats);
            sets.push("max_participants = :max_participants");
        }
        for (flag, name, set) in [
            (changes.is_public, "is_public", "is_public = :is_public"),
            (changes.is_recordable, "is_recordable", "is_recordable = :is_recordable"),
            (changes.require_auth, "require_auth", "require_auth = :require_auth"),
        ] {
            if let Some(flag) = flag {
                plan = plan.bind(name, flag);
                sets.push(set);
            }
        }
        // The schedule is that of a meeting which has not begun.
        let open = if changes.schedule.is_some() {
            "'CREATED'"
        } else {
            "'CREATED', 'LIVE'"
        };
        let mut plan = in_status(
            change_locked(at, plan, Asked::ManageRoom, room, sets.join(", ")),
            room,
            open,
        );
        if changes.max_participants.is_some() {
            plan = plan.guard(
                "room",
                "active_participants <= :max_participants",
                Refusal::with("active_participants", move |present| Rejected::CapacityInUse {
                    room,
                    present,
                }),
            );
        }
        let fields = changes.fields();
        changed(at, plan, &Change::RoomUpdated { fields })
    }
}

pub(crate) struct Transfer {
    pub(crate) id: RoomId,
    pub(crate) to: UserId,
}

impl Operation for Transfer {
    const NAME: &'static str = "rooms.transfer";
    type Output = room::Model;

    fn plan(&self, at: &Moment<'_>) -> Plan {
        let (room, user) = (self.id, self.to);
        let change = Change::RoomOwnershipTransferred {
            target: user,
            from: user,
        };
        let plan = Plan::new(at, "changed")
            .bind("new_owner", user)
            // Users before rooms.
            .lock::<user::Entity>("member", Lock::Share, &["id"], "id = :new_owner");
        let set = "owner_id = :new_owner, updated_at = :now";
        let plan = change_locked(at, plan, Asked::TransferRoom, room, set);
        has_account(active(plan, "member", user), "member", user)
            .guard("room", "owner_id <> :new_owner", Rejected::AlreadyOwner { user, room })
            .event(
                at,
                &Event::of(&change, "changed, room")
                    .room("changed.id")
                    .computed("from", at.dialect.uuid_text("room.owner_id")),
            )
    }
}

pub(crate) struct Delete(pub(crate) RoomId);

impl Operation for Delete {
    const NAME: &'static str = "rooms.delete";
    type Output = room::Model;

    fn plan(&self, at: &Moment<'_>) -> Plan {
        let set = "deleted_at = :now, updated_at = :now";
        let plan = changing(at, Asked::ManageRoom, self.0, set);
        let plan = in_status(plan, self.0, "'CREATED', 'ENDED', 'CANCELLED'");
        changed(at, plan, &Change::RoomDeleted {})
    }
}

pub(crate) struct Restore(pub(crate) RoomId);

impl Operation for Restore {
    const NAME: &'static str = "rooms.restore";
    type Output = room::Model;

    /// Nobody is present in a deleted room, so seats count for nothing.
    fn plan(&self, at: &Moment<'_>) -> Plan {
        let (room, asked) = (self.0, Asked::ManageRoom);
        let actor_role = "CASE WHEN :is_system THEN 'SYSTEM' WHEN owner_id = :actor THEN 'OWNER' ELSE 'OUTSIDER' END";
        let plan = Plan::new(at, "changed")
            .bind("room", room)
            .update::<room::Entity>(
                "changed",
                Columns::All,
                "deleted_at = NULL, updated_at = :now",
                "id = :room AND deleted_at IS NOT NULL",
            )
            .found("changed", Error::NotFound(Subject::Room(room)))
            .guard(
                "changed",
                format!("{actor_role} IN ({})", allowed(asked, None)),
                not_allowed(actor_role, asked, room, None),
            );
        changed(at, plan, &Change::RoomRestored {})
    }
}
