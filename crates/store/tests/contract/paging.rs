//! What a page may be asked for.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use conferencing_store::page::MAX_PAGE_SIZE;
use conferencing_store::{AuditFilter, Cursor, Invalid, Order, PageRequest, Rule};

use crate::harness::TestDb;

crate::cases![
    page_sizes_have_limits,
    what_is_no_cursor_is_refused,
    a_forged_cursor_is_no_error_of_the_database,
];

async fn page_sizes_have_limits(_: TestDb) {
    assert_eq!(MAX_PAGE_SIZE, 500);
    for (size, rule) in [
        (0, Some(Rule::AtLeast(1))),
        (1, None),
        (500, None),
        (501, Some(Rule::AtMost(500))),
        (u16::MAX, Some(Rule::AtMost(500))),
    ] {
        let page = PageRequest::first(size, Order::NewestFirst);
        let expected = rule.map(|rule| Invalid { field: "size", rule });
        assert_eq!(page.err(), expected, "{size}");
    }
}

fn forged(version: u8, micros: i64, id: u128) -> String {
    let bytes = [&[version][..], &micros.to_be_bytes(), &id.to_be_bytes()].concat();
    URL_SAFE_NO_PAD.encode(bytes)
}

async fn what_is_no_cursor_is_refused(_: TestDb) {
    let good = forged(1, 1_700_000_000_123_456, 42);
    assert_eq!(good.parse::<Cursor>().unwrap().to_string(), good);
    for text in [
        "",
        " ",
        "rubbish",
        "\u{0}",
        &good[1..],
        &good[..good.len() - 1],
        &format!("{good}A"),
        &format!("{good}="),
        &format!(" {good}"),
        &format!("{good}\n"),
        &forged(0, 1, 1),
        &forged(2, 1, 1),
        &forged(1, i64::MAX, 1),
        &forged(1, i64::MIN, 1),
        "ääää",
    ] {
        let invalid = Invalid {
            field: "cursor",
            rule: Rule::Cursor,
        };
        assert_eq!(text.parse::<Cursor>(), Err(invalid), "{text:?}");
    }
}

async fn a_forged_cursor_is_no_error_of_the_database(db: TestDb) {
    let room = db.room(&db.user("ada").await, 5).await;
    for year in [
        -262_000, -10_000, -4_800, -1, 0, 1, 1969, 9999, 10_000, 200_000, 262_000,
    ] {
        let at = chrono::NaiveDate::from_ymd_opt(year, 1, 1)
            .unwrap()
            .and_time(chrono::NaiveTime::MIN);
        // A client may send any text. It is refused as a cursor, or taken as one.
        let Ok(cursor) = forged(1, at.and_utc().timestamp_micros(), 1).parse::<Cursor>() else {
            continue;
        };
        for order in [Order::OldestFirst, Order::NewestFirst] {
            let page = PageRequest::first(5, order).unwrap().after(cursor.clone());
            let audit_log = db.store.audit().list(&AuditFilter::of_room(room.id), &page).await;
            let beyond = (order == Order::OldestFirst) == (year < 2000);
            match audit_log {
                Ok(audit_log) => assert_eq!(audit_log.items.len(), usize::from(beyond), "{year} {order:?}"),
                Err(error) => panic!("{year} {order:?}: {error:?}"),
            }
            let present = db.store.participants().list_present(room.id, &page).await;
            assert!(present.is_ok(), "{year} {order:?}: {present:?}");
        }
    }
}
