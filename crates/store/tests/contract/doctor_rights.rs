//! What the doctor says of the role that asks.

use conferencing_store::{Check, Report};

use crate::doctor::{examine, grave, of, the};
use crate::grants::Roles;
use crate::harness::{Raw, TestDb, raw_of, with_role};

crate::cases![
    @Postgres a_superuser_and_an_owner_are_told_so,
    @Postgres rights_that_are_too_many_are_found,
    @Postgres rights_that_are_missing_are_found,
    @Postgres it_needs_no_right_but_to_open_the_store,
];

struct Role {
    roles: Roles,
    raw: Raw,
    app: TestDb,
}

impl Role {
    async fn set(db: &TestDb) -> Self {
        let roles = Roles::set(db).await;
        Self {
            raw: raw_of(&roles.url).await,
            app: roles.app().await,
            roles,
        }
    }

    /// Runs SQL with the role's name in it.
    async fn run(&self, sql: &str) {
        self.raw.run(&sql.replace("meet_app", &self.roles.app)).await;
    }

    async fn examine(&self) -> Report {
        examine(&self.app.store).await
    }

    /// Runs the remedy, after which nothing grave is left.
    async fn is_mended_by(&self, remedy: &str) {
        self.raw.run(remedy).await;
        assert_eq!(grave(&self.examine().await), Vec::<String>::new(), "after {remedy}");
    }
}

async fn a_superuser_and_an_owner_are_told_so(db: TestDb) {
    the(&examine(&db.store).await, Check::Superuser, "superuser");
    let role = Role::set(&db).await;
    let owner = TestDb::on_postgres(with_role(&role.roles.url, &role.roles.owner)).await;
    the(&examine(&owner.store).await, Check::OwnsTables, &role.roles.owner);
    // A member of the owner's role may become it.
    role.run(&format!("GRANT {} TO meet_app", role.roles.owner)).await;
    the(&role.examine().await, Check::OwnsTables, &role.roles.app);
    role.run(&format!(
        "REVOKE {} FROM meet_app; ALTER ROLE meet_app CREATEROLE",
        role.roles.owner
    ))
    .await;
    the(&role.examine().await, Check::Superuser, &role.roles.app);
}

async fn rights_that_are_too_many_are_found(db: TestDb) {
    let role = Role::set(&db).await;
    for (grant, what) in [
        ("UPDATE ON audit_logs", "has UPDATE on audit_logs"),
        ("UPDATE (user_agent) ON audit_logs", "has UPDATE on audit_logs"),
        ("DELETE, TRUNCATE ON audit_logs", "has DELETE, TRUNCATE on audit_logs"),
        ("TRIGGER ON audit_logs", "has TRIGGER on audit_logs"),
        ("DELETE ON users", "has DELETE on users"),
        ("TRUNCATE ON rooms", "has TRUNCATE on rooms"),
        ("SELECT ON audit_logs_before", "has SELECT on audit_logs_before"),
        (
            "UPDATE ON conferencing_migrations",
            "has UPDATE on conferencing_migrations",
        ),
        ("CREATE ON SCHEMA public", "has CREATE on SCHEMA public"),
    ] {
        role.run(&format!("GRANT {grant} TO meet_app")).await;
        let report = role.examine().await;
        let finding = the(&report, Check::RightsTooMany, what);
        role.is_mended_by(&finding.remedy).await;
    }
    // Held through everybody.
    role.run("GRANT DELETE ON audit_logs TO PUBLIC").await;
    the(&role.examine().await, Check::RightsTooMany, "has DELETE on audit_logs");
}

async fn rights_that_are_missing_are_found(db: TestDb) {
    let role = Role::set(&db).await;
    for (right, what) in [
        ("UPDATE ON rooms", "lacks UPDATE on rooms"),
        ("INSERT ON audit_logs", "lacks INSERT on audit_logs"),
        ("DELETE ON inbox", "lacks DELETE on inbox"),
        (
            "USAGE ON SEQUENCE audit_logs_sequence",
            "lacks USAGE on SEQUENCE audit_logs_sequence",
        ),
        (
            "EXECUTE ON FUNCTION only_by_index(uuid)",
            "lacks EXECUTE on FUNCTION only_by_index(uuid)",
        ),
    ] {
        role.run(&format!("REVOKE {right} FROM meet_app")).await;
        let finding = the(&role.examine().await, Check::RightsMissing, what);
        role.is_mended_by(&finding.remedy).await;
    }
    // Without this one the counters cannot be looked at, which is a finding and no error.
    role.run("REVOKE SELECT ON room_participants FROM meet_app").await;
    let report = role.examine().await;
    the(&report, Check::RightsMissing, "lacks SELECT on room_participants");
    the(&report, Check::NotChecked, "counters: ");
    assert_eq!(grave(&report).len(), 2, "{report:#?}");
}

async fn it_needs_no_right_but_to_open_the_store(db: TestDb) {
    let role = Role::set(&db).await;
    role.run(
        "REVOKE ALL ON ALL TABLES IN SCHEMA public FROM meet_app; GRANT SELECT ON conferencing_migrations TO meet_app",
    )
    .await;
    assert_eq!(role.app.store.check_schema().await.unwrap(), []);
    role.raw.run("DROP INDEX ix_rooms_live").await;
    let report = role.examine().await;
    the(&report, Check::IndexMissing, "ix_rooms_live");
    let blind: Vec<String> = of(&report, Check::NotChecked).into_iter().map(|one| one.what).collect();
    assert_eq!(blind.len(), 2, "{blind:#?}");
}
