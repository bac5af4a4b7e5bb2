//! Promise 2, for every change there is: it happens with its audit event, or neither does.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::DateTime;
use conferencing_store::clock::{Clock, SystemClock};
use conferencing_store::entity::AuthProviderType::Google;
use conferencing_store::entity::ParticipantRole::{CoHost, Participant};
use conferencing_store::entity::{
    AuthProviderId, MediaNodeId, ParticipantId, RecordingId, RecordingStatus, RoomId, Secret, UserId,
};
use conferencing_store::{
    Acting, Actor, AuditFilter, EgressReport, EgressState, Error, FeedPosition, KeyRing, LeaveDetails, MediaKind,
    NewRoom, Observation, ProfileChange, ProviderProfile, ProviderTokens, RecordingMeasures, RoomChanges, Store,
    StoreSettings, TokenKey, Unit,
};

use crate::accounts_support::account;
use crate::checks::assert_sabotaged;
use crate::harness::{Raw, TestDb, password_hash, settings};
use crate::model::check_invariants;
use crate::recordings::{new_recording, recording_in};
use crate::users::new_user;

crate::cases![
    every_change_is_recorded_exactly_once,
    a_change_that_cannot_be_recorded_does_not_happen,
    a_change_that_fails_half_way_leaves_nothing,
    a_change_that_is_rolled_back_is_not_recorded,
];

/// Every operation that writes. A new one must be added here. (The sweeps and the re-encryption write for many rows at once;
/// they are counted in `recordings_sweeps`, `nodes_sweeps`, `rooms_sweeps` and `tokens`.)
#[derive(Clone, Copy, Debug)]
enum Mutator {
    Register,
    AdmitGuest,
    RegisterWithProvider,
    Link,
    Unlink,
    StoreTokens,
    RecordLogin,
    RecordFailedLogin,
    UpdateProfile,
    SetPasswordHash,
    VerifyEmail,
    Deactivate,
    Reactivate,
    Erase,
    EraseWithSeats,
    Export,
    ExportAuditLog,
    Create,
    Update,
    Cancel,
    Transfer,
    Delete,
    Restore,
    Start,
    FirstJoin,
    Join,
    Leave,
    LeaveStay,
    Kick,
    Ban,
    BanAbsent,
    Unban,
    JoinOn,
    AssignNode,
    Reconcile,
    Promote,
    Demote,
    HandOver,
    End,
    EndWithGuests,
    EndWithRecording,
    StartRecording,
    Progress,
    Stop,
    Fail,
    Process,
    Ready,
    Retry,
    DeleteRecording,
    RestoreRecording,
    SetExpiry,
    ClaimPurges,
    ConfirmPurged,
    ReportEgress,
    ReportKnownEgress,
    AdvanceFeed,
    RegisterNode,
    ReplaceNode,
    Beat,
    RetireNode,
    Append,
}

const ALL: [Mutator; 61] = [
    Mutator::Register,
    Mutator::AdmitGuest,
    Mutator::RegisterWithProvider,
    Mutator::Link,
    Mutator::Unlink,
    Mutator::StoreTokens,
    Mutator::RecordLogin,
    Mutator::RecordFailedLogin,
    Mutator::UpdateProfile,
    Mutator::SetPasswordHash,
    Mutator::VerifyEmail,
    Mutator::Deactivate,
    Mutator::Reactivate,
    Mutator::Erase,
    Mutator::EraseWithSeats,
    Mutator::Export,
    Mutator::ExportAuditLog,
    Mutator::Create,
    Mutator::Update,
    Mutator::Cancel,
    Mutator::Transfer,
    Mutator::Delete,
    Mutator::Restore,
    Mutator::Start,
    Mutator::FirstJoin,
    Mutator::Join,
    Mutator::Leave,
    Mutator::LeaveStay,
    Mutator::Kick,
    Mutator::Ban,
    Mutator::BanAbsent,
    Mutator::Unban,
    Mutator::JoinOn,
    Mutator::AssignNode,
    Mutator::Reconcile,
    Mutator::Promote,
    Mutator::Demote,
    Mutator::HandOver,
    Mutator::End,
    Mutator::EndWithGuests,
    Mutator::EndWithRecording,
    Mutator::StartRecording,
    Mutator::Progress,
    Mutator::Stop,
    Mutator::Fail,
    Mutator::Process,
    Mutator::Ready,
    Mutator::Retry,
    Mutator::DeleteRecording,
    Mutator::RestoreRecording,
    Mutator::SetExpiry,
    Mutator::ClaimPurges,
    Mutator::ConfirmPurged,
    Mutator::ReportEgress,
    Mutator::ReportKnownEgress,
    Mutator::AdvanceFeed,
    Mutator::RegisterNode,
    Mutator::ReplaceNode,
    Mutator::Beat,
    Mutator::RetireNode,
    Mutator::Append,
];

