//! Checks of all that has to work between `node-0`, with underpass, and `node-1`, with or without.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::{
    Count, Counters, DatagramOptions, Lab, NetNs, Node, PingOptions, Pod, TcpOptions, UdpOptions,
    datagrams_arrive_intact, eventually, patient, ping, tcp_arrives_intact, tcp_throughput,
    udp_throughput,
};

/// More than any link of the lab carries in one piece: frames of such a mean size are aggregates
/// that nobody has cut into segments, in bytes.
const WHOLE: u64 = 3000;

/// Pings between everything on the two nodes, and UDP between pods, both ways.
pub fn every_path_works(lab: &Lab) -> Result<()> {
    let (ours, theirs) = (lab.node("node-0"), lab.node("node-1"));
    for (here, there) in [(ours, theirs), (theirs, ours)] {
        let (pod, remote) = (here.pod("p0"), there.pod("p0"));
        let mut paths = vec![
            ("pod to pod", pod.ns(), remote.address(), 62),
            ("pod to host", pod.ns(), there.address().addr(), 63),
            ("host to pod", here.ns(), remote.address(), 63),
        ];
        if has_address(there, there.tunnel_address())? {
            let tunnel = there.tunnel_address();
            paths.push(("pod to tunnel address", pod.ns(), tunnel, 63));
            paths.push(("host to tunnel address", here.ns(), tunnel, 64));
        }
        for (what, from, to, ttl) in paths {
            let report = ping(from, to, &PingOptions::default())?;
            ensure!(
                report.is_lossless() && report.reply_ttl == Some(ttl),
                "{what} from {}, TTL {ttl}: {report:?}",
                here.name()
            );
        }
        let slow = one_datagram_per(patient(Duration::from_millis(1)));
        // A server that gets no time to read loses some in its socket.
        let overflown = || remote.ns().snmp_counter("Udp", "RcvbufErrors");
        let before = overflown()?;
        let udp = udp_throughput(remote.ns(), pod.ns(), remote.address(), 1, &slow)?;
        let overflown = overflown()? - before;
        ensure!(
            udp.packets > udp.lost && udp.lost <= overflown,
            "{overflown} lost in the socket: {udp:?}"
        );
    }
    Ok(())
}

/// So slow that no queue has to drop.
fn one_datagram_per(interval: Duration) -> UdpOptions {
    const BYTES: u16 = 1000;
    let microseconds = u64::try_from(interval.as_micros()).unwrap_or(u64::MAX);
    let per_second = 1_000_000 / microseconds.max(1);
    UdpOptions {
        length: BYTES,
        bits_per_second: u64::from(BYTES) * 8 * per_second,
        ..UdpOptions::default()
    }
}

fn has_address(node: &Node, address: Ipv4Addr) -> Result<bool> {
    let shown = node
        .ns()
        .exec(&format!("ip -o address show to {address}/32"))?;
    Ok(!shown.is_empty())
}

/// Sends TCP both ways, which passes underpass as `sent-<word>` and `received-<word>`.
pub fn tcp_stays_whole(lab: &Lab, word: &str) -> Result<()> {
    let ours = lab.node("node-0");
    let (near, far) = (ours.pod("p0"), lab.pod("node-1", "p0"));
    for (from, to, hook, reason) in [
        (near, far, "from_workload", format!("sent-{word}")),
        (far, near, "from_uplink", format!("received-{word}")),
    ] {
        let before = Counters::read(ours)?;
        assert_tcp(from.ns(), to)?;
        let count = Counters::read(ours)?.since(&before).get(hook, &reason);
        assert_whole(count, &reason);
    }
    Ok(())
}

/// Sends TCP to a pod, and fails unless some arrives.
pub fn assert_tcp(client: &NetNs, server: &Pod) -> Result<()> {
    let options = TcpOptions::default();
    let tcp = tcp_throughput(server.ns(), client, server.address(), 1, &options)?;
    ensure!(tcp.bits_per_second > 0.0, "{tcp:?}");
    Ok(())
}

/// Fails unless packets were counted, and as aggregates.
///
/// # Panics
///
/// Then.
pub fn assert_whole(count: Count, reason: &str) {
    assert!(count.packets > 0, "nothing is {reason}");
    assert!(
        count.bytes / count.packets > WHOLE,
        "what is {reason} has been cut into segments: {count:?}"
    );
}

/// Makes the way into a pod narrower than what the pod tells its TCP peers, in bytes: 1400.
pub fn narrow(node: &Node, pod: &Pod) -> Result<()> {
    node.set_pod_mtu(pod.name(), 1400)?;
    pod.ns()
        .exec("ip route replace default via 169.254.1.1 dev eth0 advmss 1410")?;
    eventually("the agent knows the veth's MTU", || {
        let output = node.underpass(&["endpoints", "list"])?;
        let table = String::from_utf8(output.stdout)?;
        let is_narrow = |line: &str| line.contains(pod.host_ifname()) && line.ends_with(" 1400");
        Ok(table.lines().any(is_narrow))
    })
}

/// Sends TCP, and UDP with segmentation offload to a socket that takes aggregates and to one that
/// does not, from `client` to `address`, and fails unless every byte arrives at `server` (see
/// [`tcp_arrives_intact`]), and if its stack has counted a packet as wrong.
pub fn all_arrives(client: &NetNs, address: Ipv4Addr, server: &NetNs) -> Result<()> {
    const BYTES: u64 = 2_000_000;
    tcp_arrives_intact(client, address, server, BYTES)?;
    for gro in [false, true] {
        let options = DatagramOptions {
            rounds: 5,
            gro,
            ..DatagramOptions::default()
        };
        datagrams_arrive_intact(client, address, server, options)?;
    }
    for (protocol, counter) in [
        ("Tcp", "InErrs"),
        ("Tcp", "InCsumErrors"),
        ("Udp", "InErrors"),
        ("Udp", "InCsumErrors"),
    ] {
        let errors = server.snmp_counter(protocol, counter)?;
        ensure!(errors == 0, "{protocol} {counter}: {errors}");
    }
    Ok(())
}
