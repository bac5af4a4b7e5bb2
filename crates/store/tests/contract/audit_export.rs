//! The audit log as JSON Lines: the shape of a line, going on after a break, and that the audit log is recorded.

use conferencing_store::audit::EXPORT_VERSION;
use conferencing_store::authority::{ActorRole, Operation};
use conferencing_store::entity::AuditAction;
use conferencing_store::{
    Actor, AuditEvent, AuditFilter, Change, Error, ExportedEvent, MediaKind, Observation, Order, PageRequest, Rejected,
};
use futures_util::{StreamExt, TryStreamExt};
use serde_json::{Value as Json, json};

use crate::harness::{Backend, TestDb};

crate::cases![
    a_line_has_the_documented_shape,
    what_this_build_does_not_know_is_exported_as_it_is,
    an_export_goes_on_where_it_broke_off,
    the_audit_log_is_recorded_each_export,
    only_the_system_exports,
    it_ends_where_it_began,
];

async fn lines(db: &TestDb, filter: AuditFilter) -> Vec<ExportedEvent> {
    let system = db.system();
    let audit = system.audit();
    let export = audit.export(filter, None).await.unwrap();
    export.events.try_collect().await.unwrap()
}

async fn a_line_has_the_documented_shape(db: TestDb) {
    let (store, clock) = db.with_clock_at("2026-05-06T07:08:09.000010Z".parse().unwrap()).await;
    let (ada, ben) = (db.user("ada").await, db.user("ben").await);
    let room = db.room(&ada, 5).await;
    let actor = Actor::user(ada.id)
        .from_address("203.0.113.7".parse().unwrap())
        .with_user_agent("Agent/1.0 \"x\"");
    let muted = Observation::UserMuted {
        target: ben.id,
        kind: MediaKind::Audio,
    };
    let muted = store.acting(&actor).audit().append(Some(room.id), muted).await.unwrap();
    clock.advance(chrono::TimeDelta::seconds(1));
    let odd = Observation::SuspiciousActivity {
        description: "a line\nbreak, a \u{2028}, a \0 and ünïcode".to_owned(),
    };
    let odd = store
        .acting(&Actor::system("guard"))
        .audit()
        .append(None, odd)
        .await
        .unwrap();
    let filter = AuditFilter::of_actions([AuditAction::UserMuted, AuditAction::SuspiciousActivity]);
    let exported = lines(&db, filter).await;
    let texts: Vec<_> = exported.iter().map(ExportedEvent::to_json_line).collect();
    assert_eq!(
        texts,
        [
            format!(
                r#"{{"v":1,"id":"{muted}","at":"2026-05-06T07:08:09.000010Z","action":"USER_MUTED","actor":"{}","system":null,"room":"{}","target":"{}","details":{{"kind":"audio"}},"address":"203.0.113.7","user_agent":"Agent/1.0 \"x\""}}"#,
                ada.id, room.id, ben.id
            ),
            format!(
                r#"{{"v":1,"id":"{odd}","at":"2026-05-06T07:08:10.000010Z","action":"SUSPICIOUS_ACTIVITY","actor":null,"system":"guard","room":null,"target":null,"details":{{"description":"a line\nbreak, a {}, a {} and ünïcode"}},"address":null,"user_agent":null}}"#,
                '\u{2028}', '\u{fffd}'
            ),
        ]
    );
    assert_eq!(EXPORT_VERSION, 1);
    let read: Vec<ExportedEvent> = texts.iter().map(|text| serde_json::from_str(text).unwrap()).collect();
    assert_eq!(read, exported);
    assert!(texts.iter().all(|text| !text.contains('\n')));
}

