#!/usr/bin/env bash
# A gossip program that knows nothing of us talks over the mesh: the `chat` example of the published
# crate iroh-gossip, on two nodes that have no way to each other but a third node.
#
#   a ==== b ==== c        a daemon each, TUN; chat runs on a (open) and on c (join), --no-relay
#
# Claim: a line typed on either side arrives on the other. Counter-claim: neither a nor c reaches
# the other's address below the mesh, and both devices have carried packets.
#
# Needs root, iproute2, ping (iputils) and cargo; installs nothing on the machine. The crate is
# fetched from the registry once and built into CACHE_DIR, never into this workspace, with one job
# and at low priority: its lock file names 480 packages, so leave it time, and run again to go on
# where it stopped. A run with the crate built takes half a minute and needs no Internet: the ticket
# that chat prints carries its addresses, the one in the mesh among them.
set -euo pipefail
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"
cd "$(dirname "$0")/.."

readonly CRATE=iroh-gossip VERSION=0.101.0
readonly READY_SECONDS=10  # for a daemon, for the first ping and for a chat to open
readonly JOIN_SECONDS=30   # to find each other; the program first tries what it cannot reach
readonly LINE_SECONDS=10   # for a line to arrive

usage() {
    cat <<TEXT
Usage: tests/gossip.sh [--binary FILE] [CACHE_DIR]
  --binary FILE   use this floodmesh instead of building one
  CACHE_DIR       where the crate is built and kept [default: ~/.cache/floodmesh-gossip]
TEXT
}

binary= cache=
while [ $# -gt 0 ]; do
    case "$1" in
        --binary) binary=${2:?--binary needs a file}; shift 2 ;;
        -h|--help) usage; exit 0 ;;
        -*) usage >&2; exit 2 ;;
        *) [ -z "$cache" ] || { usage >&2; exit 2; }; cache=$1; shift ;;
    esac
done
cache=$(realpath -m "${cache:-${XDG_CACHE_HOME:-$HOME/.cache}/floodmesh-gossip}")

