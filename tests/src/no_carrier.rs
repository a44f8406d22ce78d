//! Nodes without a carrier.

use anyhow::Result;
use dataplane_common::abi::{self, maps};
use dataplane_user::{
    dataplane::{BpfArray, Pins},
    kernel::CARRIER_NAME,
};

use crate::{Agent, Node};

/// Ends a node's agent and takes away its carrier and its routes, but leaves its programs: what they
/// do not carry is then for the kernel's own devices.
pub fn take_carrier(node: &Node, agent: Agent) -> Result<()> {
    /// The protocol number of the agent's routes.
    const PROTOCOL: u8 = 117;
    drop(agent);
    let mut config = BpfArray::<abi::Config>::open_array(&Pins::new(node.pins()), maps::CONFIG)?;
    let known = config.get(0)?;
    config.set(
        0,
        abi::Config {
            carrier: 0,
            ..known
        },
    )?;
    node.ns()
        .exec(&format!("ip route flush proto {PROTOCOL}"))?;
    node.ns().exec(&format!("ip link delete {CARRIER_NAME}"))?;
    Ok(())
}
