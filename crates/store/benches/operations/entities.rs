//! The main operations as one would write them with SeaORM's entities: look, decide, write, in one transaction. The locks are
//! those that the same promises need. The active models of our entities refuse to be written; `Entity::insert` and `update` send the same SQL.

#![allow(clippy::disallowed_methods, reason = "this is the other way to do it")]

use conferencing_store::entity::{
    AuditAction, AuditLogId, AuthProviderId, AuthProviderType, ClientAddress, ParticipantId, ParticipantRole, RoomId,
    RoomStatus, Secret, UserId, audit_log, auth_provider, room, room_participant, user,
};
use sea_orm::prelude::DateTimeUtc;
use sea_orm::{
    ActiveValue::Set, ColumnTrait, Condition, DatabaseConnection, DatabaseTransaction, DbErr, EntityTrait,
    IntoActiveModel, JoinType, QueryFilter, QueryOrder, QuerySelect, RelationTrait, TransactionTrait,
};
use serde_json::{Value as Json, json};
use uuid::Uuid;

use crate::calls::{room as room_of, user as user_of};
use crate::operation::*;
use crate::seed::{HASH, PAGE};
use crate::subject::Kind;

#[derive(Clone)]
pub struct Entities {
    pub db: DatabaseConnection,
    /// Which page of the audit log is the far one, counted from 1.
    pub depth: u64,
}

/// Those of the operations that [`Entities`] does.
pub const DONE: [Operation; 13] = [
    Register,
    CreateRoom,
    Join,
    FirstJoin,
    HotJoin,
    Leave,
    Kick,
    ListPresent,
    RoomByCode,
    TrailFirstNamed,
    TrailFarNamed,
    Append,
    UsersRooms,
];

/// Microseconds, as the database keeps.
fn now() -> DateTimeUtc {
    let now = chrono::Utc::now();
    DateTimeUtc::from_timestamp_micros(now.timestamp_micros()).unwrap_or(now)
}

fn missing(what: &str) -> DbErr {
    DbErr::RecordNotFound(what.to_owned())
}

struct Event {
    action: AuditAction,
    actor: Option<UserId>,
    room: Option<RoomId>,
    target: Option<UserId>,
    metadata: Json,
}

async fn record(txn: &DatabaseTransaction, at: DateTimeUtc, event: Event) -> Result<(), DbErr> {
    let address: std::net::IpAddr = [203, 0, 113, 7].into();
    let row = audit_log::ActiveModel {
        id: Set(AuditLogId::from_uuid(Uuid::now_v7())),
        action: Set(event.action.into()),
        user_id: Set(event.actor),
        room_id: Set(event.room),
        target_user_id: Set(event.target),
        metadata: Set(Some(event.metadata)),
        ip_address: Set(Some(ClientAddress(address))),
        user_agent: Set(Some(
            "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0".to_owned(),
        )),
        timestamp: Set(at),
    };
    audit_log::Entity::insert(row)
        .exec_without_returning(txn)
        .await
        .map(drop)
}

impl Entities {
    pub async fn perform(&self, operation: Operation, n: u64) -> Result<(), DbErr> {
        match operation {
            Register => {
                self.register(&operation.text("username", n), &operation.text("email", n))
                    .await
            }
            CreateRoom => self.create_room(user_of(operation, "user", n), n).await,
            Join | FirstJoin | HotJoin => self.join(room_of(operation, n), user_of(operation, "user", n)).await,
            Leave => {
                let user = user_of(operation, "user", n);
                self.put_out(room_of(operation, n), user, None).await
            }
            Kick => {
                let (user, owner) = (user_of(operation, "user", n), user_of(operation, "owner", n));
                self.put_out(room_of(operation, n), user, Some(owner)).await
            }
            Append => self.append(room_of(operation, n), user_of(operation, "user", n)).await,
            _ => self.read(operation, n).await,
        }
    }

    async fn register(&self, username: &str, email: &str) -> Result<(), DbErr> {
        let txn = self.db.begin().await?;
        let (at, id) = (now(), UserId::from_uuid(Uuid::now_v7()));
        let new = user::ActiveModel {
            id: Set(id),
            username: Set(username.to_owned()),
            email: Set(Some(email.to_owned())),
            password_hash: Set(Some(Secret::new(HASH))),
            display_name: Set("A user".to_owned()),
            is_active: Set(true),
            is_verified: Set(false),
            created_at: Set(at),
            updated_at: Set(at),
            ..Default::default()
        };
        user::Entity::insert(new).exec_with_returning(&txn).await?;
        let account = auth_provider::ActiveModel {
            id: Set(AuthProviderId::from_uuid(Uuid::now_v7())),
            user_id: Set(id),
            provider_type: Set(AuthProviderType::Local),
            provider_id: Set(id.to_string()),
            provider_email: Set(Some(email.to_owned())),
            created_at: Set(at),
            updated_at: Set(at),
            ..Default::default()
        };
        auth_provider::Entity::insert(account).exec_with_returning(&txn).await?;
        let event = Event {
            action: AuditAction::UserRegistered,
            actor: None,
            room: None,
            target: Some(id),
            metadata: json!({ "provider": "LOCAL" }),
        };
        record(&txn, at, event).await?;
        txn.commit().await
    }

