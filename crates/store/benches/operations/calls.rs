//! Each operation as a service would call it.

use conferencing_store::entity::{AuthProviderId, ParticipantRole, RecordingId, RoomId, Secret, UserId};
use conferencing_store::{
    Acting, Actor, AuditFilter, Error, NewRecording, NewRoom, NewUser, Observation, Order, PageRequest,
    RecordingMeasures, RoomFilter, Store,
};

use crate::operation::*;
use crate::seed::{HASH, PAGE};
use crate::subject::Kind;

const ADDRESS: &str = "203.0.113.7";
const AGENT: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";

/// A store, and where the far page begins once somebody has walked there.
#[derive(Clone)]
pub struct Calls {
    pub store: Store,
    far: Option<PageRequest>,
}

pub fn room(operation: Operation, n: u64) -> RoomId {
    RoomId::from_uuid(operation.id("room", n))
}

pub fn user(operation: Operation, name: &str, n: u64) -> UserId {
    UserId::from_uuid(operation.id(name, n))
}

pub fn trail() -> AuditFilter {
    AuditFilter::of_room(RoomId::from_uuid(Kind::TrailRoom.uuid(0)))
}

pub fn observation() -> Observation {
    Observation::ConsumerCreated {
        consumer_id: "0197f3a2-5c1e-7d40-9b6e-3f2a1c0d9e88".to_owned(),
        producer_id: "0197f3a2-4b0d-7c11-8a55-7e6d5c4b3a29".to_owned(),
    }
}

/// With all that a request has.
pub fn requesting(actor: Actor) -> Actor {
    actor.from_address(ADDRESS.parse().unwrap()).with_user_agent(AGENT)
}

pub fn first_page() -> PageRequest {
    PageRequest::first(PAGE, Order::NewestFirst).unwrap()
}

impl Calls {
    /// `far` is where a walk has ended before, if there was one.
    pub async fn new(
        store: Store,
        operation: Operation,
        depth: u64,
        far: &mut Option<PageRequest>,
    ) -> Result<Self, Error> {
        if far.is_none() && matches!(operation, TrailFar | TrailFarNamed) {
            let mut page = first_page();
            for _ in 1..depth {
                let next = store.audit().list(&trail(), &page).await?.next;
                page = first_page().after(next.expect("the audit log is long enough"));
            }
            *far = Some(page);
        }
        let far = far.clone();
        Ok(Self { store, far })
    }

    fn by(&self, operation: Operation, name: &str, n: u64) -> Acting {
        self.store.acting(&requesting(Actor::user(user(operation, name, n))))
    }

    fn system(&self) -> Acting {
        self.store.acting(&requesting(Actor::system("signaling")))
    }

    /// Does operation number `n`.
    pub async fn perform(&self, operation: Operation, n: u64) -> Result<(), Error> {
        match operation {
            Register | RecordLogin => self.account(operation, n).await,
            CreateRoom | End | RoomByCode | UsersRooms => self.rooms(operation, n).await,
            Join | FirstJoin | HotJoin | Leave | Kick | Ban | ListPresent => self.participants(operation, n).await,
            RecordingStart | RecordingStop => self.recordings(operation, n).await,
            TrailFirst | TrailFirstNamed | TrailFar | TrailFarNamed | Append | AppendBatch => {
                self.audit(operation, n).await
            }
        }
    }

    async fn account(&self, operation: Operation, n: u64) -> Result<(), Error> {
        if operation == RecordLogin {
            let provider = AuthProviderId::from_uuid(operation.id("provider", n));
            let user = user(operation, "user", n);
            return self.system().users().record_login(user, provider).await.map(drop);
        }
        let (username, email) = (operation.text("username", n), operation.text("email", n));
        let new = NewUser {
            email: Some(&email),
            ..NewUser::named(&username, "A user", Secret::new(HASH))
        };
        let anonymous = self.store.acting(&requesting(Actor::anonymous()));
        anonymous.users().register(new).await.map(drop)
    }

    async fn rooms(&self, operation: Operation, n: u64) -> Result<(), Error> {
        match operation {
            CreateRoom => {
                let new = NewRoom::titled(user(operation, "user", n), "A room");
                self.by(operation, "user", n).rooms().create(new).await.map(drop)
            }
            End => {
                let room = room(operation, n);
                self.by(operation, "owner", n).rooms().end(room).await.map(drop)
            }
            RoomByCode => {
                let code = operation.text("code", n);
                let found = self.store.rooms().find_overview(&code).await?.expect("there is one");
                assert_eq!(found.present.len(), 20);
                Ok(())
            }
            _ => {
                let page = PageRequest::first(20, Order::NewestFirst).unwrap();
                let filter = RoomFilter::OwnedBy(user(operation, "user", n));
                let found = self.store.rooms().list(filter, &page).await?;
                assert_eq!(found.items.len(), 20);
                Ok(())
            }
        }
    }

    async fn participants(&self, operation: Operation, n: u64) -> Result<(), Error> {
        let room = room(operation, n);
        if operation == ListPresent {
            let page = PageRequest::first(PAGE, Order::OldestFirst).unwrap();
            let found = self.store.participants().list_present(room, &page).await?;
            assert_eq!(found.items.len(), 100);
            return Ok(());
        }
        let user = user(operation, "user", n);
        match operation {
            Leave => {
                let acting = self.by(operation, "user", n);
                acting.participants().leave(room, user).await.map(drop)
            }
            Kick => {
                let acting = self.by(operation, "owner", n);
                acting.participants().kick(room, user, Some("noise")).await.map(drop)
            }
            Ban => {
                let acting = self.by(operation, "owner", n);
                acting
                    .participants()
                    .ban(room, user, Some("noise"), None)
                    .await
                    .map(drop)
            }
            _ => {
                let acting = self.by(operation, "user", n);
                let role = ParticipantRole::Participant;
                acting.participants().join(room, user, role).await.map(drop)
            }
        }
    }

    async fn recordings(&self, operation: Operation, n: u64) -> Result<(), Error> {
        let system = self.system();
        if operation == RecordingStop {
            let id = RecordingId::from_uuid(operation.id("recording", n));
            return system
                .recordings()
                .stop(id, RecordingMeasures::default())
                .await
                .map(drop);
        }
        let key = operation.text("key", n);
        let new = NewRecording {
            room: room(operation, n),
            owner: user(operation, "user", n),
            storage_bucket: "bucket",
            storage_key: &key,
            filename: "a.mkv",
            egress_id: None,
            is_public: false,
            expires_at: None,
        };
        system.recordings().start(new).await.map(drop)
    }

    async fn audit(&self, operation: Operation, n: u64) -> Result<(), Error> {
        let far = || self.far.clone().expect("somebody has walked there");
        let audit = self.store.audit();
        let length = match operation {
            TrailFirst => audit.list(&trail(), &first_page()).await?.items.len(),
            TrailFar => audit.list(&trail(), &far()).await?.items.len(),
            TrailFirstNamed => audit.list_with_names(&trail(), &first_page()).await?.items.len(),
            TrailFarNamed => audit.list_with_names(&trail(), &far()).await?.items.len(),
            _ => {
                let acting = self.by(operation, "user", n);
                let room = Some(room(operation, n));
                return acting.audit().append(room, observation()).await.map(drop);
            }
        };
        assert_eq!(length, usize::from(PAGE));
        Ok(())
    }
}
