//! What the appending side was told, to be held against what the database has.

use std::collections::{BTreeMap, BTreeSet};

use conferencing_store::entity::{AuditAction, AuditLogId, audit_log};
use conferencing_store::{Error, Result};
use sea_orm::{ColumnTrait, Database, DatabaseConnection, EntityTrait, QueryFilter};

/// The outcome of every append that has ended.
#[derive(Debug, Default)]
pub struct Ledger {
    acknowledged: BTreeMap<AuditLogId, String>,
    /// Texts whose appends ended so that nobody knows whether they took effect.
    uncertain: BTreeSet<String>,
    /// How many ended with each kind of error.
    errors: BTreeMap<&'static str, usize>,
    /// Errors that a caller must not get for a server that went away.
    undocumented: Vec<Error>,
}

impl Ledger {
    /// How many were acknowledged.
    pub fn acknowledged(&self) -> usize {
        self.acknowledged.len()
    }

    /// Enters an acknowledgement.
    pub fn acknowledge(&mut self, id: AuditLogId, text: String) {
        let before = self.acknowledged.insert(id, text);
        assert_eq!(before, None, "two appends were given the id {id}");
    }

    /// Enters that nobody was told how the append of `text` ended.
    pub fn leave_open(&mut self, text: String) {
        self.uncertain.insert(text);
    }

    /// Enters how an append ended while the server went away or came back.
    pub fn enter(&mut self, text: String, outcome: Result<AuditLogId>) {
        let kind = match outcome {
            Ok(id) => return self.acknowledge(id, text),
            Err(Error::Indeterminate { .. }) => {
                self.leave_open(text);
                "indeterminate"
            }
            Err(Error::Transient { .. }) => "transient",
            Err(Error::Unreachable { .. }) => "unreachable",
            Err(other) => {
                self.undocumented.push(other);
                "undocumented"
            }
        };
        *self.errors.entry(kind).or_default() += 1;
    }

    /// How many errors of each kind there were.
    pub fn errors(&self) -> &BTreeMap<&'static str, usize> {
        &self.errors
    }

    /// Holds the ledger against the audit log: what was acknowledged is there with its text, no text is there twice, and of the
    /// rest only that is there of which nobody knew.
    pub async fn assert_is_what_the_audit_log_has(&self, db: &DatabaseConnection) {
        assert!(self.undocumented.is_empty(), "{:?}", self.undocumented);
        let mut ids_of_texts = BTreeMap::<String, Vec<AuditLogId>>::new();
        let mut found = BTreeMap::new();
        let closed = audit_log::Column::Action.eq(AuditAction::ProducerClosed);
        for row in audit_log::Entity::find().filter(closed).all(db).await.unwrap() {
            let text = row.metadata.unwrap()["producer_id"].as_str().unwrap().to_owned();
            ids_of_texts.entry(text.clone()).or_default().push(row.id);
            let before = found.insert(row.id, text);
            assert_eq!(before, None, "{} is there twice", row.id);
        }
        let doubled: Vec<_> = ids_of_texts.iter().filter(|(_, ids)| ids.len() > 1).collect();
        assert!(doubled.is_empty(), "texts that are there twice: {doubled:?}");
        let lost: Vec<_> = self
            .acknowledged
            .iter()
            .filter(|(id, text)| found.get(id) != Some(text))
            .collect();
        assert!(
            lost.is_empty(),
            "{} of {} acknowledged events are lost, among them {:?}",
            lost.len(),
            self.acknowledged.len(),
            lost[0]
        );
        let unasked: Vec<_> = found
            .iter()
            .filter(|(id, text)| !self.acknowledged.contains_key(id) && !self.uncertain.contains(*text))
            .collect();
        assert!(unasked.is_empty(), "events whose appends had failed: {unasked:?}");
    }
}

/// A connection past the store.
pub async fn raw(url: &str) -> DatabaseConnection {
    Database::connect(url).await.unwrap()
}
