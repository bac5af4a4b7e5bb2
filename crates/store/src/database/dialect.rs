//! Every difference between the SQL of PostgreSQL and that of SQLite.

use sea_orm::{
    ConnectionTrait, DbBackend, EntityTrait, IdenStatic, Iterable, SqliteTransactionMode, TransactionOptions,
};

use crate::row;

/// Which of the two databases is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    Postgres,
    Sqlite,
}

/// What [`Dialect::look_up`] looks up.
#[derive(Clone, Copy)]
pub(crate) struct LookUp<'a> {
    pub(crate) table: &'a str,
    pub(crate) name: &'a str,
    pub(crate) key: &'a str,
    pub(crate) rows: Rows,
}

/// Which rows [`Dialect::look_up`] yields.
#[derive(Clone, Copy)]
pub(crate) enum Rows {
    /// Those whose other row is there, deleted or not.
    All,
    /// Those whose other row is there and not deleted.
    Live,
    /// Every row, the other one's columns NULL if it is not there or deleted.
    IfAny,
}

impl Dialect {
    pub(crate) fn of(db: &impl ConnectionTrait) -> Self {
        match db.get_database_backend() {
            DbBackend::Sqlite => Self::Sqlite,
            _ => Self::Postgres,
        }
    }

    pub(crate) fn backend(self) -> DbBackend {
        match self {
            Self::Postgres => DbBackend::Postgres,
            Self::Sqlite => DbBackend::Sqlite,
        }
    }

