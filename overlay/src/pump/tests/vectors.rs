//! Reads `tests/vectors/forwarding.txt`: every datagram is judged, delivered and forwarded as it
//! says. `tests/vectors/README.md` explains the fields.

use super::*;

const VECTORS: &str = include_str!("../../../../tests/vectors/forwarding.txt");

/// `key: value` of one block, in order; `line` is where the block begins.
struct Block {
    line: usize,
    fields: Vec<(&'static str, &'static str)>,
}

impl Block {
    fn all(&self, key: &str) -> impl Iterator<Item = &'static str> {
        let fields = self.fields.iter();
        let named = fields.filter(move |(name, _)| *name == key);
        named.map(|(_, value)| *value)
    }

    fn get(&self, key: &str) -> Option<&'static str> {
        self.all(key).next()
    }
}

fn blocks() -> Vec<Block> {
    let mut blocks = vec![];
    let mut fresh = true;
    for (number, line) in VECTORS.lines().enumerate() {
        if line.starts_with('#') {
            continue;
        }
        let Some((key, value)) = line.split_once(": ") else {
            assert!(line.is_empty(), "line {}: {line}", number + 1);
            fresh = true;
            continue;
        };
        if std::mem::take(&mut fresh) {
            let (line, fields) = (number + 1, vec![]);
            blocks.push(Block { line, fields });
        }
        blocks.last_mut().unwrap().fields.push((key, value));
    }
    blocks
}

fn bytes(hex: &str) -> Vec<u8> {
    let hex: String = hex.split(' ').collect();
    let pair = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(pair).collect()
}

fn netid(text: &str) -> NetId {
    NetId(u32::from_str_radix(text, 16).unwrap())
}

fn at(endpoint: &str) -> Path {
    Path::to(Endpoint::new(SocketId(0), endpoint.parse().unwrap()))
}

/// The node of the scene, and its time.
struct Stage {
    flood: Flood,
    neighbors: NeighborSet,
    pump: Pump,
    now: Instant,
}

impl Stage {
    /// Shape: the block with `node` and `link`.
    fn new(scene: &Block, uptime: u64) -> Self {
        let mut links: Vec<LinkEntry> = Vec::new();
        for (index, link) in scene.all("link").enumerate() {
            let (name, endpoint) = link.split_once(' ').unwrap();
            let netid = netid(name);
            let known = links.iter().find(|link| link.netid == netid);
            let next = links.last().map_or(0, |last| last.neighbor + 1);
            links.push(LinkEntry {
                open: false,
                id: LinkId(index as u32),
                netid,
                neighbor: known.map_or(next, |link| link.neighbor),
                path: at(endpoint),
                stats: Arc::default(),
            });
        }
        let seen = SeenConfig {
            start_bytes: 64 << 10,
            memory_bytes: 64 << 10,
        };
        let hasher = MessageHasher::new(Algorithm::default(), [1, 2, 3, 4]);
        let us = netid(scene.get("node").unwrap());
        let started = Instant::from_secs(1_000);
        Self {
            flood: Flood::new(us, hasher, seen, started),
            neighbors: NeighborSet::new(links, [], KeyedHasher(1, 2)),
            pump: Pump::default(),
            now: started + crate::time::Duration::from_secs(uptime),
        }
    }

    fn before(&mut self, event: &str) {
        match event.split_once(' ').unwrap() {
            ("wait", seconds) => {
                let seconds = seconds.parse().unwrap();
                self.now = self.now + crate::time::Duration::from_secs(seconds);
            }
            ("sent", hex) => assert!(self.flood.enter(self.now, &bytes(hex))),
            ("full", name) => self.fill(netid(name)),
            (endpoint, hex) => {
                self.receive(at(endpoint), &bytes(hex));
            }
        }
    }

