//! One call of every method, or several where its statement depends on what is asked.

use chrono::{DateTime, Utc};
use entity::{
    AuditAction, AuthProviderId, AuthProviderType, MediaNodeId, ParticipantId, ParticipantRole, RecordingId, RoomId,
    Secret, UserId, auth_provider,
};
use uuid::Uuid;

use super::Recorder;
use crate::audit::{Audit, AuditFilter};
use crate::auth_providers::{AuthProviders, CheckedAccount, Link, ProviderAccount, ProviderTokens};
use crate::error::Error;
use crate::event::Observation;
use crate::feed::FeedFilter;
use crate::inbox::{Inbox, Once};
use crate::nodes::Nodes;
use crate::notice::Notice;
use crate::page::{Cursor, Order, PageRequest};
use crate::participants::leave_stay::CorrectStay;
use crate::participants::{LeaveDetails, Participants};
use crate::recordings::{EgressReport, EgressState, NewRecording, RecordingMeasures, Recordings};
use crate::rooms::{NewRoom, RoomChanges, RoomFilter, Rooms, Schedule};
use crate::statistics::Statistics;
use crate::tokens::{KeyRing, TokenKey};
use crate::unit::Sink;
use crate::users::{EmailChange, NewUser, ProfileChange, ProviderEmail, ProviderProfile, UserSearch, Users};

const ID: Uuid = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001);
pub(super) const USER: UserId = UserId::from_uuid(ID);
const OTHER: UserId = UserId::from_uuid(Uuid::from_u128(2));
const ROOM: RoomId = RoomId::from_uuid(ID);
const STAY: ParticipantId = ParticipantId::from_uuid(ID);
const RECORDING: RecordingId = RecordingId::from_uuid(ID);
const NODE: MediaNodeId = MediaNodeId::from_uuid(ID);
const PROVIDER: AuthProviderId = AuthProviderId::from_uuid(ID);

pub(super) fn keys() -> Option<KeyRing> {
    let key = TokenKey::new("list", [7; 32]).ok()?;
    KeyRing::new(key, []).ok()
}

/// Both orders, from the beginning and from a cursor on.
fn pages() -> Vec<PageRequest> {
    let cursor = Cursor::at(DateTime::UNIX_EPOCH, ID);
    let orders = [Order::NewestFirst, Order::OldestFirst];
    let page = |order: Order| [None, Some(cursor.clone())].map(|after| PageRequest::of(10, order, after));
    orders.into_iter().flat_map(page).collect()
}

pub(super) async fn call_everything(on: &Recorder) {
    users(on).await;
    rooms(on).await;
    participants(on).await;
    nodes(on).await;
    recordings(on).await;
    audit(on).await;
    inbox(on).await;
    let statistics = Statistics::new(on);
    let _ = statistics.of_room(ROOM).await;
    let _ = statistics.of_user(USER).await;
    let day = DateTime::UNIX_EPOCH.date_naive();
    let _ = statistics.daily(day..day + chrono::Days::new(1)).await;
    let _ = statistics
        .busiest_rooms(
            DateTime::UNIX_EPOCH..DateTime::UNIX_EPOCH + chrono::TimeDelta::days(1),
            10,
        )
        .await;
}

