//! A meeting as a script, to be played with its webhooks in the right order, or delivered badly.

use chrono::{DateTime, TimeDelta, Utc};
use conferencing_store::clock::{Clock, ManualClock};
use conferencing_store::entity::ParticipantRole::Participant;
use conferencing_store::entity::{AuditAction, ParticipantId, RecordingStatus, RoomId, RoomStatus, UserId};
use conferencing_store::{
    Actor, AuditFilter, Error, LeaveDetails, LeaveReason, MediaKind, NewRoom, Order, PageRequest, Store,
};
use rand::RngExt;

use super::{Egress, EgressStatus, MediaEvent, Outcome, Webhook, handle};

/// Whose seat: Ben loses his connection, and comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seat {
    Ada,
    Ben,
    BenAgain,
    Cleo,
}

use Seat::{Ada, Ben, BenAgain, Cleo};

/// What the signaling server does itself, at once.
#[derive(Clone, Copy, Debug)]
enum Call {
    Join(Seat),
    /// Takes a new seat for somebody who has an old one still.
    Rejoin {
        old: Seat,
        new: Seat,
    },
    EndRoom,
}

/// What the media server tells of.
#[derive(Clone, Copy, Debug)]
enum Told {
    Joined(Seat),
    Left { seat: Seat, at: i64 },
    Muted(Seat),
    Unmuted(Seat),
    Starting(Recorder),
    Active(Recorder),
    Complete(Recorder),
    Failed(Recorder),
}

#[derive(Clone, Copy, Debug)]
struct Recorder {
    name: &'static str,
    started: i64,
}

const FIRST: Recorder = Recorder {
    name: "first",
    started: 10,
};
const BROKEN: Recorder = Recorder {
    name: "broken",
    started: 50,
};
/// Begins just before the room ends.
const LAST: Recorder = Recorder {
    name: "last",
    started: 58,
};

#[derive(Clone, Copy, Debug)]
enum Step {
    Call(Call),
    /// Which webhook.
    Webhook(usize),
}

/// Steps and their times, in seconds from the beginning.
#[derive(Clone, Debug)]
pub struct Timeline(Vec<(i64, Step)>);

const CALLS: &[(i64, Call)] = &[
    (0, Call::Join(Ada)),
    (1, Call::Join(Ben)),
    (2, Call::Join(Cleo)),
    (
        30,
        Call::Rejoin {
            old: Ben,
            new: BenAgain,
        },
    ),
    (60, Call::EndRoom),
];

/// When each is sent, which is when it happened unless it says otherwise.
const WEBHOOKS: &[(i64, Told)] = &[
    (3, Told::Joined(Ada)),
    (4, Told::Joined(Ben)),
    (5, Told::Joined(Cleo)),
    (6, Told::Muted(Ben)),
    (10, Told::Starting(FIRST)),
    (11, Told::Active(FIRST)),
    (20, Told::Active(FIRST)),
    (25, Told::Unmuted(Ben)),
    (31, Told::Joined(BenAgain)),
    // The media server finds out when Ben is back already.
    (40, Told::Left { seat: Ben, at: 28 }),
    (45, Told::Muted(BenAgain)),
    (50, Told::Left { seat: Cleo, at: 50 }),
    (50, Told::Starting(BROKEN)),
    (55, Told::Failed(BROKEN)),
    (58, Told::Starting(LAST)),
    (61, Told::Left { seat: Ada, at: 61 }),
    (61, Told::Left { seat: BenAgain, at: 61 }),
    (62, Told::Active(LAST)),
    (65, Told::Complete(FIRST)),
    (66, Told::Complete(LAST)),
];

/// Each webhook once, as soon as it is sent.
pub fn in_the_right_order() -> Timeline {
    let calls = CALLS.iter().map(|(at, call)| (*at, Step::Call(*call)));
    let webhooks = WEBHOOKS
        .iter()
        .enumerate()
        .map(|(which, (at, _))| (*at, Step::Webhook(which)));
    let mut timeline: Vec<_> = calls.chain(webhooks).collect();
    timeline.sort_by_key(|(at, _)| *at);
    Timeline(timeline)
}

