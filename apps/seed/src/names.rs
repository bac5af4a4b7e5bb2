//! What people, organisations, meetings and reasons are called. All of it is made up; addresses are those that documentation may use.

pub(crate) const GIVEN: &[&str] = &[
    "Ada", "Ben", "Chidi", "Dana", "Elif", "Farid", "Grace", "Hana", "Ines", "Jonas", "Kaja", "Liam", "Mei", "Noor",
    "Olga", "Pablo", "Quinn", "Rosa", "Samir", "Tove", "Uma", "Viktor", "Wanjiru", "Ximena", "Yusuf", "Zoë", "Anil",
    "Bruna", "Carlos", "Dmitri", "Emeka", "Freya", "Giulia", "Hiro", "Ivana", "Jamal", "Kim", "Lucía", "Marek",
    "Nadia", "Omar", "Priya", "Ravi", "Siobhán", "Tariq", "Ulla", "Vera", "Wei", "Yara", "Zane",
];

pub(crate) const FAMILY: &[&str] = &[
    "Lovelace",
    "Okafor",
    "Brandt",
    "Castillo",
    "Demir",
    "Eriksen",
    "Fontaine",
    "Garcia",
    "Haddad",
    "Ivanova",
    "Jansen",
    "Kowalski",
    "Larsen",
    "Moreau",
    "Nguyen",
    "O'Neill",
    "Petrov",
    "Quispe",
    "Rossi",
    "Schneider",
    "Tanaka",
    "Ueda",
    "Varga",
    "Weber",
    "Xu",
    "Yilmaz",
    "Zhang",
    "Almeida",
    "Bakker",
    "Chen",
    "Dubois",
    "Esposito",
    "Farah",
    "Gupta",
    "Hansen",
    "Iqbal",
    "Joshi",
    "Kimura",
    "Lindqvist",
    "Mbeki",
    "Novak",
    "Olsen",
    "Park",
    "Ruiz",
    "Sato",
    "Toivonen",
    "Urban",
    "Vega",
    "Wójcik",
    "Zapata",
];

/// The first part of an organisation's name and address.
pub(crate) const ORGANISATIONS: &[&str] = &[
    "alder", "birch", "cedar", "dogwood", "elm", "fir", "ginkgo", "hazel", "ironwood", "juniper", "kauri", "larch",
    "maple", "nutmeg", "oak", "pine", "quince", "rowan", "spruce", "teak", "umber", "viburnum", "willow", "yew",
];

/// Where an organisation is, as hours before or after UTC: working hours are local.
pub(crate) const ZONES: &[i64] = &[1, -5, 0, 2, 1, 9, -8, 5, 8, -3];

pub(crate) const MEETINGS: &[&str] = &[
    "Weekly planning",
    "Design review",
    "Stand-up",
    "Customer call",
    "Incident review",
    "Hiring panel",
    "Budget",
    "Roadmap",
    "Retrospective",
    "Research sync",
    "Release readiness",
    "Onboarding",
    "Security clinic",
    "Office hours",
    "Architecture forum",
    "Sales pipeline",
    "Support hand-over",
    "Data working group",
    "Quarterly goals",
    "Coffee",
];

pub(crate) const LARGE_MEETINGS: &[&str] = &["All hands", "Town hall", "Product demo", "Training", "Guest lecture"];

pub(crate) const DESCRIPTIONS: &[&str] = &[
    "Agenda is in the shared document.",
    "Bring one topic each.",
    "Recorded for those who cannot come.",
    "Decisions only, please.",
];

pub(crate) const KICK_REASONS: &[&str] = &[
    "echo, please reconnect",
    "left the microphone open",
    "wrong meeting",
    "two devices at once",
    "asked to leave",
];

pub(crate) const BAN_REASONS: &[&str] = &[
    "disruptive",
    "shared the link in public",
    "spam in the chat",
    "ignored the moderator",
];

pub(crate) const FAILURES: &[&str] = &[
    "the recorder ran out of disk space",
    "no media for 60 s",
    "transcoding failed: corrupt segment",
    "upload was interrupted",
];

pub(crate) const USER_AGENTS: &[&str] = &[
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/19.0 Safari/605.1.15",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/146.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Linux; Android 16; Pixel 9) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/146.0.0.0 Mobile Safari/537.36",
    "conferencing-ios/5.2 (iPhone; iOS 20.1)",
];
