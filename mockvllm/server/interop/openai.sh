#!/usr/bin/env bash
# Talks to the mock with the `openai` Python package, unchanged, streamed and not.
# Needs Go, Python 3.9 or later and access to PyPI; leaves nothing behind.
#
#   bash mockvllm/server/interop/openai.sh
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
tmp=$(mktemp -d)
server=
trap '[ -n "$server" ] && kill "$server" 2>/dev/null; rm -rf "$tmp"' EXIT

python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --disable-pip-version-check 'openai>=1.60,<3'
(cd "$here/../../.." && go build -o "$tmp/vllm" .)
port=$("$tmp/venv/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
for version in 0.8.2 0.11.1 0.27.0; do
	"$tmp/vllm" serve zai-org/GLM-4.6 --tensor-parallel-size 8 --port "$port" --api-key secret --reasoning-parser glm45 \
		--mock-version "$version" --mock-speed 100 >"$tmp/log" 2>&1 &
	server=$!
	"$tmp/venv/bin/python" "$here/openai_check.py" "http://127.0.0.1:$port/v1" "$version"
	kill "$server"
	wait "$server" || { echo "the mock of $version did not end well"; exit 1; }
	server=
done
