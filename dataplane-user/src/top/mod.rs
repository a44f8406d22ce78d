//! `underpass top`: rates, from what is counted anyway.
//!
//! Bird's-eye view: a [`sample`] is what was counted until now, [`rates`] makes of two samples a
//! [`report`] (pure), which `--once` prints. Else the [`state`] of the dashboard takes samples in, with
//! the rates before ([`history`]), [`keys`] change it (pure), [`view`] draws it, and the terminal is
//! touched by `terminal` alone.

mod history;
mod keys;
mod numbers;
mod rates;
mod report;
mod sample;
mod state;
mod terminal;
mod view;

#[cfg(test)]
mod fixture;

use std::{pin::pin, time::Duration};

use anyhow::{Context, Result};
use crossterm::event::{Event, EventStream};
use futures_util::{Stream, StreamExt as _, stream};
use tokio::{
    select,
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, MissedTickBehavior, interval_at, sleep},
};

use crate::{config::hostname, dataplane::Pins};

use keys::Next;
use rates::rates;
use sample::{Reader, Sample};
use state::State;
use terminal::Screen;

pub use report::{Sort, Top};

/// What is to be shown, and how often it is looked.
#[derive(Clone, Debug)]
pub struct Options {
    /// The time between two looks.
    pub interval: Duration,
    /// What comes first.
    pub sort: Sort,
    /// Only rows with this text.
    pub filter: String,
}

/// The rates over one interval.
pub async fn once(pins: &Pins, options: &Options) -> Result<Top> {
    let reader = Reader::new()?;
    let before = reader.read(pins).await?;
    sleep(options.interval).await;
    let now = reader.read(pins).await?;
    Ok(rates(&before, &now).arranged(options.sort, &options.filter))
}

/// Shows a dashboard on the terminal until it is quit. What cannot be read at the beginning is an
/// error; what cannot later is shown, and tried again.
pub async fn run(pins: impl Fn() -> Result<Pins>, options: &Options) -> Result<()> {
    let reader = Reader::new()?;
    let mut state = State::new(&hostname(), options.interval, options.sort, &options.filter);
    state.take(reader.read(&pins()?).await?);
    let mut signals = Signals::listen()?;
    let mut screen = Screen::take()?;
    let mut events = EventStream::new();
    let mut samples = pin!(samples(&reader, &pins, options.interval));
    loop {
        screen.draw(&mut state)?;
        let next = select! {
            event = events.next() => match event {
                Some(Ok(Event::Key(key))) => state.press(key),
                Some(Ok(_)) => Next::Draw,
                Some(Err(error)) => return Err(error).context("cannot read from the terminal"),
                None => Next::Quit,
            },
            next = signals.next() => next,
            Some(sample) = samples.next() => {
                match sample {
                    Ok(sample) => state.take(sample),
                    Err(error) => state.fail(format!("{error:#}")),
                }
                Next::Draw
            }
        };
        match next {
            Next::Draw => {}
            Next::Quit => return Ok(()),
            Next::Suspend => screen.suspend()?,
        }
    }
}

/// What is read, once an interval, for ever; the first after one.
fn samples(
    reader: &Reader,
    pins: impl Fn() -> Result<Pins>,
    period: Duration,
) -> impl Stream<Item = Result<Sample>> {
    let mut ticks = interval_at(Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    stream::unfold((ticks, pins), async |(mut ticks, pins)| {
        ticks.tick().await;
        let sample = async { reader.read(&pins()?).await }.await;
        Some((sample, (ticks, pins)))
    })
}

/// The signals that would end or stop the process with the terminal as it is.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    stop: Signal,
}

impl Signals {
    fn listen() -> Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen to signals");
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hang_up: listen(SignalKind::hangup())?,
            stop: listen(SignalKind::from_raw(libc::SIGTSTP))?,
        })
    }

    /// What the next of them asks for.
    async fn next(&mut self) -> Next {
        select! {
            _ = self.terminate.recv() => Next::Quit,
            _ = self.interrupt.recv() => Next::Quit,
            _ = self.hang_up.recv() => Next::Quit,
            _ = self.stop.recv() => Next::Suspend,
        }
    }
}
