//! The operations beside each other: all contestants in turns, round by round.

use crate::Scale;
use crate::contestants::{CONNECTIONS, Contestant, Turn, Who};
use crate::measure::{Rounds, header, row};
use crate::operation::Operation;

/// What one contestant made of one row.
#[derive(Default)]
struct Measured {
    rate: Rounds,
    p50: Rounds,
    p99: Rounds,
    failed: bool,
}

impl Measured {
    fn shown(&self, rounds: &Rounds, decimals: usize) -> String {
        if self.failed {
            String::new()
        } else {
            rounds.shown(decimals)
        }
    }
}

const WHO: [Who; 4] = [Who::This, Who::Before, Who::Pgbench, Who::Entities];

pub async fn operations(contestants: &mut [Contestant], asked: &[Operation], scale: Scale) {
    let mut rates = Vec::new();
    let mut times = Vec::new();
    for operation in asked.iter().copied() {
        match contestants[0].sent(operation, scale.depth).await {
            Ok((n, sent)) => {
                let pgbench = contestants.iter_mut().find(|contestant| contestant.who == Who::Pgbench);
                pgbench.unwrap().learn(operation, n, &sent).await;
            }
            Err(failure) => {
                eprintln!("  {}: {failure}", operation.name());
                continue;
            }
        }
        for clients in operation.clients().iter().copied() {
            let turn = Turn {
                operation,
                clients,
                connections: CONNECTIONS,
                millis: scale.millis,
                depth: scale.depth,
            };
            let measured = in_turns(contestants, turn, scale).await;
            let title = format!("{}, {clients} clients", operation.title()).replace(" 1 clients", " 1 client");
            let (rate, time) = rows(&title, &measured);
            eprintln!("  {}", rate.join(" | "));
            rates.push(rate);
            times.push(time);
        }
    }
    header(&[
        "operations/s",
        "this",
        "before",
        "pgbench",
        "entities",
        "this / before",
        "this / pgbench",
        "this / entities",
    ]);
    for cells in rates {
        row(&cells.iter().map(String::as_str).collect::<Vec<_>>());
    }
    header(&["ms, p50 / p99", "this", "before", "pgbench", "entities"]);
    for cells in times {
        row(&cells.iter().map(String::as_str).collect::<Vec<_>>());
    }
}

async fn in_turns(contestants: &mut [Contestant], turn: Turn, scale: Scale) -> [Option<Measured>; 4] {
    let mut measured = WHO.map(|who| {
        let found = contestants.iter().find(|contestant| contestant.who == who);
        found
            .filter(|found| found.takes_part(turn.operation))
            .map(|_| Measured::default())
    });
    for round in 0..=scale.rounds {
        // The first warms up.
        let turn = if round == 0 {
            let millis = turn.millis / 3;
            Turn { millis, ..turn }
        } else {
            turn
        };
        for (who, measured) in WHO.iter().zip(&measured) {
            if measured.is_some() {
                let contestant = contestants.iter_mut().find(|contestant| contestant.who == *who);
                contestant.unwrap().prepare(turn).await;
            }
        }
        for (who, measured) in WHO.iter().zip(&mut measured) {
            let Some(measured) = measured.as_mut().filter(|measured| !measured.failed) else {
                continue;
            };
            let contestant = contestants.iter_mut().find(|contestant| contestant.who == *who);
            match contestant.unwrap().turn(turn).await {
                Ok(_) if round == 0 => {}
                Ok(done) => {
                    measured.rate.push(done.rate());
                    measured.p50.push(done.p50 / 1_000.0);
                    measured.p99.push(done.p99 / 1_000.0);
                }
                Err(failure) => {
                    eprintln!("  {} {}: {failure}", who.name(), turn.operation.name());
                    measured.failed = true;
                }
            }
        }
    }
    measured
}

/// Of the table of rates, and of that of times.
fn rows(title: &str, measured: &[Option<Measured>; 4]) -> (Vec<String>, Vec<String>) {
    let (mut rates, mut times) = (vec![title.to_owned()], vec![title.to_owned()]);
    for one in measured {
        rates.push(one.as_ref().map(|one| one.shown(&one.rate, 0)).unwrap_or_default());
        let time = one.as_ref().filter(|one| !one.failed && one.p50.median() > 0.0);
        times.push(time.map_or(String::new(), |one| {
            format!("{:.2} / {:.2}", one.p50.median(), one.p99.median())
        }));
    }
    for other in &measured[1..] {
        rates.push(match (&measured[0], other) {
            (Some(this), Some(other)) if !this.failed => other.shown(&this.rate.over(&other.rate), 2),
            _ => String::new(),
        });
    }
    (rates, times)
}
