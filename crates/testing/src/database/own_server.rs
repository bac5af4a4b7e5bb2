//! A PostgreSQL server of this process's own: found, set up in a temporary folder, reached through a socket in there, and stopped by a shell that
//! waits for the end of this process, however it comes.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use crate::error::SetUpError;

/// The oldest version that the store supports.
const OLDEST: u32 = 14;
/// The path of a socket may have about 100 bytes.
const LONGEST_FOLDER: usize = 80;
const SCRIPT: &str = include_str!("start_server.sh");

/// What is for another server, both for PostgreSQL's programs and for the driver.
const OTHERS: [&str; 14] = [
    "PGDATA",
    "PGHOST",
    "PGHOSTADDR",
    "PGPORT",
    "PGUSER",
    "PGPASSWORD",
    "PGPASSFILE",
    "PGDATABASE",
    "PGSERVICE",
    "PGSERVICEFILE",
    "PGOPTIONS",
    "PGAPPNAME",
    "PGSSLMODE",
    "PGSSLROOTCERT",
];

/// A server that runs as long as this is kept.
pub(super) struct OwnServer {
    pub(super) url: String,
    /// Its end is that of the server.
    _open: ChildStdin,
    /// The shell, which goes on after this process.
    _shell: Child,
}

/// The user that the server runs as, where this process is root's: PostgreSQL refuses to run as root.
#[derive(Clone, Copy)]
struct User {
    id: u32,
    group: u32,
}

impl OwnServer {
    /// Takes a second or two.
    pub(super) fn start() -> Result<Self, SetUpError> {
        let folder = tempfile::Builder::new().prefix("conferencing-pg-").tempdir_in(base())?;
        let user = user(fs::metadata(folder.path())?.uid())?;
        if let Some(user) = user {
            chown(folder.path(), Some(user.id), Some(user.group))?;
        }
        let programs = programs(user)?;
        // From here on the shell removes it.
        let path = folder.keep();
        let started = Self::start_in(&path, &programs, user);
        if started.is_err() {
            let _ = fs::remove_dir_all(&path);
        }
        started
    }

    fn start_in(folder: &Path, programs: &Path, user: Option<User>) -> Result<Self, SetUpError> {
        let mut shell = as_user("sh", user);
        shell
            .args(["-c", SCRIPT, "sh"])
            .args([programs, folder])
            .current_dir("/")
            // Ctrl-C on the terminal is for the tests, which the server must outlive.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut shell = shell.spawn()?;
        let failed = |reason: &str| SetUpError::Start {
            reason: reason.to_owned(),
        };
        let (Some(open), Some(output)) = (shell.stdin.take(), shell.stdout.take()) else {
            return Err(failed("the shell has no input"));
        };
        let mut output = BufReader::new(output);
        let mut line = String::new();
        output.read_line(&mut line)?;
        if line.trim_end() != "ready" {
            output.read_to_string(&mut line)?;
            let _ = shell.wait();
            return Err(failed(line.trim_end()));
        }
        Ok(Self {
            // All of it: what is left out, the driver takes from the environment.
            url: format!(
                "postgres://postgres@localhost:5432/postgres?sslmode=disable&host={}",
                folder.display()
            ),
            _open: open,
            _shell: shell,
        })
    }
}

fn as_user(program: impl AsRef<std::ffi::OsStr>, user: Option<User>) -> Command {
    let mut command = Command::new(program);
    for name in OTHERS {
        command.env_remove(name);
    }
    command.env("LC_ALL", "C");
    if let Some(user) = user {
        // Drops the groups of root as well.
        command.uid(user.id).gid(user.group).env("HOME", "/");
    }
    command
}

/// Where folders of other users may be, and whose path is short enough.
fn base() -> PathBuf {
    let usual = std::env::temp_dir();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    let is_usable = |path: &str| path.starts_with('/') && path.len() <= LONGEST_FOLDER - 30 && path.chars().all(plain);
    if usual.to_str().is_some_and(is_usable) {
        usual
    } else {
        PathBuf::from("/tmp")
    }
}

