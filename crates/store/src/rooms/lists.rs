//! Finding rooms: by code with all that a lobby shows, and in lists.

use entity::{RoomStatus, UserId, room, room_participant};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{ColumnTrait, DbErr, QueryFilter, Select};

use super::{Rooms, typed_code};
use crate::database::statement::{Query, enum_text};
use crate::database::{Dialect, LookUp, Rows};
use crate::error::Result;
use crate::page::{ByTime, Page, PageRequest};
use crate::participants::{self, ParticipantWithUser, Person};
use crate::person::Names;
use crate::read::{ByHand, Fetch, FetchEntity, page_of};
use crate::row::{self, Cells, FromRow};
use crate::scope::{self, Visibility};
use crate::unit::Source;

/// A room as its door shows it. The counts are in `room`: present, peak, joins.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub struct RoomOverview {
    /// The room.
    pub room: room::Model,
    /// Who owns it; none if that user is deleted.
    pub owner: Option<Person>,
    /// Who is present, by (joined_at, id).
    pub present: Vec<ParticipantWithUser>,
}

/// Which rooms a list or a count is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RoomFilter {
    /// A user's own, by (created_at, id). Served by `ix_rooms_owner`.
    OwnedBy(UserId),
    /// Those a user is present in, by (created_at, id). Served by `uq_room_participants_joined`.
    AttendedBy(UserId),
    /// Running and listed for everybody, by (started_at, id). Served by `ix_rooms_live`.
    LivePublic,
    /// Running, private ones too, by (started_at, id). Served by `ix_rooms_live`, a walk for each kind.
    Live,
    /// Planned and not begun, of one owner or of all, by (scheduled_start, id). Served by `ix_rooms_upcoming`.
    Upcoming {
        /// Whose; none for everybody's.
        owner: Option<UserId>,
    },
}

/// Written out, not bound: PostgreSQL does not look into a parameter that it has to cast, and leaves the partial indexes by status aside.
fn in_status(status: RoomStatus) -> Expr {
    Expr::col(room::Column::Status.as_column_ref()).eq(Expr::cust(format!("'{}'", enum_text(&status))))
}

impl RoomFilter {
    fn apply(self, rooms: Select<room::Entity>) -> Select<room::Entity> {
        match self {
            Self::OwnedBy(owner) => rooms.filter(room::Column::OwnerId.eq(owner)),
            Self::AttendedBy(user) => {
                let attended = sea_orm::sea_query::Query::select()
                    .column(room_participant::Column::RoomId)
                    .from(room_participant::Entity)
                    .and_where(Expr::col(room_participant::Column::UserId).eq(user))
                    .and_where(Expr::col(room_participant::Column::LeftAt).is_null())
                    .take();
                rooms.filter(room::Column::Id.in_subquery(attended))
            }
            Self::LivePublic => rooms
                .filter(in_status(RoomStatus::Live))
                .filter(room::Column::IsPublic.eq(true)),
            Self::Live => rooms
                .filter(in_status(RoomStatus::Live))
                // None is deleted, and the index has none that is.
                .filter(room::Column::DeletedAt.is_null()),
            Self::Upcoming { owner } => {
                let planned = rooms
                    .filter(in_status(RoomStatus::Created))
                    .filter(room::Column::ScheduledStart.is_not_null());
                match owner {
                    Some(owner) => planned.filter(room::Column::OwnerId.eq(owner)),
                    None => planned,
                }
            }
        }
    }

    fn time_column(self) -> room::Column {
        match self {
            Self::OwnedBy(_) | Self::AttendedBy(_) => room::Column::CreatedAt,
            Self::LivePublic | Self::Live => room::Column::StartedAt,
            Self::Upcoming { .. } => room::Column::ScheduledStart,
        }
    }

    fn time_of(self, room: &room::Model) -> chrono::DateTime<chrono::Utc> {
        let time = match self {
            Self::OwnedBy(_) | Self::AttendedBy(_) => None,
            Self::LivePublic | Self::Live => room.started_at,
            Self::Upcoming { .. } => room.scheduled_start,
        };
        time.unwrap_or(room.created_at)
    }
}

