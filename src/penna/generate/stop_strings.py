"""Stop strings in a text that comes in pieces: what stands before the first one is given out, and it itself is not."""

from __future__ import annotations

from collections.abc import Sequence


class StopFinder:
    """Looks for the first of some strings, none of them empty; holds back what may be the beginning of one."""

    def __init__(self, stops: Sequence[str]) -> None:
        """Nothing is held back where there are no strings to look for."""
        self.is_found = False
        self._stops = stops
        self._held = ""

    def push(self, text: str) -> str:
        """What of the text so far can be given out now; nothing once a stop string was found."""
        if self.is_found or not self._stops:
            return "" if self.is_found else text
        text = self._held + text
        found = [(place + len(stop), place) for stop in self._stops if (place := text.find(stop)) >= 0]
        if found:
            self.is_found, self._held = True, ""
            _, place = min(found)  # the first to be whole, so that it is the same however the text is cut
            return text[:place]
        kept = max(_beginning(text, stop) for stop in self._stops)
        self._held = text[len(text) - kept :]
        return text[: len(text) - kept]

    def finish(self) -> str:
        """What was held back, where the text ends without a stop string."""
        held, self._held = self._held, ""
        return held


def _beginning(text: str, stop: str) -> int:
    """How many characters at the end of a text a stop string begins with, not counting the whole of it."""
    return next((length for length in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:length])), 0)
