//! Cookies: how a node under load makes others prove their address before it works for them.
//!
//! The answering side has [`Jar`]: a secret that is drawn anew every two minutes, and no memory of
//! anybody. The asking side holds the one [`Held`] cookie of an endpoint. Source: SEALED.md S10,
//! S27 to S30.

use std::fmt;
use std::net::SocketAddr;

use chacha20poly1305::aead::{Aead as _, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use wire::sealed::{COOKIE_LEN, Cookie, Init, MAC_LEN};

use crate::seal::keys::{Key, MeshKeys, is_same, mac};
use crate::seal::payload::address_bytes;
use crate::seal::scope::mac2;
use crate::time::{Duration, Instant};

/// How long a secret is given out; it is accepted for as long again.
pub const SECRET_LIFETIME: Duration = Duration::from_secs(120);
/// How long a cookie is used.
pub const COOKIE_LIFETIME: Duration = Duration::from_secs(120);

/// Makes cookies and knows its own. Wiped when dropped.
pub struct Jar {
    current: Key,
    previous: Option<Key>,
    rotated_at: Instant,
}

impl Jar {
    /// A jar with its first secret, 32 random bytes.
    pub const fn new(now: Instant, secret: Key) -> Self {
        Self {
            current: secret,
            previous: None,
            rotated_at: now,
        }
    }

    /// When the secret is to be drawn anew.
    pub fn rotates_at(&self) -> Instant {
        self.rotated_at + SECRET_LIFETIME
    }

    /// Takes a new secret; the former stays good until the next. One that comes too early is
    /// ignored. After a pause of two lifetimes the former one is not good either.
    pub fn rotate(&mut self, now: Instant, secret: Key) {
        if now < self.rotates_at() {
            return;
        }
        let is_recent = now.since(self.rotated_at) < 2 * SECRET_LIFETIME;
        let former = std::mem::replace(&mut self.current, secret);
        self.previous = is_recent.then_some(former);
        self.rotated_at = now;
    }

    /// The COOKIE that answers an INIT from this address; `nonce` is random.
    pub fn answer(
        &self,
        keys: &MeshKeys,
        init: &Init<'_>,
        from: SocketAddr,
        nonce: [u8; 24],
    ) -> Option<[u8; COOKIE_LEN]> {
        let cookie = cookie(&self.current, from);
        let sealed = cipher(keys)
            .encrypt(&XNonce::from(nonce), payload(&cookie, init.mac1))
            .ok()?;
        let answer = Cookie {
            receiver: init.sender,
            nonce: &nonce,
            sealed: sealed.as_slice().try_into().ok()?,
        };
        Some(answer.to_bytes())
    }

    /// Whether the INIT's mac2 was made with a cookie of ours for this address.
    pub fn accepts(&self, init: &Init<'_>, from: SocketAddr) -> bool {
        [Some(&self.current), self.previous.as_ref()]
            .into_iter()
            .flatten()
            .any(|secret| is_same(&mac2(&cookie(secret, from), init.before_mac2), init.mac2))
    }
}

impl fmt::Debug for Jar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Jar(..)")
    }
}

/// The cookie that an endpoint gave us.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    cookie: [u8; MAC_LEN],
    since: Instant,
}

impl Held {
    /// Opens a COOKIE that answers the INIT with this index and mac1.
    pub fn open(
        now: Instant,
        keys: &MeshKeys,
        index: u32,
        mac1: &[u8; MAC_LEN],
        datagram: &[u8],
    ) -> Option<Self> {
        let answer = Cookie::parse(datagram).ok()?;
        if answer.receiver != index {
            return None;
        }
        let sealed = payload(answer.sealed, mac1);
        let cookie = cipher(keys)
            .decrypt(&XNonce::from(*answer.nonce), sealed)
            .ok()?;
        Some(Self {
            cookie: cookie.as_slice().try_into().ok()?,
            since: now,
        })
    }

    /// The cookie, while it is good.
    pub fn get(&self, now: Instant) -> Option<&[u8; MAC_LEN]> {
        (now.since(self.since) < COOKIE_LIFETIME).then_some(&self.cookie)
    }
}

fn cookie(secret: &Key, from: SocketAddr) -> [u8; MAC_LEN] {
    mac(secret, &[&address_bytes(from)])
}

fn cipher(keys: &MeshKeys) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(keys.cookie.bytes().into())
}

const fn payload<'p>(msg: &'p [u8], mac1: &'p [u8; MAC_LEN]) -> Payload<'p, 'p> {
    Payload { msg, aad: mac1 }
}
