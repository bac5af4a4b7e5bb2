//! Events that are recorded whatever became of what they speak of: refused attempts, exports.

use entity::RoomId;

use crate::error::{Error, Rejected};
use crate::event::{Change, EventColumns, Observation};
use crate::operation::{Event, Moment, Operation, Plan};

/// An event that is appended whether or not what it points at exists: what does not is left out.
#[derive(Debug)]
pub(crate) struct Notice {
    room: Option<RoomId>,
    event: EventColumns,
}

impl Notice {
    pub(crate) fn of(room: Option<RoomId>, event: &Change) -> Self {
        Self {
            room,
            event: event.to_columns(),
        }
    }

    /// Of a refusal for want of authority.
    pub(crate) fn of_attempt(error: &Error) -> Option<Self> {
        let Error::Rejected(Rejected::NotAllowed {
            operation,
            actor_role,
            room,
            user,
        }) = error
        else {
            return None;
        };
        let attempted = serde_json::to_value(operation).ok()?.as_str()?.to_owned();
        let observation = Observation::UnauthorizedAccessAttempt {
            target: *user,
            attempted,
            actor_role: Some(*actor_role),
        };
        Some(Self {
            room: *room,
            event: observation.to_columns(),
        })
    }
}

impl Operation for Notice {
    const NAME: &'static str = "audit.append";
    type Output = ();

    fn plan(&self, at: &Moment<'_>) -> Plan {
        let event = Event::of_columns(self.event.clone(), "(SELECT 1 AS one) AS one_row WHERE TRUE")
            .room("(SELECT id FROM rooms WHERE id = :room)")
            .with_whatever_exists();
        Plan::new(at, "event_1")
            .bind("room", self.room)
            .event_as(at, "event_1", &event)
    }
}
