//! What the programs tell of packets: what is asked of them, and how it is shown.

mod capture;
mod request;
mod row;

use std::time::{Duration, SystemTime};

use anyhow::{Result, ensure};
use dataplane_common::abi::{Addr, Config, maps};

pub use capture::Capture;
pub use request::{Request, Side};
pub use row::{HeadingRow, PacketRow, PacketTable, TowardsRow};

use crate::dataplane::{BpfArray, Listener, Pins, monotonic_time};

/// Listens to what `request` asks for.
pub fn listen(pins: &Pins, request: &Request) -> Result<(Listener, Reader)> {
    let config = BpfArray::<Config>::open_array(pins, maps::CONFIG)?.get(0)?;
    ensure!(
        config.node != Addr::default(),
        "the agent has not written the configuration yet: the programs decide nothing before"
    );
    let vxlan_port = u16::from_be_bytes(config.vxlan_port);
    let listener = Listener::start(pins, request.monitor(vxlan_port)?)?;
    let reader = Reader {
        vxlan_port,
        boot: SystemTime::now() - monotonic_time(),
    };
    Ok((listener, reader))
}

/// What there is to know to read an event.
#[derive(Clone, Copy, Debug)]
pub struct Reader {
    vxlan_port: u16,
    /// What the clock showed when `CLOCK_MONOTONIC` was zero.
    boot: SystemTime,
}

impl Reader {
    /// When something was that `CLOCK_MONOTONIC` had so many nanoseconds for.
    fn time(&self, nanoseconds: u64) -> SystemTime {
        self.boot + Duration::from_nanos(nanoseconds)
    }
}
