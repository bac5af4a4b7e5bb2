//! Finding users by the beginning of a name or an address, listing them, and their logins.

use std::collections::BTreeSet;

use conferencing_store::entity::AuthProviderType::Local;
use conferencing_store::entity::{UserId, user};
use conferencing_store::page::MAX_PAGE_SIZE;
use conferencing_store::{
    Actor, Error, Invalid, LoginOutcome, NewUser, Order, PageRequest, RoomFilter, Rule, UserSearch,
};

use crate::accounts_support::sign_in_methods;
use crate::harness::{TestDb, password_hash};

crate::cases![
    users_are_found_by_the_beginning_of_a_name,
    users_are_found_by_the_beginning_of_an_address,
    erased_users_are_found_where_they_are_asked_for,
    names_of_any_script_are_found_once,
    what_cannot_be_searched_for_is_refused,
    a_cursor_of_another_list_is_refused,
    users_are_listed_as_they_came,
    logins_are_listed,
];

const ORDERS: [Order; 2] = [Order::OldestFirst, Order::NewestFirst];

/// All that a list has, in pages of so many, each cursor as text in between.
macro_rules! all_pages {
    ($size:expr, $order:expr, |$page:ident| $read:expr) => {{
        let mut all = Vec::new();
        let size: u16 = $size;
        let mut request = PageRequest::first(size, $order).unwrap();
        let mut pages = 0;
        loop {
            pages += 1;
            assert!(pages <= 1_000, "the pages do not end");
            let $page = &request;
            let page = $read.await.unwrap();
            assert!(page.items.len() <= usize::from(size));
            all.extend(page.items);
            let Some(next) = page.next else { break all };
            request = request.after(next.to_string().parse::<conferencing_store::Cursor>().unwrap());
        }
    }};
}
pub(crate) use all_pages;

fn names(users: Vec<user::Model>) -> Vec<String> {
    users.into_iter().map(|user| user.username).collect()
}

/// In both orders and in pages of one, two and many: which must all say the same.
async fn found(db: &TestDb, search: &UserSearch) -> Vec<String> {
    let mut answers = BTreeSet::new();
    for order in ORDERS {
        for size in [1, 2, MAX_PAGE_SIZE] {
            let all = all_pages!(size, order, |page| db.store.users().search(search, page));
            let mut all = names(all);
            if order == Order::NewestFirst {
                all.reverse();
            }
            answers.insert(all);
        }
    }
    assert_eq!(answers.len(), 1, "{search:?}: {answers:?}");
    answers.pop_first().unwrap()
}

async fn users_are_found_by_the_beginning_of_a_name(db: TestDb) {
    for name in [
        "ada", "Adam", "ad_x", "ad-x", "a%b", "aab", "ADB", "b\\c", "bac", "zoe", "Zoë",
    ] {
        db.user(name).await;
    }
    let cases: &[(&str, &[&str])] = &[
        ("ada", &["ada", "Adam"]),
        ("AD", &["ad-x", "ad_x", "ada", "Adam", "ADB"]),
        ("ad_", &["ad_x"]),
        ("a%", &["a%b"]),
        ("b\\", &["b\\c"]),
        ("zo", &["zoe", "Zoë"]),
        ("ZOË", &["Zoë"]),
        (" adam ", &["Adam"]),
        ("x", &[]),
        ("%", &[]),
        (
            "",
            &[
                "a%b", "aab", "ad-x", "ad_x", "ada", "Adam", "ADB", "b\\c", "bac", "zoe", "Zoë",
            ],
        ),
    ];
    for (prefix, expected) in cases {
        assert_eq!(
            found(&db, &UserSearch::username(*prefix)).await,
            *expected,
            "{prefix:?}"
        );
    }
}

async fn users_are_found_by_the_beginning_of_an_address(db: TestDb) {
    for (name, email) in [
        ("a", Some("Ada@example.org")),
        ("b", Some("ada.b@example.org")),
        ("c", Some("ben_1@example.org")),
        ("d", Some("benx1@example.org")),
        ("e", None),
    ] {
        let new = NewUser {
            email,
            ..NewUser::named(name, name, password_hash())
        };
        db.system().users().register(new).await.unwrap();
    }
    let cases: &[(&str, &[&str])] = &[
        ("ada", &["b", "a"]),
        ("ADA@", &["a"]),
        ("ben_", &["c"]),
        ("", &["b", "a", "c", "d"]),
        ("e", &[]),
    ];
    for (prefix, expected) in cases {
        assert_eq!(found(&db, &UserSearch::email(*prefix)).await, *expected, "{prefix:?}");
    }
}

