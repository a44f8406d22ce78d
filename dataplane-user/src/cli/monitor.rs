//! `underpass monitor`.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    net::Ipv4Addr,
    num::NonZeroU32,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use clap::{
    Args,
    builder::{PossibleValuesParser, TypedValueParser},
};
use dataplane_common::{
    abi::Hook,
    reason::{Action, Reason},
};
use ipnet::Ipv4Net;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, MissedTickBehavior, interval},
};

use super::{
    global::Global,
    verbs::{Output, print},
};
use crate::{
    dataplane::Listener,
    inspect::{self, Capture, PacketRow, PacketTable, Reader, Request, Side},
};

/// How often it is looked whether anything was told; it is what a buffer has to hold.
const PERIOD: Duration = Duration::from_millis(20);

/// Bytes of a frame that are enough to print it.
const HEADERS: u32 = 128;
/// Bytes of a frame that are written to a file.
const SNAP: u32 = 512;

#[derive(Debug, Args)]
pub(super) struct Monitor {
    /// Only from or to this address or network, of the packet or of the one in its tunnel; given twice,
    /// between the two.
    #[arg(long = "address", value_name = "ADDRESS[/LENGTH]", value_parser = network)]
    addresses: Vec<Ipv4Net>,
    /// Only from or to this port; given twice, between the two.
    #[arg(long = "port", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    ports: Vec<u16>,
    /// Only of this protocol: tcp, udp, sctp, icmp, or its number.
    #[arg(long, visible_alias = "proto", value_parser = inspect::protocol_number)]
    protocol: Option<u8>,
    /// Only at this hook; may be repeated.
    #[arg(long = "hook", value_name = "HOOK", value_parser = hook())]
    hooks: Vec<Hook>,
    /// Only into the host, or out of it.
    #[arg(long, value_enum)]
    direction: Option<Side>,
    /// Only on this interface.
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,
    /// Only what went where it went for this reason; may be repeated.
    #[arg(long = "reason", value_name = "REASON", value_parser = reason(), hide_possible_values = true)]
    reasons: Vec<Reason>,
    /// Only what this was done with; may be repeated.
    #[arg(long = "verdict", value_name = "VERDICT", value_parser = action())]
    actions: Vec<Action>,
    /// Also where a hook has only looked at a packet, of which another one tells more.
    #[arg(long)]
    all: bool,
    /// One packet of so many, by chance.
    #[arg(long, value_name = "NUMBER", default_value = "1")]
    sample: NonZeroU32,
    /// End after so many packets.
    #[arg(long, value_name = "NUMBER")]
    limit: Option<u64>,
    /// Write the packets to a file (pcapng), or to standard output (-), instead of printing them.
    #[arg(short = 'w', long = "write", value_name = "FILE")]
    file: Option<PathBuf>,
    /// Bytes of each packet in the file, at the most 512.
    #[arg(long, value_name = "BYTES", requires = "file", default_value_t = SNAP,
          value_parser = clap::value_parser!(u32).range(14..=512))]
    snap: u32,
    #[command(flatten)]
    output: Output,
}

impl Monitor {
    pub(super) async fn run(&self, global: &Global) -> Result<()> {
        let pins = global.pinned()?;
        let mut sink = Sink::open(self)?;
        let (mut listener, reader) = inspect::listen(&pins, &self.request())?;
        let count = self.follow(&mut listener, &reader, &mut sink).await;
        let lost = listener.lost()?;
        drop(listener);
        let count = count?;
        sink.finish(lost)?;
        eprintln!("{count} packets{}", lost_words(lost));
        Ok(())
    }

    fn request(&self) -> Request {
        Request {
            networks: self.addresses.clone(),
            ports: self.ports.clone(),
            protocol: self.protocol,
            hooks: self.hooks.clone(),
            side: self.direction,
            reasons: self.reasons.clone(),
            actions: self.actions.clone(),
            interface: self.interface.clone(),
            everything: self.all,
            sample: self.sample,
            snap: if self.file.is_some() {
                self.snap
            } else {
                HEADERS
            },
        }
    }

