//! What must hold whatever happened before, read past the store.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};

use conferencing_store::audit::{AuditEntry, AuditEvent};
use conferencing_store::entity::{ParticipantId, RoomId, RoomStatus, UserId};
use conferencing_store::participants::ParticipantWithUser;
use conferencing_store::{AuditFilter, Change, Error, LeaveReason, Observation, Order, PageRequest, Rejected};
use sea_orm::DbBackend;

use crate::harness::{Raw, TestDb};

pub const TABLES: [&str; 7] = [
    "users",
    "auth_providers",
    "rooms",
    "media_nodes",
    "room_participants",
    "recordings",
    "audit_logs",
];

/// Rules of participations and rooms, each with the number of rows that break it.
const BROKEN: &[(&str, &str)] = &[
    (
        "active_participants counts those present",
        "SELECT count(*) FROM rooms r WHERE active_participants <>
            (SELECT count(*) FROM room_participants p WHERE p.room_id = r.id AND p.left_at IS NULL)",
    ),
    (
        "total_joins counts the participations",
        "SELECT count(*) FROM rooms r WHERE total_joins <>
            (SELECT count(*) FROM room_participants p WHERE p.room_id = r.id)",
    ),
    (
        "peak_participants lies between those present and all participations, and within the seats",
        "SELECT count(*) FROM rooms WHERE peak_participants < active_participants
            OR peak_participants > total_joins OR peak_participants > max_participants
            OR (peak_participants = 0 AND total_joins > 0)",
    ),
    (
        "no more are present than there are seats",
        "SELECT count(*) FROM rooms r WHERE max_participants <
            (SELECT count(*) FROM room_participants p WHERE p.room_id = r.id AND p.left_at IS NULL)",
    ),
    (
        "people are present in live rooms only",
        "SELECT count(*) FROM room_participants p JOIN rooms r ON r.id = p.room_id
            WHERE p.left_at IS NULL AND (r.status <> 'LIVE' OR r.deleted_at IS NOT NULL)",
    ),
    (
        "a user has one seat in a room",
        "SELECT count(*) FROM (SELECT 1 FROM room_participants WHERE left_at IS NULL
            GROUP BY room_id, user_id HAVING count(*) > 1) AS doubled",
    ),
    (
        "a room has one host",
        "SELECT count(*) FROM (SELECT 1 FROM room_participants WHERE left_at IS NULL AND role = 'HOST'
            GROUP BY room_id HAVING count(*) > 1) AS doubled",
    ),
    (
        "a banned user is not present",
        "SELECT count(*) FROM room_participants p JOIN room_participants b
            ON b.room_id = p.room_id AND b.user_id = p.user_id WHERE p.left_at IS NULL AND b.is_banned = (1 = 1)",
    ),
    (
        "a closed participation has a duration and does not end before it began",
        "SELECT count(*) FROM room_participants
            WHERE left_at IS NOT NULL AND (left_at < joined_at OR duration_seconds IS NULL)",
    ),
    (
        "each participation has its own USER_JOINED",
        "SELECT count(*) FROM room_participants p WHERE 1 <>
            (SELECT count(*) FROM audit_logs a WHERE a.action = 'USER_JOINED' AND a.room_id = p.room_id
                AND coalesce(a.target_user_id, a.user_id) = p.user_id AND a.timestamp = p.joined_at)",
    ),
    (
        "there are no more USER_JOINED than participations",
        "SELECT (SELECT count(*) FROM audit_logs WHERE action = 'USER_JOINED')
            - (SELECT count(*) FROM room_participants)",
    ),
    (
        "each room has its own ROOM_CREATED",
        "SELECT count(*) FROM rooms r WHERE 1 <>
            (SELECT count(*) FROM audit_logs a WHERE a.action = 'ROOM_CREATED' AND a.room_id = r.id)",
    ),
    (
        "each user has their own USER_REGISTERED and LOCAL account",
        "SELECT count(*) FROM users u WHERE guest_since IS NULL AND (1 <>
            (SELECT count(*) FROM audit_logs a WHERE a.action = 'USER_REGISTERED' AND a.target_user_id = u.id)
            OR 1 <> (SELECT count(*) FROM auth_providers p WHERE p.provider_type = 'LOCAL' AND p.user_id = u.id))",
    ),
    (
        "each guest has their own GUEST_ADMITTED, and no sign-in method",
        "SELECT count(*) FROM users u WHERE guest_since IS NOT NULL AND (1 <>
            (SELECT count(*) FROM audit_logs a WHERE a.action = 'GUEST_ADMITTED' AND a.target_user_id = u.id)
            OR 0 <> (SELECT count(*) FROM auth_providers p WHERE p.user_id = u.id))",
    ),
];

