//! Writing the routes' trie, whose layout is [`dataplane_common::trie`]'s.
//!
//! Programs walk it while it is written, without a lock. So whatever a word leads to is complete
//! before the word is written, and what no word leads to any more stays as it is until no program
//! can be in it.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use dataplane_common::trie::{CHILDREN, FIRST, ROOT, SHORT, WORDS};
use ipnet::Ipv4Net;

use super::Full;

/// How long lines that nothing leads to any more are left as they are. A program walks the trie
/// within microseconds, and is not interrupted for longer than the kernel lets it be.
const GRACE: Duration = Duration::from_secs(1);
/// Lines of a node at 16 bits: its children and its prefixes.
const NODE: u32 = 2 * CHILDREN;

/// Words in lines, each of them written at once.
pub(super) trait Memory {
    /// The word with this number, counted from the first of the first line.
    fn get(&self, word: u32) -> u32;
    /// Writes it.
    fn set(&mut self, word: u32, value: u32);
    /// How many lines there are.
    fn lines(&self) -> u32;
    /// Adds lines, of zeros.
    fn grow(&mut self) -> Result<(), Full>;
}

/// The trie in `memory`, and what of that is in use.
#[derive(Debug)]
pub(super) struct Trie<M> {
    memory: M,
    /// The first line that has never been in use.
    fresh: u32,
    lines: Retired,
    nodes: Retired,
}

/// Blocks of lines by the time since when nothing leads to them, oldest first.
type Retired = VecDeque<(Instant, u32)>;

impl<M: Memory> Trie<M> {
    /// Takes up what is in `memory`.
    pub(super) fn open(memory: M) -> Self {
        let mut trie = Self {
            memory,
            fresh: FIRST,
            lines: Retired::new(),
            nodes: Retired::new(),
        };
        let mut used = vec![false; trie.memory.lines() as usize];
        trie.visit(|visited| {
            if let Visited::Block { line, lines } = visited {
                for line in line..line + lines {
                    if let Some(used) = used.get_mut(line as usize) {
                        *used = true;
                    }
                }
            }
        });
        let now = Instant::now();
        for line in FIRST..trie.memory.lines() {
            if used[line as usize] {
                trie.lines
                    .extend((trie.fresh..line).map(|line| (now, line)));
                trie.fresh = line + 1;
            }
        }
        trie
    }

    pub(super) fn memory(&self) -> &M {
        &self.memory
    }

    /// How many lines are in use.
    pub(super) fn used(&self) -> u32 {
        let retired = self.lines.len() + self.nodes.len() * NODE as usize;
        self.fresh - u32::try_from(retired).unwrap_or(self.fresh)
    }

    /// What `prefix` itself leads to, or 0.
    pub(super) fn get(&self, prefix: Ipv4Net) -> u32 {
        let path = Path::to(prefix);
        let mut block = path.block;
        for hop in path.hops() {
            block = self.memory.get(block * WORDS + hop.word);
            if block == 0 {
                return 0;
            }
        }
        self.memory.get(block * WORDS + path.word)
    }

    /// Has `prefix` lead to `route`, which is not 0.
    pub(super) fn insert(&mut self, prefix: Ipv4Net, route: u32) -> Result<(), Full> {
        let path = Path::to(prefix);
        let mut block = path.block;
        for hop in path.hops() {
            let word = block * WORDS + hop.word;
            block = match self.memory.get(word) {
                0 => {
                    let line = self.take(hop.lines)?;
                    self.memory.set(word, line);
                    line
                }
                line => line,
            };
        }
        self.memory.set(block * WORDS + path.word, route);
        if let Some(length) = path.length {
            let used = block * WORDS + path.tree;
            self.memory.set(used, self.memory.get(used) | 1 << length);
        }
        Ok(())
    }

    /// Has `prefix` lead nowhere.
    pub(super) fn remove(&mut self, prefix: Ipv4Net) {
        let path = Path::to(prefix);
        let words = self.words(&path);
        let Some(&word) = words.get(path.hops) else {
            return;
        };
        self.memory.set(word, 0);
        if let Some(length) = path.length {
            let tree = word - path.word + path.tree;
            let of_length = tree + (1 << length)..tree + (2 << length);
            if self.are_zero(of_length) {
                self.memory
                    .set(tree, self.memory.get(tree) & !(1 << length));
            }
        }
        for (hop, word) in path.hops().iter().zip(&words).rev() {
            let line = self.memory.get(*word);
            if !self.are_zero(line * WORDS..(line + hop.lines) * WORDS) {
                return;
            }
            self.memory.set(*word, 0);
            self.retired(hop.lines).push_back((Instant::now(), line));
        }
    }

