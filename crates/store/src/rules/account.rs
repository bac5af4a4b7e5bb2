//! Users as rows that an operation locks.

use entity::{UserId, user};

use crate::error::{Error, Rejected, Subject};
use crate::operation::{Lock, Plan};

/// SQL that is true of a user with an account.
const HAS_ACCOUNT: &str = "guest_since IS NULL";

/// SQL that is true of a live, active user.
const ACTIVE: &str = "is_active";
const LIVE: &str = "deleted_at IS NULL";

impl Plan {
    /// Locks the row of `:user` for a change: step `account`.
    pub(crate) fn lock_account(self, user: UserId) -> Self {
        let plan = self
            .bind("user", user)
            .lock::<user::Entity>("account", Lock::Change, &["id"], "id = :user");
        changeable(plan, "account", user)
    }
}

/// Requires of the step `row` that it is a live user, and an active one unless the system acts: who is deactivated does
/// nothing of their own any more.
pub(crate) fn changeable(plan: Plan, row: &'static str, user: UserId) -> Plan {
    plan.guard(row, LIVE, Error::NotFound(Subject::User(user))).guard(
        row,
        format!("{ACTIVE} OR :is_system"),
        Rejected::UserInactive { user },
    )
}

/// Requires of the step `row` that it is a live, active user.
pub(crate) fn active(plan: Plan, row: &'static str, user: UserId) -> Plan {
    plan.guard(row, LIVE, Error::NotFound(Subject::User(user)))
        .guard(row, ACTIVE, Rejected::UserInactive { user })
}

/// Requires of the step `row` that it is a user with an account, as whoever owns something and whoever signs in has one.
pub(crate) fn has_account(plan: Plan, row: &'static str, user: UserId) -> Plan {
    plan.guard(row, HAS_ACCOUNT, Rejected::AccountRequired { user, room: None })
}
