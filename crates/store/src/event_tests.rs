//! Every event there is goes into columns and comes back.

use super::*;
use ParticipantRole as Role;
use sea_orm::Iterable;
use uuid::Uuid;

fn one_of_each() -> Vec<AuditEvent> {
    let target = UserId::from_uuid(Uuid::from_u128(1));
    let text = || "x".to_owned();
    let kind = MediaKind::Audio;
    let provider = AuthProviderType::GitHub;
    let stay = ParticipantId::from_uuid(Uuid::from_u128(3));
    let recording = RecordingId::from_uuid(Uuid::from_u128(2));
    vec![
        Change::UserRegistered {
            target,
            provider: AuthProviderType::GitHub,
        }
        .into(),
        Change::GuestAdmitted { target }.into(),
        Change::RoomCreated { room_code: text() }.into(),
        Change::RoomStarted { by_join: true }.into(),
        Change::RoomEnded {
            duration_seconds: 1,
            ended_participations: 2,
        }
        .into(),
        Change::UserJoined {
            target: None,
            stay,
            role: ParticipantRole::CoHost,
        }
        .into(),
        Change::UserLeft {
            target: Some(target),
            stay,
            reason: LeaveReason::LostConnection,
            duration_seconds: 3,
        }
        .into(),
        Change::UserStayCorrected {
            target: Some(target),
            stay,
            duration_seconds: 3,
        }
        .into(),
        Change::UserKicked {
            target,
            stay,
            reason: None,
            duration_seconds: 4,
        }
        .into(),
        Change::UserLoginSuccess { target, provider }.into(),
        Change::UserProfileChanged {
            target,
            fields: vec![text()],
        }
        .into(),
        Change::UserPasswordChanged { target }.into(),
        Change::UserVerified { target }.into(),
        Change::UserDeactivated {
            target,
            ended_participations: 1,
        }
        .into(),
        Change::UserReactivated { target }.into(),
        Change::UserDeleted {
            target,
            providers_removed: 1,
            rooms_ended: 2,
            rooms_cancelled: 3,
            ended_participations: 4,
            recordings_deleted: 5,
        }
        .into(),
        Change::UserDataExported { target }.into(),
        Change::ProviderLinked { target, provider }.into(),
        Change::ProviderUnlinked { target, provider }.into(),
        Change::ProviderTokensStored { target, provider }.into(),
        Change::ProviderTokensReencrypted {
            target,
            provider,
            key: text(),
        }
        .into(),
        Change::RoomUpdated { fields: vec![text()] }.into(),
        Change::RoomCancelled {}.into(),
        Change::RoomOwnershipTransferred { target, from: target }.into(),
        Change::RoomDeleted {}.into(),
        Change::RoomRestored {}.into(),
        Change::UserBanned {
            target,
            reason: Some(text()),
            expires_at: DateTime::from_timestamp_micros(7),
            was_present: true,
            stay: Some(stay),
        }
        .into(),
        Change::UserUnbanned { target, expired: false }.into(),
        Change::RolePromotion {
            target,
            from: Role::Participant,
            to: Role::CoHost,
        }
        .into(),
        Change::RoleDemotion {
            target,
            from: Role::CoHost,
            to: Role::Participant,
        }
        .into(),
        Change::RoleChanged {
            target,
            from: Role::CoHost,
            to: Role::Host,
            former_host: Some(target),
        }
        .into(),
        Change::RecordingStarted { recording }.into(),
        Change::RecordingProgressed { recording }.into(),
        Change::RecordingStopped {
            recording,
            with_room: true,
        }
        .into(),
        Change::RecordingFailed {
            recording,
            message: text(),
            stuck: true,
        }
        .into(),
        Change::RecordingProcessing { recording }.into(),
        Change::RecordingReady { recording }.into(),
        Change::RecordingRetried {
            recording,
            retry_count: 1,
        }
        .into(),
        Change::RecordingDeleted {
            recording,
            expired: true,
        }
        .into(),
        Change::RecordingRestored { recording }.into(),
        Change::RecordingExpiryChanged {
            recording,
            expires_at: None,
        }
        .into(),
        Change::RecordingReported {
            recording,
            egress_id: text(),
            phase: EgressPhase::Complete,
        }
        .into(),
        Change::MediaNodeRegistered {
            node: MediaNodeId::from_uuid(Uuid::from_u128(4)),
            name: text(),
        }
        .into(),
        Change::MediaNodeLost {
            node: MediaNodeId::from_uuid(Uuid::from_u128(4)),
            name: text(),
            reason: NodeLossReason::Silent,
        }
        .into(),
        Change::AuditExported {
            target: Some(target),
            actor: Some(target),
            actions: vec![AuditAction::UserKicked],
            since: Some(DateTime::UNIX_EPOCH),
            until: DateTime::UNIX_EPOCH,
            address: Some(std::net::Ipv4Addr::LOCALHOST.into()),
            resumed: false,
        }
        .into(),
        Change::AuditArchived {
            partition: text(),
            since: None,
            until: DateTime::UNIX_EPOCH,
            events: 7,
            sha256: text(),
        }
        .into(),
        Observation::UserLoginFailed {
            target: None,
            login: text(),
        }
        .into(),
        Observation::UserLogout {}.into(),
        Observation::UserMuted { target, kind }.into(),
        Observation::UserUnmuted { target, kind }.into(),
        Observation::AllMuted { kind }.into(),
        Observation::ScreenShareStarted {}.into(),
        Observation::ScreenShareStopped {}.into(),
        Observation::ProducerCreated {
            producer_id: text(),
            kind,
        }
        .into(),
        Observation::ProducerClosed { producer_id: text() }.into(),
        Observation::ConsumerCreated {
            consumer_id: text(),
            producer_id: text(),
        }
        .into(),
        Observation::ConsumerClosed { consumer_id: text() }.into(),
        Observation::UnauthorizedAccessAttempt {
            target: None,
            attempted: text(),
            actor_role: Some(ActorRole::CoHost),
        }
        .into(),
        Observation::RateLimitExceeded { limit: text() }.into(),
        Observation::SuspiciousActivity { description: text() }.into(),
        Observation::PersonalDataViewed {
            target: None,
            by: text(),
        }
        .into(),
    ]
}

