#!/usr/bin/env bash
# Compares glm46's load client with Python load generators: the same mock server,
# the same load. Needs Go, Python 3.12 and access to PyPI; the tools (about 8 GB,
# most of it the CUDA libraries that guidellm's torch asks for) go to bench/peers/.tools,
# which git ignores, or to $PEERS_TOOLS.
#
#   bash bench/peers/run.sh                     # install, three rounds of both loads, tables
#   bash bench/peers/run.sh -rounds 1 -loads unpaced -clients glm46,vllm
#   bash bench/peers/run.sh -report             # tables of what was measured before
#   PYTHON=python3.12 bash bench/peers/run.sh   # which Python
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
tools=${PEERS_TOOLS:-$here/.tools}
python=${PYTHON:-python3}
mkdir -p "$tools"

"$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 12))' ||
	{ echo "bench/peers: $python is not Python 3.12; name one with PYTHON=..." >&2; exit 2; }
for list in "$here"/requirements/*.txt; do
	tool=$(basename "$list" .txt)
	cmp -s "$list" "$tools/$tool/installed.txt" && continue
	echo "bench/peers: installing $tool" >&2
	rm -rf "${tools:?}/$tool"
	"$python" -m venv "$tools/$tool"
	"$tools/$tool/bin/pip" install -q --disable-pip-version-check --no-deps -r "$list"
	cp "$list" "$tools/$tool/installed.txt"
done

(cd "$here/../.." && go build -trimpath -o "$tools/glm46" . && go build -o "$tools/peers" ./bench/peers)
exec "$tools/peers" -glm46 "$tools/glm46" -tools "$tools" -vllm-client "$here/vllm_client.py" -results "$tools/results.jsonl" "$@"
