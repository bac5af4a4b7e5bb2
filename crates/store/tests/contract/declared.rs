//! What the entities declare, as lines of text that can be compared with those of a database (catalog.rs).

use std::collections::BTreeSet;

use conferencing_store::entity::{
    audit_log, auth_provider, feed_checkpoint, inbox_event, media_node, recording, room, room_participant, user,
};
use sea_orm::sea_query::{ColumnType, StringLen, TableRef};
use sea_orm::{
    ColumnTrait, DbBackend, EntityTrait, IdenStatic, Iterable, PrimaryKeyToColumn, RelationDef, RelationTrait,
};

/// A line for each fact about a schema. Two schemas are equal when their sets of lines are, so a comparison shows a
/// difference in either direction by its lines.
pub type Facts = BTreeSet<String>;

/// What an entity declares.
pub struct Table {
    pub name: &'static str,
    pub columns: Vec<Column>,
    primary_key: Vec<&'static str>,
    /// Relations whose foreign key this table has.
    belongs_to: Vec<RelationDef>,
}

pub struct Column {
    pub name: &'static str,
    pub kind: ColumnType,
    pub nullable: bool,
}

/// The tables, each after those that it refers to.
pub fn tables() -> Vec<Table> {
    vec![
        declared::<user::Entity>(),
        declared::<auth_provider::Entity>(),
        declared::<room::Entity>(),
        declared::<media_node::Entity>(),
        declared::<room_participant::Entity>(),
        declared::<recording::Entity>(),
        declared::<inbox_event::Entity>(),
        declared::<feed_checkpoint::Entity>(),
        declared::<audit_log::Entity>(),
    ]
}

fn declared<E: EntityTrait>() -> Table {
    let columns = E::Column::iter().map(|column| {
        let definition = column.def();
        Column {
            name: column.as_str(),
            kind: definition.get_column_type().clone(),
            nullable: definition.is_null(),
        }
    });
    Table {
        name: E::default().table_name(),
        columns: columns.collect(),
        primary_key: E::PrimaryKey::iter().map(|key| key.into_column().as_str()).collect(),
        belongs_to: E::Relation::iter()
            .map(|relation| relation.def())
            .filter(|relation| !relation.is_owner)
            .collect(),
    }
}

/// What the feed finds events by, which no entity has.
fn feed_facts(backend: DbBackend) -> Facts {
    let facts: &[&str] = match backend {
        DbBackend::Sqlite => &[],
        _ => &["audit_logs.transaction: xid8", "audit_logs.sequence: bigint"],
    };
    facts.iter().map(|fact| (*fact).to_owned()).collect()
}

/// The facts that a database of the entities would have.
pub fn entity_facts(backend: DbBackend) -> Facts {
    let mut facts = feed_facts(backend);
    for table in tables() {
        let name = table.name;
        let strict = if backend == DbBackend::Sqlite { ", strict" } else { "" };
        facts.insert(format!("table {name}{strict}"));
        facts.insert(format!("{name}: primary key ({})", table.primary_key.join(", ")));
        for reference in table.belongs_to.iter().map(reference) {
            // On PostgreSQL triggers hold these, see `VIOLATIONS` and ADR 11.
            let by_trigger = name == "audit_logs" || reference.starts_with("node_id ");
            if backend == DbBackend::Sqlite || !by_trigger {
                facts.insert(format!("{name}.{reference}"));
            }
        }
        for column in &table.columns {
            let null = if column.nullable { ", nullable" } else { "" };
            let kind = type_name(backend, &column.kind);
            facts.insert(format!("{name}.{}: {kind}{null}", column.name));
            match (backend, type_check(column)) {
                (DbBackend::Sqlite, Some(check)) => facts.insert(format!("{name}: {check}")),
                _ => false,
            };
            match (backend, &column.kind) {
                (DbBackend::Postgres, ColumnType::Enum { name, variants }) if !variants.is_empty() => {
                    facts.insert(format!("type {}: {}", name, labels(&column.kind).join(", ")))
                }
                _ => false,
            };
        }
    }
    facts
}

