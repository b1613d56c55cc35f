//! Target `text`: what people paste: tokens and mesh secrets.

use overlay::seal::invitation::{Invitation, TEXT_LEN_LIMIT};
use overlay::seal::keys::MeshSecret;

/// Target `text`: reading a token or a mesh secret is total; what is read is written back as it
/// stood, but for case.
///
/// # Panics
/// When one of these laws is broken.
pub fn fuzz_text(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(secret) = MeshSecret::parse(text) {
        assert!(secret.to_text().eq_ignore_ascii_case(text.trim()));
    }
    if let Ok(invitation) = Invitation::parse(text) {
        assert!(text.trim().len() <= TEXT_LEN_LIMIT);
        let again = invitation.to_text().expect("it was read");
        assert!(
            again.eq_ignore_ascii_case(text.trim()),
            "{text} became {}",
            *again
        );
        assert_eq!(Invitation::parse(&again).as_ref(), Ok(&invitation));
        let texts = invitation.peers.iter().chain([&invitation.mesh]);
        for text in texts {
            assert!((1..=255).contains(&text.len()) && !text.contains(char::is_control));
        }
    }
}
