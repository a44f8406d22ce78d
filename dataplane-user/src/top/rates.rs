//! From what was counted at two moments to rates.

use std::{collections::BTreeMap, net::Ipv4Addr};

use dataplane_common::{
    abi::{Counter, Hook},
    reason::{Action, Reason},
};

use super::{
    report::{EndpointRate, PeerRate, Rate, ReasonRate, Share, Top, TrafficRate},
    sample::{Carried, EndpointCount, Far, Sample},
};
use crate::{inspect::mode, kernel::Volume};

/// What happened between two samples, a second.
#[must_use]
pub fn rates(before: &Sample, now: &Sample) -> Top {
    let between = Between {
        seconds: now
            .taken
            .saturating_duration_since(before.taken)
            .as_secs_f64(),
        before,
        now,
    };
    Top {
        seconds: rounded(between.seconds),
        agent_running: now.agent_running,
        acceleration: between.share(),
        traffic: between.traffic(),
        reasons: between.reasons(),
        peers: between.peers(),
        peers_uncounted: now.flows.is_none().then_some(FLOWS_NOT_FOLLOWED),
        endpoints: between.endpoints(),
        received_uncounted: (!now.counts_redirected).then_some(REDIRECTED_NOT_COUNTED),
        maps: now.maps.clone(),
    }
}

const FLOWS_NOT_FOLLOWED: &str = "packets are counted by peer with acceleration: established alone";
const REDIRECTED_NOT_COUNTED: &str =
    "this kernel does not count at a pod what programs hand to it: 6.7 and later do";

/// Two samples and the time between them.
struct Between<'s> {
    before: &'s Sample,
    now: &'s Sample,
    seconds: f64,
}