const LEASE: Duration = Duration::from_secs(60);

macro_rules! perform {
    ($mutator:expr, $source:expr, $on:expr) => {
        match $mutator {
            Mutator::Register => $source.users().register(new_user(&$on.name, None)).await.map(drop),
            Mutator::AdmitGuest => $source.users().admit_guest(&$on.name).await.map(drop),
            Mutator::RegisterWithProvider => $source
                .users()
                .register_with_provider(profile(&$on.name))
                .await
                .map(drop),
            Mutator::Link => $source
                .auth_providers()
                .link($on.guest, account(Google, &$on.name))
                .await
                .map(drop),
            Mutator::Unlink => $source.auth_providers().unlink($on.guest, $on.account()).await,
            Mutator::StoreTokens => $source
                .auth_providers()
                .store_tokens($on.guest, $on.account(), tokens())
                .await
                .map(drop),
            Mutator::RecordLogin => $source.users().record_login($on.guest, $on.account()).await.map(drop),
            Mutator::RecordFailedLogin => $source.users().record_failed_login("nobody").await.map(drop),
            Mutator::UpdateProfile => $source.users().update_profile($on.guest, new_name()).await.map(drop),
            Mutator::SetPasswordHash => $source
                .users()
                .set_password_hash($on.guest, password_hash())
                .await
                .map(drop),
            Mutator::VerifyEmail => $source.users().verify_email($on.guest, &$on.address()).await.map(drop),
            Mutator::Deactivate => $source.users().deactivate($on.guest).await.map(drop),
            Mutator::Reactivate => $source.users().reactivate($on.guest).await.map(drop),
            Mutator::Erase => $source.users().erase($on.guest).await.map(drop),
            Mutator::EraseWithSeats => $source.users().erase($on.owner).await.map(drop),
            Mutator::Export => $source.users().export($on.guest).await.map(drop),
            Mutator::ExportAuditLog => $source
                .audit()
                .export(AuditFilter::of_room($on.room), None)
                .await
                .map(drop),
            Mutator::Create => $source
                .rooms()
                .create(NewRoom::titled($on.owner, "A room"))
                .await
                .map(drop),
            Mutator::Update => $source.rooms().update($on.room, new_title()).await.map(drop),
            Mutator::Cancel => $source.rooms().cancel($on.room).await.map(drop),
            Mutator::Transfer => $source.rooms().transfer($on.room, $on.guest).await.map(drop),
            Mutator::Delete => $source.rooms().delete($on.room).await.map(drop),
            Mutator::Restore => $source.rooms().deleted().restore($on.room).await.map(drop),
            Mutator::Start => $source.rooms().start($on.room).await.map(drop),
            Mutator::FirstJoin => $source
                .participants()
                .join($on.room, $on.guest, Participant)
                .await
                .map(drop),
            Mutator::Join => $source
                .participants()
                .join($on.room, $on.guest, Participant)
                .await
                .map(drop),
            Mutator::Leave => $source.participants().leave($on.room, $on.guest).await.map(drop),
            Mutator::LeaveStay => $source
                .participants()
                .leave_stay($on.stay(), LeaveDetails::default())
                .await
                .map(drop),
            Mutator::Kick => $source
                .participants()
                .kick($on.room, $on.guest, Some("noise"))
                .await
                .map(drop),
            Mutator::Ban => $source
                .participants()
                .ban($on.room, $on.guest, Some("noise"), None)
                .await
                .map(drop),
            Mutator::BanAbsent => $source
                .participants()
                .ban($on.room, $on.guest, None, None)
                .await
                .map(drop),
            Mutator::Unban => $source.participants().unban($on.room, $on.guest).await.map(drop),
            Mutator::JoinOn => $source
                .participants()
                .join_on($on.room, $on.guest, Participant, $on.node())
                .await
                .map(drop),
            Mutator::AssignNode => $source
                .participants()
                .assign_node($on.stay(), $on.node())
                .await
                .map(drop),
            Mutator::Reconcile => $source
                .participants()
                .reconcile($on.room, &[], SystemClock.now())
                .await
                .map(drop),
            Mutator::RegisterNode | Mutator::ReplaceNode => $source.nodes().register(&$on.name).await.map(drop),
            Mutator::Beat => $source.nodes().beat($on.node()).await.map(drop),
            Mutator::RetireNode => $source.nodes().retire($on.node()).await.map(drop),
            Mutator::Promote => $source.participants().promote($on.room, $on.guest).await.map(drop),
            Mutator::Demote => $source.participants().demote($on.room, $on.guest).await.map(drop),
            Mutator::HandOver => $source
                .participants()
                .hand_over_host($on.room, $on.guest)
                .await
                .map(drop),
            Mutator::End => $source.rooms().end($on.room).await.map(drop),
            Mutator::EndWithGuests => $source.rooms().end($on.room).await.map(drop),
            Mutator::EndWithRecording => $source.rooms().end($on.room).await.map(drop),
            Mutator::StartRecording => $source
                .recordings()
                .start(new_recording($on.room, $on.owner, &$on.name))
                .await
                .map(drop),
            Mutator::Progress => $source.recordings().progress($on.recording()).await.map(drop),
            Mutator::Stop => $source
                .recordings()
                .stop($on.recording(), RecordingMeasures::default())
                .await
                .map(drop),
            Mutator::Fail => $source.recordings().fail($on.recording(), "disk full").await.map(drop),
            Mutator::Process => $source.recordings().process($on.recording()).await.map(drop),
            Mutator::Ready => $source
                .recordings()
                .ready($on.recording(), "https://media.example/1", RecordingMeasures::default())
                .await
                .map(drop),
            Mutator::Retry => $source.recordings().retry($on.recording()).await.map(drop),
            Mutator::DeleteRecording => $source.recordings().delete($on.recording()).await.map(drop),
            Mutator::RestoreRecording => $source.recordings().deleted().restore($on.recording()).await.map(drop),
            Mutator::SetExpiry => $source.recordings().set_expiry($on.recording(), None).await.map(drop),
            Mutator::ClaimPurges => $source.recordings().claim_purges(500, LEASE).await.map(drop),
            Mutator::ConfirmPurged => $source.recordings().confirm_purged(&[$on.recording()]).await.map(drop),
            Mutator::ReportEgress | Mutator::ReportKnownEgress => $source
                .recordings()
                .report_egress(complete($on.room, &$on.name))
                .await
                .map(drop),
            Mutator::AdvanceFeed => $source.feed().advance(&$on.name, None, &$on.position).await,
            Mutator::Append => $source.audit().append(Some($on.room), muted($on.guest)).await.map(drop),
        }
    };
}

