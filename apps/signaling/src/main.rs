//! Signaling.
fn main() {}