#[test]
fn every_event_reads_back_from_its_columns() {
    for event in one_of_each() {
        let columns = match &event {
            AuditEvent::Change(change) => change.to_columns(),
            AuditEvent::Observation(observation) => observation.to_columns(),
            AuditEvent::Unrecognized { .. } => unreachable!(),
        };
        assert!(!columns.details.contains_key(TARGET));
        let metadata = Json::Object(columns.details);
        let read = AuditEvent::from_columns(&columns.action.into(), columns.target, Some(&metadata));
        assert_eq!(read, event);
    }
}

#[test]
fn every_action_has_an_event() {
    let actions: std::collections::HashSet<String> = one_of_each().iter().map(AuditEvent::action).collect();
    let all = AuditAction::iter().map(|action| RecordedAction::from(action).name());
    assert_eq!(actions, all.collect());
}

#[test]
fn what_is_not_known_is_kept_raw() {
    let action = RecordedAction::Unknown("ROOM_TELEPORTED".to_owned());
    let metadata = serde_json::json!({"to": "mars"});
    let read = AuditEvent::from_columns(&action, None, Some(&metadata));
    assert_eq!(read.action(), "ROOM_TELEPORTED");
    let older = AuditEvent::from_columns(&AuditAction::RoomEnded.into(), None, None);
    assert!(matches!(older, AuditEvent::Unrecognized { .. }));
}

/// As a consumer of a queue would.
#[test]
fn every_entry_reads_back_from_its_json() {
    let unknown = AuditEvent::Unrecognized {
        action: "LATER_THAN_THIS".to_owned(),
        metadata: Some(serde_json::json!({"x": 1})),
    };
    for event in one_of_each().into_iter().chain([unknown]) {
        let entry = crate::AuditEntry {
            id: entity::AuditLogId::from_uuid(Uuid::from_u128(1)),
            at: chrono::DateTime::from_timestamp_micros(1_700_000_000_123_456).unwrap(),
            actor: None,
            system: Some("test".to_owned()),
            room: Some(entity::RoomId::from_uuid(Uuid::from_u128(2))),
            event,
            address: Some([203, 0, 113, 7].into()),
            user_agent: None,
        };
        let text = serde_json::to_string(&entry).unwrap();
        assert_eq!(
            serde_json::from_str::<crate::AuditEntry>(&text).unwrap(),
            entry,
            "{text}"
        );
    }
}
