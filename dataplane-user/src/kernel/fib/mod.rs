//! What the kernel forwards by: everything that makes its FIB, as messages and as lists.
//!
//! [`Monitor`] hands over what changes, in the order in which it does; [`Lists`] is asked for what
//! is there. Both speak of the same [`Change`].

mod change;
mod info;
mod lists;
mod monitor;
mod object;
mod rule;

pub use self::{
    change::{Change, Fdb},
    info::{FibInfo, FibRoute, Hop, RouteKind, Target},
    lists::{List, Lists},
    monitor::{Heard, Monitor},
    object::{Content, NextHopObject},
    rule::{Action, Rule},
};
