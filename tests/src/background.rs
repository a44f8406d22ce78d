//! Processes that run beside the test.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Child, ExitStatus};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

use crate::{NsCommand, patient};

/// How long a process may take to end once it was asked to.
const GRACE: Duration = Duration::from_secs(2);

/// How often what cannot be waited for is looked at.
const POLL: Duration = Duration::from_millis(2);

/// A process that ends with this value, if not before: asked first, killed if it does not listen.
#[derive(Debug)]
pub struct Background {
    line: String,
    child: Child,
    log: File,
    /// Where its part of the log begins: a file can hold its predecessors' words.
    log_start: u64,
}

impl Background {
    /// Starts `command`, appending its output to the file at `log`.
    pub fn start(command: NsCommand, log: &Path) -> Result<Self> {
        let file = OpenOptions::new()
            .create(true)
            .read(true)
            .append(true)
            .open(log);
        Self::start_into(
            command,
            file.with_context(|| format!("open {}", log.display()))?,
        )
    }

    /// Starts `command` with a log that only this value can read.
    pub fn start_unnamed(command: NsCommand) -> Result<Self> {
        Self::start_into(command, tempfile::tempfile().context("create a log file")?)
    }

    fn start_into(command: NsCommand, log: File) -> Result<Self> {
        let line = command.line();
        let log_start = size(&log)?;
        let child = command.spawn_into(&log)?;
        Ok(Self {
            line,
            child,
            log,
            log_start,
        })
    }

    /// Starts `command` on a terminal; nothing of what it prints is in its log.
    pub(crate) fn start_on(command: NsCommand, terminal: &File) -> Result<Self> {
        Ok(Self {
            line: command.line(),
            child: command.spawn_on(terminal)?,
            log: tempfile::tempfile().context("create a log file")?,
            log_start: 0,
        })
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Leaves what the process has printed so far out of [`Background::log`] and
    /// [`Background::wait_for_line`], to wait for a line that it has printed before.
    pub fn skip_log(&mut self) -> Result<()> {
        self.log_start = size(&self.log)?;
        Ok(())
    }

    /// What the process has printed, standard output and error together.
    pub fn log(&self) -> Result<String> {
        let mut bytes = vec![0; usize::try_from(size(&self.log)? - self.log_start)?];
        // The process writes through the same open file: reading must not move its position.
        self.log
            .read_exact_at(&mut bytes, self.log_start)
            .context("read a log file")?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Waits until the process has printed a line that contains `needle`, and returns it. An error
    /// shows the end of what was printed instead.
    /// `timeout` is a usual machine's, as it is wherever the lab waits: see [`patient`].
    pub fn wait_for_line(&mut self, needle: &str, timeout: Duration) -> Result<String> {
        let timeout = patient(timeout);
        let deadline = Instant::now() + timeout;
        loop {
            // In this order, or the last words of a process that ends would be missed.
            let ended = self.exit_status()?;
            let log = self.log()?;
            if let Some(line) = log.lines().find(|line| line.contains(needle)) {
                return Ok(line.to_owned());
            }
            if let Some(status) = ended {
                bail!(
                    "`{}` ended ({status}) before it said {needle:?}:\n{}",
                    self.line,
                    tail(&log)
                );
            }
            if Instant::now() >= deadline {
                bail!(
                    "`{}` did not say {needle:?} in {timeout:?}:\n{}",
                    self.line,
                    tail(&log)
                );
            }
            sleep(POLL);
        }
    }

    /// How the process ended, or `None` while it runs.
    pub fn exit_status(&mut self) -> Result<Option<ExitStatus>> {
        self.child
            .try_wait()
            .with_context(|| format!("look after `{}`", self.line))
    }

    /// Waits for the process to end by itself.
    pub fn wait(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let timeout = patient(timeout);
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(status) = self.exit_status()? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                bail!(
                    "`{}` still runs after {timeout:?}:\n{}",
                    self.line,
                    tail(&self.log()?)
                );
            }
            sleep(POLL);
        }
    }

    /// Sends a signal.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        // Until it is reaped, its process id cannot be another's.
        if let Some(status) = self.exit_status()? {
            bail!("send {signal} to `{}`: it has ended ({status})", self.line);
        }
        let pid = Pid::from_raw(self.child.id().cast_signed());
        signal::kill(pid, signal).with_context(|| format!("send {signal} to `{}`", self.line))
    }

    /// Asks the process to end (SIGTERM), and kills it if it has not in two seconds.
    pub fn terminate(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.exit_status()? {
            return Ok(status);
        }
        self.signal(Signal::SIGTERM)?;
        self.wait(GRACE).or_else(|_| self.kill())
    }

    /// Kills the process (SIGKILL) and waits until it is gone.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        self.child
            .kill()
            .and_then(|()| self.child.wait())
            .with_context(|| format!("kill `{}`", self.line))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Err(error) = self.terminate() {
            eprintln!("{error:#}");
        }
    }
}

fn size(log: &File) -> Result<u64> {
    Ok(log.metadata().context("look at a log file")?.len())
}

/// The last lines of a log, enough to see what went wrong.
fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}
