//! `floodmesh lab`: from what was typed to [`crate::lab`].