fn reference(relation: &RelationDef) -> String {
    let TableRef::Table(to_table, _) = &relation.to_tbl else {
        panic!("a relation to something that is no table: {relation:?}");
    };
    let columns = |identity: &sea_orm::Identity| {
        let names: Vec<String> = identity.iter().map(ToString::to_string).collect();
        names.join(", ")
    };
    let on_delete = relation
        .on_delete
        .as_ref()
        .map_or("NoAction".to_owned(), |action| format!("{action:?}"));
    format!(
        "{} -> {}.{} on delete {on_delete}",
        columns(&relation.from_col),
        to_table.1,
        columns(&relation.to_col),
    )
}

fn type_name(backend: DbBackend, kind: &ColumnType) -> String {
    let (postgres, sqlite) = match kind {
        ColumnType::Uuid => ("uuid".to_owned(), "BLOB"),
        ColumnType::String(StringLen::N(length)) => (format!("character varying({length})"), "TEXT"),
        ColumnType::Text => ("text".to_owned(), "TEXT"),
        ColumnType::TimestampWithTimeZone => ("timestamp with time zone".to_owned(), "TEXT"),
        ColumnType::JsonBinary => ("jsonb".to_owned(), "TEXT"),
        ColumnType::Enum { name, .. } => (name.to_string(), "TEXT"),
        ColumnType::Boolean => ("boolean".to_owned(), "INTEGER"),
        ColumnType::Integer => ("integer".to_owned(), "INTEGER"),
        ColumnType::BigInteger => ("bigint".to_owned(), "INTEGER"),
        other => panic!("no column of ours has the type {other:?}"),
    };
    match backend {
        DbBackend::Sqlite => sqlite.to_owned(),
        _ => postgres,
    }
}

/// What a CHECK on SQLite says about a column because no type there does.
fn type_check(column: &Column) -> Option<String> {
    let name = column.name;
    match &column.kind {
        ColumnType::Uuid => Some(format!("length({name}) = 16")),
        ColumnType::String(StringLen::N(length)) => Some(format!("length({name}) <= {length}")),
        ColumnType::TimestampWithTimeZone => Some(format!("{name} LIKE '____-__-__T__:__:__%+00:00'")),
        ColumnType::JsonBinary => Some(format!("json_valid({name})")),
        ColumnType::Boolean => Some(format!("{name} IN (0, 1)")),
        // `inet`: an IPv6 address with an embedded IPv4 one is the longest.
        ColumnType::Enum { variants, .. } if variants.is_empty() => Some(format!("length({name}) <= 45")),
        ColumnType::Enum { .. } => Some(format!("{name} IN ('{}')", labels(&column.kind).join("', '"))),
        _ => None,
    }
}

fn labels(kind: &ColumnType) -> Vec<String> {
    match kind {
        ColumnType::Enum { variants, .. } => variants.iter().map(ToString::to_string).collect(),
        _ => Vec::new(),
    }
}

/// The name of the CHECK on SQLite that stands for the type that the column has on PostgreSQL.
pub fn type_check_name(table: &str, column: &Column) -> Option<String> {
    // What a later migration adds has a CHECK of its own.
    if (table, column.name) == ("users", "guest_since") {
        return Some("ck_users_guest_since".to_owned());
    }
    let what = match &column.kind {
        ColumnType::Uuid => "ids",
        ColumnType::String(_) => "lengths",
        ColumnType::TimestampWithTimeZone => "times",
        ColumnType::Boolean => "flags",
        ColumnType::Enum { variants, .. } if variants.is_empty() => "lengths",
        ColumnType::Enum { .. } | ColumnType::JsonBinary => column.name,
        _ => return None,
    };
    Some(format!("ck_{table}_{what}"))
}

/// The CHECKs that SQLite alone has.
pub fn type_check_names() -> Facts {
    let tables = tables();
    let of_table = |table: &Table| -> Vec<String> {
        let names = table
            .columns
            .iter()
            .filter_map(|column| type_check_name(table.name, column));
        names.collect()
    };
    tables.iter().flat_map(of_table).collect()
}
