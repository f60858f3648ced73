"""`make bench`: the bars of serving, each contender in turn, in one run; the table goes to RESULTS.md.

    python -m benchmarks.run [--seconds 4] [--rounds 5] [--only authorize,grpc] [--before TREE]

A missed bar is marked and listed, and the exit code stays 0: a benchmark on a shared machine judges nobody.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks import audits, capacity, console, log_lines, starts, world
from benchmarks.arena import Arena
from benchmarks.measure import measured
from benchmarks.rows import ROWS
from benchmarks.table import Results, machine, today

RESULTS = Path(__file__).with_name("RESULTS.md")
FIGURES = {
    "memory": starts.memory,
    "ready": starts.ready,
    "log": log_lines.costs,
    "audit": audits.costs,
    "console": console.costs,
}
KEYS = tuple(dict.fromkeys([*(row.key for row in ROWS), *FIGURES]))


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def results(arena: Arena, only: set[str], *, rounds: int, seconds: int) -> Results:
    found = Results()
    for row in ROWS:
        if row.key in only:
            say(f"{row.what}, {row.connections} connections")
            entrants = [arena.entrant(each, connections=row.connections) for each in row.contenders]
            of_row = measured(
                [each for each in entrants if each is not None],
                database=arena.postgres.process_id,
                rounds=rounds,
                seconds=seconds,
            )
            found.rows.append((row, of_row))
    for key, figures in FIGURES.items():
        if key in only:
            for each in figures(arena):
                say(f"{each[0]}: {each[2].found(each[1])}")
                found.starts.append(each)
    return found


def document(found: Results, options: argparse.Namespace) -> list[str]:
    missed = found.missed()
    return [
        "# Results",
        "",
        (
            f"Written by `make bench` on {today()}, on {machine()}; {options.workspaces:,} workspaces with"
            f" {world.MEMBERS} members each; medians of {options.rounds} rounds of {options.seconds} s."
            " In each round the contenders of a row are asked one after the other, and the others are idle."
            " Those who ask share the machine: use the ratios. README.md says what each word means."
        ),
        "",
        *found.noise(),
        "",
        *found.lines(),
        "",
        "## Missed",
        "",
        *(missed or ["Nothing."]),
        "",
    ]


def _keys(text: str) -> set[str]:
    keys = set(text.split(","))
    if unknown := keys - set(KEYS):
        raise argparse.ArgumentTypeError(
            f"no rows are called {', '.join(sorted(unknown))}; there are {', '.join(KEYS)}"
        )
    return keys


def _tree(text: str) -> Path:
    tree = Path(text).resolve()
    if not (tree / "sidecar/__main__.py").exists():
        raise argparse.ArgumentTypeError(f"{text} is no checkout of this project")
    return tree


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--seconds", type=int, default=4, help="of each turn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workspaces", type=int, default=20_000)
    parser.add_argument("--only", type=_keys, default=set(KEYS), help=f"some of {','.join(KEYS)}")
    parser.add_argument("--before", type=_tree, help="a checkout of the release before, for gRPC")
    parser.add_argument("--output", type=Path, help="default: RESULTS.md for a whole run, else nowhere")
    options = parser.parse_args()

    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        Arena(Path(folder), workspaces=options.workspaces, before=options.before) as arena,
    ):
        found = results(arena, options.only, rounds=options.rounds, seconds=options.seconds)
    lines = document(found, options)
    output = options.output or (RESULTS if options.only == set(KEYS) else None)
    if output:
        output.write_text("\n".join(lines))
    if output == RESULTS:
        capacity.write()
    print("\n".join(lines))


if __name__ == "__main__":
    main()
