//! SQL with named parameters (`:name`), and how it becomes a statement of the driver.

use std::borrow::Cow;
use std::fmt::Write as _;

use sea_orm::sea_query::value::OptionEnum;
use sea_orm::{ActiveEnum, ConnectionTrait, DbErr, QueryResult, Statement, Value};
use serde_json::Value as Json;

use super::Dialect;

/// A parameter's value, and the type that PostgreSQL must be told when the driver's own is not it.
#[derive(Clone, Debug)]
pub(crate) struct Bind {
    value: Value,
    cast: Option<Cow<'static, str>>,
}

impl<V: Into<Value>> From<V> for Bind {
    fn from(value: V) -> Self {
        Self {
            value: value.into(),
            cast: None,
        }
    }
}

impl Bind {
    /// Text that PostgreSQL takes as a value of `type_name`.
    pub(crate) fn text_as(type_name: &'static str, text: Option<String>) -> Self {
        Self {
            value: text.into(),
            cast: Some(Cow::Borrowed(type_name)),
        }
    }

    /// A value of one of the schema's enum types.
    pub(crate) fn of_enum<E: ActiveEnum>(value: &E) -> Self {
        Self {
            value: enum_text(value).into(),
            cast: Some(Cow::Owned(E::name().to_string())),
        }
    }
}

/// An enum's value as the database spells it.
pub(crate) fn enum_text<E: ActiveEnum>(value: &E) -> String {
    match value.to_value().into() {
        Value::Enum(OptionEnum::Some(value)) => value.value.into_owned(),
        // The entities' enums have no other form.
        other => unreachable!("{other:?} is not an enum's value"),
    }
}

/// Values of an enum as SQL, to stand between parentheses.
pub(crate) fn enum_list<E: ActiveEnum>(values: &[E]) -> String {
    let quoted = values.iter().map(|value| format!("'{}'", enum_text(value)));
    quoted.collect::<Vec<_>>().join(", ")
}

/// Parameters by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Binds(Vec<(Cow<'static, str>, Bind)>);

impl Binds {
    /// Binds a name once; what is bound already stays.
    pub(crate) fn bind(&mut self, name: impl Into<Cow<'static, str>>, value: impl Into<Bind>) {
        let name = name.into();
        if !self.0.iter().any(|(known, _)| *known == name) {
            self.0.push((name, value.into()));
        }
    }

    /// Binds a name, whatever was bound to it before.
    pub(crate) fn set(&mut self, name: &'static str, value: impl Into<Bind>) {
        self.0.retain(|(known, _)| known != name);
        self.bind(name, value);
    }
}

impl Binds {
    /// Those that are keys.
    pub(crate) fn keys(&self) -> impl Iterator<Item = (&str, uuid::Uuid)> {
        self.0.iter().filter_map(|(name, bind)| match &bind.value {
            Value::Uuid(Some(id)) => Some((name.as_ref(), *id)),
            _ => None,
        })
    }
}

/// One statement by itself, of which every row is wanted.
#[derive(Clone, Debug)]
pub(crate) struct Query {
    sql: String,
    binds: Binds,
}

impl Query {
    pub(crate) fn new(sql: impl Into<String>) -> Self {
        Self {
            sql: sql.into(),
            binds: Binds::default(),
        }
    }

    /// A value that the statement may mention; if it does not, it is not sent.
    pub(crate) fn bind(mut self, name: &'static str, value: impl Into<Bind>) -> Self {
        self.binds.bind(name, value);
        self
    }

    pub(crate) async fn rows(&self, dialect: Dialect, db: &impl ConnectionTrait) -> Result<Vec<QueryResult>, DbErr> {
        db.query_all_raw(self.statement(dialect)).await
    }

    /// Runs it and tells how it was run: on PostgreSQL the plan with times and buffers, on SQLite the steps of the plan.
    pub(crate) async fn explain(&self, dialect: Dialect, db: &impl ConnectionTrait) -> Result<Json, DbErr> {
        let (prefix, column) = match dialect {
            Dialect::Postgres => ("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) ", "QUERY PLAN"),
            Dialect::Sqlite => ("EXPLAIN QUERY PLAN ", "detail"),
        };
        let rows = db.query_all_raw(self.prefixed(dialect, prefix)).await?;
        let read = |row: &QueryResult| match dialect {
            Dialect::Postgres => row.try_get_by::<Json, _>(column),
            Dialect::Sqlite => row.try_get_by::<String, _>(column).map(Json::from),
        };
        rows.iter().map(read).collect()
    }

    pub(crate) fn statement(&self, dialect: Dialect) -> Statement {
        self.prefixed(dialect, "")
    }

    fn prefixed(&self, dialect: Dialect, prefix: &str) -> Statement {
        let mut text = Text::new(dialect, &self.binds);
        text.push(prefix);
        text.push(&self.sql);
        text.statement()
    }
}

/// SQL with its values, while it is put together.
pub(crate) struct Text<'a> {
    dialect: Dialect,
    binds: &'a Binds,
    /// Place of each bind that was used, so that a name used twice is sent once.
    places: Vec<Option<usize>>,
    sql: String,
    values: Vec<Value>,
}

impl<'a> Text<'a> {
    pub(crate) fn new(dialect: Dialect, binds: &'a Binds) -> Self {
        Self {
            dialect,
            binds,
            places: vec![None; binds.0.len()],
            sql: String::with_capacity(1024),
            values: Vec::new(),
        }
    }

