//! Statements of a service's own, in a unit and beside it.

use conferencing_store::entity::{UserId, user};
use conferencing_store::{Actor, Error, ErrorKind, Unit};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, DbErr, EntityTrait, IntoActiveModel, QueryFilter, Set, Statement,
};

use crate::harness::{Backend, Raw, TestDb, race};
use crate::users::new_user;

crate::cases![
    own_rows_and_ours_are_written_together,
    own_rows_are_gone_with_a_unit_that_fails,
    a_failure_that_was_swallowed_spoils_the_unit,
    a_transaction_that_a_statement_ended_takes_nothing_more,
    a_missing_table_of_the_service_is_not_ours,
    a_passing_failure_of_an_own_statement_repeats_the_unit,
    ours_are_read_and_joined_and_not_written,
    a_refused_statement_spoils_the_unit_too,
    active_models_of_ours_are_read_only,
    alone_each_statement_commits_by_itself,
];

/// A table of the service's own.
async fn own_table(db: &TestDb) -> Raw {
    let raw = db.raw().await;
    raw.run("CREATE TABLE own_deliveries (id integer PRIMARY KEY, note varchar(20))")
        .await;
    raw
}

async fn deliveries(raw: &Raw) -> i64 {
    raw.number("SELECT count(*) FROM own_deliveries").await
}

async fn deliver(unit: &Unit, id: i32) -> Result<(), Error> {
    let sql = unit.sql();
    let statement = Statement::from_sql_and_values(
        sql.get_database_backend(),
        "INSERT INTO own_deliveries (id) VALUES ($1)",
        [id.into()],
    );
    sql.execute_raw(statement)
        .await
        .map(drop)
        .map_err(|error| sql.error(&error))
}

async fn own_rows_and_ours_are_written_together(db: TestDb) {
    let raw = own_table(&db).await;
    let unit = db.store.begin(&Actor::system("test")).await.unwrap();
    let ada = unit.users().register(new_user("ada", None)).await.unwrap();
    deliver(&unit, 1).await.unwrap();
    assert_eq!(
        (deliveries(&raw).await, db.store.users().find(ada.id).await.unwrap()),
        (0, None)
    );
    unit.commit().await.unwrap();
    assert_eq!(
        (deliveries(&raw).await, db.store.users().find(ada.id).await.unwrap()),
        (1, Some(ada))
    );
}

async fn own_rows_are_gone_with_a_unit_that_fails(db: TestDb) {
    let raw = own_table(&db).await;
    let ada = db.user("ada").await;
    let actor = Actor::system("test");
    let done = db.store.transact(&actor, |unit| async move {
        deliver(&unit, 1).await?;
        unit.users().register(new_user("ada", None)).await
    });
    assert!(matches!(done.await, Err(Error::Conflict(_))));
    assert_eq!(deliveries(&raw).await, 0, "{}", ada.id);
}

/// SQLite would go on, and commit the rest.
async fn a_failure_that_was_swallowed_spoils_the_unit(db: TestDb) {
    let raw = own_table(&db).await;
    let unit = db.store.begin(&Actor::system("test")).await.unwrap();
    unit.users().register(new_user("ada", None)).await.unwrap();
    deliver(&unit, 1).await.unwrap();
    let twice = deliver(&unit, 1).await.unwrap_err();
    assert!(matches!(twice, Error::OwnSql { .. }), "{twice:?}");
    assert_eq!((twice.code(), twice.kind()), ("own_sql", ErrorKind::Fault));
    let committed = unit.commit().await;
    assert!(matches!(committed, Err(Error::Aborted { .. })), "{committed:?}");
    assert_eq!(deliveries(&raw).await, 0);
    assert_eq!(raw.number("SELECT count(*) FROM users").await, 0);
    // Through the closure too.
    let actor = Actor::system("test");
    let done = db.store.transact(&actor, |unit| async move {
        let _ = deliver(&unit, 2).await;
        let _ = deliver(&unit, 2).await;
        Ok::<_, Error>(())
    });
    assert!(matches!(done.await, Err(Error::Aborted { .. })));
    assert_eq!(deliveries(&raw).await, 0);
}

/// A trigger of the service's own may end SQLite's transaction. What follows must not stand alone, and the connection must be fit for others.
async fn a_transaction_that_a_statement_ended_takes_nothing_more(db: TestDb) {
    let raw = own_table(&db).await;
    if db.backend == Backend::Sqlite {
        raw.run(
            "CREATE TRIGGER own_deliveries_kept BEFORE INSERT ON own_deliveries WHEN NEW.id = 1
            BEGIN SELECT RAISE(ROLLBACK, 'not this one'); END",
        )
        .await;
    } else {
        raw.run("ALTER TABLE own_deliveries ADD CHECK (id <> 1)").await;
    }
    for name in ["ada", "ben"] {
        let unit = db.store.begin(&Actor::system("test")).await.unwrap();
        deliver(&unit, 2).await.unwrap();
        assert!(matches!(deliver(&unit, 1).await, Err(Error::OwnSql { .. })));
        let register = unit.users().register(new_user(name, None)).await;
        assert!(matches!(register, Err(Error::Aborted { .. })), "{register:?}");
        let later = unit
            .sql()
            .execute_unprepared("INSERT INTO own_deliveries (id) VALUES (3)")
            .await;
        assert!(later.is_err());
        let committed = unit.commit().await;
        assert!(matches!(committed, Err(Error::Aborted { .. })), "{committed:?}");
    }
    assert_eq!(
        (deliveries(&raw).await, raw.number("SELECT count(*) FROM users").await),
        (0, 0)
    );
    for id in 10..30 {
        let unit = db.store.begin(&Actor::system("test")).await.unwrap();
        deliver(&unit, id).await.unwrap();
        unit.commit().await.unwrap();
    }
    assert_eq!(deliveries(&raw).await, 20);
}

