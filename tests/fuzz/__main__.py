"""``python -m fuzz``: run the campaigns, say what was found, and fail if anything was."""

from __future__ import annotations

import argparse
import sys
import warnings
from time import process_time

from .campaign import Campaign, Finding, Watch, run
from .configs import CONFIGS, prepare
from .formulas import FORMULAS
from .templates import TEMPLATES

STEP = 1_000  # cases between two lines that say how far it is


def main() -> int:
    """Return 0 if nothing was found."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="the first case's; the others' follow (0)")
    sizes = {FORMULAS: 150_000, TEMPLATES: 10_000, CONFIGS: 2_000}
    for campaign, count in sizes.items():
        parser.add_argument(f"--{campaign.name}", type=int, default=count, metavar="N", help=f"cases ({count:,})")
    options = parser.parse_args()
    prepare()
    warnings.simplefilter("error")
    found = [one for campaign in sizes for one in _run(campaign, options.seed, getattr(options, campaign.name))]
    print(f"{len(found)} findings")
    return 1 if found else 0


def _run(campaign: Campaign, first: int, count: int) -> list[Finding]:
    watch, begin = Watch(), process_time()
    found: dict[str, Finding] = {}
    for at in range(first, first + count, STEP):
        for one in run(campaign, at, min(STEP, first + count - at), watch):
            if found.setdefault(one.problem, one) is one:
                print(one, flush=True)  # at once: what stops the run takes nothing away
        done = min(at - first + STEP, count)
        print(f"  {campaign.name}: {done:,} of {count:,}, {len(found)} findings", file=sys.stderr, flush=True)
    print(
        f"{campaign.name}: {count:,} cases in {process_time() - begin:.0f} s of processor time, {len(found)} findings"
    )
    print("  calls:", ", ".join(f"{name} {number:,}" for name, number in sorted(watch.counts.items())))
    longest = sorted(watch.longest.items(), key=lambda item: -item[1][0])
    print("  longest:", ", ".join(f"{name} {seconds:.3f} s (seed {seed})" for name, (seconds, seed) in longest))
    return [*found.values()]


sys.exit(main())
