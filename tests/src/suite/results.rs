//! What was measured, round by round, and what it is compared with.

use crate::Carriage;

use super::{Path, Way};

/// What a number says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quantity {
    Ping,
    Tcp,
    CpuPerGigabit,
    TcpUnpinned,
    TcpEight,
    Udp,
    HttpKept,
    Http,
    LatencyMedian,
    LatencyTail,
    /// 64-byte packets that get to the wire.
    Sent,
    /// Those that get to the far end.
    Arrived,
    /// Those that get to the node.
    Generated,
}

impl Quantity {
    pub(crate) const ALL: [Self; 13] = [
        Self::Ping,
        Self::Tcp,
        Self::CpuPerGigabit,
        Self::TcpUnpinned,
        Self::TcpEight,
        Self::Udp,
        Self::HttpKept,
        Self::Http,
        Self::LatencyMedian,
        Self::LatencyTail,
        Self::Sent,
        Self::Arrived,
        Self::Generated,
    ];

    /// What it is called, and its unit; numbers are in that unit.
    pub(crate) fn name(self) -> (&'static str, &'static str) {
        match self {
            Self::Ping => ("ping round trip", "us"),
            Self::Tcp => ("TCP, 1 stream, ends pinned", "Gbit/s"),
            Self::CpuPerGigabit => ("CPU for that stream", "s/Gbit"),
            Self::TcpUnpinned => ("TCP, 1 stream, unpinned", "Gbit/s"),
            Self::TcpEight => ("TCP, 8 streams", "Gbit/s"),
            Self::Udp => ("UDP, 1400 bytes, received", "Gbit/s"),
            Self::HttpKept => ("HTTP, keep-alive", "requests/s"),
            Self::Http => ("HTTP, a connection each", "requests/s"),
            Self::LatencyMedian => ("TCP request/response, p50", "us"),
            Self::LatencyTail => ("TCP request/response, p99", "us"),
            Self::Sent => ("64 B on one core, to the wire", "Mpackets/s"),
            Self::Arrived => ("64 B on one core, to the far end", "Mpackets/s"),
            Self::Generated => ("64 B on one core, the generator", "Mpackets/s"),
        }
    }

    /// How many digits behind the point say something.
    pub(crate) fn digits(self) -> usize {
        match self {
            Self::HttpKept | Self::Http => 0,
            Self::Ping | Self::LatencyMedian | Self::LatencyTail => 1,
            Self::Tcp | Self::TcpUnpinned | Self::TcpEight | Self::Udp => 2,
            Self::CpuPerGigabit | Self::Sent | Self::Arrived | Self::Generated => 3,
        }
    }
}

/// One quantity of one way on one path, in every round.
pub(crate) struct Series {
    pub(crate) way: Way,
    pub(crate) path: Path,
    pub(crate) quantity: Quantity,
    pub(crate) values: Vec<f64>,
}

/// What a packet costs the node that sends it, with so many routes.
pub(crate) struct ByRoutes {
    pub(crate) way: Way,
    pub(crate) routes: u32,
    /// Nanoseconds a packet, in every round.
    pub(crate) values: Vec<f64>,
}

/// All that was measured.
#[derive(Default)]
pub(crate) struct Results {
    pub(crate) series: Vec<Series>,
    /// How long answers took, of all rounds, in microseconds.
    latencies: Vec<(Way, Path, Vec<f64>)>,
    pub(crate) by_routes: Vec<ByRoutes>,
}

impl Results {
    pub(crate) fn add(&mut self, way: Way, path: Path, quantity: Quantity, value: f64) {
        let mut series = self.series.iter_mut();
        let series = series
            .find(|series| (series.way, series.path, series.quantity) == (way, path, quantity));
        match series {
            Some(series) => series.values.push(value),
            None => self.series.push(Series {
                way,
                path,
                quantity,
                values: vec![value],
            }),
        }
    }

    pub(crate) fn add_latencies(&mut self, way: Way, path: Path, times: &[f64]) {
        let mut all = self.latencies.iter_mut();
        match all.find(|all| (all.0, all.1) == (way, path)) {
            Some(all) => all.2.extend(times),
            None => self.latencies.push((way, path, times.to_vec())),
        }
    }

