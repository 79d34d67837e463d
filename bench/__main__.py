"""Runs the benches named on the command line, or all of them."""

from __future__ import annotations

import sys

from bench import feeds, ground, hooks, render, rules, scrape, standing, unkept

BENCHES = {
    "feeds": feeds.main,
    "ground": ground.main,
    "hooks": hooks.main,
    "render": render.main,
    "rules": rules.main,
    "scrape": scrape.main,
    "standing": standing.main,
    "unkept": unkept.main,
}


def main(names: list[str]) -> None:
    unknown = set(names) - BENCHES.keys()
    if unknown:
        sys.exit(f"bench: error: found {min(unknown)!r}, wanted one of {', '.join(BENCHES)}")
    for name in names or BENCHES:
        print(f"== {name}")
        BENCHES[name]()


if __name__ == "__main__":
    main(sys.argv[1:])
