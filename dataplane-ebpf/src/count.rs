//! Counting.

use aya_ebpf::{macros::map, maps::PerCpuArray};
use dataplane_common::{
    abi::{self, Counter, Hook, MAX_COUNTERS},
    reason::Reason,
};

#[map]
static COUNTERS: PerCpuArray<Counter> = PerCpuArray::with_max_entries(MAX_COUNTERS, 0);

/// Counts one packet of `bytes` bytes.
#[inline(always)]
pub fn count(hook: Hook, reason: Reason, bytes: u32) {
    if let Some(counter) = COUNTERS.get_ptr_mut(abi::counter_index(hook, reason)) {
        // SAFETY: the kernel gave a pointer to this CPU's own entry, and a program is not
        // interrupted by another on the same hook: a softirq does not nest.
        unsafe {
            (*counter).packets += 1;
            (*counter).bytes += u64::from(bytes);
        }
    }
}
