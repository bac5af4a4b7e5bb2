//! Moderators' means: bans and roles.

use chrono::{DateTime, Utc};
use entity::{ParticipantId, ParticipantRole, RoomId, UserId, room_participant};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{ColumnTrait, DatabaseExecutor, DbErr, FromQueryResult, QueryFilter, QueryResult};

use super::{
    ParticipantWithUser, Participants, WhenEmpty, already, has_run_out, present_seat, standing_in, standing_row,
    with_users,
};
use crate::authority::{Operation as Asked, may};
use crate::backend::moderation as sql;
use crate::backend::plan::Plan;
use crate::error::{Error, Invalid, Rejected, Result, Rule, Subject};
use crate::input;
use crate::operation::{Moment, Operation};
use crate::page::{Page, PageRequest};
use crate::rooms::{self, why_not_allowed};
use crate::scope;
use crate::unit::{Sink, Source};

/// A ban that was put.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Ban {
    /// The row it stands on: the stay that it ended, or one of no length for somebody who was absent.
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

impl<S: Source> Participants<'_, S> {
    /// The standing bans of a room, those that have run out left out, by (joined_at of the row, id).
    ///
    /// # Errors
    /// None beyond the database's own.
    pub async fn list_bans(&self, room: RoomId, page: &PageRequest) -> Result<Page<ParticipantWithUser>> {
        let now = self.source.store().now();
        let expires = room_participant::Column::BanExpiresAt;
        let standing = Expr::col(room_participant::Column::IsBanned.as_column_ref())
            .eq(true)
            .and(expires.is_null().or(expires.gt(now)));
        let rows = page
            .apply(
                with_users(room).filter(standing),
                room_participant::Column::JoinedAt,
                room_participant::Column::Id,
            )
            .into_model::<ParticipantWithUser>()
            .all(&self.source.executor())
            .await
            .map_err(|error| self.source.failed(&error, "participants.list_bans"))?;
        Ok(page.page(rows, |row| (row.participant.joined_at, row.participant.id.as_uuid())))
    }
}

impl<S: Sink> Participants<'_, S> {
    /// Bars `user` from the room, for good or until `until`; if they are present, the same stay ends as kicked. Appends
    /// USER_BANNED. `reason` has at most 500 characters. Takes the room's lock; one statement on PostgreSQL.
    ///
    /// By the owner, the host or the platform; by a co-host against a participant or somebody absent. Nobody bans the host, the
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
        if until.is_some_and(|until| until <= self.source.store().now()) {
            let (field, rule) = ("ban_expires_at", Rule::After("now"));
            return Err(Invalid { field, rule }.into());
        }
        let when_empty = self.source.store().when_empty();
        let ban = PutBan {
            room,
            user,
            reason,
            until,
            when_empty,
        };
        self.source.perform(ban).await
    }

    /// Lifts the ban of `user`; they may join again. Appends USER_UNBANNED. By the owner, the host or the platform. Takes the
    /// room's lock.
    ///
    /// # Errors
    /// [`Error::NotFound`] for the room; [`Rejected::NotBanned`]; [`Rejected::NotAllowed`].
    pub async fn unban(&self, room: RoomId, user: UserId) -> Result<room_participant::Model> {
        self.source.perform(Unban { room, user }).await
    }

    /// PARTICIPANT to CO_HOST, of somebody present. Appends ROLE_PROMOTION. By the owner, the host or the platform. Takes the
    /// room's lock; one statement on PostgreSQL.
    ///
    /// # Errors
    /// [`Error::NotFound`] for the room; [`Rejected::NotPresent`]; [`Rejected::AlreadyRole`]; [`Rejected::Protected`] for the
    /// host, whose role is handed over instead; [`Rejected::NotAllowed`].
    pub async fn promote(&self, room: RoomId, user: UserId) -> Result<room_participant::Model> {
        let to = ParticipantRole::CoHost;
        self.source.perform(ChangeRole { room, user, to }).await
    }

    /// CO_HOST to PARTICIPANT, of somebody present. Appends ROLE_DEMOTION. Otherwise as [`Participants::promote`].
    ///
    /// # Errors
    /// As of [`Participants::promote`].
    pub async fn demote(&self, room: RoomId, user: UserId) -> Result<room_participant::Model> {
        let to = ParticipantRole::Participant;
        self.source.perform(ChangeRole { room, user, to }).await
    }

    /// Makes `to`, who is present, the HOST; who was becomes CO_HOST. At no time are there two. Appends ROLE_CHANGED with the
    /// former host. By the host, the owner or the platform. Takes the room's lock; two statements in one transaction.
    ///
    /// # Errors
    /// [`Error::NotFound`] for the room; [`Rejected::NotPresent`]; [`Rejected::AlreadyRole`]; [`Rejected::NotAllowed`].
    pub async fn hand_over_host(&self, room: RoomId, to: UserId) -> Result<room_participant::Model> {
        let done = self.source.perform(HandOver { room, to }).await?;
        done.map_err(|_| Error::Aborted {
            reason: "the hand-over ended half way",
        })
    }
}

