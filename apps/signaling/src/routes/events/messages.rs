//! What the server sends, and why it closes.

use chrono::{DateTime, Utc};
use conferencing_store::entity::ParticipantId;
use conferencing_store::{AuditEvent, Change, FeedPosition, LeaveReason};
use serde::Serialize;
use serde_json::Value;

use crate::routes::views::{PersonView, PresentView};

/// Why the server closes a socket. Codes of 4000 and more are this service's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// They were put out; they may come back.
    Kicked,
    /// They were put out, and are kept out.
    Banned,
    /// The meeting is over.
    RoomEnded,
    /// They left, in another window or by another device.
    Left,
    /// The seat was given up: the connection had been lost, or the process that served it. Join again.
    SeatLost,
    /// The session is over, or the account.
    SignedOut,
    /// The service stops: connect again, after a moment and to whichever process answers.
    Restart,
    /// Too much waited for this socket, or there is a fault: connect again behind the last position.
    TryAgain,
}

impl Closing {
    /// The code of the close frame.
    pub fn code(self) -> u16 {
        match self {
            Self::Kicked => 4001,
            Self::Banned => 4002,
            Self::RoomEnded => 4003,
            Self::Left => 4004,
            Self::SeatLost => 4005,
            Self::SignedOut => 4006,
            Self::Restart => 1012,
            Self::TryAgain => 1013,
        }
    }

    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Kicked => "kicked",
            Self::Banned => "banned",
            Self::RoomEnded => "room_ended",
            Self::Left => "left",
            Self::SeatLost => "seat_lost",
            Self::SignedOut => "signed_out",
            Self::Restart => "restart",
            Self::TryAgain => "try_again",
        }
    }

    /// Why a seat is over, if that is what the event says, and the reason that was given.
    pub(super) fn of(event: &AuditEvent, seat: ParticipantId) -> Option<(Self, Option<String>)> {
        let AuditEvent::Change(change) = event else {
            return None;
        };
        match change {
            Change::UserKicked { stay, reason, .. } if *stay == seat => Some((Self::Kicked, reason.clone())),
            Change::UserBanned {
                stay: Some(stay),
                reason,
                ..
            } if *stay == seat => Some((Self::Banned, reason.clone())),
            Change::UserLeft { stay, reason, .. } if *stay == seat => {
                let closing = match reason {
                    LeaveReason::Left | LeaveReason::Moved => Self::Left,
                    LeaveReason::RoomEnded => Self::RoomEnded,
                    LeaveReason::Deactivated | LeaveReason::Erased => Self::SignedOut,
                    _ => Self::SeatLost,
                };
                Some((closing, None))
            }
            _ => None,
        }
    }

    /// Whether the seat is over.
    pub(super) fn ends_seat(self) -> bool {
        !matches!(self, Self::SignedOut | Self::Restart | Self::TryAgain)
    }
}

/// What the server sends.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Told {
    /// First of all: who is present. Events are those behind the position.
    Hello {
        stay: ParticipantId,
        position: FeedPosition,
        participants: Vec<PresentView>,
    },
    Event(Box<Happened>),
    /// The last: why the socket is closed.
    Closing {
        reason: &'static str,
        message: Option<String>,
    },
}

/// An event of the room.
#[derive(Debug, Serialize)]
pub(super) struct Happened {
    /// For `after`, when this was the last event that was heard.
    pub(super) position: FeedPosition,
    pub(super) at: DateTime<Utc>,
    pub(super) action: String,
    pub(super) actor: Option<PersonView>,
    /// To whom it was done; none where that is the actor.
    pub(super) target: Option<PersonView>,
    pub(super) details: Value,
}
