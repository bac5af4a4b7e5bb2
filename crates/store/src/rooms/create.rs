//! `create`: a room for an owner, with a code of its own.

use chrono::{DateTime, Utc};
use entity::{RoomId, UserId, room, user};

use super::{MAX_CAPACITY, Rooms};
use crate::authority::Operation as Asked;
use crate::error::{Conflict, Error, Result};
use crate::event::Change;
use crate::input;
use crate::operation::{Event, Lock, Moment, Operation, Plan};
use crate::rules::{active, has_account};
use crate::unit::Sink;

/// What a room is made of. [`NewRoom::titled`] fills in the usual.
#[derive(Clone, Debug)]
pub struct NewRoom<'a> {
    /// Who will own it: a live, active user.
    pub owner: UserId,
    /// 1 to 255 characters.
    pub title: &'a str,
    /// What it is about, at most 10,000 characters; line breaks are fine.
    pub description: Option<&'a str>,
    /// Planned begin.
    pub scheduled_start: Option<DateTime<Utc>>,
    /// Planned end, after the begin.
    pub scheduled_end: Option<DateTime<Utc>>,
    /// Seats, 1 to [`MAX_CAPACITY`].
    pub max_participants: i32,
    /// Listed for everybody.
    pub is_public: bool,
    /// May be recorded.
    pub is_recordable: bool,
    /// Only for people with an account: [guests](crate::users::Users::admit_guest) are not let in.
    pub require_auth: bool,
}

impl<'a> NewRoom<'a> {
    /// A room to start at once: 100 seats, not listed, recordable, for people with an account.
    pub fn titled(owner: UserId, title: &'a str) -> Self {
        Self {
            owner,
            title,
            description: None,
            scheduled_start: None,
            scheduled_end: None,
            max_participants: 100,
            is_public: false,
            is_recordable: true,
            require_auth: true,
        }
    }
}

/// A room's facts that kept the rules.
pub(crate) struct CheckedRoom {
    pub(crate) owner: UserId,
    pub(crate) title: String,
    pub(crate) description: Option<String>,
    pub(crate) scheduled_start: Option<DateTime<Utc>>,
    pub(crate) scheduled_end: Option<DateTime<Utc>>,
    pub(crate) max_participants: i32,
    pub(crate) is_public: bool,
    pub(crate) is_recordable: bool,
    pub(crate) require_auth: bool,
}

impl TryFrom<NewRoom<'_>> for CheckedRoom {
    type Error = Error;

    fn try_from(new: NewRoom<'_>) -> Result<Self> {
        let (scheduled_start, scheduled_end) = input::schedule(new.scheduled_start, new.scheduled_end)?;
        Ok(Self {
            owner: new.owner,
            title: input::line("title", new.title, 255)?,
            description: input::optional_text("description", new.description, 10_000)?,
            scheduled_start,
            scheduled_end,
            max_participants: input::number("max_participants", new.max_participants, 1, MAX_CAPACITY)?,
            is_public: new.is_public,
            is_recordable: new.is_recordable,
            require_auth: new.require_auth,
        })
    }
}

impl<S: Sink> Rooms<'_, S> {
    /// Makes a room with a code of its own. Appends ROOM_CREATED. For oneself, or by the system for anybody.
    ///
    /// # Errors
    /// [`Error::Invalid`]; [`Error::NotFound`] and [`crate::Rejected::UserInactive`] for the owner;
    /// [`crate::Rejected::AccountRequired`] for a guest; [`crate::Rejected::NotAllowed`] for
    /// somebody else's room; [`Conflict::RoomCodesExhausted`].
    pub async fn create(&self, new: NewRoom<'_>) -> Result<room::Model> {
        let new = CheckedRoom::try_from(new)?;
        self.source.perform(Create(new)).await
    }
}

pub(crate) struct Create(pub(crate) CheckedRoom);

impl Operation for Create {
    const NAME: &'static str = "rooms.create";
    type Output = room::Model;

    /// When the owner is fine and still nothing happened, it was the code: another one is tried.
    fn plan(&self, at: &Moment<'_>) -> Plan {
        let new = &self.0;
        let code = at.ids.room_code();
        let change = Change::RoomCreated {
            room_code: code.clone(),
        };
        let plan = Plan::new(at, "created")
            .denied(at.only_oneself(Asked::CreateRoom, None, new.owner))
            .bind("room", RoomId::from_uuid(at.id()))
            .bind("owner", new.owner)
            .bind("room_code", code)
            .bind("title", new.title.clone())
            .bind("description", new.description.clone())
            .bind("scheduled_start", new.scheduled_start)
            .bind("scheduled_end", new.scheduled_end)
            .bind("max_participants", new.max_participants)
            .bind("is_public", new.is_public)
            .bind("is_recordable", new.is_recordable)
            .bind("require_auth", new.require_auth)
            .lock::<user::Entity>("member", Lock::Share, &["id"], "id = :owner");
        has_account(active(plan, "member", new.owner), "member", new.owner)
            .insert::<room::Entity>(
                "created",
                at.dialect,
                format!(
                    "INSERT INTO rooms (id, owner_id, room_code, title, description, scheduled_start, scheduled_end,
                        max_participants, is_public, is_recordable, require_auth, status, peak_participants, total_joins,
                        active_participants, created_at, updated_at)
                    SELECT :room, member.id, :room_code, :title, :description, :scheduled_start, :scheduled_end,
                        :max_participants, :is_public, :is_recordable, :require_auth, {created}, 0, 0, 0, :now, :now
                    FROM member WHERE TRUE
                    ON CONFLICT (room_code) DO NOTHING",
                    created = at.dialect.as_enum("'CREATED'", "room_status"),
                ),
            )
            .event(at, &Event::of(&change, "created").room("created.id"))
    }

    fn given_up(&self, tries: u32) -> Error {
        Conflict::RoomCodesExhausted { tries }.into()
    }
}
