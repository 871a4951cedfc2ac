"""Passwords and keys in settings come into no file and on no screen."""

import os
import subprocess
from pathlib import Path
from urllib.parse import quote

import pytest
import yaml

from gan_core.settings import paths
from infra import passwords
from pipelines.jobs._submit import checked, next_job, rendered
from pipelines.launch._request import CommandLine, train_experiment
from pipelines.launch._search_request import search_experiment
from pipelines.runs._folder import RunFolder
from pipelines.settings import _credentials
from tests.pipelines.small_runs import SMALL, command, created, environment, ganfleet_here, small_train
from tests.servers import free_ports
from tests.tracking_servers import Guard, mlflow_server, open_folder

SECRET = "hun#ter+2 pw!"
ENCODED = quote(SECRET, safe="")
VARIABLES = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
ADDRESSES = [
    "http://mary:{}@127.0.0.1:5000",
    "https://{}@host/team",
    "s3://KEY:{}@bucket/x",
    "postgresql://mary:{}@host/db",
    "mysql+pymysql://mary:{}@host/db?charset=utf8",
    "http://host:5000/?token={}",
    "https://bucket.host/key?X-Amz-Credential=me&X-Amz-Signature={}",
]


@pytest.fixture(autouse=True)
def fresh(monkeypatch, tmp_path):
    """A process that has read nothing yet, whose environment is restored."""
    monkeypatch.setattr(passwords, "_known", set())
    monkeypatch.setattr(_credentials, "_warned", set())
    for name in (*VARIABLES, "AWS_PROFILE"):
        monkeypatch.setenv(name, "")
        os.environ.pop(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GANFLEET_CACHE", str(tmp_path / "cache"))


def settings(verb: str) -> list[str]:
    build = {"train": train_experiment, "search": search_experiment}[verb]
    return sorted({*paths(build(["wgan_gp"], []))} - {"families", "fixed", "family.name", "name"})


def leaks(*said: str, below: Path) -> list[str]:
    """Where the secret stands, as it is or encoded."""
    files = {str(path): path.read_bytes() for path in below.rglob("*") if path.is_file()}
    everything = {**files, **{f"text {n}": text.encode() for n, text in enumerate(said)}}
    return [name for name, content in everything.items() if SECRET.encode() in content or ENCODED.encode() in content]


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("path", ["tracking.uri", "storage.path", "storage.endpoint_url", "data.path"])
def test_an_address_with_a_secret_is_shown_and_written_without(tmp_path, monkeypatch, capsys, caplog, path, address):
    """In what a dry run prints, what a job is given, and in what is refused."""
    word = f"{path}={address.format(ENCODED)}"
    said = [caplog.text]
    for line in (
        ["train", "wgan_gp", word, "--dry-run"],
        ["submit", "--to", "slurm", "search", "wgan_gp", word],
        ["submit", "--to", "kuberay", "train", "wgan_gp", "kuberay.claim=x", "storage.path=/runs", word],
        ["submit", "--to", "ray", "train", "wgan_gp", word],
        ["doctr", word],
        ["evaluate", "nothing", word],
        ["train", f"{word}x", f"{path}s={address.format(ENCODED)}"],
    ):
        done = ganfleet_here(monkeypatch, capsys, *line)
        assert done.returncode in (0, 2), done.stderr
        said += [done.stdout, done.stderr]
    assert leaks(*said, below=tmp_path) == []


@pytest.mark.parametrize("path", ["tracking.uri", "storage.endpoint_url", "tracking.url"])
def test_an_address_without_a_scheme_is_refused_without_its_password(tmp_path, monkeypatch, capsys, path):
    done = ganfleet_here(monkeypatch, capsys, "train", "wgan_gp", f"{path}=mary:{ENCODED}@host:5000", "--dry-run")
    assert done.returncode == 2
    assert leaks(done.stdout, done.stderr, below=tmp_path) == []


@pytest.mark.parametrize("verb", ["train", "search"])
def test_no_other_setting_shows_a_secret(tmp_path, monkeypatch, capsys, verb):
    for path in settings(verb):
        word = f"{path}=http://mary:{ENCODED}@host"
        done = ganfleet_here(monkeypatch, capsys, verb, "wgan_gp", word, "--dry-run")
        assert done.returncode in (0, 2), done.stderr
        assert leaks(done.stdout, done.stderr, below=tmp_path) == [], word


def test_the_settings_of_a_tracking_server_give_their_password_to_the_environment(caplog):
    experiment = train_experiment(["wgan"], [f"tracking.uri=https://ma%40ry:{ENCODED}@host:5000/team"])
    assert experiment.tracking_uri == "https://host:5000/team"
    assert (os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"]) == ("ma@ry", SECRET)
    assert train_experiment([], [], experiment.to_yaml()) == experiment
    (line,) = caplog.messages
    assert line.startswith("warning: the password in tracking.uri is used now and written nowhere; give it by ")
    assert "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD" in line


def test_the_keys_in_the_address_of_a_store_do_not_replace_those_that_are_set(monkeypatch):
    words = ["storage.endpoint_url=http://KEY:s3cr3t@host:9000"]
    assert train_experiment(["wgan"], words).storage.endpoint_url == "http://host:9000"
    assert (os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]) == ("KEY", "s3cr3t")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "OTHER")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "other")
    assert train_experiment(["wgan"], words).storage.endpoint_url == "http://host:9000"
    assert os.environ["AWS_ACCESS_KEY_ID"] == "OTHER"


