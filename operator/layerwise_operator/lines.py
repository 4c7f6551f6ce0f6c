"""Text that others wrote, fit to be shown. Pure."""


def on_one_line(text: str) -> str:
    """One line without what a terminal would obey."""
    if not text.isprintable():
        text = "".join(letter if letter.isprintable() else " " for letter in text)
    return " ".join(text.split())