    async fn create_room(&self, owner: UserId, n: u64) -> Result<(), DbErr> {
        let txn = self.db.begin().await?;
        let (at, id) = (now(), RoomId::from_uuid(Uuid::now_v7()));
        live_user(&txn, owner).await?;
        let code = format!("E{n}");
        let new = room::ActiveModel {
            id: Set(id),
            owner_id: Set(owner),
            room_code: Set(code.clone()),
            title: Set("A room".to_owned()),
            max_participants: Set(100),
            is_public: Set(false),
            is_recordable: Set(true),
            require_auth: Set(true),
            status: Set(RoomStatus::Created),
            peak_participants: Set(0),
            total_joins: Set(0),
            active_participants: Set(0),
            created_at: Set(at),
            updated_at: Set(at),
            ..Default::default()
        };
        room::Entity::insert(new).exec_with_returning(&txn).await?;
        let event = Event {
            action: AuditAction::RoomCreated,
            actor: Some(owner),
            room: Some(id),
            target: None,
            metadata: json!({ "room_code": code }),
        };
        record(&txn, at, event).await?;
        txn.commit().await
    }

    async fn join(&self, room: RoomId, user: UserId) -> Result<(), DbErr> {
        let txn = self.db.begin().await?;
        let at = now();
        live_user(&txn, user).await?;
        let found = locked_room(&txn, room).await?;
        let taken = room_participant::Entity::find()
            .filter(room_participant::Column::RoomId.eq(room))
            .filter(room_participant::Column::UserId.eq(user))
            .filter(
                Condition::any()
                    .add(room_participant::Column::LeftAt.is_null())
                    .add(room_participant::Column::IsBanned.eq(true)),
            )
            .one(&txn)
            .await?;
        let open = matches!(found.status, RoomStatus::Created | RoomStatus::Live);
        if taken.is_some() || !open || found.active_participants >= found.max_participants {
            return Err(missing("a seat"));
        }
        let stay = ParticipantId::from_uuid(Uuid::now_v7());
        let seat = room_participant::ActiveModel {
            id: Set(stay),
            user_id: Set(user),
            room_id: Set(room),
            role: Set(ParticipantRole::Participant),
            joined_at: Set(at),
            is_kicked: Set(false),
            is_banned: Set(false),
            ..Default::default()
        };
        room_participant::Entity::insert(seat).exec_with_returning(&txn).await?;
        let begins = found.status == RoomStatus::Created;
        let present = found.active_participants + 1;
        let (peak, joins) = (found.peak_participants.max(present), found.total_joins + 1);
        let mut counted = found.into_active_model();
        counted.active_participants = Set(present);
        counted.peak_participants = Set(peak);
        counted.total_joins = Set(joins);
        counted.updated_at = Set(at);
        if begins {
            counted.status = Set(RoomStatus::Live);
            counted.started_at = Set(Some(at));
        }
        room::Entity::update(counted).exec(&txn).await?;
        let event = |action, metadata| Event {
            action,
            actor: Some(user),
            room: Some(room),
            target: None,
            metadata,
        };
        if begins {
            record(&txn, at, event(AuditAction::RoomStarted, json!({ "by_join": true }))).await?;
        }
        record(
            &txn,
            at,
            event(AuditAction::UserJoined, json!({ "stay": stay, "role": "PARTICIPANT" })),
        )
        .await?;
        txn.commit().await
    }

    /// A leave, or a kick by the owner.
    async fn put_out(&self, room: RoomId, user: UserId, owner: Option<UserId>) -> Result<(), DbErr> {
        let txn = self.db.begin().await?;
        let at = now();
        let found = locked_room(&txn, room).await?;
        let seat = room_participant::Entity::find()
            .filter(room_participant::Column::RoomId.eq(room))
            .filter(room_participant::Column::UserId.eq(user))
            .filter(room_participant::Column::LeftAt.is_null())
            .one(&txn)
            .await?
            .ok_or_else(|| missing("the seat"))?;
        if owner.is_some_and(|owner| owner != found.owner_id || seat.role == ParticipantRole::Host) {
            return Err(missing("the right"));
        }
        let stay = seat.id;
        let seconds = i32::try_from((at - seat.joined_at).num_seconds()).unwrap_or(0);
        let mut ended = seat.into_active_model();
        ended.left_at = Set(Some(at));
        ended.duration_seconds = Set(Some(seconds));
        if owner.is_some() {
            ended.is_kicked = Set(true);
            ended.kicked_at = Set(Some(at));
            ended.kicked_by = Set(owner);
            ended.kick_reason = Set(Some("noise".to_owned()));
        }
        room_participant::Entity::update(ended).exec(&txn).await?;
        let present = found.active_participants - 1;
        let mut counted = found.into_active_model();
        counted.active_participants = Set(present);
        counted.updated_at = Set(at);
        room::Entity::update(counted).exec(&txn).await?;
        let (action, reason) = match owner {
            None => (AuditAction::UserLeft, "left"),
            Some(_) => (AuditAction::UserKicked, "noise"),
        };
        let event = Event {
            action,
            actor: owner.or(Some(user)),
            room: Some(room),
            target: owner.map(|_| user),
            metadata: json!({ "stay": stay, "reason": reason, "duration_seconds": seconds }),
        };
        record(&txn, at, event).await?;
        txn.commit().await
    }

