//! What the three handshake messages tell, read from records and written to them (S14).

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use wire::NetId;
use wire::sealed::{Certificate, RIGHTS, RecordType, Records, emit_record};

use crate::seal::aead::Aead;
use crate::seal::handshake::HandshakeError;
use crate::seal::identity::{verify_binding, verify_certificate};
use crate::seal::keys::Fingerprint;
use crate::seal::local::{Local, Policy};

/// Bytes of an address record.
pub const ADDRESS_LEN: usize = 18;

/// What message 1 tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// The AEADs that both know, in the initiator's order.
    pub offer: Vec<Aead>,
    /// The initiator's policy.
    pub policy: Policy,
    /// Whom it calls; [`NetId::ANY`] for whoever is there.
    pub called: NetId,
    /// Its features.
    pub features: u32,
}

/// What messages 2 and 3 tell of their sender: who it is, proved, and what it knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// S, which the handshake proved.
    pub static_key: [u8; 32],
    /// The netid that a binding or a certificate gives to S. Whether it is *its* netid, by pin or
    /// list, is decided above (S34).
    pub netid: NetId,
    /// V.
    pub signing_key: [u8; 32],
    /// The certificate, whole and signed by our authority; its time is not judged here.
    pub certificate: Option<Vec<u8>>,
    /// Its policy, as far as it told.
    pub policy: Option<Policy>,
    /// Its features.
    pub features: u32,
    /// Number of the newest revocation list it has.
    pub revocation: Option<u64>,
    /// Where it sees us.
    pub observed: Option<SocketAddr>,
    /// The largest datagram it wants.
    pub receive_size: Option<u16>,
    /// Its start; 0 if it told none.
    pub boot: u64,
    /// The next secret that it has adopted.
    pub next_secret: Option<Fingerprint>,
}

impl Remote {
    /// What its certificate lets it do (S38); everything without one.
    pub fn rights(&self) -> u16 {
        let certificate = self.certificate.as_deref().map(Certificate::parse);
        match certificate {
            Some(Ok(certificate)) => certificate.rights,
            _ => RIGHTS,
        }
    }

    /// The rate class of its certificate (S106); 0 without one.
    pub fn rate_class(&self) -> u8 {
        let certificate = self.certificate.as_deref().map(Certificate::parse);
        match certificate {
            Some(Ok(certificate)) => certificate.rate_class,
            _ => 0,
        }
    }
}

/// Writes message 1's payload.
pub(in crate::seal) fn propose(local: &Local, called: NetId) -> Vec<u8> {
    let mut writer = Writer::default();
    let offer: Vec<u8> = local.offer().iter().map(|aead| aead.to_byte()).collect();
    writer.put(RecordType::Offer, &offer);
    writer.put(RecordType::Policy, &[local.policy.to_byte()]);
    if called != NetId::ANY {
        writer.put(RecordType::Called, &called.0.to_be_bytes());
    }
    writer.0
}

/// Writes the payload of message 2, with a choice, or of message 3, without.
pub(in crate::seal) fn introduce(
    local: &Local,
    choice: Option<Aead>,
    observed: Option<SocketAddr>,
) -> Vec<u8> {
    let mut writer = Writer::default();
    if let Some(aead) = choice {
        writer.put(RecordType::Choice, &[aead.to_byte()]);
        writer.put(RecordType::Policy, &[local.policy.to_byte()]);
    }
    writer.put(RecordType::NetId, &local.netid.0.to_be_bytes());
    match &local.certificate {
        Some(certificate) => writer.put(RecordType::Certificate, certificate),
        None => writer.put(RecordType::Binding, local.binding()),
    }
    if let Some(number) = local.revocation {
        writer.put(RecordType::Revocation, &number.to_be_bytes());
    }
    if let Some(observed) = observed {
        writer.put(RecordType::Observed, &address_bytes(observed));
    }
    if let Some(size) = local.receive_size {
        writer.put(RecordType::ReceiveSize, &size.to_be_bytes());
    }
    writer.put(RecordType::Boot, &local.boot.to_be_bytes());
    if let Some(next) = &local.next {
        writer.put(RecordType::NextSecret, &next.fingerprint().to_bytes());
    }
    writer.0
}

/// Reads message 1's payload.
pub(in crate::seal) fn read_proposal(payload: &[u8]) -> Result<Proposal, HandshakeError> {
    let found = Found::read(1, payload)?;
    let offer = found.must(RecordType::Offer)?;
    let mut seen = Vec::with_capacity(offer.len());
    for &byte in offer {
        if seen.contains(&byte) {
            return Err(HandshakeError::Value(RecordType::Offer));
        }
        seen.push(byte);
    }
    Ok(Proposal {
        offer: seen.into_iter().filter_map(Aead::from_byte).collect(),
        policy: policy(found.must(RecordType::Policy)?)?,
        called: found
            .number(RecordType::Called)
            .map_or(NetId::ANY, |netid| NetId(netid as u32)),
        features: found.number(RecordType::Features).unwrap_or(0) as u32,
    })
}

