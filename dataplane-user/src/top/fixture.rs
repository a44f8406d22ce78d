//! A node with traffic, for tests.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    sync::LazyLock,
    time::{Duration, Instant},
};

use dataplane_common::{
    abi::{Config, Counter, FlowKey, Hook, flags},
    reason::Reason,
};

use super::{
    rates::rates,
    report::{Sort, Top},
    sample::{Carried, EndpointCount, Far, PeerWays, Sample},
    state::State,
};
use crate::{
    inspect::{Acceleration, FillRow},
    kernel::{VethTraffic, Volume},
};

pub(super) const NEAR: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 11);
pub(super) const FAR: Ipv4Addr = Ipv4Addr::new(192, 168, 2, 12);

/// What is counted a second: packets of 1,000 bytes.
const COUNTED: [(Hook, Reason, u64); 11] = [
    (Hook::FromWorkload, Reason::ArpAnswered, 1),
    (Hook::FromWorkload, Reason::DeliveredLocal, 80),
    (Hook::FromWorkload, Reason::SentVxlan, 400),
    (Hook::FromWorkload, Reason::NoRoute, 25),
    (Hook::FromWorkload, Reason::Handshake, 12),
    (Hook::FromWorkload, Reason::SpoofedSource, 3),
    (Hook::FromUplink, Reason::ReceivedVxlan, 450),
    (Hook::FromUplink, Reason::ReceivedDirect, 50),
    (Hook::FromUplink, Reason::Reverify, 8),
    (Hook::FromUplink, Reason::NotForPod, 1500),
    (Hook::FromUplink, Reason::ForeignSource, 7),
];

static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The node after so many seconds.
pub(super) fn sample(seconds: u32) -> Sample {
    let counters = COUNTED.map(|(hook, reason, packets)| {
        let packets = packets * u64::from(seconds);
        let counter = Counter {
            packets,
            bytes: packets * 1000,
        };
        ((hook, reason), counter)
    });
    let counters = BTreeMap::from(counters);
    let config = Config {
        flags: flags::ESTABLISHED,
        ..Config::default()
    };
    Sample {
        taken: *BEGIN + Duration::from_secs(seconds.into()),
        agent_running: true,
        acceleration: Acceleration::new(&config, &counters),
        counters,
        flows: Some([(flow(0), carried(seconds))].into()),
        ticks: ticks(seconds),
        peers: [(NEAR, ways("direct", 1500)), (FAR, ways("vxlan", 1450))].into(),
        endpoints: [(3, endpoint(2, seconds)), (4, endpoint(3, 0))].into(),
        counts_redirected: true,
        maps: vec![
            fill("ROUTES", 8226, 33_554_432),
            fill("FLOWS", 98_304, 131_072),
        ],
    }
}

/// A flow, of which there are others.
pub(super) fn flow(number: u16) -> FlowKey {
    FlowKey {
        lower: [10, 244, 0, 2],
        higher: [10, 244, 1, 2],
        lower_port: number.to_be_bytes(),
        ..FlowKey::default()
    }
}

/// 300 packets a second to [`FAR`], and 200 from there.
fn carried(seconds: u32) -> [Carried; 2] {
    let way = |packets: u64, far| Carried {
        packets: packets * u64::from(seconds),
        since: ticks(0),
        far: Some(far),
    };
    [way(300, Far::To(FAR)), way(200, Far::From(FAR))]
}

pub(super) fn ticks(seconds: u32) -> u64 {
    100_000 + u64::from(seconds) * 15_259
}

fn ways(mode: &'static str, mtu: u16) -> PeerWays {
    PeerWays {
        modes: [mode].into(),
        mtus: [mtu].into(),
    }
}

/// A pod that has sent 500 packets of 1,000 bytes a second, and received 600.
fn endpoint(number: u8, seconds: u32) -> EndpointCount {
    let volume = |packets: u64| Volume {
        packets: packets * u64::from(seconds),
        bytes: packets * u64::from(seconds) * 1000,
    };
    EndpointCount {
        interface: format!("cali{number}"),
        addresses: [Ipv4Addr::new(10, 244, 0, number)].into(),
        mtu: 1450,
        traffic: Some(VethTraffic {
            sent: volume(500),
            received: Some(volume(600)),
        }),
    }
}

fn fill(map: &'static str, entries: u32, max_entries: u32) -> FillRow {
    FillRow {
        map,
        entries,
        max_entries,
    }
}

/// Its rates, which are the same in every second.
pub(super) fn top() -> Top {
    rates(&sample(10), &sample(11))
}

/// A dashboard of it. Its seconds have been as long as these, so that sparklines have a shape.
pub(super) fn state() -> State {
    let mut state = State::new("node-0", Duration::from_secs(1), Sort::Packets, "");
    state.take(sample(0));
    let mut moment = *BEGIN;
    for (second, milliseconds) in (1..).zip([8000, 4000, 2000, 1500, 1200, 1000, 2000, 1000]) {
        moment += Duration::from_millis(milliseconds);
        state.take(Sample {
            taken: moment,
            ..sample(second)
        });
    }
    state
}

/// What comes after it, at twice the rates.
pub(super) fn later_sample() -> Sample {
    let seconds: u64 = 8 + 4 + 2 + 1 + 1 + 1 + 2 + 1 + 2;
    Sample {
        taken: *BEGIN + Duration::from_secs(seconds),
        ..sample(12)
    }
}
