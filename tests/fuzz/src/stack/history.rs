//! What the stack would have done, at every moment that still matters.

use super::{
    netfilter::{Netfilter, Services},
    segment::{Segment, Tuple},
    wire::{Place, Places},
};

/// What held from some time on.
#[derive(Clone, Debug)]
struct Moment {
    until: u64,
    generation: u16,
    netfilter: Netfilter,
    places: Places,
}

/// That the stack has let a packet through as it came.
#[derive(Clone, Copy, Debug)]
struct Pass {
    at: u64,
    generation: u16,
    tuple: Tuple,
}

/// The past, for as long as what was learned in it may count.
#[derive(Debug, Default)]
pub(super) struct History {
    moments: Vec<Moment>,
    passes: Vec<Pass>,
}

impl History {
    /// What holds from now on.
    pub(super) fn record(
        &mut self,
        now: u64,
        generation: u16,
        netfilter: &Netfilter,
        places: &Places,
    ) {
        self.until(now);
        self.moments.push(Moment {
            until: now,
            generation,
            netfilter: netfilter.clone(),
            places: places.clone(),
        });
    }

    /// What held last has held until now.
    pub(super) fn until(&mut self, now: u64) {
        if let Some(last) = self.moments.last_mut() {
            last.until = now;
        }
    }

    /// Only what is not older counts.
    pub(super) fn forget_before(&mut self, begin: u64) {
        self.moments.retain(|moment| moment.until >= begin);
        self.passes.retain(|pass| pass.at >= begin);
    }

    pub(super) fn passed(&mut self, at: u64, generation: u16, tuple: Tuple) {
        self.passes.push(Pass {
            at,
            generation,
            tuple,
        });
    }

    /// Whether the stack has let both ways through, in this generation.
    pub(super) fn has_passed_both_ways(&self, generation: u16, tuple: Tuple) -> bool {
        [tuple, tuple.inverse()].iter().all(|way| {
            self.passes
                .iter()
                .any(|pass| pass.generation == generation && pass.tuple == *way)
        })
    }

    /// Whether at some moment of this generation the stack would have let the packet through as it is.
    pub(super) fn would_pass(
        &self,
        generation: u16,
        segment: Segment,
        services: Services<'_>,
    ) -> bool {
        self.of(generation).any(|moment| {
            let mut netfilter = moment.netfilter.clone();
            netfilter.filter(segment, services, 0) == Some(segment.tuple)
        })
    }

    /// Whether at some moment of this generation an address was there.
    pub(super) fn was(&self, generation: u16, address: [u8; 4], place: Place) -> bool {
        self.of(generation)
            .any(|moment| moment.places.get(&address) == Some(&place))
    }

    /// The latest first.
    fn of(&self, generation: u16) -> impl Iterator<Item = &Moment> {
        let moments = self.moments.iter().rev();
        moments.filter(move |moment| moment.generation == generation)
    }
}
