//! What routes say, each kept once however many routes say it: a full table of a million routes has
//! a few hundred of these, and a route is a prefix and a number.

use std::{collections::HashMap, ops::Index};

use crate::kernel::fib::FibInfo;

/// The number of a [`FibInfo`].
pub(super) type InfoId = u32;

/// The infos in use.
#[derive(Debug, Default)]
pub(super) struct Infos {
    slots: Vec<Slot>,
    numbers: HashMap<FibInfo, InfoId>,
    free: Vec<InfoId>,
}

#[derive(Debug)]
struct Slot {
    info: FibInfo,
    uses: u32,
}

impl Infos {
    /// The number of `info`, which is used once more.
    pub(super) fn take(&mut self, info: FibInfo) -> InfoId {
        if let Some(id) = self.numbers.get(&info) {
            self.slots[index(*id)].uses += 1;
            return *id;
        }
        let slot = Slot {
            info: info.clone(),
            uses: 1,
        };
        let id = if let Some(id) = self.free.pop() {
            self.slots[index(id)] = slot;
            id
        } else {
            self.slots.push(slot);
            // A table of 2^32 different routes does not fit into the kernel.
            InfoId::try_from(self.slots.len() - 1).unwrap_or(InfoId::MAX)
        };
        self.numbers.insert(info, id);
        id
    }

    /// Number `id` is used once less.
    pub(super) fn release(&mut self, id: InfoId) {
        let slot = &mut self.slots[index(id)];
        slot.uses -= 1;
        if slot.uses == 0 {
            let info = std::mem::take(&mut slot.info);
            self.numbers.remove(&info);
            self.free.push(id);
        }
    }

    /// The number of `info`, if any route says so.
    pub(super) fn find(&self, info: &FibInfo) -> Option<InfoId> {
        self.numbers.get(info).copied()
    }

    /// Every info in use.
    pub(super) fn iter(&self) -> impl Iterator<Item = (InfoId, &FibInfo)> {
        self.numbers.iter().map(|(info, id)| (*id, info))
    }
}

impl Index<InfoId> for Infos {
    type Output = FibInfo;

    fn index(&self, id: InfoId) -> &FibInfo {
        &self.slots[index(id)].info
    }
}

fn index(id: InfoId) -> usize {
    usize::try_from(id).unwrap_or(usize::MAX)
}
