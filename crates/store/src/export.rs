//! Data portability: all that the store holds about a user, as a stream.

use std::collections::VecDeque;

use chrono::{DateTime, Utc};
use entity::{AuthProviderId, AuthProviderType, RoomId, UserId};
use entity::{audit_log, auth_provider, recording, room, room_participant, user};
use futures_util::stream::{self, Stream};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{ColumnTrait, QueryFilter, QueryOrder, QuerySelect, Select};
use serde_json::Value as Json;

use crate::audit::AuditEntry;
use crate::authority::Operation as Asked;
use crate::error::Result;
use crate::event::Change;
use crate::operation::{Event, Lock, Moment, Operation, Plan};
use crate::page::{Cursor, Order, PageRequest};
use crate::read::FetchEntity;
use crate::rules::changeable;
use crate::scope::{self, Any};
use crate::unit::Sink;
use crate::users::Users;

/// Rows that are in memory at once.
const PAGE_SIZE: u16 = 200;

/// One thing that the store holds about a user. Serialises as an object with a member `record` that names its kind.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[serde(tag = "record", rename_all = "snake_case")]
#[non_exhaustive]
pub enum ExportRecord {
    /// The account; the first of all.
    Profile(ProfileRecord),
    /// A sign-in method.
    Provider(ProviderRecord),
    /// A room of theirs, deleted ones included.
    Room(room::Model),
    /// A participation of theirs in a room, or a ban from one.
    Participation(room_participant::Model),
    /// A recording of theirs, deleted ones included.
    Recording(recording::Model),
    /// Something that they did, or that was done to them. Where other users did it, address and user agent are those users' own
    /// business and left out.
    Event(AuditEntry),
}

impl ExportRecord {
    /// One line of JSON, without the line break: for a JSON Lines file.
    pub fn to_json_line(&self) -> String {
        // Ids, texts, numbers and times: nothing in it can fail to become JSON.
        serde_json::to_string(self).unwrap_or_else(|error| unreachable!("a record is JSON: {error}"))
    }
}

/// A row of `users` without the password's hash.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[expect(missing_docs, reason = "named after the columns")]
pub struct ProfileRecord {
    pub id: UserId,
    pub username: String,
    pub email: Option<String>,
    pub display_name: String,
    /// Whether there is a password.
    pub has_password: bool,
    pub is_active: bool,
    pub is_verified: bool,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub last_login_at: Option<DateTime<Utc>>,
}

impl From<user::Model> for ProfileRecord {
    fn from(row: user::Model) -> Self {
        // Taken apart, so that a new column is not forgotten here.
        let user::Model {
            id,
            username,
            email,
            password_hash,
            display_name,
            is_active,
            is_verified,
            deleted_at: _,
            created_at,
            updated_at,
            last_login_at,
        } = row;
        Self {
            id,
            username,
            email,
            display_name,
            has_password: password_hash.is_some(),
            is_active,
            is_verified,
            created_at,
            updated_at,
            last_login_at,
        }
    }
}

/// A row of `auth_providers` without the tokens.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[expect(missing_docs, reason = "named after the columns")]
pub struct ProviderRecord {
    pub id: AuthProviderId,
    pub provider_type: AuthProviderType,
    pub provider_id: String,
    pub provider_email: Option<String>,
    /// Whether there are tokens.
    pub has_tokens: bool,
    pub token_expires_at: Option<DateTime<Utc>>,
    pub metadata: Option<Json>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub last_used_at: Option<DateTime<Utc>>,
}

impl From<auth_provider::Model> for ProviderRecord {
    fn from(row: auth_provider::Model) -> Self {
        let auth_provider::Model {
            id,
            user_id: _,
            provider_type,
            provider_id,
            provider_email,
            access_token,
            refresh_token,
            token_expires_at,
            metadata,
            created_at,
            updated_at,
            last_used_at,
        } = row;
        Self {
            id,
            provider_type,
            provider_id,
            provider_email,
            has_tokens: access_token.is_some() || refresh_token.is_some(),
            token_expires_at,
            metadata,
            created_at,
            updated_at,
            last_used_at,
        }
    }
}

