//! The virtual network device.
