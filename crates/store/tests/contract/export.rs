//! Data portability: all of it, once, in pieces, and without secrets.

use conferencing_store::entity::AuthProviderType::Google;
use conferencing_store::entity::ParticipantRole::Participant;
use conferencing_store::{
    Actor, AuditEvent, Change, Error, ExportRecord, KeyRing, ProviderTokens, Rejected, Store, StoreSettings, TokenKey,
};
use futures_util::TryStreamExt;

use crate::accounts_support::{account, appended};
use crate::erasure::record;
use crate::harness::TestDb;
use crate::wire::Wire;

crate::cases![
    an_export_has_everything_but_secrets,
    other_peoples_addresses_are_left_out,
    many_rows_come_once_each,
    @Postgres an_export_reads_as_it_is_polled,
    only_they_and_the_platform_export,
];

async fn collect(acting: &conferencing_store::Acting, user: conferencing_store::entity::UserId) -> Vec<ExportRecord> {
    let stream = acting.users().export(user).await.unwrap();
    stream.try_collect().await.unwrap()
}

async fn an_export_has_everything_but_secrets(db: TestDb) {
    let raw = db.raw().await;
    let (ada, ben) = (db.user("ada").await, db.user("ben").await);
    let store = db
        .store_with(StoreSettings {
            token_keys: Some(KeyRing::new(TokenKey::new("k", [1; 32]).unwrap(), []).unwrap()),
            ..StoreSettings::default()
        })
        .await;
    let acting = store.acting(&Actor::user(ada.id).from_address("203.0.113.7".parse().unwrap()));
    let link = acting
        .auth_providers()
        .link(ada.id, account(Google, "g1"))
        .await
        .unwrap();
    let tokens = ProviderTokens {
        access_token: conferencing_store::entity::Secret::new("plain-token"),
        refresh_token: None,
        expires_at: None,
    };
    acting
        .auth_providers()
        .store_tokens(ada.id, link.id, tokens)
        .await
        .unwrap();
    let (own, other) = (db.room(&ada, 5).await, db.room(&ben, 5).await);
    for room in [&own, &other] {
        db.seat(room, &ada).await;
        db.seat(room, &ben).await;
    }
    let recording = record(&raw, own.id, ada.id, "READY", "ada/1").await;
    record(&raw, own.id, ben.id, "READY", "ben/1").await;

    let (stream, events) = appended(&raw, acting.users().export(ada.id)).await;
    // The audit log knows before the first record is out.
    assert_eq!(events, ["USER_DATA_EXPORTED"]);
    let records: Vec<ExportRecord> = stream.unwrap().try_collect().await.unwrap();
    let ExportRecord::Profile(profile) = &records[0] else {
        panic!("{:?}", records[0]);
    };
    assert_eq!((profile.username.as_str(), profile.has_password), ("ada", true));
    let count = |which: fn(&ExportRecord) -> bool| records.iter().filter(|record| which(record)).count();
    assert_eq!(count(|record| matches!(record, ExportRecord::Profile(_))), 1);
    assert_eq!(count(|record| matches!(record, ExportRecord::Provider(_))), 2);
    assert_eq!(count(|record| matches!(record, ExportRecord::Room(_))), 1);
    assert_eq!(count(|record| matches!(record, ExportRecord::Participation(_))), 2);
    let recordings: Vec<_> = records
        .iter()
        .filter_map(|record| match record {
            ExportRecord::Recording(row) => Some(row.id.as_uuid()),
            _ => None,
        })
        .collect();
    assert_eq!(recordings, [recording]);
    let about = format!(
        "SELECT count(*) FROM audit_logs WHERE user_id = {id} OR target_user_id = {id}",
        id = crate::erasure::literal(&raw, ada.id.as_uuid())
    );
    let events = count(|record| matches!(record, ExportRecord::Event(_)));
    assert_eq!(i64::try_from(events).unwrap(), raw.number(&about).await);
    let exported: AuditEvent = Change::UserDataExported { target: ada.id }.into();
    assert!(
        records
            .iter()
            .any(|record| matches!(record, ExportRecord::Event(entry) if entry.event == exported))
    );

    let lines: Vec<String> = records.iter().map(ExportRecord::to_json_line).collect();
    for line in &lines {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(value["record"].is_string() && !line.contains('\n'));
    }
    let all = format!("{} {records:?}", lines.join("\n"));
    for secret in ["plain-token", "v1.k.", "argon2id", "access_token\"", "password_hash"] {
        assert!(!all.contains(secret), "{secret}");
    }
}

