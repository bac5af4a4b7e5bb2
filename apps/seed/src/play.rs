//! Plays the steps of people and their meetings: each is an operation of the store's, at its own time.

use chrono::TimeDelta;
use conferencing_store::entity::{AuthProviderType, ParticipantRole, RoomStatus};
use conferencing_store::{
    Actor, EmailChange, Error, LeaveDetails, LeaveReason, NewRoom, NewUser, Observation, ProfileChange,
    ProviderAccount, ProviderEmail, ProviderProfile, Rejected, RoomChanges,
};

use crate::error::SeedError;
use crate::names;
use crate::people::Parting;
use crate::stage::{Account, Stage};
use crate::step::{Step, Which, Who};

/// Of what a step does: how many events it appended.
type Played = Result<u64, SeedError>;

impl Stage {
    /// Plays one step at the clock's time.
    pub(crate) async fn play(&mut self, step: Step) -> Result<(), SeedError> {
        // Boxed by kind: together they would be one very large future.
        let events = match step {
            Step::Register(who) => Box::pin(self.register(who)).await,
            Step::Verify(_)
            | Step::Link(_)
            | Step::Login(_)
            | Step::FailLogin(_)
            | Step::Logout(_)
            | Step::Rename(_) => Box::pin(self.of_account(step)).await,
            Step::Part(who) => Box::pin(self.part(who)).await,
            Step::Return(who) => Box::pin(self.come_back(who)).await,
            Step::Create(which) => Box::pin(self.create(which)).await,
            Step::Update(which) | Step::Cancel(which) | Step::Delete(which) | Step::Transfer(which, _) => {
                Box::pin(self.of_room(which, step)).await
            }
            Step::Join(which, who) => Box::pin(self.join(which, who)).await,
            Step::Leave(which, who) | Step::Drop(which, who) => Box::pin(self.leave(which, who, step)).await,
            Step::Kick(which, who)
            | Step::Ban(which, who, _)
            | Step::Unban(which, who)
            | Step::Promote(which, who)
            | Step::Demote(which, who)
            | Step::HandOver(which, who)
            | Step::Overreach(which, who) => Box::pin(self.moderate(which, who, step)).await,
            Step::End(which) | Step::Close(which) => Box::pin(self.end(which, step)).await,
            Step::Record(which, tape) => Box::pin(self.record(which, tape)).await,
            Step::Progress(tape)
            | Step::Stop(tape)
            | Step::Fail(tape)
            | Step::Process(tape)
            | Step::Ready(tape)
            | Step::Retry(tape)
            | Step::Keep(tape, _)
            | Step::Discard(tape) => Box::pin(self.of_tape(tape, step)).await,
            Step::Media(which, who, media) => Box::pin(self.media(which, who, media)).await,
            Step::NodeStarts(place) => Box::pin(self.node_starts(place)).await,
            Step::Beat(place) => Box::pin(self.beat(place)).await,
        };
        let events = events?;
        if events > 0 {
            self.count(events);
        }
        Ok(())
    }

    async fn register(&mut self, who: Who) -> Played {
        let person = &self.people[who];
        let acting = self.by(&self.asking(Actor::anonymous(), who));
        let user = if person.provider == AuthProviderType::Local {
            let new = NewUser {
                email: Some(&person.email),
                ..NewUser::named(&person.username, &person.display_name, self.password_hash.clone())
            };
            acting.users().register(new).await?
        } else {
            let profile = ProviderProfile {
                provider: person.provider,
                provider_id: &person.username,
                email: Some(ProviderEmail::Verified(&person.email)),
                username: &person.username,
                display_name: &person.display_name,
            };
            acting.users().register_with_provider(profile).await?
        };
        let providers = self.store.auth_providers().list(user.id).await?;
        if let Some(provider) = providers.first() {
            let (id, provider) = (user.id, provider.id);
            self.accounts[who] = Some(Account { id, provider });
        }
        Ok(1)
    }

