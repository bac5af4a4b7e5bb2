//! The right to be forgotten.

use chrono::{DateTime, Utc};
use entity::{AuditAction, RecordedAction, UserId};
use entity::{audit_log, recording, room, user};
use sea_orm::{ColumnTrait, ColumnType, DbErr, QueryFilter, QueryOrder, QueryResult, QuerySelect};

use crate::audit::AuditEntry;
use crate::authority::Operation as Asked;
use crate::error::{Error, Result, Subject};
use crate::event::{AuditEvent, Change, LeaveReason, UNKNOWN_RECORDING};
use crate::input::{ERASED_FILENAME, ERASED_USERNAME};
use crate::operation::{Answer, Columns, Event, Moment, Operation, Plan, column, json};
use crate::read::{Fetch, FetchEntity};
use crate::recordings::StoredFile;
use crate::recordings::purge::{forget_place_set, stored_files};
use crate::rules::{CLOSED, each_left, end_participation_set, end_room_set};
use crate::scope::{self, Any};
use crate::settings::ModerationReasons;
use crate::unit::Sink;
use crate::users::Users;
use crate::users::guests::is_idle;

/// What an erasure did.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub struct ErasureReceipt {
    /// Who was erased.
    pub user: UserId,
    /// When.
    pub erased_at: DateTime<Utc>,
    /// It had been done before, and nothing was done now; the numbers are those of then.
    pub already_erased: bool,
    /// Sign-in methods that are gone, their tokens with them.
    pub providers_removed: i32,
    /// Rooms of theirs that were LIVE and ended.
    pub rooms_ended: i32,
    /// Rooms of theirs that were CREATED and are called off.
    pub rooms_cancelled: i32,
    /// Participations that ended: their own, and everybody's in the rooms that ended.
    pub ended_participations: i32,
    /// Recordings of theirs that are deleted now.
    pub recordings_deleted: i32,
    /// The files of all their recordings, however long deleted, that are not known to be purged, by ascending id of the recording:
    /// to be purged now, and [confirmed](crate::recordings::Recordings::confirm_purged). Asked again, those that still are not.
    pub files: Vec<StoredFile>,
}

