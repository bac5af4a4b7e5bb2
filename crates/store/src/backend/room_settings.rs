//! Statements that change what a room is, not who is in it.

use entity::{RoomId, UserId, room};

use super::audit::Entry;
use super::plan::{Kind, Plan, Step};
use super::rooms::{active_user, with_standing};
use crate::audit::Change;
use crate::authority::Operation;
use crate::operation::Moment;
use crate::rooms::CheckedChanges;

/// How a room's row is to be changed.
struct RowChange<'a> {
    operation: Operation,
    set: &'a str,
    guard: &'a str,
    event: &'a Change,
    /// Details of the event that come from step `locked`, which has the row as it was.
    computed: &'a [(&'a str, &'a str)],
    /// A guard that takes a user's lock, which comes before the room's.
    first: Option<&'a str>,
}

/// Changes the room's row where the guard holds, if the actor may: 1 statement.
fn change(at: &Moment<'_>, plan: Plan, room: RoomId, row: &RowChange<'_>) -> Plan {
    let columns = at.dialect.columns_of::<room::Entity>();
    let RowChange { set, guard, .. } = row;
    with_standing(at, plan, row.operation, room, row.first)
        .step(Step::guard(
            "changed",
            &[("id", Kind::Uuid)],
            format!(
                "UPDATE rooms SET {set}, updated_at = :now WHERE id = (SELECT id FROM allowed) AND {guard} RETURNING {columns}"
            ),
        ))
        .audit(
            at,
            &Entry {
                name: "audited",
                from: "changed, locked",
                room: "changed.id",
                event: row.event,
                computed: row.computed,
            },
        )
}

fn managed<'a>(set: &'a str, guard: &'a str, event: &'a Change) -> RowChange<'a> {
    RowChange {
        operation: Operation::ManageRoom,
        set,
        guard,
        event,
        computed: &[],
        first: None,
    }
}

pub(crate) fn cancel(at: &Moment<'_>, room: RoomId) -> Plan {
    let row = managed("status = 'CANCELLED'", "status = 'CREATED'", &Change::RoomCancelled {});
    change(at, Plan::yielding("changed"), room, &row)
}

pub(crate) fn delete(at: &Moment<'_>, room: RoomId) -> Plan {
    let row = managed("deleted_at = :now", "status <> 'LIVE'", &Change::RoomDeleted {});
    change(at, Plan::yielding("changed"), room, &row)
}

/// To a live, active user, who stays so until it is done.
pub(crate) fn transfer(at: &Moment<'_>, room: RoomId, to: UserId) -> Plan {
    let plan = Plan::yielding("changed")
        .bind("new_owner", to)
        .step(active_user(at.dialect, "heir", ":new_owner"));
    let row = RowChange {
        operation: Operation::TransferRoom,
        set: "owner_id = :new_owner",
        guard: "owner_id <> :new_owner",
        event: &Change::RoomOwnershipTransferred { target: to, from: to },
        computed: &[("from", &at.dialect.uuid_text("locked.owner_id"))],
        first: Some("heir"),
    };
    change(at, plan, room, &row)
}

/// The given facts alone; capacity not below who is present, the schedule only before the start, nothing once it is over.
pub(crate) fn update(at: &Moment<'_>, room: RoomId, changes: &CheckedChanges) -> Plan {
    let mut plan = Plan::yielding("changed");
    let mut sets: Vec<&str> = Vec::new();
    let mut guard = "status IN ('CREATED', 'LIVE')".to_owned();
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
        guard.push_str(" AND status = 'CREATED'");
    }
    if let Some(seats) = changes.max_participants {
        plan = plan.bind("max_participants", seats);
        sets.push("max_participants = :max_participants");
        guard.push_str(" AND active_participants <= :max_participants");
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
    let event = Change::RoomUpdated {
        fields: changes.fields(),
    };
    change(at, plan, room, &managed(&sets.join(", "), &guard, &event))
}

/// Takes a deletion back: 1 statement. The room is deleted, so the usual lock does not find it.
pub(crate) fn restore(at: &Moment<'_>, room: RoomId) -> Plan {
    let columns = at.dialect.columns_of::<room::Entity>();
    Plan::yielding("restored")
        .bind("room", room)
        .bind("now", at.now)
        .bind("actor", at.actor.user_id())
        .bind("is_system", at.actor.is_system())
        .step(Step::guard(
            "restored",
            &[("id", Kind::Uuid)],
            format!(
                "UPDATE rooms SET deleted_at = NULL, updated_at = :now
                WHERE id = :room AND deleted_at IS NOT NULL AND (:is_system OR owner_id = :actor) RETURNING {columns}"
            ),
        ))
        .audit(
            at,
            &Entry {
                name: "audited",
                from: "restored",
                room: "restored.id",
                event: &Change::RoomRestored {},
                computed: &[],
            },
        )
}