async fn erased_users_are_found_where_they_are_asked_for(db: TestDb) {
    let users = db.users("guest", 3).await;
    let (early, late) = (db.user("deleted").await, db.user("delf").await);
    for gone in &users[1..] {
        db.system().users().erase(gone.id).await.unwrap();
    }
    // Deleted by others, who have left the name and the address.
    let raw = db.raw().await;
    raw.run(&format!(
        "UPDATE users SET deleted_at = updated_at, email = 'Guest@example.org' WHERE id = {}",
        raw.id(late.id.as_uuid())
    ))
    .await;
    let mut erased: Vec<String> = users[1..].iter().map(|gone| format!("deleted-{}", gone.id)).collect();
    erased.sort();
    let with = |others: &[&str]| {
        let mut all: Vec<String> = others
            .iter()
            .map(|name| (*name).to_owned())
            .chain(erased.clone())
            .collect();
        all.sort();
        all
    };
    for (search, live, deleted) in [
        (UserSearch::username(""), vec!["deleted", "guest0"], with(&["delf"])),
        (UserSearch::username("del"), vec!["deleted"], with(&["delf"])),
        (UserSearch::username("deleted-"), vec![], with(&[])),
        (UserSearch::username("g"), vec!["guest0"], vec![]),
        (UserSearch::email("GUEST"), vec![], vec!["delf".to_owned()]),
        (UserSearch::email(""), vec![], vec!["delf".to_owned()]),
    ] {
        assert_eq!(found(&db, &search).await, live, "{search:?}");
        for order in ORDERS {
            let gone = all_pages!(1, order, |page| db.store.users().deleted().search(&search, page));
            let mut gone = names(gone);
            gone.sort();
            assert_eq!(gone, deleted, "{search:?}");
            let any = all_pages!(2, order, |page| db.store.users().any().search(&search, page));
            assert_eq!(any.len(), live.len() + deleted.len(), "{search:?}");
        }
    }
    assert_eq!(early.username, "deleted");
}

async fn names_of_any_script_are_found_once(db: TestDb) {
    // The last letters before and behind what is no character, the last of all, and what two signs make.
    let written = [
        "Ωmega",
        "ωmega2",
        "e\u{301}a",
        "éb",
        "\u{d7ff}a",
        "\u{e000}b",
        "\u{10fffd}c",
        "日本",
        "日",
    ];
    for name in written {
        db.user(name).await;
    }
    let all = found(&db, &UserSearch::username("")).await;
    assert_eq!(all.len(), written.len());
    let mut in_bytes = all.clone();
    in_bytes.sort_by_key(|name| name.to_ascii_lowercase());
    assert_eq!(all, in_bytes);
    for (prefix, count) in [
        ("ω", 2),
        ("é", 2),
        ("\u{d7ff}", 1),
        ("\u{10fffd}", 1),
        ("日", 2),
        ("日本", 1),
    ] {
        let search = UserSearch::username(prefix);
        assert_eq!(found(&db, &search).await.len(), count, "{prefix}");
    }
}

async fn what_cannot_be_searched_for_is_refused(db: TestDb) {
    let page = PageRequest::first(5, Order::OldestFirst).unwrap();
    for (search, field, rule) in [
        (UserSearch::username("a\u{0}b"), "username", Rule::NoControlCharacters),
        (UserSearch::email("a\nb"), "email", Rule::NoControlCharacters),
        (
            UserSearch::username("é".repeat(101)),
            "username",
            Rule::MaxLength { max: 100, actual: 101 },
        ),
        (
            UserSearch::email("a".repeat(256)),
            "email",
            Rule::MaxLength { max: 255, actual: 256 },
        ),
    ] {
        let refused = db.store.users().search(&search, &page).await.unwrap_err();
        assert!(
            matches!(refused, Error::Invalid(ref invalid) if *invalid == Invalid { field, rule: rule.clone() }),
            "{refused:?}"
        );
    }
}

