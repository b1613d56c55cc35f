//! Two ends of a sealed link, without the handshake between them.

use overlay::seal::aead::Aead;
use overlay::seal::keys::Key;
use overlay::seal::session::{Session, Terms};
use overlay::time::Instant;

/// The initiator's session and the responder's.
pub fn session_pair(aead: Aead) -> [Session; 2] {
    let near = Terms {
        local: 1,
        remote: 2,
        is_initiator: true,
        aead,
        info: b"link-aead v1",
    };
    let far = Terms {
        local: 2,
        remote: 1,
        is_initiator: false,
        ..near
    };
    let keys = (Key::new([1; 32]), Key::new([2; 32]));
    [near, far].map(|terms| Session::new(Instant::ZERO, terms, &keys.0, &keys.1))
}
