//! docs/sql/grants.sql: with these rights the store does all that it does, and the audit log withstands its role.

use conferencing_migration::{Migrator, MigratorTrait};
use conferencing_store::{Actor, AuditFilter, Error, Observation, WriterSettings};
use sea_orm::{ConnectionTrait, TransactionTrait};

use crate::harness::{Case, Raw, TestDb, copy_of, empty_database_with, raw_of, role_name, with_role};
use crate::past_pooler;
use crate::rows::Refusal;

crate::cases![
    @Postgres the_store_runs_under_the_applications_role,
    @Postgres the_applications_role_cannot_tamper_with_the_audit_log,
    @Postgres the_applications_role_has_no_other_rights,
    @Postgres auditors_read_the_audit_log_alone,
    @Postgres a_new_partition_needs_no_further_rights,
    @Postgres a_trigger_that_was_switched_off_is_found,
    @Postgres rights_on_other_tables_stay_as_they_are,
    @Postgres a_start_with_nothing_to_migrate_needs_no_right_to,
];

const GRANTS: &str = include_str!("../../../../docs/sql/grants.sql");
const CHECK: &str = include_str!("../../../../docs/sql/check_triggers.sql");

/// A database that is its owner's, as docs/OPERATIONS.md has it.
pub struct Roles {
    /// By its superuser.
    pub url: String,
    pub owner: String,
    pub app: String,
    auditor: String,
}

impl Roles {
    /// Makes roles of this case's own, migrates a database as its owner, and gives the rights.
    pub async fn set(db: &TestDb) -> Self {
        let [owner, app, auditor] = ["owner", "app", "auditor"].map(role_name);
        let server = db.raw().await;
        for role in [&owner, &app, &auditor] {
            server
                .run(&format!(
                    "CREATE ROLE {role} LOGIN PASSWORD '{role}' NOSUPERUSER NOCREATEDB NOCREATEROLE"
                ))
                .await;
        }
        let url = empty_database_with(&format!("OWNER {owner}")).await;
        // What version 15 and later come with.
        let schema = raw_of(&url).await;
        schema.run("REVOKE CREATE ON SCHEMA public FROM PUBLIC").await;
        schema
            .run(&format!("GRANT USAGE, CREATE ON SCHEMA public TO {owner}"))
            .await;
        schema.db.close().await.unwrap();
        let owned = raw_of(&with_role(&url, &owner)).await;
        Migrator::up(&owned.db, None).await.unwrap();
        owned.db.close().await.unwrap();
        server.db.close().await.unwrap();
        let roles = Self {
            url,
            owner,
            app,
            auditor,
        };
        roles.grant().await;
        roles
    }

    /// Runs docs/sql/grants.sql.
    async fn grant(&self) {
        let owned = self.raw_as(&self.owner).await;
        let grants = GRANTS.replace("meet_app", &self.app);
        owned.run(&grants.replace("meet_auditor", &self.auditor)).await;
        owned.db.close().await.unwrap();
    }

    async fn raw_as(&self, role: &str) -> Raw {
        raw_of(&with_role(&self.url, role)).await
    }

    /// The database, for the application.
    pub async fn app(&self) -> TestDb {
        TestDb::on_postgres(with_role(&self.url, &self.app)).await
    }
}

/// Cases of other modules that look at what the store does and change nothing past it.
const RUN: &[fn() -> Vec<Case>] = &[
    crate::audit_export::cases,
    crate::export::cases,
    crate::lifecycle::cases,
    crate::moderation::cases,
    crate::nodes::cases,
    crate::participants::cases,
    crate::presence::cases,
    crate::reconcile::cases,
    crate::recordings::cases,
    crate::privacy::cases,
    crate::recordings_purges::cases,
    crate::recordings_sweeps::cases,
    crate::room_settings::cases,
    crate::tokens::cases,
];

/// It changes the schema by hand.
const NOT: &str = "audit_export::what_this_build_does_not_know_is_exported_as_it_is";

