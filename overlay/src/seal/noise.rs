//! The one Noise pattern, with nothing of it left in memory afterwards.
//!
//! snow drives the pattern; the parts that compute are ours, so that what holds a key is wiped: X25519
//! ([`Pair`]) and the AEAD ([`DirectionKey`], which fits: Noise defines the same nonce). What
//! is inside snow's own state, the chaining key and the psk, is overwritten when a [`Noise`] is
//! dropped. Copies on the stack are left to the stack.

use std::fmt;
use std::hint::black_box;

use blake2::{Blake2s256, Digest};
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::CryptoResolver;
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, HandshakeState};
use wire::sealed::{INIT_LEN, TAG_LEN};
use zeroize::Zeroizing;

use crate::seal::aead::{Aead, DirectionKey};
use crate::seal::handshake::HandshakeError;
use crate::seal::identity::Identity;
use crate::seal::keys::Key;
use crate::seal::x25519::Pair;

const PATTERN: &str = "Noise_XXpsk0_25519_ChaChaPoly_BLAKE2s";
/// A pattern that needs no key: what takes the place of a state that is dropped.
const EMPTY: &str = "Noise_NN_25519_ChaChaPoly_BLAKE2s";

/// 32 fresh random bytes, for one handshake of one side: its ephemeral secret.
pub type Seed = Zeroizing<[u8; 32]>;

/// One side of a handshake. Wiped when dropped.
pub(in crate::seal) struct Noise(HandshakeState);

impl Noise {
    pub(in crate::seal) fn new(
        identity: &Identity,
        psk: &Key,
        prologue: &[u8],
        seed: &Seed,
        is_initiator: bool,
    ) -> Result<Self, HandshakeError> {
        let parts = Parts {
            seed: Some(seed.clone()),
            known: Some(identity.pair().clone()),
        };
        let params = PATTERN.parse().map_err(|_| HandshakeError::Noise)?;
        let builder = Builder::with_resolver(params, Box::new(parts))
            .local_private_key(identity.pair().secret().bytes())
            .and_then(|builder| builder.psk(0, psk.bytes()))
            .and_then(|builder| builder.prologue(prologue))
            .map_err(|_| HandshakeError::Noise)?;
        let built = match is_initiator {
            true => builder.build_initiator(),
            false => builder.build_responder(),
        };
        built.map(Self).map_err(|_| HandshakeError::Noise)
    }

    /// The next message.
    pub(in crate::seal) fn write(&mut self, payload: &[u8]) -> Result<Vec<u8>, HandshakeError> {
        let mut message = vec![0; INIT_LEN];
        let len = self
            .0
            .write_message(payload, &mut message)
            .map_err(|_| HandshakeError::NoRoom)?;
        message.truncate(len);
        Ok(message)
    }

    /// Reads the next message; gives the length of its payload. After an error this is not to be
    /// used again: snow rolls its hashes back, yet not its cipher.
    pub(in crate::seal) fn read(
        &mut self,
        message: &[u8],
        payload: &mut [u8],
    ) -> Result<usize, HandshakeError> {
        self.0
            .read_message(message, payload)
            .map_err(|_| HandshakeError::Noise)
    }

    /// The far end's S, once it was read.
    pub(in crate::seal) fn remote_static(&self) -> Option<[u8; 32]> {
        self.0.get_remote_static()?.try_into().ok()
    }

    /// The keys of both directions, the initiator's first; after the last message.
    pub(in crate::seal) fn split(&mut self) -> (Key, Key) {
        let (first, second) = self.0.dangerously_get_raw_split();
        (Key::new(first), Key::new(second))
    }
}

impl Drop for Noise {
    fn drop(&mut self) {
        let parts = Parts {
            seed: None,
            known: None,
        };
        let empty = EMPTY.parse().ok().and_then(|params| {
            Builder::with_resolver(params, Box::new(parts))
                .build_initiator()
                .ok()
        });
        if let Some(empty) = empty {
            self.0 = empty;
            black_box(&self.0);
        }
    }
}

impl fmt::Debug for Noise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Noise(..)")
    }
}

/// What snow is built of.
struct Parts {
    /// Its one random number.
    seed: Option<Seed>,
    /// The node's pair, which need not be computed for each handshake.
    known: Option<Pair>,
}

