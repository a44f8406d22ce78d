//! Reading what is in two maps, where one names what is in the other.

use anyhow::Result;

/// What names something, and what it names. The agent empties an entry when nothing names it any
/// more, and it may do so while we read: it was not empty for a packet, nor is it to be for us.
pub(crate) fn settled<K: PartialEq, V>(
    name: impl Fn() -> Result<K>,
    named: impl Fn(&K) -> Result<V>,
) -> Result<(K, V)> {
    let mut before = name()?;
    loop {
        let found = named(&before)?;
        let after = name()?;
        if after == before {
            return Ok((before, found));
        }
        before = after;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn what_is_emptied_while_it_is_read_is_not_found_empty() {
        let (leads_to, entry) = (Cell::new(Some(7)), Cell::new("full"));
        let named = |id: &Option<u32>| {
            // A route is removed, and then what it led to emptied.
            leads_to.set(None);
            entry.set("empty");
            Ok(id.map(|_| entry.get()))
        };
        let found = settled(|| Ok(leads_to.get()), named).unwrap();
        assert_eq!(found, (None, None));
    }

    #[test]
    fn what_leads_elsewhere_meanwhile_is_read_again() {
        let leads_to = Cell::new(7);
        let named = |id: &u32| {
            leads_to.set(8);
            Ok(id * 10)
        };
        let found = settled(|| Ok(leads_to.get()), named).unwrap();
        assert_eq!(found, (8, 80));
    }
}
