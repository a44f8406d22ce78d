//! A terminal that a program draws on and reads keys from, and what is on its screen.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::num::NonZero;
use std::process::{Command, ExitStatus};

use anyhow::{Context as _, Result, ensure};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::pty::{Winsize, openpty};
use nix::sys::termios::{Termios, tcgetattr};
use vt100::Parser;

use crate::{Background, NsCommand, eventually};

/// A terminal with a process on it, which ends with this value.
pub struct Terminal {
    process: Background,
    /// Where keys are pressed and the screen is seen.
    outside: File,
    /// Where the process is, kept open so that what it leaves behind can be looked at.
    inside: File,
    before: Termios,
    parser: Parser,
}

impl Terminal {
    /// Starts a command on a terminal of so many lines and columns.
    pub(crate) fn start(command: NsCommand, lines: u16, columns: u16) -> Result<Self> {
        let size = Winsize {
            ws_row: lines,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pair = openpty(&size, None).context("open a terminal")?;
        let (outside, inside) = (File::from(pair.master), File::from(pair.slave));
        fcntl(&outside, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).context("set up a terminal")?;
        let before = tcgetattr(&inside).context("look at a terminal")?;
        Ok(Self {
            process: Background::start_on(command.env("TERM", "xterm-256color"), &inside)?,
            outside,
            inside,
            before,
            parser: Parser::new(extent(lines), extent(columns), 0),
        })
    }

    /// Its process: signals, end.
    pub fn process(&mut self) -> &mut Background {
        &mut self.process
    }

    /// Presses keys.
    pub fn press(&mut self, keys: &str) -> Result<()> {
        let pressed = self.outside.write_all(keys.as_bytes());
        pressed.with_context(|| format!("press {keys:?}"))
    }

    /// Waits until there is this text on the screen.
    pub fn wait_for(&mut self, text: &str) -> Result<()> {
        self.wait_until(&format!("there is {text:?} on the screen"), |screen| {
            screen.contains(text)
        })
    }

    /// Waits until the screen is as it should be; `what` that is stands in the error, with the screen.
    pub fn wait_until(&mut self, what: &str, is_so: impl Fn(&str) -> bool) -> Result<()> {
        let result = eventually(what, || Ok(is_so(&self.screen()?)));
        result.with_context(|| self.parser.screen().contents())
    }

    /// Waits until its process has ended. What that draws is seen meanwhile: nobody can write for long to
    /// a terminal that nobody reads.
    pub fn wait_for_end(&mut self) -> Result<ExitStatus> {
        let mut status = None;
        let result = eventually("it has ended", || {
            self.screen()?;
            status = self.process.exit_status()?;
            Ok(status.is_some())
        });
        result.with_context(|| self.parser.screen().contents())?;
        status.context("it has ended without a status")
    }

    /// The text on its screen now.
    pub fn screen(&mut self) -> Result<String> {
        let mut bytes = [0; 4096];
        loop {
            match self.outside.read(&mut bytes) {
                Ok(0) => break,
                Ok(count) => self.parser.process(&bytes[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error).context("read from a terminal"),
            }
        }
        Ok(self.parser.screen().contents())
    }

    /// Whether the terminal is as it was before: echo, lines, signals, the shell's screen and cursor.
    pub fn is_as_before(&mut self) -> Result<bool> {
        self.screen()?;
        let now = tcgetattr(&self.inside).context("look at a terminal")?;
        let screen = self.parser.screen();
        Ok(now == self.before && !screen.alternate_screen() && !screen.hide_cursor())
    }

    /// Whether a program has it to itself: keys come one by one, and the screen is another.
    pub fn is_taken(&mut self) -> Result<bool> {
        self.screen()?;
        let now = tcgetattr(&self.inside).context("look at a terminal")?;
        Ok(now != self.before && self.parser.screen().alternate_screen())
    }

    /// Makes it so many lines and columns, of which the kernel tells the process.
    pub fn resize(&mut self, lines: u16, columns: u16) -> Result<()> {
        self.parser
            .screen_mut()
            .set_size(extent(lines), extent(columns));
        let size = ["rows", &lines.to_string(), "cols", &columns.to_string()].map(str::to_owned);
        let inside = self.inside.try_clone().context("duplicate a terminal")?;
        let status = Command::new("stty").args(size).stdin(inside).status();
        ensure!(status.context("start stty")?.success(), "stty failed");
        Ok(())
    }
}

/// A terminal has a line and a column at the least.
fn extent(extent: u16) -> NonZero<u16> {
    NonZero::new(extent).unwrap_or(NonZero::<u16>::MIN)
}
