#!/usr/bin/env bash
# Tries the recipes on a Slurm of one machine, on loopback, made for the purpose and thrown away:
# an array of four tasks one of which is killed, then the job that depends on it.
#
#   apt-get install slurmctld slurmd slurm-client munge
#   scripts/slurm/try.sh PLANNED_VAULT [--ray]
#
# qkvault must be on PATH. As root, since Debian's slurmd wants it; needs no configuration of its own
# and leaves none behind.
set -euo pipefail

vault=$(realpath "${1:?usage: try.sh PLANNED_VAULT [--ray]}")
here=$(realpath "$(dirname "$0")")
work=$(mktemp -d)
pids=()
cleanup() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait
    rm -rf "$work"
}
trap cleanup EXIT

umask 077
head -c 1024 /dev/urandom >"$work/munge.key"
munged --foreground --force --socket "$work/munge.sock" --key-file "$work/munge.key" \
    --pid-file "$work/munged.pid" --log-file "$work/munged.log" --seed-file "$work/seed" >"$work/munged.out" 2>&1 &
pids+=("$!")

cores=$(getconf _NPROCESSORS_ONLN)
host=$(hostname -s)
mkdir "$work/state" "$work/spool"
cat >"$work/slurm.conf" <<CONF
ClusterName=try
SlurmctldHost=$host(127.0.0.1)
SlurmctldAddr=127.0.0.1
SlurmUser=root
SlurmctldPort=26817
SlurmdPort=26818
AuthType=auth/munge
AuthInfo=socket=$work/munge.sock
CredType=cred/munge
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd.pid
SlurmctldLogFile=$work/slurmctld.log
SlurmdLogFile=$work/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SchedulerType=sched/builtin
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
KillWait=10
NodeName=$host NodeAddr=127.0.0.1 CPUs=$cores State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
export SLURM_CONF=$work/slurm.conf
until [ -S "$work/munge.sock" ]; do sleep 0.1; done
slurmctld -D -f "$SLURM_CONF" >"$work/ctld.out" 2>&1 &
pids+=("$!")
slurmd -D -f "$SLURM_CONF" >"$work/slurmd.out" 2>&1 &
pids+=("$!")
for _ in $(seq 100); do
    [ "$(sinfo -h -o %t 2>/dev/null)" = idle ] && break
    sleep 0.3
done
[ "$(sinfo -h -o %t)" = idle ] || { tail -n 20 "$work"/*.log "$work"/*.out >&2; exit 1; }

cd "$work"
if [ "${2:-}" = --ray ]; then
    job=$(sbatch --parsable --cpus-per-task="$cores" "$here/ray.sbatch" "$vault" "$cores")
else
    array=$(sbatch --parsable --array=0-3 --cpus-per-task=1 "$here/array.sbatch" "$vault")
    job=$(sbatch --parsable --cpus-per-task=1 --dependency=afterany:"$array" \
        "$here/finish.sbatch" "$vault")
    # Kill one task's qkvault in the middle of a unit: once it has a claim.
    killed=
    for _ in $(seq 1200); do
        if compgen -G "$vault/.partial/*.claim" >/dev/null; then
            killed=$(pgrep -n -f "qkvault run $vault --part" || true)
            [ -n "$killed" ] && kill -KILL "$killed" && break
        fi
        sleep 0.1
    done
    echo "killed process ${killed:?no task came to work in two minutes}"
    sleep 2
    squeue -a -o '%.12i %.10j %.4t %.4r %k' || true
fi
for _ in $(seq 600); do
    [ -n "$(squeue -h -j "$job" 2>/dev/null)" ] || break
    sleep 1
done
echo "--- logs"
tail -n 3 ./qkvault*.log
qkvault status "$vault"
qkvault verify "$vault"
