//! Serves the control socket: reads requests, checks them, passes replies on.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use nix::unistd::{Gid, Uid, User, geteuid, getgrouplist};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf, UCred};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{sleep, timeout};

use super::listen::ControlSocket;
use super::{AdminRequest, REPLIES, REQUEST_LIMIT, Reply, Verb};
use crate::daemon::args::PingTarget;

/// Clients served at once.
pub const CLIENTS: usize = 16;
/// How long a client may be silent between requests, and slow in taking a reply.
pub const IDLE: Duration = Duration::from_secs(5);
/// Pause after an accept that failed, as when all file descriptors are in use.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts clients until `requests` has no receiver any more.
///
/// # Errors
/// The socket cannot be watched by this runtime.
pub async fn serve(socket: &ControlSocket, requests: mpsc::Sender<AdminRequest>) -> io::Result<()> {
    let listener = UnixListener::from_std(socket.listener()?)?;
    let places = Arc::new(Semaphore::new(CLIENTS));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = requests.closed() => return Ok(()),
        };
        let client = match accepted {
            Ok((client, _)) => client,
            Err(error) => {
                tracing::debug!(%error, "control socket cannot accept");
                sleep(PAUSE).await;
                continue;
            }
        };
        let peer = client.peer_cred();
        let may_change = peer.as_ref().is_ok_and(may_change);
        let allowed = peer.is_ok_and(|peer| may_read(&peer, socket.owner));
        let (place, requests) = (Arc::clone(&places).try_acquire_owned(), requests.clone());
        tokio::spawn(async move {
            let refusal = match &place {
                _ if !allowed => Reply::refused(
                    "this user may not ask",
                    "ask as root, as the user the node runs as, or as a member of its group",
                ),
                Err(_) => Reply::refused(
                    format!("{CLIENTS} others are asking already"),
                    "try again in a moment",
                ),
                Ok(_) => {
                    converse(client, &requests, may_change).await;
                    return;
                }
            };
            let (_, mut writer) = client.into_split();
            let _ = write(&mut writer, &refusal).await;
        });
    }
}

/// Whether the process at the far end may read: root, the daemon's or the socket's user, and
/// members of the socket's group.
fn may_read(peer: &UCred, (user, group): (u32, u32)) -> bool {
    let uid = peer.uid();
    if uid == 0 || uid == geteuid().as_raw() || uid == user || peer.gid() == group {
        return true;
    }
    // The kernel tells the main group only; the others are in the user database.
    let Ok(Some(found)) = User::from_uid(Uid::from_raw(uid)) else {
        return false;
    };
    let Ok(name) = std::ffi::CString::new(found.name) else {
        return false;
    };
    getgrouplist(&name, found.gid).is_ok_and(|groups| groups.contains(&Gid::from_raw(group)))
}

/// Whether the process at the far end may change what the node does: root and the daemon's user.
fn may_change(peer: &UCred) -> bool {
    [0, geteuid().as_raw()].contains(&peer.uid())
}

/// Serves one client until it goes, is silent for too long, or does not take its replies.
async fn converse(client: UnixStream, requests: &mpsc::Sender<AdminRequest>, may_change: bool) {
    let (reader, mut writer) = client.into_split();
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    loop {
        let request = match timeout(IDLE, read_line(&mut reader, &mut line)).await {
            Ok(Ok(true)) => parse(&line),
            Ok(Ok(false)) | Err(_) => return,
            Ok(Err(_)) => {
                let refusal = Reply::refused("the request is too long", "send at most 64 KiB");
                let _ = write(&mut writer, &refusal).await;
                return;
            }
        };
        let done = match request {
            Ok(verb) if verb.changes() && !may_change => {
                let refusal = Reply::refused(
                    "this user may ask, and not change anything",
                    "try as root, or as the user the node runs as",
                );
                write(&mut writer, &refusal).await
            }
            Ok(verb) => answer(verb, requests, &mut reader, &mut writer).await,
            Err(refusal) => write(&mut writer, &refusal).await,
        };
        if done.is_err() {
            return;
        }
    }
}

/// Passes one request to the driver, and its replies to the client.
async fn answer(
    verb: Verb,
    requests: &mpsc::Sender<AdminRequest>,
    reader: &mut BufReader<OwnedReadHalf>,
    writer: &mut OwnedWriteHalf,
) -> io::Result<()> {
    let (sender, mut replies) = mpsc::channel(REPLIES);
    let request = AdminRequest {
        verb,
        replies: sender,
    };
    if requests.send(request).await.is_err() {
        return write(writer, &Reply::refused("the node is stopping", "")).await;
    }
    let mut pipelined = false;
    loop {
        let reply = tokio::select! {
            reply = replies.recv() => reply,
            // `fill_buf` loses nothing when it is dropped; what it finds is the next request.
            more = reader.fill_buf(), if !pipelined => {
                if more?.is_empty() {
                    // The client has gone, and with `replies` the driver notices.
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                pipelined = true;
                continue;
            }
        };
        let Some(reply) = reply else {
            return write(
                writer,
                &Reply::refused("the node gave no answer", "try again"),
            )
            .await;
        };
        write(writer, &reply).await?;
        if reply.is_last() {
            return Ok(());
        }
    }
}

/// Reads one line into `line`; false at the end of the stream.
async fn read_line(reader: &mut BufReader<OwnedReadHalf>, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    loop {
        let bytes = reader.fill_buf().await?;
        if bytes.is_empty() {
            return Ok(false);
        }
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(bytes.len(), |end| end + 1);
        if line.len() + taken > REQUEST_LIMIT {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        line.extend_from_slice(&bytes[..taken]);
        reader.consume(taken);
        if end.is_some() {
            return Ok(true);
        }
    }
}

/// Reads a request and judges what it carries.
fn parse(line: &[u8]) -> Result<Verb, Reply> {
    let verb: Verb = serde_json::from_slice(line).map_err(|error| {
        Reply::refused(
            format!("the request is not understood: {error}"),
            "is client and node of the same version?",
        )
    })?;
    if let Verb::Ping(ping) = &verb {
        let fine = ping.target.parse::<PingTarget>().is_ok()
            && (1..=100_000).contains(&ping.count)
            && (20..=3_600_000).contains(&ping.interval_ms);
        if !fine {
            return Err(Reply::refused("the ping is out of range", ""));
        }
    }
    Ok(verb)
}

/// Writes one reply as one line, or gives the client up.
async fn write(writer: &mut OwnedWriteHalf, reply: &Reply) -> io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    timeout(IDLE, writer.write_all(&line)).await?
}
