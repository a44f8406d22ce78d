//! How the flows to a prefix spread over several next hops.

use dataplane_common::abi::WAYS;

use super::NextHopKey;

/// Which way is at which of a multipath's places, for ways with their weights, which are not zero:
/// each at one place at the least, and at as many as its weight asks for, as nearly as that goes
/// (Sainte-Laguë).
///
/// `None` where that cannot be: there is no way, or there are more than places.
#[must_use]
pub fn spread(ways: &[(NextHopKey, u32)]) -> Option<[NextHopKey; WAYS]> {
    let (first, _) = ways.first()?;
    let mut places = vec![1; ways.len()];
    for _ in 0..WAYS.checked_sub(ways.len())? {
        // What each asks for one more with, is its weight over twice its places and one.
        let claim = |way: usize, other: usize| u64::from(ways[way].1) * (2 * places[other] + 1);
        let next = (0..ways.len()).max_by(|a, b| {
            let first_of_equals = b.cmp(a);
            claim(*a, *b).cmp(&claim(*b, *a)).then(first_of_equals)
        })?;
        places[next] += 1;
    }
    let mut spread = [*first; WAYS];
    let taken = ways
        .iter()
        .zip(places)
        .flat_map(|((way, _), count)| (0..count).map(|_| *way));
    for (place, way) in spread.iter_mut().zip(taken) {
        *place = way;
    }
    Some(spread)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many places ways with these weights have.
    fn places(weights: &[u32]) -> Option<Vec<usize>> {
        let ways = (0..).zip(weights);
        let ways: Vec<_> = ways
            .map(|(n, weight)| (NextHopKey::Mirrored(n), *weight))
            .collect();
        let spread = spread(&ways)?;
        assert!(spread.is_sorted(), "each way's places are together");
        let of = |(way, _): &(NextHopKey, u32)| spread.iter().filter(|at| *at == way).count();
        Some(ways.iter().map(of).collect())
    }

    #[test]
    fn places_are_shared_out_by_weight() {
        assert_eq!(places(&[1]), Some(vec![32]));
        assert_eq!(places(&[1, 1]), Some(vec![16, 16]));
        assert_eq!(places(&[3, 1]), Some(vec![24, 8]));
        assert_eq!(places(&[10, 20, 70]), Some(vec![3, 6, 23]));
        assert_eq!(places(&[1, 1, 1]), Some(vec![11, 11, 10]));
        assert_eq!(places(&[u32::MAX, u32::MAX]), Some(vec![16, 16]));
    }

    #[test]
    fn every_way_has_a_place() {
        assert_eq!(places(&[1, 256]), Some(vec![1, 31]));
        assert_eq!(places(&[256, 1, 1]), Some(vec![30, 1, 1]));
        assert_eq!(places(&[7; WAYS]), Some(vec![1; WAYS]));
    }

    #[test]
    fn what_has_no_way_or_too_many_has_no_places() {
        assert_eq!(places(&[]), None);
        assert_eq!(places(&[1; WAYS + 1]), None);
    }
}
