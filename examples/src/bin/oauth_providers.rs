//! How do people sign in through Google or GitHub, and who may link what to whom?
//!
//! Shows a new user by provider, an address that links and one that does not, an account that is taken, the last credential
//! that participations, tokens that are encrypted at rest, and a new key that takes over while the old one still opens.

use std::process::ExitCode;

use chrono::DateTime;
use clap::Parser;
use conferencing_store::clock::{Ids, RandomIds};
use conferencing_store::entity::AuthProviderType::{self, GitHub, Google};
use conferencing_store::entity::{Secret, user};
use conferencing_store::{
    Acting, Actor, Error, KeyRing, NewUser, ProviderAccount, ProviderEmail, ProviderProfile, ProviderTokens, Store,
    StoreSettings, TokenKey,
};
use examples::{DatabaseArgs, Sentence, exit, table};

/// Signs people in through external providers, links and unlinks accounts, and keeps their tokens encrypted
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    database: DatabaseArgs,
}

#[tokio::main]
async fn main() -> ExitCode {
    exit("oauth_providers", run(Arguments::parse()).await)
}

async fn run(arguments: Arguments) -> Result<(), Sentence> {
    // A service has its keys from a secret store; these are for show.
    let older = TokenKey::new("example-1", [1; 32])?;
    let store = open(&arguments, KeyRing::new(older.clone(), [])?).await?;
    let tag = RandomIds::default().room_code().to_lowercase();
    let ada = sign_in(&store, &tag).await?;
    link(&store, &ada, &tag).await?;
    tokens(&store, &ada).await?;
    store.close().await?;

    println!("\nA new key");
    let newer = TokenKey::new("example-2", [2; 32])?;
    let store = open(&arguments, KeyRing::new(newer, [older])?).await?;
    show_tokens(&store, &ada, "before").await?;
    let system = store.acting(&Actor::system("maintenance"));
    let mut position = None;
    loop {
        match system.auth_providers().reencrypt_tokens(position, 100).await {
            Ok(moved) => {
                println!("{} accounts are under the new key now", moved.done);
                position = moved.next;
            }
            Err(error @ Error::UnreadableToken { .. }) => {
                println!("left alone, not of this example's keys: {error}");
                break;
            }
            Err(error) => return Err(error.into()),
        }
        if position.is_none() {
            break;
        }
    }
    show_tokens(&store, &ada, "after").await?;
    store.close().await?;
    Ok(())
}

async fn open(arguments: &Arguments, keys: KeyRing) -> Result<Store, Sentence> {
    let settings = StoreSettings {
        token_keys: Some(keys),
        ..StoreSettings::default()
    };
    arguments.database.open(settings).await
}

/// As a provider told it.
fn profile<'a>(
    provider: AuthProviderType,
    id: &'a str,
    email: ProviderEmail<'a>,
    username: &'a str,
) -> ProviderProfile<'a> {
    ProviderProfile {
        provider,
        provider_id: id,
        email: Some(email),
        username,
        display_name: "Ada",
    }
}

async fn sign_in(store: &Store, tag: &str) -> Result<user::Model, Error> {
    let system = store.acting(&Actor::system("auth"));
    let email = format!("ada-{tag}@example.org");
    let (github, google, other) = (format!("gh-{tag}"), format!("go-{tag}"), format!("go2-{tag}"));
    let (name, second) = (format!("ada-{tag}"), format!("ada2-{tag}"));
    let verified = ProviderEmail::Verified(&email);
    let unverified = ProviderEmail::Unverified(&email);
    println!("Signing in");
    let first = profile(GitHub, &github, verified, &name);
    let ada = system.users().sign_in_with_provider(first).await?;
    println!("GitHub, for the first time: {:?}, as {}", ada.how, ada.user.username);
    for (told, profile) in [
        ("GitHub, once more", profile(GitHub, &github, unverified, &name)),
        (
            "Google, which verified the address",
            profile(Google, &google, verified, &second),
        ),
        ("Google, which did not", profile(Google, &other, unverified, &second)),
    ] {
        match system.users().sign_in_with_provider(profile).await {
            Ok(login) => println!("{told}: {:?}, as {}", login.how, login.user.username),
            Err(error @ Error::Conflict(_)) => println!("{told}: {error}"),
            Err(error) => return Err(error),
        }
    }
    Ok(ada.user)
}

async fn link(store: &Store, ada: &user::Model, tag: &str) -> Result<(), Error> {
    println!("\nLinking");
    let new = NewUser {
        username: &format!("ben-{tag}"),
        email: None,
        display_name: "Ben",
        password_hash: Secret::new("$argon2id$v=19$m=19456,t=2,p=1$ZXhhbXBsZXNhbHQ$bm90IGEgcmVhbCBoYXNo"),
    };
    let ben = store.acting(&Actor::anonymous()).users().register(new).await?;
    let by_ben = store.acting(&Actor::user(ben.id));
    let taken = ProviderAccount {
        provider: GitHub,
        provider_id: &format!("gh-{tag}"),
        email: None,
        metadata: None,
    };
    match by_ben.auth_providers().link(ben.id, taken).await {
        Err(error @ Error::Conflict(_)) => println!("Ben links Ada's GitHub account: {error}"),
        other => drop(other?),
    }
    let by_ada = store.acting(&Actor::user(ada.id));
    for way_in in store.auth_providers().list(ada.id).await? {
        match by_ada.auth_providers().unlink(ada.id, way_in.id).await {
            Ok(()) => println!("Ada unlinks {:?}: done", way_in.provider_type),
            Err(Error::Rejected(why)) => println!("Ada unlinks {:?}: {why}", way_in.provider_type),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn tokens(store: &Store, ada: &user::Model) -> Result<(), Error> {
    let by_ada: Acting = store.acting(&Actor::user(ada.id));
    for way_in in store.auth_providers().list(ada.id).await? {
        let tokens = ProviderTokens {
            access_token: Secret::new("ya29.example-access-token"),
            refresh_token: Some(Secret::new("1//example-refresh-token")),
            expires_at: DateTime::from_timestamp(4_000_000_000, 0),
        };
        println!("\nTokens: {tokens:?}");
        by_ada.auth_providers().store_tokens(ada.id, way_in.id, tokens).await?;
    }
    show_tokens(store, ada, "stored").await
}

/// What lies in the table, and what it opens to.
async fn show_tokens(store: &Store, ada: &user::Model, when: &str) -> Result<(), Error> {
    let mut rows = Vec::new();
    for way_in in store.auth_providers().list(ada.id).await? {
        let opened = store.auth_providers().open_tokens(way_in.id).await?;
        let stored = way_in.access_token.as_ref().map(Secret::expose).unwrap_or_default();
        let stored: String = stored.chars().take(32).collect();
        let opened = opened
            .map(|tokens| tokens.access_token.expose().to_owned())
            .unwrap_or_default();
        rows.push(vec![
            format!("{:?}", way_in.provider_type),
            format!("{stored}…"),
            opened,
        ]);
    }
    println!(
        "{}",
        table(&["Account", &format!("In the table, {when}"), "Opened"], rows)
    );
    Ok(())
}
