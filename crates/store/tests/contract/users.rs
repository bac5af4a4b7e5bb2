use crate::harness::TestDb;

crate::cases![nothing];

async fn nothing(_: TestDb) {}
