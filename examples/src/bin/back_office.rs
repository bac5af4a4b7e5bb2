//! What does somebody ask who answers a user's letter? Who is this, where were they and with whom, who banned them and does it stand, who tried to
//! sign in as them; and how much the platform is used. Each is one statement, page by page; docs/BACK_OFFICE.md has what it costs.

use std::process::ExitCode;

use chrono::{Days, TimeDelta};
use clap::Parser;
use conferencing_store::entity::{ParticipantRole, room, user};
use conferencing_store::{LoginOutcome, NewRoom, Order, PageRequest, RoomFilter, UserSearch};
use examples::{DatabaseArgs, Sentence, Stage, clock_time, exit, length, print, table};

/// Plays a day of meetings by a script, and then looks at it as a back office does
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    database: DatabaseArgs,
}

#[tokio::main]
async fn main() -> ExitCode {
    exit("back_office", run(Arguments::parse()).await)
}

const PEOPLE: [&str; 4] = ["Ada", "Ben", "Cleo", "Dora"];

async fn run(arguments: Arguments) -> Result<(), Sentence> {
    let mut stage = Stage::open(&arguments.database).await?;
    let mut people = Vec::new();
    for name in PEOPLE {
        people.push(stage.register(name).await?);
    }
    let rooms = play(&stage, &people).await?;
    find(&stage, &people[1]).await?;
    who_was_there(&stage, &rooms, &people).await?;
    bans(&stage, &people).await?;
    logins(&stage, &people[1]).await?;
    use_of_the_platform(&stage).await?;
    stage.close().await?;
    Ok(())
}

fn page() -> Result<PageRequest, Sentence> {
    Ok(PageRequest::first(20, Order::OldestFirst)?)
}

/// Two meetings of Ada's, one of which goes on; Ben is put out of the other and comes to this one. Somebody guesses his password.
async fn play(stage: &Stage, people: &[user::Model]) -> Result<Vec<room::Model>, Sentence> {
    let ada = stage.acting(&people[0]);
    let mut rooms = Vec::new();
    for title in ["Stand-up", "Design review"] {
        let room = ada.rooms().create(NewRoom::titled(people[0].id, title)).await?;
        for user in &people[..3] {
            let joining = stage.acting(user);
            let role = ParticipantRole::Participant;
            joining.participants().join(room.id, user.id, role).await?;
            stage.pass(5);
        }
        let until = Some(stage.now() + TimeDelta::minutes(20));
        if rooms.is_empty() {
            ada.participants()
                .ban(room.id, people[1].id, Some("noise"), until)
                .await?;
            ada.participants().ban(room.id, people[3].id, None, None).await?;
            stage.pass(10);
            ada.rooms().end(room.id).await?;
        }
        rooms.push(room);
    }
    let gateway = stage.store.acting(&conferencing_store::Actor::anonymous());
    for _ in 0..2 {
        gateway.users().record_failed_login(&people[1].username).await?;
        stage.pass(1);
    }
    Ok(rooms)
}

async fn find(stage: &Stage, ben: &user::Model) -> Result<(), Sentence> {
    // As it is typed: whatever the case, and not to the end.
    let typed = ben.username[..ben.username.len() - 3].to_uppercase();
    let found = stage
        .store
        .users()
        .search(&UserSearch::username(typed), &page()?)
        .await?;
    let rows = found
        .items
        .iter()
        .map(|user| vec![user.display_name.clone(), clock_time(user.created_at)]);
    print("Users whose name begins like that of the letter");
    print(table(&["Who", "Registered"], rows));
    Ok(())
}

async fn who_was_there(stage: &Stage, rooms: &[room::Model], people: &[user::Model]) -> Result<(), Sentence> {
    let store = &stage.store;
    // The newest first: those of this run.
    let newest = PageRequest::first(20, Order::NewestFirst)?;
    let live = store.rooms().list(RoomFilter::Live, &newest).await?;
    let own = live
        .items
        .iter()
        .filter(|room| rooms.iter().any(|own| own.id == room.id));
    let rows = own.map(|room| vec![room.title.clone(), room.active_participants.to_string()]);
    print("\nLive rooms, private ones too");
    print(table(&["Room", "Present"], rows));

    let beginning = stage.now() - TimeDelta::hours(1);
    let at = people[0].created_at + TimeDelta::minutes(6);
    let there = store.participants().present_at(rooms[0].id, at, &page()?).await?;
    let rows = there.items;
    let rows = rows
        .iter()
        .map(|seat| vec![seat.user.display_name.clone(), clock_time(seat.participant.joined_at)]);
    print("\nWho was in the Stand-up when it was six minutes old");
    print(table(&["Who", "Since"], rows));

    let stays = store
        .participants()
        .stays_of(people[1].id, beginning..stage.now(), &page()?)
        .await?;
    let rows = stays.items.iter().map(|stay| {
        let left = stay.participant.left_at.map_or("still there".to_owned(), clock_time);
        vec![stay.room.title.clone(), clock_time(stay.participant.joined_at), left]
    });
    print("\nWhere Ben was");
    print(table(&["Room", "From", "To"], rows));
    Ok(())
}

async fn bans(stage: &Stage, people: &[user::Model]) -> Result<(), Sentence> {
    let bans = stage.store.participants().bans_by(people[0].id, &page()?).await?;
    let rows = bans.items.iter().map(|ban| {
        let reason = ban.participant.ban_reason.clone().unwrap_or_default();
        vec![
            ban.user.display_name.clone(),
            ban.room.title.clone(),
            reason,
            format!("{:?}", ban.state),
        ]
    });
    print("\nWhom Ada banned");
    print(table(&["Who", "From", "Why", "What became of it"], rows));
    stage.pass(30);
    let of_ben = stage.store.participants().bans_of(people[1].id, &page()?).await?;
    for ban in of_ben.items {
        print(format_args!("Half an hour later Ben's is {:?}", ban.state));
    }
    Ok(())
}

async fn logins(stage: &Stage, ben: &user::Model) -> Result<(), Sentence> {
    let newest = PageRequest::first(20, Order::NewestFirst)?;
    let logins = stage.store.users().logins(ben.id, &newest).await?;
    let rows = logins.items.iter().map(|login| {
        let how = match &login.outcome {
            LoginOutcome::Succeeded { provider } => format!("signed in, {provider:?}"),
            LoginOutcome::Failed { .. } => "failed".to_owned(),
            other => format!("{other:?}"),
        };
        vec![clock_time(login.at), how]
    });
    print("\nWho tried to be Ben");
    print(table(&["When", "What"], rows));
    Ok(())
}

/// Of what this and other runs have left in the database.
async fn use_of_the_platform(stage: &Stage) -> Result<(), Sentence> {
    let today = stage.now().date_naive();
    let (statistics, tomorrow) = (stage.store.statistics(), today + Days::new(1));
    let days = statistics.daily(today - Days::new(1)..tomorrow).await?;
    let busiest = statistics
        .busiest_rooms(stage.now() - TimeDelta::days(1)..stage.now(), 5)
        .await?;
    let of_today = days.last().ok_or_else(|| Sentence::new("there is no today"))?;
    print(format_args!(
        "\nToday: meetings begun, people, joins and minutes are {}",
        if of_today.meetings >= 2
            && of_today.distinct_participants >= 3
            && of_today.joins >= 6
            && of_today.minutes() > 0
        {
            "counted"
        } else {
            "missing"
        }
    ));
    let longest = busiest.first().map_or(0, |busy| busy.total_participation.num_seconds());
    print(format_args!(
        "The busiest room was used for {} by all together",
        length(longest)
    ));
    Ok(())
}
