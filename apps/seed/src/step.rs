//! What happens, and when: an agenda of steps that is played in the order of time.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use chrono::{DateTime, Utc};

/// Somebody of the organisation, by their place in it.
pub(crate) type Who = usize;
/// A meeting, by its number in the organisation.
pub(crate) type Which = u32;
/// A recording, by its number in the organisation.
pub(crate) type Tape = u32;

/// One thing that happens. A step whose time has come and that makes no sense any more, because somebody was put out before, is left out.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Register(Who),
    Verify(Who),
    Link(Who),
    Login(Who),
    FailLogin(Who),
    Logout(Who),
    Rename(Who),
    Part(Who),
    Return(Who),
    Create(Which),
    Update(Which),
    Transfer(Which, Who),
    Cancel(Which),
    Join(Which, Who),
    Leave(Which, Who),
    /// Their connection was lost.
    Drop(Which, Who),
    Kick(Which, Who),
    /// For so many minutes; 0 is for good.
    Ban(Which, Who, u16),
    Unban(Which, Who),
    Promote(Which, Who),
    Demote(Which, Who),
    HandOver(Which, Who),
    /// They try to kick the host.
    Overreach(Which, Who),
    End(Which),
    /// Nobody ended it: the system does.
    Close(Which),
    Delete(Which),
    Record(Which, Tape),
    Progress(Tape),
    Stop(Tape),
    Fail(Tape),
    Process(Tape),
    Ready(Tape),
    Retry(Tape),
    /// To be deleted in so many days.
    Keep(Tape, u16),
    Discard(Tape),
    Media(Which, Who, Media),
    NodeStarts(usize),
    Beat(usize),
}

/// What a media server tells.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Media {
    /// Of their so manieth producer: even numbers are sound, odd ones pictures.
    Produced(u16),
    Unproduced(u16),
    /// They watch or hear somebody.
    Consumed(Who, u16),
    Unconsumed(Who, u16),
    Muted,
    Unmuted,
    MutedByHost,
    AllMuted,
    ScreenOn,
    ScreenOff,
}

struct Planned {
    at: DateTime<Utc>,
    number: u64,
    step: Step,
}

impl Planned {
    fn place(&self) -> (DateTime<Utc>, u64) {
        (self.at, self.number)
    }
}

impl PartialEq for Planned {
    fn eq(&self, other: &Self) -> bool {
        self.place() == other.place()
    }
}

impl Eq for Planned {}

impl PartialOrd for Planned {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Planned {
    /// The earliest is the greatest, so that the heap yields it first; of one time the one that was planned first.
    fn cmp(&self, other: &Self) -> Ordering {
        other.place().cmp(&self.place())
    }
}

/// What is to come.
#[derive(Default)]
pub(crate) struct Agenda {
    heap: BinaryHeap<Planned>,
    planned: u64,
}

impl Agenda {
    pub(crate) fn plan(&mut self, at: DateTime<Utc>, step: Step) {
        self.planned += 1;
        self.heap.push(Planned {
            at,
            number: self.planned,
            step,
        });
    }

    /// The next one before a time.
    pub(crate) fn next(&mut self, before: DateTime<Utc>) -> Option<(DateTime<Utc>, Step)> {
        if self.heap.peek()?.at >= before {
            return None;
        }
        self.heap.pop().map(|planned| (planned.at, planned.step))
    }

    /// How many there are before a time.
    pub(crate) fn waiting(&self, before: DateTime<Utc>) -> u64 {
        let waiting = self.heap.iter().filter(|planned| planned.at < before);
        u64::try_from(waiting.count()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_come_by_time_and_then_as_they_were_planned() {
        let at = |second| DateTime::from_timestamp(second, 0).unwrap();
        let mut agenda = Agenda::default();
        for (second, who) in [(5, 0), (1, 1), (5, 2), (3, 3), (9, 4)] {
            agenda.plan(at(second), Step::Login(who));
        }
        assert_eq!(agenda.waiting(at(9)), 4);
        let mut played = Vec::new();
        while let Some((_, Step::Login(who))) = agenda.next(at(9)) {
            played.push(who);
        }
        assert_eq!(played, [1, 3, 0, 2]);
    }
}