/// Runs the table of all that writes, and whole files of cases, each with a database of its own, which was copied with its rights.
async fn the_store_runs_under_the_applications_role(db: TestDb) {
    let roles = Roles::set(&db).await;
    let cases = RUN.iter().flat_map(|cases| cases()).filter(|case| case.name != NOT);
    let cases = cases.filter(|case| past_pooler::reason(&case.name).is_none());
    let mut failed = Vec::new();
    for case in cases {
        let copy = copy_of(&roles.url, &roles.owner).await;
        let app = TestDb::on_postgres(with_role(&copy, &roles.app)).await;
        if tokio::spawn((case.body)(app)).await.is_err() {
            failed.push(case.name);
        }
    }
    assert_eq!(failed, Vec::<String>::new());
    let copy = copy_of(&roles.url, &roles.owner).await;
    let app = TestDb::on_postgres(with_role(&copy, &roles.app)).await;
    let writer = app.store.audit_writer(WriterSettings::default()).unwrap();
    let actor = Actor::system("test");
    writer.append(&actor, None, Observation::UserLogout {}).await.unwrap();
    assert_eq!(writer.close().await.written, 1);
    app.store.health().await.unwrap();
    // Refused for who asks, which is recorded; not for want of rights.
    let outsider = app.store.acting(&Actor::anonymous());
    let refused = outsider
        .audit()
        .export(AuditFilter::default(), None)
        .await
        .err()
        .unwrap();
    assert!(matches!(refused, Error::Rejected(_)), "{refused:?}");
    let copy = copy_of(&roles.url, &roles.owner).await;
    let app = TestDb::on_postgres(with_role(&copy, &roles.app)).await;
    crate::atomicity::every_change_is_recorded_exactly_once(app).await;
}

/// Everything there is in the database that the audit log's safety rests on, and the audit log.
async fn state(roles: &Roles) -> Vec<String> {
    let raw = raw_of(&roles.url).await;
    let sql = "SELECT CAST(a AS text) FROM audit_logs AS a
        UNION ALL SELECT CAST(t AS text) FROM pg_trigger AS t
        UNION ALL SELECT CAST(p AS text) FROM pg_proc AS p WHERE pronamespace = 'public'::regnamespace
        UNION ALL SELECT CAST(relid AS text) FROM pg_partition_tree('audit_logs')
        UNION ALL SELECT concat(relname, relowner, relacl) FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1";
    let state = raw.texts(sql).await;
    raw.db.close().await.unwrap();
    state
}

async fn the_applications_role_cannot_tamper_with_the_audit_log(db: TestDb) {
    let roles = Roles::set(&db).await;
    let app = roles.app().await;
    let ada = app.user("ada").await;
    app.room(&ada, 5).await;
    let raw = app.raw().await;
    let mut tables = raw
        .texts("SELECT CAST(relid AS text) FROM pg_partition_tree('audit_logs')")
        .await;
    tables.sort();
    assert_eq!(tables.len(), 6);
    let before = state(&roles).await;
    let mut statements: Vec<String> = [
        "SET session_replication_role = replica",
        "ALTER TABLE audit_logs DETACH PARTITION audit_logs_before",
        "ALTER TABLE audit_logs DETACH PARTITION audit_logs_default CONCURRENTLY",
        "CREATE OR REPLACE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END'",
        "DROP FUNCTION refuse_audit_change() CASCADE",
        "ALTER FUNCTION refuse_audit_change() RENAME TO refuse_nothing",
        "SELECT attach_audit_partition('audit_logs_2040_02', '2040-02-01 00:00+00', '2040-03-01 00:00+00')",
        "INSERT INTO audit_logs SELECT * FROM audit_logs ON CONFLICT (id, timestamp) DO UPDATE SET user_agent = 'y'",
        "DELETE FROM users",
        "TRUNCATE users CASCADE",
        "DROP TABLE users CASCADE",
        "DROP SCHEMA public CASCADE",
        "CREATE TABLE public.mine (id int)",
    ]
    .map(str::to_owned)
    .into();
    statements.push(format!("SET ROLE {}", roles.owner));
    statements.push(format!("GRANT {} TO {}", roles.owner, roles.app));
    for table in &tables {
        for statement in [
            "UPDATE % SET user_agent = 'y'",
            "DELETE FROM %",
            "TRUNCATE %",
            "DROP TABLE % CASCADE",
            "SELECT * FROM % FOR UPDATE",
            "ALTER TABLE % DISABLE TRIGGER tr_audit_logs_immutable",
            "ALTER TABLE % DISABLE TRIGGER ALL",
            "DROP TRIGGER tr_audit_logs_immutable ON %",
            "DROP TRIGGER tr_audit_logs_no_truncate ON %",
            "CREATE TRIGGER tr_a BEFORE INSERT ON % FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
            "CREATE RULE hush AS ON INSERT TO % DO INSTEAD NOTHING",
            "ALTER TABLE % DROP COLUMN user_agent",
            "ALTER TABLE % OWNER TO CURRENT_USER",
            "ALTER TABLE % RENAME TO elsewhere",
        ] {
            statements.push(statement.replace('%', table));
        }
        if table != "audit_logs" {
            statements.push(format!("INSERT INTO {table} SELECT * FROM audit_logs"));
            statements.push(format!("SELECT * FROM {table}"));
        }
    }
    // This one succeeds, and grants nothing.
    raw.run("GRANT UPDATE, DELETE, TRUNCATE, TRIGGER ON audit_logs TO CURRENT_USER")
        .await;
    for sql in &statements {
        let attempt = raw.db.begin().await.unwrap();
        let outcome = attempt.execute_unprepared(sql).await;
        // Committed, were it not refused.
        attempt.commit().await.unwrap();
        let Err(error) = outcome else {
            panic!("{sql}: not refused")
        };
        // A privilege that is wanting; DETACH CONCURRENTLY asks first whether it is in a transaction.
        let code = Refusal::of(&error).code;
        assert!(
            code == "42501" || sql.ends_with("CONCURRENTLY") && code == "25001",
            "{sql}: {error}"
        );
    }
    assert_eq!(state(&roles).await, before);
}

