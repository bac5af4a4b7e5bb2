//! Encryption of the way to PostgreSQL, against certificates that the case makes.

use std::path::Path;
use std::time::Duration;

use conferencing_store::Error;
use conferencing_store::connect::{self, ConnectSettings};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement};

use crate::harness::{Raw, TestDb};

crate::cases![@Alone a_server_is_who_its_certificate_says_or_it_is_not_spoken_to];

/// An authority.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self {
            pem: parameters.self_signed(&key).unwrap().pem(),
            issuer: Issuer::new(parameters, key),
        }
    }
}

/// Writes a file into the server's own folder, readable for the server alone.
async fn write_on_server(raw: &Raw, name: &str, text: &str) {
    raw.run(&format!(
        "COPY (SELECT unnest(string_to_array('{text}', chr(10)))) TO PROGRAM 'umask 077; cat > {name}'"
    ))
    .await;
}

async fn open(url: &str, host: &str, parameters: &str) -> Result<DatabaseConnection, Error> {
    let place = url.split_once("://").unwrap().1;
    let (authority, path) = place.split_once('/').unwrap();
    let (user, server) = authority.rsplit_once('@').unwrap_or(("postgres", authority));
    let port = server.rsplit_once(':').unwrap().1;
    let name = path.split('?').next().unwrap();
    let settings = ConnectSettings {
        acquire_timeout: Duration::from_secs(10),
        ..ConnectSettings::default()
    };
    connect::open(
        &format!("postgres://{user}@{host}:{port}/{name}?{parameters}"),
        &settings,
    )
    .await
}

async fn is_encrypted(db: &DatabaseConnection) -> bool {
    let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let row = db
        .query_one_raw(Statement::from_string(DbBackend::Postgres, sql))
        .await
        .unwrap();
    row.unwrap().try_get_by_index(0).unwrap()
}

fn file(folder: &Path, name: &str, pem: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, pem).unwrap();
    format!("sslrootcert={}", path.display())
}

async fn a_server_is_who_its_certificate_says_or_it_is_not_spoken_to(db: TestDb) {
    let raw = db.raw().await;
    let (ours, others) = (Authority::new(), Authority::new());
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = certificate.signed_by(&key, &ours.issuer).unwrap();
    write_on_server(&raw, "tls_case.crt", &certificate.pem()).await;
    write_on_server(&raw, "tls_case.key", &key.serialize_pem()).await;
    for set in [
        "ssl_cert_file = 'tls_case.crt'",
        "ssl_key_file = 'tls_case.key'",
        "ssl = on",
    ] {
        raw.run(&format!("ALTER SYSTEM SET {set}")).await;
    }
    raw.run("SELECT pg_reload_conf()").await;
    // The server takes its new settings when it likes.
    let mut tries = 0;
    while open(&db.url, "localhost", "sslmode=require").await.is_err() {
        tries += 1;
        assert!(tries < 1_000, "the server does not speak TLS");
    }
    let folder = tempfile::tempdir().unwrap();
    let ours = file(folder.path(), "ours.pem", &ours.pem);
    let others = file(folder.path(), "others.pem", &others.pem);
    let outcomes = [
        ("localhost", format!("sslmode=verify-full&{ours}"), Some(true)),
        ("127.0.0.1", format!("sslmode=verify-ca&{ours}"), Some(true)),
        ("127.0.0.1", "sslmode=require".to_owned(), Some(true)),
        ("127.0.0.1", "sslmode=disable".to_owned(), Some(false)),
        // Another name; another authority; those of the system, which do not know ours.
        ("127.0.0.1", format!("sslmode=verify-full&{ours}"), None),
        ("localhost", format!("sslmode=verify-full&{others}"), None),
        ("localhost", format!("sslmode=verify-ca&{others}"), None),
        ("localhost", "sslmode=verify-full".to_owned(), None),
    ];
    for (host, parameters, encrypted) in &outcomes {
        match (open(&db.url, host, parameters).await, encrypted) {
            (Ok(opened), Some(encrypted)) => assert_eq!(is_encrypted(&opened).await, *encrypted, "{host} {parameters}"),
            (Err(Error::Unreachable { .. }), None) => {}
            (other, _) => panic!("{host} {parameters}: {other:?}"),
        }
    }
    for setting in ["ssl", "ssl_cert_file", "ssl_key_file"] {
        raw.run(&format!("ALTER SYSTEM RESET {setting}")).await;
    }
    raw.run("SELECT pg_reload_conf()").await;
}