    /// Every prefix, and what it leads to.
    pub(super) fn entries(&self) -> Vec<(Ipv4Net, u32)> {
        let mut entries = Vec::new();
        self.visit(|visited| {
            if let Visited::Route {
                address,
                length,
                route,
            } = visited
            {
                entries.push((Ipv4Net::new_assert(address.into(), length), route));
            }
        });
        entries
    }

    /// The words on the way, as far as it goes.
    fn words(&self, path: &Path) -> Vec<u32> {
        let mut words = Vec::with_capacity(path.hops + 1);
        let mut block = path.block;
        for hop in path.hops() {
            let word = block * WORDS + hop.word;
            words.push(word);
            block = self.memory.get(word);
            if block == 0 {
                return words;
            }
        }
        words.push(block * WORDS + path.word);
        words
    }

    fn are_zero(&self, mut words: std::ops::Range<u32>) -> bool {
        words.all(|word| self.memory.get(word) == 0)
    }

    /// As many lines, of zeros.
    fn take(&mut self, lines: u32) -> Result<u32, Full> {
        let retired = self.retired(lines);
        if let Some(&(since, line)) = retired.front()
            && since.elapsed() >= GRACE
        {
            retired.pop_front();
            for word in line * WORDS..(line + lines) * WORDS {
                self.memory.set(word, 0);
            }
            return Ok(line);
        }
        while self.memory.lines() - self.fresh < lines {
            self.memory.grow()?;
        }
        let line = self.fresh;
        self.fresh += lines;
        Ok(line)
    }

    fn retired(&mut self, lines: u32) -> &mut Retired {
        if lines == NODE {
            &mut self.nodes
        } else {
            &mut self.lines
        }
    }

    fn visit(&self, mut visit: impl FnMut(Visited)) {
        let visit = &mut visit;
        self.visit_tree(SHORT, 0, 0, 16, visit);
        for high in 0..1 << 16 {
            let node = self.memory.get(ROOT * WORDS + high);
            if node == 0 {
                continue;
            }
            visit(Visited::Block {
                line: node,
                lines: NODE,
            });
            self.visit_tree(node + CHILDREN, high << 16, 16, 8, visit);
            for bits in 0..1 << 8 {
                let address = high << 16 | bits << 8;
                self.visit_line(self.memory.get(node * WORDS + bits), address, 24, visit);
            }
        }
    }

    /// A node that is one line, and those below it.
    fn visit_line(&self, line: u32, address: u32, begin: u8, visit: &mut impl FnMut(Visited)) {
        if line == 0 {
            return;
        }
        visit(Visited::Block { line, lines: 1 });
        self.visit_tree(line, address, begin, 4, visit);
        let children = self.memory.get(line * WORDS);
        if children == 0 {
            return;
        }
        visit(Visited::Block {
            line: children,
            lines: 1,
        });
        for bits in 0..1 << 4 {
            let child = self.memory.get(children * WORDS + bits);
            if begin == 24 {
                self.visit_line(child, address | bits << 4, 28, visit);
            } else if child != 0 {
                visit(Visited::Route {
                    address: address | bits,
                    length: 32,
                    route: child,
                });
            }
        }
    }

    fn visit_tree(
        &self,
        first: u32,
        address: u32,
        begin: u8,
        lengths: u8,
        visit: &mut impl FnMut(Visited),
    ) {
        for more in 0..lengths {
            for bits in 0..1u32 << more {
                let route = self.memory.get(first * WORDS + (1 << more | bits));
                if route != 0 {
                    let length = begin + more;
                    let address = address | shifted(bits, 32 - length);
                    visit(Visited::Route {
                        address,
                        length,
                        route,
                    });
                }
            }
        }
    }
}

/// What is in a trie.
enum Visited {
    Block {
        line: u32,
        lines: u32,
    },
    Route {
        address: u32,
        length: u8,
        route: u32,
    },
}

/// The way to the word of a prefix.
struct Path {
    /// The line it starts from.
    block: u32,
    all: [Hop; 5],
    /// How many of these are taken.
    hops: usize,
    /// The word at its end, in the block that the last hop leads to.
    word: u32,
    /// Where in that block the binary tree begins that the word is in.
    tree: u32,
    /// The bit that stands for the length there, if the tree notes which are in use.
    length: Option<u8>,
}

/// From a word of one block to the block it leads to.
struct Hop {
    word: u32,
    lines: u32,
}

impl Path {
    fn hops(&self) -> &[Hop] {
        &self.all[..self.hops]
    }

