"""The launch scripts, with stand-ins for the programs that they call."""

import os
import shlex
import signal
import subprocess
import sys
import time

import pytest
import yaml

from ad_jax.errors import UserError
from experiments.launch import gke
from tests.experiments.conftest import ROOT
from tests.experiments.test_processes import finish, free_port

LAUNCH = ROOT / "experiments/launch"
# A stand-in for Python: records its arguments and devices, and exits cleanly on SIGTERM.
RUN = """#!/bin/bash
echo "$JAX_LOCAL_DEVICE_IDS" > "$OUT/devices-$JAX_PROCESS_ID$SLURM_PROCID"
echo $$ > "$OUT/pid-$JAX_PROCESS_ID$SLURM_PROCID"
echo "$@" > "$OUT/run-$JAX_PROCESS_ID$SLURM_PROCID"
trap 'echo saved > "$OUT/saved-$JAX_PROCESS_ID$SLURM_PROCID"; exit ${STATUS:-0}' TERM
if [[ ${DEAF:-} ]]; then trap '' TERM; fi
for i in $(seq ${TENTHS:-1}); do sleep 0.1; done
"""
# A stand-in for srun: starts two tasks. It does not forward a SIGTERM, but kills them.
SRUN = """#!/bin/bash
echo "$@" > "$OUT/options"
while [[ $1 == --* ]]; do shift; done
for i in 0 1; do SLURM_PROCID=$i "$@" & runs+=($!); done
trap 'kill -KILL "${runs[@]}"' TERM
wait "${runs[@]}" || true
wait "${runs[@]}"
"""


@pytest.fixture
def stand_ins(tmp_path):
    """Environment variables with which the scripts find the stand-ins first."""
    scripts = {
        "run": RUN,
        "srun": SRUN,
        "scancel": '#!/bin/bash\necho "$@" > "$OUT/cancelled"\nkill -TERM $(cat "$OUT"/pid-*)\n',
        "squeue": '#!/bin/bash\necho "${STATE:-RUNNING}"\n',
        "scontrol": '#!/bin/bash\necho "$@" > "$OUT/requests"\n',
        "nvidia-smi": "#!/bin/bash\nfor ((i = 0; i < ${GPUS:-0}; i++)); do echo GPU $i; done\n",
    }
    for name, text in scripts.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    return {
        **os.environ, "PATH": path, "OUT": str(tmp_path), "PYTHON": str(tmp_path / "run"),
        "SLURM_JOB_ID": "77",
    }  # fmt: skip


def launch(environment, script, *arguments):
    return subprocess.Popen(["bash", str(LAUNCH / script), *arguments], env=environment)


def wait_for(path):
    """Waits until something is written there."""
    deadline = time.monotonic() + 30
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("script", ["slurm.sbatch", "local.sh"])
def test_arguments_arrive_and_a_good_end_is_one(stand_ins, tmp_path, script):
    count = ["2"] if script == "local.sh" else []
    assert launch(stand_ins, script, *count, "--config=a b", "--workdir=w").wait(20) == 0
    stopped = " --stopped_status=75" * (script == "slurm.sbatch")
    for number in (0, 1):
        want = f"-m ad_jax run --config=a b --workdir=w{stopped}\n"
        assert (tmp_path / f"run-{number}").read_text() == want
    assert not (tmp_path / "requests").exists()


@pytest.mark.parametrize("script", ["slurm.sbatch", "local.sh"])
@pytest.mark.parametrize("status, state", [(0, "RUNNING"), (75, "RUNNING"), (75, "COMPLETING")])
def test_a_signal_stops_all_and_what_was_saved_goes_back_into_the_queue(
    stand_ins, tmp_path, script, status, state
):
    """Unless the job was cancelled: then SLURM reports it as COMPLETING."""
    environment = {**stand_ins, "TENTHS": "200", "STATUS": str(status), "STATE": state}
    process = launch(environment, script, *(["2"] if script == "local.sh" else []))
    for number in (0, 1):
        wait_for(tmp_path / f"run-{number}")
    time.sleep(0.2)  # for the traps to be set
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == status
    assert (tmp_path / "saved-0").exists() and (tmp_path / "saved-1").exists()
    requeued = (tmp_path / "requests").exists()
    assert requeued == (script == "slurm.sbatch" and (status, state) == (75, "RUNNING"))
    if requeued:
        assert (tmp_path / "requests").read_text() == "requeue 77\n"
    if script == "slurm.sbatch":
        assert (tmp_path / "cancelled").read_text() == "--signal=TERM 77\n"


