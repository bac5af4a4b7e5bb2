//! Who may do what: one table, which the refusals and the SQL guards both come from.

use entity::ParticipantRole;

/// What an actor asks for. Serialised as in `change_role`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
#[expect(missing_docs, reason = "named after the methods")]
pub enum Operation {
    CreateRoom,
    ManageRoom,
    TransferRoom,
    StartRoom,
    EndRoom,
    Join,
    Leave,
    Kick,
    Ban,
    Unban,
    ChangeRole,
    HandOver,
    Record,
    ManageRecording,
    ProcessRecording,
    ManageAccount,
    EraseAccount,
    RecordLogin,
    ExportAuditLog,
    ArchiveAuditLog,
    PurgeInbox,
    KeepPresence,
}

/// What the actor is to the room, or to the user concerned. An owner who is present counts as the owner.
/// Serialised as in `co_host`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ActorRole {
    /// The system itself.
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
            Self::ManageRoom => "changing a room",
            Self::TransferRoom => "transferring a room",
            Self::StartRoom => "starting a room",
            Self::EndRoom => "ending a room",
            Self::Join => "joining a room",
            Self::Leave => "leaving a room",
            Self::Kick => "a kick",
            Self::Ban => "a ban",
            Self::Unban => "lifting a ban",
            Self::ChangeRole => "a change of role",
            Self::HandOver => "handing over the host role",
            Self::Record => "recording a room",
            Self::ManageRecording => "changing a recording",
            Self::ProcessRecording => "processing a recording",
            Self::ManageAccount => "changing an account",
            Self::EraseAccount => "erasing an account",
            Self::RecordLogin => "recording a login",
            Self::ExportAuditLog => "exporting the audit log",
            Self::ArchiveAuditLog => "archiving part of the audit log",
            Self::PurgeInbox => "purging the inbox",
            Self::KeepPresence => "keeping presence right",
        })
    }
}

impl std::fmt::Display for ActorRole {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::System => "the system",
            Self::Themself => "the user concerned",
            Self::Owner => "the owner",
            Self::Host => "the host",
            Self::CoHost => "a co-host",
            Self::Participant => "a participant",
            Self::Outsider => "somebody from outside",
        })
    }
}

impl From<ParticipantRole> for ActorRole {
    fn from(role: ParticipantRole) -> Self {
        match role {
            ParticipantRole::Host => Self::Host,
            ParticipantRole::CoHost => Self::CoHost,
            ParticipantRole::Participant => Self::Participant,
        }
    }
}

impl ActorRole {
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

    /// The role with this [`ActorRole::code`].
    pub(crate) fn of_code(code: &str) -> Self {
        let known = Self::IN_A_ROOM.into_iter().find(|actor_role| actor_role.code() == code);
        known.unwrap_or(Self::Outsider)
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

/// The table. `target` is the role of the present user that it is done to; none where that user is absent, or where there is none.
///
/// Towards a recording, its own owner counts as the room's owner does.
///
/// Hosts, owners and the actor themself are protected from a kick or a ban beyond this, whoever asks.
///
/// | operation | system | themself | owner | host | co-host | others |
/// |---|---|---|---|---|---|---|
/// | create a room, join, leave, change or erase an account | yes | yes | | | | |
/// | change, transfer, start a room | yes | | yes | | | |
/// | end a room, hand the host role over, change a role, record, lift a ban | yes | | yes | yes | | |
/// | kick or ban a PARTICIPANT, ban somebody absent | yes | | yes | yes | yes | |
/// | kick or ban a CO_HOST | yes | | yes | yes | | |
/// | change a recording | yes | | yes | | | |
/// | process a recording, record a login, export or archive the audit log, purge the inbox, keep presence right (media nodes, sweeps, reconciling) | yes | | | | | |
pub fn may(operation: Operation, actor_role: ActorRole, target: Option<ParticipantRole>) -> bool {
    use ActorRole::{CoHost, Host, Owner, System, Themself};
    use Operation as Op;
    match operation {
        Op::CreateRoom | Op::Join | Op::Leave | Op::ManageAccount | Op::EraseAccount => {
            matches!(actor_role, System | Themself)
        }
        Op::ManageRoom | Op::TransferRoom | Op::StartRoom | Op::ManageRecording => matches!(actor_role, System | Owner),
        Op::EndRoom | Op::HandOver | Op::ChangeRole | Op::Record | Op::Unban => {
            matches!(actor_role, System | Owner | Host)
        }
        Op::Kick | Op::Ban => match target {
            Some(ParticipantRole::Participant) => matches!(actor_role, System | Owner | Host | CoHost),
            None => operation == Op::Ban && matches!(actor_role, System | Owner | Host | CoHost),
            Some(ParticipantRole::CoHost) => matches!(actor_role, System | Owner | Host),
            Some(ParticipantRole::Host) => false,
        },
        Op::ProcessRecording
        | Op::RecordLogin
        | Op::ExportAuditLog
        | Op::ArchiveAuditLog
        | Op::PurgeInbox
        | Op::KeepPresence => actor_role == System,
    }
}