async fn the_applications_role_has_no_other_rights(db: TestDb) {
    let roles = Roles::set(&db).await;
    let raw = roles.raw_as(&roles.app).await;
    let held = "SELECT format('%s: %s', relname, string_agg(privilege_type, ', ' ORDER BY privilege_type))
        FROM pg_class, aclexplode(relacl) WHERE grantee = CURRENT_USER::regrole OR grantee = 0 AND relnamespace = 'public'::regnamespace
        GROUP BY relname ORDER BY relname";
    assert_eq!(
        raw.texts(held).await,
        [
            "audit_logs: INSERT, SELECT",
            "audit_logs_sequence: USAGE",
            "auth_providers: DELETE, INSERT, SELECT, UPDATE",
            "conferencing_migrations: SELECT",
            "feed_checkpoints: INSERT, SELECT, UPDATE",
            "inbox: DELETE, INSERT, SELECT, UPDATE",
            "media_nodes: INSERT, SELECT, UPDATE",
            "recordings: INSERT, SELECT, UPDATE",
            "room_participants: INSERT, SELECT, UPDATE",
            "rooms: INSERT, SELECT, UPDATE",
            "users: INSERT, SELECT, UPDATE",
        ]
    );
    let callable = "SELECT CAST(proname AS text) FROM pg_proc
        WHERE pronamespace = 'public'::regnamespace AND has_function_privilege(oid, 'EXECUTE')";
    assert_eq!(raw.texts(callable).await, ["only_by_index"]);
    assert_eq!(
        raw.number("SELECT CAST(has_schema_privilege('public', 'CREATE') AS int)")
            .await,
        0
    );
}

async fn auditors_read_the_audit_log_alone(db: TestDb) {
    let roles = Roles::set(&db).await;
    roles.app().await.user("ada").await;
    let raw = roles.raw_as(&roles.auditor).await;
    assert_eq!(raw.number("SELECT count(*) FROM audit_logs").await, 1);
    for sql in [
        "SELECT * FROM users",
        "SELECT * FROM auth_providers",
        "SELECT * FROM audit_logs_before",
        "INSERT INTO audit_logs SELECT * FROM audit_logs",
        "UPDATE audit_logs SET user_agent = 'y'",
        "DELETE FROM audit_logs",
        "TRUNCATE audit_logs",
    ] {
        assert_eq!(Refusal::of(&raw.execute(sql).await.unwrap_err()).code, "42501", "{sql}");
    }
}

async fn a_new_partition_needs_no_further_rights(db: TestDb) {
    let roles = Roles::set(&db).await;
    let owned = roles.raw_as(&roles.owner).await;
    owned
        .run("SELECT attach_audit_partition('audit_logs_2040_02', '2040-02-01 00:00+00', '2040-03-01 00:00+00')")
        .await;
    let app = roles.app().await;
    let (store, _) = app.with_clock_at("2040-02-03T04:05:06Z".parse().unwrap()).await;
    let acting = store.acting(&Actor::system("test"));
    acting.audit().append(None, Observation::UserLogout {}).await.unwrap();
    assert_eq!(store.audit().count(&AuditFilter::default()).await.unwrap(), 1);
    assert_eq!(owned.number("SELECT count(*) FROM audit_logs_2040_02").await, 1);
    // It refuses its owner too.
    for sql in [
        "DELETE FROM audit_logs",
        "UPDATE audit_logs_2040_02 SET user_agent = 'y'",
        "TRUNCATE audit_logs_2040_02",
    ] {
        let refusal = Refusal::of(&owned.execute(sql).await.unwrap_err());
        assert_eq!(
            refusal.constraint.as_deref(),
            Some("tr_audit_logs_immutable"),
            "{sql}: {refusal:?}"
        );
    }
    let replica = owned.execute("SET session_replication_role = replica").await;
    assert_eq!(Refusal::of(&replica.unwrap_err()).code, "42501");
}

