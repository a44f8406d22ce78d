//! `underpass explain`.

use std::net::Ipv4Addr;

use anyhow::Result;
use clap::{Args, Command, error::ErrorKind};

use super::{
    global::Global,
    verbs::{Output, print},
};
use crate::inspect::{self, ICMP, Others, Question, Snapshot};

#[derive(Debug, Args)]
pub(super) struct Explain {
    /// Source address of the packet.
    source: Ipv4Addr,
    /// Destination address of the packet.
    destination: Ipv4Addr,
    /// Its protocol: tcp, udp, sctp, icmp, or its number. Without it the packet is an ICMP echo.
    #[arg(long, visible_alias = "proto", value_parser = inspect::protocol_number)]
    protocol: Option<u8>,
    /// Its source port.
    #[arg(long, requires = "dport", requires = "protocol")]
    sport: Option<u16>,
    /// Its destination port.
    #[arg(long, requires = "sport", requires = "protocol")]
    dport: Option<u16>,
    #[command(flatten)]
    output: Output,
}

impl Explain {
    pub(super) fn run(&self, global: &Global) -> Result<()> {
        let question = self.question().unwrap_or_else(|error| error.exit());
        let pins = global.pinned()?;
        let mut snapshot = Snapshot::read(&pins)?;
        let flow = match question.flow() {
            Some(key) => inspect::recall(&pins, &mut snapshot, key)?,
            None => None,
        };
        let others = Others::read(global.config());
        let explanation = inspect::explain(snapshot, &question, flow, &others);
        print(&inspect::render_explanation(
            &explanation,
            self.output.output,
        )?)
    }

    fn question(&self) -> Result<Question, clap::Error> {
        let protocol = self.protocol.unwrap_or(ICMP);
        let ports = self.sport.zip(self.dport);
        if ports.is_some() != Question::has_ports(protocol) {
            let message = "packets of tcp, udp and sctp have ports, and no others: which way a flow \
                           takes depends on them (--sport PORT --dport PORT)";
            let mut command = Self::augment_args(Command::new("underpass explain"));
            return Err(command.error(ErrorKind::ArgumentConflict, message));
        }
        Ok(Question {
            source: self.source,
            destination: self.destination,
            protocol,
            ports: ports.map(|(source, destination)| [source, destination]),
        })
    }
}
