use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::listen::{ControlSocket, ListenError};
use super::server::{CLIENTS, IDLE, serve};
use super::{AdminRequest, REQUEST_LIMIT, Reply, Verb};
use crate::daemon::report::{NodesReport, PingMissed, PingSummary};

/// Runs `test` beside a server with a fake driver; no test takes longer than its limit.
fn with_server<F: Future<Output = ()>>(test: impl FnOnce(PathBuf) -> F) {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("run/m.sock");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let socket = ControlSocket::open(&path).unwrap();
        let (requests, driver) = mpsc::channel::<AdminRequest>(4);
        tokio::select! {
            served = serve(&socket, requests) => panic!("server ended: {served:?}"),
            () = drive(driver) => panic!("driver ended"),
            done = timeout(Duration::from_secs(30), test(path.clone())) => done.unwrap(),
        }
    });
}

/// Answers nodes with none, and a ping with one miss per question; ignores counters.
async fn drive(mut requests: mpsc::Receiver<AdminRequest>) {
    while let Some(AdminRequest { verb, replies }) = requests.recv().await {
        match verb {
            Verb::Nodes => replies
                .try_send(Reply::Nodes(NodesReport::default()))
                .unwrap(),
            Verb::Ping(ping) => {
                for sequence in 1..=ping.count.min(60) {
                    replies
                        .try_send(Reply::Missed(PingMissed { sequence }))
                        .unwrap();
                }
                let summary = PingSummary {
                    target: ping.target,
                    sent: ping.count,
                    answered: 0,
                    nodes: 0,
                    rtt_min_us: None,
                    rtt_mean_us: None,
                    rtt_max_us: None,
                };
                replies.try_send(Reply::Summary(summary)).unwrap();
            }
            _ => drop(replies),
        }
    }
}

/// Sends bytes and returns everything up to the end of the stream.
async fn exchange(path: &Path, request: &[u8]) -> String {
    let mut client = UnixStream::connect(path).await.unwrap();
    client.write_all(request).await.unwrap();
    let mut answer = String::new();
    client.shutdown().await.unwrap();
    client.read_to_string(&mut answer).await.unwrap();
    answer
}

#[test]
fn requests_are_answered_in_order_on_one_connection() {
    with_server(|path| async move {
        let mut client = UnixStream::connect(&path).await.unwrap();
        // Two at once: the second waits until the first is answered.
        client
            .write_all(
                b"{\"ping\":{\"target\":\"2a\",\"count\":2,\"interval_ms\":1000}}\n\"nodes\"\n",
            )
            .await
            .unwrap();
        let expected = "{\"missed\":{\"sequence\":1}}\n{\"missed\":{\"sequence\":2}}\n\
            {\"summary\":{\"target\":\"2a\",\"sent\":2,\"answered\":0,\"nodes\":0,\
            \"rtt_min_us\":null,\"rtt_mean_us\":null,\"rtt_max_us\":null}}\n\
            {\"nodes\":{\"nodes\":[]}}\n";
        let mut answer = vec![0; expected.len()];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(String::from_utf8(answer).unwrap(), expected);
    });
}

#[test]
fn a_driver_that_gives_no_answer_is_told_to_the_client() {
    with_server(|path| async move {
        let mut client = UnixStream::connect(&path).await.unwrap();
        client.write_all(b"\"counters\"\n").await.unwrap();
        let mut answer = [0; 64];
        let len = client.read(&mut answer).await.unwrap();
        assert!(
            answer[..len].starts_with(b"{\"refused\":{\"problem\":\"the node gave no answer\"")
        );
    });
}

#[test]
fn what_is_not_understood_is_refused() {
    with_server(|path| async move {
        for request in [
            "\"shutdown\"\n",
            "nonsense\n",
            "{\"ping\":{\"target\":\"/etc/passwd\",\"count\":1,\"interval_ms\":1000}}\n",
            "{\"ping\":{\"target\":\"2a\",\"count\":0,\"interval_ms\":1000}}\n",
            "{\"ping\":{\"target\":\"2a\",\"count\":1,\"interval_ms\":1000,\"file\":\"x\"}}\n",
        ] {
            let answer = exchange(&path, request.as_bytes()).await;
            assert!(answer.starts_with("{\"refused\":"), "{request}: {answer}");
        }
    });
}

