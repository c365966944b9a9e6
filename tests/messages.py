"""Messages held by their parts: key, values and remedy, in order; the English around them may improve."""

import re

# What a message asks for; a sentence that asks for something else is another remedy.
_REMEDIES = (
    "begin|bring|choose|correct|corrected|delete|extract|freeze|give|install|instead|lower|name|needs|pip|raise"
    "|remove|rename|repeat|save|set|take|train|wait|write"
)
# Values that look like English: names of classes, splits, files and types.
_VALUES = (
    "baseline|blocks|bye|cdml|cdlm|cost|crow|default|emu|epochs|failed|heads|int|jay|loss|lost|margin|none|odd|owl"
    "|python|readable|seed|self|source|stem|style|tensorflow|test|torchvision|train|truncated|val|validation|wandb|zero"
)
_HELD = re.compile(f"{_REMEDIES}|{_VALUES}", re.IGNORECASE)
_PLAIN = re.compile(r"[A-Za-z]?[a-z]*(?:'s|n't)?|[-–]")


def held(message):
    """The words of a message that are a key, a value or a remedy.

    So are quoted words, and a reason of the system's in parentheses.

    >>> held("epochs: 0 must be at least 1, or -1 to leave it to the images")
    ['epochs', '0', '1', '-1']
    >>> held("a/b cannot be opened (Permission denied): make it readable")
    ['a/b', 'Permission', 'denied', 'readable']
    """
    found, reason = [], False
    for word in re.split(r"[\s…]+", message):
        reason = reason or bool(re.match(r"[(\[]+[A-Z]", word))
        bare = word.strip(",;:()[]\"'`")
        quoted = word.lstrip("([")[:1] in ("'", '"', "`")
        if bare and (reason or quoted or _HELD.fullmatch(bare) or not _PLAIN.fullmatch(bare)):
            found.append(bare)
        reason = reason and ")" not in word
    return found


def says(expected, given):
    """Whether a message has the held words of another in their order, as many lines, and not much more.

    >>> says("epochs: 0 must be at least 1", "epochs: 1 or more, not 0")
    False
    >>> says("seed: 'x' is not an int; give one", "seed: an int is needed, not 'x': give one")
    False
    >>> says("seed: 'x' is not an int; give one", "seed: 'x' cannot be read as an int: give a number")
    True
    """
    place = 0
    for word in held(expected):
        found = re.compile(rf"(?<![\w.-]){re.escape(word)}(?!\w)").search(given, place)
        if not found:
            return False
        place = found.end()
    if "…" in expected:
        return True
    return given.count("\n") == expected.count("\n") and len(given) < 1.5 * len(expected) + 40


def parts(*wanted):
    """A pattern for `match=`: these, in this order, whatever stands between them."""
    return "(?s)" + ".*".join(map(re.escape, wanted))


def like(message):
    """A pattern for `match=`: the held words of a message, in their order."""
    return parts(*held(message))
