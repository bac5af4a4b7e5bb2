//! What a client of the service may ask for, and how the service answers when the database fails in the middle.

use conferencing_store::entity::{ParticipantRole, RoomId, UserId, room_participant};
use conferencing_store::participants::SeatOrBan;
use conferencing_store::{Actor, Error};

use crate::Service;

/// What the client is told.
#[derive(Debug, PartialEq)]
pub enum Answer<T> {
    /// It was done.
    Done(T),
    /// Not as things stand; the reason is for people.
    Refused(String),
    /// Nobody could do it now; the client may ask again.
    Later,
}

impl Service {
    /// Lets somebody in.
    ///
    /// # Errors
    /// What somebody has to be called for.
    pub async fn enter(&self, room: RoomId, user: UserId) -> Result<Answer<room_participant::Model>, Error> {
        let acting = self.store.acting(&Actor::user(user));
        let role = ParticipantRole::Participant;
        match acting.participants().join(room, user, role).await {
            Ok(seat) => Ok(Answer::Done(seat)),
            // The connection was lost: whether they are in, only the database knows.
            Err(Error::Indeterminate { .. }) => match self.store.participants().standing(room, user).await? {
                SeatOrBan::Seat(seat) => Ok(Answer::Done(seat)),
                SeatOrBan::Ban(_) | SeatOrBan::Neither => Ok(Answer::Later),
            },
            Err(error) if error.is_retryable() => Ok(Answer::Later),
            Err(error @ (Error::Rejected(_) | Error::Conflict(_) | Error::NotFound(_))) => {
                Ok(Answer::Refused(error.to_string()))
            }
            Err(error) => Err(error),
        }
    }
}
