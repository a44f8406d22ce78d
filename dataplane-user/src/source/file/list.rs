//! Lists in messages.

use std::fmt::Display;

/// A message stays readable with this many names in it.
const FEW: usize = 5;

/// `a, b and 7 more`.
pub(super) fn few<T: Display>(items: impl ExactSizeIterator<Item = T>) -> String {
    let more = items.len().saturating_sub(FEW);
    let shown: Vec<String> = items.take(FEW).map(|item| item.to_string()).collect();
    match more {
        0 => shown.join(", "),
        _ => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_are_named_and_the_rest_counted() {
        assert_eq!(few([1].iter()), "1");
        assert_eq!(few(1..6), "1, 2, 3, 4, 5");
        assert_eq!(few(1..13), "1, 2, 3, 4, 5 and 7 more");
    }
}
