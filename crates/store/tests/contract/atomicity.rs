//! Promise 2, for every change there is: it happens with its audit event, or neither does.

use store::entity::ParticipantRole::Participant;
use store::entity::{RoomId, UserId};
use store::{Acting, Actor, Error, MediaKind, NewRoom, Observation, Unit};

use crate::checks::assert_sabotaged;
use crate::harness::{Raw, TestDb};
use crate::users::new_user;

crate::cases![
    every_change_tells_the_trail_exactly_once,
    a_change_that_cannot_tell_the_trail_does_not_happen,
    a_change_that_fails_half_way_leaves_nothing,
    a_change_that_is_rolled_back_tells_the_trail_nothing,
];

/// Every operation that writes. A new one must be added here.
#[derive(Clone, Copy, Debug)]
enum Mutator {
    Register,
    Create,
    Start,
    FirstJoin,
    Join,
    Leave,
    Kick,
    End,
    EndWithGuests,
    Append,
}

const ALL: [Mutator; 10] = [
    Mutator::Register,
    Mutator::Create,
    Mutator::Start,
    Mutator::FirstJoin,
    Mutator::Join,
    Mutator::Leave,
    Mutator::Kick,
    Mutator::End,
    Mutator::EndWithGuests,
    Mutator::Append,
];

macro_rules! perform {
    ($mutator:expr, $source:expr, $on:expr) => {
        match $mutator {
            Mutator::Register => $source.users().register(new_user(&$on.name, None)).await.map(drop),
            Mutator::Create => $source
                .rooms()
                .create(NewRoom::titled($on.owner, "A room"))
                .await
                .map(drop),
            Mutator::Start => $source.rooms().start($on.room).await.map(drop),
            Mutator::FirstJoin | Mutator::Join => $source
                .participants()
                .join($on.room, $on.guest, Participant)
                .await
                .map(drop),
            Mutator::Leave => $source.participants().leave($on.room, $on.guest).await.map(drop),
            Mutator::Kick => $source
                .participants()
                .kick($on.room, $on.guest, Some("noise"))
                .await
                .map(drop),
            Mutator::End | Mutator::EndWithGuests => $source.rooms().end($on.room).await.map(drop),
            Mutator::Append => {
                let observation = Observation::UserMuted {
                    target: $on.guest,
                    kind: MediaKind::Video,
                };
                $source.audit().append(Some($on.room), observation).await.map(drop)
            }
        }
    };
}
impl Mutator {
    /// What it tells the trail.
    fn events(self) -> &'static [&'static str] {
        match self {
            Self::Register => &["USER_REGISTERED"],
            Self::Create => &["ROOM_CREATED"],
            Self::Start => &["ROOM_STARTED"],
            Self::FirstJoin => &["ROOM_STARTED", "USER_JOINED"],
            Self::Join => &["USER_JOINED"],
            Self::Leave => &["USER_LEFT"],
            Self::Kick => &["USER_KICKED"],
            Self::End | Self::EndWithGuests => &["ROOM_ENDED"],
            Self::Append => &["USER_MUTED"],
        }
    }

    /// What it writes besides.
    fn tables(self) -> &'static [&'static str] {
        match self {
            Self::Register => &["users", "auth_providers"],
            Self::Create | Self::Start | Self::End => &["rooms"],
            Self::FirstJoin | Self::Join | Self::Leave | Self::Kick | Self::EndWithGuests => {
                &["rooms", "room_participants"]
            }
            Self::Append => &[],
        }
    }

    /// Makes what it works on.
    async fn prepare(self, db: &TestDb, name: &str) -> Prepared {
        let (owner, guest) = (
            db.user(&format!("{name}-owner")).await,
            db.user(&format!("{name}-guest")).await,
        );
        let room = db.room(&owner, 5).await;
        match self {
            Self::Register | Self::Create | Self::Start | Self::FirstJoin | Self::Append => {}
            Self::Join | Self::End => drop(db.platform().rooms().start(room.id).await.unwrap()),
            Self::Leave | Self::Kick => drop(db.seat(&room, &guest).await),
            Self::EndWithGuests => {
                db.seat(&room, &guest).await;
                db.seat(&room, &owner).await;
            }
        }
        Prepared {
            name: name.to_owned(),
            owner: owner.id,
            guest: guest.id,
            room: room.id,
        }
    }

    async fn alone(self, acting: &Acting, on: &Prepared) -> Result<(), Error> {
        perform!(self, acting, on)
    }

    async fn inside(self, unit: &Unit, on: &Prepared) -> Result<(), Error> {
        perform!(self, unit, on)
    }
}