impl Mutator {
    /// What it is recorded in the audit log, and which tables it inserts into or updates besides.
    fn effects(self) -> (&'static [&'static str], &'static [&'static str]) {
        match self {
            Self::Register => (&["USER_REGISTERED"], &["users", "auth_providers"]),
            Self::AdmitGuest => (&["GUEST_ADMITTED"], &["users"]),
            Self::RegisterWithProvider => (&["USER_REGISTERED"], &["users", "auth_providers"]),
            Self::Link => (&["PROVIDER_LINKED"], &["auth_providers"]),
            Self::Unlink => (&["PROVIDER_UNLINKED"], &[]),
            Self::StoreTokens => (&["PROVIDER_TOKENS_STORED"], &["auth_providers"]),
            Self::RecordLogin => (&["USER_LOGIN_SUCCESS"], &["users", "auth_providers"]),
            Self::RecordFailedLogin => (&["USER_LOGIN_FAILED"], &[]),
            Self::UpdateProfile => (&["USER_PROFILE_CHANGED"], &["users"]),
            Self::SetPasswordHash => (&["USER_PASSWORD_CHANGED"], &["users"]),
            Self::VerifyEmail => (&["USER_VERIFIED"], &["users"]),
            Self::Deactivate => (
                &["USER_LEFT", "USER_DEACTIVATED"],
                &["users", "rooms", "room_participants"],
            ),
            Self::Reactivate => (&["USER_REACTIVATED"], &["users"]),
            Self::Erase => (&["USER_DELETED"], &["users"]),
            Self::EraseWithSeats => (
                &["USER_LEFT", "USER_LEFT", "USER_LEFT", "ROOM_ENDED", "USER_DELETED"],
                &["users", "rooms", "room_participants"],
            ),
            Self::Export => (&["USER_DATA_EXPORTED"], &[]),
            Self::ExportAuditLog => (&["AUDIT_EXPORTED"], &[]),
            Self::Create => (&["ROOM_CREATED"], &["rooms"]),
            Self::Update => (&["ROOM_UPDATED"], &["rooms"]),
            Self::Cancel => (&["ROOM_CANCELLED"], &["rooms"]),
            Self::Transfer => (&["ROOM_OWNERSHIP_TRANSFERRED"], &["rooms"]),
            Self::Delete => (&["ROOM_DELETED"], &["rooms"]),
            Self::Restore => (&["ROOM_RESTORED"], &["rooms"]),
            Self::Start => (&["ROOM_STARTED"], &["rooms"]),
            Self::FirstJoin => (&["ROOM_STARTED", "USER_JOINED"], &["rooms", "room_participants"]),
            Self::Join => (&["USER_JOINED"], &["rooms", "room_participants"]),
            Self::Leave => (&["USER_LEFT"], &["rooms", "room_participants"]),
            Self::LeaveStay => (&["USER_LEFT"], &["rooms", "room_participants"]),
            Self::Kick => (&["USER_KICKED"], &["rooms", "room_participants"]),
            Self::Ban => (&["USER_BANNED"], &["rooms", "room_participants"]),
            Self::BanAbsent => (&["USER_BANNED"], &["room_participants"]),
            Self::Unban => (&["USER_UNBANNED"], &["room_participants"]),
            Self::JoinOn => (&["USER_JOINED"], &["rooms", "room_participants"]),
            Self::Reconcile => (&["USER_LEFT"], &["rooms", "room_participants"]),
            Self::RegisterNode => (&["MEDIA_NODE_REGISTERED"], &["media_nodes"]),
            Self::ReplaceNode => (&["MEDIA_NODE_LOST", "MEDIA_NODE_REGISTERED"], &["media_nodes"]),
            Self::RetireNode => (&["MEDIA_NODE_LOST"], &["media_nodes"]),
            // Who is where stays the same.
            Self::Beat => (&[], &["media_nodes"]),
            Self::AssignNode => (&[], &["room_participants"]),
            Self::Promote => (&["ROLE_PROMOTION"], &["room_participants"]),
            Self::Demote => (&["ROLE_DEMOTION"], &["room_participants"]),
            Self::HandOver => (&["ROLE_CHANGED"], &["room_participants"]),
            Self::End => (&["ROOM_ENDED"], &["rooms"]),
            Self::EndWithGuests => (
                &["USER_LEFT", "USER_LEFT", "ROOM_ENDED"],
                &["rooms", "room_participants"],
            ),
            Self::EndWithRecording => (&["RECORDING_STOPPED", "ROOM_ENDED"], &["rooms", "recordings"]),
            Self::StartRecording => (&["RECORDING_STARTED"], &["recordings"]),
            Self::Progress => (&["RECORDING_PROGRESSED"], &["recordings"]),
            Self::Stop => (&["RECORDING_STOPPED"], &["recordings"]),
            Self::Fail => (&["RECORDING_FAILED"], &["recordings"]),
            Self::Process => (&["RECORDING_PROCESSING"], &["recordings"]),
            Self::Ready => (&["RECORDING_READY"], &["recordings"]),
            Self::Retry => (&["RECORDING_RETRIED"], &["recordings"]),
            Self::DeleteRecording => (&["RECORDING_DELETED"], &["recordings"]),
            Self::RestoreRecording => (&["RECORDING_RESTORED"], &["recordings"]),
            Self::SetExpiry => (&["RECORDING_EXPIRY_CHANGED"], &["recordings"]),
            // What is no change of the domain's is not told, see `recordings/purge.rs`.
            Self::ClaimPurges | Self::ConfirmPurged => (&[], &["recordings"]),
            Self::ReportEgress => (&["RECORDING_STARTED", "RECORDING_STOPPED"], &["recordings"]),
            Self::ReportKnownEgress => (&["RECORDING_REPORTED", "RECORDING_STOPPED"], &["recordings"]),
            // Where a consumer is concerns nobody else.
            Self::AdvanceFeed => (&[], &["feed_checkpoints"]),
            Self::Append => (&["USER_MUTED"], &[]),
        }
    }

    fn events(self) -> &'static [&'static str] {
        self.effects().0
    }

    fn tables(self) -> &'static [&'static str] {
        self.effects().1
    }

    /// Makes what it works on.
    async fn prepare(self, db: &TestDb, name: &str) -> Prepared {
        let owner = db.user(&format!("{name}-owner")).await;
        let address = format!("{}@example.org", name.to_lowercase());
        let system = db.system();
        let username = format!("{name}-guest");
        let guest = system
            .users()
            .register(new_user(&username, Some(&address)))
            .await
            .unwrap();
        let room = db.room(&owner, 5).await;
        let mut on = Prepared {
            name: name.to_owned(),
            owner: owner.id,
            guest: guest.id,
            room: room.id,
            account: None,
            recording: None,
            stay: None,
            position: db.store.feed().now().await.unwrap(),
            node: None,
        };
        match self {
            Self::ReplaceNode | Self::Beat | Self::RetireNode => {
                on.node = Some(system.nodes().register(name).await.unwrap().id);
            }
            Self::JoinOn => {
                system.rooms().start(room.id).await.unwrap();
                on.node = Some(system.nodes().register(name).await.unwrap().id);
            }
            Self::AssignNode => {
                on.stay = Some(db.seat(&room, &guest).await.id);
                on.node = Some(system.nodes().register(name).await.unwrap().id);
            }
            Self::Join | Self::End => drop(system.rooms().start(room.id).await.unwrap()),
            Self::Leave | Self::Kick | Self::Ban | Self::Promote | Self::Deactivate | Self::Reconcile => {
                drop(db.seat(&room, &guest).await);
            }
            Self::LeaveStay => on.stay = Some(db.seat(&room, &guest).await.id),
            Self::Demote => drop(system.participants().join(room.id, guest.id, CoHost).await.unwrap()),
            Self::HandOver | Self::EndWithGuests => {
                db.seat(&room, &guest).await;
                db.seat(&room, &owner).await;
            }
            // The owner is in their own room, which ends, and in somebody else's.
            Self::EraseWithSeats => {
                db.seat(&room, &guest).await;
                db.seat(&room, &owner).await;
                let elsewhere = db.room(&guest, 5).await;
                db.seat(&elsewhere, &owner).await;
            }
            Self::Unban => drop(system.participants().ban(room.id, guest.id, None, None).await.unwrap()),
            Self::Restore => drop(system.rooms().delete(room.id).await.unwrap()),
            Self::Reactivate => drop(system.users().deactivate(guest.id).await.unwrap()),
            Self::Unlink | Self::StoreTokens | Self::RecordLogin => {
                let linked = system.auth_providers().link(guest.id, account(Google, name)).await;
                on.account = Some(linked.unwrap().id);
            }
            _ => {}
        }
        if let Some(status) = self.recording_status() {
            system.rooms().start(room.id).await.unwrap();
            on.recording = Some(recording_in(&system, room.id, owner.id, status, name).await);
        }
        if let (Self::RestoreRecording | Self::ClaimPurges | Self::ConfirmPurged, Some(recording)) =
            (self, on.recording)
        {
            system.recordings().delete(recording).await.unwrap();
        }
        if matches!(self, Self::StartRecording | Self::ReportEgress) {
            system.rooms().start(room.id).await.unwrap();
        }
        on
    }

    /// The status of the recording that it works on.
    fn recording_status(self) -> Option<RecordingStatus> {
        match self {
            Self::EndWithRecording | Self::Progress | Self::Stop | Self::Fail | Self::ReportKnownEgress => {
                Some(RecordingStatus::Started)
            }
            Self::Process
            | Self::DeleteRecording
            | Self::RestoreRecording
            | Self::SetExpiry
            | Self::ClaimPurges
            | Self::ConfirmPurged => Some(RecordingStatus::Stopped),
            Self::Ready => Some(RecordingStatus::Processing),
            Self::Retry => Some(RecordingStatus::Failed),
            _ => None,
        }
    }

    async fn alone(self, acting: &Acting, on: &Prepared) -> Result<(), Error> {
        perform!(self, acting, on)
    }

    async fn inside(self, unit: &Unit, on: &Prepared) -> Result<(), Error> {
        perform!(self, unit, on)
    }
}