    fn to(prefix: Ipv4Net) -> Self {
        let address = u32::from(prefix.network());
        let length = prefix.prefix_len();
        // Its place in the binary tree of a node that begins at `begin` bits.
        let in_tree = |begin: u8| {
            let more = length - begin;
            1 << more | shifted_down(address << begin, 32 - more)
        };
        let hop = |word, lines| Hop { word, lines };
        let all = [
            hop(address >> 16, NODE),
            hop(address >> 8 & 0xff, 1),
            hop(0, 1),
            hop(address >> 4 & 0xf, 1),
            hop(0, 1),
        ];
        let (block, hops, word, tree, length) = match length {
            0..16 => (SHORT, 0, in_tree(0), 0, Some(length)),
            16..24 => {
                let tree = CHILDREN * WORDS;
                (ROOT, 1, tree + in_tree(16), tree, Some(length - 16))
            }
            24..28 => (ROOT, 2, in_tree(24), 0, None),
            28..32 => (ROOT, 4, in_tree(28), 0, None),
            _ => (ROOT, 5, address & 0xf, 0, None),
        };
        Self {
            block,
            all,
            hops,
            word,
            tree,
            length,
        }
    }
}

/// `bits << by`, where all of them may be shifted out.
fn shifted(bits: u32, by: u8) -> u32 {
    bits.checked_shl(by.into()).unwrap_or(0)
}