async fn a_cursor_of_another_list_is_refused(db: TestDb) {
    for name in ["ada", "ben"] {
        let (email, new) = (
            format!("{name}@example.org"),
            NewUser::named(name, name, password_hash()),
        );
        let new = NewUser {
            email: Some(&email),
            ..new
        };
        db.system().users().register(new).await.unwrap();
    }
    let page = PageRequest::first(1, Order::OldestFirst).unwrap();
    let (by_name, by_email) = (UserSearch::username(""), UserSearch::email(""));
    let users = || db.store.users();
    let in_names = users().search(&by_name, &page).await.unwrap().next.unwrap();
    let in_emails = users().search(&by_email, &page).await.unwrap().next.unwrap();
    let in_time = users().list(&page).await.unwrap().next.unwrap();
    let refused = |error: Option<Error>| {
        let expected = Invalid {
            field: "cursor",
            rule: Rule::Cursor,
        };
        assert!(
            matches!(error, Some(Error::Invalid(ref invalid)) if *invalid == expected),
            "{error:?}"
        );
    };
    for wrong in [&in_emails, &in_time] {
        refused(users().search(&by_name, &page.clone().after(wrong.clone())).await.err());
    }
    for wrong in [&in_names, &in_time] {
        refused(
            users()
                .search(&by_email, &page.clone().after(wrong.clone()))
                .await
                .err(),
        );
    }
    for wrong in [&in_names, &in_emails] {
        let (page, ada) = (page.clone().after(wrong.clone()), UserId::from_uuid(uuid::Uuid::nil()));
        let (rooms, people) = (db.store.rooms(), db.store.participants());
        let room = conferencing_store::entity::RoomId::from_uuid(uuid::Uuid::nil());
        let at = chrono::DateTime::UNIX_EPOCH;
        refused(users().list(&page).await.err());
        refused(users().logins(ada, &page).await.err());
        refused(rooms.list(RoomFilter::Live, &page).await.err());
        refused(rooms.list(RoomFilter::LivePublic, &page).await.err());
        refused(people.list_present(room, &page).await.err());
        refused(people.present_at(room, at, &page).await.err());
        refused(
            people
                .stays_of(ada, at..at + chrono::TimeDelta::days(1), &page)
                .await
                .err(),
        );
        refused(people.bans_of(ada, &page).await.err());
        refused(people.bans_by(ada, &page).await.err());
        refused(db.store.recordings().list_of_owner(ada, &page).await.err());
        refused(db.store.nodes().list_alive(&page).await.err());
        let node = conferencing_store::entity::MediaNodeId::from_uuid(uuid::Uuid::nil());
        refused(db.store.nodes().seats(node, &page).await.err());
        let audit = db.store.audit();
        refused(audit.list(&Default::default(), &page).await.err());
        refused(audit.list_with_names(&Default::default(), &page).await.err());
        refused(
            audit
                .stream(Default::default(), Order::OldestFirst, Some(wrong.clone()))
                .err(),
        );
        let system = db.system();
        let export = system.audit();
        refused(export.export(Default::default(), Some(wrong.clone())).await.err());
    }
    // Each goes on where it was.
    let rest = users().search(&by_name, &page.clone().after(in_names)).await.unwrap();
    assert_eq!((names(rest.items), rest.next), (vec!["ben".to_owned()], None));
}

async fn users_are_listed_as_they_came(db: TestDb) {
    let users = db.users("guest", 7).await;
    for gone in [1, 4] {
        db.system().users().erase(users[gone].id).await.unwrap();
    }
    let ids = |all: Vec<user::Model>| all.into_iter().map(|user| user.id).collect::<Vec<_>>();
    let expected = |wanted: &[usize], order| {
        let mut ids: Vec<UserId> = wanted.iter().map(|place| users[*place].id).collect();
        if order == Order::NewestFirst {
            ids.reverse();
        }
        ids
    };
    for order in ORDERS {
        for size in [1, 3, 7, 8] {
            let live = all_pages!(size, order, |page| db.store.users().list(page));
            assert_eq!(ids(live), expected(&[0, 2, 3, 5, 6], order));
            let gone = all_pages!(size, order, |page| db.store.users().deleted().list(page));
            assert_eq!(ids(gone), expected(&[1, 4], order));
            let any = all_pages!(size, order, |page| db.store.users().any().list(page));
            assert_eq!(ids(any), expected(&[0, 1, 2, 3, 4, 5, 6], order));
        }
    }
}

async fn logins_are_listed(db: TestDb) {
    let (ada, ben) = (db.user("ada").await, db.user("ben").await);
    let from = Actor::system("gateway")
        .from_address("192.0.2.7".parse().unwrap())
        .with_user_agent("Test/1");
    let gateway = db.store.acting(&from);
    let way_in = sign_in_methods(&db.store, &ada).await[0].id;
    gateway.users().record_failed_login("ADA").await.unwrap();
    gateway.users().record_failed_login("nobody").await.unwrap();
    gateway.users().record_failed_login("ben").await.unwrap();
    gateway.users().record_login(ada.id, way_in).await.unwrap();
    db.system()
        .users()
        .verify_email(ada.id, "none@example.org")
        .await
        .unwrap_err();
    db.acting(&ada).users().record_failed_login("ada").await.unwrap();
    let list = async |user, size| {
        let users = db.store.users();
        all_pages!(size, Order::NewestFirst, |page| users.logins(user, page))
    };
    let logins = list(ada.id, 10).await;
    assert_eq!(logins, list(ada.id, 1).await);
    let failed = |login: &str| LoginOutcome::Failed {
        login: login.to_owned(),
    };
    let outcomes: Vec<_> = logins.iter().map(|login| login.outcome.clone()).collect();
    let succeeded = LoginOutcome::Succeeded { provider: Local };
    assert_eq!(outcomes, [failed("ada"), succeeded, failed("ADA")]);
    assert_eq!(
        logins.iter().map(|login| login.succeeded()).collect::<Vec<_>>(),
        [false, true, false]
    );
    assert_eq!(logins[0].address, None);
    for login in &logins[1..] {
        assert_eq!(login.address, Some("192.0.2.7".parse().unwrap()));
        assert_eq!(login.user_agent.as_deref(), Some("Test/1"));
    }
    assert_eq!(list(ben.id, 10).await.len(), 1);
    // An erasure leaves what the audit log says.
    db.system().users().erase(ada.id).await.unwrap();
    assert_eq!(list(ada.id, 10).await.len(), 3);
}
