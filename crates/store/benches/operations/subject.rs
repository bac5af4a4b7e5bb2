//! What operations are done to. Which rows those are follows from a number, so that a client of any kind can work them out by
//! itself.

use uuid::Uuid;

/// Users that are there from the beginning.
pub const USERS: u64 = 20_000;
/// Rooms that are live from the beginning, with seats for everybody.
pub const OPEN_ROOMS: u64 = 2_000;
/// Users who come into a room that all clients want to get into, before it is the next room's turn.
pub const HOT_CROWD: u64 = 10_000;
pub const HOT_ROOMS: u64 = 50;
/// Rooms whose present are listed, and how many those are.
pub const CROWDS: u64 = 50;
pub const CROWD: u64 = 100;
/// Rooms that are found by their code, and how many are present there.
pub const CODED_ROOMS: u64 = 200;
pub const CODED_CROWD: u64 = 20;
/// Users whose rooms are listed, and how many each has.
pub const OWNERS: u64 = 200;
pub const OWNED: u64 = 30;
/// How many are present in a room that is ended.
pub const ENDED_CROWD: u64 = 1_000;

/// A set of rows with ids of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    User = 1,
    Provider,
    OpenRoom,
    NewRoom,
    HotRoom,
    /// A room with one present, who leaves; is kicked; is banned.
    LeaveRoom,
    KickRoom,
    BanRoom,
    /// A room with many present.
    EndRoom,
    CrowdRoom,
    CodedRoom,
    OwnedRoom,
    Recording,
    /// Room 0 has the audit log that is read; the others have as much together.
    TrailRoom,
    Event,
}

/// Added to a kind of room: the seats in it.
pub const SEATS: u16 = 0x100;

impl Kind {
    const fn prefix(number: u16) -> u128 {
        (0x7000_8000 | number as u128) << 48
    }

    pub fn uuid(self, index: u64) -> Uuid {
        Uuid::from_u128(Self::prefix(self as u16) | u128::from(index))
    }

    /// The same id as SQL; `index` is SQL for a number.
    pub fn sql(self, index: &str) -> String {
        id_sql(self as u16, index)
    }
}

pub fn id_sql(number: u16, index: &str) -> String {
    let text = Uuid::from_u128(Kind::prefix(number)).to_string();
    let (lead, _) = text.rsplit_once('-').unwrap();
    format!("CAST('{lead}-' || lpad(to_hex(CAST({index} AS bigint)), 12, '0') AS uuid)")
}

/// Which row of a set the operation number n takes.
#[derive(Clone, Copy, Debug)]
pub enum Pick {
    /// Each row once.
    Each,
    /// One after the other, again and again.
    Around(u64),
    /// As `Around`, one further.
    Next(u64),
    /// Beside `Around(rooms)`: no pair comes twice, and neighbours have no row in common.
    Across { rooms: u64, users: u64 },
    /// The same for so many operations.
    Block(u64),
}

impl Pick {
    pub fn of(self, n: u64) -> u64 {
        match self {
            Self::Each => n,
            Self::Around(count) => n % count,
            Self::Next(count) => (n + 1) % count,
            Self::Across { rooms, users } => (n + n / rooms) % users,
            Self::Block(size) => n / size,
        }
    }

    /// As an expression of pgbench.
    fn expression(self) -> String {
        match self {
            Self::Each => ":n".to_owned(),
            Self::Around(count) => format!(":n % {count}"),
            Self::Next(count) => format!("(:n + 1) % {count}"),
            Self::Across { rooms, users } => format!("(:n + :n / {rooms}) % {users}"),
            Self::Block(size) => format!(":n / {size}"),
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub enum Shape {
    Id(Kind),
    /// What stands before and after the number.
    Text(&'static str, &'static str),
}

/// A value that an operation is asked with.
#[derive(Clone, Copy, Debug)]
pub struct Input {
    pub name: &'static str,
    pub shape: Shape,
    pub pick: Pick,
}

impl Input {
    pub const fn id(name: &'static str, kind: Kind, pick: Pick) -> Self {
        let shape = Shape::Id(kind);
        Self { name, shape, pick }
    }

    pub const fn text(name: &'static str, before: &'static str, after: &'static str, pick: Pick) -> Self {
        let shape = Shape::Text(before, after);
        Self { name, shape, pick }
    }

    /// As the server's log shows it.
    pub fn value(&self, n: u64) -> String {
        let index = self.pick.of(n);
        match self.shape {
            Shape::Id(kind) => kind.uuid(index).to_string(),
            Shape::Text(before, after) => format!("{before}{index}{after}"),
        }
    }

    /// Sets the variable that [`Input::sql`] reads.
    pub fn pgbench_set(&self) -> String {
        format!("\\set x_{} {}", self.name, self.pick.expression())
    }

    pub fn sql(&self) -> String {
        let variable = format!(":x_{}", self.name);
        match self.shape {
            Shape::Id(kind) => kind.sql(&variable),
            Shape::Text(before, after) => format!("('{before}' || CAST({variable} AS bigint) || '{after}')"),
        }
    }
}
