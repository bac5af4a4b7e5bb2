//! Who may do what: one table, which the refusals and the SQL guards both come from.

use entity::ParticipantRole;

/// What an actor asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[expect(missing_docs, reason = "named after the methods")]
pub enum Operation {
    CreateRoom,
    StartRoom,
    EndRoom,
    Join,
    Leave,
    Kick,
}

/// What the actor is to the room, or to the user concerned. An owner who is present counts as the owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Standing {
    /// The platform itself.
    System,
    /// The very user that the operation is about.
    Themself,
    /// Owns the room.
    Owner,
    /// Is present as HOST.
    Host,
    /// Is present as CO_HOST.
    CoHost,
    /// Is present as PARTICIPANT.
    Participant,
    /// None of these.
    Outsider,
}

impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::CreateRoom => "creating a room",
            Self::StartRoom => "starting a room",
            Self::EndRoom => "ending a room",
            Self::Join => "joining a room",
            Self::Leave => "leaving a room",
            Self::Kick => "a kick",
        })
    }
}

impl std::fmt::Display for Standing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::System => "the platform",
            Self::Themself => "the user concerned",
            Self::Owner => "the owner",
            Self::Host => "the host",
            Self::CoHost => "a co-host",
            Self::Participant => "a participant",
            Self::Outsider => "somebody from outside",
        })
    }
}

impl From<ParticipantRole> for Standing {
    fn from(role: ParticipantRole) -> Self {
        match role {
            ParticipantRole::Host => Self::Host,
            ParticipantRole::CoHost => Self::CoHost,
            ParticipantRole::Participant => Self::Participant,
        }
    }
}

impl Standing {
    /// Its name in the SQL guards.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::System => "SYSTEM",
            Self::Themself => "THEMSELF",
            Self::Owner => "OWNER",
            Self::Host => "HOST",
            Self::CoHost => "CO_HOST",
            Self::Participant => "PARTICIPANT",
            Self::Outsider => "OUTSIDER",
        }
    }

    /// Those an actor can have towards a room.
    pub(crate) const IN_A_ROOM: [Self; 6] = [
        Self::System,
        Self::Owner,
        Self::Host,
        Self::CoHost,
        Self::Participant,
        Self::Outsider,
    ];
}

/// The table. `target` is the role of the present user that it is done to, where there is one. Hosts, owners and the actor
/// themself are protected from a kick beyond this, whoever asks.
pub fn may(operation: Operation, standing: Standing, target: Option<ParticipantRole>) -> bool {
    use ParticipantRole as Role;
    use Standing::{CoHost, Host, Owner, System, Themself};
    match operation {
        Operation::CreateRoom | Operation::Join | Operation::Leave => matches!(standing, System | Themself),
        Operation::StartRoom => matches!(standing, System | Owner),
        Operation::EndRoom => matches!(standing, System | Owner | Host),
        Operation::Kick => match target {
            Some(Role::Participant) => matches!(standing, System | Owner | Host | CoHost),
            Some(Role::CoHost) => matches!(standing, System | Owner | Host),
            Some(Role::Host) | None => false,
        },
    }
}