async fn rooms(on: &Recorder) {
    let rooms = || Rooms::new(on);
    let _ = rooms().create(NewRoom::titled(USER, "A room")).await;
    let _ = rooms().start(ROOM).await;
    let _ = rooms().end(ROOM).await;
    let _ = rooms().cancel(ROOM).await;
    let _ = rooms().delete(ROOM).await;
    let _ = rooms().deleted().restore(ROOM).await;
    let _ = rooms().transfer(ROOM, OTHER).await;
    let _ = rooms().sweep_empty(10).await;
    // Each setting may change or not.
    for bits in 1..1_u8 << 7 {
        let on_bit = |bit: u8| bits & (1 << bit) != 0;
        let schedule = Schedule {
            start: DateTime::<Utc>::UNIX_EPOCH,
            end: None,
        };
        let changes = RoomChanges {
            title: on_bit(0).then_some("A title"),
            description: on_bit(1).then_some(None),
            schedule: on_bit(2).then_some(Some(schedule)),
            max_participants: on_bit(3).then_some(2),
            is_public: on_bit(4).then_some(true),
            is_recordable: on_bit(5).then_some(true),
            require_auth: on_bit(6).then_some(true),
        };
        let _ = rooms().update(ROOM, changes).await;
    }
    let _ = rooms().find(ROOM).await;
    let _ = rooms().deleted().find(ROOM).await;
    let _ = rooms().any().find(ROOM).await;
    let _ = rooms().find_by_code("ABCD").await;
    let _ = rooms().deleted().find_by_code("ABCD").await;
    let _ = rooms().any().find_by_code("ABCD").await;
    let _ = rooms().find_overview("ABCD").await;
    let _ = rooms().deleted().find_overview("ABCD").await;
    let _ = rooms().any().find_overview("ABCD").await;
    for filter in [
        RoomFilter::OwnedBy(USER),
        RoomFilter::AttendedBy(USER),
        RoomFilter::LivePublic,
        RoomFilter::Live,
        RoomFilter::Upcoming { owner: None },
        RoomFilter::Upcoming { owner: Some(USER) },
    ] {
        let _ = rooms().count(filter).await;
        let _ = rooms().deleted().count(filter).await;
        let _ = rooms().any().count(filter).await;
        for page in pages() {
            let _ = rooms().list(filter, &page).await;
            let _ = rooms().deleted().list(filter, &page).await;
            let _ = rooms().any().list(filter, &page).await;
        }
    }
}

async fn participants(on: &Recorder) {
    let participants = Participants::new(on);
    for user in [USER, OTHER] {
        let _ = participants.join(ROOM, user, ParticipantRole::Participant).await;
        let _ = participants
            .join_on(ROOM, user, ParticipantRole::Participant, NODE)
            .await;
        let _ = participants.leave(ROOM, user).await;
        let _ = participants.standing(ROOM, user).await;
        let _ = participants.kick(ROOM, user, Some("noise")).await;
        let _ = participants.ban(ROOM, user, Some("noise"), None).await;
        let _ = participants.unban(ROOM, user).await;
        let _ = participants.promote(ROOM, user).await;
        let _ = participants.demote(ROOM, user).await;
        let _ = participants.hand_over_host(ROOM, user).await;
    }
    let _ = participants.leave_stay(STAY, LeaveDetails::default()).await;
    let left_at = DateTime::UNIX_EPOCH;
    let _ = on.perform(CorrectStay { stay: STAY, left_at }).await;
    let _ = participants.assign_node(STAY, NODE).await;
    let _ = participants.reconcile(ROOM, &[USER], DateTime::UNIX_EPOCH).await;
    let _ = participants.find(STAY).await;
    let _ = participants.actor_role(ROOM).await;
    for page in pages() {
        let _ = participants.list_present(ROOM, &page).await;
        let _ = participants.list_history(ROOM, &page).await;
        let _ = participants.list_bans(ROOM, &page).await;
        let _ = participants.bans_of(USER, &page).await;
        let _ = participants.bans_by(USER, &page).await;
        // The pages' cursor lies before the time and behind it.
        for at in [DateTime::UNIX_EPOCH, DateTime::UNIX_EPOCH + chrono::TimeDelta::days(1)] {
            let _ = participants.present_at(ROOM, at, &page).await;
            let _ = participants
                .stays_of(USER, at..at + chrono::TimeDelta::days(1), &page)
                .await;
        }
    }
}

async fn nodes(on: &Recorder) {
    let nodes = Nodes::new(on);
    let _ = nodes.register("sfu").await;
    let _ = nodes.beat(NODE).await;
    let _ = nodes.retire(NODE).await;
    let _ = nodes.find(NODE).await;
    crate::nodes::list_statements(on).await;
    for page in pages() {
        let _ = nodes.list_alive(&page).await;
        let _ = nodes.lost_seats(NODE, &page).await;
        let _ = nodes.seats(NODE, &page).await;
    }
}

