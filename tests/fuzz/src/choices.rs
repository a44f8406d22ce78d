//! Bytes as a sequence of choices.

use arbitrary::Unstructured;

/// Makes choices by bytes, whoever they are from: a generator of random numbers, or a fuzzer that
/// changes them and watches what happens. Once they are used up, every choice is the first one.
pub struct Choices<'a>(Unstructured<'a>);

impl<'a> Choices<'a> {
    /// Choices by `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(Unstructured::new(bytes))
    }

    /// Whether there are bytes left to choose by.
    #[must_use]
    pub fn are_left(&self) -> bool {
        !self.0.is_empty()
    }

    /// One of `options`.
    ///
    /// # Panics
    ///
    /// When there are none.
    pub fn of<T: Copy>(&mut self, options: &[T]) -> T {
        options[self.below(options.len())]
    }

    /// One of `options`, or none if there are none.
    pub fn of_any<T>(&mut self, options: impl ExactSizeIterator<Item = T>) -> Option<T> {
        let mut options = options;
        let chosen = self.below(options.len());
        options.nth(chosen)
    }

    /// A number below `bound`; 0 if that is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0
            .int_in_range(0..=bound.saturating_sub(1))
            .unwrap_or_default()
    }

    /// Seven times out of eight.
    pub fn mostly(&mut self) -> bool {
        self.below(8) != 7
    }

    /// Once in two times.
    pub fn maybe(&mut self) -> bool {
        self.below(2) == 1
    }

    /// Once in eight times.
    pub fn rarely(&mut self) -> bool {
        !self.mostly()
    }

    /// Any bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        self.0.arbitrary().unwrap_or([0; N])
    }

    /// Any number.
    pub fn word(&mut self) -> u16 {
        u16::from_be_bytes(self.bytes())
    }
}
