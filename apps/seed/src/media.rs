//! Plays what media servers tell and do: recordings, streams, the servers themselves.

use chrono::TimeDelta;
use conferencing_store::entity::{AuthProviderType, RecordingStatus};
use conferencing_store::recordings::RecordingMeasures;
use conferencing_store::{Error, MediaKind, NewRecording, Observation};

use crate::error::SeedError;
use crate::names;
use crate::stage::{Stage, Taped};
use crate::step::{Media, Step, Tape, Which, Who};

type Played = Result<u64, SeedError>;

const RUNNING: [RecordingStatus; 2] = [RecordingStatus::Started, RecordingStatus::InProgress];

impl Stage {
    pub(crate) async fn record(&mut self, which: Which, tape: Tape) -> Played {
        let Some(meeting) = self.live(which) else {
            return Ok(0);
        };
        let (Some(room), Some(account), Some(actor)) =
            (meeting.room, self.accounts[meeting.owner], self.actor(meeting.owner))
        else {
            return Ok(0);
        };
        // By the owner themself where they are there, else for them.
        let acting = match meeting.present.contains_key(&meeting.owner) {
            true => self.by(&actor),
            false => self.by_system("recorder"),
        };
        let (storage_key, filename) = (
            format!("{}{}/{room}/{tape}.webm", self.name, self.tag),
            format!("{} {}.webm", meeting.outline.title, self.now().format("%Y-%m-%d %H.%M")),
        );
        let egress_id = format!("EG_{}{}_{tape}", self.name, self.tag);
        let recording = acting
            .recordings()
            .start(NewRecording {
                room,
                owner: account.id,
                storage_bucket: "recordings",
                storage_key: &storage_key,
                filename: &filename,
                egress_id: Some(&egress_id),
                is_public: false,
                expires_at: None,
            })
            .await?;
        let (id, status) = (recording.id, recording.status);
        self.tapes.insert(tape, Taped { id, which, status });
        Ok(1)
    }

    /// Notes that the end of a room has stopped its recordings: how many.
    pub(crate) fn stop_tapes_of(&mut self, which: Which) -> u64 {
        let mut stopped = 0;
        for taped in self.tapes.values_mut() {
            if taped.which == which && RUNNING.contains(&taped.status) {
                taped.status = RecordingStatus::Stopped;
                stopped += 1;
            }
        }
        stopped
    }

