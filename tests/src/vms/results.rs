//! What was measured, round by round.

use super::{Load, Opener, Received, loads::TakenOut};
use crate::{Mode, statistics};

/// What a number says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quantity {
    /// Of a load, what arrives in a second.
    Rate(Load),
    /// The part of that time in which the receiving processor was at work.
    Busy(Load),
    /// How long it was for each thing that arrived.
    Cost(Load),
}

impl Quantity {
    pub(super) const ALL: [Self; 6] = [
        Self::Rate(Load::Stream),
        Self::Busy(Load::Stream),
        Self::Cost(Load::Stream),
        Self::Rate(Load::Datagrams),
        Self::Busy(Load::Datagrams),
        Self::Cost(Load::Datagrams),
    ];

    /// What it is called, with its unit; numbers are in that unit.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Rate(Load::Stream) => "one TCP stream, Mbit/s",
            Self::Rate(Load::Datagrams) => "64 B UDP, kpackets/s",
            Self::Busy(_) => "  receiver busy, %",
            Self::Cost(Load::Stream) => "  receiver's CPU, ms/Mbit",
            Self::Cost(Load::Datagrams) => "  receiver's CPU, us/packet",
        }
    }

    /// How many digits behind the point say something.
    pub(super) fn digits(self) -> usize {
        match self {
            Self::Busy(_) => 0,
            Self::Rate(_) => 1,
            Self::Cost(_) => 2,
        }
    }

    fn of(self, received: &Received) -> f64 {
        let Received { amount, .. } = received;
        let (time, busy) = (received.time.as_secs_f64(), received.busy.as_secs_f64());
        match self {
            Self::Rate(Load::Stream) => amount / time / 1e6,
            Self::Rate(Load::Datagrams) => amount / time / 1e3,
            Self::Busy(_) => busy / time * 100.0,
            Self::Cost(Load::Stream) => busy * 1e3 / (amount / 1e6),
            Self::Cost(Load::Datagrams) => busy * 1e6 / amount,
        }
    }

    fn load(self) -> Load {
        match self {
            Self::Rate(load) | Self::Busy(load) | Self::Cost(load) => load,
        }
    }
}

/// All that was measured.
#[derive(Default)]
pub(super) struct Results(Vec<(Mode, Opener, Load, Received)>);

impl Results {
    pub(super) fn add(&mut self, mode: Mode, opener: Opener, load: Load, received: &Received) {
        self.0.push((mode, opener, load, *received));
    }

    /// A quantity in every round.
    pub(super) fn values(&self, mode: Mode, opener: Opener, quantity: Quantity) -> Vec<f64> {
        let of = self.0.iter().filter(|(of_mode, of_opener, load, _)| {
            (*of_mode, *of_opener, *load) == (mode, opener, quantity.load())
        });
        of.map(|(.., received)| quantity.of(received)).collect()
    }

    /// The median of one opener's as a part of the median of the other's, if both were measured.
    pub(super) fn ratio(
        &self,
        mode: Mode,
        quantity: Quantity,
        of: Opener,
        to: Opener,
    ) -> Option<f64> {
        let values = |opener| self.values(mode, opener, quantity);
        statistics::ratio(&values(of), &values(to))
    }

    /// Who opened tunnels in all rounds together, where underpass did.
    pub(super) fn taken_out(&self, mode: Mode, opener: Opener) -> Option<TakenOut> {
        let of = self.0.iter();
        let of = of.filter(|(of_mode, of_opener, ..)| (*of_mode, *of_opener) == (mode, opener));
        of.filter_map(|(.., received)| received.taken_out)
            .reduce(|sum, one| TakenOut {
                by_xdp: sum.by_xdp + one.by_xdp,
                seen: sum.seen + one.seen,
            })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// What came in two seconds, of which the processor was at work for one.
    fn received(amount: f64, taken_out: Option<TakenOut>) -> Received {
        Received {
            amount,
            time: Duration::from_secs(2),
            busy: Duration::from_secs(1),
            taken_out,
        }
    }

    #[test]
    fn quantities_are_in_their_units() {
        let (stream, datagrams) = (received(1e8, None), received(1e4, None));
        for (quantity, received, value) in [
            (Quantity::Rate(Load::Stream), &stream, 50.0),
            (Quantity::Busy(Load::Stream), &stream, 50.0),
            (Quantity::Cost(Load::Stream), &stream, 10.0),
            (Quantity::Rate(Load::Datagrams), &datagrams, 5.0),
            (Quantity::Cost(Load::Datagrams), &datagrams, 100.0),
        ] {
            let measured = quantity.of(received);
            assert!((measured - value).abs() < 1e-9, "{quantity:?}: {measured}");
        }
    }

    #[test]
    fn what_is_compared_is_of_one_mode_and_one_load() {
        let mut results = Results::default();
        let all = TakenOut {
            by_xdp: 9,
            seen: 10,
        };
        for (mode, opener, load, amount, taken_out) in [
            (Mode::Ipip, Opener::Xdp, Load::Datagrams, 3e4, Some(all)),
            (Mode::Ipip, Opener::Xdp, Load::Datagrams, 3e4, Some(all)),
            (Mode::Ipip, Opener::Xdp, Load::Stream, 7e4, None),
            (Mode::Ipip, Opener::Tc, Load::Datagrams, 2e4, None),
            (Mode::Vxlan, Opener::Tc, Load::Datagrams, 5e4, None),
        ] {
            results.add(mode, opener, load, &received(amount, taken_out));
        }
        let rate = Quantity::Rate(Load::Datagrams);
        let ratio = |mode| results.ratio(mode, rate, Opener::Xdp, Opener::Tc);
        assert_eq!((ratio(Mode::Ipip), ratio(Mode::Vxlan)), (Some(1.5), None));
        let taken_out = results.taken_out(Mode::Ipip, Opener::Xdp);
        assert_eq!(
            taken_out,
            Some(TakenOut {
                by_xdp: 18,
                seen: 20
            })
        );
        assert_eq!(results.taken_out(Mode::Ipip, Opener::Tc), None);
    }
}
