//! Whole meshes on one machine, in network namespaces.
