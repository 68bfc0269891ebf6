#!/usr/bin/env bash
# Compares the tokenizer with HF tokenizers on 10,000 strings for each of
# several tokenizers, and measures both. Needs Python with venv and PyPI.
#
#   bash datasets/tokenize/compare/run.sh [TOKENIZER.json ...]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
given=()
for f in "$@"; do given+=("$(realpath "$f")"); done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" -q install 'tokenizers==0.22.1'
cd "$here/../../.."
go run ./datasets/tokenize/compare/corpus > "$work/corpus.txt"
"$work/venv/bin/python" "$here/compare.py" "$work" ${given+"${given[@]}"}
GOMAXPROCS=1 go run ./datasets/tokenize/compare "$work"