impl CryptoResolver for Parts {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Once(self.seed.clone())))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        let slot = Slot {
            pair: None,
            known: self.known.clone(),
        };
        (*choice == DHChoice::Curve25519).then(|| Box::new(slot) as Box<dyn Dh>)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        (*choice == HashChoice::Blake2s).then(|| Box::new(Hasher::default()) as Box<dyn Hash>)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        let sealer = Sealer(DirectionKey::new(
            Aead::ChaCha20Poly1305,
            &Key::new([0; 32]),
        ));
        (*choice == CipherChoice::ChaChaPoly).then(|| Box::new(sealer) as Box<dyn Cipher>)
    }
}

/// Gives the seed once.
struct Once(Option<Seed>);

impl Random for Once {
    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), snow::Error> {
        let seed = self.0.take().ok_or(snow::Error::Rng)?;
        out.copy_from_slice(seed.get(..out.len()).ok_or(snow::Error::Rng)?);
        Ok(())
    }
}

/// Where snow keeps one of its two pairs: empty until it is set or generated.
struct Slot {
    pair: Option<Pair>,
    known: Option<Pair>,
}

impl Slot {
    fn take(&mut self, secret: Key) {
        let known = self.known.take().filter(|known| *known.secret() == secret);
        self.pair = Some(known.unwrap_or_else(|| Pair::new(secret)));
    }
}

impl Dh for Slot {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        32
    }

    fn priv_len(&self) -> usize {
        32
    }

    fn set(&mut self, secret: &[u8]) {
        // snow gives what `local_private_key` was given: 32 bytes.
        self.take(Key::new(secret.try_into().unwrap_or_default()));
    }

    fn generate(&mut self, random: &mut dyn Random) -> Result<(), snow::Error> {
        let mut secret = Zeroizing::new([0; 32]);
        random.try_fill_bytes(&mut *secret)?;
        self.take(Key::new(*secret));
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        self.pair.as_ref().map_or(&[], |pair| pair.public())
    }

    fn privkey(&self) -> &[u8] {
        self.pair.as_ref().map_or(&[], |pair| pair.secret().bytes())
    }

    fn dh(&self, public: &[u8], out: &mut [u8]) -> Result<(), snow::Error> {
        let public = public.first_chunk::<32>().ok_or(snow::Error::Dh)?;
        let agreed = self.pair.as_ref().and_then(|pair| pair.agree(public));
        let shared = agreed.ok_or(snow::Error::Dh)?;
        out.get_mut(..32)
            .ok_or(snow::Error::Dh)?
            .copy_from_slice(&*shared);
        Ok(())
    }
}

/// The AEAD of a handshake, which is wiped with its key.
struct Sealer(DirectionKey);

impl Cipher for Sealer {
    fn name(&self) -> &'static str {
        "ChaChaPoly"
    }

    fn set(&mut self, key: &[u8; 32]) {
        self.0 = DirectionKey::new(Aead::ChaCha20Poly1305, &Key::new(*key));
    }

    fn encrypt(&self, nonce: u64, associated: &[u8], text: &[u8], out: &mut [u8]) -> usize {
        let whole = text.len() + TAG_LEN;
        // snow has looked whether there is room; without it nothing is written and nothing opens.
        let Some((sealed, tag)) = out
            .get_mut(..whole)
            .and_then(|out| out.split_at_mut_checked(text.len()))
        else {
            return 0;
        };
        sealed.copy_from_slice(text);
        if let Some(made) = self.0.seal(nonce, associated, sealed) {
            tag.copy_from_slice(&made);
        }
        whole
    }

    fn decrypt(
        &self,
        nonce: u64,
        associated: &[u8],
        sealed: &[u8],
        out: &mut [u8],
    ) -> Result<usize, snow::Error> {
        let mut text = Zeroizing::new(sealed.to_vec());
        let opened = self
            .0
            .open(nonce, associated, &mut text)
            .ok_or(snow::Error::Decrypt)?;
        out.get_mut(..opened.len())
            .ok_or(snow::Error::Decrypt)?
            .copy_from_slice(opened);
        Ok(opened.len())
    }
}

/// BLAKE2s.
#[derive(Default)]
struct Hasher(Blake2s256);

impl Hash for Hasher {
    fn name(&self) -> &'static str {
        "BLAKE2s"
    }

    fn block_len(&self) -> usize {
        64
    }

    fn hash_len(&self) -> usize {
        32
    }

    fn reset(&mut self) {
        self.0.reset();
    }

    fn input(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn result(&mut self, out: &mut [u8]) {
        let hash = self.0.finalize_reset();
        if let Some(out) = out.get_mut(..hash.len()) {
            out.copy_from_slice(&hash);
        }
    }
}