/// A refusal for want of authority, with whom it was to be done to.
fn against(error: Error, target: UserId) -> Error {
    match error {
        Error::Rejected(Rejected::NotAllowed {
            operation,
            standing,
            room,
            ..
        }) => Rejected::NotAllowed {
            operation,
            standing,
            room,
            user: Some(target),
        }
        .into(),
        other => other,
    }
}

struct PutBan {
    room: RoomId,
    user: UserId,
    reason: Option<String>,
    until: Option<DateTime<Utc>>,
    when_empty: WhenEmpty,
}

impl Operation for PutBan {
    const NAME: &'static str = "participants.ban";
    type Output = Ban;

    fn forbidden(&self, at: &Moment<'_>) -> Option<Error> {
        let (operation, user) = (Asked::Ban, self.user);
        (at.actor.user_id() == Some(user)).then(|| Rejected::Protected { operation, user }.into())
    }

    fn plan(&self, at: &Moment<'_>) -> Plan {
        sql::ban(at, self.room, self.user, self.reason.as_deref(), self.until)
    }

    fn read(&self, row: &QueryResult) -> Result<Ban, DbErr> {
        Ok(Ban {
            id: row.try_get_by("id")?,
            room: self.room,
            user: self.user,
            until: self.until,
            was_present: row.try_get_by::<i32, _>("was_present")? == 1,
        })
    }

    fn in_transaction(&self) -> bool {
        self.when_empty == WhenEmpty::EndRoom
    }

    fn then(&self, ban: &Ban, at: &Moment<'_>) -> Option<Plan> {
        self.when_empty.plan(at, self.room).filter(|_| ban.was_present)
    }

    async fn refusal(&self, db: &DatabaseExecutor<'_>, at: &Moment<'_>) -> Result<Option<Error>, DbErr> {
        let (id, user, operation) = (self.room, self.user, Asked::Ban);
        let Some(room) = rooms::find(db, id).await? else {
            return Ok(Some(Error::NotFound(Subject::Room(id))));
        };
        let standing = standing_in(db, at, &room).await?;
        let not_allowed = Rejected::NotAllowed {
            operation,
            standing,
            room: Some(id),
            user: Some(user),
        };
        if !may(operation, standing, None) {
            return Ok(Some(not_allowed.into()));
        }
        let known = scope::find::<entity::user::Entity, scope::Live>().filter(entity::user::Column::Id.eq(user));
        if known.one(db).await?.is_none() {
            return Ok(Some(Error::NotFound(Subject::User(user))));
        }
        let protected = Rejected::Protected { operation, user };
        if room.owner_id == user {
            return Ok(Some(protected.into()));
        }
        let Some(row) = standing_row(db, id, user).await? else {
            return Ok(None);
        };
        Ok(match (row.is_banned, row.role) {
            (true, _) => (!has_run_out(&row, at)).then(|| already(&row)),
            (false, ParticipantRole::Host) => Some(protected.into()),
            (false, role) => (!may(operation, standing, Some(role))).then(|| not_allowed.into()),
        })
    }
}

struct Unban {
    room: RoomId,
    user: UserId,
}

impl Operation for Unban {
    const NAME: &'static str = "participants.unban";
    type Output = room_participant::Model;

