//! Each stay that ends is told by one event in its room: who is present can be worked out from the audit log alone.

use std::collections::{BTreeMap, BTreeSet};

use chrono::TimeDelta;
use conferencing_store::entity::ParticipantRole::Participant;
use conferencing_store::entity::{ParticipantId, RoomId, UserId, room_participant};
use conferencing_store::{Actor, AuditEntry, AuditEvent, AuditFilter, Change, LeaveReason, Order, PageRequest, Store};

use crate::harness::{Raw, TestDb};
use crate::model::check_invariants;

crate::cases![
    every_way_out_names_the_stay,
    the_end_of_a_room_tells_of_each_stay,
    a_deactivation_tells_of_each_stay_in_its_room,
    an_erasure_tells_of_each_stay_in_its_room,
];

/// A room's audit log in its order, oldest first.
pub async fn log_of(store: &Store, room: RoomId) -> Vec<AuditEntry> {
    let mut log = Vec::new();
    let mut request = PageRequest::first(500, Order::OldestFirst).unwrap();
    loop {
        let page = store.audit().list(&AuditFilter::of_room(room), &request).await.unwrap();
        log.extend(page.items);
        let Some(next) = page.next else { return log };
        request = request.after(next);
    }
}

type Presence = BTreeSet<(UserId, ParticipantId)>;

/// Who is present and by which stay, worked out from the events alone, in their order.
pub fn presence_told_by(log: &[AuditEntry]) -> Presence {
    let mut present = Presence::new();
    for entry in log {
        let about = |target: Option<UserId>| target.or(entry.actor).unwrap();
        let gone = match &entry.event {
            AuditEvent::Change(Change::UserJoined { target, stay, .. }) => {
                assert!(present.insert((about(*target), *stay)), "{stay} began twice");
                continue;
            }
            AuditEvent::Change(Change::UserLeft { target, stay, .. }) => (about(*target), *stay),
            AuditEvent::Change(Change::UserKicked { target, stay, .. }) => (*target, *stay),
            AuditEvent::Change(Change::UserBanned {
                target,
                stay,
                was_present,
                ..
            }) => {
                assert_eq!(stay.is_some(), *was_present);
                let Some(stay) = stay else { continue };
                (*target, *stay)
            }
            AuditEvent::Unrecognized { action, metadata } => panic!("{action} {metadata:?}"),
            _ => continue,
        };
        assert!(present.remove(&gone), "{gone:?} was not there");
    }
    present
}

/// Who is present and by which stay.
pub async fn presence_held(raw: &Raw, room: RoomId) -> Presence {
    let room = raw.id(room.as_uuid());
    let held = format!("SELECT user_id, id FROM room_participants WHERE room_id = {room} AND left_at IS NULL");
    let rows = raw.rows(&held).await.into_iter();
    rows.map(|row| (row.try_get_by_index(0).unwrap(), row.try_get_by_index(1).unwrap()))
        .collect()
}

async fn assert_log_tells_presence(db: &TestDb, room: RoomId) {
    let told = presence_told_by(&log_of(&db.store, room).await);
    assert_eq!(told, presence_held(&db.raw().await, room).await);
}

/// What the USER_LEFT of a room say: who acted, whom it says it was done to, by which stay, why and after how many seconds.
async fn lefts(db: &TestDb, room: RoomId) -> BTreeMap<ParticipantId, Left> {
    let log = log_of(&db.store, room).await.into_iter();
    let told = log.filter_map(|entry| match entry.event {
        AuditEvent::Change(Change::UserLeft {
            target,
            stay,
            reason,
            duration_seconds,
        }) => Some((stay, (entry.actor, target, reason, duration_seconds))),
        _ => None,
    });
    let told: Vec<_> = told.collect();
    let lefts: BTreeMap<_, _> = told.iter().copied().collect();
    assert_eq!(lefts.len(), told.len(), "each stay left once");
    lefts
}

type Left = (Option<UserId>, Option<UserId>, LeaveReason, i32);

async fn join(store: &Store, room: RoomId, user: UserId) -> room_participant::Model {
    let system = store.acting(&Actor::system("test"));
    system.participants().join(room, user, Participant).await.unwrap()
}

async fn every_way_out_names_the_stay(db: TestDb) {
    let (ada, ben) = (db.user("ada").await, db.user("ben").await);
    let room = db.room(&ada, 5).await.id;
    let (owner, guest) = (db.acting(&ada), db.acting(&ben));
    let mut stays = Vec::new();
    for way in 0..3 {
        let seat = guest.participants().join(room, ben.id, Participant).await.unwrap();
        stays.push(seat.id);
        match way {
            0 => drop(guest.participants().leave(room, ben.id).await.unwrap()),
            1 => drop(owner.participants().kick(room, ben.id, None).await.unwrap()),
            _ => drop(owner.participants().ban(room, ben.id, None, None).await.unwrap()),
        }
        assert_log_tells_presence(&db, room).await;
    }
    // A ban of somebody absent ends no stay.
    owner.participants().unban(room, ben.id).await.unwrap();
    owner.participants().ban(room, ben.id, None, None).await.unwrap();
    let named: Vec<_> = log_of(&db.store, room)
        .await
        .into_iter()
        .filter_map(|entry| match entry.event {
            AuditEvent::Change(Change::UserJoined { stay, .. }) => Some(("joined", Some(stay))),
            AuditEvent::Change(Change::UserLeft { stay, reason, .. }) => {
                assert_eq!(reason, LeaveReason::Left);
                Some(("left", Some(stay)))
            }
            AuditEvent::Change(Change::UserKicked { stay, .. }) => Some(("kicked", Some(stay))),
            AuditEvent::Change(Change::UserBanned { stay, .. }) => Some(("banned", stay)),
            _ => None,
        })
        .collect();
    let of = |number: usize| Some(stays[number]);
    assert_eq!(
        named,
        [
            ("joined", of(0)),
            ("left", of(0)),
            ("joined", of(1)),
            ("kicked", of(1)),
            ("joined", of(2)),
            ("banned", of(2)),
            ("banned", None),
        ]
    );
    assert_log_tells_presence(&db, room).await;
}