/// Each webhook up to three times, each time up to a minute and a half late.
pub fn delivered_badly(random: &mut impl RngExt) -> Timeline {
    let mut timeline: Vec<_> = CALLS.iter().map(|(at, call)| (*at, Step::Call(*call))).collect();
    for (which, (sent, _)) in WEBHOOKS.iter().enumerate() {
        for _ in 0..random.random_range(1..=3) {
            let late = random.random_range(0..=90);
            timeline.push((sent + late, Step::Webhook(which)));
        }
    }
    // Of those of one second, what was sent is not there before it was sent: the calls come first.
    let mut keyed: Vec<(i64, bool, u32, Step)> = timeline
        .into_iter()
        .map(|(at, step)| (at, matches!(step, Step::Webhook(_)), random.random(), step))
        .collect();
    keyed.sort_by_key(|(at, is_webhook, tie, _)| (*at, *is_webhook, *tie));
    Timeline(keyed.into_iter().map(|(at, _, _, step)| (at, step)).collect())
}

/// A meeting of three in a room of its own.
pub struct Meeting<'a> {
    store: &'a Store,
    clock: &'a ManualClock,
    room: RoomId,
    /// Ada, Ben, Cleo.
    users: [UserId; 3],
    began: DateTime<Utc>,
    stays: Vec<(Seat, ParticipantId)>,
    /// How many deliveries were taken in, and how many had been before.
    pub deliveries: (usize, usize),
}

/// What a meeting leaves.
#[derive(Debug, PartialEq, Eq)]
pub struct EndState {
    /// Status, how many are present, the most at a time, how many joins, and when it ended: in seconds from the beginning, as all times here.
    pub room: (RoomStatus, i32, i32, i32, Option<i64>),
    /// Who, from when to when, and for how long.
    pub stays: Vec<(UserId, i64, Option<i64>, Option<i32>)>,
    /// File, status, from when to when, for how long, bytes.
    pub recordings: Vec<(String, RecordingStatus, i64, Option<i64>, Option<i32>, Option<i64>)>,
    /// How often who was muted or unmuted.
    pub mutes: Vec<(String, UserId)>,
}