async fn a_trigger_that_was_switched_off_is_found(db: TestDb) {
    let raw = db.raw().await;
    let found = async || {
        raw.texts(&format!(
            "SELECT concat_ws(' ', name, trigger, state) FROM ({CHECK}) AS found ORDER BY 1"
        ))
        .await
    };
    assert_eq!(found().await, Vec::<String>::new());
    raw.run("ALTER TABLE audit_logs_before DISABLE TRIGGER tr_audit_logs_immutable")
        .await;
    raw.run("ALTER TABLE audit_logs_default ENABLE TRIGGER tr_audit_logs_no_truncate")
        .await;
    raw.run("DROP TRIGGER tr_audit_logs_no_truncate ON audit_logs").await;
    assert_eq!(
        found().await,
        [
            "audit_logs tr_audit_logs_no_truncate missing",
            "audit_logs_before tr_audit_logs_immutable D",
            "audit_logs_default tr_audit_logs_no_truncate O",
        ]
    );
}

/// A service's own tables, functions and sequences stand beside ours, and somebody else than the owner has made some of them.
async fn rights_on_other_tables_stay_as_they_are(db: TestDb) {
    let roles = Roles::set(&db).await;
    let owned = roles.raw_as(&roles.owner).await;
    owned
        .run(&format!(
            "CREATE TABLE notes (id bigserial PRIMARY KEY, author uuid NOT NULL REFERENCES users (id), text text);
             CREATE FUNCTION noted(uuid) RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM notes WHERE author = $1';
             GRANT SELECT, INSERT, DELETE ON notes TO {0};
             GRANT USAGE ON SEQUENCE notes_id_seq TO {0};
             GRANT SELECT ON notes TO {1}, PUBLIC",
            roles.app, roles.auditor
        ))
        .await;
    raw_of(&roles.url)
        .await
        .run(&format!(
            "CREATE TABLE others (id integer); GRANT ALL ON others TO {}",
            roles.app
        ))
        .await;
    // What default privileges have given on a month is taken back.
    owned
        .run(&format!(
            "GRANT ALL ON audit_logs_before, users TO {}, PUBLIC",
            roles.app
        ))
        .await;
    let rights = "SELECT format('%s %s', oid::regclass, relacl) FROM pg_class WHERE relname IN ('notes', 'notes_id_seq', 'others')
        UNION ALL SELECT format('%s %s', oid::regprocedure, proacl) FROM pg_proc WHERE proname = 'noted'
        UNION ALL SELECT format('schema %s', nspacl) FROM pg_namespace WHERE nspname = 'public' ORDER BY 1";
    let before = owned.texts(rights).await;
    assert_eq!(before.len(), 5);
    roles.grant().await;
    assert_eq!(owned.texts(rights).await, before);
    let app = roles.raw_as(&roles.app).await;
    assert_eq!(app.number("SELECT noted(gen_random_uuid())").await, 0);
    for (table, held) in [("audit_logs_before", ""), ("users", "INSERT, SELECT, UPDATE")] {
        let sql = format!(
            "SELECT coalesce(string_agg(privilege_type, ', ' ORDER BY privilege_type), '') FROM pg_class, aclexplode(relacl)
            WHERE relname = '{table}' AND grantee IN (0, CURRENT_USER::regrole)"
        );
        assert_eq!(app.texts(&sql).await, [held], "{table}");
    }
}

async fn a_start_with_nothing_to_migrate_needs_no_right_to(db: TestDb) {
    let roles = Roles::set(&db).await;
    let app = roles.raw_as(&roles.app).await;
    let migrated = conferencing_migration::migrate(&app.db).await.unwrap();
    assert_eq!(migrated.applied, Vec::<String>::new());
    Migrator::status(&app.db).await.unwrap();
    // Where something is pending, it is told that the right is wanting.
    let owned = roles.raw_as(&roles.owner).await;
    owned.run("DELETE FROM conferencing_migrations").await;
    let refused = conferencing_migration::migrate(&app.db).await.unwrap_err();
    assert!(refused.to_string().contains("permission denied"), "{refused}");
}