fn profile(name: &str) -> ProviderProfile<'_> {
    ProviderProfile {
        provider: Google,
        provider_id: name,
        email: None,
        username: name,
        display_name: "Somebody",
    }
}

fn tokens() -> ProviderTokens {
    ProviderTokens {
        access_token: Secret::new("access"),
        refresh_token: None,
        expires_at: None,
    }
}

fn new_name() -> ProfileChange<'static> {
    ProfileChange {
        display_name: Some("Somebody else"),
        ..ProfileChange::default()
    }
}

fn new_title() -> RoomChanges<'static> {
    RoomChanges {
        title: Some("Another title"),
        ..RoomChanges::default()
    }
}

/// The end of an egress whose file is called so.
fn complete(room: RoomId, tag: &str) -> EgressReport<'_> {
    let at = DateTime::UNIX_EPOCH;
    let measures = RecordingMeasures::default();
    EgressReport {
        egress_id: tag,
        room,
        owner: None,
        storage_bucket: "media",
        storage_key: tag,
        filename: "meeting.mp4",
        started_at: at,
        state: EgressState::Complete { at, measures },
    }
}

fn muted(target: UserId) -> Observation {
    let kind = MediaKind::Video;
    Observation::UserMuted { target, kind }
}

/// A store that can encrypt tokens and keeps no file back, on the case's database.
async fn keyed(db: &TestDb) -> Store {
    let key = TokenKey::new("k1", [7; 32]).unwrap();
    let settings = StoreSettings {
        purge_grace: Duration::ZERO,
        token_keys: Some(KeyRing::new(key, Vec::new()).unwrap()),
        ..settings()
    };
    db.store_with(settings).await
}