async fn other_peoples_addresses_are_left_out(db: TestDb) {
    let (ada, ben) = (db.user("ada").await, db.user("ben").await);
    let room = db.room(&ada, 5).await;
    let at = |user: &conferencing_store::entity::user::Model, address: &str| {
        let actor = Actor::user(user.id)
            .from_address(address.parse().unwrap())
            .with_user_agent("browser");
        db.store.acting(&actor)
    };
    at(&ben, "198.51.100.4")
        .participants()
        .join(room.id, ben.id, Participant)
        .await
        .unwrap();
    at(&ada, "203.0.113.7")
        .participants()
        .kick(room.id, ben.id, None)
        .await
        .unwrap();
    let records = collect(&at(&ben, "198.51.100.4"), ben.id).await;
    let all: String = records.iter().map(ExportRecord::to_json_line).collect();
    assert!(all.contains("198.51.100.4") && all.contains("USER_KICKED"));
    assert!(!all.contains("203.0.113.7"), "{all}");
}

async fn many_rows_come_once_each(db: TestDb) {
    let ada = db.user("ada").await;
    let acting = db.acting(&ada);
    let rooms = 410;
    db.store
        .transact(&Actor::user(ada.id), |unit| async move {
            for _ in 0..rooms {
                let room = unit
                    .rooms()
                    .create(conferencing_store::NewRoom::titled(ada.id, "One of many"))
                    .await?;
                unit.participants().join(room.id, ada.id, Participant).await?;
            }
            Ok::<_, Error>(())
        })
        .await
        .unwrap();
    let records = collect(&acting, ada.id).await;
    let mut keys: Vec<String> = records
        .iter()
        .filter_map(|record| match record {
            ExportRecord::Room(room) => Some(room.id.to_string()),
            ExportRecord::Participation(participation) => Some(participation.id.to_string()),
            ExportRecord::Event(entry) => Some(entry.id.to_string()),
            _ => None,
        })
        .collect();
    // Rooms, participations, and of each ROOM_CREATED, ROOM_STARTED and USER_JOINED; registering, and the export itself.
    assert_eq!(keys.len(), rooms * 5 + 2);
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), rooms * 5 + 2);
}

async fn an_export_reads_as_it_is_polled(db: TestDb) {
    let ada = db.user("ada").await;
    let wire = Wire::before(&db.url).await;
    let store = Store::connect(&wire.url).await.unwrap();
    let acting = store.acting(&Actor::user(ada.id));
    wire.executions();
    let stream = acting.users().export(ada.id).await.unwrap();
    assert_eq!(wire.executions(), ["execute"]);
    let mut stream = std::pin::pin!(stream);
    stream.try_next().await.unwrap().unwrap();
    assert_eq!(wire.executions(), ["execute"]);
    // The others take one statement a page.
    while stream.try_next().await.unwrap().is_some() {}
    assert_eq!(wire.executions(), ["execute"; 6]);
}

async fn only_they_and_the_platform_export(db: TestDb) {
    let raw = db.raw().await;
    let (ada, ben) = (db.user("ada").await, db.user("ben").await);
    let by_ben = db.acting(&ben);
    let (refused, events) = appended(&raw, async { by_ben.users().export(ada.id).await.map(|_| ()) }).await;
    assert!(matches!(refused, Err(Error::Rejected(Rejected::NotAllowed { .. }))));
    assert_eq!(events, ["UNAUTHORIZED_ACCESS_ATTEMPT"]);
    db.system().users().deactivate(ada.id).await.unwrap();
    let by_ada = db.acting(&ada);
    let (refused, events) = appended(&raw, async { by_ada.users().export(ada.id).await.map(|_| ()) }).await;
    assert!(matches!(refused, Err(Error::Rejected(Rejected::UserInactive { .. }))) && events.is_empty());
    assert!(!collect(&db.system(), ada.id).await.is_empty());
    db.system().users().erase(ada.id).await.unwrap();
    let system = db.system();
    let (refused, events) = appended(&raw, async { system.users().export(ada.id).await.map(|_| ()) }).await;
    assert!(matches!(refused, Err(Error::NotFound(_))) && events.is_empty());
}
