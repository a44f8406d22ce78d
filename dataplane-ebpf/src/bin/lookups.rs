//! Ways to look up routes, for `cargo xtask bench routes` to compare. Attached nowhere.
//!
//! Each program looks up the next 64 destinations and adds up what they lead to, which shows that it
//! has found what it should.
#![no_std]
#![no_main]
// The macro `xdp` emits functions of its own beside the documented ones.
#![allow(missing_docs)]
// What is compared is what is inlined.
#![allow(clippy::inline_always)]
// Words hold two halves, and are parted by casts.
#![allow(clippy::cast_possible_truncation)]

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC, xdp_action},
    btf_maps::{self, ArrayOfMaps},
    macros::{btf_map, map, xdp},
    maps::{Array, HashMap, LpmTrie, lpm_trie::Key},
    programs::XdpContext,
};
use dataplane_common::{
    abi::Addr,
    trie::{self, CHUNK, CHUNKS, Line, Lines},
};

/// Destinations of one run.
const LOOKUPS: u32 = 64;
/// All destinations, which are gone through again and again.
const DESTINATIONS: u32 = 1 << 20;

#[map]
static TO: Array<u32> = Array::with_max_entries(DESTINATIONS, 0);
/// The number of the next destination, and the sum of what was found.
#[map]
static STATE: Array<[u64; 2]> = Array::with_max_entries(1, 0);

/// The table as it is, filled by an agent.
#[btf_map]
static ROUTES: ArrayOfMaps<
    btf_maps::Array<Line, { CHUNK as usize }, { BPF_F_MMAPABLE as usize }>,
    { CHUNKS as usize },
> = ArrayOfMaps::new();

/// The kernel's own trie.
#[map]
static LPM: LpmTrie<Addr, u32> = LpmTrie::with_max_entries(1 << 21, BPF_F_NO_PREALLOC);

/// Prefixes by address and length, and the lengths there are, longest first.
#[map]
static HASH: HashMap<[u32; 2], u32> = HashMap::with_max_entries(1 << 21, BPF_F_NO_PREALLOC);
#[map]
static LENGTHS: Array<[u32; 34]> = Array::with_max_entries(1, 0);

/// By 16 bits: what a shorter prefix leads to, and above it the number of 1,024 blocks.
#[map]
static BLOCK_ROOTS: Array<u64> = Array::with_max_entries(1 << 16, 0);
/// By 26 bits: what they lead to, and above it whether `HASH` has longer prefixes in there.
#[map]
static BLOCKS: Array<u32> = Array::with_max_entries(1 << 22, 0);

/// Nodes of 4 bits, the first 4,096 of which are one of 16: what the longest prefix leads to, written to every
/// entry that it covers, and above it the number of a child.
#[map]
static PUSHED: Array<[u64; 16]> = Array::with_max_entries(1 << 12, 0);

/// Nothing is looked up: what everything else costs.
#[xdp]
pub fn nothing(_: XdpContext) -> u32 {
    each(|to| to)
}

/// Ours.
#[xdp]
pub fn lines(_: XdpContext) -> u32 {
    each(|to| trie::longest(&Routes, to.to_be_bytes()))
}

/// `BPF_MAP_TYPE_LPM_TRIE`.
#[xdp]
pub fn lpm(_: XdpContext) -> u32 {
    each(|to| {
        let found = LPM.get(Key::new(32, to.to_be_bytes()));
        found.copied().unwrap_or(0)
    })
}

/// A hash map, once for every length in use.
#[xdp]
pub fn hash(_: XdpContext) -> u32 {
    let Some(lengths) = LENGTHS.get(0) else {
        return xdp_action::XDP_ABORTED;
    };
    each(|to| longest_in_hash(to, lengths, 0))
}

/// An array of blocks by 16 and 10 bits, and a hash map for what is longer.
#[xdp]
pub fn blocks(_: XdpContext) -> u32 {
    let Some(lengths) = LENGTHS.get(0) else {
        return xdp_action::XDP_ABORTED;
    };
    each(|to| {
        let root = BLOCK_ROOTS.get(to >> 16).copied().unwrap_or(0);
        let mut block = 0;
        if root >> 32 != 0 {
            let number = (root >> 32) as u32 * 1024 + (to >> 6 & 0x3ff);
            block = BLOCKS.get(number).copied().unwrap_or(0);
        }
        if block >> 31 != 0 {
            let found = longest_in_hash(to, lengths, 26);
            if found != 0 {
                return found;
            }
        }
        match block & 0x7fff_ffff {
            0 => root as u32,
            found => found,
        }
    })
}

/// An array of nodes by 16, 4, 4, 4 and 4 bits.
#[xdp]
pub fn pushed(_: XdpContext) -> u32 {
    each(|to| {
        let mut node = to >> 20;
        let mut shift = 16;
        let mut found = 0;
        while let Some(entries) = PUSHED.get(node) {
            let entry = entries[(to >> shift & 0xf) as usize];
            if entry as u32 != 0 {
                found = entry as u32;
            }
            node = (entry >> 32) as u32;
            if shift == 0 || node == 0 {
                break;
            }
            shift -= 4;
        }
        found
    })
}

struct Routes;

impl Lines for Routes {
    #[inline(always)]
    fn line(&self, number: u32) -> Option<&Line> {
        ROUTES.get_value(number / CHUNK, &(number % CHUNK))
    }
}

#[inline(always)]
fn longest_in_hash(to: u32, lengths: &[u32; 34], longer_than: u32) -> u32 {
    for length in lengths.iter().take(33) {
        if *length > 32 || *length <= longer_than && longer_than != 0 {
            break;
        }
        let prefix = (u64::from(to) >> (32 - length) << (32 - length)) as u32;
        // SAFETY: nothing changes the map while the program runs.
        if let Some(found) = unsafe { HASH.get([prefix, *length]) } {
            return *found;
        }
    }
    0
}

#[inline(always)]
fn each(look_up: impl Fn(u32) -> u32) -> u32 {
    let Some(state) = STATE.get_ptr_mut(0) else {
        return xdp_action::XDP_ABORTED;
    };
    // SAFETY: one program runs at a time, and nothing else looks at its state meanwhile.
    let [next, sum] = unsafe { &mut *state };
    for _ in 0..LOOKUPS {
        let Some(to) = TO.get(*next as u32 % DESTINATIONS) else {
            return xdp_action::XDP_ABORTED;
        };
        *sum += u64::from(look_up(*to));
        *next += 1;
    }
    xdp_action::XDP_PASS
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}