    async fn append(&self, room: RoomId, user: UserId) -> Result<(), DbErr> {
        let txn = self.db.begin().await?;
        let event = Event {
            action: AuditAction::ConsumerCreated,
            actor: Some(user),
            room: Some(room),
            target: None,
            metadata: json!({
                "consumer_id": "0197f3a2-5c1e-7d40-9b6e-3f2a1c0d9e88",
                "producer_id": "0197f3a2-4b0d-7c11-8a55-7e6d5c4b3a29",
            }),
        };
        record(&txn, now(), event).await?;
        txn.commit().await
    }

    async fn read(&self, operation: Operation, n: u64) -> Result<(), DbErr> {
        match operation {
            ListPresent => self.present(room_of(operation, n)).await,
            RoomByCode => {
                let code = operation.text("code", n);
                let found = room::Entity::find()
                    .filter(room::Column::RoomCode.eq(code))
                    .filter(room::Column::DeletedAt.is_null())
                    .one(&self.db)
                    .await?
                    .ok_or_else(|| missing("the room"))?;
                user::Entity::find_by_id(found.owner_id).one(&self.db).await?;
                self.present(found.id).await
            }
            UsersRooms => {
                let found = room::Entity::find()
                    .filter(room::Column::OwnerId.eq(user_of(operation, "user", n)))
                    .filter(room::Column::DeletedAt.is_null())
                    .order_by_desc(room::Column::CreatedAt)
                    .limit(20)
                    .all(&self.db)
                    .await?;
                assert_eq!(found.len(), 20);
                Ok(())
            }
            // By offset, as SeaORM's paginator does it, and the names of each page's people and rooms by their keys.
            TrailFirstNamed => self.trail(0).await,
            TrailFarNamed => self.trail(self.depth - 1).await,
            _ => Err(missing("such an operation")),
        }
    }

    async fn present(&self, room: RoomId) -> Result<(), DbErr> {
        let found = room_participant::Entity::find()
            .join(JoinType::InnerJoin, room_participant::Relation::User.def())
            .select_also(user::Entity)
            .filter(room_participant::Column::RoomId.eq(room))
            .filter(room_participant::Column::LeftAt.is_null())
            .order_by_asc(room_participant::Column::JoinedAt)
            .limit(u64::from(PAGE))
            .all(&self.db)
            .await?;
        assert!(found.len() >= 20);
        Ok(())
    }

    async fn trail(&self, page: u64) -> Result<(), DbErr> {
        let events = audit_log::Entity::find()
            .filter(audit_log::Column::RoomId.eq(RoomId::from_uuid(Kind::TrailRoom.uuid(0))))
            .order_by_desc(audit_log::Column::Timestamp)
            .offset(page * u64::from(PAGE))
            .limit(u64::from(PAGE))
            .all(&self.db)
            .await?;
        assert_eq!(events.len(), usize::from(PAGE));
        let people = events
            .iter()
            .flat_map(|event| [event.user_id, event.target_user_id])
            .flatten();
        let people: std::collections::BTreeSet<_> = people.collect();
        user::Entity::find()
            .filter(user::Column::Id.is_in(people))
            .all(&self.db)
            .await?;
        let rooms: std::collections::BTreeSet<_> = events.iter().filter_map(|event| event.room_id).collect();
        room::Entity::find()
            .filter(room::Column::Id.is_in(rooms))
            .all(&self.db)
            .await?;
        Ok(())
    }
}

async fn live_user(txn: &DatabaseTransaction, id: UserId) -> Result<user::Model, DbErr> {
    let found = user::Entity::find_by_id(id).lock_shared().one(txn).await?;
    found
        .filter(|user| user.is_active && user.deleted_at.is_none())
        .ok_or_else(|| missing("the user"))
}

async fn locked_room(txn: &DatabaseTransaction, id: RoomId) -> Result<room::Model, DbErr> {
    let found = room::Entity::find_by_id(id).lock_exclusive().one(txn).await?;
    found
        .filter(|room| room.deleted_at.is_none())
        .ok_or_else(|| missing("the room"))
}
