//! Promise 6, of logs: nothing secret in any record at any level, by this library, SeaORM or the driver, whatever goes wrong.

use std::time::Duration;

use conferencing_store::connect::ConnectSettings;
use conferencing_store::entity::{ParticipantRole::Participant, Secret};
use conferencing_store::{
    Actor, AuditFilter, Error, NewRoom, NewUser, Observation, Order, PageRequest, Store, StoreSettings, WriterSettings,
};

use crate::collector::Looking;
use crate::harness::{Backend, Raw, TestDb, settings};

crate::cases![
    nothing_secret_is_logged_when_all_is_well,
    nothing_secret_is_logged_when_the_database_refuses,
    nothing_secret_is_logged_when_connecting_fails,
];

const MARKERS: [&str; 7] = [
    "203.0.113.7",
    "PASSWORDMARK",
    "HASHMARK",
    "TOKENMARK",
    "addressmark",
    "namemark",
    "reasonmark",
];
const HASH: &str = "$argon2id$v=19$m=19456,t=2,p=1$U0FMVA$HASHMARK";

fn new_user(name: &str) -> NewUser<'_> {
    NewUser {
        email: Some("addressmark@mail.example"),
        ..NewUser::named(name, "Mrs namemark", Secret::new(HASH))
    }
}

/// The database's address, with a password in it: the server of the tests asks for none, and takes any.
fn with_password(db: &TestDb) -> String {
    let url = db.service_url();
    match url.split_once("://") {
        Some((scheme, rest)) if db.backend == Backend::Postgres => {
            let (authority, place) = rest.split_once('/').unwrap();
            let (user, host) = authority.rsplit_once('@').unwrap_or(("postgres", authority));
            let user = user.split(':').next().unwrap();
            format!("{scheme}://{user}:PASSWORDMARK@{host}/{place}")
        }
        _ => url,
    }
}

fn assert_nothing_secret(looking: &Looking) {
    for record in looking.records() {
        for marker in MARKERS {
            assert!(!record.contains(marker), "{record}");
        }
    }
}

/// Something of each of these was logged at all: else nothing has been shown.
fn assert_logged_by(looking: &Looking, targets: &[&str]) {
    let records = looking.records();
    for target in targets {
        assert!(
            records.iter().any(|record| record.starts_with(target)),
            "nothing by {target}"
        );
    }
}

async fn everything(store: &Store) {
    let system = store.acting(&Actor::system("test"));
    let user = system.users().register(new_user("namemark")).await.unwrap();
    store.users().find_for_login("namemark").await.unwrap().unwrap();
    store
        .users()
        .find_for_login("addressmark@mail.example")
        .await
        .unwrap()
        .unwrap();
    let room = system
        .rooms()
        .create(NewRoom::titled(user.id, "A namemark"))
        .await
        .unwrap();
    system.participants().join(room.id, user.id, Participant).await.unwrap();
    let guest = system
        .users()
        .register(NewUser::named("guest", "guest", Secret::new(HASH)))
        .await
        .unwrap();
    system
        .participants()
        .join(room.id, guest.id, Participant)
        .await
        .unwrap();
    let owner = store.acting(&Actor::user(user.id).from_address("203.0.113.7".parse().unwrap()));
    owner
        .participants()
        .kick(room.id, guest.id, Some("reasonmark"))
        .await
        .unwrap();
    let again = system.users().register(new_user("namemark")).await.unwrap_err();
    assert!(matches!(again, Error::Conflict(_)), "{again:?}");
    let spoilt: Result<(), Error> = store
        .transact(&Actor::system("test"), |unit| async move {
            unit.users()
                .register(NewUser::named("other", "namemark", Secret::new(HASH)))
                .await?;
            unit.users().register(new_user("namemark")).await.map(drop)
        })
        .await;
    assert!(spoilt.is_err());
    let writer = store.audit_writer(WriterSettings::default()).unwrap();
    writer
        .append(&Actor::user(user.id), Some(room.id), Observation::ScreenShareStarted {})
        .await
        .unwrap();
    writer.close().await;
    let page = PageRequest::first(10, Order::NewestFirst).unwrap();
    store
        .audit()
        .list_with_names(&AuditFilter::default(), &page)
        .await
        .unwrap();
    store.health().await.unwrap();
}

async fn nothing_secret_is_logged_when_all_is_well(db: TestDb) {
    let looking = Looking::begin();
    let store = Store::connect_with(&with_password(&db), settings()).await.unwrap();
    everything(&store).await;
    store.close().await.unwrap();
    assert_logged_by(&looking, &["sea_orm::"]);
    assert_nothing_secret(&looking);
}