    async fn of_account(&mut self, step: Step) -> Played {
        let (Step::Verify(who)
        | Step::Link(who)
        | Step::Login(who)
        | Step::FailLogin(who)
        | Step::Logout(who)
        | Step::Rename(who)) = step
        else {
            return Ok(0);
        };
        let (Some(account), Some(actor)) = (self.accounts[who], self.actor(who)) else {
            return Ok(0);
        };
        if self.people[who].parts.is_some_and(|(at, _)| at <= self.now()) {
            return Ok(0);
        }
        let person = &self.people[who];
        match step {
            Step::Verify(_) => {
                let system = self.by_system("mailer");
                system.users().verify_email(account.id, &person.email).await?;
            }
            Step::Link(_) => {
                let link = ProviderAccount {
                    provider: AuthProviderType::Google,
                    provider_id: &person.username,
                    email: Some(&person.email),
                    metadata: None,
                };
                self.by(&actor).auth_providers().link(account.id, link).await?;
            }
            Step::Login(_) => {
                let system = self.by(&self.asking(Actor::system("auth"), who));
                system.users().record_login(account.id, account.provider).await?;
            }
            Step::FailLogin(_) => {
                let anybody = self.by(&self.asking(Actor::anonymous(), who));
                anybody.users().record_failed_login(&person.username).await?;
            }
            Step::Logout(_) => {
                self.observe(&actor, None, &Observation::UserLogout {}).await?;
                return Ok(0);
            }
            _ => {
                let display_name = format!("{} ({})", person.display_name, self.name);
                let change = ProfileChange {
                    username: None,
                    display_name: Some(&display_name),
                    email: EmailChange::Keep,
                };
                self.by(&actor).users().update_profile(account.id, change).await?;
            }
        }
        Ok(1)
    }

    async fn part(&mut self, who: Who) -> Played {
        let (Some(account), Some((at, parting))) = (self.accounts[who], self.people[who].parts) else {
            return Ok(0);
        };
        let system = self.by_system("accounts");
        if parting == Parting::Erased {
            let receipt = system.users().erase(account.id).await?;
            let events = receipt.rooms_ended
                + receipt.rooms_cancelled
                + receipt.ended_participations
                + receipt.recordings_deleted;
            return Ok(1 + u64::try_from(events).unwrap_or(0));
        }
        system.users().deactivate(account.id).await?;
        if parting == Parting::Paused {
            self.agenda.plan(at + TimeDelta::hours(40), Step::Return(who));
        }
        Ok(1)
    }

    async fn come_back(&mut self, who: Who) -> Played {
        if let Some(account) = self.accounts[who] {
            self.by_system("accounts").users().reactivate(account.id).await?;
        }
        Ok(1)
    }

    async fn create(&mut self, which: Which) -> Played {
        let Some(meeting) = self.meetings.get(&which) else {
            return Ok(0);
        };
        let (Some(account), Some(actor)) = (self.accounts[meeting.owner], self.actor(meeting.owner)) else {
            return Ok(0);
        };
        let outline = &meeting.outline;
        let (start, end) = (outline.begins, outline.ends);
        let new = NewRoom {
            description: outline.description,
            scheduled_start: outline.is_scheduled.then_some(start),
            scheduled_end: outline.is_scheduled.then_some(end),
            max_participants: outline.seats,
            is_public: outline.is_public,
            require_auth: !outline.is_public,
            ..NewRoom::titled(account.id, outline.title)
        };
        let room = self.by(&actor).rooms().create(new).await?;
        if let Some(meeting) = self.meetings.get_mut(&which) {
            meeting.room = Some(room.id);
        }
        Ok(1)
    }

