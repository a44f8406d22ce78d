//! What several measurements of one thing say together.

use std::fmt;

/// The median of some values, and the quartiles below and above it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The first quartile.
    pub low: f64,
    /// The median.
    pub median: f64,
    /// The third quartile.
    pub high: f64,
}

impl Spread {
    /// Of these values, if there are any.
    #[must_use]
    pub fn of(values: &[f64]) -> Option<Self> {
        Some(Self {
            low: quantile(values, 0.25)?,
            median: median(values)?,
            high: quantile(values, 0.75)?,
        })
    }

    /// The same in units of `unit`.
    #[must_use]
    pub fn per(self, unit: f64) -> Self {
        Self {
            low: self.low / unit,
            median: self.median / unit,
            high: self.high / unit,
        }
    }
}

/// `1.50 (1.40..1.60)`, with as many digits as are asked for.
impl fmt::Display for Spread {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = formatter.precision().unwrap_or(2);
        let Self { low, median, high } = self;
        write!(
            formatter,
            "{median:.digits$} ({low:.digits$}..{high:.digits$})"
        )
    }
}

/// The middle one of these values, if there are any.
#[must_use]
pub fn median(values: &[f64]) -> Option<f64> {
    quantile(values, 0.5)
}

/// The median of one as a part of the median of the other, if both were measured.
#[must_use]
pub fn ratio(of: &[f64], to: &[f64]) -> Option<f64> {
    Some(median(of)? / median(to)?)
}

/// The value below which there is this part of the values, from 0 for the least of them to 1 for the
/// greatest; between two values, in proportion.
#[must_use]
pub fn quantile(values: &[f64], part: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    quantile_of_sorted(&sorted, part)
}

/// As [`quantile`], of values in ascending order.
#[must_use]
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "far fewer than 2^52, and none negative"
)]
pub fn quantile_of_sorted(sorted: &[f64], part: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let place = last as f64 * part.clamp(0.0, 1.0);
    let (below, above) = (
        sorted[place.floor() as usize],
        sorted[place.ceil() as usize],
    );
    Some(below + (above - below) * place.fract())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_are_of_the_values_whatever_their_order() {
        let spread = Spread::of(&[5.0, 1.0, 4.0, 2.0, 3.0]);
        let expected = Spread {
            low: 2.0,
            median: 3.0,
            high: 4.0,
        };
        assert_eq!(spread, Some(expected));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(quantile(&[5.0, 1.0, 4.0], 0.0), Some(1.0));
        assert_eq!(quantile(&[5.0, 1.0, 4.0], 1.0), Some(5.0));
    }

    #[test]
    fn one_value_is_all_its_quartiles_and_none_has_none() {
        let one = Spread::of(&[7.0]).expect("one value");
        assert_eq!((one.low, one.median, one.high), (7.0, 7.0, 7.0));
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn a_spread_is_written_with_the_digits_and_the_unit_asked_for() {
        let spread = Spread {
            low: 1.4e9,
            median: 1.5e9,
            high: 1.625e9,
        };
        assert_eq!(format!("{:.2}", spread.per(1e9)), "1.50 (1.40..1.62)");
    }
}
