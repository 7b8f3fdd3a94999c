"""Startup time of `penna --help` and `penna recipes` as a multiple of `python -c pass`.

    python benchmarks/startup.py

The commands alternate, round by round, and the median of the ratios is printed. The target is below ten, without
importing torch.
"""

import statistics
import subprocess
import sys
import time

ROUNDS = 15
TARGET = 10.0
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "penna --help": [sys.executable, "-m", "penna", "--help"],
    "penna recipes": [sys.executable, "-m", "penna", "recipes"],
}


def seconds(command: list[str]) -> float:
    begun = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - begun


def imports_torch(command: list[str]) -> bool:
    traced = [command[0], "-X", "importtime", *command[1:]]
    result = subprocess.run(traced, check=True, capture_output=True, text=True)
    return any(line.rpartition("|")[2].strip() == "torch" for line in result.stderr.splitlines())


def main() -> None:
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for command in COMMANDS.values():
        seconds(command)
    for _ in range(ROUNDS):
        for name, command in COMMANDS.items():
            times[name].append(seconds(command))
    base = times["python -c pass"]
    print(f"{'command':<16} {'median ms':>10} {'ratio':>7}  torch imported")
    for name, command in COMMANDS.items():
        ratio = statistics.median(mine / other for mine, other in zip(times[name], base, strict=True))
        print(f"{name:<16} {statistics.median(times[name]) * 1e3:>10.1f} {ratio:>7.1f}  {imports_torch(command)}")
    print(f"target: below {TARGET:.0f}")


if __name__ == "__main__":
    main()