impl Between<'_> {
    fn share(&self) -> Share {
        let [before, now] = [&self.before.acceleration, &self.now.acceleration];
        let carried = self.per_second(rise(before.carried, now.carried));
        let left = self.per_second(rise(before.left, now.left));
        let all = carried + left;
        Share {
            mode: now.mode,
            carried_per_second: carried,
            left_per_second: left,
            carried_percent: (all > 0.0).then(|| rounded(100.0 * carried / all)),
        }
    }

    /// What was ever counted has a row, so that none comes and goes.
    fn traffic(&self) -> Vec<TrafficRate> {
        let mut sums: BTreeMap<(Hook, Action, &'static str), Counter> = BTreeMap::new();
        for ((hook, reason), counted) in self.counted() {
            let sum = sums
                .entry((hook, hook.action(reason), mode(reason)))
                .or_default();
            sum.packets += counted.packets;
            sum.bytes += counted.bytes;
        }
        let rows = sums.into_iter();
        rows.map(|((hook, action, mode), sum)| TrafficRate {
            hook: hook.name(),
            action: action.name(),
            mode,
            rate: self.rate(sum.packets, sum.bytes),
        })
        .collect()
    }

    fn reasons(&self) -> Vec<ReasonRate> {
        let rows = self
            .counted()
            .filter(|((hook, reason), _)| hook.action(*reason) != Action::Forward);
        rows.map(|((hook, reason), counted)| ReasonRate {
            hook: hook.name(),
            action: hook.action(reason).name(),
            reason: reason.name(),
            rate: self.rate(counted.packets, counted.bytes),
            description: reason.description(),
        })
        .collect()
    }

    /// What was counted meanwhile, of all that was ever.
    fn counted(&self) -> impl Iterator<Item = ((Hook, Reason), Counter)> {
        let counters = self.now.counters.iter();
        let ever = counters.filter(|(_, counter)| counter.packets != 0);
        ever.map(|(key, now)| {
            let before = self.before.counters.get(key).copied().unwrap_or_default();
            let counted = Counter {
                packets: rise(before.packets, now.packets),
                bytes: rise(before.bytes, now.bytes),
            };
            (*key, counted)
        })
    }

    fn peers(&self) -> Vec<PeerRate> {
        let carried = self.carried_by_peer();
        let peers = self.now.peers.iter();
        peers
            .map(|(address, ways)| {
                let of = |far| {
                    let carried = carried.as_ref()?;
                    Some(self.per_second(carried.get(&far).copied().unwrap_or_default()))
                };
                PeerRate {
                    address: *address,
                    modes: ways.modes.iter().copied().collect(),
                    mtu: ways.mtus.first().copied(),
                    sent_per_second: of((*address, Direction::Sent)),
                    received_per_second: of((*address, Direction::Received)),
                }
            })
            .collect()
    }

    fn carried_by_peer(&self) -> Option<BTreeMap<(Ipv4Addr, Direction), u64>> {
        let [before, now] = [self.before.flows.as_ref()?, self.now.flows.as_ref()?];
        let mut peers = BTreeMap::new();
        for (key, directions) in now {
            for (direction, carried) in directions.iter().enumerate() {
                let far = match carried.far {
                    Some(Far::To(peer)) => (peer, Direction::Sent),
                    Some(Far::From(peer)) => (peer, Direction::Received),
                    None => continue,
                };
                let known = before.get(key).map(|directions| &directions[direction]);
                *peers.entry(far).or_default() += self.carried(known, carried);
            }
        }
        Some(peers)
    }

    /// What was carried meanwhile of a flow's direction. One that is new has been carried since then;
    /// one that is not, and was missed when the map was gone through, says nothing of it.
    fn carried(&self, before: Option<&Carried>, now: &Carried) -> u64 {
        match before {
            Some(before) => rise(before.packets, now.packets),
            None if now.since >= self.before.ticks => now.packets,
            None => 0,
        }
    }

    fn endpoints(&self) -> Vec<EndpointRate> {
        let endpoints = self.now.endpoints.iter();
        endpoints
            .map(|(index, now)| {
                let before = self.before.endpoints.get(index);
                self.endpoint(before, now)
            })
            .collect()
    }

    /// What a pod that is new has sent before it was seen is not told by a rate.
    fn endpoint(&self, before: Option<&EndpointCount>, now: &EndpointCount) -> EndpointRate {
        let traffic = now.traffic.map(|now| {
            let before = before.and_then(|before| before.traffic);
            (before.unwrap_or(now), now)
        });
        let received = traffic.and_then(|(before, now)| Some((before.received?, now.received?)));
        EndpointRate {
            addresses: now.addresses.iter().copied().collect(),
            interface: now.interface.clone(),
            mtu: now.mtu,
            sent: traffic.map(|(before, now)| self.volume(before.sent, now.sent)),
            received: received
                .filter(|_| self.now.counts_redirected)
                .map(|(before, now)| self.volume(before, now)),
        }
    }

    fn volume(&self, before: Volume, now: Volume) -> Rate {
        self.rate(
            rise(before.packets, now.packets),
            rise(before.bytes, now.bytes),
        )
    }

    fn rate(&self, packets: u64, bytes: u64) -> Rate {
        Rate {
            packets_per_second: self.per_second(packets),
            bytes_per_second: self.per_second(bytes),
        }
    }

    /// A moment is too short for anything to have happened in it.
    fn per_second(&self, count: u64) -> f64 {
        if self.seconds <= 0.0 {
            return 0.0;
        }
        #[allow(clippy::cast_precision_loss)] // a rate, for people
        let count = count as f64;
        rounded(count / self.seconds)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Direction {
    Sent,
    Received,
}

/// By how much a counter has risen. One that went back has begun anew: maps were made anew, or an
/// interface got the number of one that is gone.
fn rise(before: u64, now: u64) -> u64 {
    now.checked_sub(before).unwrap_or(now)
}

/// To thousandths.
fn rounded(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        kernel::VethTraffic,
        top::fixture::{FAR, NEAR, flow, sample, ticks},
    };

    fn rate_of(top: &Top, hook: &str, mode: &str) -> Rate {
        let mut rows = top.traffic.iter();
        let row = rows.find(|row| row.hook == hook && row.mode == mode);
        row.unwrap_or_else(|| panic!("{hook} {mode}")).rate
    }

    fn peer(top: &Top, address: Ipv4Addr) -> (Option<f64>, Option<f64>) {
        let row = top.peers.iter().find(|row| row.address == address).unwrap();
        (row.sent_per_second, row.received_per_second)
    }

    #[test]
    fn what_was_counted_is_divided_by_the_time() {
        let top = rates(&sample(2), &sample(4));
        assert!((top.seconds - 2.0).abs() < 1e-9);
        assert_eq!(
            rate_of(&top, "from_workload", "vxlan"),
            Rate {
                packets_per_second: 400.0,
                bytes_per_second: 400_000.0,
            }
        );
        assert_eq!(top.acceleration.carried_percent, Some(98.0));
        let reasons: Vec<_> = top.reasons.iter().map(|row| row.reason).collect();
        assert_eq!(
            reasons,
            [
                "no-route",
                "handshake",
                "spoofed-source",
                "not-for-pod",
                "reverify",
                "foreign-source"
            ]
        );
    }

    #[test]
    fn reasons_of_one_mode_are_one_row() {
        let mut now = sample(1);
        let counter = Counter {
            packets: 7,
            bytes: 70,
        };
        now.counters
            .insert((Hook::FromUplink, Reason::SentVxlan), counter);
        let top = rates(&sample(0), &now);
        let rate = rate_of(&top, "from_uplink", "vxlan");
        assert_eq!(
            rate,
            Rate {
                packets_per_second: 457.0,
                bytes_per_second: 450_070.0,
            }
        );
    }

    #[test]
    fn what_is_not_counted_any_more_stays_with_a_rate_of_zero() {
        let mut now = sample(4);
        now.counters = sample(2).counters;
        let top = rates(&sample(2), &now);
        assert_eq!(rate_of(&top, "from_workload", "vxlan"), Rate::default());
        assert_eq!(
            top.traffic.len(),
            rates(&sample(2), &sample(4)).traffic.len()
        );
    }

    #[test]
    fn what_goes_back_has_begun_anew() {
        let mut now = sample(3);
        now.taken = sample(10).taken + std::time::Duration::from_secs(1);
        let top = rates(&sample(10), &now);
        assert_eq!(
            rate_of(&top, "from_workload", "vxlan"),
            Rate {
                packets_per_second: 1200.0,
                bytes_per_second: 1_200_000.0,
            }
        );
        assert_eq!(peer(&top, FAR), (Some(900.0), Some(600.0)));
        let sent = top.endpoints[0].sent.map(|sent| sent.packets_per_second);
        assert_eq!(sent, Some(1500.0));
    }

    #[test]
    fn one_sample_has_no_rates() {
        let top = rates(&sample(5), &sample(5));
        assert_eq!(rate_of(&top, "from_workload", "vxlan"), Rate::default());
        assert_eq!(top.acceleration.carried_percent, None);
        assert_eq!(peer(&top, FAR), (Some(0.0), Some(0.0)));
    }

    #[test]
    fn flows_are_summed_by_the_node_at_their_far_end() {
        let top = rates(&sample(2), &sample(4));
        assert_eq!(peer(&top, FAR), (Some(300.0), Some(200.0)));
        assert_eq!(peer(&top, NEAR), (Some(0.0), Some(0.0)));
        assert_eq!(top.peers_uncounted, None);
    }

    #[test]
    fn a_flow_that_is_new_counts_and_one_that_was_missed_does_not() {
        let with = |since| {
            let mut now = sample(3);
            let carried = Carried {
                packets: 60,
                since,
                far: Some(Far::To(NEAR)),
            };
            let flows = now.flows.as_mut().unwrap();
            flows.insert(flow(1), [carried, Carried::default()]);
            peer(&rates(&sample(2), &now), NEAR)
        };
        assert_eq!(with(ticks(2) + 1), (Some(60.0), Some(0.0)));
        assert_eq!(with(ticks(1)), (Some(0.0), Some(0.0)));
    }

    #[test]
    fn without_flows_nothing_is_made_up_of_peers() {
        let [before, now] = [2, 3].map(|second| Sample {
            flows: None,
            ..sample(second)
        });
        let top = rates(&before, &now);
        assert_eq!(peer(&top, FAR), (None, None));
        assert_eq!(top.peers_uncounted, Some(FLOWS_NOT_FOLLOWED));
    }

    #[test]
    fn what_a_kernel_does_not_count_is_not_told_of_pods() {
        let now = Sample {
            counts_redirected: false,
            ..sample(3)
        };
        let top = rates(&sample(2), &now);
        assert_eq!(top.endpoints[0].received, None);
        assert_eq!(top.received_uncounted, Some(REDIRECTED_NOT_COUNTED));
        let sent = top.endpoints[0].sent.map(|sent| sent.packets_per_second);
        assert_eq!(sent, Some(500.0));
    }

    #[test]
    fn a_pod_that_is_new_begins_with_zero_and_one_that_is_gone_has_no_rates() {
        let mut before = sample(2);
        let mut now = sample(3);
        before.endpoints.remove(&3);
        now.endpoints.get_mut(&4).unwrap().traffic = None;
        let top = rates(&before, &now);
        assert_eq!(top.endpoints[0].sent, Some(Rate::default()));
        assert_eq!(top.endpoints[1].sent, None);
        // Its far side could not be asked.
        now.endpoints.get_mut(&4).unwrap().traffic = Some(VethTraffic::default());
        let top = rates(&before, &now);
        assert_eq!(top.endpoints[1].sent, Some(Rate::default()));
        assert_eq!(top.endpoints[1].received, None);
    }
}
