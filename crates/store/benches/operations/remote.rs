//! A worker, as the driver sees it.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command as Process, Stdio};

use serde_json::Value as Json;

use crate::protocol::Command;

pub struct Remote {
    process: Child,
    asked: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Remote {
    /// Starts `program` as a worker; `side` is what it does operations with.
    pub fn start(program: &Path, side: &str, url: &str) -> Self {
        let mut process = Process::new(program)
            .args(["--worker", side, url])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let asked = process.stdin.take();
        let answers = BufReader::new(process.stdout.take().unwrap());
        Self {
            process,
            asked,
            answers,
        }
    }

    /// Has it do something; what went wrong is told.
    pub fn ask(&mut self, command: &Command) -> Result<Json, String> {
        let asked = self.asked.as_mut().unwrap();
        writeln!(asked, "{}", serde_json::to_string(command).unwrap()).map_err(|error| error.to_string())?;
        let mut line = String::new();
        self.answers.read_line(&mut line).map_err(|error| error.to_string())?;
        let mut answer: Json = serde_json::from_str(&line).map_err(|_| "the worker has ended".to_owned())?;
        match answer.get("failed") {
            Some(failure) => Err(failure.to_string()),
            None => Ok(answer["done"].take()),
        }
    }
}

impl Drop for Remote {
    /// A worker ends when nobody asks it any more.
    fn drop(&mut self) {
        drop(self.asked.take());
        let _ = self.process.wait();
    }
}
