//! Packets from whom nothing should come.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::NetNs;

/// Counts what a namespace's `eth0` brings from some addresses, whatever becomes of it.
#[derive(Debug)]
pub struct Sightings(NetNs);

impl Sightings {
    /// Begins to count.
    pub fn of(ns: &NetNs, sources: &[Ipv4Addr]) -> Result<Self> {
        let sources: Vec<String> = sources.iter().map(Ipv4Addr::to_string).collect();
        let rules = format!(
            "table ip sightings {{\n\
               counter seen {{ }}\n\
               chain prerouting {{\n\
                 type filter hook prerouting priority -300\n\
                 iifname eth0 ip saddr {{ {} }} counter name seen\n\
               }}\n\
             }}\n",
            sources.join(", ")
        );
        ns.command("nft").args(["-f", "-"]).input(&rules)?.run()?;
        Ok(Self(ns.clone()))
    }

    /// How many packets there were.
    pub fn count(&self) -> Result<u64> {
        let listed = self.0.exec("nft -j list counter ip sightings seen")?;
        let listed: Value = serde_json::from_str(&listed)?;
        let counters = listed["nftables"].as_array();
        let packets = counters.and_then(|counters| {
            let mut packets = counters
                .iter()
                .filter_map(|object| object["counter"]["packets"].as_u64());
            packets.next()
        });
        packets.with_context(|| format!("understand nft's {listed}"))
    }
}
