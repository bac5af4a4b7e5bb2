//! When people meet: on working days, within working hours, by their own clocks.

use chrono::{DateTime, Datelike, TimeDelta, Utc, Weekday};
use rand::distr::weighted::WeightedIndex;

use crate::random::{self, Chance};

/// How busy each hour of a day is, by the local clock.
const HOURS: [f64; 24] = [
    0.1, 0.0, 0.0, 0.0, 0.0, 0.1, 0.3, 1.0, 4.0, 9.0, 10.0, 8.0, 4.0, 7.0, 9.0, 8.0, 6.0, 4.0, 2.0, 1.0, 1.0, 0.6, 0.4,
    0.2,
];

/// Days, by the local clock.
pub(crate) struct Calendar {
    hours: WeightedIndex<f64>,
    zone: TimeDelta,
}

impl Calendar {
    pub(crate) fn of(zone: i64) -> Self {
        Self {
            hours: random::weighted(HOURS),
            zone: TimeDelta::hours(zone),
        }
    }

    /// How busy a day that begins at `midnight` (UTC) is.
    pub(crate) fn weight(midnight: DateTime<Utc>) -> f64 {
        match midnight.weekday() {
            Weekday::Sat => 0.12,
            Weekday::Sun => 0.08,
            Weekday::Fri => 0.8,
            Weekday::Tue | Weekday::Wed => 1.1,
            _ => 1.0,
        }
    }

    /// A begin on the day from `midnight` on: mostly on the hour or the half, as people do.
    pub(crate) fn begin(&self, midnight: DateTime<Utc>, chance: &mut Chance) -> DateTime<Utc> {
        let hour = i64::try_from(chance.place(&self.hours)).unwrap_or(9);
        let minute = match chance.between(0, 9) {
            0..=4 => 0,
            5..=7 => 30,
            _ => chance.between(1, 59),
        };
        let local = TimeDelta::minutes(hour * 60 + minute) - self.zone;
        // Of those east and west of Greenwich, too, it is within the day of UTC.
        midnight + TimeDelta::minutes(local.num_minutes().rem_euclid(24 * 60))
    }
}

/// How long a meeting is meant to take.
pub(crate) fn length(chance: &mut Chance) -> TimeDelta {
    let minutes = chance.one(&[15, 25, 30, 30, 30, 45, 50, 60, 60, 90]);
    TimeDelta::minutes(minutes)
}
