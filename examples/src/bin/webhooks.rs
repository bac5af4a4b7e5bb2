//! A media server's webhooks, delivered as they are in life: some twice, some a minute late, in any order. What is left is what is left of
//! the same meeting when each comes once and in time.
//!
//! How a webhook is acted on is in `examples/src/webhooks/mod.rs`.

use std::process::ExitCode;

use clap::Parser;
use examples::webhooks::{EndState, Meeting, delivered_badly, in_the_right_order};
use examples::{DatabaseArgs, Sentence, Stage, exit, print, table};
use rand::SeedableRng;
use rand::rngs::StdRng;

/// Plays a meeting with its webhooks in order, and shuffled, late and doubled
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    database: DatabaseArgs,
    /// How often to play it with bad deliveries
    #[arg(long, default_value_t = 20)]
    rounds: u32,
    /// What the deliveries are drawn from
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    exit("webhooks", run(Arguments::parse()).await)
}

async fn run(arguments: Arguments) -> Result<(), Sentence> {
    let mut stage = Stage::open(&arguments.database).await?;
    let users = [
        stage.register("Ada").await?.id,
        stage.register("Ben").await?.id,
        stage.register("Cleo").await?.id,
    ];

    print("1. Each webhook once, and in time");
    let mut meeting = Meeting::prepare(&stage.store, stage.clock(), users).await?;
    let expected = meeting.play(&in_the_right_order()).await?;
    show(&stage, &expected);

    print(format_args!("2. {} times delivered badly", arguments.rounds));
    let mut random = StdRng::seed_from_u64(arguments.seed);
    let mut deliveries = (0, 0);
    for round in 1..=arguments.rounds {
        let mut meeting = Meeting::prepare(&stage.store, stage.clock(), users).await?;
        let left = meeting.play(&delivered_badly(&mut random)).await?;
        if left != expected {
            return Err(Sentence::new(format!("round {round} left something else: {left:?}")));
        }
        deliveries.0 += meeting.deliveries.0;
        deliveries.1 += meeting.deliveries.1;
    }
    print(format_args!(
        "   {} deliveries taken in, {} had been before: the same is left each time",
        deliveries.0, deliveries.1
    ));
    stage.close().await?;
    Ok(())
}

/// Times in seconds from the beginning.
fn show(stage: &Stage, left: &EndState) {
    let time = |at: Option<i64>| at.map_or_else(|| "still there".to_owned(), |at| at.to_string());
    let stays = left
        .stays
        .iter()
        .map(|(user, from, to, _)| vec![stage.name(user).to_owned(), from.to_string(), time(*to)]);
    print(table(&["who", "from", "to"], stays));
    let recordings = left
        .recordings
        .iter()
        .map(|(file, status, from, to, ..)| vec![file.clone(), format!("{status:?}"), from.to_string(), time(*to)]);
    print(table(&["file", "status", "from", "to"], recordings));
}