/// Reads the payload of message 2 or 3 of a node that proved `static_key`, and judges its
/// credential. Gives the choice of message 2 too.
pub(in crate::seal) fn read_introduction(
    local: &Local,
    message: u8,
    static_key: [u8; 32],
    payload: &[u8],
) -> Result<(Remote, Option<Aead>), HandshakeError> {
    let found = Found::read(message, payload)?;
    let netid = found.must(RecordType::NetId)?;
    let netid = NetId(number(netid) as u32);
    if !netid.is_node() {
        return Err(HandshakeError::Value(RecordType::NetId));
    }
    let mut choice = None;
    let mut told = None;
    if message == 2 {
        let byte = number(found.must(RecordType::Choice)?) as u8;
        choice = Some(Aead::from_byte(byte).ok_or(HandshakeError::Value(RecordType::Choice))?);
        told = Some(policy(found.must(RecordType::Policy)?)?);
    }
    let (signing_key, certificate) = credential(local, &found, netid, &static_key)?;
    let remote = Remote {
        static_key,
        netid,
        signing_key,
        certificate,
        policy: told,
        features: found.number(RecordType::Features).unwrap_or(0) as u32,
        revocation: found.number(RecordType::Revocation),
        observed: found.get(RecordType::Observed).and_then(read_address),
        receive_size: found
            .number(RecordType::ReceiveSize)
            .map(|size| size as u16),
        boot: found.number(RecordType::Boot).unwrap_or(0),
        next_secret: found
            .get(RecordType::NextSecret)
            .and_then(|bytes| bytes.try_into().ok())
            .map(Fingerprint::from_bytes),
    };
    Ok((remote, choice))
}

/// V, and the certificate if there is one: exactly one of the two credentials, and a good one.
fn credential(
    local: &Local,
    found: &Found<'_>,
    netid: NetId,
    static_key: &[u8; 32],
) -> Result<([u8; 32], Option<Vec<u8>>), HandshakeError> {
    let mesh_id = &local.keys.mesh_id;
    match (
        found.get(RecordType::Binding),
        found.get(RecordType::Certificate),
    ) {
        (Some(binding), None) => {
            let binding = binding.try_into().map_err(|_| HandshakeError::Credential)?;
            verify_binding(binding, mesh_id, netid, static_key)
                .map(|signing_key| (signing_key, None))
                .ok_or(HandshakeError::Credential)
        }
        (None, Some(bytes)) => {
            let certificate = Certificate::parse(bytes).map_err(HandshakeError::Form)?;
            let authority = local.authority.as_ref().ok_or(HandshakeError::Credential)?;
            let is_its_own = certificate.mesh_id == *mesh_id
                && certificate.netid == netid
                && certificate.static_key == *static_key;
            if !is_its_own || !verify_certificate(&certificate, authority) {
                return Err(HandshakeError::Credential);
            }
            Ok((certificate.signing_key, Some(bytes.to_vec())))
        }
        _ => Err(HandshakeError::Credential),
    }
}

/// The 18 bytes of an address, as records and macs have them.
pub fn address_bytes(address: SocketAddr) -> [u8; ADDRESS_LEN] {
    let ip = match address.ip() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    let mut bytes = [0; ADDRESS_LEN];
    bytes[..16].copy_from_slice(&ip.octets());
    bytes[16..].copy_from_slice(&address.port().to_be_bytes());
    bytes
}

fn read_address(bytes: &[u8]) -> Option<SocketAddr> {
    let (ip, port) = bytes.split_first_chunk::<16>()?;
    let ip = Ipv6Addr::from(*ip).to_canonical();
    Some(SocketAddr::new(ip, number(port) as u16))
}

fn policy(value: &[u8]) -> Result<Policy, HandshakeError> {
    Policy::from_byte(number(value) as u8).ok_or(HandshakeError::Value(RecordType::Policy))
}

/// A value of at most 8 bytes as a number; the records' lengths are already judged.
fn number(value: &[u8]) -> u64 {
    value
        .iter()
        .fold(0, |number, &byte| number << 8 | u64::from(byte))
}

/// The records of one payload.
struct Found<'d>([Option<&'d [u8]>; 16]);

impl<'d> Found<'d> {
    fn read(message: u8, payload: &'d [u8]) -> Result<Self, HandshakeError> {
        let mut found = Self([None; 16]);
        for record in Records::new(message, payload) {
            let record = record.map_err(HandshakeError::Form)?;
            found.0[usize::from(record.kind.to_byte() % 16)] = Some(record.value);
        }
        Ok(found)
    }

    fn get(&self, kind: RecordType) -> Option<&'d [u8]> {
        self.0[usize::from(kind.to_byte() % 16)]
    }

    fn must(&self, kind: RecordType) -> Result<&'d [u8], HandshakeError> {
        self.get(kind).ok_or(HandshakeError::Missing(kind))
    }

    fn number(&self, kind: RecordType) -> Option<u64> {
        self.get(kind).map(number)
    }
}

/// Puts records one behind the other.
#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn put(&mut self, kind: RecordType, value: &[u8]) {
        let at = self.0.len();
        self.0.resize(at + 3 + value.len(), 0);
        let written = emit_record(kind, value, &mut self.0[at..]);
        debug_assert!(
            written.is_some(),
            "room was made, and no value is 64 KiB long"
        );
    }
}
