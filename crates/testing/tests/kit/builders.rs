//! What the builders build, by the store's own operations.

use conferencing_store::entity::{AuthProviderType, ParticipantRole, RecordingStatus, RoomStatus, Secret};
use conferencing_store::{AuditFilter, Check, Conflict, Error, Observation, Order, PageRequest, Severity};
use conferencing_testing::{TestStore, on_both_backends};

on_both_backends! {
    async fn people(kit: TestStore) {
        let ada = kit.user("ada").await;
        assert_eq!((ada.email.as_deref(), ada.is_verified, ada.is_active), (Some("ada@example.org"), false, true));
        let ben = kit.user("ben").displayed_as("Ben B.").email("b@example.org").verified().await;
        assert_eq!((&*ben.display_name, ben.email.as_deref(), ben.is_verified), ("Ben B.", Some("b@example.org"), true));
        let eve = kit.user("eve").without_email().password_hash(Secret::new("$test$hash-of-eve")).inactive().await;
        assert_eq!((eve.email, eve.is_active), (None, false));
        assert_eq!(kit.users("guest", 3).await[2].username, "guest2");
        let taken = kit.user("ADA").try_build().await.unwrap_err();
        assert!(matches!(taken, Error::Conflict(Conflict::UsernameTaken)), "{taken:?}");
        let account = kit.provider_account(&ada).await;
        assert_eq!((account.user_id, account.provider_type), (ada.id, AuthProviderType::GitHub));
        let account = kit.provider_account(ada.id).at(AuthProviderType::Google).called("g-1").email("a@g.example").await;
        assert_eq!((&*account.provider_id, account.provider_email.as_deref()), ("g-1", Some("a@g.example")));
        let node = kit.media_node("sfu-1").await;
        assert!(node.lost_at.is_none() && kit.media_node("sfu-2").retired().await.lost_at.is_some());
    }

    async fn rooms(kit: TestStore) {
        let ada = kit.user("ada").await;
        let usual = kit.room(&ada).await;
        assert_eq!((&*usual.title, usual.status, usual.max_participants), ("A room", RoomStatus::Created, 100));
        let (start, end) = (kit.now() + chrono::TimeDelta::hours(1), kit.now() + chrono::TimeDelta::hours(2));
        let room = kit.room(&ada).titled("Review").described("of plans").seats(2).public().not_recordable().without_sign_in();
        let room = room.scheduled(start, end).live().await;
        assert_eq!((&*room.title, room.description.as_deref(), room.status), ("Review", Some("of plans"), RoomStatus::Live));
        assert_eq!((room.max_participants, room.scheduled_start, room.scheduled_end), (2, Some(start), Some(end)));
        assert!(room.is_public && !room.is_recordable && !room.require_auth);
        assert_eq!(kit.room(&ada).ended().await.status, RoomStatus::Ended);
        assert_eq!(kit.room(&ada).cancelled().await.status, RoomStatus::Cancelled);
        assert!(kit.room(&ada).live().deleted().await.deleted_at.is_some());
    }

    async fn seats_and_bans(kit: TestStore) {
        let ada = kit.user("ada").await;
        let guests = kit.users("guest", 6).await;
        let node = kit.media_node("sfu-1").await;
        let room = kit.room(&ada).await;
        assert_eq!(kit.seat(&room, &ada).await.role, ParticipantRole::Host);
        assert_eq!(kit.seat(&room, &guests[0]).co_host().await.role, ParticipantRole::CoHost);
        assert_eq!(kit.seat(room.id, guests[1].id).on_node(&node).await.node_id, Some(node.id));
        assert_eq!(kit.seat(&room, &guests[2]).host().await.role, ParticipantRole::Host);
        let left = kit.seat(&room, &guests[3]).left().await;
        assert_eq!((left.left_at, left.is_kicked), (Some(kit.now()), false));
        assert_eq!(kit.seat(&room, &guests[4]).kicked_by(&ada).await.kicked_by, Some(ada.id));
        assert!(kit.seat(&room, &guests[5]).kicked().await.kicked_by.is_none());
        let until = kit.now() + chrono::TimeDelta::days(1);
        let ban = kit.ban(&room, &guests[1]).by(&ada).because("noise").until(until).await;
        assert_eq!((ban.was_present, ban.until), (true, Some(until)));
        assert!(!kit.ban(&room, kit.user("eve").await).await.was_present);
        assert_eq!(kit.store().rooms().get(room.id).await.unwrap().active_participants, 3);
    }

    async fn recordings(kit: TestStore) {
        let ada = kit.user("ada").await;
        let ben = kit.user("ben").await;
        let room = kit.room(&ada).await;
        use RecordingStatus::{Failed, InProgress, Processing, Ready, Started, Stopped};
        for status in [Started, InProgress, Stopped, Failed, Processing, Ready] {
            let recording = kit.recording(&room).in_status(status).await;
            assert_eq!((recording.status, recording.owner_id), (status, ada.id));
        }
        let expires = kit.now() + chrono::TimeDelta::days(30);
        let recording = kit.recording(&room).of(&ben).stored_at("a/b.mp4").egress("EG_1").public().expiring(expires).ready();
        let recording = recording.await;
        assert_eq!((recording.owner_id, &*recording.storage_key), (ben.id, "a/b.mp4"));
        assert_eq!((recording.egress_id.as_deref(), recording.expires_at), (Some("EG_1"), Some(expires)));
        assert!(recording.is_public && recording.storage_url.is_some());
        assert!(kit.recording(&room).deleted().await.deleted_at.is_some());
    }

    async fn the_audit_log_has_what_was_built_and_the_doctor_finds_nothing(kit: TestStore) {
        let ada = kit.user("ada").await;
        let room = kit.room(&ada).live().await;
        kit.seat(&room, &ada).await;
        kit.recording(&room).ready().await;
        let raised = Observation::ScreenShareStarted {};
        kit.audit_event(raised.clone()).by(&ada).in_room(&room).await;
        kit.audit_event(Observation::UserLogout {}).await;
        let log = kit.store().audit().list(&AuditFilter::default(), &PageRequest::first(100, Order::NewestFirst).unwrap()).await.unwrap();
        // Registered, room created and started, joined, five of the recording, two observed.
        assert_eq!(log.items.len(), 11, "{log:#?}");
        assert_eq!(log.items[1].event, raised.into());
        assert_eq!((log.items[1].actor, log.items[1].room), (Some(ada.id), Some(room.id)));
        kit.expect_no_events().await;
        let report = kit.store().doctor().await.unwrap();
        // A server for tests may forget.
        let bad: Vec<_> = report.findings.iter().filter(|finding| finding.severity > Severity::Warning && finding.check != Check::LosesData).collect();
        assert!(bad.is_empty(), "{bad:?}");
    }
}
