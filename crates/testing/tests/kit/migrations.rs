//! Migrations of a service's own.

use sea_orm_migration::prelude::*;

/// A table with a counter, a row and a trigger: what a copy must have as well.
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(Plans)]
    }
}

/// As [`Migrator`], but another one.
pub struct Other;

#[async_trait::async_trait]
impl MigratorTrait for Other {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(Slow)]
    }

    fn migration_table_name() -> DynIden {
        Alias::new("other_migrations").into_iden()
    }
}

struct Plans;

impl MigrationName for Plans {
    fn name(&self) -> &'static str {
        "m20260101_000001_plans"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Plans {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        let sqlite = db.get_database_backend() == sea_orm::DbBackend::Sqlite;
        let key = if sqlite {
            "INTEGER PRIMARY KEY AUTOINCREMENT"
        } else {
            "bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY"
        };
        for sql in [
            &*format!(
                "CREATE TABLE plans (number {key}, name text NOT NULL UNIQUE, room_id uuid REFERENCES rooms (id))"
            ),
            "INSERT INTO plans (name) VALUES ('gone'), ('it''s; \"free\"')",
            "DELETE FROM plans WHERE name = 'gone'",
            "CREATE INDEX ix_plans_room ON plans (room_id)",
        ] {
            db.execute_unprepared(sql).await?;
        }
        let refuse = if sqlite {
            "CREATE TRIGGER tr_plans BEFORE DELETE ON plans BEGIN SELECT RAISE(ABORT, 'plans stay'); END"
        } else {
            "CREATE FUNCTION refuse_plans() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'plans stay'; END $$;
            CREATE TRIGGER tr_plans BEFORE DELETE ON plans FOR EACH ROW EXECUTE FUNCTION refuse_plans()"
        };
        db.execute_unprepared(refuse).await.map(drop)
    }
}

struct Slow;

impl MigrationName for Slow {
    fn name(&self) -> &'static str {
        "m20260101_000001_other"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Slow {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .get_connection()
            .execute_unprepared("CREATE TABLE others (id uuid)")
            .await
            .map(drop)
    }
}
