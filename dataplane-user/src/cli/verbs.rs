//! `list`, `get` and `watch`, which every noun has.

use std::{
    io::{self, Write as _},
    os::fd::AsFd as _,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result};
use clap::Args;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::time::{MissedTickBehavior, interval};

use super::exit::Refusal;
use crate::inspect::{self, Format, Listed};

#[derive(Debug, Args)]
pub(super) struct Output {
    /// Form of the output.
    #[arg(short, long = "output", value_enum, default_value_t)]
    pub(super) output: Format,
}

impl Output {
    /// Prints rows.
    pub(super) fn list<R: Listed>(&self, rows: &[R]) -> Result<()> {
        print(&inspect::render(rows, self.output)?)
    }

    /// Prints rows, of which there have to be any; else `missing` says what is not there.
    pub(super) fn found<R: Listed>(
        &self,
        rows: &[R],
        missing: impl FnOnce() -> String,
    ) -> Result<()> {
        if rows.is_empty() {
            return Err(Refusal::NotFound(missing()).into());
        }
        self.list(rows)
    }
}

// Its name would be that of the verb which it is part of.
#[derive(Debug, Args)]
#[group(skip)]
pub(super) struct Watch {
    /// How often it is looked.
    #[arg(long, default_value = "1s", value_parser = period)]
    interval: Duration,
    #[command(flatten)]
    output: Output,
}

impl Watch {
    /// Prints what `read` gives, and then what changes of it, for as long as somebody reads that.
    pub(super) async fn run<R: Listed>(&self, read: impl Fn() -> Result<Vec<R>>) -> Result<()> {
        let mut watch = inspect::Watch::new(self.output.output);
        let mut ticks = interval(self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if is_nobody_reading() {
                return Ok(());
            }
            print(&watch.look(read()?, SystemTime::now())?)?;
        }
    }
}

/// Whether standard output is a pipe whose other end is closed. Where nothing changes, nothing is
/// written that would tell.
fn is_nobody_reading() -> bool {
    let output = io::stdout();
    let mut asked = [PollFd::new(output.as_fd(), PollFlags::empty())];
    let answered = poll(&mut asked, PollTimeout::ZERO).is_ok();
    let found = asked[0].revents().unwrap_or(PollFlags::empty());
    answered && found.contains(PollFlags::POLLERR)
}

/// A time such as `500ms`, at which one can look again and again.
pub(super) fn period(text: &str) -> Result<Duration, String> {
    const LEAST: Duration = Duration::from_millis(10);
    match humantime::parse_duration(text) {
        Ok(period) if period >= LEAST => Ok(period),
        Ok(_) => Err("at least 10ms".to_owned()),
        Err(error) => Err(format!("{error}: write it as 500ms, 1s or 1m")),
    }
}

/// Data goes to standard output.
pub(super) fn print(text: &str) -> Result<()> {
    let mut output = io::stdout();
    let written = output.write_all(text.as_bytes());
    written
        .and_then(|()| output.flush())
        .context("cannot write to standard output")
}
