"""The command line: it parses and calls. stdout is for results, stderr for progress; imports are in the commands."""

from __future__ import annotations

import json
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from functools import wraps
from pathlib import Path
from typing import Any

import click

from neuroprobe.errors import NeuroprobeError, ProtocolError

LISTS = ("alterations", "generators", "networks", "analyses", "indexes", "images", "layers", "readers", "writers")


def _readable(function: Callable[..., None]) -> Callable[..., None]:
    """Show our own errors as sentences and our warnings as lines, without a traceback."""

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("always", UserWarning)
            warnings.showwarning = _show_warning  # type: ignore[assignment]
            try:
                function(*args, **kwargs)
            except NeuroprobeError as error:
                # errors about a protocol begin with their place
                prefix = "" if error.place or isinstance(error, ProtocolError) else "error: "
                click.echo(f"{prefix}{error}", err=True)
                sys.exit(error.exit_code)
            except OSError as error:
                if error.filename is None:
                    raise
                click.echo(f"error: {str(error.filename)!r}: {error.strerror}", err=True)
                sys.exit(1)
            except KeyboardInterrupt:
                click.echo("\ninterrupted: run the same command again to go on", err=True)
                sys.exit(130)

    return call


def _show_warning(message: Warning | str, category: type[Warning], *_: Any) -> None:
    if issubclass(category, UserWarning):
        click.echo(f"warning: {message}", err=True)


def _device(context: click.Context, option: click.Parameter, value: str | None) -> str | None:
    """Check a device by the rule of protocols."""
    from neuroprobe.protocol.schema import DEVICES

    if value is not None and not re.fullmatch(DEVICES, value):
        raise click.BadParameter(f"given {value!r}, expected auto, cpu, cuda, or cuda:N")
    return value


def _client(scheduler: str | None) -> AbstractContextManager[Any]:
    """Connect to a scheduler, where one is given."""
    if scheduler is None:
        return nullcontext()
    from neuroprobe.cluster.workers import connected

    return connected(scheduler)


SET = click.option("--set", "chosen", metavar="NAME", help="Which of the protocol's sets of alterations is run.")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="neuroprobe")
def main() -> None:
    """Record neural networks as an electrophysiologist records neurons."""


@main.command()
@click.argument("protocol", type=click.Path(path_type=Path))
@SET
@_readable
def check(protocol: Path, chosen: str | None) -> None:
    """Check a PROTOCOL and say every error with its line and column."""
    from neuroprobe.protocol.digest import protocol_hash
    from neuroprobe.protocol.reader import load_protocol
    from neuroprobe.protocol.reference import reference_settings
    from neuroprobe.protocol.schema import Protocol

    loaded = load_protocol(protocol, chosen)
    click.echo(f"{protocol}: valid, hash {protocol_hash(loaded)[:16]}")
    for place, value in (reference_settings(loaded) if isinstance(loaded, Protocol) else {}).items():
        click.echo(f"  {place}: {json.dumps(value)}")


