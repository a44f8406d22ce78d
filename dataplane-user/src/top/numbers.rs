//! Numbers as people read them.

/// So many packets a second: with a digit behind the point while they are few.
#[must_use]
pub fn packets(rate: f64) -> String {
    if rate > 0.0 && rate < 99.95 {
        format!("{rate:.1}")
    } else {
        scaled(rate)
    }
}

/// A number with three digits and the letter for what it is multiplied by, 1,000 at a time.
#[must_use]
pub fn scaled(number: f64) -> String {
    const LETTERS: [&str; 5] = ["", "k", "M", "G", "T"];
    const STEP: f64 = 1000.0;
    let mut scaled = number;
    let mut letters = LETTERS.iter();
    let mut letter = letters.next();
    // What would be rounded to a fourth digit has the next letter.
    while scaled >= STEP - 0.5
        && let Some(next) = letters.next()
    {
        scaled /= STEP;
        letter = Some(next);
    }
    let letter = letter.copied().unwrap_or_default();
    let places = match scaled {
        _ if letter.is_empty() => 0,
        scaled if scaled < 9.995 => 2,
        scaled if scaled < 99.95 => 1,
        _ => 0,
    };
    format!("{scaled:.places$}{letter}")
}

/// A share; only what is all of it is 100 %.
#[must_use]
pub fn percent(share: f64) -> String {
    const MOST: f64 = 99.99;
    let shown = if share < 100.0 {
        share.min(MOST)
    } else {
        share
    };
    if shown >= 100.0 {
        "100 %".to_owned()
    } else {
        format!("{shown:.2} %")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_at_most() {
        for (number, text) in [
            (0.0, "0"),
            (1.4, "1"),
            (999.4, "999"),
            (999.5, "1.00k"),
            (1234.0, "1.23k"),
            (9996.0, "10.0k"),
            (99_960.0, "100k"),
            (999_499.0, "999k"),
            (999_500.0, "1.00M"),
            (46.1e9, "46.1G"),
            (1e16, "10000T"),
        ] {
            assert_eq!(scaled(number), text, "{number}");
        }
    }

    #[test]
    fn few_packets_have_tenths() {
        for (rate, text) in [(0.0, "0"), (0.5, "0.5"), (99.9, "99.9"), (99.96, "100")] {
            assert_eq!(packets(rate), text, "{rate}");
        }
    }

    #[test]
    fn only_all_is_all() {
        for (share, text) in [
            (0.0, "0.00 %"),
            (12.345, "12.35 %"),
            (99.9999, "99.99 %"),
            (100.0, "100 %"),
        ] {
            assert_eq!(percent(share), text, "{share}");
        }
    }
}