    fn plan(&self, at: &Moment<'_>) -> Plan {
        sql::unban(at, self.room, self.user)
    }

    fn read(&self, row: &QueryResult) -> Result<room_participant::Model, DbErr> {
        room_participant::Model::from_query_result(row, "")
    }

    async fn refusal(&self, db: &DatabaseExecutor<'_>, at: &Moment<'_>) -> Result<Option<Error>, DbErr> {
        let (room, user) = (self.room, self.user);
        if let Err(error) = why_not_allowed(db, at, Asked::Unban, room).await? {
            return Ok(Some(against(error, user)));
        }
        let row = standing_row(db, room, user).await?;
        let banned = row.is_some_and(|row| row.is_banned);
        Ok((!banned).then(|| Rejected::NotBanned { user, room }.into()))
    }
}

struct ChangeRole {
    room: RoomId,
    user: UserId,
    to: ParticipantRole,
}

impl ChangeRole {
    fn from(&self) -> ParticipantRole {
        match self.to {
            ParticipantRole::CoHost => ParticipantRole::Participant,
            _ => ParticipantRole::CoHost,
        }
    }
}

impl Operation for ChangeRole {
    const NAME: &'static str = "participants.change_role";
    type Output = room_participant::Model;

    fn plan(&self, at: &Moment<'_>) -> Plan {
        sql::change_role(at, self.room, self.user, self.from(), self.to)
    }

    fn read(&self, row: &QueryResult) -> Result<room_participant::Model, DbErr> {
        room_participant::Model::from_query_result(row, "")
    }

    async fn refusal(&self, db: &DatabaseExecutor<'_>, at: &Moment<'_>) -> Result<Option<Error>, DbErr> {
        let (room, user, operation) = (self.room, self.user, Asked::ChangeRole);
        if let Err(error) = why_not_allowed(db, at, operation, room).await? {
            return Ok(Some(against(error, user)));
        }
        let Some(seat) = present_seat(db, room, user).await? else {
            return Ok(Some(Rejected::NotPresent { user, room }.into()));
        };
        Ok(match seat.role {
            ParticipantRole::Host => Some(Rejected::Protected { operation, user }.into()),
            role if role == self.to => Some(Rejected::AlreadyRole { user, room, role }.into()),
            _ => None,
        })
    }
}

struct HandOver {
    room: RoomId,
    to: UserId,
}

/// The heir's seat and role after the first statement, the whole row after the second.
type HandOverState = std::result::Result<room_participant::Model, (ParticipantId, ParticipantRole)>;

impl Operation for HandOver {
    const NAME: &'static str = "participants.hand_over_host";
    type Output = HandOverState;

    fn in_transaction(&self) -> bool {
        true
    }

    fn plan(&self, at: &Moment<'_>) -> Plan {
        sql::prepare_hand_over(at, self.room, self.to)
    }

    fn read(&self, row: &QueryResult) -> Result<HandOverState, DbErr> {
        Ok(Err((row.try_get_by("id")?, row.try_get_by("role")?)))
    }

    fn then(&self, state: &HandOverState, at: &Moment<'_>) -> Option<Plan> {
        state
            .as_ref()
            .err()
            .map(|(heir, from)| sql::hand_over(at, self.room, self.to, *heir, *from))
    }

    fn read_then(&self, _: HandOverState, row: &QueryResult) -> Result<HandOverState, DbErr> {
        room_participant::Model::from_query_result(row, "").map(Ok)
    }

    async fn refusal(&self, db: &DatabaseExecutor<'_>, at: &Moment<'_>) -> Result<Option<Error>, DbErr> {
        let (room, user) = (self.room, self.to);
        if let Err(error) = why_not_allowed(db, at, Asked::HandOver, room).await? {
            return Ok(Some(against(error, user)));
        }
        let Some(seat) = present_seat(db, room, user).await? else {
            return Ok(Some(Rejected::NotPresent { user, room }.into()));
        };
        let role = seat.role;
        Ok((role == ParticipantRole::Host).then(|| Rejected::AlreadyRole { user, room, role }.into()))
    }
}
