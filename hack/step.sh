#!/usr/bin/env bash
# Runs one long step of a make target. Prints what the step does and how long it usually takes, then a progress line
# after every 10 s without output, and finally the actual time. Exits with the exit code of the command.
#
#   hack/step.sh [-q] WHAT USUALLY COMMAND [ARGUMENT...]
#
# With -q, the output of the command is shown only if the command fails, and progress lines end with the latest line
# of the output. USUALLY is the usual time on an otherwise idle machine with two cores.
set -uo pipefail

quiet=false
if [[ ${1:-} == -q ]]; then
  quiet=true
  shift
fi
(($# >= 3)) || { echo "usage: $0 [-q] WHAT USUALLY COMMAND [ARGUMENT...]" >&2; exit 2; }
what=$1 usually=$2
shift 2

log=$(mktemp)
trap 'rm -f "$log"' EXIT

# show prints the output of the command, or writes it to the log, until the command ends. If this script is killed, show
# ends too, and the command ends at its next line of output.
show() {
  local line last="" status alive=10
  while kill -0 $$ 2>/dev/null; do
    if ((SECONDS >= alive)); then
      printf '    … %s: %d s%s\n' "$what" "$SECONDS" "${last:+ (${last:0:90})}"
      alive=$((SECONDS + 10))
    fi
    IFS= read -r -t "$((alive - SECONDS)).1" line
    status=$? # above 128: nothing came in time; else not 0: the command has ended
    if ((status == 0)) || [[ -n $line ]]; then
      if $quiet; then
        printf '%s\n' "$line" >>"$log"
        last=$line
      else
        printf '%s\n' "$line"
        alive=$((SECONDS + 10))
      fi
    fi
    ((status == 0 || status > 128)) || return 0
  done
}

SECONDS=0
printf '==> %s (usually %s)\n' "$what" "$usually"
"$@" 2>&1 | show
code=${PIPESTATUS[0]}
if ((code == 0)); then
  printf '==> %s: done in %d s\n' "$what" "$SECONDS"
  exit
fi
[[ ! -s $log ]] || tail -n 60 "$log"
printf '==> %s: failed with exit code %d after %d s\n' "$what" "$code" "$SECONDS"
exit "$code"
