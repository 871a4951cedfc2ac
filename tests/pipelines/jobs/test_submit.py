"""`ganfleet submit` without any server: what it renders, what it refuses, and what a shell does with it."""

import json
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from zipfile import ZipFile

import boto3
import pytest
import yaml

from gan_core.settings import SettingsError
from infra.jobs.batch import BatchError
from infra.jobs.kuberay import KubeRay
from infra.jobs.slurm import Slurm
from pipelines.jobs._options import PLACES
from pipelines.jobs._registry import Job, find_job, job_table, known_jobs
from pipelines.jobs._submit import Submission, checked, next_job, rendered, send, unshipped
from pipelines.launch._request import CommandLine
from pipelines.settings._storage import Storage
from tests.golden.commands import furnish
from tests.golden.forks import snapshot
from tests.guide import commands, pages
from tests.pipelines.small_runs import OWN_GAN, created, environment, ganfleet, ganfleet_here, small_search, small_train
from tests.servers import Cable, free_ports

CONFIG = """family: wgan_gp
data:
  name: npz
  path: it's $HOME.npz
budget: {rounds: 20}  # SETTINGS `date`
"""


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A working folder with runs, and no program of any cluster on the PATH."""
    place = tmp_path / "place"
    furnish(place)
    programs = tmp_path / "programs"
    programs.mkdir()
    monkeypatch.chdir(place)
    monkeypatch.setenv("PATH", f"{programs}:/nowhere")
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_DASHBOARD_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    return place


def program(place: Path, name: str, shell: str) -> None:
    """Puts a program of a cluster on the PATH."""
    file = place.parent / "programs" / name
    file.write_text(f"#!/bin/bash\nPATH=/usr/bin:/bin\n{shell}\n")
    file.chmod(0o755)


def asked(words: str, to: str = "slurm", config: str | None = None) -> Submission:
    verb, *rest = words.split()
    resume = rest.pop(rest.index("--resume") + 1) if "--resume" in rest else None
    rest = [word for word in rest if word != "--resume"]
    return checked(verb, CommandLine.of(rest, Path(config) if config else None, resume), to)


MISSING = {"slurm": "sbatch is not installed here", "kuberay": "kubectl is not installed here"}


@pytest.mark.parametrize("to", MISSING)
def test_a_missing_program_is_one_line_and_leaves_nothing(place, to):
    before = snapshot(place)
    volume = ["kuberay.claim=runs"] if to == "kuberay" else []
    done = ganfleet(place, "submit", "--to", to, "--apply", "train", "wgan", "name=new", *volume)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {MISSING[to]}; nearest: ")
    assert snapshot(place) == before


def test_what_is_printed_is_not_remembered_and_its_name_is_told(place):
    before = snapshot(place)
    done = ganfleet(place, "submit", "--to", "slurm", "search", "wgan")
    assert done.returncode == 0, done.stderr
    name = done.stderr.partition(";")[0].removeprefix("name=")
    assert name.startswith("wgan-")
    assert f"#SBATCH --job-name={name}" in done.stdout
    assert f"--resume {name}" in done.stdout
    assert snapshot(place) == before


def test_names_made_up_for_jobs_in_one_second_differ(place, monkeypatch):
    program(place, "sbatch", "cat >/dev/null; echo 17")
    program(place, "squeue", "echo PENDING")
    monkeypatch.setattr("time.strftime", lambda *_: "1128-171100")
    jobs = [sent(place, "train wgan") for _ in range(3)]
    assert [job.name for job in jobs] == ["wgan-1128-171100", "wgan-1128-171100-2", "wgan-1128-171100-3"]
    assert [job.id for job in jobs] == ["17"] * 3
    assert [job.where for job in jobs] == [f"{place}/runs/{job.name}/slurm.log" for job in jobs]


def test_the_script_asks_for_what_was_asked_for_and_bash_reads_it(place):
    words = "search wgan name=x slurm.nodes=3 slurm.cpus=8 slurm.gpus=2 slurm.time=2-12:00:00 slurm.partition=gpu"
    script = rendered(asked(words), "x-1")
    header = [line.removeprefix("#SBATCH ") for line in script.splitlines() if line.startswith("#SBATCH")]
    assert {
        *("--requeue", "--signal=B:TERM@120", "--job-name=x", f"--output={place}/runs/x/slurm.log"),
        *("--nodes=3", "--cpus-per-task=8", "--gpus-per-node=2", "--time=2-12:00:00", "--partition=gpu"),
    } <= set(header)
    assert "--exclusive" not in header
    first_command = next(index for index, line in enumerate(script.splitlines()) if line and line[0] != "#")
    assert max(n for n, line in enumerate(script.splitlines()) if line.startswith("#SBATCH")) < first_command
    done = subprocess.run(["/bin/bash", "-n"], input=script, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "#@" not in script.partition("set -u")[2]


def test_whole_nodes_unless_cpus_are_asked_for(place):
    assert "#SBATCH --exclusive" in rendered(asked("search wgan name=x"), "x-1")


def test_a_folder_with_a_blank_or_a_percent_is_still_the_logs(place):
    words = ["wgan", "name=x", "storage.path=a b%j"]
    script = rendered(checked("train", CommandLine.of(words, None, None), "slurm"), "x-1")
    assert f'#SBATCH --output="{place}/a b%%j/x/slurm.log"' in script


def test_the_log_of_a_run_in_s3_lies_where_the_line_is_typed(place, moto_server, monkeypatch):
    """Each node may have its own cache."""
    moto_server.be_asked(monkeypatch)
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto_server.url)
    monkeypatch.setenv("GANFLEET_CACHE", str(place.parent / "cache"))
    boto3.session.Session().client("s3", endpoint_url=moto_server.url).create_bucket(Bucket="logs")
    program(place, "sbatch", "cat >/dev/null; echo 17")
    program(place, "squeue", "echo COMPLETED")
    words = "search wgan name=x storage.path=s3://logs/runs tracking.uri=http://127.0.0.1:9"
    assert f"#SBATCH --output={place}/x.slurm.log\n" in rendered(asked(words), "x-1")
    sent(place, words)
    (place / "x.slurm.log").write_text("FID 3\n")
    monkeypatch.chdir(place.parent)
    job = find_job("x", Storage(path="s3://logs/runs"))
    assert "".join(job.batch.follow(job.id)) == "FID 3\n"


GANFLEET = """for word in "$@"; do
    echo "$word"
    if [ "$before" = --config ] && [ -f "$word" ]; then cat "$word"; fi
    before=$word
