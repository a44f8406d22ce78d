//! What of underpass will work on this node, and what not, found out before anything is installed.
//!
//! Each file has one subject: the facts are read first, then judged, which is pure. Programs are loaded,
//! and one is attached where nobody is; nothing of it stays.
//!
//! Invariant: where the agent would refuse, or do without something, this says so in its words.

mod capabilities;
mod carrier;
mod configuration;
mod finding;
mod kernel;
mod mtu;
mod netfilter;
mod networks;
mod node;
mod offloads;
mod others;
mod pins;
mod programs;
mod sysctls;
mod uplinks;
mod words;
mod workloads;
mod xdp;

pub use configuration::Configuration;
pub use finding::{Finding, Outcome};

use crate::{
    agent,
    config::Config,
    dataplane::{self, Pins},
};

use node::Node;

/// Looks at everything. What cannot be looked at is a finding, too.
pub async fn check(configuration: &Configuration) -> Vec<Finding> {
    let config = configuration.effective();
    let pins = Pins::new(&config.pins);
    let mut findings = configuration::judge(configuration);
    findings.extend(kernel::judge(&kernel::read()));
    findings.push(capabilities::judge(agent::capabilities::check()));
    findings.extend(programs::judge(dataplane::trial(config.attach)));
    findings.extend(pins::judge(&pins::read(&pins)));
    findings.extend(sysctls::judge(&sysctls::read(&config)));
    findings.extend(netfilter::judge(&netfilter::read(&config)));
    match Node::read(&config).await {
        Ok(node) => findings.extend(on_interfaces(&config, &pins, &node).await),
        Err(error) => findings.push(Finding::unknown("interfaces", &error)),
    }
    findings
}

/// What depends on the interfaces that there are.
async fn on_interfaces(config: &Config, pins: &Pins, node: &Node) -> Vec<Finding> {
    let mut findings = uplinks::judge(&uplinks::read(node));
    findings.extend(workloads::judge(node));
    findings.extend(mtu::judge(node));
    for uplink in &node.uplinks {
        findings.push(offloads::judge(&offloads::read(node, uplink).await));
    }
    let others = others::read(pins, node).await;
    findings.extend(xdp::judge(&xdp::read(config, node, &others).await));
    findings.extend(others::judge(&others));
    findings.extend(networks::judge(node));
    findings.extend(carrier::judge(&carrier::read(config, node)));
    findings
}
