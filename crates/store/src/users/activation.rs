//! `deactivate` and `reactivate`: an account is shut, and opened again.

use entity::{UserId, user};

use super::Users;
use crate::authority::Operation as Asked;
use crate::error::{Error, Rejected, Result, Subject};
use crate::event::{Change, LeaveReason};
use crate::operation::{Columns, Event, Moment, Operation, Plan};
use crate::rules::{CLOSED, each_left, end_participation_set};
use crate::unit::Sink;

impl<S: Sink> Users<'_, S> {
    /// Shuts an account: no login and no join any more, and every participation that is open ends now, with its duration. Appends
    /// a USER_LEFT ([`LeaveReason::Deactivated`]) in the room of each, and USER_DEACTIVATED, which says how many those were; rooms that they own go on. Takes the user's lock, then those of the
    /// rooms they are in; two statements in one transaction. For oneself, or by the system for anybody.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Rejected::UserInactive`] when it is shut already; [`Rejected::NotAllowed`].
    pub async fn deactivate(&self, user: UserId) -> Result<user::Model> {
        self.source.perform(Deactivate(user)).await
    }

    /// Opens a shut account. Appends USER_REACTIVATED. One statement on PostgreSQL. By the system alone, since who is
    /// deactivated does nothing.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Rejected::UserActive`]; [`Rejected::UserInactive`] to the user themself;
    /// [`Rejected::NotAllowed`].
    pub async fn reactivate(&self, user: UserId) -> Result<user::Model> {
        self.source.perform(Reactivate(user)).await
    }
}

pub(crate) struct Deactivate(pub(crate) UserId);

impl Operation for Deactivate {
    const NAME: &'static str = "users.deactivate";
    type Output = user::Model;

    /// The first plan takes the user's lock, so that they cannot come in anywhere any more; the second ends their participations,
    /// those included that began while the first waited for the lock.
    fn plan(&self, at: &Moment<'_>) -> Plan {
        let user = self.0;
        change_activity(at, user, "FALSE")
            .denied(at.only_oneself(Asked::ManageAccount, None, user))
            .guard("changed", "is_active", Rejected::UserInactive { user })
            .then(leave_everywhere(at, user))
    }
}

fn change_activity(at: &Moment<'_>, user: UserId, is_active: &str) -> Plan {
    Plan::new(at, "changed")
        .bind("user", user)
        .update::<user::Entity>(
            "changed",
            Columns::All,
            format!("is_active = {is_active}, updated_at = :now"),
            "id = :user",
        )
        .guard("changed", "deleted_at IS NULL", Error::NotFound(Subject::User(user)))
}

fn leave_everywhere(at: &Moment<'_>, user: UserId) -> Plan {
    let change = Change::UserDeactivated {
        target: user,
        ended_participations: 0,
    };
    let seated_in = "SELECT room_id FROM room_participants WHERE user_id = :user AND left_at IS NULL";
    let plan = Plan::without_answer(at, "summed_up")
        .bind("user", user)
        .lookup(
            "rooms_locked",
            &["id"],
            format!(
                "SELECT id FROM rooms WHERE {} ORDER BY id{}",
                at.dialect.among("id", seated_in),
                at.dialect.for_change()
            ),
        )
        // Whoever was put out of a room while its lock was waited for is not put out again.
        .lookup(
            "closed",
            CLOSED,
            format!(
                "UPDATE room_participants SET {} WHERE user_id = :user AND left_at IS NULL AND {} RETURNING {}",
                end_participation_set(at.dialect),
                at.dialect.among("room_id", "SELECT id FROM rooms_locked"),
                CLOSED.join(", ")
            ),
        )
        .effect(
            "counted",
            format!(
                "UPDATE rooms SET active_participants = active_participants - 1, updated_at = :now WHERE {}",
                at.dialect.among("id", "SELECT room_id FROM closed")
            ),
        )
        .step(
            "summed_up",
            &["participations"],
            "SELECT CAST(count(*) AS integer) AS participations FROM closed",
        );
    each_left(at, plan, "closed", LeaveReason::Deactivated).event(
        at,
        &Event::of(&change, "summed_up").computed("ended_participations", "summed_up.participations"),
    )
}

pub(crate) struct Reactivate(pub(crate) UserId);

impl Operation for Reactivate {
    const NAME: &'static str = "users.reactivate";
    type Output = user::Model;

    fn plan(&self, at: &Moment<'_>) -> Plan {
        let user = self.0;
        change_activity(at, user, "TRUE")
            .denied(at.only_oneself(Asked::ManageAccount, None, user))
            .guard("changed", "NOT is_active", Rejected::UserActive { user })
            // Who is deactivated does nothing of their own.
            .guard("changed", ":is_system", Rejected::UserInactive { user })
            .event(at, &Event::of(&Change::UserReactivated { target: user }, "changed"))
    }
}