/// `bits >> by`, where all of them may be shifted out.
fn shifted_down(bits: u32, by: u8) -> u32 {
    bits.checked_shr(by.into()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, collections::BTreeMap, net::Ipv4Addr};

    use dataplane_common::trie::{Line, Lines, longest};
    use fastrand::Rng;

    use super::*;

    /// Lines in memory, as many at a time, and so many in all.
    struct Vector {
        lines: Vec<Line>,
        step: usize,
        most: usize,
        /// Looked at before each word is written.
        check: fn(&Self),
        written: Cell<u64>,
    }

    impl Vector {
        fn empty(most: u32) -> Self {
            let lines = vec![[0; WORDS as usize]; FIRST as usize];
            let most = (FIRST + most) as usize;
            let (step, written) = (100, Cell::new(0));
            Self {
                lines,
                step,
                most,
                check: |_| {},
                written,
            }
        }
    }

    impl Memory for Vector {
        fn get(&self, word: u32) -> u32 {
            self.lines[(word / WORDS) as usize][(word % WORDS) as usize]
        }

        fn set(&mut self, word: u32, value: u32) {
            self.lines[(word / WORDS) as usize][(word % WORDS) as usize] = value;
            self.written.set(self.written.get() + 1);
            (self.check)(self);
        }

        fn lines(&self) -> u32 {
            self.lines.len().try_into().unwrap()
        }

        fn grow(&mut self) -> Result<(), Full> {
            let lines = self.lines.len() + self.step;
            if lines > self.most {
                return Err(Full::new("test", "it is a test"));
            }
            self.lines.resize(lines, [0; WORDS as usize]);
            Ok(())
        }
    }

    impl Lines for Vector {
        fn line(&self, number: u32) -> Option<&Line> {
            self.lines.get(number as usize)
        }
    }

    fn empty() -> Trie<Vector> {
        Trie::open(Vector::empty(1 << 20))
    }

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    fn find(trie: &Trie<Vector>, address: Ipv4Addr) -> u32 {
        longest(&trie.memory, address.octets())
    }

    /// By the definition of the longest prefix.
    fn expected(routes: &BTreeMap<Ipv4Net, u32>, address: Ipv4Addr) -> u32 {
        let covering = routes
            .iter()
            .filter(|(prefix, _)| prefix.contains(&address));
        let longest = covering.max_by_key(|(prefix, _)| prefix.prefix_len());
        longest.map_or(0, |(_, route)| *route)
    }

    /// Few enough addresses for prefixes of every length to cover each other.
    fn address(random: &mut Rng) -> u32 {
        let bits = [
            0x8000_0000,
            0x0001_0000,
            0x0000_8000,
            0x0000_0100,
            0x80,
            0x10,
            0x8,
            0x1,
        ];
        bits.into_iter().filter(|_| random.bool()).sum()
    }

    fn prefix(random: &mut Rng) -> Ipv4Net {
        let length = random.u8(0..=32);
        Ipv4Net::new_assert(address(random).into(), length).trunc()
    }

    /// That the trie holds these routes and nothing else.
    fn compare(trie: &Trie<Vector>, routes: &BTreeMap<Ipv4Net, u32>, random: &mut Rng) {
        for _ in 0..50 {
            let address = Ipv4Addr::from(address(random));
            assert_eq!(
                find(trie, address),
                expected(routes, address),
                "{address} by {routes:?}"
            );
        }
        assert!(
            routes
                .iter()
                .all(|(prefix, route)| trie.get(*prefix) == *route)
        );
        let entries: BTreeMap<_, _> = trie.entries().into_iter().collect();
        assert_eq!(entries, *routes);
    }

    #[test]
    fn the_longest_prefix_wins_whatever_comes_and_goes() {
        let mut random = Rng::with_seed(1);
        let mut trie = empty();
        let mut routes = BTreeMap::new();
        for round in 1..=3000 {
            let prefix = prefix(&mut random);
            if random.bool() {
                trie.insert(prefix, round).unwrap();
                routes.insert(prefix, round);
            } else {
                trie.remove(prefix);
                routes.remove(&prefix);
            }
            if round % 10 == 0 {
                compare(&trie, &routes, &mut random);
            }
        }
        let trie = Trie::open(trie.memory);
        compare(&trie, &routes, &mut random);
    }

    #[test]
    fn nothing_is_in_use_when_every_route_is_gone() {
        let mut random = Rng::with_seed(2);
        let mut trie = empty();
        let prefixes: Vec<_> = (0..1000).map(|_| prefix(&mut random)).collect();
        for prefix in &prefixes {
            trie.insert(*prefix, 7).unwrap();
        }
        assert!(trie.used() > FIRST);
        for prefix in &prefixes {
            trie.remove(*prefix);
        }
        assert_eq!(trie.used(), FIRST);
        assert!(
            trie.memory.lines[..FIRST as usize]
                .iter()
                .flatten()
                .all(|word| *word == 0)
        );
    }

    #[test]
    fn a_default_route_is_one_word_and_so_is_a_short_prefix() {
        let mut trie = empty();
        trie.insert(net("10.244.0.0/26"), 1).unwrap();
        for prefix in ["0.0.0.0/0", "10.0.0.0/8", "10.244.0.0/16"] {
            let before = trie.memory.written.get();
            trie.insert(net(prefix), 2).unwrap();
            // The route, and that there is one of its length.
            assert_eq!(trie.memory.written.get(), before + 2, "{prefix}");
        }
    }

    #[test]
    fn at_no_moment_of_a_change_does_another_route_lead_elsewhere() {
        let mut trie = empty();
        trie.insert(net("10.0.0.0/8"), 1).unwrap();
        trie.insert(net("10.244.0.0/28"), 2).unwrap();
        trie.memory.check = |memory| {
            assert_eq!(longest(memory, [10, 244, 0, 1]), 2);
            assert_eq!(longest(memory, [10, 244, 0, 16]), 1);
            assert!(matches!(longest(memory, [10, 244, 0, 33]), 1 | 3));
        };
        for prefix in ["10.244.0.33/32", "10.244.0.32/28", "10.244.0.32/27"] {
            trie.insert(net(prefix), 3).unwrap();
            assert_eq!(find(&trie, Ipv4Addr::new(10, 244, 0, 33)), 3);
            trie.remove(net(prefix));
            assert_eq!(find(&trie, Ipv4Addr::new(10, 244, 0, 33)), 1);
        }
    }

    #[test]
    fn lines_that_a_program_may_still_be_in_are_not_used_again() {
        let mut trie = empty();
        trie.insert(net("10.244.0.33/32"), 3).unwrap();
        let before = trie.memory.lines.clone();
        let used = FIRST as usize..trie.fresh as usize;
        trie.remove(net("10.244.0.33/32"));
        trie.insert(net("10.9.0.33/32"), 4).unwrap();
        // But for the word of the route itself, where a program is then told of none.
        let differ = used
            .clone()
            .flat_map(|line| (0..WORDS as usize).map(move |word| (line, word)));
        let differ =
            differ.filter(|(line, word)| before[*line][*word] != trie.memory.lines[*line][*word]);
        assert!(
            differ
                .map(|(line, word)| trie.memory.lines[line][word])
                .all(|word| word == 0)
        );
        assert_eq!(find(&trie, Ipv4Addr::new(10, 9, 0, 33)), 4);
    }

    #[test]
    fn what_there_is_no_room_for_changes_nothing() {
        let mut trie = Trie::open(Vector::empty(200));
        let mut routes = BTreeMap::new();
        let mut random = Rng::with_seed(3);
        let mut refused = 0;
        for route in 1..500 {
            let prefix = Ipv4Net::new_assert(random.u32(..).into(), 30).trunc();
            match trie.insert(prefix, route) {
                Ok(()) => drop(routes.insert(prefix, route)),
                Err(_) => refused += 1,
            }
        }
        assert!(refused > 400);
        compare(&trie, &routes, &mut random);
        // What has a word already always has room.
        for prefix in routes.keys() {
            trie.insert(*prefix, 1).unwrap();
        }
    }
}