done"""


def played(submission: Submission, place: Path) -> list[str]:
    """The words that the job's shell calls ganfleet with, and the text of the settings' file."""
    program(place, "ganfleet", GANFLEET)
    path = {"PATH": f"{place.parent / 'programs'}:/usr/bin:/bin", "HOME": "/wrong"}
    done = subprocess.run(
        ["/bin/sh", "-c", submission.play], cwd="/", env=path, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def test_the_job_begins_as_it_was_typed(place):
    submission = asked(
        "search wgan wgan_gp name=x space.lr=loguniform(1e-5,1e-2) slurm.cpus=2 data.name=folder data.path=a"
    )
    given = ["search", "wgan", "wgan_gp", "space.lr=loguniform(1e-5,1e-2)", "data.name=folder"]
    where = [f"data.path={place}/a", "name=x", f"storage.path={place}/runs"]
    assert played(submission, place) == [*given, *where]


@pytest.mark.parametrize("config", ["demo", "wgan_gp-cifar10"])
def test_a_preset_goes_by_its_name(place, config):
    verb = "search" if config == "demo" else "train"
    words = played(asked(f"{verb} name=x", config=config), place)
    assert words[0] == verb
    assert words[words.index("--config") + 1] == config


def test_a_file_of_settings_goes_along_letter_by_letter(place):
    (place / "mine.yaml").write_text(CONFIG)
    submission = asked("train name=x budget.rounds=30", config="mine.yaml")
    (place / "mine.yaml").unlink()
    words = played(submission, place)
    file = words.index("--config") + 1
    assert words[:file] == [
        "train",
        "budget.rounds=30",
        f"data.path={place}/it's $HOME.npz",
        "name=x",
        f"storage.path={place}/runs",
        "--config",
    ]
    assert words[file + 1 :] == CONFIG.splitlines()


def test_a_job_gets_the_modules_that_are_shipped_once_it_is_submitted(place, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    (place / "mine").mkdir()
    (place / "mine" / "own_gan.py").write_text(OWN_GAN)
    words, code = "train own_gan:Own name=y compute.ship=mine", place / "runs" / "y" / "code.zip"
    complete = asked(f"{words} kuberay.claim=c", "kuberay")
    assert unshipped(complete) == []
    try:
        play = ["train", "own_gan:Own", f'compute.ship=["{place}/mine"]', "name=y", f"storage.path={place}/runs"]
        assert played(asked(words), place) == play
        program(place, "sbatch", "exit 1")
        with pytest.raises(SettingsError, match="sbatch"):
            sent(place, words)
        assert not code.parent.exists()
        program(place, "sbatch", "cat >/dev/null; echo 17")
        sent(place, words)
        assert ZipFile(code).read("own_gan.py").decode() == OWN_GAN
        (line,) = unshipped(asked(words.partition(" compute")[0] + "2 kuberay.claim=c", "kuberay"))
        assert line == f"own_gan is imported from {place}/mine; for nodes that lack it: compute.ship={place}/mine"
    finally:
        del sys.modules["own_gan"]


def test_the_job_goes_on_once_it_has_begun(place):
    submission = asked("train wgan name=x budget.rounds=30")
    created(small_train(Path("runs"), "wgan", "x"))
    assert played(submission, place) == ["train", "--resume", "x", f"storage.path={place}/runs"]


@pytest.mark.parametrize("verb", ["train", "search"])
def test_the_same_again_goes_on(place, verb):
    """The settings that may grow are passed on: here the budget or the number of trials."""
    words = f"{verb} wgan_gp name=again budget.rounds=40 search.trials=4"
    if verb == "train":
        words = words.removesuffix(" search.trials=4")
        created(small_train(Path("runs"), "wgan_gp", "again", "budget.rounds=40"))
    else:
        created(small_search(Path("runs"), ["wgan_gp"], "again", "budget.rounds=40", "search.trials=4"))
    small = ["family.width=4", "family.latent=8", "data.image_size=8", "data.batch_size=16", "metrics.samples=200"]
    same = f"{words} {' '.join(small)}" + (" search.confirm=0" if verb == "search" else "")
    where = f"storage.path={place}/runs"
    submission = asked(same)
    assert submission.request.resumed
    assert played(submission, place) == [verb, "--resume", "again", where]
    grown = "budget.rounds=80" if verb == "train" else "search.trials=8"
    submission = asked(f"{same} {grown}")
    assert played(submission, place) == [verb, "--resume", "again", grown, where]
    less = "budget.rounds=20" if verb == "train" else "search.trials=2"
    with pytest.raises(SettingsError, match="is less than before"):
        asked(f"{same} {less}")
    with pytest.raises(SettingsError, match=r"exists in .* with data.batch_size=16, not 32; nearest: name=again-2"):
        asked(f"{same} data.batch_size=32")


@pytest.mark.parametrize(("verb", "named"), [("train", r"family\.lr=0.0001, not 0.5"), ("search", "families=")])
def test_of_two_games_the_setting_that_was_typed_is_told(place, verb, named):
    """Other settings differ too: the run is a small game, the request has the papers' settings."""
    if verb == "train":
        created(small_train(Path("runs"), "wgan_gp", "again", "budget.checkpoint_every=7"))
    else:
        created(small_search(Path("runs"), ["wgan_gp"], "again", "budget.checkpoint_every=7"))
    with pytest.raises(SettingsError, match=f"name=again exists in .* with {named}"):
        asked(f"{verb} wgan_gp name=again family.lr=0.5")