    /// What it is called.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Postgres => "PostgreSQL",
            Self::Sqlite => "SQLite",
        }
    }

    /// How a unit of work begins. SQLite's write lock is taken at once: a deferred transaction that finds out later that
    /// it writes fails if anybody wrote meanwhile.
    pub(crate) fn begin_options(self) -> TransactionOptions {
        match self {
            Self::Postgres => TransactionOptions::default(),
            Self::Sqlite => TransactionOptions {
                sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
                ..TransactionOptions::default()
            },
        }
    }

    /// Ends a select that takes its row for a change. Waits for others; reads the newest version; lets foreign keys
    /// point at the row meanwhile. SQLite has the whole database locked by then.
    pub(crate) fn for_change(self) -> &'static str {
        match self {
            Self::Postgres => " FOR NO KEY UPDATE",
            Self::Sqlite => "",
        }
    }

    /// Ends a select that takes those of its rows for a change which nobody else has taken: whoever asks at the same time gets
    /// others. SQLite has one writer at a time.
    pub(crate) fn for_change_of_free(self) -> &'static str {
        match self {
            Self::Postgres => " FOR NO KEY UPDATE SKIP LOCKED",
            Self::Sqlite => "",
        }
    }

    /// Ends a select that takes those of its rows for removal which nobody else has taken.
    pub(crate) fn for_removal_of_free(self) -> &'static str {
        match self {
            Self::Postgres => " FOR UPDATE SKIP LOCKED",
            Self::Sqlite => "",
        }
    }

    /// The column that says where a row lies. It stays as long as the row is neither changed nor deleted.
    pub(crate) fn row_place(self) -> &'static str {
        match self {
            Self::Postgres => "ctid",
            Self::Sqlite => "rowid",
        }
    }

    /// Ends a select of a row that must stay as it is until the transaction ends.
    pub(crate) fn for_share(self) -> &'static str {
        match self {
            Self::Postgres => " FOR SHARE",
            Self::Sqlite => "",
        }
    }

    /// A condition that a column has one of the values that a select yields, for statements that lock or change rows.
    ///
    /// On PostgreSQL the values are an array, settled before the first row is looked at. `IN (SELECT ..)` would not do: of a
    /// row that changed while its lock was waited for, PostgreSQL asks the condition again by running the join again in
    /// part, and where the select is a UNION it then leaves rows out that fulfil it.
    pub(crate) fn among(self, column: &str, select: &str) -> String {
        match self {
            Self::Postgres => format!("{column} = ANY (ARRAY({select}))"),
            Self::Sqlite => format!("{column} IN ({select})"),
        }
    }

    /// Joins to each row of a FROM list, called `name`, the row of `table` whose id is `key`, by looking it up: a plain join would
    /// let PostgreSQL read all of the table, where it expects that to be cheaper.
    pub(crate) fn look_up(self, LookUp { table, name, key, rows }: LookUp<'_>) -> String {
        let (join, on) = match rows {
            Rows::IfAny => ("LEFT JOIN", "ON TRUE"),
            Rows::Live | Rows::All => ("CROSS JOIN", ""),
        };
        let of = match self {
            Self::Postgres => table,
            Self::Sqlite => name,
        };
        let live = match rows {
            Rows::All => String::new(),
            Rows::IfAny | Rows::Live => format!(" AND {of}.deleted_at IS NULL"),
        };
        match self {
            Self::Postgres => {
                format!("{join} LATERAL (SELECT * FROM {table} WHERE {of}.id = {key}{live} LIMIT 1) AS {name} {on}")
            }
            // CROSS JOIN is what keeps SQLite from turning the order round.
            Self::Sqlite => format!("{join} {table} AS {name} ON {of}.id = {key}{live}"),
        }
    }

    /// Joins to each row of a FROM list the rows of `table`, called `name`, that `condition` picks for it, by looking them up: likewise.
    pub(crate) fn look_up_each(self, table: &str, name: &str, condition: &str) -> String {
        match self {
            // OFFSET keeps the subquery from becoming a plain join.
            Self::Postgres => {
                format!("CROSS JOIN LATERAL (SELECT * FROM {table} WHERE {condition} OFFSET 0) AS {name}")
            }
            Self::Sqlite => format!("CROSS JOIN {table} AS {name} ON {condition}"),
        }
    }

    /// What stands after LIMIT in a walk along an index. On PostgreSQL it is a subquery, of which the planner expects a tenth of the
    /// rows: then a walk costs less than to collect and sort them, however few it takes them to be.
    pub(crate) fn limit_of_walk(self, bind: &str) -> String {
        match self {
            Self::Postgres => format!("(SELECT {bind})"),
            Self::Sqlite => bind.to_owned(),
        }
    }

    /// Ends a condition whose rows are to be found along an index that `implied`, its own condition, implies: whatever the planner
    /// believed when it made a plan that is kept. `id` is the row's. See `only_by_index` in the base schema.
    pub(crate) fn only_by_index(self, implied: &str, id: &str) -> String {
        match self {
            Self::Postgres => format!(" AND ({implied} OR only_by_index({id}))"),
            Self::Sqlite => String::new(),
        }
    }

    /// Ends a condition on `room_participants` that looks for a present or banned user: found along `uq_room_participants_current`, or
    /// `ix_room_participants_present`.
    pub(crate) fn among_current(self) -> String {
        self.only_by_index("left_at IS NULL OR is_banned", "id")
    }

    /// Ends a condition on `room_participants` that looks for those whom media nodes serve: found along `ix_room_participants_node`.
    pub(crate) fn among_served(self) -> String {
        self.only_by_index("left_at IS NULL AND node_id IS NOT NULL", "id")
    }

    /// The later of two times.
    pub(crate) fn later(self, a: &str, b: &str) -> String {
        match self {
            Self::Postgres => format!("GREATEST({a}, {b})"),
            Self::Sqlite => format!("max({a}, {b})"),
        }
    }

    /// The smaller of two numbers.
    pub(crate) fn smaller(self, a: &str, b: &str) -> String {
        match self {
            Self::Postgres => format!("LEAST({a}, {b})"),
            Self::Sqlite => format!("min({a}, {b})"),
        }
    }

    /// The larger of two numbers.
    pub(crate) fn larger(self, a: &str, b: &str) -> String {
        self.later(a, b)
    }

    /// Microseconds since 1970, UTC, a 64-bit integer.
    pub(crate) fn microseconds(self, time: &str) -> String {
        match self {
            Self::Postgres => format!("CAST(EXTRACT(EPOCH FROM {time}) * 1000000 AS bigint)"),
            Self::Sqlite => sqlite_micros(time),
        }
    }

    /// Whole seconds from one time to another, cut not rounded, alike on both to the microsecond.
    pub(crate) fn seconds_between(self, from: &str, to: &str) -> String {
        match self {
            Self::Postgres => format!("CAST(floor(EXTRACT(EPOCH FROM ({to} - {from}))) AS integer)"),
            Self::Sqlite => format!("(({} - {}) / 1000000)", sqlite_micros(to), sqlite_micros(from)),
        }
    }

    /// Text made into a value of an enum type.
    pub(crate) fn as_enum(self, expression: &str, name: &str) -> String {
        match self {
            Self::Postgres => format!("CAST({expression} AS {name})"),
            Self::Sqlite => expression.to_owned(),
        }
    }

    /// A JSON object with further members, each a name and an SQL expression.
    pub(crate) fn json_with(self, object: &str, members: &[(&str, &str)]) -> String {
        if members.is_empty() {
            return object.to_owned();
        }
        let list = |prefix: &str| {
            let members: Vec<String> = members
                .iter()
                .map(|(name, value)| format!("'{prefix}{name}', {value}"))
                .collect();
            members.join(", ")
        };
        match self {
            Self::Postgres => format!("{object} || jsonb_build_object({})", list("")),
            Self::Sqlite => format!("json_set({object}, {})", list("$.")),
        }
    }

    /// A UUID column as text in the usual form, for JSON.
    pub(crate) fn uuid_text(self, column: &str) -> String {
        match self {
            Self::Postgres => format!("CAST({column} AS text)"),
            Self::Sqlite => {
                let part = |from: u8, length: u8| format!("substr(hex({column}), {from}, {length})");
                let parts = [part(1, 8), part(9, 4), part(13, 4), part(17, 4), part(21, 12)];
                // hex(NULL) is an empty text.
                format!(
                    "CASE WHEN {column} IS NOT NULL THEN lower({}) END",
                    parts.join(" || '-' || ")
                )
            }
        }
    }

    /// A condition as a JSON boolean, which SQLite has no other way to make.
    pub(crate) fn json_bool(self, condition: &str) -> String {
        match self {
            Self::Postgres => format!("({condition})"),
            Self::Sqlite => format!("json(CASE WHEN {condition} THEN 'true' ELSE 'false' END)"),
        }
    }

    /// A UUID with its last 32 bits, 8 hexadecimal digits, replaced by a number.
    pub(crate) fn counted_id(self, id: &str, number: &str) -> String {
        match self {
            Self::Postgres => format!("CAST(left(CAST({id} AS text), 28) || lpad(to_hex({number}), 8, '0') AS uuid)"),
            Self::Sqlite => format!("unhex(substr(hex({id}), 1, 24) || printf('%08X', {number}))"),
        }
    }

    /// Rows made into one JSON list of objects, each member a name and an SQL expression. No row: an empty list.
    pub(crate) fn json_rows(self, members: &[(&str, &str)]) -> String {
        let members: Vec<String> = members
            .iter()
            .map(|(name, value)| format!("'{name}', {value}"))
            .collect();
        let members = members.join(", ");
        self.json_list(&match self {
            Self::Postgres => format!("jsonb_build_object({members})"),
            Self::Sqlite => format!("json_object({members})"),
        })
    }

    /// One SQL expression over rows made into a JSON list, as text. No row: an empty list.
    pub(crate) fn json_list(self, expression: &str) -> String {
        match self {
            Self::Postgres => format!("CAST(COALESCE(jsonb_agg({expression}), '[]') AS text)"),
            Self::Sqlite => format!("json_group_array({expression})"),
        }
    }

    /// A UUID as text that [`uuid::Uuid`] reads.
    pub(crate) fn readable_uuid(self, column: &str) -> String {
        match self {
            Self::Postgres => format!("CAST({column} AS text)"),
            Self::Sqlite => format!("hex({column})"),
        }
    }

    /// A select of the UUIDs in a parameter, a JSON list of them in their usual form, each as `id`.
    pub(crate) fn listed_uuids(self, bind: &str) -> String {
        match self {
            Self::Postgres => format!("SELECT CAST(value AS uuid) AS id FROM jsonb_array_elements_text({bind})"),
            Self::Sqlite => format!("SELECT unhex(replace(value, '-', '')) AS id FROM json_each({bind})"),
        }
    }

    /// A text column as [`crate::input::login_key`] spells it: A-Z folded, whatever the database's locale. The unique
    /// indexes are on these very expressions.
    pub(crate) fn folded(self, column: &str) -> String {
        match self {
            Self::Postgres => format!(r#"lower({column} COLLATE "C")"#),
            Self::Sqlite => format!("lower({column})"),
        }
    }

    /// All columns of an entity, for a model to be read from.
    pub(crate) fn columns_of<E: EntityTrait>(self) -> String {
        row::columns_of::<E>(None)
    }

    /// Some columns of an entity, likewise.
    pub(crate) fn some_columns_of<E: EntityTrait>(self, names: &[&str]) -> String {
        let find = |name: &&str| {
            let found = E::Column::iter().find(|column| column.as_str() == *name);
            // The names are constants of this crate, and a test prepares every statement.
            found.unwrap_or_else(|| unreachable!("{} has no column {name}", E::default().table_name()))
        };
        row::select_list(None, names.iter().map(find))
    }
}

/// Microseconds since 1970 of a stored time, as an integer. SQLite's own functions know milliseconds at best, so the
/// fraction is cut out of the text, which the schema holds to the form `YYYY-MM-DDTHH:MM:SS[.f]+00:00`.
fn sqlite_micros(time: &str) -> String {
    format!(
        "(unixepoch({time}) * 1000000 + \
         CAST(round(CAST('0' || replace(substr({time}, 20), '+00:00', '') AS REAL) * 1000000) AS INTEGER))"
    )
}
