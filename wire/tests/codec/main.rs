//! The codec from outside: golden vectors, properties, adversarial bytes.

#![expect(
    clippy::unwrap_used,
    reason = "clippy allows it in tests, yet not in the helpers of an integration test"
)]

mod adversarial;
mod properties;
mod sealed;
mod vectors;