    /// Until somebody ends it, or there are enough; returns how many there were.
    async fn follow(
        &self,
        listener: &mut Listener,
        reader: &Reader,
        sink: &mut Sink,
    ) -> Result<u64> {
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut interrupted = signal(SignalKind::interrupt())?;
        let mut terminated = signal(SignalKind::terminate())?;
        let mut stayed = Instant::now();
        let mut count = 0;
        let mut lost = 0;
        sink.show(&[])?;
        loop {
            let is_over = tokio::select! {
                _ = ticks.tick() => false,
                _ = interrupted.recv() => true,
                _ = terminated.recv() => true,
            };
            let mut rows = Vec::new();
            listener.drain(|event| {
                if self.limit.is_some_and(|limit| count >= limit) {
                    return Ok(false);
                }
                count += 1;
                match sink {
                    Sink::Table(_) => rows.extend(PacketRow::new(event, reader)),
                    Sink::File(capture) => capture.add(event, reader)?,
                }
                Ok(true)
            })?;
            sink.show(&rows)?;
            if is_over || self.limit.is_some_and(|limit| count >= limit) {
                return Ok(count);
            }
            if stayed.elapsed() >= Listener::PERIOD {
                stayed = Instant::now();
                listener.stay()?;
                let now = listener.lost()?;
                if now > lost {
                    eprintln!("underpass: {now} packets were lost so far");
                }
                lost = now;
            }
        }
    }
}

fn lost_words(lost: u64) -> String {
    match lost {
        0 => String::new(),
        lost => format!(
            ", and {lost} that were lost, since they came faster than they were read: ask for fewer \
             (--sample, --address, --reason), or write them to a file (-w)"
        ),
    }
}

/// Where packets go.
enum Sink {
    Table(PacketTable),
    File(Capture<BufWriter<Box<dyn Write>>>),
}

impl Sink {
    fn open(monitor: &Monitor) -> Result<Self> {
        let Some(path) = &monitor.file else {
            return Ok(Self::Table(PacketTable::new(monitor.output.output)));
        };
        let file: Box<dyn Write> = if path == Path::new("-") {
            Box::new(io::stdout())
        } else {
            let file = File::create(path);
            Box::new(
                file.with_context(|| format!("cannot write the packets to {}", path.display()))?,
            )
        };
        Ok(Self::File(Capture::new(
            BufWriter::new(file),
            monitor.snap,
        )?))
    }

    fn show(&mut self, rows: &[PacketRow]) -> Result<()> {
        match self {
            Self::Table(table) => {
                let text = table.render(rows)?;
                if text.is_empty() {
                    Ok(())
                } else {
                    print(&text)
                }
            }
            Self::File(capture) => capture.flush(),
        }
    }

    fn finish(self, lost: u64) -> Result<()> {
        match self {
            Self::Table(_) => Ok(()),
            Self::File(capture) => capture.finish(lost),
        }
    }
}

/// An address is a network of its own.
fn network(text: &str) -> Result<Ipv4Net, String> {
    let network = text
        .parse::<Ipv4Net>()
        .or_else(|_| text.parse::<Ipv4Addr>().map(Ipv4Net::from));
    network.map_err(|_| {
        "write an IPv4 address as 10.244.1.7, or a network as 10.244.0.0/16".to_owned()
    })
}

fn hook() -> impl TypedValueParser<Value = Hook> {
    by_name(&Hook::ALL, Hook::name)
}

fn reason() -> impl TypedValueParser<Value = Reason> {
    by_name(Reason::ALL, Reason::name)
}

fn action() -> impl TypedValueParser<Value = Action> {
    by_name(
        &[Action::Forward, Action::Stack, Action::Drop],
        Action::name,
    )
}

/// One of `all`, by its name.
fn by_name<T: Copy + Send + Sync + 'static>(
    all: &'static [T],
    name: fn(T) -> &'static str,
) -> impl TypedValueParser<Value = T> {
    let names = all.iter().map(move |value| name(*value));
    PossibleValuesParser::new(names).try_map(move |text| {
        let value = all.iter().find(|value| name(**value) == text);
        value.copied().ok_or("no such name")
    })
}
