//! Who is a neighbor: the control plane.
