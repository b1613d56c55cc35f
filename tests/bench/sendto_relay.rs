//! The relay that the one of floodmesh is compared with: each datagram received is sent to each
//! neighbor, with a system call for each, and nothing is checked or remembered.
//!
//! Usage: `sendto_relay NEIGHBOR...`, each as `ADDRESS:PORT`, with a UDP socket as its standard
//! input. Runs until it is ended.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;

fn main() -> io::Result<()> {
    let socket = UdpSocket::from(io::stdin().as_fd().try_clone_to_owned()?);
    let neighbors: Result<Vec<SocketAddr>, _> =
        std::env::args().skip(1).map(|word| word.parse()).collect();
    let neighbors = neighbors.map_err(io::Error::other)?;
    let mut buffer = [0; 65_536];
    loop {
        let (len, _) = socket.recv_from(&mut buffer)?;
        for neighbor in &neighbors {
            // What a full queue refuses is lost, as on any relay.
            let _ = socket.send_to(&buffer[..len], neighbor);
        }
    }
}
