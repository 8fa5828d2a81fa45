#!/usr/bin/env bash
# Runs one long step of a make target. Prints what the step does and how long it usually takes, then a progress line
# after every 10 s without output, and finally the actual time. Exits with the exit code of the command.
#
#   hack/step.sh [-q] WHAT USUALLY COMMAND [ARGUMENT...]
#
# With -q, the output of the command is shown only if the command fails, and progress lines end with the latest line
# of the output. USUALLY is the usual time on an otherwise idle machine with two cores. STEP_INTERVAL=N changes the 10 s
# to N s.
set -uo pipefail

quiet=false
if [[ ${1:-} == -q ]]; then
  quiet=true
  shift
fi
(($# >= 3)) || { echo "usage: $0 [-q] WHAT USUALLY COMMAND [ARGUMENT...]" >&2; exit 2; }
what=$1 usually=$2
shift 2
every=${STEP_INTERVAL:-10}

log=$(mktemp)
trap 'rm -f "$log"' EXIT

# show prints the output of the command, or writes it to the log, until the command ends. If this script is killed, show
# ends too, and the command ends at its next line of output.
show() {
  local line="" part last="" status now alive=$every
  while kill -0 $$ 2>/dev/null; do
    now=$SECONDS # read once: if it grew beyond alive meanwhile, the timeout of read would be negative, which is an error
    if ((now >= alive)); then
      printf '    … %s: %d s%s\n' "$what" "$now" "${last:+ (${last:0:90})}"
      alive=$((now + every))
    fi
    IFS= read -r -t "$((alive - now)).1" part
    status=$? # above 128: the line is not complete in time; else not 0: the command has ended
    line+=$part
    ((status <= 128)) || continue
    if ((status == 0)) || [[ -n $line ]]; then
      if $quiet; then
        printf '%s\n' "$line" >>"$log"
        last=$line
      else
        printf '%s\n' "$line"
        alive=$((SECONDS + every))
      fi
      line=""
    fi
    ((status == 0)) || return 0
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