impl<'a, S: Sink> Users<'a, S> {
    /// All that the store holds about a user, but for tokens and the password's hash, as a stream: the profile, sign-in methods, rooms
    /// they own, participations, recordings they own, and events by or about them. Appends USER_DATA_EXPORTED before this returns, so
    /// the event is in the export. For oneself, or by the system for anybody, deactivated users included.
    ///
    /// Rows are read in pages as the stream is polled, so a few hundred are in memory however much there is, and no connection
    /// is held in between. What changes meanwhile may be in it or not; nothing is in it twice. The stream ends with the first
    /// error.
    ///
    /// ```
    /// # use futures_util::{StreamExt, TryStreamExt};
    /// # use conferencing_store::{Actor, Error, Store, entity::UserId};
    /// # async fn example(store: Store, ada: UserId) -> Result<(), Error> {
    /// let acting = store.acting(&Actor::user(ada));
    /// let users = acting.users();
    /// let mut records = std::pin::pin!(users.export(ada).await?);
    /// while let Some(record) = records.try_next().await? {
    ///     println!("{}", record.to_json_line());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`crate::Error::NotFound`]; [`crate::Rejected::UserInactive`] to the user themself; [`crate::Rejected::NotAllowed`].
    pub async fn export(&self, user: UserId) -> Result<impl Stream<Item = Result<ExportRecord>> + Send + use<'a, S>> {
        self.source.perform(RecordExport(user)).await?;
        let export = Export {
            source: self.source,
            user,
            buffer: VecDeque::new(),
            next: Some(Part::Profile),
        };
        Ok(stream::try_unfold(export, |mut export| async move {
            let record = export.record().await?;
            Ok(record.map(|record| (record, export)))
        }))
    }
}

/// What is to be read next.
enum Part {
    Profile,
    Providers(PageRequest),
    Rooms(PageRequest),
    /// After this participation, by (joined_at, room), which is how the index has them.
    Participations(Option<(DateTime<Utc>, RoomId)>),
    Recordings(PageRequest),
    EventsBy(PageRequest),
    EventsAbout(PageRequest),
}

struct Export<'a, S> {
    source: &'a S,
    user: UserId,
    buffer: VecDeque<ExportRecord>,
    next: Option<Part>,
}

impl<S: Sink> Export<'_, S> {
    async fn record(&mut self) -> Result<Option<ExportRecord>> {
        loop {
            if let Some(record) = self.buffer.pop_front() {
                return Ok(Some(record));
            }
            let Some(part) = self.next.take() else {
                return Ok(None);
            };
            self.next = self.read(part).await?;
        }
    }

    /// Fills the buffer with a page, and says what follows it.
    async fn read(&mut self, part: Part) -> Result<Option<Part>> {
        let (source, user, during) = (self.source, self.user, "users.export");
        let first = first_page();
        Ok(Some(match part {
            Part::Profile => {
                let row = scope::find::<user::Entity, Any>().filter(user::Column::Id.eq(user));
                let row = row
                    .fetch_one(source, during)
                    .await?
                    .map(|row| ExportRecord::Profile(row.into()));
                self.buffer.extend(row);
                Part::Providers(first)
            }
            Part::Providers(page) => {
                let rows = scope::find_undeletable::<auth_provider::Entity>();
                let rows = rows.filter(auth_provider::Column::UserId.eq(user));
                let rows = page
                    .by_time()?
                    .apply(rows, auth_provider::Column::CreatedAt, auth_provider::Column::Id);
                let found = page.by_time()?.page(rows.fetch_all(source, during).await?, |row| {
                    (row.created_at, row.id.as_uuid())
                });
                let next = found.next.map(|next| page.after(next));
                self.take(found.items, |row| ExportRecord::Provider(row.into()));
                next.map_or(Part::Rooms(first), Part::Providers)
            }
            Part::Rooms(page) => {
                let rows = scope::find::<room::Entity, Any>().filter(room::Column::OwnerId.eq(user));
                let rows = page.by_time()?.apply(rows, room::Column::CreatedAt, room::Column::Id);
                let found = page.by_time()?.page(rows.fetch_all(source, during).await?, |row| {
                    (row.created_at, row.id.as_uuid())
                });
                let next = found.next.map(|next| page.after(next));
                self.take(found.items, ExportRecord::Room);
                next.map_or(Part::Participations(None), Part::Rooms)
            }
            Part::Participations(after) => {
                let rows = participations(user, after).fetch_all(source, during).await?;
                let more = rows.len() == usize::from(PAGE_SIZE);
                let last = rows.last().filter(|_| more).map(|row| (row.joined_at, row.room_id));
                self.take(rows, ExportRecord::Participation);
                last.map_or(Part::Recordings(first), |last| Part::Participations(Some(last)))
            }
            Part::Recordings(page) => {
                let rows = scope::find::<recording::Entity, Any>().filter(recording::Column::OwnerId.eq(user));
                let rows = page
                    .by_time()?
                    .apply(rows, recording::Column::StartedAt, recording::Column::Id);
                let found = page.by_time()?.page(rows.fetch_all(source, during).await?, |row| {
                    (row.started_at, row.id.as_uuid())
                });
                let next = found.next.map(|next| page.after(next));
                self.take(found.items, ExportRecord::Recording);
                next.map_or(Part::EventsBy(first), Part::Recordings)
            }
            Part::EventsBy(page) => {
                let next = self.read_events(&page, audit_log::Column::UserId.eq(user)).await?;
                next.map_or(Part::EventsAbout(first), Part::EventsBy)
            }
            Part::EventsAbout(page) => {
                let by_others = audit_log::Column::UserId
                    .is_null()
                    .or(audit_log::Column::UserId.ne(user));
                let about = audit_log::Column::TargetUserId.eq(user).and(by_others);
                return Ok(self.read_events(&page, about).await?.map(Part::EventsAbout));
            }
        }))
    }

    async fn read_events(&mut self, page: &PageRequest, which: Expr) -> Result<Option<PageRequest>> {
        let (source, during) = (self.source, "users.export");
        let rows = scope::find_undeletable::<audit_log::Entity>().filter(which);
        let rows = page
            .by_time()?
            .apply(rows, audit_log::Column::Timestamp, audit_log::Column::Id);
        let found = page.by_time()?.page(rows.fetch_all(source, during).await?, |row| {
            (row.timestamp, row.id.as_uuid())
        });
        let next = found.next.map(|next| page.clone().after(next));
        let user = self.user;
        self.take(found.items, |row| {
            let mut entry = AuditEntry::from(row);
            if entry.actor.is_some_and(|actor| actor != user) {
                entry.address = None;
                entry.user_agent = None;
            }
            ExportRecord::Event(entry)
        });
        Ok(next)
    }

    fn take<T>(&mut self, rows: Vec<T>, record: impl FnMut(T) -> ExportRecord) {
        self.buffer.extend(rows.into_iter().map(record));
    }
}

