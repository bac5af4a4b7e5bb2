//! The operations that are measured, and what each is asked with.

use sea_orm::{EnumIter, Iterable};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::subject::{CODED_ROOMS, CROWDS, HOT_CROWD, HOT_ROOMS, Input, Kind, OPEN_ROOMS, OWNERS, Pick, Shape, USERS};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EnumIter, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    Register,
    RecordLogin,
    CreateRoom,
    Join,
    FirstJoin,
    HotJoin,
    Leave,
    Kick,
    Ban,
    End,
    ListPresent,
    RoomByCode,
    TrailFirst,
    TrailFirstNamed,
    TrailFar,
    TrailFarNamed,
    Append,
    AppendBatch,
    UsersRooms,
    RecordingStart,
    RecordingStop,
}

pub use Operation::*;

const USER: Input = Input::id("user", Kind::User, Pick::Around(USERS));
const OWNER: Input = Input::id("owner", Kind::User, Pick::Next(USERS));
const OPEN: Input = Input::id("room", Kind::OpenRoom, Pick::Around(OPEN_ROOMS));
const ACROSS: Pick = Pick::Across {
    rooms: OPEN_ROOMS,
    users: USERS,
};

const fn room(kind: Kind) -> Input {
    Input::id("room", kind, Pick::Each)
}

impl Operation {
    /// As it is asked for.
    pub fn name(self) -> String {
        let name = serde_json::to_value(self).unwrap();
        name.as_str().unwrap().to_owned()
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::iter().find(|operation| operation.name() == name)
    }

    /// As the tables call it.
    pub fn title(self) -> &'static str {
        match self {
            Register => "register",
            RecordLogin => "record_login",
            CreateRoom => "create a room",
            Join => "join, many rooms",
            FirstJoin => "first join",
            HotJoin => "join, all one room",
            Leave => "leave",
            Kick => "kick",
            Ban => "ban",
            End => "end, 1,000 present",
            ListPresent => "list 100 present",
            RoomByCode => "room by code, 20 present",
            TrailFirst => "audit page 1",
            TrailFirstNamed => "audit page 1, names",
            TrailFar => "audit page 1,000",
            TrailFarNamed => "audit page 1,000, names",
            Append => "append",
            AppendBatch => "append, writer fed (events)",
            UsersRooms => "a user's rooms",
            RecordingStart => "start a recording",
            RecordingStop => "stop a recording",
        }
    }

    pub fn inputs(self) -> &'static [Input] {
        match self {
            Register => {
                const {
                    &[
                        Input::text("username", "p", "", Pick::Each),
                        Input::text("email", "p", "@example.org", Pick::Each),
                    ]
                }
            }
            RecordLogin => const { &[USER, Input::id("provider", Kind::Provider, Pick::Around(USERS))] },
            CreateRoom => const { &[USER] },
            Join => const { &[OPEN, Input::id("user", Kind::User, ACROSS)] },
            FirstJoin => const { &[room(Kind::NewRoom), USER] },
            HotJoin => {
                const {
                    &[
                        Input::id("room", Kind::HotRoom, Pick::Block(HOT_CROWD)),
                        Input::id("user", Kind::User, Pick::Around(HOT_CROWD)),
                    ]
                }
            }
            Leave => const { &[room(Kind::LeaveRoom), USER] },
            Kick => const { &[room(Kind::KickRoom), USER, OWNER] },
            Ban => const { &[room(Kind::BanRoom), USER, OWNER] },
            End => const { &[room(Kind::EndRoom), OWNER] },
            ListPresent => const { &[Input::id("room", Kind::CrowdRoom, Pick::Around(CROWDS))] },
            RoomByCode => {
                const {
                    &[
                        // The second statement asks by the id that the first one found.
                        Input::text("code", "C", "", Pick::Around(CODED_ROOMS)),
                        Input::id("room", Kind::CodedRoom, Pick::Around(CODED_ROOMS)),
                    ]
                }
            }
            TrailFirst | TrailFirstNamed | TrailFar | TrailFarNamed => &[],
            Append | AppendBatch => const { &[OPEN, Input::id("user", Kind::User, ACROSS)] },
            UsersRooms => const { &[Input::id("user", Kind::User, Pick::Around(OWNERS))] },
            RecordingStart => {
                const {
                    &[
                        OPEN,
                        Input::id("user", Kind::User, ACROSS),
                        Input::text("key", "k", ".mkv", Pick::Each),
                    ]
                }
            }
            RecordingStop => {
                const {
                    &[
                        Input::id("recording", Kind::Recording, Pick::Each),
                        // Which room's lock it takes.
                        OPEN,
                    ]
                }
            }
        }
    }

    fn input(self, name: &str) -> &'static Input {
        let found = self.inputs().iter().find(|input| input.name == name);
        found.expect("the operation is asked with it")
    }

    /// The id that operation number `n` is asked with.
    pub fn id(self, name: &str, n: u64) -> Uuid {
        let input = self.input(name);
        match input.shape {
            Shape::Id(kind) => kind.uuid(input.pick.of(n)),
            Shape::Text(..) => panic!("{name} is no id"),
        }
    }

    pub fn text(self, name: &str, n: u64) -> String {
        self.input(name).value(n)
    }

    /// The rows that it uses up, which have to be made before.
    pub fn uses_up(self) -> Option<Kind> {
        match self {
            FirstJoin => Some(Kind::NewRoom),
            Leave => Some(Kind::LeaveRoom),
            Kick => Some(Kind::KickRoom),
            Ban => Some(Kind::BanRoom),
            End => Some(Kind::EndRoom),
            RecordingStop => Some(Kind::Recording),
            _ => None,
        }
    }

    /// The most in one turn, because the rows take long to make or there are no more.
    pub fn most_in_a_turn(self) -> u64 {
        match self {
            End => 120,
            HotJoin => HOT_ROOMS * HOT_CROWD / 20,
            _ => u64::MAX,
        }
    }

    /// With how many clients it is measured.
    pub fn clients(self) -> &'static [usize] {
        match self {
            HotJoin => &[256],
            AppendBatch => &[16],
            _ => &[1, 16],
        }
    }

    pub fn writes(self) -> bool {
        !matches!(
            self,
            ListPresent | RoomByCode | TrailFirst | TrailFirstNamed | TrailFar | TrailFarNamed | UsersRooms
        )
    }
}
