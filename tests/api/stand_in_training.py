"""A stand-in for a training process without a model. The first prompt of the recipe decides what it does.

    train RECIPE --name NAME --runs-dir FOLDER | resume RUN | evaluate RUN [--data.path FILE]

It writes the files of the real command that an experiment reads, and a line of calls.txt.
"""

import json
import signal
import sys
import time
import tomllib
from pathlib import Path


def fail(happened):
    print(f"a line before\npenna: {happened}\nSomething else.\nFix it.", file=sys.stderr)
    sys.exit(2)


def rows(run, upto, steps):
    with open(run / "metrics.jsonl", "a") as log:
        for step in range(0, upto + 1):
            row = {
                "step": step,
                "epoch": 0.1,
                "tokens": step,
                "seconds": step * 0.5,
                "split": "valid",
                "loss": 3 - step / steps,
            }
            log.write(json.dumps(row) + "\n")


def state(run, name):
    (run / "run.json").write_text(json.dumps({"state": name}))


def wait_for_signal(run):
    caught = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: caught.append(number))
    (run / "ready").touch()
    while not caught:
        time.sleep(0.01)
    state(run, "stopped")
    sys.exit(128 + caught[0])


verb, target = sys.argv[1:3]
if verb == "train":
    recipe = Path(target)
    run = Path(sys.argv[sys.argv.index("--runs-dir") + 1]) / sys.argv[sys.argv.index("--name") + 1]
else:
    run = Path(target)
    recipe = run / "recipe.toml"
with open(run.parent / "calls.txt", "a") as calls:
    calls.write(f"{verb} {run.name} {' '.join(sys.argv[3:]) if verb == 'evaluate' else ''}".strip() + "\n")
table = tomllib.loads(recipe.read_text())
behaviour = table["train"].get("prompts", [""])[0]
steps = table["train"]["steps"]
if verb == "evaluate":
    if behaviour == "unmeasured":
        fail("It cannot be measured")
    sys.exit(0)
if behaviour == "fail":
    fail("It broke at step 3.")
if behaviour == "crash":
    signal.raise_signal(signal.SIGKILL)
if verb == "train":
    run.mkdir()
    (run / "recipe.toml").write_text(recipe.read_text())
    state(run, "training")
    if behaviour == "hang":
        rows(run, steps // 2, steps)
        wait_for_signal(run)
rows(run, steps, steps)
state(run, "finished")