def test_a_resumption_is_submitted_too(place):
    submission = asked("train --resume first budget.rounds=80")
    words = ["train", "--resume", "first", "budget.rounds=80", f"storage.path={place}/runs"]
    assert played(submission, place) == words


def test_the_rayjob_holds_the_same_command(place):
    submission = asked("train wgan name=my_run kuberay.workers=2 kuberay.max_workers=6 kuberay.claim=runs", "kuberay")
    job = yaml.safe_load(rendered(submission, next_job(submission, None).id))
    assert job["metadata"]["name"] == "my-run-1"
    spec = job["spec"]["rayClusterSpec"]
    assert spec["headGroupSpec"]["template"]["metadata"]["annotations"]["ganfleet/run"] == submission.play
    assert [spec["workerGroupSpecs"][0][key] for key in ("replicas", "minReplicas", "maxReplicas")] == [2, 2, 6]
    mounted = spec["headGroupSpec"]["template"]["spec"]["volumes"][0]["downwardAPI"]["items"][0]
    assert job["spec"]["entrypoint"] == f"sh /etc/ganfleet/{mounted['path']}"


REAL = f"""export PYTHONPATH={Path(__file__).parents[3]}
exec {sys.executable} -m pipelines.cli "$@\""""


def started(submission: Submission, place: Path) -> subprocess.CompletedProcess[str]:
    """The job's shell lines with the real ganfleet."""
    program(place, "ganfleet", REAL)
    path = {**environment(), "PATH": f"{place.parent / 'programs'}:/usr/bin:/bin"}
    return subprocess.run(
        ["/bin/sh", "-c", submission.play], cwd=place, env=path, capture_output=True, text=True, check=False
    )


