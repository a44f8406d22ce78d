//! dataplane-common
