#!/bin/bash
# Submits a chain of 3 jobs: each begins when the one before has ended.
#
# Run it on the login node: bash experiments/chain/submit.sh
# Options for qsub may follow (-q debug). Prints one line a job: id and script.
# Submitting again is safe: what is measured already is not measured again.
set -euo pipefail

cd -- /home/user/glm46
mkdir -p -- /home/user/glm46/logs # PBS loses the log of a job whose log folder is missing
command -v qsub >/dev/null || {
  printf 'submit.sh: no qsub here; run this on a login node of the cluster\n' >&2
  exit 1
}

ids=()
undo() {
  printf 'submit.sh: qsub failed; taking back the jobs submitted before it:%s\n' "${ids[*]:+ ${ids[*]}}" >&2
  if ((${#ids[@]})); then qdel "${ids[@]}" || :; fi
}
submit() { # submit SCRIPT OPTION...
  local script=$1
  shift
  id=$(qsub "$@" "$script") || {
    undo
    exit 1
  }
  ids+=("$id")
  printf '%s\t%s\n' "$id" "$script"
}

# Each job waits for the end of the one before, whatever its outcome. The first is
# held until all wait: a job that ends too early would leave nothing to wait for.
submit experiments/chain/job_01.pbs -h "$@"
submit experiments/chain/job_02.pbs -W "depend=afterany:$id" "$@"
submit experiments/chain/job_03.pbs -W "depend=afterany:$id" "$@"
qrls "${ids[0]}"