impl Raw {
    /// Every row of every table, as text.
    pub async fn snapshot(&self) -> Vec<String> {
        let mut rows = Vec::new();
        for table in TABLES {
            let row = match self.backend() {
                DbBackend::Sqlite => {
                    let sql = format!(
                        "SELECT group_concat('quote(\"' || name || '\")', ' || '','' || ') FROM pragma_table_info('{table}')"
                    );
                    self.texts(&sql).await.remove(0)
                }
                _ => format!("CAST({table} AS text)"),
            };
            let sql = format!("SELECT '{table}: ' || {row} FROM {table} ORDER BY 1");
            rows.extend(self.texts(&sql).await);
        }
        rows
    }

    /// Makes the database refuse to write rows of `table` for which `when` holds, for a reason that the store cannot expect.
    pub async fn sabotage(&self, table: &str, when: &str) {
        // A connection that has not heard of a dropped trigger yet would not make another of that name.
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let sql = match self.backend() {
            DbBackend::Sqlite => format!(
                "CREATE TRIGGER sabotage_insert_{number} BEFORE INSERT ON {table} WHEN {when}
                    BEGIN SELECT RAISE(ABORT, 'sabotaged'); END;
                 CREATE TRIGGER sabotage_update_{number} BEFORE UPDATE ON {table} WHEN {when}
                    BEGIN SELECT RAISE(ABORT, 'sabotaged'); END"
            ),
            _ => format!(
                "CREATE FUNCTION sabotage() RETURNS trigger LANGUAGE plpgsql AS
                    $$ BEGIN RAISE EXCEPTION 'sabotaged'; END $$;
                 CREATE TRIGGER sabotage BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW WHEN ({when})
                    EXECUTE FUNCTION sabotage()"
            ),
        };
        self.run(&sql).await;
    }

    /// Ends the sabotage.
    pub async fn repair(&self) {
        if self.backend() == DbBackend::Postgres {
            return self.run("DROP FUNCTION sabotage() CASCADE").await;
        }
        let triggers = "SELECT name FROM sqlite_master WHERE type = 'trigger' AND name LIKE 'sabotage%'";
        for trigger in self.texts(triggers).await {
            self.run(&format!("DROP TRIGGER {trigger}")).await;
        }
    }

    /// Fails unless the call is refused for this very reason and leaves every table as it was. What is refused for want of
    /// authority is recorded in the audit log, once, and does nothing else.
    pub async fn assert_refused<T: Debug>(
        &self,
        call: impl Future<Output = Result<T, Error>>,
        reason: impl Into<Error>,
        what: impl Debug,
    ) {
        let before = self.snapshot().await;
        let outcome = call.await;
        let reason = reason.into();
        let noted = matches!(reason, Error::Rejected(Rejected::NotAllowed { .. }));
        // Errors have no equality of their own; their Debug has every field.
        let refused: Result<T, Error> = Err(reason);
        assert_eq!(format!("{outcome:?}"), format!("{refused:?}"), "{what:?}");
        let mut after = self.snapshot().await;
        if noted {
            let new = after.iter().position(|row| !before.contains(row));
            let row = after.remove(new.expect("the audit_log is recorded"));
            assert!(
                row.starts_with("audit_logs: ") && row.contains("UNAUTHORIZED_ACCESS_ATTEMPT"),
                "{row}"
            );
        }
        assert_eq!(after, before, "{what:?}");
    }

    /// Fails if any rule of participations and rooms is broken.
    pub async fn assert_invariants(&self) {
        for (rule, sql) in BROKEN {
            assert_eq!(self.number(sql).await, 0, "{rule}");
        }
    }
}

/// Fails unless the error is what a sabotaged statement gives.
pub fn assert_sabotaged<T: Debug>(outcome: &Result<T, Error>, what: &str) {
    assert!(
        matches!(outcome, Err(Error::Backend { message, .. }) if message.contains("sabotaged")),
        "{what}: {outcome:?}"
    );
}

