"""Commands for the machine that runs now: score recordings, listen to a stream."""

import csv
import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from asdlib.cli import console
from asdlib.cli.console import app, count, note
from asdlib.errors import ConfigError

ModelPath = Annotated[Path, typer.Argument(help="folder of a run, or a file of asd export")]
Section = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="machine/ID of the sound, or nearest; default: by file name"),
]
Channel = Annotated[int | None, typer.Option(min=0, help="channel to take; default: the first")]
Window = Annotated[
    float | None,
    typer.Option(min=0.01, help="seconds scored at once; default: as long as a training clip"),
]
Quantile = Annotated[
    float | None,
    typer.Option(help="share of normal clips below the threshold; default: as decided, or 0.9"),
]


@app.command()
def score(
    model: ModelPath,
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT…", help="WAV or FLAC files, folders, or - ")
    ],
    section: Section = None,
    channel: Channel = None,
    window: Window = None,
    quantile: Quantile = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="say in which band and when it sounds wrong")
    ] = False,
    pictures: Annotated[
        Path | None, typer.Option(help="folder for a picture of each reason")
    ] = None,
    train: console.TrainedOn = None,
    as_json: console.AsJson = False,
) -> None:
    """Score recordings of any rate and length; print a line of CSV, or of JSON, for each."""
    from asdlib.study.explain import explain as find_reason
    from asdlib.study.score import load_model, open_recordings, score_recordings

    recordings = open_recordings(inputs)
    loaded = load_model(model, train=train, quantile=quantile)
    scored = score_recordings(
        loaded, recordings, section=section, channel=channel, window=window, note=note
    )
    table = csv.writer(sys.stdout, lineterminator="\n")
    for number, (row, samples) in enumerate(scored):
        if explain or pictures:
            reason = find_reason(loaded, samples, row["section"], offset=row["window_start"])
            row["reason"] = reason.as_json() if as_json else reason.sentence
        if pictures:
            from asdlib.plots import plot_reason, save_figure

            save_figure(plot_reason(reason), pictures / f"{number:03d} {Path(row['clip']).stem}")
        if as_json:
            typer.echo(json.dumps(row))
        else:
            table.writerows([row.values()] if number else [row, row.values()])


@app.command()
def listen(
    model: ModelPath,
    source: Annotated[
        str | None, typer.Argument(help="- (standard input), a file, mic, or mic:NAME")
    ] = None,
    section: Section = None,
    rate: Annotated[
        int | None, typer.Option(min=1, help="Hz of raw 16-bit samples; default: a WAV stream")
    ] = None,
    channels: Annotated[int, typer.Option(min=1, help="channels of raw samples")] = 1,
    channel: Annotated[int, typer.Option(min=0, help="channel to take")] = 0,
    wait: Annotated[
        float, typer.Option(min=0, help="seconds to wait for more at the end of a growing file")
    ] = 0.0,
    window: Window = None,
    confirm: Annotated[
        str, typer.Option(metavar="K/N", help="an event is K of N windows above the threshold")
    ] = "3/4",
    quantile: Quantile = None,
    normal: Annotated[
        list[str] | None,
        typer.Option(metavar="PATH", help="normal recordings to estimate false alarms from"),
    ] = None,
    train: console.TrainedOn = None,
) -> None:
    """Listen to a stream; print a line of JSON when it starts or stops sounding wrong."""
    import time
    from functools import partial

    from asdlib.study.listen import Listener, false_alarms, microphone, pcm_stream
    from asdlib.study.score import NEAREST, load_model, open_recordings

    loaded = load_model(model, train=train, quantile=quantile)
    if section == NEAREST or (section is None and len(loaded.sections) > 1):
        raise ConfigError(f"name the section that is heard: --section {loaded.sections[0]}")
    of = loaded.find_section(section or loaded.sections[0])
    try:
        k, n = map(int, confirm.split("/"))
    except ValueError:
        raise ConfigError(f"--confirm {confirm} is not of the form K/N, e.g. 3/4") from None
    make = partial(Listener, loaded, of, confirm=(k, n), window=window)
    if normal:
        recordings = open_recordings(normal)
        found = false_alarms(make(recordings[0].rate), recordings, channel)
        typer.echo(json.dumps({"event": "false alarms"} | found))
    if source is None:
        if normal:
            return
        raise ConfigError("name what to listen to: -, a file, or mic")
    kind, _, device = source.partition(":")
    if kind == "mic":
        own = loaded.front_end.sample_rate
        blocks = microphone(own, device or None, note)
    else:
        stream = sys.stdin.buffer if source == "-" else Path(source).open("rb")  # noqa: SIM115
        own, blocks = pcm_stream(stream, rate, channels, channel, wait)
    listener, started, events = make(own), time.perf_counter(), 0
    with suppress(KeyboardInterrupt):  # the usual end of listening
        for event in listener.hear(blocks):
            events += event.event == "begin"
            typer.echo(json.dumps(event._asdict()))
    took = time.perf_counter() - started
    note(f"{listener.seconds:.1f} s heard in {took:.1f} s, {count(events, 'event')}")
