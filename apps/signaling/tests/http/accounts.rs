use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Database, Service, config};

cases![
    people_register_sign_in_and_out,
    wrong_credentials_are_one_answer,
    what_is_no_account_is_refused,
    browsers_have_a_cookie,
    bodies_that_are_none_are_refused,
    a_deactivated_user_is_out_at_once,
];

async fn people_register_sign_in_and_out(db: Database) {
    let service = Service::start(&db).await;
    let nobody = service.nobody();
    nobody
        .refused(Method::GET, "/me", Value::Null, (401, "not_signed_in"))
        .await;
    let account =
        json!({"username": "ada", "email": "Ada@Example.org", "display_name": "Ada", "password": "correct horse"});
    let user = nobody.ok(Method::POST, "/accounts", account).await;
    assert_eq!((&user["username"], &user["is_guest"]), (&json!("ada"), &json!(false)));
    for login in ["ada", "ADA", "ada@example.ORG"] {
        let session = nobody
            .ok(
                Method::POST,
                "/sessions",
                json!({"login": login, "password": "correct horse"}),
            )
            .await;
        let ada = nobody.of_session(&session);
        assert_eq!(ada.get("/me").await, user);
        ada.ok(Method::DELETE, "/sessions/current", Value::Null).await;
        ada.refused(Method::GET, "/me", Value::Null, (401, "not_signed_in"))
            .await;
    }
    // The table has no token that anybody could use.
    let session = nobody
        .ok(
            Method::POST,
            "/sessions",
            json!({"login": "ada", "password": "correct horse"}),
        )
        .await;
    let token = session["token"].as_str().unwrap();
    let found = format!("SELECT count(*) FROM signaling_sessions WHERE token_hash LIKE '%{token}%'");
    assert_eq!(db.number(&found).await, 0);
    assert_eq!(db.number("SELECT count(*) FROM signaling_sessions").await, 1);
    assert_eq!(
        db.number("SELECT count(*) FROM audit_logs WHERE action = 'USER_LOGIN_SUCCESS'")
            .await,
        4
    );
    let sql = "SELECT count(*) FROM audit_logs WHERE action = 'USER_LOGIN_SUCCESS' AND ip_address = '127.0.0.1'";
    assert_eq!(db.number(sql).await, 4);
    // What is not a token is nobody's.
    for token in ["", "rubbish", &"x".repeat(5000)] {
        let other = crate::harness::Client {
            token: Some(token.to_owned()),
            ..nobody.clone()
        };
        other
            .refused(Method::GET, "/me", Value::Null, (401, "not_signed_in"))
            .await;
    }
    service.stop().await;
}

async fn wrong_credentials_are_one_answer(db: Database) {
    let service = Service::start(&db).await;
    service.user("ada").await;
    let nobody = service.nobody();
    let refused = (401, "wrong_credentials");
    let wrong = json!({"login": "ada", "password": "wrong"});
    let wrong = nobody.refused(Method::POST, "/sessions", wrong, refused).await;
    let long = "x".repeat(10_000);
    for (login, password) in [
        ("nobody", "a long password"),
        ("nobody@example.org", "x"),
        ("ada", &long),
        ("", ""),
    ] {
        let login = json!({"login": login, "password": password});
        assert_eq!(nobody.refused(Method::POST, "/sessions", login, refused).await, wrong);
    }
    assert_eq!(
        db.number("SELECT count(*) FROM audit_logs WHERE action = 'USER_LOGIN_FAILED'")
            .await,
        5
    );
    assert_eq!(db.number("SELECT count(*) FROM signaling_sessions").await, 1);
    service.stop().await;
}

async fn what_is_no_account_is_refused(db: Database) {
    let service = Service::start(&db).await;
    service.user("ada").await;
    let nobody = service.nobody();
    let account =
        |username: &str, password: &str| json!({"username": username, "display_name": "X", "password": password});
    for (account, refused) in [
        (account("ADA", "a long password"), (409, "username_taken")),
        (account("a b", "a long password"), (422, "invalid_without")),
        (account("guest-1", "a long password"), (422, "invalid_reserved")),
        (account("ben", "short"), (422, "invalid_password")),
        (account("ben", &"x".repeat(257)), (422, "invalid_password")),
    ] {
        let problem = nobody.refused(Method::POST, "/accounts", account, refused).await;
        if refused.0 == 422 {
            assert!(problem["details"]["field"].is_string(), "{problem}");
        }
    }
    assert_eq!(db.number("SELECT count(*) FROM users").await, 1);
    service.stop().await;
}

