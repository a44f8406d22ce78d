//! Whatever the devices on the way do, every byte arrives, and no checksum is wrong: TCP, and UDP
//! with segmentation offload as QUIC has it, to receivers that take aggregates and to others. What
//! devices leave whole, programs leave whole.

use anyhow::{Context as _, Result};
use dataplane_tests::{
    Counters, DatagramOptions, DatagramReport, Lab, Mode, datagrams_arrive_intact,
    offloads::{Receiving, Sending, leaves_udp_whole, veths_aggregate},
    paths::{all_arrives, assert_whole},
    require_root, tcp_arrives_intact,
};

const BYTES: u64 = 10_000_000;

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn every_byte_arrives_without_encapsulation() -> Result<()> {
    require_root();
    every_byte_arrives(Mode::None)
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn every_byte_arrives_by_ipip() -> Result<()> {
    require_root();
    every_byte_arrives(Mode::Ipip)
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn every_byte_arrives_by_vxlan() -> Result<()> {
    require_root();
    every_byte_arrives(Mode::Vxlan)
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn what_devices_leave_whole_stays_whole() -> Result<()> {
    require_root();
    for (mode, word) in Mode::ON_ONE_SUBNET {
        let lab = Lab::flat(2, 1)?;
        let _agents = lab.start_agents(mode)?;
        lab.wait_resolved()?;
        let (here, there) = (lab.node("node-0"), lab.node("node-1"));
        let (client, server) = (here.pod("p0"), there.pod("p0"));
        // Of segments on the wire, the receiver makes aggregates again.
        for (sending, receiving) in [
            (Sending::All, Receiving::Plain),
            (Sending::NoSegmentation, Receiving::Aggregates),
        ] {
            sending.apply(here.ns(), "eth0")?;
            receiving.apply(there.ns(), "eth0")?;
            let before = [Counters::read(here)?, Counters::read(there)?];
            tcp_arrives_intact(client.ns(), server.address(), server.ns(), BYTES)?;
            let sent = Counters::read(here)?.since(&before[0]);
            let received = Counters::read(there)?.since(&before[1]);
            let (out, into) = (format!("sent-{word}"), format!("received-{word}"));
            assert_whole(sent.get("from_workload", &out), &out);
            if sending == Sending::All || veths_aggregate()? {
                assert_whole(received.get("from_uplink", &into), &into);
            }
        }
    }
    Ok(())
}

/// An aggregate of datagrams arrives as one where that is wanted.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn datagrams_that_were_sent_as_one_arrive_as_one() -> Result<()> {
    require_root();
    for mode in [Mode::None, Mode::Ipip, Mode::Vxlan] {
        let lab = Lab::flat(2, 1)?;
        let _agents = lab.start_agents(mode)?;
        lab.wait_resolved()?;
        let (client, server) = (lab.pod("node-0", "p0"), lab.pod("node-1", "p0"));
        let options = DatagramOptions {
            gro: true,
            ..DatagramOptions::default()
        };
        let report = datagrams_arrive_intact(client.ns(), server.address(), server.ns(), options)?;
        let whole = DatagramReport {
            datagrams: u64::from(options.rounds * options.at_once),
            aggregates: if leaves_udp_whole(client.ns(), "eth0")? {
                options.rounds.into()
            } else {
                0
            },
        };
        assert_eq!(report, whole, "{mode}");
    }
    Ok(())
}

/// Tries every choice of one device with every choice of every other, two at a time.
fn every_byte_arrives(mode: Mode) -> Result<()> {
    let lab = Lab::flat(2, 1)?;
    let _agents = lab.start_agents(mode)?;
    lab.wait_resolved()?;
    let (here, there) = (lab.node("node-0"), lab.node("node-1"));
    let (client, server) = (here.pod("p0"), there.pod("p0"));
    for (i, receiving) in Receiving::CHOICES.into_iter().enumerate() {
        for (j, wire) in Sending::CHOICES.into_iter().enumerate() {
            let pod = Sending::CHOICES[(i + j) % 3];
            let checksums = ["on", "off"][(i + j) % 2];
            pod.apply(client.ns(), "eth0")?;
            wire.apply(here.ns(), "eth0")?;
            receiving.apply(there.ns(), "eth0")?;
            server
                .ns()
                .exec(&format!("ethtool -K eth0 rx {checksums}"))?;

            let mut paths = vec![
                ("pod to pod", client.ns(), server.ns(), server.address()),
                ("host to pod", here.ns(), server.ns(), server.address()),
            ];
            if mode != Mode::None {
                let tunnel = there.tunnel_address();
                paths.push(("pod to host", client.ns(), there.ns(), tunnel));
            }
            for (path, from, to, address) in paths {
                all_arrives(from, address, to).with_context(|| {
                    format!(
                        "{path} by {mode}; the pod's device sends {pod:?}, the uplink {wire:?}; \
                         the uplink receives {receiving:?}, the pod with checksums {checksums}"
                    )
                })?;
            }
        }
    }
    let counted = [Counters::read(here)?, Counters::read(there)?];
    for counted in counted {
        for (hook, reason) in [
            ("from_workload", "no-room"),
            ("from_workload", "unsupported-gso"),
            ("from_uplink", "no-room"),
            ("from_uplink", "unsupported-gso"),
            ("from_uplink", "too-big"),
        ] {
            assert_eq!(counted.get(hook, reason).packets, 0, "{hook} {reason}");
        }
    }
    Ok(())
}