missing=()
[ "$(id -u)" -eq 0 ] || missing+=("root (network namespaces, the TUN device)")
[ -c /dev/net/tun ] || missing+=("/dev/net/tun")
command -v ip >/dev/null || missing+=("ip (package iproute2)")
command -v ping >/dev/null || missing+=("ping (package iputils-ping)")
command -v cargo >/dev/null || missing+=("cargo")
if [ ${#missing[@]} -gt 0 ]; then
    printf 'gossip: missing: %s\n' "${missing[@]}" >&2
    exit 2
fi

# -- the programs -------------------------------------------------------------------------------
chat=$cache/bin/chat
if ! [ -x "$chat" ] || ! grep -qsF "\"$CRATE $VERSION " "$cache/.crates.toml"; then
    # From a folder of its own: no setting of this workspace shall reach it.
    mkdir -p "$cache"
    (cd "$cache" && CARGO_PROFILE_DEV_DEBUG=0 CARGO_TARGET_DIR="$cache/target" nice -n 10 \
        cargo install "$CRATE" --version "$VERSION" --locked --debug --force -j1 \
        --example chat --features examples --root "$cache")
fi
if [ -z "$binary" ]; then
    cargo build --locked -p floodmesh
    binary=${CARGO_TARGET_DIR:-target}/debug/floodmesh
fi
binary=$(realpath "$binary")

# -- the namespaces -----------------------------------------------------------------------------
directory=$(mktemp -d)
pids=() namespaces=()

clean_up() {
    local pid namespace
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
    for namespace in "${namespaces[@]}"; do ip netns del "$namespace" 2>/dev/null || true; done
    rm -rf "$directory"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

fail() {
    echo "FAIL: $1"
    local log
    for log in "$directory"/*.log; do
        [ -s "$log" ] || continue
        echo "-- the last lines of $(basename "$log" .log)"
        tail -n 20 "$log"
    done
    exit 1
}

within() { # NODE COMMAND...
    local node=$1
    shift
    ip netns exec "fmgossip-$$-$node" "$@"
}

await() { # WHAT FILE PATTERN SECONDS
    local tries
    for tries in $(seq $(($4 * 10))); do
        ! grep -q -- "$3" "$2" || return 0
        sleep 0.1
    done
    fail "$1: not within $4 s ($tries looks)"
}

for node in a b c; do
    ip netns add "fmgossip-$$-$node"
    namespaces+=("fmgossip-$$-$node")
    within "$node" ip link set lo up
    # What passes b shall pass its daemon.
    within "$node" sh -c 'echo 0 > /proc/sys/net/ipv4/ip_forward'
done

# Lays a veth between two nodes: .1 at the first, .2 at the second, which is also the way out.
add_wire() { # NODE NODE NETWORK
    ip -n "fmgossip-$$-$1" link add "to-$2" type veth peer name "to-$1" netns "fmgossip-$$-$2"
    ip -n "fmgossip-$$-$1" address add "$3.1/30" dev "to-$2"
    ip -n "fmgossip-$$-$2" address add "$3.2/30" dev "to-$1"
    ip -n "fmgossip-$$-$1" link set "to-$2" up
    ip -n "fmgossip-$$-$2" link set "to-$1" up
}
add_wire a b 198.18.0
add_wire b c 198.18.1
# A default route each, as a real machine has: that they do not reach each other is not for want of
# trying.
ip -n "fmgossip-$$-a" route add default via 198.18.0.2
ip -n "fmgossip-$$-c" route add default via 198.18.1.1

add_daemon() { # NODE NETID FLAGS...
    local node=$1 netid=$2
    shift 2
    ip netns exec "fmgossip-$$-$node" "$binary" up --plain --name "$node" --netid "$netid" \
        --listen 0.0.0.0:44204 --mode tun --dev mesh0 --address "10.77.0.$netid/24" \
        --state-dir "$directory/$node" --control "$directory/$node.sock" "$@" \
        >"$directory/$node.log" 2>&1 &
    pids+=($!)
    await "the daemon of $node is ready" "$directory/$node.log" '^ready:' "$READY_SECONDS"
}
add_daemon b 2
add_daemon a 1 --peer 198.18.0.2
add_daemon c 3 --peer 198.18.1.1

for tries in $(seq $((READY_SECONDS * 10))); do
    ! within a ping -c 1 -W 1 -q 10.77.0.3 >/dev/null 2>&1 || break
    [ "$tries" -lt $((READY_SECONDS * 10)) ] || fail "a does not reach c over the mesh"
    sleep 0.1
done
! within c ping -c 2 -i 0.2 -W 1 -q 198.18.0.1 >/dev/null 2>&1 || fail "c reaches a below the mesh"
! within a ping -c 2 -i 0.2 -W 1 -q 198.18.1.2 >/dev/null 2>&1 || fail "a reaches c below the mesh"
echo "a and c reach each other over the mesh and in no other way"

# -- the chat -----------------------------------------------------------------------------------
# Its input stays open: at the end of its input the program would send empty lines for ever.
start_chat() { # NODE NAME FLAGS...
    local node=$1 name=$2
    shift 2
    mkfifo "$directory/$node.in"
    ip netns exec "fmgossip-$$-$node" "$chat" --no-relay --name "$name" "$@" \
        <>"$directory/$node.in" >"$directory/chat-$node.log" 2>&1 &
    pids+=($!)
}

carried() { within "$1" cat "/proc/net/dev" | awk '$1 == "mesh0:" { print $3 + $11 }'; }

say() { # FROM TO TEXT
    echo "$3" >"$directory/$1.in"
    await "a line from $1 to $2" "$directory/chat-$2.log" ": $3\$" "$LINE_SECONDS"
    echo "$1 -> $2: $(grep -- ": $3\$" "$directory/chat-$2.log" | head -n 1)"
}

before_a=$(carried a) before_c=$(carried c)
start_chat a alice open
await "chat opens on a" "$directory/chat-a.log" '^> ticket to join us: ' "$READY_SECONDS"
ticket=$(sed -n 's/^> ticket to join us: //p' "$directory/chat-a.log")
start_chat c carol join "$ticket"
for node in a c; do
    await "chat on $node is connected" "$directory/chat-$node.log" '^> connected!' "$JOIN_SECONDS"
done
say a c "this line goes from a to c by way of b"
say c a "and this one from c to a"

for node in a c; do
    before="before_$node"
    packets=$(($(carried "$node") - ${!before}))
    [ "$packets" -gt 0 ] || fail "mesh0 of $node has carried nothing"
    echo "mesh0 of $node has carried $packets packets"
done
echo "PASS: $CRATE $VERSION chat, a and c joined over floodmesh by way of b"
