//! The relay that the one of floodmesh is compared with: each datagram received is sent to each
//! neighbor, with a system call for each, and nothing is checked or remembered.
//!
//! Usage: `sendto_relay LISTEN NEIGHBOR...`, all as `ADDRESS:PORT`. Runs until it is ended.

use std::net::{SocketAddr, UdpSocket};

fn main() {
    let mut addresses = std::env::args().skip(1).map(|word| {
        let parsed: Result<SocketAddr, _> = word.parse();
        parsed.expect("an argument is ADDRESS:PORT")
    });
    let listen = addresses
        .next()
        .expect("the first argument is where to listen");
    let neighbors: Vec<SocketAddr> = addresses.collect();
    let socket = UdpSocket::bind(listen).expect("the address is free");
    let mut buffer = [0; 65_536];
    loop {
        let Ok((len, from)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        for neighbor in neighbors.iter().filter(|neighbor| **neighbor != from) {
            // What a full queue refuses is lost, as on any relay.
            let _ = socket.send_to(&buffer[..len], neighbor);
        }
    }
}