    /// What was measured in the rounds, if it was.
    pub(crate) fn values(&self, way: Way, path: Path, quantity: Quantity) -> &[f64] {
        let mut series = self.series.iter();
        let series = series
            .find(|series| (series.way, series.path, series.quantity) == (way, path, quantity));
        series.map_or(&[], |series| &series.values)
    }

    /// The same quantity from host to host.
    pub(crate) fn of_hosts(&self, quantity: Quantity) -> &[f64] {
        self.values(Way::Bare, Path::HostToHost, quantity)
    }

    /// The same quantity by the kernel.
    pub(crate) fn of_kernel(&self, way: Way, path: Path, quantity: Quantity) -> &[f64] {
        let kernels = way.kernels();
        kernels.map_or(&[], |kernels| self.values(kernels, path, quantity))
    }

    /// The same quantity by the least that does the same.
    pub(crate) fn of_floor(&self, way: Way, path: Path, quantity: Quantity) -> &[f64] {
        let floor = way.floor();
        floor.map_or(&[], |floor| self.values(floor, path, quantity))
    }

    /// What a node has to do for a packet beyond what the generator in its pod does, in nanoseconds,
    /// round by round: `quantity` is of floods.
    pub(crate) fn beyond_generator(&self, way: Way, path: Path, quantity: Quantity) -> Vec<f64> {
        let generated = self.values(
            Way::Kernel(Carriage::Direct),
            Path::PodToPod,
            Quantity::Generated,
        );
        let rates = self.values(way, path, quantity).iter().zip(generated);
        rates
            .map(|(rate, generated)| 1e3 / rate - 1e3 / generated)
            .collect()
    }

    /// How long answers took, in ascending order and in microseconds.
    pub(crate) fn latencies(&self, way: Way, path: Path) -> Vec<f64> {
        let mut all = self.latencies.iter();
        let times = all.find(|all| (all.0, all.1) == (way, path));
        let mut times = times.map_or(Vec::new(), |all| all.2.clone());
        times.sort_by(f64::total_cmp);
        times
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{statistics::ratio, suite::scenes::Acceleration};

    const OURS: Way = Way::Underpass(Carriage::Vxlan, Acceleration::All);
    const KERNELS: Way = Way::Kernel(Carriage::Vxlan);

    #[test]
    fn each_value_finds_its_round_and_its_baselines() {
        let mut results = Results::default();
        for round in [1.0, 3.0, 2.0] {
            results.add(OURS, Path::PodToPod, Quantity::Tcp, 6.0 * round);
            results.add(KERNELS, Path::PodToPod, Quantity::Tcp, 4.0 * round);
            results.add(Way::Bare, Path::HostToHost, Quantity::Tcp, 8.0 * round);
        }
        let ours = results.values(OURS, Path::PodToPod, Quantity::Tcp);
        assert_eq!(ours, [6.0, 18.0, 12.0]);
        assert_eq!(ratio(ours, results.of_hosts(Quantity::Tcp)), Some(0.75));
        let kernels = results.of_kernel(OURS, Path::PodToPod, Quantity::Tcp);
        assert_eq!(ratio(ours, kernels), Some(1.5));
        assert!(
            results
                .of_kernel(KERNELS, Path::PodToPod, Quantity::Tcp)
                .is_empty()
        );
        assert_eq!(ratio(ours, &[]), None);
    }

    #[test]
    fn what_the_generator_takes_is_no_cost_of_the_node() {
        let mut results = Results::default();
        let generator = Way::Kernel(Carriage::Direct);
        results.add(generator, Path::PodToPod, Quantity::Generated, 2.0);
        results.add(OURS, Path::PodToPod, Quantity::Sent, 1.0);
        let cost = results.beyond_generator(OURS, Path::PodToPod, Quantity::Sent);
        assert_eq!(cost, [500.0]);
    }

    #[test]
    fn answers_of_all_rounds_are_in_order() {
        let mut results = Results::default();
        results.add_latencies(OURS, Path::PodToPod, &[3.0, 1.0]);
        results.add_latencies(OURS, Path::PodToPod, &[2.0]);
        assert_eq!(results.latencies(OURS, Path::PodToPod), [1.0, 2.0, 3.0]);
        assert!(results.latencies(OURS, Path::HostToPod).is_empty());
    }
}
