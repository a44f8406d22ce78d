//! What the verifier may take for each program, kernel by kernel: about a quarter more than it took
//! when this was written.
//!
//! The kernel's own limits, a million instructions and 512 bytes of stack, are far away: this is to
//! notice a change that makes a program cost the verifier much more than it seems to.

use anyhow::{Context as _, Result};

/// The kernels that have a budget: what their releases begin with.
const KERNELS: [&str; 5] = ["5.10", "6.1", "6.12", "6.18", "7"];

/// What programs may take: bytes of stack, on every kernel, since the compiler decides on them; and
/// instructions to look at, on each of [`KERNELS`].
const ROWS: [(&str, u32, [u32; 5]); 7] = [
    ("from_workload", 480, [24000, 24000, 43000, 44000, 44000]),
    ("from_uplink", 460, [50000, 50000, 75000, 88000, 88000]),
    ("from_stack", 340, [9900, 9900, 9500, 9300, 9300]),
    ("from_carrier", 430, [10700, 10700, 10700, 10700, 10700]),
    ("xdp_uplink", 430, [26000, 26000, 38000, 46000, 46000]),
    ("to_workload", 120, [700, 700, 700, 700, 700]),
    ("to_uplink", 180, [2000, 2000, 2000, 2000, 2000]),
];

/// What one program may take.
#[derive(Debug, PartialEq, Eq)]
pub struct Budget {
    /// Instructions to look at.
    pub instructions: u32,
    /// Bytes of stack.
    pub stack: u32,
}

impl Budget {
    /// The budget of `program` on the kernel with this release; one that is not named has the
    /// largest.
    pub fn of(program: &str, release: &str) -> Result<Self> {
        let row = ROWS.iter().find(|(name, ..)| *name == program);
        let &(_, stack, columns) = row.with_context(|| format!("{program} has no budget"))?;
        let named = KERNELS.iter().position(|kernel| is(release, kernel));
        let largest = columns.into_iter().max().unwrap_or_default();
        Ok(Self {
            instructions: named.map_or(largest, |column| columns[column]),
            stack,
        })
    }
}

/// Whether `release` is one of `kernel`: 6.12.95 is one of 6.12, not of 6.1.
fn is(release: &str, kernel: &str) -> bool {
    let rest = release.strip_prefix(kernel);
    rest.is_some_and(|rest| !rest.starts_with(|next: char| next.is_ascii_digit()))
}

#[test]
fn a_kernel_has_its_own_budget_or_the_largest() {
    let of = |release| Budget::of("from_workload", release).unwrap().instructions;
    assert_eq!(of("6.1.0-50-cloud-amd64"), 24_000);
    assert_eq!(of("6.12.95+deb12-cloud-amd64"), 43_000);
    assert_eq!(of("7.3.4+deb13-cloud-amd64"), 44_000);
    assert_eq!(of("5.15.0"), 44_000);
    assert!(Budget::of("from_nowhere", "6.1.0").is_err());
}
