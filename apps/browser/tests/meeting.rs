//! The page in a real browser: two people in a meeting, a guest who comes in, is kicked, and sees it. scripts/browser runs it; without a
//! driver it is shown as ignored.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test fails by panicking"
)]

use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use libtest_mimic::{Arguments, Trial};
use thirtyfour::{By, ChromiumLikeCapabilities, DesiredCapabilities, WebDriver};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// How long anything is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let driver = std::env::var("WEBDRIVER");
    let missing = driver.is_err();
    let trial = Trial::test("two_people_and_a_guest_meet", move || {
        let driver = driver.map_err(|_| "WEBDRIVER names no driver: run scripts/browser")?;
        let runtime = tokio::runtime::Runtime::new()?;
        let meeting = async move { tokio::spawn(two_people_and_a_guest_meet(driver)).await };
        runtime.block_on(meeting).map_err(|error| error.to_string().into())
    });
    libtest_mimic::run(&arguments, vec![trial.with_ignored_flag(missing)]).exit_code()
}

/// The program, on an SQLite file of its own.
async fn service(folder: &Path) -> (Child, String) {
    let mut child = Command::new(
        std::env::var_os("SIGNALING_PROGRAM").expect("SIGNALING_PROGRAM names the service: run scripts/browser"),
    )
    .env(
        "DATABASE_URL",
        format!("sqlite://{}?mode=rwc", folder.join("signaling.sqlite").display()),
    )
    .env("SIGNALING_LISTEN", "127.0.0.1:0")
    .env("SIGNALING_PASSWORD_MEMORY_KIB", "8")
    .env("RUST_LOG", "info")
    .env("NO_COLOR", "1")
    .stderr(Stdio::piped())
    .kill_on_drop(true)
    .spawn()
    .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let listening = async {
        loop {
            let line = lines.next_line().await.unwrap().expect("it ended");
            if let Some((_, base)) = line.split_once("listening on ") {
                return base.trim().to_owned();
            }
        }
    };
    let base = tokio::time::timeout(PATIENCE, listening).await.unwrap();
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    (child, base)
}

/// Somebody at a browser of their own.
struct Person(WebDriver);

impl Person {
    async fn at(driver: &str, page: &str) -> Self {
        let arguments = std::env::var("BROWSER_ARGUMENTS").unwrap_or_else(|_| "--headless=new".to_owned());
        let mut wanted = DesiredCapabilities::chrome();
        for argument in arguments.lines() {
            wanted.add_arg(argument).unwrap();
        }
        if let Ok(browser) = std::env::var("CHROMIUM") {
            wanted.set_binary(&browser).unwrap();
        }
        let client = WebDriver::new(driver, wanted).await.unwrap();
        client.goto(page).await.unwrap();
        let person = Self(client);
        person
            .sees("!document.querySelector('#door').hidden || !document.querySelector('#lobby').hidden")
            .await;
        person
    }

    /// Waits until an expression of the page's is true.
    async fn sees(&self, expression: &str) {
        let script = format!("return Boolean({expression});");
        let seen = async {
            while !self.is_true(&script).await {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, seen).await.is_err() {
            let text = self.text("body").await;
            panic!("it never came to be that {expression}; the page says: {text}");
        }
    }

    async fn is_true(&self, script: &str) -> bool {
        let told = self.0.execute(script, Vec::new()).await;
        told.is_ok_and(|told| told.json().as_bool() == Some(true))
    }

    async fn fills(&self, form: &str, fields: &[(&str, &str)]) {
        for (name, value) in fields {
            let field = format!("#{form} [name={name}]");
            let field = self.0.find(By::Css(&field)).await.unwrap();
            field.clear().await.unwrap();
            field.send_keys(*value).await.unwrap();
        }
        self.presses(&format!("#{form} button")).await;
    }

    async fn presses(&self, button: &str) {
        self.0.find(By::Css(button)).await.unwrap().click().await.unwrap();
    }

    async fn registers(&self, username: &str, name: &str) {
        let fields = [
            ("username", username),
            ("display_name", name),
            ("password", "a long password"),
        ];
        self.fills("register", &fields).await;
        self.sees("!document.querySelector('#lobby').hidden").await;
    }

    async fn sees_people(&self, number: usize) {
        self.sees(&format!(
            "document.querySelectorAll('#people .tile').length === {number}"
        ))
        .await;
    }

    async fn text(&self, of: &str) -> String {
        self.0.find(By::Css(of)).await.unwrap().text().await.unwrap()
    }
}

async fn two_people_and_a_guest_meet(driver: String) {
    let folder = tempfile::tempdir().unwrap();
    let (_child, base) = service(folder.path()).await;
    let (ada, ben) = (Person::at(&driver, &base).await, Person::at(&driver, &base).await);
    ada.registers("ada", "Ada Lovelace").await;
    ada.fills("create", &[("title", "Design review")]).await;
    ada.sees_people(1).await;
    let code = ada.text("#code").await;

    ben.registers("ben", "Ben Ali").await;
    ben.fills("join", &[("code", &code)]).await;
    ben.sees_people(2).await;
    ada.sees_people(2).await;
    ada.presses("#record").await;
    ben.sees("document.querySelector('#status').textContent === 'recording'")
        .await;

    // The link has the code in it.
    let guest = Person::at(&driver, &format!("{base}/?room={code}")).await;
    let name = [("display_name", "Gia")];
    guest.fills("visit", &name).await;
    for person in [&guest, &ada, &ben] {
        person.sees_people(3).await;
    }
    ada.sees("document.querySelector('#people').innerText.includes('participant, guest')")
        .await;
    let ben_id = "[...document.querySelectorAll('.tile')].find((tile) => tile.innerText.includes('Ben'))";
    ada.0
        .execute(&format!("{ben_id}.querySelector('.promote').click();"), Vec::new())
        .await
        .unwrap();
    ben.sees("document.querySelector('#people').innerText.includes('co-host')")
        .await;
    ada.sees("document.querySelector('#events').innerText.includes('Ben Ali is co-host now')")
        .await;
    picture(&ada, "meeting.png").await;

    // A co-host may put participants out.
    let gia = "[...document.querySelectorAll('.tile')].find((tile) => tile.innerText.includes('Gia'))";
    ben.0
        .execute(&format!("{gia}.querySelector('.kick').click();"), Vec::new())
        .await
        .unwrap();
    guest
        .sees("document.querySelector('#problem').innerText.includes('You were kicked out of the meeting')")
        .await;
    guest.sees("!document.querySelector('#lobby').hidden").await;
    ada.sees_people(2).await;
    ada.sees("document.querySelector('#events').innerText.includes('Gia was kicked by Ben Ali')")
        .await;

    // A page that is loaded anew comes back to the seat.
    ben.0.refresh().await.unwrap();
    ben.sees("!document.querySelector('#lobby').hidden").await;
    ben.fills("join", &[("code", &code)]).await;
    ben.sees_people(2).await;

    ada.presses("#end").await;
    for person in [&ada, &ben] {
        person
            .sees("document.querySelector('#problem').innerText.includes('The meeting is over')")
            .await;
    }
    for person in [ada, ben, guest] {
        person.0.quit().await.unwrap();
    }
}

/// For the documents, when it is asked for.
async fn picture(person: &Person, name: &str) {
    let image = person.0.screenshot_as_png().await.unwrap();
    assert!(image.starts_with(b"\x89PNG"));
    if std::env::var_os("WRITE_IMAGES").is_some() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/images");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(name), image).unwrap();
    }
}
