//! `underpass flows`.

use std::net::Ipv4Addr;

use anyhow::Result;
use clap::{Args, Subcommand};
use dataplane_common::abi::Generation;

use super::{
    exit::Refusal,
    global::Global,
    verbs::{Output, Watch, print},
};
use crate::{
    dataplane::{Generations, Pins},
    inspect::{self, Selection, State},
};

#[derive(Debug, Subcommand)]
pub(super) enum Flows {
    /// The flows that are remembered, those first of which most packets were carried.
    List {
        #[command(flatten)]
        filter: Filter,
        #[command(flatten)]
        output: Output,
    },
    /// What is known of the flows between two addresses, in words, and what conntrack has of them.
    Get {
        /// One end.
        source: Ipv4Addr,
        /// The other.
        destination: Ipv4Addr,
        /// Only of this protocol: tcp, udp, sctp, icmp, or its number.
        #[arg(long, visible_alias = "proto", value_parser = inspect::protocol_number)]
        protocol: Option<u8>,
        /// Only with this port at one end.
        #[arg(long)]
        sport: Option<u16>,
        /// And with this one at the other.
        #[arg(long)]
        dport: Option<u16>,
        #[command(flatten)]
        output: Output,
    },
    /// The flows that are remembered, and then those that change: how they stand, and what is carried.
    Watch {
        #[command(flatten)]
        filter: Filter,
        #[command(flatten)]
        watch: Watch,
    },
    /// Have the stack see every flow anew before it is carried on.
    Flush,
}

#[derive(Debug, Args)]
pub(super) struct Filter {
    /// Only with this address at one end.
    #[arg(long)]
    address: Option<Ipv4Addr>,
    /// Only with this port at one end.
    #[arg(long)]
    port: Option<u16>,
    /// Only of this protocol: tcp, udp, sctp, icmp, or its number.
    #[arg(long, visible_alias = "proto", value_parser = inspect::protocol_number)]
    protocol: Option<u8>,
    /// Only those that stand so.
    #[arg(long, value_enum)]
    state: Option<State>,
    /// At most so many.
    #[arg(long, value_name = "NUMBER")]
    limit: Option<usize>,
}

impl Flows {
    pub(super) async fn run(&self, global: &Global) -> Result<()> {
        match self {
            Self::List { filter, output } => {
                output.list(&inspect::flows(&global.pinned()?, &filter.selection())?)
            }
            Self::Get {
                source,
                destination,
                protocol,
                sport,
                dport,
                output,
            } => {
                let selection = Selection {
                    addresses: vec![*source, *destination],
                    ports: sport.iter().chain(dport).copied().collect(),
                    protocol: *protocol,
                    in_full: true,
                    ..Selection::default()
                };
                let rows = inspect::flows(&global.pinned()?, &selection)?;
                if rows.is_empty() {
                    return Err(not_remembered(*source, *destination).into());
                }
                print(&inspect::render_stories(&rows, output.output)?)
            }
            Self::Watch { filter, watch } => {
                let selection = filter.selection();
                let read = || inspect::flows(&global.pinned()?, &selection);
                watch.run(read).await
            }
            Self::Flush => print(&flush(&global.pinned()?)?),
        }
    }
}

fn not_remembered(source: Ipv4Addr, destination: Ipv4Addr) -> Refusal {
    Refusal::NotFound(format!(
        "no such flow between {source} and {destination} is remembered: no packet of it has come that \
         could be carried, but for what opens or closes a connection (see `underpass explain {source} \
         {destination}`), or it was long ago"
    ))
}

fn flush(pins: &Pins) -> Result<String> {
    let (accelerated, all) = inspect::count_flows(pins)?;
    Generations::open(pins, Generation::Flush)?.bump()?;
    Ok(format!(
        "{accelerated} of {all} flows were accelerated; the stack sees each of them anew\n"
    ))
}

impl Filter {
    fn selection(&self) -> Selection {
        Selection {
            addresses: self.address.into_iter().collect(),
            ports: self.port.into_iter().collect(),
            protocol: self.protocol,
            state: self.state,
            limit: self.limit,
            in_full: false,
        }
    }
}
