//! Where the named peers are: resolves names, first at once and again for ever.
//!
//! One task for all peers. A literal address is told once. A name is looked up again every minute,
//! because the address behind it may change (a vehicle, a dial-up line), and after 1, 2, 4 .. 60 s
//! when that failed: the network may not be up yet. A name that stops resolving keeps its last
//! addresses.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until, timeout};

use super::config::PeerAddress;

/// What a name resolved to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The peer's number, in the order in which they were given.
    pub peer: usize,
    /// Its addresses, or why there are none now.
    pub addresses: Result<Vec<SocketAddr>, String>,
}

/// A name is looked up this often.
const REFRESH: Duration = Duration::from_secs(60);
/// A look-up may take this long.
const PATIENCE: Duration = Duration::from_secs(5);
/// Addresses of one name that are used.
const ADDRESSES: usize = 8;

/// One name and when it is looked up next.
struct Name {
    peer: usize,
    address: PeerAddress,
    at: Instant,
    wait: Duration,
}

/// Resolves `peers` until the receiver is gone; `hurry` makes it look all names up at once (the
/// network changed).
pub async fn resolve(peers: Vec<PeerAddress>, resolved: mpsc::Sender<Resolved>, hurry: &Notify) {
    let mut names = Vec::new();
    for (peer, address) in peers.into_iter().enumerate() {
        match address.literal() {
            Some(literal) => {
                let addresses = Ok(vec![literal]);
                if resolved.send(Resolved { peer, addresses }).await.is_err() {
                    return;
                }
            }
            None => {
                let (at, wait) = (Instant::now(), Duration::from_secs(1));
                names.push(Name {
                    peer,
                    address,
                    at,
                    wait,
                });
            }
        }
    }
    while let Some(next) = names.iter_mut().min_by_key(|name| name.at) {
        tokio::select! {
            () = sleep_until(next.at) => {}
            () = hurry.notified() => {
                let now = Instant::now();
                names.iter_mut().for_each(|name| name.at = now);
                continue;
            }
        }
        let addresses = look_up(&next.address).await;
        let wait = if addresses.is_ok() {
            REFRESH
        } else {
            next.wait
        };
        next.wait = if addresses.is_ok() {
            Duration::from_secs(1)
        } else {
            (wait * 2).min(REFRESH)
        };
        next.at = Instant::now() + wait;
        if resolved
            .send(Resolved {
                peer: next.peer,
                addresses,
            })
            .await
            .is_err()
        {
            return;
        }
    }
}

async fn look_up(peer: &PeerAddress) -> Result<Vec<SocketAddr>, String> {
    match timeout(
        PATIENCE,
        tokio::net::lookup_host((peer.host.as_str(), peer.port)),
    )
    .await
    {
        Ok(Ok(found)) => {
            let mut addresses: Vec<SocketAddr> = found.take(ADDRESSES).collect();
            addresses.sort();
            addresses.dedup();
            if addresses.is_empty() {
                Err("it has no address".to_owned())
            } else {
                Ok(addresses)
            }
        }
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer in {} s", PATIENCE.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(host: &str) -> PeerAddress {
        PeerAddress {
            host: host.to_owned(),
            port: 44_204,
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn literals_are_told_once_and_names_after_a_look_up() {
        let (sender, mut receiver) = mpsc::channel(8);
        let hurry = Notify::new();
        let peers = vec![peer("127.0.0.9"), peer("localhost")];
        let told = async {
            let first = receiver.recv().await.unwrap();
            let second = receiver.recv().await.unwrap();
            (first, second)
        };
        tokio::select! {
            () = resolve(peers, sender, &hurry) => unreachable!("a name is resolved for ever"),
            (first, second) = told => {
                let literal = "127.0.0.9:44204".parse().unwrap();
                assert_eq!(first, Resolved { peer: 0, addresses: Ok(vec![literal]) });
                assert_eq!(second.peer, 1);
                assert!(second.addresses.unwrap().iter().all(|a| a.ip().is_loopback()));
            }
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn with_literals_alone_the_task_ends() {
        let (sender, mut receiver) = mpsc::channel(8);
        resolve(vec![peer("::1")], sender, &Notify::new()).await;
        assert_eq!(receiver.recv().await.unwrap().peer, 0);
        assert_eq!(receiver.recv().await, None);
    }
}