def test_processes_that_slurm_stops_itself_go_back_into_the_queue(stand_ins, tmp_path):
    """A preempted job's steps get the signal; the batch script may not."""
    environment = {**stand_ins, "TENTHS": "200", "STATUS": "75"}
    process = launch(environment, "slurm.sbatch")
    for number in (0, 1):
        wait_for(tmp_path / f"pid-{number}")
        time.sleep(0.2)  # for the trap to be set
        os.kill(int((tmp_path / f"pid-{number}").read_text()), signal.SIGTERM)
    assert process.wait(20) == 75
    assert (tmp_path / "requests").read_text() == "requeue 77\n"


def test_slurm_reads_the_setup_first(stand_ins, tmp_path):
    setup = tmp_path / "setup.sh"
    setup.write_text(f"export PYTHON={tmp_path}/run STATUS=0\necho read > {tmp_path}/setup\n")
    dry = subprocess.run(
        ["bash", str(LAUNCH / "slurm.sbatch")], text=True, capture_output=True,
        env={**stand_ins, "SETUP": str(setup), "DRY_RUN": "1"},
    )  # fmt: skip
    assert dry.stdout.startswith(f"source {setup}\nsrun ") and not (tmp_path / "setup").exists()
    environment = {**stand_ins, "SETUP": str(setup), "PYTHON": "nowhere"}
    assert launch(environment, "slurm.sbatch", "--config=a").wait(20) == 0
    assert (tmp_path / "run-0").exists() and (tmp_path / "setup").exists()


@pytest.mark.parametrize("script", ["slurm.sbatch", "local.sh"])
def test_a_dry_run_prints_what_would_run(stand_ins, tmp_path, script):
    """What it prints runs as it stands."""
    words = ["bash", str(LAUNCH / script), *["2"][: script == "local.sh"], "--config=a b"]
    printed = subprocess.run(
        words, env={**stand_ins, "DRY_RUN": "1"}, text=True, capture_output=True, check=True
    ).stdout
    assert not (tmp_path / "run-0").exists()
    assert [*shlex.split(printed)].count("--config=a b") == printed.count("ad_jax run")
    subprocess.run(["bash", "-c", f"{printed}\nwait"], env=stand_ins, check=True)
    for number in (0, 1):
        assert "--config=a b" in (tmp_path / f"run-{number}").read_text()


@pytest.mark.parametrize("cpus", ["", "12"])
def test_under_slurm_every_process_gets_its_cores(stand_ins, tmp_path, cpus):
    environment = {**stand_ins, **({"SLURM_CPUS_PER_TASK": cpus} if cpus else {})}
    assert launch(environment, "slurm.sbatch", "--config=a").wait(20) == 0
    options = (tmp_path / "options").read_text().split()
    assert [o for o in options if "cpus" in o] == [f"--cpus-per-task={c}" for c in [cpus] if c]


@pytest.mark.parametrize(
    "gpus, visible, devices",
    [
        (5, None, ["0,1", "2,3", "4"]),
        (4, None, ["0,1", "2", "3"]),
        (3, None, ["0", "1", "2"]),
        (0, None, ["", "", ""]),
        (8, "4,5,6,7", ["0,1", "2", "3"]),
    ],
)
def test_gpus_are_divided_among_the_processes_of_a_machine(
    stand_ins, tmp_path, gpus, visible, devices
):
    environment = {**stand_ins, "GPUS": str(gpus), "JAX_PLATFORMS": ""}
    if visible:
        environment["CUDA_VISIBLE_DEVICES"] = visible
    assert launch(environment, "local.sh", "3").wait(20) == 0
    assert [(tmp_path / f"devices-{i}").read_text().strip() for i in range(3)] == devices