async fn browsers_have_a_cookie(db: Database) {
    let service = Service::start(&db).await;
    let ada = service.user("ada").await;
    let login = json!({"login": "ada", "password": "a long password"});
    let response = service
        .nobody()
        .request(Method::POST, "/sessions")
        .json(&login)
        .send()
        .await
        .unwrap();
    let cookie = response.headers()["set-cookie"].to_str().unwrap().to_owned();
    let (pair, rest) = cookie.split_once(';').unwrap();
    assert_eq!(rest, " Path=/; HttpOnly; SameSite=Strict; Max-Age=604800; Secure");
    let with_cookie = |method: Method, path: &str, origin: Option<&str>| {
        let request = service
            .nobody()
            .request(method, path)
            .header("cookie", format!("a=b; {pair}"));
        match origin {
            Some(origin) => request.header("origin", origin),
            None => request,
        }
        .send()
    };
    let status = |response: Result<reqwest::Response, reqwest::Error>| response.unwrap().status().as_u16();
    assert_eq!(
        status(with_cookie(Method::GET, "/me", Some("https://evil.example")).await),
        200
    );
    assert_eq!(
        status(with_cookie(Method::POST, "/tickets", Some("https://evil.example")).await),
        403
    );
    assert_eq!(status(with_cookie(Method::POST, "/tickets", Some("null")).await), 403);
    assert_eq!(
        status(with_cookie(Method::POST, "/tickets", Some(&service.base)).await),
        201
    );
    let gone = with_cookie(Method::DELETE, "/sessions/current", Some(&service.base))
        .await
        .unwrap();
    assert!(
        gone.headers()["set-cookie"]
            .to_str()
            .unwrap()
            .contains("signaling_session=; ")
    );
    assert_eq!(status(with_cookie(Method::GET, "/me", None).await), 401);
    // Another session goes on.
    ada.get("/me").await;
    service.stop().await;
}

async fn bodies_that_are_none_are_refused(db: Database) {
    let service = Service::with(
        conferencing_signaling::Config {
            body_bytes: 2000,
            ..config(&db)
        },
        conferencing_store::StoreSettings::default(),
    )
    .await;
    let nobody = service.nobody();
    let post = |body: String, kind: &'static str| {
        let request = nobody
            .request(Method::POST, "/sessions")
            .header("content-type", kind)
            .body(body);
        async move {
            let response = request.send().await.unwrap();
            let status = response.status().as_u16();
            let problem: Value = response.json().await.unwrap();
            (status, problem["code"].as_str().unwrap().to_owned())
        }
    };
    let json = "application/json";
    assert_eq!(post("{".into(), json).await, (400, "malformed_body".into()));
    assert_eq!(post("{}".into(), json).await, (422, "malformed_body".into()));
    assert_eq!(post("{}".into(), "text/plain").await, (415, "not_json".into()));
    assert_eq!(
        post(format!("\"{}\"", "x".repeat(2000)), json).await,
        (413, "body_too_large".into())
    );
    nobody
        .refused(Method::GET, "/nothing", Value::Null, (404, "no_such_path"))
        .await;
    nobody
        .refused(Method::PUT, "/accounts", Value::Null, (405, "method_not_allowed"))
        .await;
    service.stop().await;
}

async fn a_deactivated_user_is_out_at_once(db: Database) {
    let service = Service::start(&db).await;
    let ada = service.user("ada").await;
    let system = service.system();
    system.users().deactivate(ada.id.parse().unwrap()).await.unwrap();
    ada.refused(Method::GET, "/me", Value::Null, (401, "not_signed_in"))
        .await;
    let login = json!({"login": "ada", "password": "a long password"});
    ada.refused(Method::POST, "/sessions", login, (401, "wrong_credentials"))
        .await;
    service.stop().await;
}