async fn what_this_build_does_not_know_is_exported_as_it_is(db: TestDb) {
    let raw = db.raw().await;
    match db.backend {
        Backend::Postgres => raw.run("ALTER TYPE audit_action ADD VALUE 'ROOM_TELEPORTED'").await,
        Backend::Sqlite => {
            // A later build's CHECK would have it.
            raw.run("PRAGMA ignore_check_constraints = ON").await;
        }
    }
    let columns = r#"INSERT INTO audit_logs (id, action, metadata, "timestamp")"#;
    for (id, action, metadata) in [
        (1, "ROOM_TELEPORTED", r#"'{"to": ["mars", 7]}'"#),
        (2, "USER_KICKED", "'[1]'"),
        (3, "USER_KICKED", "NULL"),
    ] {
        let id = raw.id(uuid::Uuid::from_u128(id));
        let sql = format!("{columns} VALUES ({id}, '{action}', {metadata}, '2026-01-01T00:00:00+00:00')");
        // The setting is one connection's.
        match db.backend {
            Backend::Postgres => raw.run(&sql).await,
            Backend::Sqlite => raw.run(&format!("PRAGMA ignore_check_constraints = ON; {sql}")).await,
        }
    }
    let exported = lines(&db, AuditFilter::default()).await;
    let recorded: Vec<_> = exported
        .iter()
        .map(|event| (event.action.name(), event.details.clone()))
        .collect();
    let expected = [
        ("ROOM_TELEPORTED".to_owned(), json!({"to": ["mars", 7]})),
        ("USER_KICKED".to_owned(), json!([1])),
        ("USER_KICKED".to_owned(), Json::Null),
    ];
    assert_eq!(recorded, expected);
}

async fn an_export_goes_on_where_it_broke_off(db: TestDb) {
    let ada = db.user("ada").await;
    // Of one time, so that only the id tells them apart; more than a page.
    let (store, _) = db.with_clock_at("2026-05-06T07:08:09Z".parse().unwrap()).await;
    let unit = store.begin(&Actor::user(ada.id)).await.unwrap();
    for _ in 0..1_100 {
        unit.audit().append(None, Observation::UserLogout {}).await.unwrap();
    }
    unit.commit().await.unwrap();
    let filter = || AuditFilter {
        actor: Some(ada.id),
        ..AuditFilter::of_actions([AuditAction::UserLogout])
    };
    let whole = lines(&db, filter()).await;
    assert_eq!(whole.len(), 1_100);
    let system = db.system();
    for at in [0, 1, 499, 500, 501, 1_098, 1_099] {
        // As text, which is how it is kept beside the file.
        let cursor = whole[at].cursor().to_string().parse().unwrap();
        let audit = system.audit();
        let rest = audit.export(filter(), Some(cursor)).await.unwrap();
        let rest: Vec<_> = rest.events.try_collect().await.unwrap();
        assert_eq!(rest, whole[at + 1..], "{at}");
    }
}

async fn the_audit_log_is_recorded_each_export(db: TestDb) {
    let ada = db.user("ada").await;
    let room = db.room(&ada, 5).await;
    let filter = AuditFilter {
        actor: Some(ada.id),
        actions: vec![AuditAction::RoomCreated],
        since: Some("2026-01-01T00:00:00Z".parse().unwrap()),
        until: Some("2027-01-01T00:00:00Z".parse().unwrap()),
        address: Some("203.0.113.7".parse().unwrap()),
        ..AuditFilter::of_room(room.id)
    };
    lines(&db, filter.clone()).await;
    let page = PageRequest::first(5, Order::NewestFirst).unwrap();
    let found = db
        .store
        .audit()
        .list(&AuditFilter::of_room(room.id), &page)
        .await
        .unwrap();
    assert_eq!(found.items[0].room, Some(room.id));
    assert_eq!(found.items[0].system.as_deref(), Some("test"));
    let recorded = AuditEvent::Change(Change::AuditExported {
        target: None,
        actor: filter.actor,
        actions: filter.actions,
        since: filter.since,
        until: filter.until.unwrap(),
        address: filter.address,
        resumed: false,
    });
    assert_eq!(found.items[0].event, recorded);
    // Of a room that never was, too: the attempt is what matters.
    let nowhere = conferencing_store::entity::RoomId::from_uuid(uuid::Uuid::from_u128(7));
    assert_eq!(lines(&db, AuditFilter::of_room(nowhere)).await, []);
    let recorded = AuditFilter::of_actions([AuditAction::AuditExported]);
    assert_eq!(db.store.audit().count(&recorded).await.unwrap(), 2);
}

async fn only_the_system_exports(db: TestDb) {
    let ada = db.user("ada").await;
    for actor in [Actor::user(ada.id), Actor::anonymous()] {
        let acting = db.store.acting(&actor);
        let audit = acting.audit();
        let refused = audit.export(AuditFilter::default(), None).await.err().unwrap();
        let expected = Rejected::NotAllowed {
            operation: Operation::ExportAuditLog,
            actor_role: ActorRole::Outsider,
            room: None,
            user: None,
        };
        assert!(
            matches!(&refused, Error::Rejected(rejected) if *rejected == expected),
            "{refused:?}"
        );
    }
    let attempts = AuditFilter::of_actions([AuditAction::UnauthorizedAccessAttempt]);
    assert_eq!(db.store.audit().count(&attempts).await.unwrap(), 2);
    let exports = AuditFilter::of_actions([AuditAction::AuditExported]);
    assert_eq!(db.store.audit().count(&exports).await.unwrap(), 0);
}

async fn it_ends_where_it_began(db: TestDb) {
    let (store, clock) = db.with_manual_clock().await;
    let acting = store.acting(&Actor::system("test"));
    let audit = acting.audit();
    for _ in 0..700 {
        audit.append(None, Observation::UserLogout {}).await.unwrap();
    }
    clock.advance(chrono::TimeDelta::seconds(1));
    let export = audit.export(AuditFilter::default(), None).await.unwrap();
    let mut events = std::pin::pin!(export.events);
    let mut count = 0;
    while let Some(event) = events.next().await {
        assert!(event.unwrap().at < export.until);
        count += 1;
        // More of them all the while, which another export will have.
        audit.append(None, Observation::UserLogout {}).await.unwrap();
    }
    assert_eq!(count, 700);
    clock.advance(chrono::TimeDelta::seconds(1));
    let next = AuditFilter {
        since: Some(export.until),
        ..AuditFilter::of_actions([AuditAction::UserLogout])
    };
    let next: Vec<_> = audit
        .export(next, None)
        .await
        .unwrap()
        .events
        .try_collect()
        .await
        .unwrap();
    assert_eq!(next.len(), 700);
}
