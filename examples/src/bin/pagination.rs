//! How does a client walk a long list while it grows? Page by page, each from the cursor that the page before gave: newest
//! first and oldest first, over rows that share one time, with rows added between two pages. None is lost, none comes twice.
//!
//! The cursor goes through text, as it would through a URL.

use std::collections::HashSet;
use std::process::ExitCode;

use clap::Parser;
use conferencing_store::entity::{room, user};
use conferencing_store::page::MAX_PAGE_SIZE;
use conferencing_store::{Cursor, Error, NewRoom, Order, PageRequest, RoomFilter};
use examples::{DatabaseArgs, Sentence, Stage, clock_time, exit, print, table};

/// Walks a list of rooms page by page in both directions while somebody adds to it
#[derive(Parser)]
struct Arguments {
    /// Rooms on a page
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_PAGE_SIZE)))]
    page_size: u16,
    #[command(flatten)]
    database: DatabaseArgs,
}

#[tokio::main]
async fn main() -> ExitCode {
    exit("pagination", run(Arguments::parse()).await)
}

async fn run(arguments: Arguments) -> Result<(), Sentence> {
    let mut stage = Stage::open(&arguments.database).await?;
    let ada = stage.register("Ada").await?;
    let mut desk = Desk { stage, ada, made: 0 };
    for _ in 0..3 {
        desk.make().await?;
        desk.stage.pass(1);
    }
    // The clock stands still: a cursor of the time alone would lose some of these, or give some twice.
    for _ in 0..6 {
        desk.make().await?;
    }
    desk.stage.pass(1);
    desk.make().await?;
    print(format_args!(
        "Ada has {} rooms; 4 to 9 were made at one instant.",
        desk.made
    ));

    for (order, note) in [
        (
            Order::NewestFirst,
            "What is added meanwhile lies before the first page, and is seen by the next walk.",
        ),
        (
            Order::OldestFirst,
            "What is added meanwhile lies behind the last page, and is met on the way.",
        ),
    ] {
        desk.walk(order, arguments.page_size).await?;
        print(note);
    }

    let refusal = desk
        .stage
        .refusal("yesterday's page".parse::<Cursor>().map_err(Error::from))?;
    print(format_args!("\nA cursor that is none: {refusal}"));
    let too_large = PageRequest::first(MAX_PAGE_SIZE + 1, Order::OldestFirst);
    let refusal = desk.stage.refusal(too_large.map_err(Error::from))?;
    print(format_args!("A page that is too large: {refusal}"));
    desk.stage.close().await?;
    Ok(())
}

struct Desk {
    stage: Stage,
    ada: user::Model,
    made: usize,
}

impl Desk {
    async fn make(&mut self) -> Result<(), Error> {
        self.made += 1;
        let title = format!("Room {}", self.made);
        let new = NewRoom::titled(self.ada.id, &title);
        self.stage.acting(&self.ada).rooms().create(new).await?;
        Ok(())
    }

    /// Walks to the end; after each of the first pages a room is added.
    async fn walk(&mut self, order: Order, size: u16) -> Result<(), Sentence> {
        let mut seen = Vec::new();
        let mut rows = Vec::new();
        let (before, mut text) = (self.made, None::<String>);
        for number in 1.. {
            let mut page = PageRequest::first(size, order)?;
            if let Some(cursor) = &text {
                page = page.after(cursor.parse()?);
            }
            let got = self
                .stage
                .store
                .rooms()
                .list(RoomFilter::OwnedBy(self.ada.id), &page)
                .await?;
            let first_at = got.items.first().map(|room| clock_time(room.created_at));
            rows.push(vec![
                number.to_string(),
                titles(&got.items),
                first_at.unwrap_or_default(),
                text.unwrap_or_default(),
            ]);
            seen.extend(got.items.into_iter().map(|room| room.title));
            text = got.next.map(|cursor| cursor.to_string());
            if text.is_none() {
                break;
            }
            if number <= 2 {
                self.stage.pass(1);
                self.make().await?;
            }
        }
        let meanwhile = match self.made - before {
            0 => "while nothing is added".to_owned(),
            1 => format!("while room {} is added", self.made),
            _ => format!("while rooms {} to {} are added", before + 1, self.made),
        };
        print(format_args!(
            "
{order:?}, {meanwhile}"
        ));
        print(table(&["Page", "Rooms", "From", "After the cursor"], rows));
        self.check(order, before, &seen)
    }

    fn check(&self, order: Order, before: usize, seen: &[String]) -> Result<(), Sentence> {
        let distinct: HashSet<&String> = seen.iter().collect();
        let expected = match order {
            Order::NewestFirst => before,
            Order::OldestFirst => self.made,
        };
        let lost = (1..=expected).filter(|number| !distinct.contains(&format!("Room {number}")));
        let (lost, doubled) = (lost.count(), seen.len() - distinct.len());
        if lost + doubled > 0 {
            return Err(Sentence::new(format!(
                "{lost} rooms were lost and {doubled} came twice"
            )));
        }
        print(format_args!("{} rooms, none lost, none twice.", seen.len()));
        Ok(())
    }
}

fn titles(rooms: &[room::Model]) -> String {
    let numbers: Vec<&str> = rooms
        .iter()
        .map(|room| room.title.trim_start_matches("Room "))
        .collect();
    numbers.join(" ")
}
