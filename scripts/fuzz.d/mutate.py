"""Changes to an input that keep enough of its structure to get past the first check: bytes, text, JSON, TIFF, zip.

Every function takes the input and a ``random.Random`` and gives the changed input; pure otherwise."""

from __future__ import annotations

import io
import json
import re
import struct
import zipfile
from random import Random
from typing import Any

NUMBERS = (
    0,
    1,
    -1,
    2,
    7,
    127,
    128,
    255,
    256,
    65535,
    65536,
    2**31 - 1,
    2**31,
    -(2**31),
    2**32 - 1,
    2**63,
    2**64 - 1,
)
WORDS = (
    *(
        "",
        " ",
        "../x",
        "/etc/passwd",
        "a/b",
        "a\0b",
        "a\nb",
        "\ud800",
        "x" * 5000,
        "é",
        "NaN",
        "nul",
        "-0",
        "1e400",
    ),
    *(
        "0",
        "-1",
        "1" * 5000,
        "[",
        "{",
        "yx",
        "tczyx",
        "uint8",
        "<U9",
        "|O",
        "float64",
        "pickle",
        "s3://x",
        "1x1",
    ),
)
LITERALS = (
    "1e400",
    "-1e400",
    "NaN",
    "1" * 5000,
    "[" * 3000,
    '{"a":' * 3000,
    "null",
    "true",
    '"\\ud800"',
    "-0.0",
    "1e-400",
)
_MARK = "\u0001literal\u0001"


def some_bytes(data: bytes, random: Random) -> bytes:
    """Numbers that matter in a few places, more often near the beginning; now and then cut, doubled or moved."""
    out = bytearray(data or b"\0")
    for _ in range(random.choice((1, 1, 2, 4))):
        reach = min(len(out), random.choice((16, 64, 512, len(out))))
        at = random.randrange(max(1, reach))
        match random.randrange(6):
            case 0 | 1:
                form = random.choice(("<B", "<H", ">H", "<I", ">I", "<Q", ">Q"))
                size = struct.calcsize(form)
                out[at : at + size] = struct.pack(form, random.choice(NUMBERS) % (1 << 8 * size))
            case 2:
                out[at] ^= 1 << random.randrange(8)
            case 3:
                out[at] = random.randrange(256)
            case 4:
                del out[at : at + random.choice((1, 4, 100, len(out)))]
            case _:
                piece = out[at : at + random.choice((1, 4, 32))]
                place = random.randrange(len(out) + 1)
                out[place:place] = piece
        out = out or bytearray(b"\0")
    return bytes(out)


def text(data: bytes, random: Random) -> bytes:
    """One token of a text (a number, a word, a piece of punctuation) becomes another."""
    if random.random() < 0.2:
        return some_bytes(data, random)
    tokens = re.findall(r"\w+|\s+|[^\w\s]", data.decode("utf-8", "replace"))
    if not tokens:
        return random.choice(WORDS).encode("utf-8", "replace")
    at = random.randrange(len(tokens))
    match random.randrange(5):
        case 0:
            tokens[at] = str(random.choice(NUMBERS))
        case 1:
            tokens[at] = random.choice(WORDS)
        case 2:
            tokens[at] = random.choice(tokens)
        case 3:
            del tokens[at]
        case _:
            tokens.insert(at, random.choice((*WORDS, *tokens)))
    return "".join(tokens).encode("utf-8", "replace")


def json_text(data: bytes, random: Random) -> bytes:
    """One value somewhere in a JSON document becomes another, goes, or moves."""
    if random.random() < 0.1:
        return text(data, random)
    try:
        root = [json.loads(data)]
    except (ValueError, RecursionError):
        return text(data, random)
    for _ in range(random.choice((1, 1, 2))):
        _change(root, random)
    made = json.dumps(root[0])
    while f'"{json.dumps(_MARK)[1:-1]}"' in made:
        made = made.replace(f'"{json.dumps(_MARK)[1:-1]}"', random.choice(LITERALS), 1)
    return made.encode("utf-8", "surrogatepass")