def test_a_job_ends_as_interrupted_while_its_store_is_away_and_does_not_begin_its_run_anew(
    place, moto_server, monkeypatch
):
    """Its tracking server never answers, which ends it before its run begins."""
    moto_server.be_asked(monkeypatch)
    boto3.session.Session().client("s3", endpoint_url=moto_server.url).create_bucket(Bucket="away")
    cable = Cable(moto_server.url, mended=False)
    where = f"storage.path=s3://away/runs storage.endpoint_url={cable.url}"
    submission = asked(f"train wgan name=x {where} tracking.uri=http://127.0.0.1:9")
    for there in (True, False, True):
        cable.mend() if there else cable.cut_next()
        done = started(submission, place)
        assert done.returncode == 75
        named = "tracking.uri=http://127.0.0.1:9: no MLflow server" if there else "storage.path=s3://away/runs: s3://"
        assert f"error: {named}" in done.stderr
        assert len(done.stderr.splitlines()) == 1
    cable.cut_next()
    done = ganfleet(place, *f"train --resume x {where}".split())
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    cable.close()


@pytest.mark.full
def test_a_job_whose_tracking_server_is_away_begins_no_run_and_may_start_again(place):
    address = f"tracking.uri=http://127.0.0.1:{free_ports(1)[0]}"
    submission = asked(f"train wgan name=x {address}")
    for _ in range(2):
        done = started(submission, place)
        assert done.returncode == 75
        assert f"error: {address}: no MLflow server answers" in done.stderr
        assert not (place / "runs" / "x").exists()
    done = ganfleet(place, "train", "wgan", "name=y", address)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert not (place / "runs" / "y").exists()


@pytest.mark.parametrize("action", ["logs", "stop"])
def test_a_store_that_is_away_is_one_line_that_names_the_setting(place, moto_server, monkeypatch, capsys, action):
    moto_server.be_asked(monkeypatch)
    where = ["storage.path=s3://away/runs", f"storage.endpoint_url=http://127.0.0.1:{free_ports(1)[0]}"]
    done = ganfleet_here(monkeypatch, capsys, "jobs", action, "x", *where)
    (line,) = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (2, "")
    assert line.startswith("error: storage.path=s3://away/runs: ")
    assert "no answer from" in line
    assert "nearest: storage.endpoint_url=" in line


def sent(place: Path, words: str, to: str = "slurm") -> Job:
    submission = asked(words, to)
    return send(submission, None, print)


def test_a_job_is_remembered_listed_followed_and_stopped(place):
    program(place, "sbatch", 'cat >>"$0.given"; echo "$@" >>"$0.words"; echo "17;cluster"')
    program(
        place, "squeue", 'cat "$0.state" 2>/dev/null || { echo "slurm_load_jobs error: Invalid job id" >&2; exit 1; }'
    )
    program(place, "scancel", 'echo "$@" >>"$0.words"; echo CANCELLED >"${0%scancel}squeue.state"')
    programs = place.parent / "programs"
    job = sent(place, "train wgan name=x")
    assert (job.id, job.to, job.verb, job.attempt) == ("17", "slurm", "train", 1)
    assert json.loads((place / "runs" / "x" / "job.json").read_text())["id"] == "17"
    assert (programs / "sbatch.given").read_text().startswith("#!/bin/bash\n")
    assert (programs / "sbatch.words").read_text() == "--parsable\n"
    assert known_jobs(Storage()) == [job]
    for said, state in {"PENDING": "waiting", "RUNNING": "running", "TIMEOUT": "failed", "COMPLETED": "done"}.items():
        (programs / "squeue.state").write_text(f"{said}\n")
        assert job_table(Storage())[1].split()[:4] == ["x", "slurm", "17", state]
    (programs / "squeue.state").write_text("PENDING\n")
    with pytest.raises(SettingsError, match="is in job 17 of slurm already; nearest: ganfleet jobs stop x"):
        sent(place, "train wgan name=x")
    (place / "runs" / "x" / "slurm.log").write_text("FID 3\n")
    job.batch.stop(job.id)
    assert (programs / "scancel.words").read_text() == "17\n"
    assert "".join(job.batch.follow(job.id)) == "FID 3\n"
    assert sent(place, "train wgan name=x").attempt == 2
    (programs / "squeue.state").unlink()
    assert find_job("x", Storage()).batch.state("17") == "ended"


def test_what_sbatch_refuses_is_one_line_and_leaves_nothing(place):
    program(place, "sbatch", 'echo "sbatch: error: Batch job submission failed: Invalid account" >&2; exit 1')
    before = snapshot(place)
    with pytest.raises(SettingsError, match="Batch job submission failed: Invalid account"):
        sent(place, "train wgan name=x")
    assert snapshot(place) == before


