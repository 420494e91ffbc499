//! The `kvs-local` command.
fn main() {}