async fn recordings(on: &Recorder) {
    let recordings = || Recordings::new(on);
    let new = NewRecording {
        room: ROOM,
        owner: USER,
        storage_key: "key",
        storage_bucket: "bucket",
        filename: "file",
        egress_id: None,
        is_public: false,
        expires_at: None,
    };
    let measures = RecordingMeasures::default;
    let _ = recordings().start(new).await;
    reports(on).await;
    let _ = recordings().progress(RECORDING).await;
    let _ = recordings().stop(RECORDING, measures()).await;
    let _ = recordings().fail(RECORDING, "why").await;
    let _ = recordings().process(RECORDING).await;
    let _ = recordings().ready(RECORDING, "https://example.org/a", measures()).await;
    let _ = recordings().retry(RECORDING).await;
    let _ = recordings().delete(RECORDING).await;
    let _ = recordings().set_expiry(RECORDING, None).await;
    let _ = recordings().deleted().restore(RECORDING).await;
    let _ = recordings().sweep_expired(10).await;
    let _ = recordings().sweep_stuck(std::time::Duration::from_secs(60), 10).await;
    let _ = recordings().claim_purges(10, std::time::Duration::from_secs(60)).await;
    let _ = recordings().confirm_purged(&[RECORDING]).await;
    let _ = recordings().find(RECORDING).await;
    let _ = recordings().deleted().find(RECORDING).await;
    let _ = recordings().any().find(RECORDING).await;
    let _ = recordings().find_by_egress_id("EG_1").await;
    let _ = recordings().deleted().find_by_egress_id("EG_1").await;
    let _ = recordings().any().find_by_egress_id("EG_1").await;
    let _ = recordings().find_by_storage_key("a").await;
    let _ = recordings().deleted().find_by_storage_key("a").await;
    let _ = recordings().any().find_by_storage_key("a").await;
    for page in pages() {
        let _ = recordings().list_of_room(ROOM, &page).await;
        let _ = recordings().deleted().list_of_room(ROOM, &page).await;
        let _ = recordings().any().list_of_room(ROOM, &page).await;
        let _ = recordings().list_of_owner(USER, &page).await;
        let _ = recordings().deleted().list_of_owner(USER, &page).await;
        let _ = recordings().any().list_of_owner(USER, &page).await;
    }
}

async fn reports(on: &Recorder) {
    let (at, measures) = (DateTime::UNIX_EPOCH, RecordingMeasures::default());
    for state in [
        EgressState::Starting,
        EgressState::Active,
        EgressState::Complete { at, measures },
        EgressState::Failed { at, message: "why" },
    ] {
        let report = EgressReport {
            egress_id: "EG_1",
            room: ROOM,
            owner: None,
            storage_bucket: "media",
            storage_key: "a",
            filename: "a.mkv",
            started_at: at,
            state,
        };
        let _ = Recordings::new(on).report_egress(report).await;
    }
}

async fn inbox(on: &Recorder) {
    if let Ok(once) = Once::new("livekit", "EV_1") {
        let _ = on.perform(once).await;
    }
    let _ = Inbox::new(on).purge(std::time::Duration::from_secs(60), 10).await;
}

async fn audit(on: &Recorder) {
    let audit = Audit::new(on);
    let _ = audit.append(Some(ROOM), Observation::UserLogout {}).await;
    let refusal = crate::error::Rejected::NotAllowed {
        operation: crate::authority::Operation::Kick,
        actor_role: crate::authority::ActorRole::Outsider,
        room: Some(ROOM),
        user: Some(USER),
    };
    if let Some(notice) = Notice::of_attempt(&Error::from(refusal)) {
        let _ = on.perform(notice).await;
    }
    crate::audit::writer::list_statements(on).await;
    for bits in 0..1_u16 << 3 {
        let on_bit = |bit: u16| bits & (1 << bit) != 0;
        let filter = FeedFilter {
            room: on_bit(0).then_some(ROOM),
            user: on_bit(1).then_some(USER),
            actions: if on_bit(2) {
                vec![AuditAction::UserJoined]
            } else {
                Vec::new()
            },
        };
        crate::feed::list_statements(on, &filter).await;
    }
    // Each part of a filter may be named or not.
    for bits in 0..1_u16 << 8 {
        let on_bit = |bit: u16| bits & (1 << bit) != 0;
        let at = DateTime::<Utc>::UNIX_EPOCH;
        let filter = AuditFilter {
            room: on_bit(0).then_some(ROOM),
            actor: on_bit(1).then_some(USER),
            target: on_bit(2).then_some(USER),
            // Those that an index has, and those that none has.
            actions: [
                on_bit(3).then_some(AuditAction::UserKicked),
                on_bit(7).then_some(AuditAction::UserJoined),
            ]
            .into_iter()
            .flatten()
            .collect(),
            since: on_bit(4).then_some(at),
            until: on_bit(5).then_some(at + chrono::TimeDelta::days(1)),
            address: on_bit(6).then_some([127, 0, 0, 1].into()),
        };
        let _ = audit.count(&filter).await;
        // The pages' cursor lies within the times, and beyond them, where it leaves neither out.
        let beyond = AuditFilter {
            since: filter.since.map(|since| since + chrono::TimeDelta::days(1)),
            until: filter.until.map(|until| until - chrono::TimeDelta::days(1)),
            ..filter.clone()
        };
        for filter in [&filter, &beyond] {
            for page in pages() {
                let _ = audit.list(filter, &page).await;
                let _ = audit.list_with_names(filter, &page).await;
            }
        }
    }
}

