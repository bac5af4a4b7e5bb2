//! Every statement that the store can send is prepared on the migrated schema: a column, table or type that is not there fails
//! by the name of its operation, whether or not a case gets as far as to send it.

use std::collections::BTreeMap;

use conferencing_store::statements::{self, Listed};
use sea_orm::sea_query::value::OptionEnum;
use sea_orm::sqlx::postgres::PgTypeInfo;
use sea_orm::sqlx::{AssertSqlSafe, Column, Executor, Postgres, SqlSafeStr, Statement, Type, TypeInfo};
use sea_orm::{ColumnType, DbBackend, Value};

use crate::harness::TestDb;

crate::cases![@Postgres every_statement_is_sound_on_postgresql, @Sqlite every_statement_is_sound_on_sqlite];

/// The type that the driver tells the server of a value.
fn parameter_type(value: &Value) -> PgTypeInfo {
    fn of<T: Type<Postgres>>() -> PgTypeInfo {
        T::type_info()
    }
    match value {
        Value::Bool(_) => of::<bool>(),
        Value::SmallInt(_) => of::<i16>(),
        Value::Int(_) => of::<i32>(),
        // A limit; the driver has no unsigned type.
        Value::BigInt(_) | Value::BigUnsigned(_) => of::<i64>(),
        Value::Double(_) => of::<f64>(),
        Value::String(_) => of::<String>(),
        Value::Bytes(_) => of::<Vec<u8>>(),
        Value::Json(_) => of::<serde_json::Value>(),
        Value::ChronoDateTimeUtc(_) => of::<chrono::DateTime<chrono::Utc>>(),
        Value::Uuid(_) => of::<uuid::Uuid>(),
        Value::Enum(OptionEnum::Some(value)) => PgTypeInfo::with_name(value.type_name.as_ref().to_owned().leak()),
        other => panic!("{other:?} is bound, of which this test does not know the type"),
    }
}

/// What PostgreSQL may call the type of a column that is read as this.
fn readable_as(column_type: &ColumnType) -> &'static [&'static str] {
    match column_type {
        ColumnType::Uuid => &["UUID"],
        ColumnType::Boolean => &["BOOL"],
        ColumnType::SmallInteger => &["INT2"],
        ColumnType::Integer => &["INT4"],
        ColumnType::BigInteger => &["INT8"],
        ColumnType::Double => &["FLOAT8"],
        ColumnType::Json | ColumnType::JsonBinary => &["JSONB"],
        ColumnType::Timestamp | ColumnType::TimestampWithTimeZone => &["TIMESTAMPTZ"],
        // Enums are cast to text.
        ColumnType::String(_) | ColumnType::Text | ColumnType::Enum { .. } => &["TEXT", "VARCHAR"],
        other => panic!("{other:?} is read, of which this test does not know the type"),
    }
}

async fn every_statement_is_sound_on_postgresql(db: TestDb) {
    let raw = db.raw().await;
    let pool = raw.db.get_postgres_connection_pool();
    let mut faults = Vec::new();
    let listed = statements::list(DbBackend::Postgres).await;
    assert_lists_everything(&listed);
    for Listed {
        name,
        statement,
        columns,
    } in listed
    {
        let values = statement.values.iter().flat_map(|values| &values.0);
        let types: Vec<PgTypeInfo> = values.map(parameter_type).collect();
        let sql = AssertSqlSafe(statement.sql.clone()).into_sql_str();
        let mut connection = pool.acquire().await.unwrap();
        let prepared = match (&mut *connection).prepare_with(sql, &types).await {
            Ok(prepared) => prepared,
            Err(error) => {
                faults.push(format!("{name}: {error}\n{}", statement.sql));
                continue;
            }
        };
        for (column, column_type) in columns {
            let found = prepared.columns().iter().find(|found| found.name() == column);
            let found = found.map(|found| found.type_info().name().to_owned());
            let fits = found
                .as_deref()
                .is_some_and(|found| readable_as(&column_type).contains(&found));
            if !fits {
                faults.push(format!(
                    "{name}: {column} is read as {column_type:?} and is {found:?}\n{}",
                    statement.sql
                ));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n\n"));
}

async fn every_statement_is_sound_on_sqlite(db: TestDb) {
    let raw = db.raw().await;
    let pool = raw.db.get_sqlite_connection_pool();
    let mut faults = Vec::new();
    let listed = statements::list(DbBackend::Sqlite).await;
    assert_lists_everything(&listed);
    for Listed {
        name,
        statement,
        columns,
    } in listed
    {
        let sql = AssertSqlSafe(statement.sql.clone()).into_sql_str();
        let mut connection = pool.acquire().await.unwrap();
        match (&mut *connection).prepare(sql).await {
            Ok(prepared) => {
                let found: Vec<&str> = prepared.columns().iter().map(|column| column.name()).collect();
                let missing = columns.iter().find(|(column, _)| !found.contains(&column.as_str()));
                if let Some((column, _)) = missing {
                    faults.push(format!("{name}: no column {column}\n{}", statement.sql));
                }
            }
            Err(error) => faults.push(format!("{name}: {error}\n{}", statement.sql)),
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n\n"));
}

/// That the list is complete is shown by the suite as a whole, see `harness::run`; here, that it is not empty of a kind.
fn assert_lists_everything(listed: &[Listed]) {
    let mut by_name: BTreeMap<&str, usize> = BTreeMap::new();
    for one in listed {
        *by_name.entry(one.name).or_default() += 1;
    }
    for name in [
        "participants.join",
        "rooms.end",
        "recordings.stop",
        "users.erase",
        "audit.list",
        "audit.append",
    ] {
        assert!(by_name.contains_key(name), "{name} is not listed: {by_name:?}");
    }
}
