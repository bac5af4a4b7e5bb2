//! How do people register, sign in and look after their account, and what does the store refuse them?
//!
//! Shows names that compare without case, logins that succeed and fail, a name with two claimants, a changed address that
//! must be verified anew, a deactivated account, and what the audit log keeps of it all.

use std::process::ExitCode;

use clap::Parser;
use conferencing_store::clock::{Ids, RandomIds};
use conferencing_store::entity::{Secret, user};
use conferencing_store::{
    Actor, AuditEvent, Conflict, EmailChange, Error, ExportRecord, NewUser, Observation, ProfileChange, Rejected,
    Store, StoreSettings,
};
use examples::{DatabaseArgs, Sentence, clock_time, exit, table};

/// Registers two people, signs them in and out of trouble, and shows what the store refuses and what it remembers
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    database: DatabaseArgs,
}

#[tokio::main]
async fn main() -> ExitCode {
    exit("users_and_login", run(Arguments::parse()).await)
}

async fn run(arguments: Arguments) -> Result<(), Sentence> {
    let store = arguments.database.open(StoreSettings::default()).await?;
    // Names are unique for ever, so each run has its own.
    let tag = RandomIds::default().room_code().to_lowercase();
    let (ada, ben) = (format!("Ada-{tag}"), format!("ben-{tag}"));
    let ada = register(&store, &ada, &tag).await?;
    let ben = register(&store, &ben, &tag).await?;
    println!("{} and {} have registered", ada.username, ben.username);
    match register(&store, &ada.username.to_uppercase(), "other").await {
        Err(Error::Conflict(Conflict::UsernameTaken)) => println!("{}: taken", ada.username.to_uppercase()),
        other => drop(other?),
    }

    println!("\nSigning in");
    sign_in(&store, &ada.username.to_lowercase(), "correct").await?;
    sign_in(&store, &format!("ADA-{tag}@EXAMPLE.ORG"), "correct").await?;
    sign_in(&store, &ada.username, "wrong").await?;
    sign_in(&store, &format!("nobody-{tag}"), "wrong").await?;

    println!("\nThe account");
    profile(&store, &ada, &ben, &tag).await?;

    println!("\nDeactivated");
    let system = store.acting(&Actor::system("support"));
    system.users().deactivate(ada.id).await?;
    sign_in(&store, &ada.username, "correct").await?;
    let by_ada = store.acting(&Actor::user(ada.id));
    match by_ada.users().reactivate(ada.id).await {
        Err(Error::Rejected(Rejected::UserInactive { .. })) => println!("Ada cannot undo that herself"),
        other => drop(other?),
    }
    system.users().reactivate(ada.id).await?;
    println!("support can");

    tell(&store, &ada).await?;
    store.close().await?;
    Ok(())
}

async fn register(store: &Store, username: &str, tag: &str) -> Result<user::Model, Error> {
    let name = username.split('-').next().unwrap_or(username);
    let new = NewUser {
        username,
        email: Some(&format!("{}-{tag}@example.org", name.to_lowercase())),
        display_name: name,
        // A service hashes the password; the store takes the hash only.
        password_hash: Secret::new("$argon2id$v=19$m=19456,t=2,p=1$ZXhhbXBsZXNhbHQ$bm90IGEgcmVhbCBoYXNo"),
    };
    store.acting(&Actor::anonymous()).users().register(new).await
}

/// A login as a service does it. Whoever tries learns nothing but yes or no.
async fn sign_in(store: &Store, login: &str, password: &str) -> Result<(), Error> {
    let found = store.users().find_for_login(login).await?;
    let local = found.as_ref().and_then(|found| found.providers.first());
    // Here stands the service's hash function; it runs for unknown names too, so that time tells nothing either.
    match (found.as_ref(), local, password == "correct") {
        (Some(found), Some(local), true) => {
            let system = store.acting(&Actor::system("auth"));
            let user = system.users().record_login(found.user.id, local.id).await?;
            let at = user.last_login_at.map(clock_time).unwrap_or_default();
            println!("{login}: welcome, {} ({at})", user.display_name);
        }
        _ => {
            store
                .acting(&Actor::anonymous())
                .users()
                .record_failed_login(login)
                .await?;
            println!("{login}: no");
        }
    }
    Ok(())
}

async fn profile(store: &Store, ada: &user::Model, ben: &user::Model, tag: &str) -> Result<(), Error> {
    let acting = store.acting(&Actor::user(ada.id));
    let address = ada.email.as_deref().unwrap_or_default();
    acting.users().verify_email(ada.id, address).await?;
    println!("{address} is verified");
    let new = format!("lovelace-{tag}@example.org");
    let change = ProfileChange {
        display_name: Some("Ada Lovelace"),
        email: EmailChange::To(&new),
        ..ProfileChange::default()
    };
    let changed = acting.users().update_profile(ada.id, change).await?;
    println!(
        "{} has {new} now; verified: {}",
        changed.display_name, changed.is_verified
    );
    // The link in the mail to the old address comes too late.
    match acting.users().verify_email(ada.id, address).await {
        Err(Error::Rejected(Rejected::EmailNotCurrent { .. })) => println!("{address} is no longer hers to verify"),
        other => drop(other?),
    }
    let taken = ProfileChange {
        username: Some(&ben.username),
        ..ProfileChange::default()
    };
    match acting.users().update_profile(ada.id, taken).await {
        Err(Error::Conflict(which)) => println!("{}: {which}", ben.username),
        other => drop(other?),
    }
    match acting.users().update_profile(ben.id, change).await {
        Err(Error::Rejected(why)) => println!("Ben's profile: {why}"),
        other => drop(other?),
    }
    Ok(())
}

/// What the audit log has about her: by whom, and what.
async fn tell(store: &Store, ada: &user::Model) -> Result<(), Error> {
    use futures_util::TryStreamExt;
    let system = store.acting(&Actor::system("support"));
    let users = system.users();
    let mut records = std::pin::pin!(users.export(ada.id).await?);
    let mut events = Vec::new();
    while let Some(record) = records.try_next().await? {
        if let ExportRecord::Event(entry) = record {
            events.push(entry);
        }
    }
    events.sort_by_key(|entry| (entry.at, entry.id));
    let rows = events.iter().map(|entry| {
        let by = match (entry.actor, &entry.system) {
            (Some(_), _) => "herself",
            (None, Some(system)) => system.as_str(),
            (None, None) => "somebody",
        };
        let details = match &entry.event {
            AuditEvent::Observation(Observation::UserLoginFailed { login, .. }) => login.as_str(),
            _ => "",
        };
        vec![
            clock_time(entry.at),
            by.to_owned(),
            entry.event.action(),
            details.to_owned(),
        ]
    });
    println!("\nWhat the audit_log has about Ada");
    println!("{}", table(&["When", "By", "Action", "Details"], rows));
    Ok(())
}