    /// A neighbor sends new messages until the next one is refused.
    fn fill(&mut self, neighbor: NetId) {
        let links = self.neighbors.links();
        let link = links.iter().find(|link| link.netid == neighbor).unwrap();
        let refused = (0..100_000_u32).any(|nonce| {
            let mut message = datagram(0x10, 0, 0, 0x99, 0x98, &nonce.to_be_bytes());
            message.push(0xEE);
            let verdict = self.flood.judge(self.now, Some(link.neighbor), &message);
            verdict == Verdict::Drop(DropReason::SeenFull)
        });
        assert!(refused);
    }

    /// What becomes of one datagram, in the words of the file: the lines behind `hex`.
    fn receive(&mut self, path: Path, datagram: &[u8]) -> Vec<(&'static str, String)> {
        let counters = Counters::default();
        let (mut rx, mut tx) = (RxBatch::default(), TxBatch::default());
        let len = datagram.len();
        rx.arena_mut()[..len].copy_from_slice(datagram);
        rx.push(RxMessage {
            span: Span {
                start: 0,
                len: len as u32,
            },
            stride: len as u32,
            path,
            interface: 3,
            truncated: false,
            alone: false,
        });
        let scene = Scene {
            flood: &self.flood,
            neighbors: &self.neighbors,
            counters: &counters,
            device_index: DEVICE,
        };
        let mut notes = Notes::default();
        self.pump.receive(self.now, scene, &rx, &mut tx, &mut notes);
        let reasons = JUDGED.into_iter();
        let mut dropped = reasons.filter(|&reason| counters.dropped(reason) > 0);
        if let Some(reason) = dropped.next() {
            assert_eq!(dropped.next(), None, "one reason");
            assert!(tx.is_empty(), "what is dropped is not forwarded");
            return vec![("drop", reason.name().to_owned())];
        }
        let process = match &notes.got[..] {
            [] if counters.dropped(DropReason::UnknownService) == 1 => "no service",
            [] => "nobody",
            [Got::Device(..)] => "device",
            [Got::Service(..)] => "directory",
            [Got::Control(arrival, whole)] if !arrival.duplicate && whole == datagram => "control",
            other => panic!("{other:?}"),
        };
        let mut forward = Vec::new();
        for item in tx.items() {
            assert_eq!(item.span.of(rx.arena()), datagram, "unaltered");
            let links = self.neighbors.except(item.except);
            forward.extend(links.map(|(_, link)| link.path.endpoint.to_string()));
        }
        if forward.is_empty() {
            forward.push("nobody".to_owned());
        }
        vec![
            ("process", process.to_owned()),
            ("forward", forward.join(" ")),
        ]
    }
}

#[test]
fn every_forwarding_vector_is_decided_as_it_says_and_every_reason_has_one() {
    let blocks = blocks();
    let (scene, vectors) = blocks.split_first().unwrap();
    let mut names = Vec::new();
    let mut reasons = Vec::new();
    for vector in vectors {
        let name = vector.get("name").unwrap();
        let uptime = vector
            .get("uptime")
            .map_or(100, |text| text.parse().unwrap());
        let mut stage = Stage::new(scene, uptime);
        for event in vector.all("before") {
            stage.before(event);
        }
        let datagram = bytes(vector.get("hex").unwrap());
        let found = stage.receive(at(vector.get("from").unwrap()), &datagram);
        let outcome = ["drop", "process", "forward"];
        let outcome = outcome
            .into_iter()
            .filter_map(|key| Some((key, vector.get(key)?.to_owned())));
        let expected: Vec<_> = outcome.collect();
        assert_eq!(found, expected, "line {}: {name}", vector.line);
        names.push(name);
        reasons.extend(vector.get("drop"));
    }
    assert!(names.len() >= 80, "only {} vectors found", names.len());
    for reason in JUDGED {
        assert!(reasons.contains(&reason.name()), "no vector: {reason:?}");
    }
    names.sort_unstable();
    let twice = names.windows(2).find(|pair| pair[0] == pair[1]);
    assert_eq!(twice, None);
}
