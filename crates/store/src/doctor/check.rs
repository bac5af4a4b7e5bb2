//! What is looked for, how grave it is and what helps: docs/OPERATIONS.md has the same table.

use std::fmt;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Good to know.
    Note,
    /// It will be a fault, or leaves the database without a protection.
    Warning,
    /// A fault now: data is wrong or may be lost, or this build does not work as it should.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// Makes [`Check`] of a list: `Variant "name" severity "what it means" "what helps"`.
macro_rules! checks {
    ($($variant:ident $name:literal $severity:ident $meaning:literal $remedy:literal)+) => {
        /// What [`crate::Store::doctor`] looks for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
        #[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
        #[serde(rename_all = "snake_case")]
        #[non_exhaustive]
        pub enum Check {
            $(#[doc = $meaning] $variant,)+
        }

        impl Check {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Its name, as in JSON and in docs/OPERATIONS.md.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// How grave each of its findings is.
            pub fn severity(self) -> Severity {
                match self { $(Self::$variant => Severity::$severity),+ }
            }

            /// What a finding means.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning),+ }
            }

            /// What helps, with `<…>` where a finding's own remedy has a name or a number.
            pub fn remedy(self) -> &'static str {
                match self { $(Self::$variant => $remedy),+ }
            }
        }
    };
}

checks! {
    SchemaDrift "schema_drift" Error
        "A table, column, constraint, function, sequence or label that this build expects is missing or different."
        "Run the migrations of this build. Where none is pending, put it back by hand as it was; `Store::describe_schema` shows the whole schema."
    IndexMissing "index_missing" Error
        "An index is missing or different: what it serves is slow, and what a unique one forbids can happen."
        "<definition>;"
    IndexInvalid "index_invalid" Error
        "An index is not valid: the CREATE or REINDEX that was to make it broke off. It is kept up and serves nobody."
        "REINDEX INDEX CONCURRENTLY <index>; -- or DROP INDEX CONCURRENTLY, if its name ends in _ccnew or _ccold"
    IndexUnused "index_unused" Note
        "An index that no statement has used since the statistics began, 30 days ago or more."
        "Nothing, if it belongs to this schema: not every service asks all there is to ask. One of your own: DROP INDEX CONCURRENTLY <index>;"
    TriggerMissing "trigger_missing" Error
        "A trigger is missing: the rules that it holds can be broken."
        "<definition>; ALTER TABLE <table> ENABLE ALWAYS TRIGGER <trigger>;"
    TriggerOff "trigger_off" Error
        "A trigger is switched off, does not fire always or is not the one that it should be."
        "ALTER TABLE <table> ENABLE ALWAYS TRIGGER <trigger>; -- then ask who switched it off, and what was changed meanwhile"
    MigrationPending "migration_pending" Error
        "A migration of this build was not applied, or what tells of it is gone."
        "conferencing-migration up"
    MigrationUnknown "migration_unknown" Note
        "A migration was applied that this build does not know: a newer build's, or one of the service's own."
        "Nothing while a newer build is rolled out. After a way back: conferencing-migration down, by the newer build."
    CountersWrong "counters_wrong" Error
        "A room's counter is not what its participations add up to: seats are refused or given away."
        "BEGIN; SELECT FROM rooms WHERE id = '<room>' FOR UPDATE; UPDATE rooms SET <counter> = (SELECT count(*) FROM room_participants WHERE room_id = rooms.id AND <counted>) WHERE id = '<room>'; COMMIT;"
    MonthsAhead "months_ahead" Warning
        "The audit log has partitions for fewer than two months ahead."
        "cargo run -p examples --bin audit_months -- --make --ahead 3, by the tables' owner"
    DefaultPartition "default_partition" Warning
        "Events lie in the default partition: their month was missing, and is never archived."
        "Make the months ahead in time (months_ahead). What is there already stays, and is found like all else."
    ClockDifference "clock_difference" Warning
        "This process's clock and the server's differ by more than a second."
        "Synchronise both machines' clocks: the store's is what events, bans and media nodes go by."
    Pooler "pooler" Note
        "A pooler in transaction mode stands between: no session is this process's own. (One that gives sessions cannot be told from the server.)"
        "Nothing, if it is meant: open the store with pgbouncer=true."
    NoLimits "no_limits" Warning
        "The sessions have no lock_timeout or statement_timeout: each change takes three round trips to set its own."
        "ALTER ROLE <role> SET lock_timeout = '5s'; ALTER ROLE <role> SET statement_timeout = '30s';"
    Superuser "superuser" Warning
        "The role is a superuser, or may make itself one of the owner's: no right and no trigger holds against it."
        "Let the service connect as a role with the rights of docs/sql/grants.sql. For an administrator's own look all is well."
    OwnsTables "owns_tables" Warning
        "The role owns the tables: it can switch off what protects the audit log."
        "Let the service connect as a role with the rights of docs/sql/grants.sql. For migrations and upkeep all is well."
    RightsTooMany "rights_too_many" Warning
        "The role has a right that the store does not need."
        "REVOKE <rights> ON <object> FROM <role>; -- or from PUBLIC or the role through which it is held"
    RightsMissing "rights_missing" Error
        "The role lacks a right that the store needs."
        "GRANT <rights> ON <object> TO <role>; -- docs/sql/grants.sql has all of them"
    LosesData "loses_data" Error
        "A setting of the database lets it forget or spoil in a crash what it has reported as committed."
        "<setting>"
    JournalNotWal "journal_not_wal" Warning
        "The SQLite file is not in WAL mode: readers and the writer wait for each other."
        "PRAGMA journal_mode = WAL; the store sets it when it opens the file by its address."
    ForeignKeysOff "foreign_keys_off" Error
        "SQLite's foreign keys are off on this connection: a row may point at nothing."
        "PRAGMA foreign_keys = ON for each connection; the store sets it when it opens the file by its address."
    FileDamaged "file_damaged" Error
        "The SQLite file is damaged, or holds a row that breaks a rule of its table."
        "Stop whoever writes, copy the file with its -wal and -shm, and restore a backup; sqlite3 <file> .recover saves what can be read."
    BrokenReference "broken_reference" Error
        "A row points at a row that is not there."
        "PRAGMA foreign_key_check(<table>); tells which. Put the missing row back, or take out what points at it."
    NotChecked "not_checked" Warning
        "A question could not be answered: the role has no right to ask it, or it took too long."
        "Ask again with a role that may, or with more time (`DoctorSettings::limit`)."
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_every_check() {
        let row = |check: &Check| {
            let remedy = check.remedy().replace('<', "\\<");
            let (severity, meaning) = (check.severity(), check.meaning());
            format!("| `{check}` | {severity} | {meaning} | {remedy} |")
        };
        let expected: Vec<String> = Check::ALL.iter().map(row).collect();
        let document = include_str!("../../../../docs/OPERATIONS.md");
        let (_, section) = document.split_once("| check | severity |").unwrap();
        let rows = section.lines().skip(2).take_while(|line| line.starts_with('|'));
        assert_eq!(rows.collect::<Vec<_>>(), expected, "{}", expected.join("\n"));
    }

    #[test]
    fn a_check_is_called_alike_everywhere() {
        for check in Check::ALL {
            assert_eq!(serde_json::to_value(check).unwrap(), check.name());
        }
    }
}
