"""The command `spikeloom`: its verbs, and what happens to their errors."""

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn

import typer

from spikeloom import __version__
from spikeloom.cli import (
    calibrate,
    compare,
    config,
    data,
    doctor,
    evaluate,
    export,
    import_weights,
    predict,
    rates,
    recipes,
    report,
    resume,
    speedrun,
    sweep,
    train,
    zoo,
)
from spikeloom.errors import ConfigError, SpikeloomError
from spikeloom.processes import environment

app = typer.Typer(
    name="spikeloom",
    help="Train deep spiking neural networks.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    epilog="Start with: spikeloom train plif/digits",
)
app.command("train")(train.train)
app.command("resume")(resume.resume)
app.command("import")(import_weights.import_weights)
app.command("eval")(evaluate.evaluate)
app.command("predict")(predict.predict)
app.command("export")(export.export)
app.command("report")(report.report)
app.command("compare")(compare.compare)
app.command("sweep")(sweep.sweep)
app.command("rates")(rates.rates)
app.command("calibrate")(calibrate.calibrate)
app.command("recipes")(recipes.recipes)
app.command("zoo")(zoo.zoo)
app.command("speedrun")(speedrun.speedrun)
app.add_typer(config.app, name="config")
app.add_typer(data.app, name="data")
app.command("doctor")(doctor.doctor)


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"spikeloom {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error; allowed anywhere.")
    ] = False,
) -> None:
    del version, debug


def run(arguments: Sequence[str] | None) -> None:
    """Run a verb and exit.

    An error of the library, or of the file system, is one line on stderr for each mistake, without
    a traceback.
    """
    try:
        alone = environment.number("WORLD_SIZE", 1) == 1
    except ConfigError as error:
        _fail(str(error))
    if alone:
        _run(arguments)
        return
    # One of several processes: whatever happened, it must not wait for others while Python takes
    # its objects down, the process group among them.
    code: object = 1
    try:
        _run(arguments)
    except SystemExit as stop:
        code = stop.code or 0
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 1)


def _run(arguments: Sequence[str] | None) -> None:
    # Threads that spin while they wait make a run many times slower on a machine that others use
    # too. It must be said before torch is loaded; whoever said otherwise is heard.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if "RANK" in os.environ:
        # One of several processes: warnings of torch's C++ parts would come from each of them. Read
        # when torch is loaded, too.
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    words = list(sys.argv[1:] if arguments is None else arguments)
    # People add --debug at the end of the line that failed, where only the verb's options may be.
    debug = "--debug" in words
    rank = 0
    try:
        rank = environment.number("RANK", 0)
        words = [argument for argument in words if argument != "--debug"]
        _refuse_keys_as_options(words)
        app(args=words)
    except SpikeloomError as error:
        if debug:
            raise
        # What all processes of a run have found is said by the first.
        if rank and (error.shared or isinstance(error, ConfigError)):
            sys.exit(2)
        _fail(*(str(error).splitlines() if isinstance(error, ConfigError) else [str(error)]))
    except OSError as error:
        if debug or error.filename is None:
            raise
        _fail(f"{os.fsdecode(error.filename)}: {error.strerror}")


def _refuse_keys_as_options(arguments: Sequence[str]) -> None:
    """`train RECIPE --epochs 4` is meant as `epochs=4`: say so."""
    verb, *rest = arguments or [""]
    if verb not in ("train", "resume", "sweep"):
        return
    command: Any = typer.main.get_command(app)
    options = {"--help"}
    for parameter in command.commands[verb].params:
        options.update(parameter.opts, parameter.secondary_opts)
    for position, argument in enumerate(rest):
        option, _, value = argument.partition("=")
        if argument.startswith("--") and len(option) > 2 and option not in options:
            value = value or next(iter(rest[position + 1 : position + 2]), "VALUE")
            setting = f"{option[2:].replace('-', '_')}={value}"
            raise ConfigError(
                f"no option {option}: a recipe's keys are given without dashes, {setting}"
            )


def _fail(*mistakes: str) -> NoReturn:
    for mistake in mistakes:
        typer.echo(f"error: {mistake}", err=True)
    sys.exit(2)