impl TestDb {
    /// A room's whole audit log, oldest first.
    pub async fn audit_log(&self, room: RoomId) -> Vec<AuditEntry> {
        let mut page = PageRequest::first(500, Order::OldestFirst).unwrap();
        let mut entries = Vec::new();
        loop {
            let part = self
                .store
                .audit()
                .list(&AuditFilter::of_room(room), &page)
                .await
                .unwrap();
            entries.extend(part.items);
            let Some(next) = part.next else { return entries };
            page = page.after(next);
        }
    }

    /// The actions of a room's audit log, oldest first.
    pub async fn actions(&self, room: RoomId) -> Vec<String> {
        let audit_log = self.audit_log(room).await;
        audit_log.into_iter().map(|entry| entry.event.action()).collect()
    }

    /// All participations in a room, past and present, oldest first.
    pub async fn participations(&self, room: RoomId) -> Vec<ParticipantWithUser> {
        let mut page = PageRequest::first(500, Order::OldestFirst).unwrap();
        let mut participations = Vec::new();
        loop {
            let part = self.store.participants().list_history(room, &page).await.unwrap();
            participations.extend(part.items);
            let Some(next) = part.next else { return participations };
            page = page.after(next);
        }
    }

    /// Fails unless the audit log tells each participation's begin and end, and the room's, exactly once, and nothing more.
    pub async fn assert_audit_log_tells_the_participations(&self, room: RoomId) {
        let mut recorded: BTreeMap<ParticipantId, Recorded> = BTreeMap::new();
        let (mut started, mut ended, mut ended_participations) = (0, 0, 0);
        let mut ended_with_room = 0;
        let mut log = self.audit_log(room).await;
        // Of those who come at once and wait for the room, one who comes in later may have read an earlier time.
        log.sort_by_key(|entry| !matches!(entry.event, AuditEvent::Change(Change::UserJoined { .. })));
        for entry in log {
            match entry.event {
                AuditEvent::Change(Change::RoomCreated { .. }) => {}
                AuditEvent::Change(Change::RoomStarted { .. }) => started += 1,
                AuditEvent::Change(Change::RoomEnded {
                    ended_participations: n,
                    ..
                }) => {
                    ended += 1;
                    ended_participations += n;
                }
                AuditEvent::Change(Change::UserJoined { target, stay, role: _ }) => {
                    let begun = Recorded {
                        user: target.or(entry.actor).unwrap(),
                        end: None,
                    };
                    assert!(recorded.insert(stay, begun).is_none(), "{stay} began twice");
                }
                AuditEvent::Change(Change::UserLeft {
                    target,
                    stay,
                    reason,
                    duration_seconds,
                }) => {
                    ended_with_room += i32::from(reason == LeaveReason::RoomEnded);
                    let user = target.or(entry.actor).unwrap();
                    end(&mut recorded, stay, user, (false, duration_seconds));
                }
                AuditEvent::Change(Change::UserKicked {
                    target,
                    stay,
                    reason: _,
                    duration_seconds,
                }) => end(&mut recorded, stay, target, (true, duration_seconds)),
                // What was refused is recorded, and is no participation.
                AuditEvent::Observation(Observation::UnauthorizedAccessAttempt { .. }) => {}
                other => panic!("{other:?}"),
            }
        }
        let mut rows: BTreeMap<ParticipantId, Recorded> = BTreeMap::new();
        for ParticipantWithUser { participant, .. } in self.participations(room).await {
            let row = Recorded {
                user: participant.user_id,
                end: participant
                    .left_at
                    .map(|_| (participant.is_kicked, participant.duration_seconds.unwrap())),
            };
            rows.insert(participant.id, row);
        }
        assert_eq!(recorded, rows);
        let status = self.store.rooms().any().get(room).await.unwrap().status;
        assert_eq!(ended, usize::from(status == RoomStatus::Ended));
        assert_eq!(
            started,
            usize::from(!rows.is_empty() || ended == 1 || status == RoomStatus::Live)
        );
        assert_eq!(ended_participations, ended_with_room);
    }
}

/// A stay, of whom, and how it ended: whether by a kick, and after how many seconds.
#[derive(Debug, PartialEq)]
struct Recorded {
    user: UserId,
    end: Option<(bool, i32)>,
}

fn end(recorded: &mut BTreeMap<ParticipantId, Recorded>, stay: ParticipantId, user: UserId, how: (bool, i32)) {
    let begun = recorded.get_mut(&stay).unwrap_or_else(|| panic!("{stay} never began"));
    assert_eq!(begun.user, user);
    assert_eq!(begun.end.replace(how), None, "{stay} ended twice");
}
