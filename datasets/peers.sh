#!/usr/bin/env bash
# Measures validation and its peers on the same file in one run:
#
#   bash datasets/peers.sh [RUNS]
#
# Writes a 64k set of 500 samples from Go's source tree, then times, alone and
# in turn: zstd -dc, Verify on one core, Verify on all cores, zstd -dc | jq -c .
# and zstd -dc | Python's json. Medians of RUNS (default 3), in MB of expanded
# JSON for each second, of wall time and of processor time. Needs zstd, jq,
# python3.
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

# measure NAME COMMAND: medians over the runs.
measure() {
  local name=$1
  shift
  python3 - "$name" "$bytes" "$runs" "$@" <<'PY'
import os, resource, statistics, subprocess, sys, time
name, size, runs, cmd = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]
wall, cpu = [], []
for _ in range(runs):
    r0, t0 = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(cmd, check=True, stdout=subprocess.DEVNULL)
    r1 = resource.getrusage(resource.RUSAGE_CHILDREN)
    wall.append(time.perf_counter() - t0)
    cpu.append(r1.ru_utime + r1.ru_stime - r0.ru_utime - r0.ru_stime)
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
print(f"{name:26} {size/1e6/statistics.median(wall):7.0f} MB/s  {size/1e6/statistics.median(cpu):7.0f} MB/cpu-s  peak {peak:.0f} MiB", flush=True)
PY
}
measure "zstd -dc" zstd -dc "$file"
measure "verify, one core" env GOMAXPROCS=1 "$work/verifybench" verify "$file"
measure "verify, all cores" "$work/verifybench" verify "$file"
measure "zstd -dc | jq -c ." bash -c "zstd -dc '$file' | jq -c ."
measure "zstd -dc | python json" bash -c "zstd -dc '$file' | python3 -c 'import json,sys
for line in sys.stdin.buffer: json.loads(line)'"