/// None where the server runs as this process does.
fn user(own: u32) -> Result<Option<User>, SetUpError> {
    if own != 0 {
        return Ok(None);
    }
    let known = fs::read_to_string("/etc/passwd")?;
    let of = |name: &str| {
        known.lines().find_map(|line| {
            let mut fields = line.split(':');
            let found = fields.next() == Some(name);
            let (id, group) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
            found.then_some(User { id, group })
        })
    };
    let user = of("postgres").or_else(|| of("nobody"));
    user.map(Some).ok_or_else(|| SetUpError::NoServer {
        reason: "it does not run as root, and there is neither a user postgres nor a user nobody".to_owned(),
    })
}

/// The folder of the newest version among the usual places.
fn programs(user: Option<User>) -> Result<PathBuf, SetUpError> {
    let given = std::env::var_os("TEST_POSTGRES_BIN").filter(|folder| !folder.is_empty());
    let folders = match &given {
        Some(folder) => vec![PathBuf::from(folder)],
        None => usual_places(),
    };
    let is_whole = |folder: &PathBuf| {
        ["initdb", "pg_ctl", "postgres"]
            .iter()
            .all(|name| folder.join(name).is_file())
    };
    let versions = folders.into_iter().filter(is_whole).filter_map(|folder| {
        let version = version(&folder, user)?;
        (version >= OLDEST).then_some((version, folder))
    });
    // The first of several equal ones.
    let newest = versions.reduce(|best, other| if other.0 > best.0 { other } else { best });
    newest.map(|(_, folder)| folder).ok_or_else(|| SetUpError::NoServer {
        reason: match given {
            Some(folder) => format!(
                "TEST_POSTGRES_BIN has no version {OLDEST} or newer: {}",
                folder.display()
            ),
            None => format!("no version {OLDEST} or newer in PATH and the usual places"),
        },
    })
}

fn usual_places() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = std::env::var_os("PATH")
        .map(|path| std::env::split_paths(&path).collect())
        .unwrap_or_default();
    for (parent, prefix, below) in [
        ("/usr/lib/postgresql", "", "bin"),
        ("/usr", "pgsql-", "bin"),
        ("/opt/homebrew/opt", "postgresql", "bin"),
        ("/usr/local/opt", "postgresql", "bin"),
    ] {
        let Ok(entries) = fs::read_dir(parent) else { continue };
        let names = entries.flatten().map(|entry| entry.file_name());
        let mut found: Vec<_> = names
            .filter(|name| name.to_string_lossy().starts_with(prefix))
            .collect();
        found.sort();
        folders.extend(found.into_iter().map(|name| Path::new(parent).join(name).join(below)));
    }
    folders.push(PathBuf::from("/usr/local/pgsql/bin"));
    folders
}

/// Asked as the server's user, who might not be allowed into that folder.
fn version(folder: &Path, user: Option<User>) -> Option<u32> {
    let said = as_user(folder.join("postgres"), user)
        .arg("-V")
        .current_dir("/")
        .output()
        .ok()?;
    version_of(&String::from_utf8_lossy(&said.stdout))
}

/// Of `postgres (PostgreSQL) 15.20 (Debian …)`, also `16beta1`.
fn version_of(said: &str) -> Option<u32> {
    let behind = said.split("(PostgreSQL) ").nth(1)?;
    let end = behind.find(|c: char| !c.is_ascii_digit()).unwrap_or(behind.len());
    behind[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::version_of;

    #[test]
    fn the_version_is_read_as_the_servers_say_it() {
        for (said, version) in [
            ("postgres (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)\n", Some(15)),
            ("postgres (PostgreSQL) 18beta2\n", Some(18)),
            ("postgres (PostgreSQL) 14\n", Some(14)),
            ("mysqld 8\n", None),
        ] {
            assert_eq!(version_of(said), version, "{said}");
        }
    }
}
