//! What is carried beside netfilter: flows that it has let through both ways, unchanged.

mod flows;
mod leaving;
mod remembered;
mod talk;