@pytest.mark.parametrize("platforms", ["", "cpu"])
def test_too_few_gpus_for_the_processes(stand_ins, tmp_path, platforms):
    environment = {**stand_ins, "GPUS": "2", "JAX_PLATFORMS": platforms}
    result = subprocess.run(
        ["bash", LAUNCH / "local.sh", "3"], env=environment, text=True, stderr=subprocess.PIPE
    )
    assert result.returncode == (0 if platforms else 2)
    refused = "error: 3 processes can't share 2 GPUs: start 2, or set JAX_PLATFORMS=cpu\n"
    assert result.stderr == ("" if platforms else refused)
    assert (tmp_path / "run-0").exists() == bool(platforms)


@pytest.mark.parametrize("deaf", ["", "yes"])
def test_ctrl_c_leaves_no_process(stand_ins, tmp_path, deaf):
    """One Ctrl-C if the processes end on it, a second one if they do not."""
    environment = {**stand_ins, "TENTHS": "600", "DEAF": deaf}
    process = subprocess.Popen(
        ["bash", LAUNCH / "local.sh", "2"], env=environment, start_new_session=True
    )
    for number in (0, 1):
        wait_for(tmp_path / f"run-{number}")
    for _ in range(2 if deaf else 1):
        time.sleep(0.3)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    assert process.wait(20) == (137 if deaf else 0)
    for number in (0, 1):
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / f"pid-{number}").read_text()), 0)


@pytest.mark.parametrize("arguments", [[], ["0"], ["--config=a"]])
def test_without_a_number_of_processes(stand_ins, arguments):
    result = subprocess.run(
        ["bash", LAUNCH / "local.sh", *arguments], env=stand_ins, text=True, capture_output=True
    )
    assert result.returncode == 2 and result.stderr.startswith("usage: ")


# A stand-in for gcloud: records its arguments. It has one slice; commands for its VM run here, with
# a home folder of their own.
GCLOUD = """#!/bin/bash
for word in "$@"; do printf '%s\\n' "$word"; done >> "$OUT/gcloud"
echo == >> "$OUT/gcloud"
case $4 in
describe)
    if [[ ${OFFLINE:-} ]]; then echo "ERROR: no network" >&2; exit 1; fi
    cat "$OUT/state" 2>/dev/null || { echo "ERROR: NOT_FOUND: there is no such slice" >&2; exit 1; }
    exit ;;
create) echo READY > "$OUT/state" ;;
delete) rm -rf "$OUT/state" "$OUT/home" ;;
scp) mkdir -p "$OUT/home" && cp "$6" "$OUT/home" ;;
esac
for word in "$@"; do
    case $word in --command=*)
        mkdir -p "$OUT/home" && cd "$OUT/home" && HOME=$OUT/home bash -c "${word#--command=}"
        exit ;;
    esac
done
"""
# A stand-in for uv: makes an environment whose Python is the stand-in.
UV = """#!/bin/bash
echo "$PWD $@" >> "$OUT/uv"
if [[ $1 == venv ]]; then mkdir -p .venv/bin && cp "$OUT/run" .venv/bin/python; fi
"""


def gcloud_environment(tmp_path, **environment):
    """Variables with which a script finds the stand-in for gcloud."""
    program = tmp_path / "gcloud_here/gcloud"
    program.parent.mkdir(exist_ok=True)
    program.write_text(GCLOUD)
    program.chmod(0o755)
    path = f"{program.parent}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "OUT": str(tmp_path), **environment}


def calls_of_gcloud(tmp_path):
    calls = tmp_path / "gcloud"
    calls = calls.read_text().split("==\n")[:-1] if calls.exists() else []
    return [call.splitlines() for call in calls]


def tpu_vm(tmp_path, *arguments, **environment):
    """Runs the script with a stand-in for gcloud; returns (its result, the calls)."""
    result = subprocess.run(
        ["bash", str(LAUNCH / "tpu_vm.sh"), *arguments], cwd=ROOT, text=True, capture_output=True,
        env=gcloud_environment(tmp_path, **environment),
    )  # fmt: skip
    return result, calls_of_gcloud(tmp_path)


@pytest.fixture
def vm(tmp_path):
    """The project's folder in the home of a VM, with a stand-in for Python."""
    folder = tmp_path / "home" / "ad_jax"
    (folder / ".venv" / "bin").mkdir(parents=True)
    python = folder / ".venv" / "bin" / "python"
    python.write_text(RUN.replace("#!/bin/bash", "#!/bin/bash\necho on its way"))
    python.chmod(0o755)
    return folder


