//! A script of `scripts` that obeys commands, one a line, and answers each by a line.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// What it started is gone when this is dropped, and also when this process is killed.
pub struct Script {
    child: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Script {
    pub fn start(name: &str) -> Self {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts").join(name);
        let mut child = Command::new(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            commands: child.stdin.take(),
            answers: BufReader::new(child.stdout.take().unwrap()),
            child,
        }
    }

    /// Has it do something, and waits until it says that it is done.
    pub fn order(&mut self, command: &str, done: &str) {
        writeln!(self.commands.as_mut().unwrap(), "{command}").unwrap();
        assert_eq!(self.answer(), done, "{command}");
    }

    pub fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        assert!(line.ends_with('\n'), "the script has ended");
        line.trim_end().to_owned()
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        // The end of its input tells it to clean up.
        self.commands = None;
        let _ = self.child.wait();
    }
}
