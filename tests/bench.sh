#!/usr/bin/env bash
# Throughput and delay of the real daemon in network namespaces, against the bare wire between them.
#
#   raw    r1 ---- r2               one veth, no daemon: what the kernel can do here
#   pair   p1 ==== p2               one daemon each, TUN
#   line   l1 ==== l2 ==== l3       the middle one relays (mode none); l1 and l3 have no other way
#
# Needs root, iproute2, iperf3 and ping (iputils), and cargo unless a binary is given; installs
# nothing. Every namespace is its own, is named with this process's id and goes at the end; the
# only addresses are those below, and nothing leaves the namespaces.
#
# Rounds are interleaved (raw, pair, line; raw, pair, line; ...) so that other load on the machine
# meets all three alike. Ratios are taken within a round. Ends within 4 minutes, building left out:
# rounds that would take longer are not begun.
set -euo pipefail
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"
cd "$(dirname "$0")/.."

# -- what is measured ---------------------------------------------------------------------------
readonly TCP_SECONDS=5
readonly UDP_SECONDS=1  # of each rung of the ladder
readonly MAX_LOSS=1.0  # percent, for a rung to count
readonly LADDER="0.9 0.7 0.5 0.3 0.1"  # of what arrived when sent without a limit
readonly SMALL=64 FULL=1372  # UDP payload in bytes; FULL fills the device's MTU of 1400
readonly PINGS=1000 PING_INTERVAL=0.002
readonly BUDGET=225  # seconds for all rounds together

usage() {
    cat <<TEXT
Usage: tests/bench.sh [--rounds N] [--binary FILE]
  --rounds N      rounds of raw, pair and line [default: 3]
  --binary FILE   measure this floodmesh instead of building one
TEXT
}

rounds=3 binary=
while [ $# -gt 0 ]; do
    case "$1" in
        --rounds) rounds=${2:?--rounds needs a number}; shift 2 ;;
        --binary) binary=${2:?--binary needs a file}; shift 2 ;;
        -h|--help) usage; exit 0 ;;
        *) usage >&2; exit 2 ;;
    esac
done
case "$rounds" in ''|*[!0-9]*|0) echo "--rounds needs a number from 1" >&2; exit 2 ;; esac

