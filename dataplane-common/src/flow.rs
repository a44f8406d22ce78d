//! What identifies a flow.

use crate::{abi::WAYS, parse::Ipv4, tuple::mix};

/// UDP source port that carries a flow's entropy: packets of one flow have one port, and flows
/// spread over the dynamic ports 49152 to 65535 (RFC 7348 section 5, RFC 6335).
///
/// It is made of the addresses and ports that were parsed anyway: `bpf_get_hash_recalc` would
/// dissect the packet again.
#[inline(always)]
#[must_use]
pub fn entropy_port(ip: &Ipv4, ports: [u8; 4]) -> [u8; 2] {
    // The upper bits of a product depend on all bits of its factors.
    let [high, low, ..] = hash(ip, ports).to_be_bytes();
    [high | 0xc0, low]
}

/// Which of a multipath's [`WAYS`] a flow takes: one for all its packets, by addresses, protocol and
/// ports, as the kernel with `fib_multipath_hash_policy` 1. All fragments of a packet take one, too,
/// since `ports` are zero for every one of them.
///
/// None of the bits is in the [`entropy_port`], of which each way else would have a part only.
#[inline(always)]
#[must_use]
pub fn place(ip: &Ipv4, ports: [u8; 4]) -> usize {
    const BELOW_PORT: u32 = 11;
    (hash(ip, ports) >> BELOW_PORT) as usize % WAYS
}

#[inline(always)]
fn hash(ip: &Ipv4, ports: [u8; 4]) -> u32 {
    let mut hash = mix(0, ip.source);
    hash = mix(hash, ip.destination);
    hash = mix(hash, ports);
    hash ^= u32::from(ip.protocol);
    hash.wrapping_mul(0x9e37_79b1)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    fn flow(source: u32, destination: u32, source_port: u16) -> (Ipv4, [u8; 4]) {
        let ip = Ipv4 {
            source: source.to_be_bytes(),
            destination: destination.to_be_bytes(),
            protocol: 6,
            ..Ipv4::default()
        };
        let [a, b] = source_port.to_be_bytes();
        (ip, [a, b, 0, 80])
    }

    fn port(source: u32, destination: u32, source_port: u16) -> u16 {
        let (ip, ports) = flow(source, destination, source_port);
        u16::from_be_bytes(entropy_port(&ip, ports))
    }

    #[test]
    fn ports_are_dynamic_ones() {
        for n in 0..10_000u32 {
            assert!(port(0x0af4_0002 + n, 0x0af4_0102, 40_000) >= 49_152);
        }
    }

    /// Neighbouring pods and ports are what a cluster has; a mean of 16 flows a bucket, where a
    /// Poisson distribution leaves its 99.99th percentile at 33.
    #[test]
    fn neighbouring_flows_spread_evenly() {
        let mut buckets = BTreeMap::<u16, u32>::new();
        for pod in 0..64u32 {
            for source_port in 0..256u16 {
                let port = port(0x0af4_0002 + pod, 0x0af4_0102, 32_768 + source_port);
                *buckets.entry(port & 1023).or_default() += 1;
            }
        }
        assert!(
            buckets.len() > 1020,
            "{} of 1024 buckets used",
            buckets.len()
        );
        let fullest = buckets.values().max().copied().unwrap_or_default();
        assert!(fullest < 45, "{fullest} flows in one bucket");
    }

    /// As above, and each way's flows still have all ports: a mean of 512 flows a place, whose
    /// standard deviation is 22, and of 496 ports among so many.
    #[test]
    fn neighbouring_flows_spread_over_the_ways_and_each_ways_over_the_ports() {
        let mut places = BTreeMap::<usize, (u32, BTreeSet<[u8; 2]>)>::new();
        for pod in 0..64u32 {
            for source_port in 0..256u16 {
                let (ip, ports) = flow(0x0af4_0002 + pod, 0x0af4_0102, 32_768 + source_port);
                let (flows, seen) = places.entry(place(&ip, ports)).or_default();
                *flows += 1;
                seen.insert(entropy_port(&ip, ports));
            }
        }
        assert_eq!(places.len(), WAYS);
        for (place, (flows, ports)) in places {
            assert!((420..600).contains(&flows), "{flows} flows at {place}");
            assert!(ports.len() > 400, "{} ports at {place}", ports.len());
        }
    }
}
