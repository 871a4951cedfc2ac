"""`compute.ship`: which files are taken, what is refused, and from where a job or a resumed run has the modules."""

import io
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from gan_core.settings import SettingsError, installed
from pipelines.code import changed_files, code_files, make_importable, modules_in, own_modules, pack, unpacked
from pipelines.code._files import MOST_BYTES
from pipelines.launch import CommandLine, begin, search_request, train_request
from pipelines.launch._shipped import IN_JOB
from pipelines.runs import find_checkpoint
from tests.pipelines.small_runs import SMALL, small_train

GAN = """
from gan_core.families.adversarial.wgan import Wgan

class Mine(Wgan):
    mark: int = {mark}
"""


@pytest.fixture
def project(tmp_path, monkeypatch) -> Iterator[Path]:
    """A project of a user, who works in it, with a package in `src`; what it imports is forgotten afterwards."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("GANFLEET_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(IN_JOB, raising=False)
    place = tmp_path / "project"
    write(place, "src/shipped_pkg/__init__.py", "")
    write(place, "src/shipped_pkg/gans.py", GAN.format(mark=1))
    monkeypatch.chdir(place)
    yield place
    forget()


def forget() -> None:
    """As a process that has not imported the package."""
    for name in [name for name in sys.modules if name.partition(".")[0] in ("shipped_pkg", "lone_gan")]:
        del sys.modules[name]
    for place in [place for place in sys.path if "/project" in place or "/cache/code/" in place]:
        sys.path.remove(place)
    installed.cache_clear()


def write(place: Path, name: str, text: str) -> Path:
    file = place / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def line(*words: str, resume: str | None = None) -> CommandLine:
    sizes = () if resume else SMALL
    families, settings = [word for word in words if "=" not in word], [word for word in words if "=" in word]
    return CommandLine.of([*families, *sizes, *settings], None, resume)


def test_modules_and_what_lies_next_to_them_are_taken(project):
    for name in ("shipped_pkg/kernel.cu", "more.py", "shipped_pkg/__pycache__/gans.pyc", ".git/x.py", "env/pyvenv.cfg"):
        write(project / "src", name, "")
    write(project / "src", "env/lib/huge.py", "")
    write(project / "src", "runs/a/script.py", "")
    (project / "src" / "linked").symlink_to(project / "src" / "shipped_pkg")
    (project / "src" / "linked-file.txt").symlink_to("more.py")
    (project / "src" / "shipped_pkg" / "around").symlink_to("..")
    found = code_files([project / "src"], apart=[project / "src" / "runs"])
    own = {"shipped_pkg/__init__.py", "shipped_pkg/gans.py", "shipped_pkg/kernel.cu"}
    linked = {f"linked/{Path(name).name}" for name in own}
    assert {name for name in found if "around" not in name} == {*own, *linked, "more.py", "linked-file.txt"}
    assert len(found) < 20
    assert modules_in(pack(found)) == {"shipped_pkg", "linked", "more"}


def test_what_git_ignores_is_left_out_but_for_an_installations_entry_points(project):
    write(project, ".gitignore", "*.bin\n*.egg-info\nbuilt/\n")
    for name in ("weights.bin", "built/made.py", "mine.egg-info/entry_points.txt", "shipped_pkg/new.py"):
        write(project / "src", name, "")
    for command in (["init", "-q"], ["add", "src/shipped_pkg/gans.py"]):
        subprocess.run(["git", *command], cwd=project, check=True, env={**os.environ, "HOME": str(project)})
    (project / "src" / "shipped_pkg" / "gone.py").write_text("")
    expected = {f"shipped_pkg/{name}.py" for name in ("__init__", "gans", "gone", "new")}
    assert set(code_files([project / "src"])) == {*expected, "mine.egg-info/entry_points.txt"}


def test_equal_files_make_equal_archives_and_others_are_named(project):
    before = pack(code_files([project / "src"]))
    for path in project.rglob("*.py"):
        os.utime(path, (1, 1))
    assert pack(code_files([project / "src"])) == before
    write(project, "src/shipped_pkg/gans.py", GAN.format(mark=2))
    write(project, "src/shipped_pkg/new.py", "")
    (project / "src/shipped_pkg/__init__.py").unlink()
    after = pack(code_files([project / "src"]))
    assert changed_files(before, after) == [f"shipped_pkg/{name}.py" for name in ("__init__", "gans", "new")]
    with zipfile.ZipFile(io.BytesIO(after)) as opened:
        assert opened.read("shipped_pkg/gans.py").decode() == GAN.format(mark=2)


def test_an_unpacked_module_comes_before_others_of_its_name(project):
    older = write(project, "older/lone_gan.py", "here = 'older'").parent
    sys.path.insert(0, str(older))
    write(project, "new/lone_gan.py", "here = 'new'")
    folder = unpacked(pack(code_files([project / "new"])))
    assert unpacked(pack(code_files([project / "new"]))) == folder
    make_importable([folder])
    module = import_module("lone_gan")
    assert (module.here, Path(module.__file__).parent) == ("new", folder)


@pytest.mark.parametrize(
    ("ship", "said"),
    [
        ("scr", "{here}/scr is not there; nearest: compute.ship={here}/src"),
        (
            "src/shipped_pkg",
            "{here}/src/shipped_pkg is a package, not the folder that .*={here}/src$",
        ),
        ("src/shipped_pkg/gans.py", "gans.py is a part of a package, not the folder that it lies in; .*={here}/src$"),
        ("notes.txt", "{here}/notes.txt is no Python module; nearest: compute.ship={here}$"),
        ("my-data", "{here}/my-data has no Python module; nearest: the folder of your modules"),
        (
            "large",
            "{here}/large has 150 MB, of which weights.bin is 150 MB; at most 100 MB are shipped",
        ),
        ("[src, again]", "compute.ship: shipped_pkg is in {here}/src and in {here}/again; nearest: one of them"),
        ("hiding", "its queue would hide Python's own module of that name; nearest: .* my_queue"),
        ("", "compute.ship= names no folder; nearest: compute.ship=src"),
        ("{a: 1}", "names no folder; nearest: compute.ship=src"),
    ],
)
@pytest.mark.parametrize("verb", [train_request, search_request])
def test_what_cannot_be_shipped_is_one_line(project, ship, said, verb):
    for name in ("notes.txt", "my-data/a.txt", "large/one.py", "again/shipped_pkg/two.py", "hiding/queue.py"):
        write(project, name, "")
    with (project / "large" / "weights.bin").open("wb") as file:
        file.truncate(MOST_BYTES * 3 // 2)
    with pytest.raises(SettingsError, match=said.format(here=project)) as error:
        verb(line("wgan", f"compute.ship={ship}", "name=new"))
    assert "\n" not in str(error.value)
    assert not (project / "runs").exists()


def test_a_family_is_found_in_what_is_shipped_and_kept_with_the_run(project):
    write(project, "lone_gan.py", GAN.format(mark=7))
    request = train_request(line("shipped_pkg.gans:Mine", "compute.ship=[src, lone_gan.py]", "name=first"))
    assert request.experiment.family.mark == 1
    assert request.experiment.compute.ship == (project / "src", project / "lone_gan.py")
    assert own_modules(request.experiment) == {"shipped_pkg"}
    with begin(request) as (begun, undo):
        assert begun.notes == (f"shipped: 3 files of {project}/src, {project}/lone_gan.py, 1 kB",)
        assert modules_in((project / "runs/first/code.zip").read_bytes()) == {"shipped_pkg", "lone_gan"}
        undo()
    assert not (project / "runs/first").exists()
    searched = search_request(line("lone_gan:Mine", "compute.ship=lone_gan.py", "name=second"))
    assert searched.experiment.families[0].mark == 7


def begun(project: Path) -> None:
    with begin(train_request(line("shipped_pkg.gans:Mine", "compute.ship=src", "name=first"))):
        pass
    forget()


def test_a_resumed_run_tells_what_changed_and_plays_that(project):
    begun(project)
    with begin(train_request(line(resume="first"))) as (same, _):
        assert same.notes == ()
    write(project, "src/shipped_pkg/gans.py", GAN.format(mark=2))
    forget()
    with begin(train_request(line(resume="first"))) as (other, _):
        assert other.notes == (f"compute.ship={project}/src has changed since 'first' began: shipped_pkg/gans.py",)
    assert b"mark" in zipfile.ZipFile(project / "runs/first/code.zip").read("shipped_pkg/gans.py")
    assert modules_in((project / "runs/first/code.zip").read_bytes()) == {"shipped_pkg"}


def test_a_run_whose_folder_is_gone_has_its_modules(project, tmp_path):
    begun(project)
    shutil.move(project / "src", tmp_path / "away")
    with begin(train_request(line(resume="first"))) as (resumed, _):
        assert resumed.experiment.family.mark == 1
        kept = f"{project}/runs/first/code.zip"
        assert resumed.notes == (f"compute.ship={project}/src is gone: the modules are those of {kept}",)
    forget()
    (project / "runs/first/checkpoints/step-000020").mkdir(parents=True)
    assert find_checkpoint("first", resumed.experiment.storage).name == "step-000020"
    assert import_module("shipped_pkg.gans").Mine().mark == 1
    forget()
    (project / "runs/first/code.zip").write_bytes(b"torn")
    with pytest.raises(SettingsError, match=r"/runs/first/code.zip is damaged: .*; nearest: delete it$"):
        train_request(line(resume="first"))
    (project / "runs/first/code.zip").unlink()
    with pytest.raises(SettingsError, match=f"^compute.ship={project}/src is not there; nearest: "):
        train_request(line(resume="first"))


def test_a_job_plays_what_was_submitted(project, monkeypatch):
    """Not what lies in the folder when it starts, which may be another machine's, too."""
    begun(project)
    write(project, "src/shipped_pkg/gans.py", GAN.format(mark=2))
    (project / "runs/first/experiment.yaml").unlink()
    monkeypatch.setenv(IN_JOB, "1")
    with begin(train_request(line("shipped_pkg.gans:Mine", "compute.ship=src", "name=first"))) as (job, _):
        assert job.experiment.family.mark == 1
        assert job.notes == ()


def test_nothing_is_shipped_unless_it_is_asked_for(project):
    experiment = small_train(project / "runs", "wgan", "plain")
    assert experiment.compute.ship == ()
    with begin(train_request(line("wgan", "name=plain"))):
        assert not (project / "runs/plain/code.zip").exists()