impl<S: Sink> Users<'_, S> {
    /// Erases a user, in one transaction. Their row stays, because the audit log points at it, and says nothing any more: no
    /// address, no password, called `deleted-<id>` and "Deleted user"; name and address are free for others. Their sign-in methods are
    /// gone with all tokens. Their live rooms end with all participations, those not begun are called off; they leave every other room.
    /// Their recordings are deleted, running ones STOPPED first; others' that run in a room that ends are STOPPED. The files of their
    /// recordings, also of those that were deleted before, are in the receipt, for the caller to purge; until that is confirmed they
    /// are in the queue of [`claim_purges`](crate::recordings::Recordings::claim_purges) too.
    ///
    /// What they wrote goes too: rooms of theirs are called "Deleted room", without description, and files "Deleted recording"; so do
    /// the reasons for kicks and bans of them, as [`ModerationReasons`] says. Where their recordings lie
    /// stays until they are [confirmed](crate::recordings::Recordings::confirm_purged) to be purged. What others wrote stays
    /// with the others. docs/PRIVACY.md has every column.
    ///
    /// The audit log is never changed. It has ids and no names by design, but texts that were typed: logins that failed, reasons.
    ///
    /// Appends USER_DELETED with the receipt's numbers, and before it ROOM_ENDED, ROOM_CANCELLED, RECORDING_STOPPED,
    /// RECORDING_DELETED and USER_LEFT for each: with [`LeaveReason::RoomEnded`] of everybody in a room that ended, their own
    /// participation there included, with [`LeaveReason::Erased`] of theirs elsewhere; that a room has another title is part of
    /// USER_DELETED. Erasing again changes and appends nothing, and returns the receipt once more, with the files that are left. A user whom
    /// something else marked as deleted and left in the clear is erased like any other.
    ///
    /// Takes the user's lock, then those of the rooms and the recordings, each by ascending id; five statements in one
    /// transaction. For oneself, or by the system for anybody.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there never was such a user; [`crate::Rejected::NotAllowed`].
    pub async fn erase(&self, user: UserId) -> Result<ErasureReceipt> {
        let reasons = self.source.context().moderation_reasons();
        let operation = Erase {
            user,
            reasons,
            idle_since: None,
        };
        match self.source.perform(operation).await {
            Ok(receipt) => Ok(receipt),
            Err(Error::NotFound(Subject::User(id))) if id == user => self.receipt_of(user).await,
            Err(error) => Err(error),
        }
    }

    /// Erases a guest who is still idle; false where that is not so any more.
    pub(crate) async fn erase_guest(&self, user: UserId, idle_since: DateTime<Utc>) -> Result<bool> {
        let operation = Erase {
            user,
            reasons: self.source.context().moderation_reasons(),
            idle_since: Some(idle_since),
        };
        match self.source.perform(operation).await {
            Ok(_) => Ok(true),
            Err(Error::NotFound(Subject::User(id))) if id == user => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The receipt of an erasure of before.
    async fn receipt_of(&self, user: UserId) -> Result<ErasureReceipt> {
        let row = self.any_user(user).await?.ok_or(Error::NotFound(Subject::User(user)))?;
        let mut receipt = ErasureReceipt {
            already_erased: true,
            ..ErasureReceipt::of(user, row.deleted_at.unwrap_or(row.updated_at))
        };
        if let Some(erasure) = self.find_erasure(user).await? {
            receipt.erased_at = erasure.at;
            receipt.take_numbers(&erasure.event);
        }
        receipt.files = self.unpurged_files(user).await?;
        Ok(receipt)
    }

    async fn find_erasure(&self, user: UserId) -> Result<Option<AuditEntry>> {
        let deleted = RecordedAction::from(AuditAction::UserDeleted);
        let found = scope::find_undeletable::<audit_log::Entity>()
            .filter(audit_log::Column::TargetUserId.eq(user))
            .filter(audit_log::Column::Action.eq(deleted))
            .order_by_desc(audit_log::Column::Timestamp)
            .limit(1)
            .fetch_one(self.source, "users.erase")
            .await?;
        Ok(found.map(AuditEntry::from))
    }

    /// Served by `ix_recordings_owner`.
    async fn unpurged_files(&self, user: UserId) -> Result<Vec<StoredFile>> {
        scope::find::<recording::Entity, Any>()
            .filter(recording::Column::OwnerId.eq(user))
            .filter(recording::Column::PurgedAt.is_null())
            .order_by_asc(recording::Column::Id)
            .select_only()
            .columns([
                recording::Column::Id,
                recording::Column::StorageBucket,
                recording::Column::StorageKey,
            ])
            .fetch_with(self.source, "users.erase", |cells| {
                Ok(StoredFile {
                    recording: cells.next("id")?,
                    storage_bucket: cells.next("storage_bucket")?,
                    storage_key: cells.next("storage_key")?,
                })
            })
            .await
    }

    async fn any_user(&self, user: UserId) -> Result<Option<user::Model>> {
        scope::find::<user::Entity, Any>()
            .filter(user::Column::Id.eq(user))
            .fetch_one(self.source, "users.erase")
            .await
    }
}

impl ErasureReceipt {
    fn of(user: UserId, erased_at: DateTime<Utc>) -> Self {
        Self {
            user,
            erased_at,
            already_erased: false,
            providers_removed: 0,
            rooms_ended: 0,
            rooms_cancelled: 0,
            ended_participations: 0,
            recordings_deleted: 0,
            files: Vec::new(),
        }
    }

    fn take_numbers(&mut self, event: &AuditEvent) {
        if let AuditEvent::Change(Change::UserDeleted {
            target: _,
            providers_removed,
            rooms_ended,
            rooms_cancelled,
            ended_participations,
            recordings_deleted,
        }) = event
        {
            self.providers_removed = *providers_removed;
            self.rooms_ended = *rooms_ended;
            self.rooms_cancelled = *rooms_cancelled;
            self.ended_participations = *ended_participations;
            self.recordings_deleted = *recordings_deleted;
        }
    }
}

struct Erase {
    user: UserId,
    reasons: ModerationReasons,
    /// Only if it is a guest who was not seen since.
    idle_since: Option<DateTime<Utc>>,
}

/// What erased users are called.
const DISPLAY_NAME: &str = "Deleted user";

/// What their rooms are called, and what went wrong with a recording of theirs.
const ROOM_TITLE: &str = "Deleted room";
const ERROR_MESSAGE: &str = "Erased";

/// The rooms that end with the erasure, as what follows FROM.
const ENDING: &str = "owned WHERE owned.status = 'LIVE'";

const RUNNING: &str = "status IN ('STARTED', 'IN_PROGRESS')";

impl Operation for Erase {
    const NAME: &'static str = "users.erase";
    type Output = ErasureReceipt;

    /// Five plans, because each kind of lock shows what the next kind must cover: the user's row, after which they can neither
    /// come in anywhere nor get a room, a recording, a sign-in method or a ban any more; the rooms; the recordings; and the rest,
    /// which finds under these locks what they cover and nothing else. What is written about them goes in a plan of its own, since
    /// no plan changes a row twice.
    fn plan(&self, at: &Moment<'_>) -> Plan {
        let Self {
            user,
            reasons,
            idle_since,
        } = *self;
        let plan = Plan::without_answer(at, "erased");
        let (plan, which) = match idle_since {
            None => (plan, "(deleted_at IS NULL OR username <> :username)".to_owned()),
            Some(before) => (plan.bind("before", before), is_idle(":user")),
        };
        // Not found may mean erased before; `Users::erase` looks.
        plan.denied(at.only_oneself(Asked::EraseAccount, None, user))
            .bind("user", user)
            .bind("username", format!("{ERASED_USERNAME}{user}"))
            .bind("display_name", DISPLAY_NAME)
            .update::<user::Entity>(
                "erased",
                Columns::Of(&["id"]),
                "username = :username, display_name = :display_name, email = NULL, password_hash = NULL, is_active = FALSE,
                is_verified = FALSE, last_login_at = NULL, deleted_at = COALESCE(deleted_at, :now), updated_at = :now",
                format!("id = :user AND {which}"),
            )
            .found("erased", Error::NotFound(Subject::User(user)))
            .then(lock_rooms(at, user))
            .then(lock_recordings(at, user))
            .then(forget(at, user, reasons))
            .then(finish(at, user))
    }
}

/// SQL for participations in which something is said about them.
const REASONED: &str = "user_id = :user AND (kick_reason IS NOT NULL OR ban_reason IS NOT NULL)";

/// Locks the rooms that they own, those that they are in, and those where something is said about them.
fn lock_rooms(at: &Moment<'_>, user: UserId) -> Plan {
    let concerned = format!(
        "SELECT id FROM rooms WHERE owner_id = :user
        UNION ALL SELECT room_id FROM room_participants WHERE user_id = :user AND left_at IS NULL
        UNION ALL SELECT room_id FROM room_participants WHERE {REASONED}"
    );
    lock_all(at, user, "rooms", &concerned)
}

/// Locks the recordings that they own, and those that run in rooms that end.
fn lock_recordings(at: &Moment<'_>, user: UserId) -> Plan {
    let concerned = format!(
        "SELECT id FROM recordings WHERE owner_id = :user
        UNION ALL SELECT id FROM recordings WHERE {RUNNING}
            AND room_id IN (SELECT id FROM rooms WHERE owner_id = :user AND status = 'LIVE')"
    );
    lock_all(at, user, "recordings", &concerned)
}

fn lock_all(at: &Moment<'_>, user: UserId, table: &str, concerned: &str) -> Plan {
    let which = at.dialect.among("id", concerned);
    Plan::without_answer(at, "counted")
        .bind("user", user)
        .lookup(
            "locked",
            &["id"],
            format!(
                "SELECT id FROM {table} WHERE {which} ORDER BY id{}",
                at.dialect.for_change()
            ),
        )
        .step("counted", &["rows"], "SELECT count(*) AS rows FROM locked")
}

/// Forgets what was written by them and about them, but for where files lie that are yet to be purged.
fn forget(at: &Moment<'_>, user: UserId, reasons: ModerationReasons) -> Plan {
    let dialect = at.dialect;
    let of_recordings = format!(
        "filename = :filename, error_message = CASE WHEN error_message IS NOT NULL THEN :error_message END, codec = NULL,
        resolution = NULL, updated_at = {}",
        dialect.later(":now", "updated_at")
    );
    let recordings = |purged: &str| {
        dialect.among(
            "id",
            &format!("SELECT id FROM recordings WHERE owner_id = :user AND purged_at {purged}"),
        )
    };
    let plan = Plan::without_answer(at, "forgotten")
        .bind("user", user)
        .bind("title", ROOM_TITLE)
        .bind("filename", ERASED_FILENAME)
        .bind("error_message", ERROR_MESSAGE)
        .effect(
            "titles",
            format!(
                "UPDATE rooms SET title = :title, description = NULL, updated_at = :now WHERE {}",
                dialect.among("id", "SELECT id FROM rooms WHERE owner_id = :user")
            ),
        )
        .effect(
            "due_files",
            format!("UPDATE recordings SET {of_recordings} WHERE {}", recordings("IS NULL")),
        )
        .effect(
            "purged_files",
            format!(
                "UPDATE recordings SET {of_recordings}, {} WHERE {}",
                forget_place_set(dialect),
                recordings("IS NOT NULL")
            ),
        );
    let plan = match reasons {
        ModerationReasons::Keep => plan,
        ModerationReasons::Erase => plan.effect(
            "reasons",
            format!(
                "UPDATE room_participants SET kick_reason = NULL, ban_reason = NULL WHERE {}",
                dialect.among("id", &format!("SELECT id FROM room_participants WHERE {REASONED}"))
            ),
        ),
    };
    plan.step("forgotten", &["id"], "SELECT id FROM users WHERE id = :user")
}

/// Does it, with everything locked, and records it.
fn finish(at: &Moment<'_>, user: UserId) -> Plan {
    let plan = Plan::new(at, "receipt").bind("user", user).lookup(
        "owned",
        &["id", "status"],
        "SELECT id, CAST(status AS text) AS status FROM rooms WHERE owner_id = :user AND status IN ('CREATED', 'LIVE')",
    );
    let plan = close_rooms(at, plan);
    let plan = close_recordings(at, plan).lookup(
        "removed",
        &["id"],
        "DELETE FROM auth_providers WHERE user_id = :user RETURNING id",
    );
    // What is deleted only now is not purged either.
    let plan = plan.lookup(
        "unpurged",
        &["id", "storage_bucket", "storage_key"],
        "SELECT id, storage_bucket, storage_key FROM recordings WHERE owner_id = :user AND purged_at IS NULL ORDER BY id",
    );
    let count = |what: &str| format!("CAST((SELECT count(*) FROM {what}) AS integer)");
    let plan = plan.step(
        "receipt",
        &[
            "user_id",
            "erased_at",
            "providers_removed",
            "rooms_ended",
            "rooms_cancelled",
            "ended_participations",
            "recordings_deleted",
            "files",
        ],
        format!(
            "SELECT id AS user_id, updated_at AS erased_at, {removed} AS providers_removed, {ended} AS rooms_ended,
                {cancelled} AS rooms_cancelled, {deleted} AS recordings_deleted,
                CAST((SELECT count(*) FROM all_left) + (SELECT count(*) FROM user_left) AS integer) AS ended_participations,
                (SELECT {files} FROM unpurged) AS files
            FROM users WHERE id = :user",
            files = stored_files(at.dialect),
            removed = count("removed"),
            ended = count(ENDING),
            cancelled = count("owned WHERE status = 'CREATED'"),
            deleted = count("doomed WHERE owner_id = :user"),
        ),
    );
    record(at, plan, user)
}

/// Of every participation that ends the row is handed on, for its USER_LEFT.
fn close_rooms(at: &Moment<'_>, plan: Plan) -> Plan {
    let dialect = at.dialect;
    let left = end_participation_set(dialect);
    let in_ended = dialect.among("room_id", &format!("SELECT id FROM {ENDING}"));
    let columns = CLOSED.join(", ");
    plan.lookup(
        "seated",
        &["room_id"],
        format!("SELECT room_id FROM room_participants WHERE left_at IS NULL AND user_id = :user AND NOT ({in_ended})"),
    )
    .lookup(
        "all_left",
        CLOSED,
        format!("UPDATE room_participants SET {left} WHERE left_at IS NULL AND {in_ended} RETURNING {columns}"),
    )
    .lookup(
        "user_left",
        CLOSED,
        format!(
            "UPDATE room_participants SET {left} WHERE left_at IS NULL AND user_id = :user AND {} RETURNING {columns}",
            dialect.among("room_id", "SELECT room_id FROM seated")
        ),
    )
    .effect(
        "counted",
        format!(
            "UPDATE rooms SET active_participants = active_participants - 1, updated_at = :now WHERE {}",
            dialect.among("id", "SELECT room_id FROM user_left")
        ),
    )
    .update_if_there::<room::Entity>(
        "ended",
        Columns::Of(&["id", "duration_seconds"]),
        end_room_set(dialect),
        dialect.among("id", &format!("SELECT id FROM {ENDING}")),
    )
    .effect(
        "cancelled",
        format!(
            "UPDATE rooms SET status = 'CANCELLED', updated_at = :now WHERE {}",
            dialect.among("id", "SELECT id FROM owned WHERE status = 'CREATED'")
        ),
    )
}

/// A running recording is STOPPED before it is deleted, so that no row says for ever that it runs.
fn close_recordings(at: &Moment<'_>, plan: Plan) -> Plan {
    let dialect = at.dialect;
    let which = format!(
        "SELECT id FROM recordings WHERE owner_id = :user AND deleted_at IS NULL
        UNION SELECT id FROM recordings WHERE {RUNNING} AND room_id IN (SELECT id FROM {ENDING})"
    );
    plan.lookup(
        "doomed",
        &["id", "room_id", "owner_id", "status"],
        format!(
            "SELECT id, room_id, owner_id, CAST(status AS text) AS status FROM recordings WHERE {} ORDER BY id",
            dialect.among("id", &which)
        ),
    )
    .effect(
        "recordings_closed",
        format!(
            "UPDATE recordings SET updated_at = :now,
                stopped_at = CASE WHEN {RUNNING} THEN {stopped_at} ELSE stopped_at END,
                status = CASE WHEN {RUNNING} THEN 'STOPPED' ELSE status END,
                deleted_at = CASE WHEN owner_id = :user THEN COALESCE(deleted_at, :now) ELSE deleted_at END
            WHERE {which}",
            which = dialect.among("id", "SELECT id FROM doomed"),
            stopped_at = dialect.later(":now", "started_at"),
        ),
    )
}

/// Participations, rooms and recordings have their own events, so that a room's audit log says how it ended; then the erasure's.
fn record(at: &Moment<'_>, plan: Plan, user: UserId) -> Plan {
    let recording = UNKNOWN_RECORDING;
    let of_recording = |change: &Change, which: String| {
        Event::of(change, format!("doomed WHERE {which}"))
            .room("doomed.room_id")
            .computed("recording", at.dialect.uuid_text("doomed.id"))
            .for_each("doomed.id")
    };
    let stopped = |with_room| Change::RecordingStopped { recording, with_room };
    let deleted = Change::RecordingDeleted {
        recording,
        expired: false,
    };
    let ended = Change::RoomEnded {
        duration_seconds: 0,
        ended_participations: 0,
    };
    let erased = Change::UserDeleted {
        target: user,
        providers_removed: 0,
        rooms_ended: 0,
        rooms_cancelled: 0,
        ended_participations: 0,
        recordings_deleted: 0,
    };
    let in_ended = format!("room_id IN (SELECT id FROM {ENDING})");
    let plan = each_left(at, plan, "all_left", LeaveReason::RoomEnded);
    each_left(at, plan, "user_left", LeaveReason::Erased)
        .event(at, &of_recording(&stopped(true), format!("{RUNNING} AND {in_ended}")))
        .event(
            at,
            &of_recording(&stopped(false), format!("{RUNNING} AND NOT ({in_ended})")),
        )
        .event(at, &of_recording(&deleted, "owner_id = :user".to_owned()))
        .event(
            at,
            &Event::of(&Change::RoomCancelled {}, "owned WHERE status = 'CREATED'")
                .room("owned.id")
                .for_each("owned.id"),
        )
        .event(
            at,
            &Event::of(&ended, "ended")
                .room("ended.id")
                .computed("duration_seconds", "ended.duration_seconds")
                .computed(
                    "ended_participations",
                    "(SELECT count(*) FROM all_left WHERE all_left.room_id = ended.id)",
                )
                .for_each("ended.id"),
        )
        .event(
            at,
            &Event::of(&erased, "receipt")
                .computed("providers_removed", "receipt.providers_removed")
                .computed("rooms_ended", "receipt.rooms_ended")
                .computed("rooms_cancelled", "receipt.rooms_cancelled")
                .computed("ended_participations", "receipt.ended_participations")
                .computed("recordings_deleted", "receipt.recordings_deleted"),
        )
}

impl Answer for ErasureReceipt {
    fn read(row: &QueryResult) -> std::result::Result<Self, DbErr> {
        Ok(Self {
            user: row.try_get_by("user_id")?,
            erased_at: row.try_get_by("erased_at")?,
            already_erased: false,
            providers_removed: row.try_get_by("providers_removed")?,
            rooms_ended: row.try_get_by("rooms_ended")?,
            rooms_cancelled: row.try_get_by("rooms_cancelled")?,
            ended_participations: row.try_get_by("ended_participations")?,
            recordings_deleted: row.try_get_by("recordings_deleted")?,
            files: json(row, "files")?,
        })
    }

    fn columns() -> Vec<(String, ColumnType)> {
        let mut columns = vec![
            column::<UserId>("user_id"),
            column::<DateTime<Utc>>("erased_at"),
            column::<String>("files"),
        ];
        columns.extend(
            [
                "providers_removed",
                "rooms_ended",
                "rooms_cancelled",
                "ended_participations",
                "recordings_deleted",
            ]
            .map(column::<i32>),
        );
        columns
    }
}

/// For the list of all statements: what either setting sends, and what an erasure of before is looked up by.
pub(crate) async fn list_statements<S: Sink>(on: &S, user: UserId) {
    for reasons in [ModerationReasons::Erase, ModerationReasons::Keep] {
        for idle_since in [None, Some(DateTime::UNIX_EPOCH)] {
            let _ = on
                .perform(Erase {
                    user,
                    reasons,
                    idle_since,
                })
                .await;
        }
    }
    let users = Users::new(on);
    let _ = users.any_user(user).await;
    let _ = users.find_erasure(user).await;
    let _ = users.unpurged_files(user).await;
}