KUBECTL = """echo "$@" >>"$0.words"
case "$1" in
    apply) cat >"$0.given" ;;
    get) cat "$0.job" 2>/dev/null || true ;;
    logs) echo one; echo two ;;
esac"""


def test_kubectl_is_asked(place):
    program(place, "kubectl", KUBECTL)
    programs = place.parent / "programs"
    job = sent(place, "train wgan name=x kuberay.claim=runs kuberay.namespace=gans", "kuberay")
    assert (job.id, job.where) == ("x-1", "gans")
    assert yaml.safe_load((programs / "kubectl.given").read_text())["metadata"]["name"] == "x-1"
    batch = job.batch
    assert isinstance(batch, KubeRay)
    assert batch.state("x-1") == "ended"
    for status, state in (
        ({}, "waiting"),
        ({"jobStatus": "RUNNING"}, "running"),
        ({"jobStatus": "SUCCEEDED"}, "done"),
        ({"jobDeploymentStatus": "Failed"}, "failed"),
    ):
        (programs / "kubectl.job").write_text(json.dumps({"status": status}))
        assert batch.state("x-1") == state
    assert "".join(batch.follow("x-1")) == "one\ntwo\n"
    batch.stop("x-1")
    words = (programs / "kubectl.words").read_text().splitlines()
    assert words[0] == "apply --filename - --namespace gans"
    assert words[-1] == "delete rayjob x-1 --wait=false --namespace gans"


def test_a_place_that_does_not_answer_is_told_in_the_list(place):
    program(place, "sbatch", "echo 5")
    sent(place, "train wgan name=x")
    assert "squeue is not installed here" in job_table(Storage())[1]


def test_a_damaged_file_of_a_job_is_named(place):
    (place / "runs" / "first" / "job.json").write_text("{")
    with pytest.raises(SettingsError, match="job.json is damaged"):
        find_job("first", Storage())


def test_each_place_has_its_batch():
    job = Job("x", "slurm", "1", "log", "train", 1, "")
    assert [type(replace(job, to=place).batch).__name__ for place in PLACES if place != "here"] == [
        *("Slurm", "KubeRay", "RayJobs")
    ]


def test_a_program_that_fails_is_told_by_what_it_says(place):
    program(place, "squeue", "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1")
    with pytest.raises(BatchError, match="Unable to contact slurm controller"):
        Slurm(Path("log")).state("1")


def test_the_guides_rayjob_is_rendered_as_it_is_written_there(place):
    (line,) = [line for line in commands("docs/howto/kuberay.md") if "kuberay.claim=" in line]
    done = ganfleet(place, *shlex.split(line)[1:])
    assert done.returncode == 0, done.stderr
    job = yaml.safe_load(done.stdout)
    assert job["kind"] == "RayJob"
    (workers,) = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert (workers["replicas"], workers["maxReplicas"]) == (2, 8)
    (container,) = workers["template"]["spec"]["containers"]
    assert container["image"] == "REGISTRY/ganfleet:1"


KUBERAY_LINES = [line for page in pages() for line in commands(page) if "--to kuberay" in line]


@pytest.mark.parametrize("line", KUBERAY_LINES)
def test_each_line_for_kuberay_that_a_reader_may_copy_keeps_its_results(place, moto_server, monkeypatch, line):
    moto_server.be_asked(monkeypatch)
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto_server.url)
    boto3.session.Session().client("s3", endpoint_url=moto_server.url).create_bucket(Bucket="bucket")
    words = shlex.split(line.partition("#")[0])[1:]
    done = ganfleet(place, *[word for word in words if word != "--apply"])
    assert done.returncode == 0, done.stderr
    head = yaml.safe_load(done.stdout)["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]
    (container,) = head["spec"]["containers"]
    mounted = [mount["mountPath"] for mount in container["volumeMounts"]]
    run = head["metadata"]["annotations"]["ganfleet/run"]
    kept = set(re.findall(r"storage\.path=(\S+)", run))
    assert len(kept) == 1
    assert kept <= {"s3://bucket/runs", *mounted}


def test_a_pod_that_would_keep_its_results_to_itself_is_refused(place):
    with pytest.raises(SettingsError, match="nearest: kuberay.claim=") as refused:
        asked("search wgan name=x kuberay.secret=s3", "kuberay")
    assert str(refused.value) == (
        f"storage.path={place}/runs is in no volume of the pods, and is lost with them; nearest:"
        " kuberay.claim=NAME of a volume to be mounted there, or storage.path=s3://BUCKET/PREFIX"
        " tracking.uri=http://HOST:PORT"
    )