    pub(crate) async fn of_tape(&mut self, tape: Tape, step: Step) -> Played {
        let Some(Taped { id, status, .. }) = self.tapes.get(&tape).copied() else {
            return Ok(0);
        };
        let system = self.by_system("recorder");
        let recordings = system.recordings();
        let is_running = RUNNING.contains(&status);
        let changed = match step {
            Step::Progress(_) if is_running => recordings.progress(id).await,
            Step::Stop(_) if is_running => recordings.stop(id, RecordingMeasures::default()).await,
            Step::Fail(_) if is_running || status == RecordingStatus::Processing => {
                recordings.fail(id, self.chance.one(names::FAILURES)).await
            }
            Step::Process(_) if status == RecordingStatus::Stopped => recordings.process(id).await,
            Step::Retry(_) if status == RecordingStatus::Failed => recordings.retry(id).await,
            Step::Ready(_) if status == RecordingStatus::Processing => {
                let measures = RecordingMeasures {
                    size_bytes: Some(self.chance.between(8_000_000, 900_000_000)),
                    codec: Some("vp9"),
                    resolution: Some("1920x1080"),
                    fps: Some(30),
                    bitrate: Some(2_500),
                    ..RecordingMeasures::default()
                };
                let url = format!("https://media.example/{id}.webm");
                recordings.ready(id, &url, measures).await
            }
            Step::Keep(_, days) if !is_running => {
                let until = self.now() + TimeDelta::days(days.into());
                recordings.set_expiry(id, Some(until)).await
            }
            Step::Discard(_) if !is_running => recordings.delete(id).await,
            _ => return Ok(0),
        };
        match changed {
            Ok(recording) if recording.deleted_at.is_none() => {
                self.tapes
                    .entry(tape)
                    .and_modify(|taped| taped.status = recording.status);
                Ok(1)
            }
            Ok(_) => {
                self.tapes.remove(&tape);
                Ok(1)
            }
            // Its owner was erased, and it was deleted with them.
            Err(Error::NotFound(_)) => {
                self.tapes.remove(&tape);
                Ok(0)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Plans what comes of a seat: streams, and what is done with them.
    pub(crate) fn plan_media(&mut self, which: Which, who: Who) {
        let Some(meeting) = self.meetings.get(&which) else {
            return;
        };
        let now = self.now();
        let rest = (meeting.outline.ends - now).num_milliseconds().max(20_000);
        let others: Vec<Who> = meeting.present.keys().copied().filter(|other| *other != who).collect();
        let is_host = meeting.host == Some(who);
        let guests = meeting.outline.guests;
        let chance = &mut self.chance;
        let agenda = &mut self.agenda;
        let mut plan = |chance: &mut crate::random::Chance, from: i64, to: i64, media: Media| {
            let at = now + TimeDelta::microseconds(chance.between(from * 1_000, to * 1_000));
            agenda.plan(at, Step::Media(which, who, media));
        };
        plan(chance, 400, 2_500, Media::Produced(0));
        plan(chance, rest * 9 / 10, rest, Media::Unproduced(0));
        if chance.hit(0.75) {
            plan(chance, 600, 6_000, Media::Produced(1));
            plan(chance, rest * 8 / 10, rest, Media::Unproduced(1));
        }
        // They hear and see some of those who are there.
        for (number, other) in others.iter().take(3).enumerate() {
            let number = u16::try_from(number).unwrap_or(0);
            plan(chance, 700, 4_000, Media::Consumed(*other, number));
            if chance.hit(0.5) {
                plan(chance, rest / 2, rest, Media::Unconsumed(*other, number));
            }
        }
        for _ in 0..chance.between(0, 3) {
            let muted = chance.between(3_000, rest * 3 / 4);
            plan(chance, muted, muted + 1_000, Media::Muted);
            plan(chance, muted + 2_000, rest, Media::Unmuted);
        }
        if chance.hit(0.12) {
            let on = chance.between(5_000, rest / 2);
            plan(chance, on, on + 1_000, Media::ScreenOn);
            plan(chance, on + 3_000, rest, Media::ScreenOff);
        }
        if chance.hit(0.03) {
            plan(chance, 10_000, rest, Media::MutedByHost);
        }
        if is_host && guests > 6 && chance.hit(0.4) {
            plan(chance, 10_000, rest, Media::AllMuted);
        }
    }

    pub(crate) async fn media(&mut self, which: Which, who: Who, media: Media) -> Played {
        let Some(meeting) = self.meetings.get(&which) else {
            return Ok(0);
        };
        let (Some(room), Some(account), Some(actor)) = (meeting.room, self.accounts[who], self.actor(who)) else {
            return Ok(0);
        };
        let is_there = |who: &Who| meeting.present.contains_key(who);
        if !is_there(&who) {
            return Ok(0);
        }
        let producer = |who: Who, number: u16| format!("p-{}-{which}-{who}-{number}", self.number);
        let consumer = |of: Who, number: u16| format!("c-{}-{which}-{who}-{of}-{number}", self.number);
        let kind = |number: u16| {
            if number.is_multiple_of(2) {
                MediaKind::Audio
            } else {
                MediaKind::Video
            }
        };
        let (by, event) = match media {
            Media::Produced(number) => (
                actor,
                Observation::ProducerCreated {
                    producer_id: producer(who, number),
                    kind: kind(number),
                },
            ),
            Media::Unproduced(number) => {
                let producer_id = producer(who, number);
                (actor, Observation::ProducerClosed { producer_id })
            }
            Media::Consumed(of, number) if is_there(&of) => (
                actor,
                Observation::ConsumerCreated {
                    consumer_id: consumer(of, number),
                    producer_id: producer(of, number % 2),
                },
            ),
            Media::Unconsumed(of, number) if is_there(&of) => {
                let consumer_id = consumer(of, number);
                (actor, Observation::ConsumerClosed { consumer_id })
            }
            Media::Consumed(..) | Media::Unconsumed(..) => return Ok(0),
            // Of oneself: the target is who acts.
            Media::Muted => (actor, muted(account.id)),
            Media::Unmuted => (
                actor,
                Observation::UserUnmuted {
                    target: account.id,
                    kind: MediaKind::Audio,
                },
            ),
            Media::MutedByHost => {
                let host = meeting
                    .host
                    .filter(|host| *host != who)
                    .and_then(|host| self.actor(host));
                let Some(host) = host else {
                    return Ok(0);
                };
                (host, muted(account.id))
            }
            Media::AllMuted => (actor, Observation::AllMuted { kind: MediaKind::Audio }),
            Media::ScreenOn => (actor, Observation::ScreenShareStarted {}),
            Media::ScreenOff => (actor, Observation::ScreenShareStopped {}),
        };
        self.observe(&by, Some(room), &event).await?;
        Ok(0)
    }

    /// A media server starts, or starts anew.
    pub(crate) async fn node_starts(&mut self, place: usize) -> Played {
        let name = format!("sfu-{}{}-{place}", self.name, self.tag);
        let node = self.by_system("media").nodes().register(&name).await?;
        match self.nodes.get_mut(place) {
            Some(former) => {
                *former = node.id;
                Ok(2)
            }
            None => {
                self.nodes.push(node.id);
                Ok(1)
            }
        }
    }

    pub(crate) async fn beat(&mut self, place: usize) -> Played {
        if let Some(node) = self.nodes.get(place).copied() {
            self.by_system("media").nodes().beat(node).await?;
        }
        Ok(0)
    }

    /// Whether somebody signs in by password.
    pub(crate) fn has_password(&self, who: Who) -> bool {
        self.people[who].provider == AuthProviderType::Local
    }
}

fn muted(target: conferencing_store::entity::UserId) -> Observation {
    Observation::UserMuted {
        target,
        kind: MediaKind::Audio,
    }
}
