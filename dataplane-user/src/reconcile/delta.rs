//! A table and what it is known to hold.

use std::collections::BTreeMap;

use anyhow::Result;

use super::Written;
use crate::dataplane::{Full, Table};

/// A table, read once and written by this alone.
#[derive(Debug)]
pub struct Tracked<K, V, T> {
    table: T,
    known: BTreeMap<K, V>,
}

impl<K: Ord + Copy, V: PartialEq + Copy, T: Table<K, V>> Tracked<K, V, T> {
    /// Reads all of `table`.
    pub fn open(table: T) -> Result<Self> {
        let known = table.entries()?.into_iter().collect();
        Ok(Self { table, known })
    }

    /// How many entries the table holds.
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// Adds and replaces what differs from `desired`, as far as there is room.
    pub fn write(&mut self, desired: &BTreeMap<K, V>) -> Result<Written> {
        let mut result = Written::default();
        for (key, value) in desired {
            if self.known.get(key) == Some(value) {
                continue;
            }
            match self.table.insert(key, value) {
                Ok(()) => {
                    self.known.insert(*key, *value);
                    result.written += 1;
                }
                Err(error) if error.is::<Full>() => result.refuse(&error),
                Err(error) => return Err(error),
            }
        }
        Ok(result)
    }

    /// Removes what is not in `desired`; returns how many entries.
    pub fn sweep(&mut self, desired: &BTreeMap<K, V>) -> Result<usize> {
        let unwanted: Vec<K> = self
            .known
            .keys()
            .filter(|key| !desired.contains_key(key))
            .copied()
            .collect();
        for key in &unwanted {
            self.table.remove(key)?;
            self.known.remove(key);
        }
        Ok(unwanted.len())
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, rc::Rc};

    use super::*;

    /// A table in memory that writes down what is done to it, and is full at `capacity`.
    #[derive(Clone)]
    struct Memory {
        entries: Rc<RefCell<BTreeMap<u32, u32>>>,
        log: Rc<RefCell<Vec<String>>>,
        capacity: usize,
    }

    impl Table<u32, u32> for Memory {
        fn entries(&self) -> Result<Vec<(u32, u32)>> {
            Ok(self
                .entries
                .borrow()
                .iter()
                .map(|(k, v)| (*k, *v))
                .collect())
        }

        fn insert(&mut self, key: &u32, value: &u32) -> Result<()> {
            let mut entries = self.entries.borrow_mut();
            if !entries.contains_key(key) && entries.len() == self.capacity {
                return Err(Full::new("test", "it is a test").into());
            }
            self.log.borrow_mut().push(format!("{key}={value}"));
            entries.insert(*key, *value);
            Ok(())
        }

        fn remove(&mut self, key: &u32) -> Result<()> {
            self.log.borrow_mut().push(format!("-{key}"));
            self.entries.borrow_mut().remove(key);
            Ok(())
        }
    }

    fn memory(entries: &[(u32, u32)], capacity: usize) -> Memory {
        Memory {
            entries: Rc::new(RefCell::new(entries.iter().copied().collect())),
            log: Rc::default(),
            capacity,
        }
    }

    #[test]
    fn only_the_difference_is_written_and_what_an_earlier_agent_left_is_swept() {
        let memory = memory(&[(1, 10), (2, 20), (9, 90)], 10);
        let mut tracked = Tracked::open(memory.clone()).unwrap();
        let desired = BTreeMap::from([(1, 10), (2, 21), (3, 30)]);

        assert_eq!(tracked.write(&desired).unwrap().written, 2);
        assert_eq!(tracked.sweep(&desired).unwrap(), 1);
        assert_eq!(*memory.log.borrow(), ["2=21", "3=30", "-9"]);
        assert_eq!(*memory.entries.borrow(), desired);

        assert_eq!(tracked.write(&desired).unwrap().written, 0);
        assert_eq!(tracked.sweep(&desired).unwrap(), 0);
    }

    #[test]
    fn what_finds_no_room_is_tried_again_and_keeps_nothing_else_out() {
        let memory = memory(&[(9, 90)], 2);
        let mut tracked = Tracked::open(memory.clone()).unwrap();
        let desired = BTreeMap::from([(1, 10), (2, 20)]);
        let written = tracked.write(&desired).unwrap();
        assert_eq!((written.written, written.refused), (1, 1));

        tracked.sweep(&desired).unwrap();
        assert_eq!(tracked.write(&desired).unwrap().written, 1);
        assert_eq!(*memory.entries.borrow(), desired);
    }
}
