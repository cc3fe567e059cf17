"""Text from files, plugins and emulators, as text."""


def plain(text: object) -> str:
    """Text with control characters escaped, so that it cannot move the cursor or colour a line."""
    shown = str(text)
    if shown.isprintable():
        return shown
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in shown)