    async fn of_room(&mut self, which: Which, step: Step) -> Played {
        let Some(meeting) = self.meetings.get(&which) else {
            return Ok(0);
        };
        let (Some(room), Some(actor)) = (meeting.room, self.actor(meeting.owner)) else {
            return Ok(0);
        };
        let acting = self.by(&actor);
        match step {
            Step::Update(_) if meeting.status == RoomStatus::Created => {
                let changes = RoomChanges {
                    description: Some(Some("The agenda has changed; see the invitation.")),
                    ..RoomChanges::default()
                };
                acting.rooms().update(room, changes).await?;
            }
            Step::Cancel(_) if meeting.status == RoomStatus::Created => {
                acting.rooms().cancel(room).await?;
                self.meetings.remove(&which);
            }
            Step::Delete(_) if meeting.status == RoomStatus::Ended => {
                self.by_system("retention").rooms().delete(room).await?;
                self.meetings.remove(&which);
            }
            Step::Transfer(_, to) if to != meeting.owner => {
                let Some(account) = self.accounts[to] else {
                    return Ok(0);
                };
                acting.rooms().transfer(room, account.id).await?;
                if let Some(meeting) = self.meetings.get_mut(&which) {
                    meeting.owner = to;
                }
            }
            _ => return Ok(0),
        }
        Ok(1)
    }

    async fn join(&mut self, which: Which, who: Who) -> Played {
        let now = self.now();
        let Some(meeting) = self.meetings.get(&which) else {
            return Ok(0);
        };
        let (Some(room), Some(account), Some(actor)) = (meeting.room, self.accounts[who], self.actor(who)) else {
            return Ok(0);
        };
        if !matches!(meeting.status, RoomStatus::Created | RoomStatus::Live) || meeting.present.contains_key(&who) {
            return Ok(0);
        }
        let node = self.nodes[who % self.nodes.len()];
        let acting = self.by(&actor);
        let joined = acting
            .participants()
            .join_on(room, account.id, ParticipantRole::Participant, node)
            .await;
        let seat = match joined {
            Ok(seat) => seat,
            Err(Error::Rejected(Rejected::RoomFull { .. } | Rejected::Banned { .. })) => return Ok(0),
            Err(error) => return Err(error.into()),
        };
        let Some(meeting) = self.meetings.get_mut(&which) else {
            return Ok(1);
        };
        let begins = meeting.status == RoomStatus::Created;
        let lifted = meeting
            .banned
            .get(&who)
            .copied()
            .flatten()
            .is_some_and(|until| until <= now);
        if lifted {
            meeting.banned.remove(&who);
        }
        meeting.status = RoomStatus::Live;
        meeting.present.insert(who, (seat.id, seat.role));
        if seat.role == ParticipantRole::Host {
            meeting.host = Some(who);
        }
        self.plan_media(which, who);
        Ok(1 + u64::from(begins) + u64::from(lifted))
    }

    async fn leave(&mut self, which: Which, who: Who, step: Step) -> Played {
        let Some(meeting) = self.meetings.get(&which) else {
            return Ok(0);
        };
        let (Some(room), Some(account), Some(actor)) = (meeting.room, self.accounts[who], self.actor(who)) else {
            return Ok(0);
        };
        let Some((stay, _)) = meeting.present.get(&who).copied() else {
            return Ok(0);
        };
        if let Step::Drop(..) = step {
            let details = LeaveDetails {
                at: Some(self.now() - TimeDelta::seconds(3)),
                reason: LeaveReason::LostConnection,
            };
            self.by_system("signaling")
                .participants()
                .leave_stay(stay, details)
                .await?;
        } else {
            self.by(&actor).participants().leave(room, account.id).await?;
        }
        if let Some(meeting) = self.meetings.get_mut(&which) {
            meeting.out(who);
        }
        Ok(1)
    }

