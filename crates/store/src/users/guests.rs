//! `admit_guest` and `sweep_guests`: people without an account, from their coming until nothing is left of them.

use std::time::Duration;

use chrono::{DateTime, Utc};
use entity::{UserId, user};

use super::Users;
use crate::authority::Operation as Asked;
use crate::database::statement::Query;
use crate::error::Result;
use crate::event::Change;
use crate::input::{self, GUEST_USERNAME};
use crate::operation::{Event, Moment, Operation, Plan};
use crate::read::{ByHand, Fetch};
use crate::unit::{Sink, Source, only_the_system};

impl<S: Sink> Users<'_, S> {
    /// Makes a guest: a user without an account, who comes into rooms that do not [ask for one](crate::NewRoom::require_auth), and there has a
    /// seat, can be kicked and banned, and is in the audit log like anybody. Nothing signs a guest in: whoever is admitted holds what the
    /// service gave them for this one visit. They own no room and no recording, and never get a password, an address or a sign-in
    /// method; a role in a meeting they may get. `display_name` has 1 to 150 characters, and need not be the only one of its kind.
    ///
    /// Appends GUEST_ADMITTED. One statement. By anybody, as a registration.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`]; [`crate::Error::NotFound`] when the acting user does not exist.
    pub async fn admit_guest(&self, display_name: &str) -> Result<user::Model> {
        let display_name = input::line("display_name", display_name, 150)?;
        self.source.perform(AdmitGuest { display_name }).await
    }

    /// [Erases](Users::erase) guests who were not seen for `idle` (a second or more): they came before that, are nowhere present, and left
    /// their last room before that too. At most `limit` (1 to [`MAX_SWEEP`](crate::recordings::MAX_SWEEP)), those first who came first;
    /// returns whom it erased. Fewer than `limit` means that nobody is left, or that another sweeper was faster.
    ///
    /// Each is erased by itself, with the USER_DELETED of every erasure; an error in the middle leaves done what was done, in a unit
    /// nothing. A guest who comes in at the very moment may be put out again, with [`LeaveReason::Erased`](crate::LeaveReason::Erased).
    /// By the system. Served by `ix_users_guests`; it walks the guests who are older than `idle` and not erased.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for idle time or limit; [`crate::Rejected::NotAllowed`].
    pub async fn sweep_guests(&self, idle: Duration, limit: u16) -> Result<Vec<UserId>> {
        let (idle, limit) = (input::age("idle", idle)?, input::sweep_limit(limit)?);
        only_the_system(self.source, Asked::EraseAccount).await?;
        let now = self.source.context().now();
        let before = chrono::TimeDelta::from_std(idle)
            .ok()
            .and_then(|idle| now.checked_sub_signed(idle));
        let before = before.unwrap_or(DateTime::UNIX_EPOCH);
        let mut erased = Vec::new();
        for user in idle_guests(self.source, before, limit).await? {
            if self.erase_guest(user, before).await? {
                erased.push(user);
            }
        }
        Ok(erased)
    }
}

/// SQL that is true of a guest who is due, over a row of users. A scalar subquery: a look by key for each, whatever the planner believes.
pub(crate) fn is_idle(user: &str) -> String {
    format!(
        "guest_since < :before AND deleted_at IS NULL AND (SELECT TRUE FROM room_participants
            WHERE room_participants.user_id = {user} AND (left_at IS NULL OR left_at >= :before) LIMIT 1) IS NULL"
    )
}

pub(crate) async fn idle_guests<S: Source>(source: &S, before: DateTime<Utc>, limit: u16) -> Result<Vec<UserId>> {
    let query = Query::new(format!(
        "SELECT id FROM users WHERE guest_since IS NOT NULL AND {} ORDER BY guest_since, id LIMIT :limit",
        is_idle("users.id")
    ));
    let query = query.bind("before", before).bind("limit", i64::from(limit));
    ByHand(query.statement(source.context().dialect()))
        .fetch_with(source, "users.sweep_guests", |cells| cells.next("id"))
        .await
}

pub(crate) struct AdmitGuest {
    pub(crate) display_name: String,
}

impl Operation for AdmitGuest {
    const NAME: &'static str = "users.admit_guest";
    type Output = user::Model;

    /// Nobody else has the name, which is the id's.
    fn plan(&self, at: &Moment<'_>) -> Plan {
        let user = UserId::from_uuid(at.id());
        let change = Change::GuestAdmitted { target: user };
        Plan::new(at, "admitted")
            .bind("user", user)
            .bind("username", format!("{GUEST_USERNAME}{user}"))
            .bind("display_name", self.display_name.clone())
            .insert::<user::Entity>(
                "admitted",
                at.dialect,
                "INSERT INTO users (id, username, display_name, is_active, is_verified, created_at, updated_at, guest_since)
                VALUES (:user, :username, :display_name, TRUE, FALSE, :now, :now, :now)",
            )
            .event(at, &Event::of(&change, "admitted"))
    }
}