    /// Appends SQL, each `:name` turned into a placeholder. A colon before anything but a letter is text, as in `+00:00`.
    pub(crate) fn push(&mut self, sql: &str) {
        let mut rest = sql;
        while let Some((before, after)) = rest.split_once(':') {
            self.sql.push_str(before);
            let end = after.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
            let (name, beyond) = after.split_at(end.unwrap_or(after.len()));
            if name.starts_with(|c: char| c.is_ascii_alphabetic()) {
                self.push_bind(name);
            } else {
                self.sql.push(':');
                self.sql.push_str(name);
            }
            rest = beyond;
        }
        self.sql.push_str(rest);
    }

    fn push_bind(&mut self, name: &str) {
        let Some(index) = self.binds.0.iter().position(|(known, _)| known == name) else {
            // A statement's text is a constant of this crate, and a test prepares every statement there is.
            unreachable!("no value is bound to {name}");
        };
        let (_, bind) = &self.binds.0[index];
        let place = *self.places[index].get_or_insert_with(|| {
            self.values.push(bind.value.clone());
            self.values.len()
        });
        let _ = match (self.dialect, &bind.cast) {
            (Dialect::Postgres, Some(cast)) => write!(self.sql, "CAST(${place} AS {cast})"),
            _ => write!(self.sql, "${place}"),
        };
    }

    /// Appends rows of SQLite's as a table expression, one parameter however many they are, so that the text is the same for
    /// any number of rows and of any type.
    pub(crate) fn push_table(&mut self, name: &str, columns: &[&str], rows: &[Vec<Value>]) {
        let cell = |value: &Value| match value {
            Value::Bytes(Some(bytes)) => {
                let hex = bytes
                    .iter()
                    .fold(String::with_capacity(2 * bytes.len()), |mut hex, byte| {
                        let _ = write!(hex, "{byte:02x}");
                        hex
                    });
                serde_json::json!({ "hex": hex })
            }
            Value::BigInt(Some(number)) => Json::from(*number),
            Value::Double(Some(number)) => Json::from(*number),
            Value::String(Some(text)) => Json::from(text.as_str()),
            _ => Json::Null,
        };
        let list = |row: &Vec<Value>| row.iter().map(cell).collect::<Json>();
        self.values
            .push(rows.iter().map(list).collect::<Json>().to_string().into());
        let place = self.values.len();
        let expression = |index: usize| {
            format!(
                "CASE json_type(value, '$[{index}]') WHEN 'object' THEN unhex(value->>'$[{index}].hex')
                ELSE value->>'$[{index}]' END"
            )
        };
        let expressions: Vec<String> = (0..columns.len()).map(expression).collect();
        let expressions = if expressions.is_empty() {
            "1".to_owned()
        } else {
            expressions.join(", ")
        };
        let names = if columns.is_empty() {
            "no_column".to_owned()
        } else {
            columns.join(", ")
        };
        let _ = write!(
            self.sql,
            "{name}({names}) AS (SELECT {expressions} FROM json_each(${place}))"
        );
    }

    pub(crate) fn statement(self) -> Statement {
        Statement::from_sql_and_values(self.dialect.backend(), self.sql, self.values)
    }
}

/// Whether a statement reads something called `name`: it stands in it as a word of its own.
pub(crate) fn mentions(sql: &str, name: &str) -> bool {
    sql.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'))
        .any(|word| word == name)
}

/// A column of a SQLite row, by the class that it is stored as.
#[cfg(feature = "sqlite")]
pub(crate) fn stored_value(row: &QueryResult, column: &str) -> Result<Value, DbErr> {
    use sea_orm::RuntimeErr;
    use sea_orm::sqlx::{Row as _, TypeInfo as _, ValueRef as _};
    let failed = |error: sea_orm::SqlxError| DbErr::Query(RuntimeErr::SqlxError(error.into()));
    let row = row.try_as_sqlite_row();
    let row = row.ok_or_else(|| DbErr::Type("a row of another database".to_owned()))?;
    let value = row.try_get_raw(column).map_err(failed)?;
    if value.is_null() {
        return Ok(Value::String(None));
    }
    let class = value.type_info();
    Ok(match class.name() {
        "TEXT" => row.try_get_unchecked::<String, _>(column).map_err(failed)?.into(),
        "BLOB" => row.try_get_unchecked::<Vec<u8>, _>(column).map_err(failed)?.into(),
        "REAL" => row.try_get_unchecked::<f64, _>(column).map_err(failed)?.into(),
        _ => row.try_get_unchecked::<i64, _>(column).map_err(failed)?.into(),
    })
}

#[cfg(not(feature = "sqlite"))]
pub(crate) fn stored_value(_: &QueryResult, column: &str) -> Result<Value, DbErr> {
    Err(DbErr::Type(format!("column {column} of another database")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_mentioned_as_a_whole_word_only() {
        assert!(mentions("SELECT id FROM seat", "seat"));
        assert!(mentions("WHERE id = (SELECT seat.id)", "seat"));
        assert!(!mentions("SELECT seat_id FROM seats WHERE x = :seat", "seat"));
    }

    #[test]
    fn a_value_that_is_used_twice_is_sent_once() {
        let query = Query::new("SELECT :id, :id, '+00:00', :role WHERE :unused_is_not_here IS NULL")
            .bind("id", 7)
            .bind("role", Bind::of_enum(&entity::ParticipantRole::Host))
            .bind("unused_is_not_here", true)
            .bind("never", 1);
        let statement = query.statement(Dialect::Postgres);
        assert_eq!(
            statement.sql,
            "SELECT $1, $1, '+00:00', CAST($2 AS participant_role) WHERE $3 IS NULL"
        );
        assert_eq!(statement.values.unwrap().0.len(), 3);
    }
}