async fn a_missing_table_of_the_service_is_not_ours(db: TestDb) {
    for error in [
        {
            let sql = db.store.sql();
            let failed = sql.execute_unprepared("DELETE FROM own_of_nobody").await.unwrap_err();
            sql.error(&failed)
        },
        {
            let unit = db.store.begin(&Actor::system("test")).await.unwrap();
            let sql = unit.sql();
            let read = Statement::from_string(sql.get_database_backend(), "SELECT 1 FROM own_of_nobody");
            let failed = sql.query_one_raw(read).await.unwrap_err();
            sql.error(&failed)
        },
    ] {
        assert!(matches!(error, Error::OwnSql { .. }), "{error:?}");
    }
}

/// Two units that lock the same two rows the other way round.
async fn a_passing_failure_of_an_own_statement_repeats_the_unit(db: TestDb) {
    let raw = own_table(&db).await;
    raw.run("INSERT INTO own_deliveries (id) VALUES (1), (2)").await;
    let done = race([(1, 2), (2, 1)].map(|(first, second)| {
        let store = db.store.clone();
        async move {
            let note = |unit: Unit| async move {
                for id in [first, second] {
                    let sql = unit.sql();
                    let update = format!("UPDATE own_deliveries SET note = '{first}' WHERE id = {id}");
                    let updated = sql.execute_unprepared(&update).await;
                    updated.map_err(|error| sql.error(&error))?;
                }
                Ok::<_, Error>(())
            };
            for _ in 0..20 {
                store.transact(&Actor::system("test"), note).await?;
            }
            Ok::<_, Error>(())
        }
    }));
    for one in done.await {
        one.unwrap();
    }
    assert_eq!(raw.number("SELECT count(DISTINCT note) FROM own_deliveries").await, 1);
}

async fn ours_are_read_and_joined_and_not_written(db: TestDb) {
    own_table(&db).await;
    let ada = db.user("ada").await;
    let unit = db.store.begin(&Actor::system("test")).await.unwrap();
    let ben = unit.users().register(new_user("ben", None)).await.unwrap();
    #[expect(clippy::disallowed_methods, reason = "as a service would")]
    let found = user::Entity::find()
        .filter(user::Column::Id.is_in([ada.id, ben.id]))
        .filter(Expr::cust("NOT EXISTS (SELECT 1 FROM own_deliveries)"))
        .all(&unit.sql())
        .await
        .unwrap();
    assert_eq!(found.len(), 2, "its own changes are seen");
    unit.commit().await.unwrap();
    let sql = db.store.sql();
    for change in ["UPDATE users SET username = 'x'", "DELETE FROM rooms", "COMMIT"] {
        let refused = sql.execute_unprepared(change).await.unwrap_err();
        assert!(matches!(refused, DbErr::Custom(_)), "{change}: {refused:?}");
    }
    #[expect(clippy::disallowed_methods, reason = "as a service would not")]
    let refused = user::Entity::delete_many().exec(&sql).await.unwrap_err();
    assert!(refused.to_string().contains("audit log"), "{refused}");
    assert_eq!(db.store.users().find(ada.id).await.unwrap(), Some(ada));
}

async fn a_refused_statement_spoils_the_unit_too(db: TestDb) {
    let raw = own_table(&db).await;
    let unit = db.store.begin(&Actor::system("test")).await.unwrap();
    deliver(&unit, 1).await.unwrap();
    let _ = unit.sql().execute_unprepared("COMMIT").await;
    assert!(matches!(unit.commit().await, Err(Error::Aborted { .. })));
    assert_eq!(deliveries(&raw).await, 0);
}

/// On a connection that is not the store's either.
async fn active_models_of_ours_are_read_only(db: TestDb) {
    let (ada, raw) = (db.user("ada").await, db.raw().await);
    let mut renamed = ada.clone().into_active_model();
    renamed.username = Set("x".to_owned());
    let copy = user::ActiveModel {
        id: Set(UserId::from_uuid(uuid::Uuid::from_u128(7))),
        ..renamed.clone()
    };
    for refused in [
        renamed.clone().update(&raw.db).await.unwrap_err(),
        copy.insert(&raw.db).await.unwrap_err(),
        renamed.delete(&raw.db).await.unwrap_err(),
    ] {
        assert!(
            refused.to_string().contains("users is changed by the store alone"),
            "{refused}"
        );
    }
    assert_eq!(db.store.users().find(ada.id).await.unwrap(), Some(ada));
}

async fn alone_each_statement_commits_by_itself(db: TestDb) {
    let raw = own_table(&db).await;
    let sql = db.store.sql();
    let made = sql
        .execute_unprepared("INSERT INTO own_deliveries (id) VALUES (1)")
        .await
        .unwrap();
    assert_eq!((made.rows_affected(), deliveries(&raw).await), (1, 1));
    let twice = sql
        .execute_unprepared("INSERT INTO own_deliveries (id) VALUES (1)")
        .await
        .unwrap_err();
    let Error::OwnSql { code, constraint, .. } = sql.error(&twice) else {
        panic!("{twice:?}");
    };
    let (expected_code, expected_name) = match db.backend {
        Backend::Postgres => ("23505", Some("own_deliveries_pkey")),
        Backend::Sqlite => ("1555", None),
    };
    assert_eq!(
        (code.as_deref(), constraint.as_deref()),
        (Some(expected_code), expected_name)
    );
    // The pool is as it was.
    assert_eq!(deliveries(&raw).await, 1);
    db.user("ada").await;
}