async fn users(on: &Recorder) {
    let users = || Users::new(on);
    let hash = || Secret::new("$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2g");
    let new = NewUser {
        username: "ada",
        email: Some("ada@example.org"),
        display_name: "Ada",
        password_hash: hash(),
    };
    let _ = users().register(new).await;
    let profile = ProviderProfile {
        provider: AuthProviderType::Google,
        provider_id: "1",
        email: Some(ProviderEmail::Verified("ada@example.org")),
        username: "ada",
        display_name: "Ada",
    };
    let _ = users().register_with_provider(profile).await;
    let _ = users().admit_guest("Ada").await;
    let _ = users().sweep_guests(std::time::Duration::from_secs(60), 10).await;
    let _ = users().sign_in_with_provider(profile).await;
    let _ = users().record_login(USER, PROVIDER).await;
    let _ = users().record_failed_login("ada").await;
    let change = ProfileChange {
        username: Some("ada"),
        display_name: Some("Ada"),
        email: EmailChange::To("ada@example.org"),
    };
    let _ = users().update_profile(USER, change).await;
    let _ = users().set_password_hash(USER, hash()).await;
    let _ = users().verify_email(USER, "ada@example.org").await;
    let _ = users().deactivate(USER).await;
    let _ = users().reactivate(USER).await;
    let _ = users().erase(USER).await;
    crate::erasure::list_statements(on, USER).await;
    let _ = users().export(USER).await;
    crate::export::list_statements(on, USER).await;
    let _ = users().find_for_login("ada").await;
    let _ = users().find_for_provider(AuthProviderType::Google, "1").await;
    let _ = users().find(USER).await;
    let _ = users().deleted().find(USER).await;
    let _ = users().any().find(USER).await;
    lists_of_users(on).await;
    providers(on).await;
}

async fn lists_of_users(on: &Recorder) {
    let users = || Users::new(on);
    for page in pages() {
        let _ = users().list(&page).await;
        let _ = users().deleted().list(&page).await;
        let _ = users().any().list(&page).await;
        let _ = users().logins(USER, &page).await;
    }
    // With an end and without one, on either side of the names of erased users, and on both.
    for prefix in ["", "d", "z", "\u{10ffff}"] {
        for search in [UserSearch::username(prefix), UserSearch::email(prefix)] {
            for order in [Order::NewestFirst, Order::OldestFirst] {
                let page = PageRequest::of(10, order, None);
                let _ = users().search(&search, &page).await;
                let _ = users().deleted().search(&search, &page).await;
                let _ = users().any().search(&search, &page).await;
            }
        }
    }
}

async fn providers(on: &Recorder) {
    let providers = AuthProviders::new(on);
    let account = ProviderAccount {
        provider: AuthProviderType::Google,
        provider_id: "1",
        email: None,
        metadata: None,
    };
    let _ = providers.link(USER, account).await;
    if let Ok(account) = &CheckedAccount::new(AuthProviderType::Google, "1", None) {
        let link = Link {
            user: USER,
            account,
            metadata: None,
            address: Some("ada@example.org"),
        };
        let _ = on.perform(link).await;
    }
    let _ = providers.unlink(USER, PROVIDER).await;
    let tokens = ProviderTokens {
        access_token: Secret::new("token"),
        refresh_token: None,
        expires_at: None,
    };
    let _ = providers.store_tokens(USER, PROVIDER, tokens).await;
    let _ = providers.open_tokens(PROVIDER).await;
    let _ = providers.list(USER).await;
    let _ = providers.find(PROVIDER).await;
    let row = auth_provider::Model {
        id: PROVIDER,
        user_id: USER,
        provider_type: AuthProviderType::Google,
        provider_id: String::new(),
        provider_email: None,
        access_token: None,
        refresh_token: None,
        token_expires_at: None,
        metadata: None,
        created_at: DateTime::UNIX_EPOCH,
        updated_at: DateTime::UNIX_EPOCH,
        last_used_at: None,
    };
    crate::auth_providers::tokens::list_statements(on, row).await;
}