@main.command()
@click.argument("protocol", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Zarr store of the result.")
@SET
@click.option("--dry-run", is_flag=True, help="Print the plan (rows, units, memory, disk, time) and stop.")
@click.option("--device", callback=_device, help="Device, in place of the protocol's: auto, cpu, cuda, cuda:1.")
@click.option("--limit", type=click.IntRange(min=4), help="Base samples, where fewer than the protocol's are wanted.")
@click.option("--memory", help="What the process may take: 4GB, 512MB, 4GiB, or bytes. Default: what is free.")
@click.option("--workers", type=int, metavar="N", help="Processes that share the cores of this machine.")
@click.option("--scheduler", metavar="tcp://…", help="Dask scheduler, or its file, whose workers do it.")
@click.option("--overwrite", is_flag=True, help="Delete a result that is there.")
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
@_readable
def run(
    protocol: Path,
    output: Path | None,
    chosen: str | None,
    dry_run: bool,
    device: str | None,
    limit: int | None,
    memory: str | None,
    workers: int | None,
    scheduler: str | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Run a PROTOCOL; the same command again resumes an interrupted run, or extends one to more samples."""
    from neuroprobe import runner
    from neuroprobe.protocol.reader import load_protocol
    from neuroprobe.protocol.schema import Protocol

    if output is None and not dry_run:
        raise click.UsageError("give the store of the result by -o OUT.zarr, or --dry-run")
    loaded = load_protocol(protocol, chosen)
    if device is not None and isinstance(loaded, Protocol):
        loaded = loaded.model_copy(update={"record": loaded.record.model_copy(update={"device": device})})
    # networks of users print, and so do libraries that download
    with redirect_stdout(sys.stderr):
        if dry_run:
            made = runner.plan(loaded, limit=limit, memory=memory)
            printed = json.dumps(made.as_dict()) if as_json else str(made)
        else:
            assert output is not None
            with _client(scheduler) as client:
                runner.run(
                    loaded,
                    output,
                    overwrite=overwrite,
                    limit=limit,
                    memory=memory,
                    workers=workers,
                    client=client,
                )
            printed = str(output)
    click.echo(printed)


@main.command()
@click.argument("protocol", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Folder to write.")
@click.option("--repeats", type=click.IntRange(min=1), help="Presentations of each row of a design; default: 2.")
@click.option("--overwrite", is_flag=True, help="Replace a set of stimuli that is there.")
@click.option("--json", "as_json", is_flag=True, help="Print what was written as JSON.")
@_readable
def stimuli(protocol: Path, output: Path, repeats: int | None, overwrite: bool, as_json: bool) -> None:
    """Write the stimuli of a PROTOCOL for an experimenter: images, the order of presentation, and hashes."""
    from neuroprobe.protocol.reader import load_protocol
    from neuroprobe.stimulus_export import write_stimuli

    with redirect_stdout(sys.stderr):
        written = write_stimuli(load_protocol(protocol), output, repeats=repeats, overwrite=overwrite)
    told = f"{output}: {len(written['images'])} images, {written['n_presentations']} presentations, {written['sha256']}"
    click.echo(json.dumps(written) if as_json else told)


@main.command()
@click.argument("store", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@_readable
def status(store: Path, as_json: bool) -> None:
    """Say what a STORE holds: how far the run is, stored responses, and what was found in each layer."""
    from neuroprobe import summary

    click.echo(json.dumps(summary.status(store).as_dict()) if as_json else str(summary.status(store)))


@main.command()
@click.argument("store", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="HTML page.")
@click.option("--interim", is_flag=True, help="Show what is done so far, of a run that goes on.")
@_readable
def report(store: Path, output: Path, interim: bool) -> None:
    """Write one self-contained HTML page about the result in a STORE."""
    from neuroprobe.report import write_report

    write_report(store, output, interim=interim)
    click.echo(str(output))


@main.command()
@click.argument("store", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="netCDF4 file.")
@click.option("--interim", is_flag=True, help="Write what is done so far, of a run that goes on.")
@_readable
def export(store: Path, output: Path, interim: bool) -> None:
    """Write the result in a STORE as one netCDF4 file, with a group per analysis and layer."""
    from neuroprobe.export import export_netcdf

    export_netcdf(store, output, interim=interim)
    click.echo(str(output))


@main.command()
@click.argument("store", type=click.Path(path_type=Path))
@click.argument("query", required=False)
@click.option(
    "--with",
    "others",
    metavar="STORE",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Another result of the same network, whose columns stand beside those of the first; may be given again.",
)
@click.option("--columns", help="Columns of the output, separated by commas.")
@click.option("--order-by", "--sort", "order_by", metavar="COLUMN", help="Column to order by, the largest value first.")
@click.option("--ascending", is_flag=True, help="Order the smallest value first.")
@click.option("--limit", type=click.IntRange(min=0), help="Units to print, at most.")
@click.option("--csv", "style", flag_value="csv", help="Print CSV with all digits.")
@click.option("--json", "style", flag_value="json", help="Print a list of JSON records.")
@click.option(
    "--gallery",
    type=click.Path(path_type=Path),
    help="Write an HTML page with the pictures of the units, 500 at most, in place of printing them.",
)
@click.option("--list-columns", "only_list", is_flag=True, help="Print the columns that there are, and stop.")
@_readable
def select(
    store: Path,
    query: str | None,
    others: tuple[Path, ...],
    columns: str | None,
    order_by: str | None,
    ascending: bool,
    limit: int | None,
    style: str | None,
    gallery: Path | None,
    only_list: bool,
) -> None:
    """Print the units of the result in a STORE, or netCDF export, for which a QUERY is true: one a line.

    A query is such as "layer == 'conv2' and first_order_hue > 2 * first_order_se_hue", or "channel in [3, 5] and not
    (mean < 0 or mean > 1)", or "'red' in colours and under(classes, 'animal') > 0.3", or "near('conv2/17', 0.4)".
    Without one, all units are printed.
    """
    from neuroprobe.analysis.select import list_columns, select_units
    from neuroprobe.export import write_units

    results = [store, *others]
    if only_list:
        rows = list_columns(results)
        click.echo(json.dumps(rows) if style == "json" else _table(rows))
        return
    if gallery is not None and style is not None:
        raise click.UsageError("--gallery writes a page, and nothing else is printed; leave --csv and --json away")
    chosen = None if columns is None else [name.strip() for name in columns.split(",")]
    if gallery is not None and chosen is not None:
        chosen = [*chosen, "layer", "channel"]
    units = select_units(results, query, columns=chosen, order_by=order_by, ascending=ascending, limit=limit)
    if gallery is None:
        write_units(units, sys.stdout, style or "tsv")
    else:
        from neuroprobe.report import write_gallery

        write_gallery(results, units, gallery)
        click.echo(str(gallery))
    click.echo(f"{units.attrs['n_selected']:,} of {units.attrs['n_units']:,} units", err=True)


@main.command()
@click.argument("recording", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    help="Zarr store, or netCDF4 file (.nc), to write.",
)
@click.option("--trials", help="Table of presentations: its name in the file, or a CSV, TSV or Parquet file.")
@click.option("--window", type=float, nargs=2, help="s after the start of a presentation in which spikes are counted.")
@click.option("--interval", is_flag=True, help="Count in each presentation's own interval, in place of a window.")
@click.option("--baseline", type=float, nargs=2, help="s, likewise, for the response without a stimulus.")
@click.option("--bins", help="Width of bins of time in s, or their edges separated by commas.")
@click.option("--measure", type=click.Choice(["count", "rate"]), help="Spikes, or spikes per second.")
@click.option("--factors", multiple=True, help="Column that was varied, or several separated by commas.")
@click.option("--units", multiple=True, help="Units that are wanted, * for any characters.")
@click.option("--region", multiple=True, help="Regions that are wanted.")
@click.option("--stimuli", type=click.Path(path_type=Path), help="Folder of the stimuli, of `neuroprobe stimuli`.")
@click.option("--format", "format_", help="Reader, where the file's name does not tell: nwb, matlab, table, ….")
@click.option("--option", "options", metavar="KEY=VALUE", multiple=True, help="What the reader of one format takes.")
@click.option("--overwrite", is_flag=True, help="Replace a recording that is there.")
@click.option("--json", "as_json", is_flag=True, help="Print what was read as JSON.")
@_readable
def ingest(recording: Path, output: Path, **choices: Any) -> None:
    """Read a RECORDING of an animal and write it as one that every analysis takes.

    Without the choices that it needs, the error says what the file holds: tables, columns, units, regions.
    """
    from neuroprobe import ingestion

    with redirect_stdout(sys.stderr):
        printed = ingestion.ingest(recording, output, **choices)
    click.echo(printed)


@main.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("brain", type=click.Path(path_type=Path))
@click.option("--metric", default="rsa", show_default=True, help="rsa, cka, pls, ridge, linear, …, profiles.")
@click.option("--on", help="Column that tells stimuli apart.")
@click.option("--join", type=click.Choice(["exact", "inner"]), help="Whether stimuli of one side alone are left out.")
@click.option("--units-model", help="Which units of the model, as a query.")
@click.option("--units-brain", help="Which units of the brain, as a query.")
@click.option("--areas", help="Coordinate of the brain's units that tells its areas apart, such as region.")
@click.option("--labels", type=click.Path(path_type=Path), help="Names of the stimuli of dissimilarities, one a line.")
@click.option("--option", "options", multiple=True, metavar="KEY=VALUE", help="Option of the metric.")
@click.option("--workers", type=int, metavar="N", help="Processes that share the cores of this machine.")
@click.option("--scheduler", metavar="tcp://…", help="Dask scheduler, or its file, whose workers do it.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="netCDF4 file of all that was found.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@_readable
def compare(
    model: Path,
    brain: Path,
    metric: str,
    output: Path | None,
    labels: Path | None,
    options: tuple[str, ...],
    scheduler: str | None,
    as_json: bool,
    **choices: Any,
) -> None:
    """Compare the layers of a MODEL with a BRAIN, or another model: stored recordings, dissimilarities, or results."""
    from neuroprobe.comparison.table import compare_files, notes_of, rows_of

    with _client(scheduler) as client:
        given = {"labels": labels, "options": options, "client": client, **choices}
        found = compare_files(model, brain, metric, output, **given)
    if as_json:
        click.echo(json.dumps({**found.attrs, "rows": rows_of(found)}, default=str))
        return
    rows = [{key: _short(value) for key, value in row.items()} for row in rows_of(found)]
    click.echo(_table([{key: key for key in rows[0]}, *rows]))
    click.echo("\n".join(notes_of(found)), err=True)


@main.command(name="list")
@click.argument("what", type=click.Choice(LISTS))
@click.option("--network", help="Network whose layers are listed.")
@click.option("--size", type=click.IntRange(1, 4096), help="Side of the image that the layers are listed for, in px.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@_readable
def list_(what: str, network: str | None, size: int | None, as_json: bool) -> None:
    """List what protocols can name: alterations, generators of stimuli, networks, analyses, indexes of selectivity,
    images, or the layers of a network; and the formats of recordings that are read and written.
    """
    from neuroprobe import catalogue

    if what == "layers" and network is None:
        raise click.UsageError("list layers --network NAME")
    with redirect_stdout(sys.stderr):
        rows = catalogue.layers(network, size) if what == "layers" and network else getattr(catalogue, what)()
    click.echo(json.dumps(rows) if as_json else _table(rows))


@main.command()
@_readable
def schema() -> None:
    """Print the JSON schema of protocols, for editors."""
    from neuroprobe.protocol.reader import protocol_schema

    click.echo(json.dumps(protocol_schema(), indent=1))


def _short(value: str | float | None) -> str:
    if value is None:
        return "–"
    return value if isinstance(value, str) else f"{value:.4f}"


def _table(rows: Sequence[dict[str, str]]) -> str:
    """Columns separated by at least two spaces."""
    widths = {key: max(len(row[key]) for row in rows) for key in rows[0]}
    return "\n".join("  ".join(row[key].ljust(widths[key]) for key in row).rstrip() for row in rows)
