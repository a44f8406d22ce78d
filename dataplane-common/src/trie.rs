//! The routes' table: a trie of which every route is one word.
//!
//! It lies in lines of sixteen words, which is what a cache reads at once. The first 16 bits of an
//! address choose a *node*, the next 8 a child of it, 4 more a child of that, and the last 4 what a
//! /32 leads to. Each node holds the prefixes that end in it as a binary tree: the one whose next
//! `n` bits are `bits` is word `1 << n | bits`. The four /26 of a /24 share a line, and what there is in
//! a /16 takes 32 lines more.
//!
//! ```text
//! bits  node begins at      children                 prefixes
//!   16  a word of ROOT      its first 16 lines       the 16 lines behind them: /16 to /23
//!    8  a child of it       the line in its word 0   in the same line: /24 to /27
//!    4  a child of that     the line in its word 0,  in the same line: /28 to /31
//!                           which is the /32's
//! ```
//!
//! Prefixes shorter than /16 are one binary tree before all of that, [`SHORT`].
//!
//! So what is written for a route is one aligned word, whatever covers it and whatever it covers: a
//! lookup sees the table as it was before or after, and the table can be read back route by route.

use crate::abi::Addr;

/// Words of a line.
pub const WORDS: u32 = 16;
/// A line: words, of which 0 is none.
pub type Line = [u32; WORDS as usize];

/// The first line of the prefixes shorter than /16. Its word 0 has a bit for each length in use.
pub const SHORT: u32 = 0;
/// The first line of the words that lead to nodes by the first 16 bits of an address.
pub const ROOT: u32 = SHORT + (1 << 16) / 16;
/// The first line that is given out.
pub const FIRST: u32 = ROOT + (1 << 16) / 16;
/// Lines of one of the maps that the lines are in, each of 1 MiB: line `n` is entry `n % CHUNK` of
/// map `n / CHUNK`. There are as many maps as the table takes.
pub const CHUNK: u32 = 1 << 14;
/// The most such maps.
pub const CHUNKS: u32 = 1 << 11;

/// Lines of children of a node at 16 bits; as many of prefixes follow, whose word 0 has a bit for
/// each length in use, /16 the lowest.
pub const CHILDREN: u32 = 256 / 16;

/// Where the lines are.
pub trait Lines {
    /// The line with this number.
    fn line(&self, number: u32) -> Option<&Line>;

    /// A word of those that begin at line `first`.
    #[inline(always)]
    fn word(&self, first: u32, word: u32) -> u32 {
        self.line(first + (word >> 4))
            .map_or(0, |line| line[(word & 0xf) as usize])
    }
}

/// What the longest prefix that covers `address` leads to, or 0.
#[inline(always)]
#[must_use]
pub fn longest(lines: &impl Lines, address: Addr) -> u32 {
    let address = u32::from_be_bytes(address);
    let node = lines.word(ROOT, address >> 16);
    if node != 0 {
        let child = lines.word(node, address >> 8 & 0xff);
        let found = in_line(lines, child, address >> 4 & 0xf, |child| {
            in_line(lines, child, address & 0xf, |route| route)
        });
        if found != 0 {
            return found;
        }
        let found = in_tree::<8>(lines, node + CHILDREN, address >> 8 & 0xff);
        if found != 0 {
            return found;
        }
    }
    in_tree::<16>(lines, SHORT, address >> 16)
}

/// What the longest prefix leads to in the node that is line `node`, or below the child that `bits`
/// chooses.
#[inline(always)]
fn in_line(lines: &impl Lines, node: u32, bits: u32, below: impl FnOnce(u32) -> u32) -> u32 {
    if node == 0 {
        return 0;
    }
    let Some(node) = lines.line(node) else {
        return 0;
    };
    if node[0] != 0 {
        let child = lines.word(node[0], bits);
        if child != 0 {
            let found = below(child);
            if found != 0 {
                return found;
            }
        }
    }
    let mut at = 0x10 | bits;
    while at > 1 {
        at >>= 1;
        let route = node[(at & 0xf) as usize];
        if route != 0 {
            return route;
        }
    }
    0
}

/// What the longest prefix leads to in the binary tree that begins at line `first`, of prefixes that
/// add fewer than `LENGTHS` bits.
#[inline(always)]
fn in_tree<const LENGTHS: u32>(lines: &impl Lines, first: u32, bits: u32) -> u32 {
    let used = lines.word(first, 0);
    if used == 0 {
        return 0;
    }
    let mut at = 1 << LENGTHS | bits;
    let mut length = LENGTHS;
    while length > 0 {
        at >>= 1;
        length -= 1;
        if used >> length & 1 != 0 {
            let route = lines.word(first, at);
            if route != 0 {
                return route;
            }
        }
    }
    0
}