impl<S: Source, V: Visibility> Rooms<'_, S, V> {
    /// The room with this code, as people type it: white space, dashes and case do not matter. One statement, served by
    /// `uq_rooms_room_code`. Nobody else is looked at: see [`Rooms::find_overview`].
    ///
    /// # Errors
    /// None beyond the database's own; what could be no code at all is simply not found.
    pub async fn find_by_code(&self, code: &str) -> Result<Option<room::Model>> {
        let Some(code) = typed_code(code) else {
            return Ok(None);
        };
        scope::find::<room::Entity, V>()
            .filter(room::Column::RoomCode.eq(code))
            .fetch_one(self.source, "rooms.find_by_code")
            .await
    }

    /// The room with this code, as in [`Rooms::find_by_code`], with its owner and everybody who is present. One statement, however many
    /// are present or were before: served by `uq_rooms_room_code` and `ix_room_participants_present`, and a look at each user's row
    /// by its key.
    ///
    /// # Errors
    /// None beyond the database's own; what could be no code at all is simply not found.
    pub async fn find_overview(&self, code: &str) -> Result<Option<RoomOverview>> {
        let Some(code) = typed_code(code) else {
            return Ok(None);
        };
        let dialect = self.source.context().dialect();
        let rows = ByHand(overview::<V>(dialect, &code).statement(dialect))
            .fetch_with(self.source, "rooms.find_overview", OverviewRow::read)
            .await?;
        let (mut found, mut present) = (None, Vec::with_capacity(rows.len()));
        for row in rows {
            match row {
                OverviewRow::Room { room, owner } => found = Some((*room, owner)),
                OverviewRow::Present(seat) => present.push(*seat),
            }
        }
        present.sort_by_key(ParticipantWithUser::place);
        Ok(found.map(|(room, owner)| RoomOverview { room, owner, present }))
    }

    /// Rooms that the filter names, page by page.
    ///
    /// # Errors
    /// None beyond the database's own.
    pub async fn list(&self, filter: RoomFilter, page: &PageRequest) -> Result<Page<room::Model>> {
        let page = page.by_time()?;
        let during = "rooms.list";
        let rows = if filter == RoomFilter::Live {
            let dialect = self.source.context().dialect();
            let live = ByHand(live::<V>(dialect, page).statement(dialect));
            live.fetch_all_as(self.source, during).await?
        } else {
            let rooms = filter.apply(scope::find::<room::Entity, V>());
            page.apply(rooms, filter.time_column(), room::Column::Id)
                .fetch_all(self.source, during)
                .await?
        };
        Ok(page.page(rows, |room| (filter.time_of(room), room.id.as_uuid())))
    }

    /// How many rooms the filter names.
    ///
    /// # Errors
    /// None beyond the database's own.
    pub async fn count(&self, filter: RoomFilter) -> Result<u64> {
        filter
            .apply(scope::find::<room::Entity, V>())
            .fetch_count(self.source, "rooms.count")
            .await
    }
}

/// Rooms that are live. The index has public ones and others apart, each by time: a walk through either, merged.
fn live<V: Visibility>(dialect: Dialect, page: ByTime) -> Query {
    let ((_, direction), beyond) = (page.order().in_sql(), page.beyond("started_at", "id"));
    let condition = "status = 'LIVE' AND deleted_at IS NULL";
    let walk = |is_public: &str| {
        format!(
            "SELECT * FROM (
                SELECT * FROM rooms WHERE is_public = {is_public} AND {condition}{only_by_index} AND {visible} {beyond}
                ORDER BY started_at {direction}, id {direction} LIMIT {limit}
            ) AS {name}",
            name = if is_public == "TRUE" { "public" } else { "private" },
            only_by_index = dialect.only_by_index(condition, "id"),
            visible = V::CONDITION,
            limit = dialect.limit_of_walk(":limit"),
        )
    };
    let query = Query::new(format!(
        "SELECT {columns} FROM ({public} UNION ALL {private}) AS listed
        ORDER BY listed.started_at {direction}, listed.id {direction} LIMIT :limit",
        columns = row::columns_of::<room::Entity>(Some("listed")),
        public = walk("TRUE"),
        private = walk("FALSE"),
    ));
    page_of(query, page)
}

/// One row is the room's, the others are those of who is present: so nothing is sent twice. To have the room in each row of a join
/// takes longer than this from the first guest on, and twice as long with hundreds.
fn overview<V: Visibility>(dialect: Dialect, code: &str) -> Query {
    let owner = dialect.look_up(LookUp {
        table: "users",
        name: "owner",
        key: "room.owner_id",
        rows: Rows::IfAny,
    });
    Query::new(format!(
        "WITH room AS MATERIALIZED (SELECT * FROM rooms WHERE room_code = :code AND {visible})
        SELECT {room}, {no_seat}, owner.username, owner.display_name FROM room {owner}
        UNION ALL
        SELECT {no_room}, seat.* FROM ({seats}) AS seat",
        visible = V::CONDITION,
        room = row::columns_of::<room::Entity>(Some("room")),
        no_seat = row::nothing_of::<room_participant::Model>(),
        no_room = row::nothing_of::<room::Model>(),
        seats = participants::lists::everybody_present(dialect, "(SELECT id FROM room)"),
    ))
    .bind("code", code)
}

enum OverviewRow {
    Room {
        room: Box<room::Model>,
        owner: Option<Person>,
    },
    Present(Box<ParticipantWithUser>),
}

impl OverviewRow {
    fn read(cells: &mut Cells<'_>) -> Result<Self, DbErr> {
        let Some(room) = cells.read::<Option<room::Model>>()? else {
            return ParticipantWithUser::read(cells).map(|seat| Self::Present(Box::new(seat)));
        };
        cells.skip(room_participant::Model::COLUMNS.len());
        let owner = cells.read::<Option<Names>>()?.map(|names| names.of(room.owner_id));
        let room = Box::new(room);
        Ok(Self::Room { room, owner })
    }
}