    async fn moderate(&mut self, which: Which, who: Who, step: Step) -> Played {
        let now = self.now();
        let Some(meeting) = self.live(which) else {
            return Ok(0);
        };
        let by = meeting.host.unwrap_or(meeting.owner);
        let (Some(room), Some(account), Some(actor)) = (meeting.room, self.accounts[who], self.actor(by)) else {
            return Ok(0);
        };
        if who == by || who == meeting.owner {
            return Ok(0);
        }
        let role = meeting.present.get(&who).map(|(_, role)| *role);
        let new_role = match (step, role) {
            (Step::Kick(..), Some(_)) => {
                let reason = self.chance.one(names::KICK_REASONS);
                self.by(&actor)
                    .participants()
                    .kick(room, account.id, Some(reason))
                    .await?;
                None
            }
            (Step::Ban(_, _, minutes), _) if !meeting.banned.contains_key(&who) => {
                let until = (minutes > 0).then(|| now + TimeDelta::minutes(minutes.into()));
                let reason = self.chance.one(names::BAN_REASONS);
                let acting = self.by(&actor);
                acting.participants().ban(room, account.id, Some(reason), until).await?;
                if let Some(meeting) = self.meetings.get_mut(&which) {
                    meeting.banned.insert(who, until);
                }
                None
            }
            (Step::Unban(..), None) if meeting.banned.contains_key(&who) => {
                self.by(&actor).participants().unban(room, account.id).await?;
                if let Some(meeting) = self.meetings.get_mut(&which) {
                    meeting.banned.remove(&who);
                }
                return Ok(1);
            }
            (Step::Promote(..), Some(ParticipantRole::Participant)) => {
                self.by(&actor).participants().promote(room, account.id).await?;
                Some(ParticipantRole::CoHost)
            }
            (Step::Demote(..), Some(ParticipantRole::CoHost)) => {
                self.by(&actor).participants().demote(room, account.id).await?;
                Some(ParticipantRole::Participant)
            }
            (Step::HandOver(..), Some(_)) => {
                self.by(&actor).participants().hand_over_host(room, account.id).await?;
                Some(ParticipantRole::Host)
            }
            (Step::Overreach(..), Some(ParticipantRole::Participant)) => {
                return self.overreach(which, who).await;
            }
            _ => return Ok(0),
        };
        let Some(meeting) = self.meetings.get_mut(&which) else {
            return Ok(1);
        };
        match new_role {
            None => meeting.out(who),
            Some(new) => {
                if new == ParticipantRole::Host
                    && let Some(former) = meeting
                        .host
                        .replace(who)
                        .and_then(|host| meeting.present.get_mut(&host))
                {
                    former.1 = ParticipantRole::CoHost;
                }
                if let Some(seat) = meeting.present.get_mut(&who) {
                    seat.1 = new;
                }
            }
        }
        Ok(1)
    }

    /// The store refuses, and records that it was tried.
    async fn overreach(&mut self, which: Which, who: Who) -> Played {
        let Some(meeting) = self.meetings.get(&which) else {
            return Ok(0);
        };
        let victim = meeting.host.and_then(|host| self.accounts[host]);
        let (Some(room), Some(actor), Some(victim)) = (meeting.room, self.actor(who), victim) else {
            return Ok(0);
        };
        match self.by(&actor).participants().kick(room, victim.id, None).await {
            Err(Error::Rejected(Rejected::NotAllowed { .. })) => Ok(1),
            Err(error) => Err(error.into()),
            Ok(_) => Ok(1),
        }
    }

    async fn end(&mut self, which: Which, step: Step) -> Played {
        let Some(meeting) = self.live(which) else {
            return Ok(0);
        };
        let by = meeting.host.unwrap_or(meeting.owner);
        let (Some(room), Some(actor)) = (meeting.room, self.actor(by)) else {
            return Ok(0);
        };
        let present = u64::try_from(meeting.present.len()).unwrap_or(0);
        let acting = match step {
            Step::Close(_) => self.by_system("signaling"),
            _ => self.by(&actor),
        };
        acting.rooms().end(room).await?;
        let stopped = self.stop_tapes_of(which);
        if let Some(meeting) = self.meetings.get_mut(&which) {
            meeting.status = RoomStatus::Ended;
            meeting.present.clear();
            meeting.banned.clear();
            meeting.host = None;
        }
        Ok(1 + present + stopped)
    }
}