fn first_page() -> PageRequest {
    PageRequest::first(PAGE_SIZE, Order::OldestFirst).unwrap_or_else(|_| unreachable!("the size is within the limits"))
}

/// A user's participations, served by `uq_room_participants_joined`.
fn participations(user: UserId, after: Option<(DateTime<Utc>, RoomId)>) -> Select<room_participant::Entity> {
    use room_participant::Column::{JoinedAt, RoomId as Room, UserId as User};
    let mut rows = scope::find_undeletable::<room_participant::Entity>().filter(User.eq(user));
    if let Some((joined_at, room)) = after {
        let key = Expr::tuple([Expr::col(JoinedAt.as_column_ref()), Expr::col(Room.as_column_ref())]);
        rows = rows.filter(key.gt(Expr::tuple([Expr::value(joined_at), Expr::value(room)])));
    }
    rows.order_by_asc(JoinedAt)
        .order_by_asc(Room)
        .limit(u64::from(PAGE_SIZE))
}

pub(crate) struct RecordExport(pub(crate) UserId);

impl Operation for RecordExport {
    const NAME: &'static str = "users.export";
    type Output = ();

    /// Changes nothing but the audit log.
    fn plan(&self, at: &Moment<'_>) -> Plan {
        let user = self.0;
        let plan = Plan::new(at, "account")
            .denied(at.only_oneself(Asked::ManageAccount, None, user))
            .bind("user", user)
            .lock::<user::Entity>("account", Lock::None, &["id"], "id = :user");
        changeable(plan, "account", user).event(at, &Event::of(&Change::UserDataExported { target: user }, "account"))
    }
}

/// For the list of all statements: every page that an export reads.
pub(crate) async fn list_statements<S: Sink>(on: &S, user: UserId) {
    let at = DateTime::UNIX_EPOCH;
    let id = user.as_uuid();
    let next = || first_page().after(Cursor::at(at, id));
    let mut export = Export {
        source: on,
        user,
        buffer: VecDeque::new(),
        next: None,
    };
    for part in [
        Part::Profile,
        Part::Providers(first_page()),
        Part::Providers(next()),
        Part::Rooms(first_page()),
        Part::Rooms(next()),
        Part::Participations(None),
        Part::Participations(Some((at, RoomId::from_uuid(id)))),
        Part::Recordings(first_page()),
        Part::Recordings(next()),
        Part::EventsBy(first_page()),
        Part::EventsBy(next()),
        Part::EventsAbout(first_page()),
        Part::EventsAbout(next()),
    ] {
        let _ = export.read(part).await;
    }
}
