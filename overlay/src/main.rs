//! The `floodmesh` command.

fn main() {}
