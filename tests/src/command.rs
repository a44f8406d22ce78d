//! Commands inside a network namespace.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::NetNs;

/// A command that runs inside a network namespace and does not outlive the thread that starts it.
///
/// It is started through setpriv(1), which asks the kernel to kill it when the starting *thread*
/// ends. Start what has to live on from the thread that owns the lab. The kernel does not do the
/// same for processes that the command starts in turn: let a shell `exec` what it is there for.
#[must_use = "a command does nothing until it is run"]
#[derive(Debug)]
pub struct NsCommand {
    ns: NetNs,
    words: Vec<String>,
    command: Command,
}

impl NsCommand {
    pub(crate) fn new(ns: NetNs, program: &str) -> Self {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", program]);
        // Output is parsed, and quoted in errors.
        command.env("LC_ALL", "C").stdin(Stdio::null());
        Self {
            ns,
            words: vec![program.to_owned()],
            command,
        }
    }

    /// Adds an argument.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.words
            .push(argument.as_ref().to_string_lossy().into_owned());
        self.command.arg(argument);
        self
    }

    /// Adds arguments.
    pub fn args(self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        arguments.into_iter().fold(self, Self::arg)
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Gives the command something to read; without this it reads nothing.
    pub fn input(mut self, text: &str) -> Result<Self> {
        let mut file = tempfile::tempfile().context("create a file for a command's input")?;
        file.write_all(text.as_bytes())
            .and_then(|()| file.rewind())
            .context("write a command's input")?;
        self.command.stdin(file);
        Ok(self)
    }

    /// Runs the command, which has to succeed, and returns what it printed.
    pub fn run(self) -> Result<String> {
        let line = self.line();
        let output = self.output()?;
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            bail!("`{line}` failed ({}): {}", output.status, stderr.trim_end());
        }
        String::from_utf8(output.stdout).with_context(|| format!("read the output of `{line}`"))
    }

    /// Runs the command and returns its status and output, whatever they are.
    pub fn output(mut self) -> Result<Output> {
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let line = self.line();
        self.spawn()?
            .wait_with_output()
            .with_context(|| format!("wait for `{line}`"))
    }

    /// Starts the command with its standard output and error going to `log`.
    pub(crate) fn spawn_into(mut self, log: &File) -> Result<Child> {
        let duplicate = || log.try_clone().context("duplicate a log file");
        self.command.stdout(duplicate()?).stderr(duplicate()?);
        self.spawn()
    }

    /// Starts the command on a terminal: its standard input, output and error.
    pub(crate) fn spawn_on(mut self, terminal: &File) -> Result<Child> {
        let duplicate = || terminal.try_clone().context("duplicate a terminal");
        self.command.stdin(duplicate()?);
        self.command.stdout(duplicate()?).stderr(duplicate()?);
        self.spawn()
    }

    /// The command as one would type it.
    pub(crate) fn line(&self) -> String {
        self.words.join(" ")
    }

    fn spawn(mut self) -> Result<Child> {
        let line = self.line();
        self.ns.run(|| {
            self.command
                .spawn()
                .with_context(|| format!("start `{line}` through setpriv"))
        })
    }
}