missing=()
[ "$(id -u)" -eq 0 ] || missing+=("root (network namespaces, the TUN device, ping every 2 ms)")
[ -c /dev/net/tun ] || missing+=("/dev/net/tun")
command -v ip >/dev/null || missing+=("ip (package iproute2)")
command -v iperf3 >/dev/null || missing+=("iperf3")
command -v ping >/dev/null || missing+=("ping (package iputils-ping)")
[ -n "$binary" ] || command -v cargo >/dev/null || missing+=("cargo, or --binary FILE")
if [ ${#missing[@]} -gt 0 ]; then
    printf 'bench: missing: %s\n' "${missing[@]}" >&2
    exit 2
fi

if [ -z "$binary" ]; then
    cargo build --release --locked -p floodmesh
    binary=${CARGO_TARGET_DIR:-target}/release/floodmesh
fi
binary=$(realpath "$binary")

# -- the namespaces -----------------------------------------------------------------------------
directory=$(mktemp -d)
results=$directory/results
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
    echo "bench: $1" >&2
    [ -z "${2:-}" ] || tail -n 20 "$2" >&2
    exit 1
}

within() { # NODE COMMAND...
    local node=$1
    shift
    ip netns exec "fmbench-$$-$node" "$@"
}

add_node() { # NODE
    ip netns add "fmbench-$$-$1"
    namespaces+=("fmbench-$$-$1")
    within "$1" ip link set lo up
}

# Lays a veth of MTU 1500 between two nodes: .1 at the first, .2 at the second.
add_wire() { # NODE NODE NETWORK
    ip -n "fmbench-$$-$1" link add "to-$2" mtu 1500 type veth \
        peer name "to-$1" mtu 1500 netns "fmbench-$$-$2"
    ip -n "fmbench-$$-$1" address add "$3.1/30" dev "to-$2"
    ip -n "fmbench-$$-$2" address add "$3.2/30" dev "to-$1"
    ip -n "fmbench-$$-$1" link set "to-$2" up
    ip -n "fmbench-$$-$2" link set "to-$1" up
}

# Starts a daemon and waits until it says that it runs.
declare -A daemon
add_daemon() { # NODE NETID FLAGS...
    local node=$1 netid=$2 log=$directory/$1.log
    shift 2
    # Not through `within`: the number must be the daemon's, not that of a shell around it.
    ip netns exec "fmbench-$$-$node" "$binary" up --plain --name "$node" --netid "$netid" --listen 0.0.0.0:44204 \
        --log warn --state-dir "$directory/$node" --control "$directory/$node.sock" "$@" \
        >"$log" 2>&1 &
    daemon[$node]=$!
    pids+=($!)
    local tries
    for tries in $(seq 100); do
        grep -q '^ready:' "$log" && return
        kill -0 "${daemon[$node]}" 2>/dev/null || break
        sleep 0.1
    done
    fail "the daemon of $node is not ready after $tries looks" "$log"
}

# Waits for the first answer, then serves iperf3 at the far end.
await_path() { # FROM TO ADDRESS
    local tries
    for tries in $(seq 100); do
        within "$1" ping -c 1 -W 1 -q "$3" >/dev/null 2>&1 && break
        [ "$tries" -lt 100 ] || fail "$1 does not reach $3" "$directory/$1.log"
        sleep 0.1
    done
    ip netns exec "fmbench-$$-$2" iperf3 --server --bind "$3" >"$directory/$2.iperf" 2>&1 &
    pids+=($!)
}

for node in r1 r2 p1 p2 l1 l2 l3; do add_node "$node"; done
add_wire r1 r2 198.18.0
add_wire p1 p2 198.18.1
add_wire l1 l2 198.18.2
add_wire l2 l3 198.18.3
add_daemon p1 11 --dev mesh0 --address 198.19.1.1/24
add_daemon p2 12 --dev mesh0 --address 198.19.1.2/24 --peer 198.18.1.1
add_daemon l2 22 --mode none
add_daemon l1 21 --dev mesh0 --address 198.19.2.1/24 --peer 198.18.2.2
add_daemon l3 23 --dev mesh0 --address 198.19.2.3/24 --peer 198.18.3.1

declare -A from=([raw]=r1 [pair]=p1 [line]=l1)
declare -A to=([raw]=r2 [pair]=p2 [line]=l3)
declare -A address=([raw]=198.18.0.2 [pair]=198.19.1.2 [line]=198.19.2.3)
declare -A daemons=([raw]="" [pair]="p1 p2" [line]="l1 l2 l3")
for kind in raw pair line; do await_path "${from[$kind]}" "${to[$kind]}" "${address[$kind]}"; done

# -- measuring ----------------------------------------------------------------------------------
note() { echo "$round $kind $1 $2" >>"$results"; }

# One number out of iperf3's JSON: the first KEY in the last part called SECTION.
field() { # FILE SECTION KEY
    awk -v section="\"$2\":" -v key="\"$3\":" '
        index($0, section) { inside = 1; value = "" }
        inside && value == "" && index($0, key) { value = $2; sub(/,$/, "", value); inside = 0 }
        END { if (value == "") exit 1; print value }' "$1"
}

# Seconds of CPU that the daemons of this kind have used, of all their threads.
cpu() {
    local node total=0 stat words
    for node in ${daemons[$kind]}; do
        stat=$(<"/proc/${daemon[$node]}/stat")
        # After the name in brackets: user and system time are the 12th and 13th word.
        read -r -a words <<<"${stat##*) }"
        total=$((total + words[11] + words[12]))
    done
    awk -v ticks="$total" -v rate="$(getconf CLK_TCK)" 'BEGIN { print ticks / rate }'
}

client() { # FILE FLAGS...
    local file=$1
    shift
    # Right after a test the server may still be closing the last one.
    for _ in 1 2 3; do
        timeout 20 ip netns exec "fmbench-$$-${from[$kind]}" \
            iperf3 --client "${address[$kind]}" --json "$@" >"$file" 2>&1 && return
        sleep 0.3
    done
    fail "iperf3 failed on $kind" "$file"
}

measure_tcp() {
    local file=$directory/tcp before after
    before=$(cpu)
    client "$file" --time "$TCP_SECONDS"
    after=$(cpu)
    note tcp "$(awk -v bits="$(field "$file" sum_received bits_per_second)" 'BEGIN { print bits / 1e9 }')"
    [ -n "${daemons[$kind]}" ] || return 0
    note cpu "$(awk -v before="$before" -v after="$after" \
        -v bytes="$(field "$file" sum_received bytes)" \
        'BEGIN { print (after - before) / (bytes / 1073741824) }')"
}

# Sends at RATE packets/s (0: no limit). Leaves what arrived, in packets/s, and the loss in percent
# in `arrived` and `loss`.
rung() { # SIZE RATE
    local file=$directory/udp bits sent lost seconds
    bits=$(awk -v size="$1" -v rate="$2" 'BEGIN { printf "%d", rate * size * 8 }')
    client "$file" --udp --time "$UDP_SECONDS" --length "$1" --bitrate "$bits"
    sent=$(field "$file" sum packets)
    lost=$(field "$file" sum lost_packets)
    seconds=$(field "$file" sum seconds)
    arrived=$(awk -v n="$((sent - lost))" -v s="$seconds" 'BEGIN { print n / s }')
    loss=$(awk -v sent="$sent" -v lost="$lost" 'BEGIN { print sent ? 100 * lost / sent : 100 }')
}

tolerable() { awk -v loss="$loss" -v most="$MAX_LOSS" 'BEGIN { exit !(loss < most) }'; }

# What arrives when sent without a limit, and the highest rate of the ladder that loses less than
# MAX_LOSS; none when no rung does, as on a machine whose receiver often has to wait for a core.
measure_udp() { # SIZE
    local arrived loss top share
    rung "$1" 0
    top=$arrived
    note "flood$1" "$(awk -v rate="$top" 'BEGIN { print rate / 1000 }')"
    for share in $LADDER; do
        ! tolerable || break
        rung "$1" "$(awk -v top="$top" -v share="$share" 'BEGIN { print top * share }')"
    done
    tolerable || return 0
    note "udp$1" "$(awk -v rate="$arrived" 'BEGIN { print rate / 1000 }')"
}

measure_ping() {
    local times average p50 p99 count
    times=$(within "${from[$kind]}" timeout 20 ping -c "$PINGS" -i "$PING_INTERVAL" "${address[$kind]}" |
        sed -n 's/.* time=\([0-9.]*\) ms$/\1/p' | sort -n) || fail "ping failed on $kind"
    read -r average p50 p99 count <<<"$(awk '{ all += $1; at[NR] = $1 }
        END { print 1000 * all / NR, 1000 * at[int(NR * 0.5) + 1], 1000 * at[int(NR * 0.99) + 1], NR }' <<<"$times")"
    note ping_avg "$average"
    note ping_p50 "$p50"
    note ping_p99 "$p99"
    note ping_lost "$((PINGS - count))"
}

# The largest daemon, in MiB.
measure_memory() {
    local node
    for node in ${daemons[$kind]}; do
        awk '/^VmRSS:/ { print $2 / 1024 }' "/proc/${daemon[$node]}/status"
    done | sort -n | tail -n 1 | while read -r rss; do note rss "$rss"; done
}

began=$SECONDS longest=0 done_rounds=0
for round in $(seq "$rounds"); do
    if [ $((SECONDS - began + longest)) -gt "$BUDGET" ]; then
        echo "bench: $done_rounds of $rounds rounds: the next would take too long" >&2
        break
    fi
    started=$SECONDS
    for kind in raw pair line; do
        echo "round $round of $rounds: $kind (load $(cut -d ' ' -f 1 /proc/loadavg))" >&2
        measure_ping
        measure_tcp
        measure_udp "$SMALL"
        measure_udp "$FULL"
        measure_memory
    done
    [ $((SECONDS - started)) -le "$longest" ] || longest=$((SECONDS - started))
    done_rounds=$round
done

# -- the table ----------------------------------------------------------------------------------
echo "machine: $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), $(nproc) cores, Linux $(uname -r)"
echo "$("$binary" --version 2>/dev/null || echo floodmesh), $(iperf3 --version | head -n 1 | cut -d ' ' -f 1,2), $done_rounds rounds"
echo "median [smallest-largest]; the ratio is the median of each round's own ratio to raw"
echo
awk '
    function median(list, n,   i, j, swap) {
        for (i = 1; i < n; i++) for (j = i + 1; j <= n; j++)
            if (list[j] + 0 < list[i] + 0) { swap = list[i]; list[i] = list[j]; list[j] = swap }
        return n % 2 ? list[(n + 1) / 2] : (list[n / 2] + list[n / 2 + 1]) / 2
    }
    function number(x) { return sprintf(x >= 100 ? "%.0f" : x >= 10 ? "%.1f" : "%.2f", x) }
    function cell(kind, metric,   n, r, list, middle) {
        for (r = 1; r <= rounds; r++) if ((r, kind, metric) in value) list[++n] = value[r, kind, metric]
        if (!n) return "-"
        middle = median(list, n)
        return number(middle) " [" number(list[1]) "-" number(list[n]) "]"
    }
    function ratio(kind, metric,   n, r, list) {
        for (r = 1; r <= rounds; r++)
            if ((r, kind, metric) in value && value[r, "raw", metric] > 0)
                list[++n] = value[r, kind, metric] / value[r, "raw", metric]
        return n ? sprintf("%.3f", median(list, n)) : "-"
    }
    function row(title, metric) {
        printf "| %-29s | %-21s | %-21s | %-6s | %-21s | %-6s |\n", title, cell("raw", metric),
            cell("pair", metric), ratio("pair", metric), cell("line", metric), ratio("line", metric)
    }
    { value[$1, $2, $3] = $4; if ($1 > rounds) rounds = $1 }
    END {
        printf "| %-29s | %-21s | %-21s | %-6s | %-21s | %-6s |\n", "", "raw veth", "pair", "x raw", "line of 3", "x raw"
        print "|---|---|---|---|---|---|"
        row("TCP, 1 stream, Gbit/s", "tcp")
        row("UDP 64 B, kpps, loss < 1 %", "udp64")
        row("UDP 64 B, kpps, no limit", "flood64")
        row("UDP 1372 B, kpps, loss < 1 %", "udp1372")
        row("UDP 1372 B, kpps, no limit", "flood1372")
        row("ping average, us", "ping_avg")
        row("ping p50, us", "ping_p50")
        row("ping p99, us", "ping_p99")
        row("pings lost of 1000", "ping_lost")
        row("daemons, CPU s per GiB of TCP", "cpu")
        row("largest daemon, MiB resident", "rss")
    }' "$results"
