//! What the verifier may take for each program, kernel by kernel: about a quarter more than it took
//! when this was written.
//!
//! The kernel's own limits, a million instructions and 512 bytes of stack for functions that call each
//! other, are far away: this is to notice a change that makes a program cost the verifier much more than
//! it seems to.

use anyhow::{Context as _, Result};

/// The kernels that have a budget: what their releases begin with.
const KERNELS: [&str; 5] = ["5.10", "6.1", "6.12", "6.18", "7"];

/// What programs may take: bytes of stack, on every kernel, since the compiler decides on them; and
/// instructions to look at, on each of [`KERNELS`].
const ROWS: [(&str, u32, [u32; 5]); 7] = [
    ("from_workload", 690, [27000, 27000, 48000, 48000, 48000]),
    ("from_uplink", 660, [48000, 48000, 76000, 93000, 93000]),
    ("from_stack", 440, [11600, 11600, 12600, 12600, 12600]),
    ("from_carrier", 550, [13000, 13000, 14500, 14500, 14500]),
    ("xdp_uplink", 600, [54000, 54000, 67000, 75000, 75000]),
    ("to_workload", 170, [3100, 3100, 4700, 4700, 4700]),
    ("to_uplink", 230, [4200, 4200, 5800, 5800, 5800]),
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
    assert_eq!(of("6.1.0-50-cloud-amd64"), 27_000);
    assert_eq!(of("6.12.95+deb12-cloud-amd64"), 48_000);
    assert_eq!(of("7.3.4+deb13-cloud-amd64"), 48_000);
    assert_eq!(of("5.15.0"), 48_000);
    assert!(Budget::of("from_nowhere", "6.1.0").is_err());
}