async fn the_end_of_a_room_tells_of_each_stay(db: TestDb) {
    let owner = db.user("owner").await;
    let guests = db.users("guest", 3).await;
    let (store, clock) = db.with_manual_clock().await;
    let room = db.room(&owner, 10).await.id;
    let mut stays = Vec::new();
    for user in [&owner, &guests[0], &guests[1], &guests[2]] {
        stays.push(join(&store, room, user.id).await);
        clock.advance(TimeDelta::seconds(10));
    }
    let gone = store.acting(&Actor::user(guests[2].id));
    gone.participants().leave(room, guests[2].id).await.unwrap();
    store.acting(&Actor::user(owner.id)).rooms().end(room).await.unwrap();
    let (by, why) = (Some(owner.id), LeaveReason::RoomEnded);
    assert_eq!(
        lefts(&db, room).await,
        BTreeMap::from([
            // A target that is the actor is left out.
            (stays[0].id, (by, None, why, 40)),
            (stays[1].id, (by, Some(guests[0].id), why, 30)),
            (stays[2].id, (by, Some(guests[1].id), why, 20)),
            (stays[3].id, (Some(guests[2].id), None, LeaveReason::Left, 10)),
        ])
    );
    let actions = db.actions(room).await;
    assert_eq!(
        actions[actions.len() - 4..],
        ["USER_LEFT", "USER_LEFT", "USER_LEFT", "ROOM_ENDED"]
    );
    assert_log_tells_presence(&db, room).await;
    db.assert_audit_log_tells_the_participations(room).await;
}

async fn a_deactivation_tells_of_each_stay_in_its_room(db: TestDb) {
    let (ada, ben) = (db.user("ada").await, db.user("ben").await);
    let (store, clock) = db.with_manual_clock().await;
    for by_ben in [true, false] {
        let mut stays = Vec::new();
        for _ in 0..3 {
            let room = db.room(&ada, 5).await.id;
            join(&store, room, ada.id).await;
            stays.push(join(&store, room, ben.id).await);
            clock.advance(TimeDelta::seconds(7));
        }
        let actor = if by_ben {
            Actor::user(ben.id)
        } else {
            Actor::system("test")
        };
        store.acting(&actor).users().deactivate(ben.id).await.unwrap();
        let (by, target) = if by_ben {
            (Some(ben.id), None)
        } else {
            (None, Some(ben.id))
        };
        for (stay, seconds) in stays.iter().zip([21, 14, 7]) {
            let told = (by, target, LeaveReason::Deactivated, seconds);
            assert_eq!(lefts(&db, stay.room_id).await, BTreeMap::from([(stay.id, told)]));
            assert_log_tells_presence(&db, stay.room_id).await;
        }
        let system = store.acting(&Actor::system("test"));
        system.users().reactivate(ben.id).await.unwrap();
    }
}

async fn an_erasure_tells_of_each_stay_in_its_room(db: TestDb) {
    let (ada, ben, cyn) = (db.user("ada").await, db.user("ben").await, db.user("cyn").await);
    let (store, clock) = db.with_manual_clock().await;
    let own = [db.room(&ada, 5).await.id, db.room(&ada, 5).await.id];
    let others = [db.room(&ben, 5).await.id, db.room(&ben, 5).await.id];
    let mut stays: BTreeMap<(RoomId, UserId), ParticipantId> = BTreeMap::new();
    for room in own.into_iter().chain(others) {
        for user in [&ada, &ben, &cyn] {
            stays.insert((room, user.id), join(&store, room, user.id).await.id);
        }
    }
    clock.advance(TimeDelta::seconds(33));
    let by_ada = store.acting(&Actor::user(ada.id));
    let receipt = by_ada.users().erase(ada.id).await.unwrap();
    assert_eq!((receipt.rooms_ended, receipt.ended_participations), (2, 8));
    let by = Some(ada.id);
    for room in own {
        let why = LeaveReason::RoomEnded;
        assert_eq!(
            lefts(&db, room).await,
            BTreeMap::from([
                (stays[&(room, ada.id)], (by, None, why, 33)),
                (stays[&(room, ben.id)], (by, Some(ben.id), why, 33)),
                (stays[&(room, cyn.id)], (by, Some(cyn.id), why, 33)),
            ])
        );
        let last = log_of(&db.store, room).await.pop().unwrap().event;
        let ended = Change::RoomEnded {
            duration_seconds: 33,
            ended_participations: 3,
        };
        assert_eq!(last, ended.into());
    }
    for room in others {
        let told = (by, None, LeaveReason::Erased, 33);
        assert_eq!(lefts(&db, room).await, BTreeMap::from([(stays[&(room, ada.id)], told)]));
    }
    for room in own.into_iter().chain(others) {
        assert_log_tells_presence(&db, room).await;
    }
    check_invariants(&db.raw().await, &db.store).await;
}