struct Prepared {
    name: String,
    owner: UserId,
    guest: UserId,
    room: RoomId,
    account: Option<AuthProviderId>,
    recording: Option<RecordingId>,
    stay: Option<ParticipantId>,
    position: FeedPosition,
    node: Option<MediaNodeId>,
}

impl Prepared {
    fn account(&self) -> AuthProviderId {
        self.account.unwrap()
    }

    fn recording(&self) -> RecordingId {
        self.recording.unwrap()
    }

    fn node(&self) -> MediaNodeId {
        self.node.unwrap()
    }

    fn stay(&self) -> ParticipantId {
        self.stay.unwrap()
    }

    fn address(&self) -> String {
        format!("{}@example.org", self.name.to_lowercase())
    }
}

/// The actions of all audit rows behind the first `known`, oldest first.
async fn told_since(raw: &Raw, known: usize) -> Vec<String> {
    raw.texts("SELECT CAST(action AS text) FROM audit_logs ORDER BY timestamp, id")
        .await
        .split_off(known)
}

pub async fn every_change_is_recorded_exactly_once(db: TestDb) {
    let (raw, store, system) = (db.raw().await, keyed(&db).await, Actor::system("test"));
    for mutator in ALL {
        let on = mutator.prepare(&db, &format!("{mutator:?}-alone")).await;
        let known = told_since(&raw, 0).await.len();
        mutator.alone(&store.acting(&system), &on).await.unwrap();
        assert_eq!(told_since(&raw, known).await, mutator.events(), "{mutator:?} alone");

        let on = mutator.prepare(&db, &format!("{mutator:?}-inside")).await;
        let known = told_since(&raw, 0).await.len();
        let unit = store.begin(&system).await.unwrap();
        mutator.inside(&unit, &on).await.unwrap();
        unit.commit().await.unwrap();
        assert_eq!(told_since(&raw, known).await, mutator.events(), "{mutator:?} inside");
    }
    check_invariants(&raw, &store).await;
}