struct Prepared {
    name: String,
    owner: UserId,
    guest: UserId,
    room: RoomId,
}

/// The actions of all audit rows behind the first `known`, oldest first.
async fn told_since(raw: &Raw, known: usize) -> Vec<String> {
    raw.texts("SELECT CAST(action AS text) FROM audit_logs ORDER BY timestamp, id")
        .await
        .split_off(known)
}

async fn every_change_tells_the_trail_exactly_once(db: TestDb) {
    let (raw, platform) = (db.raw().await, Actor::system("test"));
    for mutator in ALL {
        let on = mutator.prepare(&db, &format!("{mutator:?}-alone")).await;
        let known = told_since(&raw, 0).await.len();
        mutator.alone(&db.store.acting(&platform), &on).await.unwrap();
        assert_eq!(told_since(&raw, known).await, mutator.events(), "{mutator:?} alone");

        let on = mutator.prepare(&db, &format!("{mutator:?}-inside")).await;
        let known = told_since(&raw, 0).await.len();
        let unit = db.store.begin(&platform).await.unwrap();
        mutator.inside(&unit, &on).await.unwrap();
        unit.commit().await.unwrap();
        assert_eq!(told_since(&raw, known).await, mutator.events(), "{mutator:?} inside");
    }
    raw.assert_invariants().await;
}

/// Runs a change that must fail in each of the ways in which one can be run. None may leave a trace.
async fn assert_fails_without_trace(db: &TestDb, raw: &Raw, mutator: Mutator, on: &Prepared, what: &str) {
    let platform = Actor::system("test");
    let before = raw.snapshot().await;
    assert_sabotaged(&mutator.alone(&db.store.acting(&platform), on).await, what);
    assert_eq!(raw.snapshot().await, before, "{what}");

    let unit = db.store.begin(&platform).await.unwrap();
    assert_sabotaged(&mutator.inside(&unit, on).await, what);
    let committed = unit.commit().await;
    assert!(matches!(committed, Err(Error::Aborted { .. })), "{what}: {committed:?}");
    assert_eq!(raw.snapshot().await, before, "{what}");

    let returned = db
        .store
        .transact(&platform, |unit| async move { mutator.inside(&unit, on).await })
        .await;
    assert_sabotaged(&returned, what);
    let swallowed: Result<(), Error> = db
        .store
        .transact(&platform, |unit| async move {
            let _ = mutator.inside(&unit, on).await;
            Ok(())
        })
        .await;
    assert!(matches!(swallowed, Err(Error::Aborted { .. })), "{what}: {swallowed:?}");
    assert_eq!(raw.snapshot().await, before, "{what}");
}

async fn a_change_that_cannot_tell_the_trail_does_not_happen(db: TestDb) {
    let raw = db.raw().await;
    for mutator in ALL {
        for event in mutator.events() {
            let on = mutator.prepare(&db, &format!("{mutator:?}-{event}")).await;
            raw.sabotage("audit_logs", &format!("NEW.action = '{event}'")).await;
            assert_fails_without_trace(&db, &raw, mutator, &on, &format!("{mutator:?} without {event}")).await;
            raw.repair().await;
            mutator.alone(&db.platform(), &on).await.unwrap();
        }
    }
    raw.assert_invariants().await;
}

async fn a_change_that_fails_half_way_leaves_nothing(db: TestDb) {
    let raw = db.raw().await;
    for mutator in ALL {
        for table in mutator.tables() {
            let on = mutator.prepare(&db, &format!("{mutator:?}-{table}")).await;
            raw.sabotage(table, "1 = 1").await;
            assert_fails_without_trace(&db, &raw, mutator, &on, &format!("{mutator:?} without {table}")).await;
            raw.repair().await;
            mutator.alone(&db.platform(), &on).await.unwrap();
        }
    }
    raw.assert_invariants().await;
}

async fn a_change_that_is_rolled_back_tells_the_trail_nothing(db: TestDb) {
    let (raw, platform) = (db.raw().await, Actor::system("test"));
    for mutator in ALL {
        let on = mutator.prepare(&db, &format!("{mutator:?}")).await;
        let before = raw.snapshot().await;
        let unit = db.store.begin(&platform).await.unwrap();
        mutator.inside(&unit, &on).await.unwrap();
        unit.roll_back().await.unwrap();
        assert_eq!(raw.snapshot().await, before, "{mutator:?}");
        // Nothing stands in the way of doing it after all.
        mutator.alone(&db.platform(), &on).await.unwrap();
    }
    raw.assert_invariants().await;
}