def test_on_tpu_vms_the_run_goes_on_by_itself_and_writes_a_log(tmp_path, vm):
    where = {"NAME": "ad", "ZONE": "z", "TENTHS": "200"}
    result, calls = tpu_vm(tmp_path, "run", "--config=a b", "--workdir=/mnt/w", **where)
    assert result.returncode == 0, result.stderr
    (call,) = calls
    assert call[:7] == ["compute", "tpus", "tpu-vm", "ssh", "--zone=z", "ad", "--worker=all"]
    wait_for(tmp_path / "run-")
    assert (tmp_path / "run-").read_text() == "-m ad_jax run --config=a b --workdir=/mnt/w\n"
    assert (vm / "run.log").read_text() == "on its way\n"

    again, _ = tpu_vm(tmp_path, "run", "--config=a b", **where)
    assert again.returncode and "a run is already in progress" in again.stderr

    time.sleep(0.2)  # for the trap to be set
    assert tpu_vm(tmp_path, "stop", **where)[0].returncode == 0
    wait_for(tmp_path / "saved-")
    while tpu_vm(tmp_path, "run", **{**where, "TENTHS": "1"})[0].returncode:
        time.sleep(0.05)
    wait_for_text(vm / "run.log", "on its way\n" * 2)


def wait_for_text(path, text):
    deadline = time.monotonic() + 20
    while path.read_text() != text:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def bare(tmp_path):
    """A VM with a bare image: stand-ins for what ``create`` calls, and the script's variables."""
    installer = f"mkdir -p $HOME/.local/bin && cp {tmp_path}/uv_here $HOME/.local/bin/uv"
    for name, text in {
        "gcloud_here/curl": f"#!/bin/bash\necho '{installer}'\n",
        "gcloud_here/sudo": '#!/bin/bash\necho "$@" >> "$OUT/sudo"\n',
        "uv_here": UV,
        "run": RUN,
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    return {"NAME": "ad", "ZONE": "z", "TYPE": "v5litepod-16", "SECONDS_BETWEEN": "0.1"}


def test_tpu_vms_get_the_committed_code_a_newer_python_and_the_share(tmp_path, bare):
    given = {"SHARE": "1.2.3.4:/v", "SPOT": "1", "PYTHON": "3.12"}
    result, calls = tpu_vm(tmp_path, "create", **bare, **given)
    assert result.returncode == 0, result.stderr
    assert [call[3] for call in calls] == ["create", "scp", "ssh"]
    assert {"--accelerator-type=v5litepod-16", "--spot"} <= set(calls[0])
    assert calls[1][5].endswith("ad_jax.tar.gz") and "--worker=all" in calls[1]
    folder = tmp_path / "home" / "ad_jax"
    assert (folder / "setup.py").exists() and len((folder / "commit").read_text()) == 11
    assert (tmp_path / "uv").read_text().splitlines() == [
        f"{folder} venv -q --clear --python=3.12 .venv",
        f"{folder} pip install -q -c constraints.txt -e .[tpu,gcs]",
    ]
    assert "mount -o rw 1.2.3.4:/v /mnt/ad_jax" in (tmp_path / "sudo").read_text()


def test_keep_makes_a_preempted_slice_again_and_ends_with_the_run(tmp_path, bare):
    environment = gcloud_environment(tmp_path, **bare, TENTHS="600")
    keep = ["bash", str(LAUNCH / "tpu_vm.sh"), "keep", "--config=a b", "--workdir=gs://b/w"]
    process = subprocess.Popen(keep, cwd=ROOT, env=environment)
    started = tmp_path / "run-"
    for preempted in (True, False):
        wait_for(started)
        assert "--config=a b --workdir=gs://b/w" in started.read_text()
        time.sleep(0.3)  # for the trap to be set
        running = int((tmp_path / "pid-").read_text())
        started.unlink()
        if preempted:
            os.kill(running, signal.SIGKILL)
            (tmp_path / "state").write_text("PREEMPTED\n")
        else:
            os.kill(running, signal.SIGTERM)  # it ends with 0
    assert process.wait(20) == 0
    assert [call[3] for call in calls_of_gcloud(tmp_path)].count("create") == 2


def test_keep_goes_on_after_a_signal_of_the_cloud_but_not_after_stop(tmp_path, bare):
    """The signal to a preempted VM stops the run on all VMs, with the status of a SIGTERM."""
    environment = gcloud_environment(tmp_path, **bare, TENTHS="600", STATUS="143")
    keep = ["bash", str(LAUNCH / "tpu_vm.sh"), "keep", "--workdir=gs://b/w"]
    process = subprocess.Popen(keep, cwd=ROOT, env=environment)
    wait_for(tmp_path / "run-")
    time.sleep(0.3)  # for the trap to be set
    (tmp_path / "run-").unlink()
    os.kill(int((tmp_path / "pid-").read_text()), signal.SIGTERM)
    wait_for(tmp_path / "run-")
    time.sleep(0.3)
    assert tpu_vm(tmp_path, "stop", **bare)[0].returncode == 0
    assert process.wait(20) == 0
    assert [call[3] for call in calls_of_gcloud(tmp_path)].count("create") == 1


def test_keep_leaves_a_slice_alone_that_nobody_can_ask_for(tmp_path, bare):
    environment = gcloud_environment(tmp_path, **bare, OFFLINE="1")
    keep = ["bash", str(LAUNCH / "tpu_vm.sh"), "keep", "--workdir=gs://b/w"]
    process = subprocess.Popen(keep, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
    while len(calls_of_gcloud(tmp_path)) < 3:
        time.sleep(0.05)
    process.terminate()
    process.wait(20)
    assert {call[3] for call in calls_of_gcloud(tmp_path)} == {"describe"}


def test_keep_gives_up_where_nothing_can_be_installed(tmp_path, bare):
    (tmp_path / "uv_here").write_text("#!/bin/bash\nexit 1\n")
    result, calls = tpu_vm(tmp_path, "keep", "--workdir=gs://b/w", **bare, RESTARTS="1")
    assert result.returncode == 1 and "no run could be started there" in result.stderr
    assert [call[3] for call in calls].count("scp") == 2


@pytest.mark.parametrize("workdir", ["runs/w", "/mnt/ad_jax/w"])
def test_keep_wants_a_workdir_that_outlives_the_vms(tmp_path, bare, workdir):
    result, calls = tpu_vm(tmp_path, "keep", f"--workdir={workdir}", **bare)
    assert result.returncode == 2 and not calls
    assert result.stderr.startswith("error: give a workdir that outlives the VMs: gs://BUCKET/DIR")


def test_keep_starts_a_run_that_fails_again_but_not_for_ever(tmp_path, bare):
    (tmp_path / "run").write_text('#!/bin/bash\necho started >> "$OUT/starts"\nexit 3\n')
    result, _ = tpu_vm(tmp_path, "keep", "--workdir=gs://b/w", **bare, RESTARTS="2")
    assert result.returncode == 3 and "ended with status 3 again" in result.stderr
    assert (tmp_path / "starts").read_text() == "started\n" * 3


@pytest.mark.parametrize("verb", ["create", "run", "keep", "stop", "delete"])
def test_a_dry_run_on_tpu_vms_prints_what_would_run(tmp_path, bare, verb):
    words = ["--config=a b", "--workdir=gs://b/w"]
    result, calls = tpu_vm(tmp_path, verb, *words, **bare, DRY_RUN="1")
    assert result.returncode == 0 and not calls
    words = shlex.split(result.stdout)
    verbs = [words[i + 4] for i, word in enumerate(words) if word == "gcloud"]
    wanted = {"create": ["create", "scp", "ssh"], "keep": ["create", "scp", "ssh", "ssh"]}
    assert verbs == wanted.get(verb, ["delete" if verb == "delete" else "ssh"])
    if verb in ("run", "keep"):
        assert "ad_jax run --config=a\\ b" in words[-1]


@pytest.mark.parametrize(
    "folder, words",
    [
        ("gs://b/w", ["storage", "cp", "--recursive", "gs://b/w", "."]),
        (
            "/mnt/w",
            [
                "compute",
                "tpus",
                "tpu-vm",
                "scp",
                "--zone=z",
                "ad:/mnt/w",
                ".",
                "--worker=0",
                "--recurse",
            ],
        ),
    ],
)
def test_results_are_fetched_from_where_they_are(tmp_path, bare, folder, words):
    where = {"DRY_RUN": "1", **({} if folder.startswith("gs:") else bare)}
    result, _ = tpu_vm(tmp_path, "fetch", folder, **where)
    assert shlex.split(result.stdout) == ["gcloud", *words], result.stderr


@pytest.mark.parametrize("arguments", [["run"], ["fly"], []])
def test_tpu_vms_without_a_name_or_a_verb(tmp_path, arguments):
    given = {} if arguments == ["run"] else {"NAME": "ad", "ZONE": "z"}
    result, calls = tpu_vm(tmp_path, *arguments, **given)
    assert result.returncode and not calls
    assert "set the name of the slice" in result.stderr or result.stderr.startswith("usage: ")


@pytest.mark.parametrize("topology, hosts, chips", [("4x4", 4, 4), ("2x2", 1, 4), ("1x1", 1, 1)])
def test_a_jobset_has_a_pod_for_each_host_of_the_slice(capsys, topology, hosts, chips):
    gke.main(
        ["--name=ad", "--image=i", f"--topology={topology}", "--claim=c", "--", "--config=a b",
         "--workdir=/runs/w"]
    )  # fmt: skip
    spec = yaml.safe_load(capsys.readouterr().out)["spec"]
    assert spec["failurePolicy"]["maxRestarts"] > 0
    job = spec["replicatedJobs"][0]["template"]["spec"]
    assert job["completions"] == job["parallelism"] == hosts and job["backoffLimit"] == 0
    pod = job["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] >= 60 and pod["restartPolicy"] == "Never"
    assert pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"] == topology
    (container,) = pod["containers"]
    assert container["resources"]["limits"] == {"google.com/tpu": chips}
    want = ["run", "--config=a b", "--workdir=/runs/w", "--stopped_status=1"]
    assert container["args"] == want  # of the image's entry point
    assert container["volumeMounts"][0]["mountPath"] == "/runs"


def test_a_jobset_with_a_bucket_needs_no_volume(capsys):
    words = ["--name=ad", "--image=i", "--topology=4x4", "--service-account=s", "--"]
    gke.main([*words, "--workdir=gs://b/w"])
    spec = yaml.safe_load(capsys.readouterr().out)["spec"]
    pod = spec["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    assert "volumes" not in pod and pod["serviceAccountName"] == "s"


@pytest.mark.parametrize("arguments", [[], ["--workdir=/runs/w"], ["--workdir=runs/w"]])
def test_a_workdir_that_goes_with_the_pods_is_refused(arguments):
    with pytest.raises(UserError, match="outlives the pods: gs://BUCKET/DIR, or /runs/DIR with"):
        gke.jobset("ad", "i", "4x4", "a", None, None, 1, arguments)


@pytest.mark.parametrize("topology", ["four", "3x3", "0x4"])
def test_a_slice_that_there_is_not(topology):
    with pytest.raises(UserError, match=f"--topology={topology}"):
        gke.jobset("ad", "i", topology, "a", None, None, 1, ["--workdir=gs://b/w"])


def test_processes_find_each_other_under_slurm():
    """With the variables that srun sets."""
    program = (
        "from ad_jax.distributed import processes; processes.start(); import jax;"
        "print(jax.process_index(), jax.process_count(), jax.device_count())"
    )
    port = str(free_port())
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program], cwd=ROOT, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={
                **os.environ,
                "SLURM_JOB_ID": "77", "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2",
                "SLURM_PROCID": str(number), "SLURM_LOCALID": str(number),
                "SLURM_STEP_NUM_NODES": "1", "JAX_COORDINATOR_PORT": port,
                "JAX_NUM_CPU_DEVICES": "1", "JAX_PLATFORMS": "cpu", "AD_JAX_TIMEOUT": "60",
            },
        )
        for number in (0, 1)
    ]  # fmt: skip
    outputs = finish(processes)
    assert [status for status, _ in outputs] == [0, 0], outputs
    assert [o.strip().splitlines()[-1] for _, o in outputs] == ["0 2 2", "1 2 2"]
