"""``qkvault extract``: run a model over a data set into a vault."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from qkvault import one_line

from .engine import HERE, Engine, engine_options, open_engine
from .places import PLACE
from .progress import RunLog, format_bytes, format_seconds
from .vectors import vectors_option

if TYPE_CHECKING:
    from qkvault import Place
    from qkvault_extractor import ExtractOptions, ExtractReport, Profile

FORMATS = ("jsonl", "csv", "tsv", "parquet", "text", "conll", "mrpc", "datasets")


def run_extraction(
    options: ExtractOptions,
    log_json: bool = False,
    engine: Engine = HERE,
    profile: bool = False,
) -> ExtractReport:
    """Extract with a progress bar and print what came of it."""
    from qkvault_extractor import extract

    with RunLog("extract", log_json) as log:
        report = extract(options, log.progress, executor=engine.executor, window=engine.window)
        facts = asdict(report)
        facts["profile"]["limit"] = report.profile.limit
        log.finish(summarise(report, options.out), **facts)
    if not log_json:
        echo_notes(report.notes)
    if profile and not log_json:
        click.echo("\n".join(tell_profile(report.profile)))
    return report


def echo_notes(notes: Iterable[str]) -> None:
    """Say on standard error what the user should know of the data."""
    for note in notes:
        click.echo(f"note: {one_line(note)}", err=True)


def tell_profile(profile: Profile) -> list[str]:
    """A table of where the time went, and what limited the run."""
    from qkvault_extractor import STAGES

    lines = [f"{'stage':<10} {'seconds':>8}  {'of all':>6}"]
    for stage, seconds in profile.seconds.items():
        share = seconds / profile.wall
        lines.append(f"{stage:<10} {seconds:8.2f}  {share:6.1%}  {STAGES[stage]}")
    lines.append(f"{'all':<10} {profile.wall:8.2f}  compress and write go on beside the others")
    if profile.halved:
        lines.append(f"{profile.halved} batches were halved: the device had not the memory")
    return [*lines, f"limited by: {profile.limit} ({STAGES[profile.limit]})"]


def summarise(report: ExtractReport, out: Place) -> str:
    """One line about a finished extraction."""
    if report.already_complete:
        return f"{out}: already complete, {report.examples} examples; nothing to do"
    skipped = f", {report.rejected} rejected" if report.rejected else ""
    return (
        f"{out}: {report.examples} examples{skipped}, {format_bytes(report.bytes)}"
        f" in {format_seconds(report.seconds)}"
    )


def _names(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in value.split(",") if name.strip()) if value else ()


_OPTIONS = (
    click.option(
        "--model", required=True, help="Local folder or Hub name of a transformers model."
    ),
    click.option(
        "--data",
        required=True,
        multiple=True,
        help="File, folder or `datasets` name; repeat to join files.",
    ),
    click.option("--out", required=True, type=PLACE, help="Vault to write."),
    click.option(
        "--format", "format_", type=click.Choice(FORMATS), help="Force the data's format."
    ),
    click.option(
        "--text-columns",
        callback=_names,
        metavar="A[,B]",
        help="Column of the text, or the two of a pair.",
    ),
    click.option("--label-column", help="Column of the gold label."),
    click.option("--id-column", help="Column of a unique id; row numbers otherwise."),
    click.option(
        "--target-column",
        help="Column of the text that an encoder-decoder's decoder reads; or --generate it.",
    ),
    click.option("--split", help="Split of a `datasets` data set."),
    click.option("--config", help="Configuration of a `datasets` data set."),
    click.option("--limit", type=click.IntRange(min=1), help="Take only the first so many rows."),
    click.option(
        "--arrays",
        callback=_names,
        default="attention,query,key,value",
        show_default=True,
        help="What to keep.",
    ),
    click.option(
        "--attention",
        type=click.Choice(("store", "derive")),
        default="store",
        show_default=True,
        help="Keep attention, or derive it from queries and keys when it is read.",
    ),
    click.option(
        "--precision",
        type=click.Choice(("float32", "float16", "uint16", "uint8")),
        default="uint16",
        show_default=True,
        help="How attention is kept.",
    ),
    vectors_option(
        "How queries, keys and values are kept: float32, float16 or int16, all or one by one"
        " (query=int16,key=int16). By default float32 with --precision float32, else float16, but"
        " int16 where attention is derived from them."
    ),
    click.option("--batch-tokens", type=click.IntRange(min=1), help="Tokens per forward pass."),
    click.option(
        "--max-length", type=click.IntRange(min=1), help="Longest example allowed, in tokens."
    ),
    click.option("--truncate", is_flag=True, help="Cut longer examples instead of refusing them."),
    click.option(
        "--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, mps or auto."
    ),
    click.option(
        "--dtype",
        type=click.Choice(("float32", "float16", "bfloat16", "auto")),
        default="float32",
        show_default=True,
        help="Type of the weights and the model's arithmetic; auto: the checkpoint's own.",
    ),
    click.option(
        "--global-tokens",
        type=click.Choice(("none", "first", "question")),
        help="Tokens of Longformer and LED that see all others: none, the first of each text, or"
        " those of the first of two texts. By default what the checkpoint's own class does.",
    ),
    click.option(
        "--chat-template",
        is_flag=True,
        help="Texts are lists of messages, written out by the model's own chat template.",
    ),
    click.option(
        "--generate",
        type=click.IntRange(min=1),
        metavar="N",
        help="Let the model go on with each text, greedily, by up to N tokens; an encoder-decoder"
        " writes each text's target.",
    ),
    click.option(
        "--on-bad",
        type=click.Choice(("stop", "skip")),
        default="stop",
        show_default=True,
        help="A row that cannot be used: stop, or skip it and list it.",
    ),
)


def extraction_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say what is extracted."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def options_from(chosen: dict[str, Any]) -> ExtractOptions:
    """What was chosen of :func:`extraction_options`."""
    from qkvault_extractor import ExtractOptions

    given = {name: value for name, value in chosen.items() if value is not None}
    return ExtractOptions(format=given.pop("format_", None), **given)


@click.command()
@extraction_options
@engine_options
@click.option("--log-json", is_flag=True, help="Log one JSON object a line.")
@click.option("--profile", is_flag=True, help="Tell where the time went, and what limited the run.")
def extract(log_json: bool, profile: bool, **chosen: Any) -> None:
    """Run a model over a data set and keep its attention, queries, keys and values.

    Run the same command again to go on where it stopped.

    \b
    Examples:
      qkvault extract --model bert-base-uncased --data pairs.jsonl --out pairs.vault
      qkvault extract --model ./my-bert --data msr_paraphrase_train.txt --out mrpc.vault
      qkvault extract --model ./my-llama --data books.jsonl --out b.vault --attention derive
      qkvault extract --model ./t5 --data pairs.jsonl --target-column german --out de.vault
      qkvault extract --model ./t5 --data english.txt --generate 64 --out written.vault
      qkvault extract --model gpt2 --data stories.txt --out stories.vault --limit 500
      qkvault extract --model ./chat --data talks.jsonl --out t.vault --chat-template --generate 64
      qkvault extract --model ./bert --data glue --config mrpc --split train --out m.vault
    """
    with open_engine(chosen) as engine:
        run_extraction(options_from(chosen), log_json, engine, profile)