def _change(root: list[Any], random: Random) -> None:
    places: list[tuple[Any, Any]] = []

    def walk(value: Any) -> None:
        for key in value if isinstance(value, dict) else range(len(value)):
            places.append((value, key))
            if isinstance(value[key], dict | list):
                walk(value[key])

    walk(root)
    holder, key = random.choice(places)
    match random.randrange(8):
        case 0 | 1:
            holder[key] = random.choice(NUMBERS)
        case 2:
            holder[key] = random.choice(WORDS)
        case 3:
            holder[key] = random.choice(([], {}, None, True, 0.5, [[]], {"": {}}, _MARK, _MARK))
        case 4 if holder is not root:
            del holder[key]
        case 5:
            other, place = random.choice(places)
            holder[key] = json.loads(json.dumps(other[place]))
        case 6 if isinstance(holder, dict):
            holder[random.choice(WORDS)] = holder.pop(key)
        case _ if isinstance(holder, list) and holder is not root:
            holder.insert(key, holder[key])


def lines(data: bytes, random: Random) -> bytes:
    """JSON documents, one a line: one of them changes, goes or comes twice."""
    rows = data.split(b"\n")
    at = random.randrange(len(rows))
    if random.random() < 0.2:
        rows.insert(at, rows[at])
    elif rows[at]:
        rows[at] = json_text(rows[at], random)
    return b"\n".join(rows)


def tiff(data: bytes, random: Random) -> bytes:
    """A field of one entry of a directory (tag, type, count, value) gets a number that matters."""
    places = _tiff_fields(data)
    if not places or random.random() < 0.3:
        return some_bytes(data, random)
    out = bytearray(data)
    for _ in range(random.choice((1, 1, 2))):
        at, form = random.choice(places)
        size = struct.calcsize(form)
        number = random.choice((*NUMBERS, random.randrange(300), len(data) - 1))
        out[at : at + size] = struct.pack(form, number % (1 << 8 * size))
    return bytes(out)


def _tiff_fields(data: bytes) -> list[tuple[int, str]]:
    """Where the numbers of the directories lie, and their struct formats."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or len(data) < 16:
        return []
    big = struct.unpack_from(order + "H", data, 2)[0] == 43
    count_form, word, entry = (order + "Q", order + "Q", 20) if big else (order + "H", order + "I", 12)
    fields, at, seen = (
        [(8 if big else 4, word)],
        struct.unpack_from(word, data, 8 if big else 4)[0],
        set[int](),
    )
    while 8 <= at < len(data) - 8 and at not in seen and len(seen) < 20:
        seen.add(at)
        (count,) = struct.unpack_from(count_form, data, at)
        start = at + struct.calcsize(count_form)
        if start + count * entry + 8 > len(data):
            break
        fields.append((at, count_form))
        for number in range(count):
            place = start + number * entry
            fields += [(place, order + "H"), (place + 2, order + "H"), (place + 4, word)]
            fields += [(place + (12 if big else 8), word)] * 3
        fields.append((start + count * entry, word))
        (at,) = struct.unpack_from(word, data, start + count * entry)
    return fields


def archive(data: bytes, random: Random) -> bytes:
    """A member of a zip archive changes inside, its sums being right, or the archive itself does."""
    if random.random() < 0.3:
        return some_bytes(data, random)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as old:
            members = [(info.filename, old.read(info)[: 1 << 20]) for info in old.infolist()[:20]]
    except Exception:
        return some_bytes(data, random)
    if not members:
        return some_bytes(data, random)
    at = random.randrange(len(members))
    name, body = members[at]
    members[at] = (
        name,
        text(body[:128], random) + body[128:] if random.random() < 0.6 else some_bytes(body, random),
    )
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as new:
        for name, body in members:
            # a time of its own would make every second one differ
            new.writestr(zipfile.ZipInfo(name), body, new.compression)
    return out.getvalue()


def headed(data: bytes, random: Random) -> bytes:
    """A text at the beginning (the header of .npy) changes with its length put right, or bytes anywhere do."""
    if data[:6] != b"\x93NUMPY" or random.random() < 0.3:
        return some_bytes(data, random)
    (length,) = struct.unpack_from("<H", data, 8)
    header = text(data[10 : 10 + length], random)[:60000]
    return data[:8] + struct.pack("<H", len(header)) + header + data[10 + length :]
