"""`ganfleet data`: datasets packed as shards with a manifest, in a folder or in S3."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from gan_core.data.manifest import Manifest
from gan_core.experiment import DATA_NAMES, Data
from gan_core.files import expanded
from gan_core.settings import IMPORT_PATH, SettingsError, installed, similar
from pipelines.cli._usage import VerbGroup
from pipelines.console import byte_bar, count_bar, working
from pipelines.data.known import known_sets
from pipelines.data.transfer import find_damage, find_packs, pull_pack
from pipelines.launch import find_data, image_size
from pipelines.runs import named_classes
from pipelines.settings import CommonSettings, open_store, read_manifest, restricted_settings

DAMAGED = 1
SHARD_MB = 64.0

app = typer.Typer(
    cls=VerbGroup, help="Pack a dataset as checksummed shards, in a folder or in S3; pull, list and verify packs."
)

Source = Annotated[str, typer.Argument(metavar="FOLDER|s3://BUCKET/PREFIX", show_default=False)]
Assignments = Annotated[list[str] | None, typer.Argument(metavar="[storage.endpoint_url=URL]", show_default=False)]


class _PackSettings(CommonSettings):
    """The settings of a command that makes packs."""

    data: Data = Data()


@app.command()
def pack(
    source: Annotated[str, typer.Argument(metavar="FOLDER|FILE.npz|NAME|MODULE:NAME", show_default=False)],
    dest: Annotated[str, typer.Argument(metavar="FOLDER|s3://BUCKET/PREFIX", show_default=False)],
    assignments: Annotated[list[str] | None, typer.Argument(metavar="[key=value ...]", show_default=False)] = None,
    shard_mb: Annotated[float, typer.Option(min=0.001, help="About how many megabytes make a shard.")] = SHARD_MB,
) -> None:
    """Write a dataset as a game sees it: ganfleet data pack photos/ s3://bucket/photos data.image_size=64."""
    settings = restricted_settings(
        _PackSettings, [*_source(source, assignments or []), *(assignments or [])], "data", "storage"
    )
    for name in ("held_out", "batch_size", "flip"):
        if name in settings.data.model_fields_set:
            raise SettingsError(f"data.{name} belongs to training, a pack holds all images", nearest="leave it out")
    store, console = open_store(dest, settings.storage), Console(stderr=True)

    from pipelines.data.write import plan_pack, write_pack

    size, found = image_size(settings.data, find_data(settings.data, settings.storage))
    source_data = settings.data if size is None else settings.data.override(f"image_size={size}")
    with working(console, f"reading {source}"):
        plan = plan_pack(source_data, round(shard_mb * 1e6), partial(count_bar, console))
    for note in (*found, *plan.notes):
        typer.echo(f"note: {note}", err=True)
    with byte_bar(console, f"packing to {dest}", plan.manifest.size) as progress:
        written = write_pack(plan, store, dest, progress)
    _describe(dest, plan.manifest)
    if not written:
        typer.echo("was there already")


@app.command(name="pull")
def pull_(source: Source, dest: Path, assignments: Assignments = None) -> None:
    """Bring a pack to a folder; goes on where an earlier pull ended."""
    if str(dest).startswith("s3:"):
        raise SettingsError(f"{dest} is no folder", nearest=f"ganfleet data pack SOURCE {dest}")
    store = open_store(source, restricted_settings(CommonSettings, assignments, "storage").storage)
    manifest = read_manifest(store, source)
    with byte_bar(Console(stderr=True), f"pulling {source}", manifest.size) as progress:
        pull_pack(store, dest.absolute(), source, manifest, progress)
    _describe(str(dest), manifest)


@app.command()
def ls(
    source: Annotated[str | None, typer.Argument(metavar="FOLDER|s3://BUCKET/PREFIX", show_default=False)] = None,
    assignments: Assignments = None,
) -> None:
    """List the packs in a place; without one, every data set by name, where it is, or how to get it."""
    if source is None:
        for one in known_sets():
            typer.echo(str(one))
        return
    store = open_store(source, restricted_settings(CommonSettings, assignments, "storage").storage)
    for name, manifest in find_packs(store, source):
        _describe(f"{source.rstrip('/')}/{name}".rstrip("/"), manifest)


@app.command()
def verify(source: Source, assignments: Assignments = None) -> None:
    """Read all of a pack and name each damaged or missing shard; the exit code is 1 if there is one."""
    store = open_store(source, restricted_settings(CommonSettings, assignments, "storage").storage)
    manifest = read_manifest(store, source)
    with byte_bar(Console(stderr=True), f"verifying {source}", manifest.size) as progress:
        found = find_damage(store, source, manifest, progress)
    for line in found.values():
        typer.echo(line)
    if found:
        typer.echo(
            f"error: {len(found)} of {len(manifest.files)} files of {source} are damaged; nearest: ganfleet data pack"
            f" SOURCE {source}",
            err=True,
        )
        raise SystemExit(DAMAGED)
    typer.echo(f"{source}: {len(manifest.files)} files are whole")


def _source(source: str, assignments: list[str]) -> list[str]:
    """The settings that SOURCE stands for: a dataset's name, a function, an npz file or a folder of images."""
    for word in assignments:
        if word.startswith("data.name="):
            right = f"ganfleet data pack {word.removeprefix('data.name=')} DEST"
            raise SettingsError(f"{word}: the dataset is the first word", nearest=right)
    names = [name for name in (*DATA_NAMES, *installed("datasets")) if name not in ("folder", "npz", "packed")]
    if source in names or IMPORT_PATH.fullmatch(source):
        return [f"data.name={source}"]
    path = expanded(source)
    if path.is_file() and path.suffix == ".npz":
        return ["data.name=npz", f"data.path={path}"]
    if path.is_dir():
        return ["data.name=folder", f"data.path={path}"]
    raise SettingsError(
        f"'{source}' is no folder of images, npz file or dataset",
        nearest=f"{similar(source, names) or 'a folder or file that is there'} (known: {', '.join(names)})",
    )


def _describe(location: str, manifest: Manifest) -> None:
    height, width = manifest.shape[2:]
    names = f" ({named_classes(manifest.class_names)})" if manifest.class_names else ""
    typer.echo(
        f"{location}: {manifest.name}, {manifest.images} images of {height}x{width}x"
        f"{manifest.channels} ({manifest.values}), {manifest.classes} classes{names}, {len(manifest.shards)} shards,"
        f" {manifest.size / 1e6:.1f} MB, content {manifest.content[:16]}"
    )