/// Runs a change that must fail in each of the sign-in methods which one can be run. None may leave a trace.
async fn assert_fails_without_trace(store: &Store, raw: &Raw, mutator: Mutator, on: &Prepared, what: &str) {
    let system = Actor::system("test");
    let before = raw.snapshot().await;
    assert_sabotaged(&mutator.alone(&store.acting(&system), on).await, what);
    assert_eq!(raw.snapshot().await, before, "{what}");

    let unit = store.begin(&system).await.unwrap();
    assert_sabotaged(&mutator.inside(&unit, on).await, what);
    let committed = unit.commit().await;
    assert!(matches!(committed, Err(Error::Aborted { .. })), "{what}: {committed:?}");
    assert_eq!(raw.snapshot().await, before, "{what}");

    let returned = store
        .transact(&system, |unit| async move { mutator.inside(&unit, on).await })
        .await;
    assert_sabotaged(&returned, what);
    let swallowed: Result<(), Error> = store
        .transact(&system, |unit| async move {
            let _ = mutator.inside(&unit, on).await;
            Ok(())
        })
        .await;
    assert!(matches!(swallowed, Err(Error::Aborted { .. })), "{what}: {swallowed:?}");
    assert_eq!(raw.snapshot().await, before, "{what}");
}

async fn a_change_that_cannot_be_recorded_does_not_happen(db: TestDb) {
    let (raw, store) = (db.raw().await, keyed(&db).await);
    for mutator in ALL {
        let events: BTreeSet<_> = mutator.events().iter().collect();
        for event in events {
            let on = mutator.prepare(&db, &format!("{mutator:?}-{event}")).await;
            raw.sabotage("audit_logs", &format!("NEW.action = '{event}'")).await;
            assert_fails_without_trace(&store, &raw, mutator, &on, &format!("{mutator:?} without {event}")).await;
            raw.repair().await;
            mutator.alone(&store.acting(&Actor::system("test")), &on).await.unwrap();
        }
    }
    check_invariants(&raw, &store).await;
}