CONFIG = f"""family: wgan
tracking: {{uri: "http://mary:{ENCODED}@host:5000"}}
# before: http://mary:{ENCODED}@other:5000/?token={ENCODED}
"""


def test_a_file_of_settings_goes_to_a_job_without_its_passwords(tmp_path):
    (tmp_path / "mine.yaml").write_text(CONFIG)
    submission = checked("train", CommandLine.of(["name=x"], Path("mine.yaml"), None), "slurm")
    script = rendered(submission, "x-1")
    assert leaks(script, below=tmp_path) == [str(tmp_path / "mine.yaml")]
    text = script.partition("<<'SETTINGS'\n")[2].partition("\nSETTINGS")[0]
    assert yaml.safe_load(text) == {"family": "wgan", "tracking": {"uri": "http://host:5000"}}


def test_the_address_of_a_ray_cluster_is_remembered_without_its_password(monkeypatch):
    for name in ("RAY_API_SERVER_ADDRESS", "RAY_DASHBOARD_ADDRESS", "RAY_ADDRESS"):
        monkeypatch.setenv(name, "")
    submission = checked("train", CommandLine.of(["wgan", "name=x"], None, None), "ray")
    assert next_job(submission, f"http://mary:{ENCODED}@host:8265").where == "http://host:8265"
    assert os.environ["RAY_API_SERVER_ADDRESS"] == f"http://mary:{ENCODED}@host:8265"


def test_a_run_with_a_password_in_its_file_is_resumed_without(tmp_path, monkeypatch, capsys):
    """Of an earlier version. The server is away, so the run is refused."""
    (port,) = free_ports(1)
    folder = created(small_train(tmp_path / "runs", "wgan", "old"))
    settings = yaml.safe_load(folder.experiment.read_text())
    settings["tracking"]["uri"] = f"http://mary:{ENCODED}@127.0.0.1:{port}"
    folder.experiment.write_text(yaml.safe_dump(settings))
    script = rendered(checked("train", CommandLine.of([], None, "old"), "slurm"), "old-1")
    done = ganfleet_here(monkeypatch, capsys, "train", "--resume", "old")
    assert done.returncode == 2
    assert f"tracking.uri=http://127.0.0.1:{port}: no MLflow server answers" in done.stderr
    assert leaks(script, done.stdout, done.stderr, below=tmp_path) == [str(folder.experiment)], "as it was before"


def test_a_store_that_does_not_answer_is_named_without_its_keys(monkeypatch, capsys):
    """Also where the environment names it."""
    (port,) = free_ports(1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://KEY:{ENCODED}@127.0.0.1:{port}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    done = ganfleet_here(monkeypatch, capsys, "data", "ls", "s3://bucket/x")
    assert done.returncode == 2
    assert f"no answer from http://***@127.0.0.1:{port}" in done.stderr
    assert ENCODED not in done.stderr


@pytest.mark.usefixtures("own_cluster")
def test_a_password_in_the_address_lets_in_and_is_written_nowhere(tmp_path, moto_server):
    """Files, artifacts, the server's database and requests, the screen, and what Ray keeps of the driver."""
    with open_folder() as folder, mlflow_server(folder, f"sqlite:///{folder}/mlflow.db", moto_server) as url:
        guard = Guard(url, "mary", SECRET)
        address = guard.url.replace("//", f"//mary:{ENCODED}@")
        words = [*SMALL, "budget.rounds=4", "budget.eval_every=2", f"storage.path={tmp_path}/runs"]
        run = ["train", "wgan", "name=r", *words, f"tracking.uri={address}"]
        hunt = ["search", "wgan", "name=s", "search.trials=2", "search.confirm=0", *words, f"tracking.uri={address}"]
        longer = ["train", "--resume", "r", "budget.rounds=6", f"storage.path={tmp_path}/runs"]
        kept = {**environment(), "RAY_TMPDIR": str(folder), "OMP_NUM_THREADS": "1"}
        ended = [
            subprocess.run(command(*line), cwd=tmp_path, env=kept, capture_output=True, text=True, check=False)
            for line in (run, hunt, longer)
        ]
        guard.close()
        assert [one.returncode for one in ended] == [0, 0, 2], [one.stderr for one in ended]
        assert "without MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD" in ended[2].stderr
        said = [text for one in ended for text in (one.stdout, one.stderr)]
        assert leaks(*said, below=tmp_path) == []
        assert leaks(below=folder) == []
    assert RunFolder(tmp_path / "runs" / "r").steps()
