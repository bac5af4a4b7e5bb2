//! Who there is: made whole before anything is played, because names are unique on the platform.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use chrono::{DateTime, TimeDelta, Utc};
use conferencing_store::entity::AuthProviderType;
use rand::distr::weighted::WeightedIndex;

use crate::names;
use crate::random::{self, Chance};
use crate::settings::SeedSettings;

/// How somebody's account ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parting {
    Deactivated,
    /// Deactivated, and back after some days.
    Paused,
    Erased,
}

/// Somebody, before they register.
#[derive(Clone, Debug)]
pub(crate) struct Person {
    pub(crate) username: String,
    pub(crate) email: String,
    pub(crate) display_name: String,
    /// How they sign in: `Local` is by password.
    pub(crate) provider: AuthProviderType,
    pub(crate) address: IpAddr,
    pub(crate) user_agent: &'static str,
    pub(crate) registers: DateTime<Utc>,
    /// When their account ends, if it does.
    pub(crate) parts: Option<(DateTime<Utc>, Parting)>,
}

impl Person {
    /// Whether they can be in a meeting of that time.
    pub(crate) fn is_around(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> bool {
        self.registers < from && self.parts.is_none_or(|(at, _)| to + TimeDelta::days(1) < at)
    }
}

/// People who meet one another, and nobody else.
pub(crate) struct Organisation {
    pub(crate) number: u32,
    /// `maple`, or `maple-2`.
    pub(crate) name: String,
    /// Hours from UTC.
    pub(crate) zone: i64,
    /// The busiest first.
    pub(crate) people: Vec<Person>,
}

/// All of them. The share of each in all that happens is by its rank, too.
pub(crate) fn organisations(settings: &SeedSettings) -> Vec<Organisation> {
    let count = settings.organisations();
    let mut chance = Chance::new(settings.seed, &[random::PEOPLE]);
    let mut taken = HashMap::new();
    let all = names::ORGANISATIONS.len();
    (0..count)
        .map(|number| {
            let place = usize::try_from(number).unwrap_or(0);
            let plain = names::ORGANISATIONS[place % all];
            let name = match place / all {
                0 => plain.to_owned(),
                round => format!("{plain}-{}", round + 1),
            };
            let share = settings.people() / count + u32::from(number < settings.people() % count);
            let people = (0..share).map(|_| person(settings, &name, &mut chance, &mut taken));
            Organisation {
                number,
                zone: names::ZONES[place % names::ZONES.len()],
                people: people.collect(),
                name,
            }
        })
        .collect()
}

/// The share of each organisation.
pub(crate) fn shares(count: u32) -> Vec<f64> {
    let weights = (0..count).map(|rank| 1.0 / f64::from(rank + 4).sqrt());
    let whole: f64 = weights.clone().sum();
    weights.map(|weight| weight / whole).collect()
}

/// By whom meetings are held and attended.
pub(crate) fn activity(count: usize) -> WeightedIndex<f64> {
    random::by_rank(count, 6.0, 0.8)
}

fn person(
    settings: &SeedSettings,
    organisation: &str,
    chance: &mut Chance,
    taken: &mut HashMap<String, u32>,
) -> Person {
    let (given, family) = (chance.one(names::GIVEN), chance.one(names::FAMILY));
    let plain = username(given, family);
    let number = taken.entry(plain.clone()).or_default();
    *number += 1;
    // Another run that adds to a database has other names.
    let tag = if settings.append {
        format!("-{}", settings.seed)
    } else {
        String::new()
    };
    let username = match *number {
        1 => format!("{plain}{tag}"),
        number => format!("{plain}{number}{tag}"),
    };
    let providers = [
        AuthProviderType::Local,
        AuthProviderType::Local,
        AuthProviderType::Local,
        AuthProviderType::Google,
        AuthProviderType::GitHub,
        AuthProviderType::Microsoft,
        AuthProviderType::Saml,
    ];
    let minutes = i64::from(settings.days) * 24 * 60;
    let early = chance.hit(0.7);
    let registers =
        settings.since() + TimeDelta::minutes(chance.between(1, if early { 360 } else { minutes * 7 / 10 }));
    let parts = chance.hit(0.04).then(|| {
        let at = settings.since() + TimeDelta::minutes(chance.between(minutes * 75 / 100, minutes * 98 / 100));
        (
            at,
            chance.one(&[Parting::Deactivated, Parting::Paused, Parting::Erased]),
        )
    });
    Person {
        email: format!("{username}@{organisation}.example"),
        username,
        display_name: format!("{given} {family}"),
        provider: chance.one(&providers),
        address: address(chance),
        user_agent: chance.one(names::USER_AGENTS),
        registers,
        parts,
    }
}

/// Small letters and a dot, without accents and apostrophes.
fn username(given: &str, family: &str) -> String {
    let plain = |c: char| match c {
        'ë' => 'e',
        'í' => 'i',
        'á' => 'a',
        'ó' => 'o',
        other => other,
    };
    let letters = format!("{given}.{family}").to_lowercase();
    letters
        .chars()
        .map(plain)
        .filter(|c| c.is_ascii_alphabetic() || *c == '.')
        .collect()
}

/// Of the networks that documentation may use.
fn address(chance: &mut Chance) -> IpAddr {
    let byte = |chance: &mut Chance| u8::try_from(chance.between(1, 254)).unwrap_or(1);
    if chance.hit(0.2) {
        let (a, b) = (u16::from(byte(chance)), u16::from(byte(chance)));
        return Ipv6Addr::new(0x2001, 0xdb8, 0, a, 0, 0, 0, b).into();
    }
    let network = chance.one(&[[192, 0, 2], [198, 51, 100], [203, 0, 113]]);
    Ipv4Addr::new(network[0], network[1], network[2], byte(chance)).into()
}
