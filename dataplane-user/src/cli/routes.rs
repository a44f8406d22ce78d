//! `underpass routes`.

use std::net::Ipv4Addr;

use anyhow::Result;
use clap::Subcommand;
use ipnet::Ipv4Net;

use super::{
    global::Global,
    verbs::{Output, Watch},
};
use crate::inspect::{self, RouteRow, Snapshot};

#[derive(Debug, Subcommand)]
pub(super) enum Routes {
    /// All routes.
    List {
        /// Instead, the prefixes whose packets stay with the stack, and why (source: kernel).
        #[arg(long)]
        unmirrored: bool,
        #[command(flatten)]
        output: Output,
    },
    /// The route that an address takes, by the longest prefix, or the route of a prefix itself.
    Get {
        /// A destination, 10.244.1.7, or a prefix, 10.244.1.0/24.
        #[arg(value_name = "ADDRESS|PREFIX", value_parser = destination)]
        destination: Destination,
        #[command(flatten)]
        output: Output,
    },
    /// All routes, and then those that change.
    Watch(Watch),
}

/// What a route is asked for by.
#[derive(Clone, Copy, Debug)]
pub(super) enum Destination {
    Address(Ipv4Addr),
    Prefix(Ipv4Net),
}

impl Routes {
    pub(super) async fn run(&self, global: &Global) -> Result<()> {
        match self {
            Self::List {
                unmirrored: true,
                output,
            } => output.list(&inspect::unmirrored(&global.config()?).await?),
            Self::List { output, .. } => output.list(&inspect::routes(&global.snapshot()?)),
            Self::Get {
                destination,
                output,
            } => {
                let found = destination.find(&global.snapshot()?);
                output.found(found.as_slice(), || destination.missing())
            }
            Self::Watch(watch) => {
                let read = || Ok(inspect::routes(&global.snapshot()?));
                watch.run(read).await
            }
        }
    }
}

fn destination(text: &str) -> Result<Destination, String> {
    if let Ok(address) = text.parse() {
        return Ok(Destination::Address(address));
    }
    match text.parse::<Ipv4Net>() {
        Ok(prefix) if prefix == prefix.trunc() => Ok(Destination::Prefix(prefix)),
        Ok(prefix) => Err(format!("the prefix is {}", prefix.trunc())),
        Err(_) => Err("write an IPv4 address or a prefix".to_owned()),
    }
}

impl Destination {
    fn find(self, snapshot: &Snapshot) -> Option<RouteRow> {
        let prefix = match self {
            Self::Prefix(prefix) => prefix,
            Self::Address(address) => {
                let ((length, network), _) = snapshot.tables.route_entry(address.octets())?;
                Ipv4Net::new(network.into(), length).ok()?
            }
        };
        let next_hop = snapshot.routes.get(&prefix)?;
        Some(RouteRow::new(prefix, next_hop, &snapshot.tables))
    }

    fn missing(self) -> String {
        match self {
            Self::Address(address) => {
                format!(
                    "no route to {address}: its packets go to the stack (`underpass routes list` has the \
                     routes there are)"
                )
            }
            Self::Prefix(prefix) => format!(
                "no route of the prefix {prefix} itself; `underpass routes get {}` says which one \
                 its addresses take",
                prefix.network()
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_an_address_or_a_prefix() {
        assert!(matches!(
            destination("10.0.0.1"),
            Ok(Destination::Address(_))
        ));
        assert!(matches!(
            destination("10.0.0.0/8"),
            Ok(Destination::Prefix(_))
        ));
        let error = destination("10.0.0.1/8").unwrap_err();
        assert_eq!(error, "the prefix is 10.0.0.0/8");
        assert!(destination("eth0").is_err());
    }
}
