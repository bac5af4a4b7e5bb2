//! What operations of several aggregates share: the rows that they lock, in the one order of locks (users, rooms,
//! participants, recordings; docs/INVARIANTS.md), the guards that go with them, and how participations and meetings end.

mod account;
mod actor_role;
mod ending;
mod media_node;
mod stay;

pub(crate) use account::{active, changeable};
pub(crate) use actor_role::{ACTOR_ROLE, allowed, may_remove, not_allowed, seat_key};
pub(crate) use ending::{
    CLOSED, SHARED, count_all_out, each_left, end_if_empty, end_participation_at, end_participation_set,
    end_participation_with_node, end_room_set, stop_recording_set, stop_recordings, stop_recordings_of_all,
};
pub(crate) use media_node::{IN_SERVICE, in_service};
pub(crate) use stay::A_STAY;
