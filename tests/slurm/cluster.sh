#!/bin/bash
# A SLURM of one node for tests, from Debian's slurm-wlm and munge, as root:
#
#   cluster.sh up FOLDER      starts it; all that it writes is in FOLDER
#   cluster.sh down FOLDER    ends it
#
# Its commands find it by SLURM_CONF=FOLDER/slurm.conf. The machine's own SLURM,
# if it has one, is left alone.
set -e
action=$1
folder=$(realpath "$2")
host=$(hostname -s)

# Ports that are free, so that several clusters, and one that is still ending,
# leave each other alone.
free_ports() {
  python3 -c '
import contextlib, socket
with contextlib.ExitStack() as stack:
  for _ in range(2):
    server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    print(server.getsockname()[1])'
}

up() {
  local controller node
  { read -r controller; read -r node; } < <(free_ports)
  mkdir -p "$folder"/{state,spool,munge}
  chown munge:munge "$folder/munge"
  chmod 755 "$folder" "$folder/munge"
  head -c 1024 /dev/urandom > "$folder/munge/key"
  chown munge:munge "$folder/munge/key"
  chmod 400 "$folder/munge/key"
  runuser -u munge -- munged --socket="$folder/munge/socket" \
    --key-file="$folder/munge/key" --pid-file="$folder/munge/pid" \
    --log-file="$folder/munge/log" --seed-file="$folder/munge/seed"
  # No control groups, and no accounting: neither is needed.
  cat > "$folder/slurm.conf" <<CONF
ClusterName=normjax_tests
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$controller
SlurmdPort=$node
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
KillWait=15
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0,sched_min_interval=0
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=1000 State=UNKNOWN
PartitionName=main Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF
  slurmctld -f "$folder/slurm.conf"
  slurmd -f "$folder/slurm.conf"
  export SLURM_CONF=$folder/slurm.conf
  for _ in $(seq 60); do
    case "$(sinfo -h -o %t 2> /dev/null)" in idle*) return;; esac
    sleep 0.5
  done
  echo "the node does not become idle" >&2
  tail -n 5 "$folder"/slurm*.log >&2
  exit 1
}

down() {
  export SLURM_CONF=$folder/slurm.conf
  scancel --user="$(id -un)" || true
  sleep 1
  for pid in "$folder"/{slurmd,slurmctld,munge/}*pid; do
    [ -s "$pid" ] && kill "$(< "$pid")" || true
  done
}

"$action"
