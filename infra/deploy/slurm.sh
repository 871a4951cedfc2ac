#!/bin/bash
# A ganfleet run or search as a Slurm job: Ray's head on the first node, workers on the others, the driver beside the
# head. `ganfleet submit --to slurm` fills in the lines that begin with #@.
#
# Going on: preempted, out of time or lost with its node, the job is requeued, and then goes on by its name.
#   Slurm sends TERM to this script 120 s before the time is up; a partition that preempts does so too with
#   PreemptParameters=send_user_signal. The driver is told, ends as interrupted (75), and the job is requeued.
#   `scancel --signal=TERM --batch JOB` sends it back to the queue. `scancel --signal=USR1 --batch JOB` ends it for good.
#   `scancel JOB` does so too, but sends TERM to Ray's processes with all others: the driver may die of that before it
#   can end well, and the run then goes on from its last checkpoint.
#   A driver that finds something away at its start ends as interrupted too; five such starts, one after the other, end
#   the job, for what is mistyped is away for ever.
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:TERM@120
#SBATCH --ntasks-per-node=1
#@SBATCH

set -u
#@PATH
#@LOG

INTERRUPTED=75 REFUSED=2
STARTS=5 SHORT=300

play() {
    :
    #@PLAY
}

start=$((${SLURM_RESTART_COUNT:-0} + 1))
say() { echo "[job $SLURM_JOB_ID, start $start] $*"; }

# Whether the last starts, this one too, were in vain. The log knows: Slurm's count has those that it preempted in it.
hopeless() {
    local n
    for ((n = start; n > start - STARTS; n--)); do
        grep -qF "[job $SLURM_JOB_ID, start $n] in vain" "$log" || return 1
    done
}

# The first node's address, as Slurm itself reaches it.
address_of() {
    local name ip
    name=$(scontrol show node "$1" | sed -n 's/.*NodeAddr=\([^ ]*\).*/\1/p')
    ip=$(getent ahostsv4 "${name:-$1}" | awk 'NR == 1 { print $1 }')
    case $ip in
        127.*) if [ "$nodes" -gt 1 ]; then ip=$(hostname -I | awk '{ print $1 }'); fi ;;
    esac
    echo "$ip"
}

driver="" ending=0 told=0 cancelled=0
tell() {
    ending=1
    if [ -n "$driver" ]; then
        told=1
        kill -TERM "$driver" 2>/dev/null
    fi
}
trap tell TERM
trap 'cancelled=1; tell' USR1

# A cluster of this job alone: others on these nodes have no token for it, and its ports are free ones.
nodes=$SLURM_JOB_NUM_NODES
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
folder=$(mktemp -d /tmp/ganfleet.XXXXXXXX)
RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
export RAY_AUTH_TOKEN RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
unset RAY_ADDRESS RAY_AUTH_TOKEN_PATH

ray start --head --block --node-ip-address="$(address_of "$first")" --port=0 --dashboard-port=0 \
    --dashboard-agent-listen-port=0 --ray-client-server-port="$((20000 + SLURM_JOB_ID % 20000))" \
    --num-cpus="$SLURM_CPUS_ON_NODE" --num-gpus="${SLURM_GPUS_ON_NODE:-0}" --temp-dir="$folder" \
    >"$folder/head.out" 2>&1 &
head=$!
until [ -s "$folder/ray_current_cluster" ] || [ "$ending" = 1 ]; do
    if ! kill -0 "$head" 2>/dev/null; then
        say "Ray's head did not start:"
        tail -n 30 "$folder/head.out"
        rm -rf "$folder"
        exit 1
    fi
    sleep 0.5
done
RAY_ADDRESS=$(cat "$folder/ray_current_cluster" 2>/dev/null)
export RAY_ADDRESS folder

workers=""
if [ "$nodes" -gt 1 ] && [ "$ending" = 0 ]; then
    srun --nodes="$((nodes - 1))" --ntasks="$((nodes - 1))" --ntasks-per-node=1 --exclude="$first" \
        --cpus-per-task="$SLURM_CPUS_ON_NODE" --kill-on-bad-exit=0 bash -c '
            ray start --block --address="$RAY_ADDRESS" --dashboard-agent-listen-port=0 \
                --num-cpus="$SLURM_CPUS_ON_NODE" --num-gpus="${SLURM_GPUS_ON_NODE:-0}"
            rm -rf "$folder"' >>"$folder/workers.out" 2>&1 &
    workers=$!
    python - "$nodes" <<'PYTHON' || say "not all of the $nodes nodes came; going on with those that did"
import sys, time
import ray

ray.init(address="auto", log_to_driver=False, logging_level="error")
wanted, deadline = int(sys.argv[1]), time.monotonic() + 300
while (there := sum(node["Alive"] for node in ray.nodes())) < wanted and time.monotonic() < deadline:
    time.sleep(1)
sys.exit(there < wanted)
PYTHON
fi

if [ "$ending" = 0 ]; then
    say "Ray on $nodes node(s), head on $first"
    SECONDS=0
    play &
    driver=$!
    if [ "$ending" = 1 ]; then kill -TERM "$driver"; fi
    wait "$driver"
    code=$?
    while [ "$told" = 1 ]; do # a signal ends `wait`, not the driver
        told=0
        wait "$driver"
        code=$?
    done
    # Told to end, it may die of it: of TERM before it listens, or by Ray's own hand (exit code 1, or a signal) once Slurm
    # has sent TERM to all of Ray's processes too. It goes on from its checkpoint all the same.
    if [ "$ending" = 1 ] && [ "$code" != 0 ] && [ "$code" != "$REFUSED" ]; then code=$INTERRUPTED; fi
else
    code=$INTERRUPTED
fi
say "ended with exit code $code"
# Who has played waits for as long before a store that is away is given up.
vain=0
if [ "$ending" = 0 ] && [ "$code" = "$INTERRUPTED" ] && [ "$SECONDS" -lt "$SHORT" ]; then
    vain=1
    say "in vain: after $SECONDS s, and nobody told it to end"
fi

# By their ids: `ray stop` would end other jobs on these nodes too.
if [ -n "$workers" ]; then kill -TERM "$workers" 2>/dev/null; fi
kill -TERM "$head" 2>/dev/null
wait $head $workers
rm -rf "$folder"

# A job that was cancelled is not RUNNING any more, and one that Slurm has requeued already is not either.
if [ "$cancelled" = 1 ]; then
    scancel "$SLURM_JOB_ID"
elif [ "$vain" = 1 ] && [ "$ending" = 0 ] && hopeless; then
    say "$STARTS starts in vain, one after the other: the job ends. To go on, mend what the driver names and" \
        "submit the same line again"
elif [ "$code" = "$INTERRUPTED" ] && scontrol show job --oneliner "$SLURM_JOB_ID" | grep -q ' JobState=RUNNING '; then
    say "back into the queue; it goes on from its checkpoint"
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
