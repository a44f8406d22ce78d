//! Flows of every kind get on with netfilter and connection tracking, with underpass as without.

mod attached;
mod by_hand;
mod closing;
mod compare;
mod hands;
mod idle;
mod masquerade;
mod one_way;
mod scans;
mod translated;