async fn a_change_that_fails_half_way_leaves_nothing(db: TestDb) {
    let (raw, store) = (db.raw().await, keyed(&db).await);
    for mutator in ALL {
        for table in mutator.tables() {
            let on = mutator.prepare(&db, &format!("{mutator:?}-{table}")).await;
            raw.sabotage(table, "1 = 1").await;
            assert_fails_without_trace(&store, &raw, mutator, &on, &format!("{mutator:?} without {table}")).await;
            raw.repair().await;
            mutator.alone(&store.acting(&Actor::system("test")), &on).await.unwrap();
        }
    }
    check_invariants(&raw, &store).await;
}

async fn a_change_that_is_rolled_back_is_not_recorded(db: TestDb) {
    let (raw, store, system) = (db.raw().await, keyed(&db).await, Actor::system("test"));
    for mutator in ALL {
        let on = mutator.prepare(&db, &format!("{mutator:?}")).await;
        let before = raw.snapshot().await;
        let unit = store.begin(&system).await.unwrap();
        mutator.inside(&unit, &on).await.unwrap();
        unit.roll_back().await.unwrap();
        assert_eq!(raw.snapshot().await, before, "{mutator:?}");
        // Nothing stands in the way of doing it after all.
        mutator.alone(&store.acting(&Actor::system("test")), &on).await.unwrap();
    }
    check_invariants(&raw, &store).await;
}