#[test]
fn a_request_may_have_64_kib_and_no_more() {
    with_server(|path| async move {
        let mut request = vec![b' '; REQUEST_LIMIT];
        request[..7].copy_from_slice(b"\"nodes\"");
        request[REQUEST_LIMIT - 1] = b'\n';
        let mut client = UnixStream::connect(&path).await.unwrap();
        client.write_all(&request).await.unwrap();
        let mut answer = [0; 8];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"{\"nodes\"");

        request.insert(7, b' ');
        let mut client = UnixStream::connect(&path).await.unwrap();
        client.write_all(&request).await.unwrap();
        let mut answer = [0; 47];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(
            &answer,
            b"{\"refused\":{\"problem\":\"the request is too long\""
        );
    });
}

#[test]
fn the_seventeenth_client_is_refused_until_one_goes() {
    with_server(|path| async move {
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            let mut client = UnixStream::connect(&path).await.unwrap();
            client.write_all(b"\"nodes\"\n").await.unwrap();
            let mut answer = [0; 22];
            client.read_exact(&mut answer).await.unwrap();
            clients.push(client);
        }
        let mut late = UnixStream::connect(&path).await.unwrap();
        let mut answer = String::new();
        late.read_to_string(&mut answer).await.unwrap();
        assert!(answer.contains("16 others are asking already"), "{answer}");
        drop(clients.pop());
        // Its place is free once the server has seen the end of its stream.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let mut next = UnixStream::connect(&path).await.unwrap();
        next.write_all(b"\"nodes\"\n").await.unwrap();
        let mut answer = [0; 8];
        next.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"{\"nodes\"");
    });
}

#[test]
fn a_silent_client_is_sent_away() {
    with_server(|path| async move {
        let started = std::time::Instant::now();
        let mut client = UnixStream::connect(&path).await.unwrap();
        client.write_all(b"\"nod").await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "");
        assert!(started.elapsed() >= IDLE, "{:?}", started.elapsed());
    });
}

#[test]
fn a_client_that_goes_ends_its_request() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("m.sock");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let socket = ControlSocket::open(&path).unwrap();
        let (requests, mut driver) = mpsc::channel::<AdminRequest>(4);
        let watch = async {
            let mut client = UnixStream::connect(&path).await.unwrap();
            client.write_all(b"\"counters\"\n").await.unwrap();
            let request = driver.recv().await.unwrap();
            assert!(!request.replies.is_closed());
            drop(client);
            timeout(Duration::from_secs(5), request.replies.closed())
                .await
                .unwrap();
        };
        tokio::select! {
            _ = serve(&socket, requests) => panic!("server ended"),
            () = watch => {}
        }
    });
}

#[test]
fn the_server_ends_with_its_driver() {
    let home = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let socket = ControlSocket::open(&home.path().join("m.sock")).unwrap();
        let (requests, driver) = mpsc::channel::<AdminRequest>(4);
        drop(driver);
        timeout(Duration::from_secs(5), serve(&socket, requests))
            .await
            .unwrap()
            .unwrap();
    });
}

#[test]
fn the_socket_is_for_owner_and_group_and_goes_with_the_daemon() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("run/m.sock");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let socket = ControlSocket::open(&path).unwrap();
    assert_eq!(mode(&path), 0o660);
    assert_eq!(mode(path.parent().unwrap()) & 0o027, 0o000);
    assert_eq!(
        std::fs::read_dir(path.parent().unwrap()).unwrap().count(),
        1
    );
    drop(socket);
    assert!(!path.exists());
}

#[test]
fn a_living_daemons_socket_is_kept_and_a_dead_ones_replaced() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("m.sock");
    let living = ControlSocket::open(&path).unwrap();
    assert!(matches!(
        ControlSocket::open(&path),
        Err(ListenError::AlreadyRuns(_))
    ));
    drop(living);
    // As after a kill: the file is there, nobody listens.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let replaced = ControlSocket::open(&path).unwrap();
    assert_eq!(replaced.path(), path);
}

#[test]
fn a_stopping_daemon_leaves_its_successors_socket_alone() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("m.sock");
    let first = ControlSocket::open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let second = ControlSocket::open(&path).unwrap();
    drop(first);
    assert!(path.exists());
    drop(second);
    assert!(!path.exists());
}

#[test]
fn what_is_no_socket_is_not_replaced() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("m.sock");
    std::fs::write(&path, "precious").unwrap();
    assert!(matches!(
        ControlSocket::open(&path),
        Err(ListenError::NoSocket(_))
    ));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    let long = home.path().join("x".repeat(120));
    assert!(matches!(
        ControlSocket::open(&long),
        Err(ListenError::TooLong(_))
    ));
}
