"""A parser that collects the elements and texts of an HTML page."""

from html.parser import HTMLParser

_VOID_ELEMENTS = {"meta", "br", "img", "input", "link", "hr"}


class ParsedPage(HTMLParser):
    """The elements and texts of a page. Raises AssertionError if its elements are not closed in order."""

    def __init__(self, content: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []  # tags and attributes
        self.texts: list[str] = []  # outside of style and script
        self._open: list[str] = []
        self.feed(content)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in _VOID_ELEMENTS:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID_ELEMENTS:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self._open):
            self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        """The attributes of all elements with a tag."""
        return [attributes for name, attributes in self.elements if name == tag]
