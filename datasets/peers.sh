#!/usr/bin/env bash
# Measures validation and its peers on the same file in one run:
#
#   bash datasets/peers.sh [RUNS]
#
# Writes a 64k set of 500 samples from Go's source tree, then times, alone and
# in turn: expanding alone (zstd -dc, and the package's own), Verify of the
# compressed file on one core and on all, of the same set compressed by zstd -3
# and not at all, zstd -dc | jq -c . and zstd -dc | Python's json. Medians of
# RUNS (default 3), in MB of expanded JSON for each second, of wall time and of
# processor time. Needs zstd, jq, python3.
set -euo pipefail
runs=${1:-3}
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
go build -o "$work/verifybench" ./datasets/internal/verifybench
"$work/verifybench" gen "$work" "$(go env GOROOT)/src"
file=$work/64k.jsonl.zst
bytes=$(zstd -dc "$file" | wc -c)
echo "$bytes bytes of JSON, $(stat -c %s "$file") compressed; load average $(cut -d' ' -f1 /proc/loadavg), $(nproc) cores"

zstd -dc "$file" >"$work/plain.jsonl"
zstd -q -3 "$work/plain.jsonl" -o "$work/zstd3.jsonl.zst"

# measure NAME TIMES COMMAND: medians over the runs; the command reads the set
# TIMES times over.
measure() {
  python3 - "$bytes" "$runs" "$@" <<'PY'
import resource, statistics, subprocess, sys, time
size, runs, name, times, cmd = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), sys.argv[5:]
wall, cpu = [], []
for _ in range(runs):
    r0, t0 = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(cmd, check=True, stdout=subprocess.DEVNULL)
    r1 = resource.getrusage(resource.RUSAGE_CHILDREN)
    wall.append(time.perf_counter() - t0)
    cpu.append(r1.ru_utime + r1.ru_stime - r0.ru_utime - r0.ru_stime)
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
mb = size * times / 1e6
print(f"{name:28} {mb/statistics.median(wall):7.0f} MB/s  {mb/statistics.median(cpu):7.0f} MB/cpu-s  peak {peak:.0f} MiB", flush=True)
PY
}
measure "zstd -dc" 1 zstd -dc "$file"
measure "expand only, one core" 4 env GOMAXPROCS=1 "$work/verifybench" expand 4 "$file"
measure "verify, one core" 4 env GOMAXPROCS=1 "$work/verifybench" verify 4 "$file"
measure "verify, all cores" 4 "$work/verifybench" verify 4 "$file"
measure "zstd -3: expand, one core" 4 env GOMAXPROCS=1 "$work/verifybench" expand 4 "$work/zstd3.jsonl.zst"
measure "zstd -3: verify, one core" 4 env GOMAXPROCS=1 "$work/verifybench" verify 4 "$work/zstd3.jsonl.zst"
measure "plain: verify, one core" 4 env GOMAXPROCS=1 "$work/verifybench" verify 4 "$work/plain.jsonl"
measure "zstd -dc | jq -c ." 1 bash -c "zstd -dc '$file' | jq -c ."
measure "zstd -dc | python json" 1 bash -c "zstd -dc '$file' | python3 -c 'import json,sys
for line in sys.stdin.buffer: json.loads(line)'"