/// The database says more than it is asked, in errors and beside them. (Not by RAISE INFO, which no setting keeps from the client.)
async fn talk_of_users(raw: &Raw, backend: Backend) {
    raw.run(match backend {
        Backend::Sqlite => {
            "CREATE TRIGGER by_hand BEFORE INSERT ON users BEGIN SELECT RAISE(ABORT, 'refused by hand'); END"
        }
        Backend::Postgres => {
            "CREATE FUNCTION by_hand() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                RAISE LOG 'row: %', NEW; RAISE NOTICE 'row: %', NEW; RAISE WARNING 'row: %', NEW;
                RAISE EXCEPTION 'refused by hand' USING DETAIL = 'row: ' || NEW::text, HINT = NEW.password_hash; END $$;
             CREATE TRIGGER by_hand BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION by_hand()"
        }
    })
    .await;
}

async fn nothing_secret_is_logged_when_the_database_refuses(db: TestDb) {
    let looking = Looking::begin();
    let store = Store::connect_with(&with_password(&db), settings()).await.unwrap();
    let system = Actor::system("test");
    let made = store
        .acting(&system)
        .users()
        .register(new_user("namemark"))
        .await
        .unwrap();
    let raw = db.raw().await;
    talk_of_users(&raw, db.backend).await;
    let other = || NewUser::named("other", "namemark", Secret::new(HASH));
    store.acting(&system).users().register(other()).await.unwrap_err();
    let unit = store.begin(&system).await.unwrap();
    unit.users().register(other()).await.unwrap_err();
    unit.commit().await.unwrap_err();
    raw.run(match db.backend {
        Backend::Sqlite => {
            "PRAGMA ignore_check_constraints = ON; UPDATE users SET created_at = password_hash;
             PRAGMA ignore_check_constraints = OFF"
        }
        Backend::Postgres => "ALTER TABLE users ALTER COLUMN created_at TYPE text USING password_hash",
    })
    .await;
    let fresh = Store::connect_with(&with_password(&db), settings()).await.unwrap();
    let unreadable = fresh.users().find(made.id).await.unwrap_err();
    assert!(matches!(unreadable, Error::Corrupt { .. }), "{unreadable:?}");
    raw.run("DROP TABLE auth_providers").await;
    fresh.users().find_for_login("namemark").await.unwrap_err();
    assert_logged_by(&looking, &["sea_orm::"]);
    assert_nothing_secret(&looking);
}

async fn nothing_secret_is_logged_when_connecting_fails(db: TestDb) {
    let looking = Looking::begin();
    let impatient = StoreSettings {
        connect: ConnectSettings {
            acquire_timeout: Duration::from_millis(200),
            ..ConnectSettings::default()
        },
        ..settings()
    };
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = closed.local_addr().unwrap();
    drop(closed);
    let mut urls = vec![
        format!("postgres://ada:PASSWORDMARK@{place}/meet"),
        format!("postgres://ada:PASSWORDMARK@[{place}/meet"),
        format!("postgres://{place}/meet?user=ada&password=PASSWORDMARK"),
        format!("postgres://ada:PASSWORDMARK@{place}/meet?PASSWORDMARK=PASSWORDMARK@"),
        format!("postgres://ada:PASSWORDMARK@{place}/meet?passwd=PASSWORDMARK"),
        format!("postgres://ada:PASSWORDMARK@{place}/meet?lock_timeout=PASSWORDMARK"),
        format!("postgres://ada:PASSWORDMARK@{place}/meet?sslmode=PASSWORDMARK"),
        format!("postgres://ada:1?PASSWORDMARK@{place}/meet"),
        "sqlite://no/such/folder/meet.sqlite?mode=PASSWORDMARK".to_owned(),
        "sqlite://no/such/folder/meet.sqlite?key=PASSWORDMARK".to_owned(),
    ];
    if db.backend == Backend::Postgres {
        let (server, _) = with_password(&db)
            .rsplit_once('/')
            .map(|(s, n)| (s.to_owned(), n.to_owned()))
            .unwrap();
        urls.push(format!("{server}/no_such_database"));
    }
    for url in &urls {
        let error = Store::connect_with(url, impatient.clone()).await.unwrap_err();
        assert!(
            matches!(error, Error::Address { .. } | Error::Unreachable { .. }),
            "{error:?}"
        );
        let text = format!("{error} {error:?}");
        assert!(!text.contains("PASSWORDMARK"), "{text}");
    }
    assert_nothing_secret(&looking);
}