impl<'a> Meeting<'a> {
    /// Makes the room. The first of the users owns it.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn prepare(store: &'a Store, clock: &'a ManualClock, users: [UserId; 3]) -> Result<Self, Error> {
        let owner = store.acting(&Actor::user(users[0]));
        let room = owner.rooms().create(NewRoom::titled(users[0], "Rehearsal")).await?;
        Ok(Self {
            store,
            clock,
            room: room.id,
            users,
            began: clock.now(),
            stays: Vec::new(),
            deliveries: (0, 0),
        })
    }

    /// Plays it, and says what it leaves.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn play(&mut self, timeline: &Timeline) -> Result<EndState, Error> {
        for (at, step) in &timeline.0 {
            let now = self.at(*at);
            if now > self.clock.now() {
                self.clock.advance(now - self.clock.now());
            }
            match step {
                Step::Call(call) => self.call(*call).await?,
                Step::Webhook(which) => match handle(self.store, &self.webhook(*which)).await? {
                    Outcome::Duplicate => self.deliveries.1 += 1,
                    Outcome::Done | Outcome::Disconnect(_) => self.deliveries.0 += 1,
                },
            }
        }
        self.end_state().await
    }

    fn at(&self, seconds: i64) -> DateTime<Utc> {
        self.began + TimeDelta::seconds(seconds)
    }

    fn user(&self, seat: Seat) -> UserId {
        match seat {
            Ada => self.users[0],
            Ben | BenAgain => self.users[1],
            Cleo => self.users[2],
        }
    }

    /// Of a webhook that was sent: whoever sent it had it from a token.
    fn stay(&self, seat: Seat) -> ParticipantId {
        let found = self.stays.iter().find(|(of, _)| *of == seat);
        found.map_or_else(|| unreachable!("{seat:?} has no token yet"), |(_, stay)| *stay)
    }

    async fn call(&mut self, call: Call) -> Result<(), Error> {
        match call {
            Call::Join(seat) => self.join(seat).await?,
            Call::Rejoin { old, new } => {
                let moved = LeaveDetails {
                    at: None,
                    reason: LeaveReason::Moved,
                };
                let system = self.store.acting(&Actor::system("signaling"));
                system.participants().leave_stay(self.stay(old), moved).await?;
                self.join(new).await?;
            }
            Call::EndRoom => {
                let owner = self.store.acting(&Actor::user(self.users[0]));
                owner.rooms().end(self.room).await?;
            }
        }
        Ok(())
    }

    async fn join(&mut self, seat: Seat) -> Result<(), Error> {
        let user = self.user(seat);
        let acting = self.store.acting(&Actor::user(user));
        let row = acting.participants().join(self.room, user, Participant).await?;
        self.stays.push((seat, row.id));
        Ok(())
    }

    fn webhook(&self, which: usize) -> Webhook {
        let (sent, told) = WEBHOOKS[which];
        let kind = MediaKind::Audio;
        let stay = |seat| self.stay(seat);
        let (at, event) = match told {
            Told::Joined(seat) => (sent, MediaEvent::ParticipantJoined { stay: stay(seat) }),
            Told::Left { seat, at } => {
                let (stay, connection_lost) = (stay(seat), seat == Ben);
                (at, MediaEvent::ParticipantLeft { stay, connection_lost })
            }
            Told::Muted(seat) => (sent, MediaEvent::TrackMuted { stay: stay(seat), kind }),
            Told::Unmuted(seat) => (sent, MediaEvent::TrackUnmuted { stay: stay(seat), kind }),
            Told::Starting(recorder) => (sent, self.egress(recorder, EgressStatus::Starting)),
            Told::Active(recorder) => (sent, self.egress(recorder, EgressStatus::Active)),
            Told::Complete(recorder) => {
                let complete = EgressStatus::Complete {
                    size_bytes: 1_000_000,
                    duration_seconds: 7,
                };
                (sent, self.egress(recorder, complete))
            }
            Told::Failed(recorder) => {
                let error = "disk full".to_owned();
                (sent, self.egress(recorder, EgressStatus::Failed { error }))
            }
        };
        Webhook {
            id: format!("EV_{}_{which}", self.room),
            at: self.at(at),
            event,
        }
    }

    fn egress(&self, recorder: Recorder, status: EgressStatus) -> MediaEvent {
        MediaEvent::Egress(Egress {
            id: format!("EG_{}_{}", self.room, recorder.name),
            room: self.room,
            file: format!("{}/{}.mp4", self.room, recorder.name),
            started_at: self.at(recorder.started),
            status,
        })
    }

    async fn end_state(&self) -> Result<EndState, Error> {
        let seconds = |at: DateTime<Utc>| (at - self.began).num_seconds();
        let page = PageRequest::first(100, Order::OldestFirst)?;
        let room = self.store.rooms().get(self.room).await?;
        let stays = self.store.participants().list_history(self.room, &page).await?;
        let recordings = self.store.recordings().list_of_room(self.room, &page).await?;
        let muted = AuditFilter {
            actions: vec![AuditAction::UserMuted, AuditAction::UserUnmuted],
            ..AuditFilter::of_room(self.room)
        };
        let mutes = self.store.audit().list(&muted, &page).await?;
        let mut mutes: Vec<_> = mutes
            .items
            .into_iter()
            .map(|entry| {
                let user = match &entry.event {
                    conferencing_store::AuditEvent::Observation(
                        conferencing_store::Observation::UserMuted { target, .. }
                        | conferencing_store::Observation::UserUnmuted { target, .. },
                    ) => *target,
                    other => unreachable!("{other:?} was not asked for"),
                };
                (entry.event.action(), user)
            })
            .collect();
        mutes.sort_unstable();
        let mut recordings: Vec<_> = recordings
            .items
            .into_iter()
            .map(|row| {
                let file = row.storage_key.rsplit('/').next().unwrap_or_default().to_owned();
                let (from, to) = (seconds(row.started_at), row.stopped_at.map(seconds));
                (file, row.status, from, to, row.duration_seconds, row.size_bytes)
            })
            .collect();
        recordings.sort_by(|a, b| a.0.cmp(&b.0));
        let stays = stays.items.into_iter().map(|row| {
            let stay = row.participant;
            let (from, to) = (seconds(stay.joined_at), stay.left_at.map(seconds));
            (stay.user_id, from, to, stay.duration_seconds)
        });
        Ok(EndState {
            room: (
                room.status,
                room.active_participants,
                room.peak_participants,
                room.total_joins,
                room.ended_at.map(seconds),
            ),
            stays: stays.collect(),
            recordings,
            mutes,
        })
    }
}
