"""Bodies: always arrays (§0 rule 3), bound member by member.

Numbers may come as text where they parse; what does not is a 400 in the
third shape of §5.3, with the place in the text as Newtonsoft counts it."""
import json
import re

from . import dates
from .errors import model_400

INTEGER = re.compile(r"\s*[+-]?\d+\s*\Z")
INT32 = 1 << 31
DECODER = json.JSONDecoder()
SPACE = re.compile(r"[ \t\r\n]*")


class Unset:
    """A member that was sent with null."""


def read_array(raw):
    """(the objects, a function that locates a path) of a body."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise model_400("", "Unable to read the body as UTF-8.")
    if not text.strip():
        raise model_400("", "A non-empty request body is required.")
    try:
        doc = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        line = getattr(error, "lineno", 1)
        column = getattr(error, "colno", 1)
        raise model_400("", "Unexpected character encountered while parsing "
                        "value. Path '', line %d, position %d." % (line, column))
    if not isinstance(doc, list):
        raise model_400(
            "", "Cannot deserialize the current JSON object into type "
            "'List`1' because the type requires a JSON array (e.g. [1,2,3]) "
            "to deserialize correctly. Path '', line 1, position 1.")
    if not doc:
        raise model_400("", "A non-empty array is required.")

    def locate(path):
        return _place(text, path)
    for number, element in enumerate(doc):
        if not isinstance(element, dict):
            raise _bad("Error converting value to an object.",
                       [number], locate)
    return doc, locate


def _no_constant(name):
    raise ValueError("%s is no JSON" % name)


def bind(element, number, members, locate):
    """The known members of an object, converted; the others are lost in
    silence (§0 rule 7)."""
    values = {}
    for name, value in element.items():
        member = members.get(name)
        if member is None or member.readonly:
            continue
        values[name] = _convert(value, member.kind, [number, name], locate)
    return values


def _convert(value, kind, path, locate):
    if value is None:
        return Unset
    return CONVERTERS[kind](value, path, locate)


def path_text(path):
    text = ""
    for part in path:
        if isinstance(part, int):
            text += "[%d]" % part
        else:
            text += ("." if text else "") + part
    return text


def _bad(text, path, locate):
    where = path_text(path)
    line, position = locate(path)
    return model_400(where, "%s Path '%s', line %d, position %d."
                     % (text, where, line, position))


def _int(value, path, locate):
    if isinstance(value, bool) or isinstance(value, (list, dict)):
        raise _bad("Unexpected character encountered while parsing value.",
                   path, locate)
    if isinstance(value, str):
        if not INTEGER.match(value):
            raise _bad("Could not convert string to integer: %s." % value,
                       path, locate)
        value = int(value)
    if isinstance(value, float):
        if not value.is_integer():
            raise _bad("Input string '%s' is not a valid integer."
                       % value, path, locate)
        value = int(value)
    if not -INT32 <= value < INT32:
        raise _bad("JSON integer %d is too large or small for an Int32."
                   % value, path, locate)
    return value


def _float(value, path, locate):
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            raise _bad("Could not convert string to double: %s." % value,
                       path, locate)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _bad("Unexpected character encountered while parsing value.",
                   path, locate)
    return float(value)


def _bool(value, path, locate):
    if isinstance(value, bool):
        return value
    if isinstance(value, (int, float)):
        return bool(value)
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    raise _bad("Could not convert string to boolean: %s." % (value,),
               path, locate)


def _text(value, path, locate):
    if isinstance(value, (list, dict)):
        raise _bad("Unexpected character encountered while parsing value.",
                   path, locate)
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else json.dumps(value)


def _date(value, path, locate):
    if not isinstance(value, str):
        raise _bad("Unexpected character encountered while parsing value.",
                   path, locate)
    if not value.strip():
        return ""
    try:
        return dates.parse(value)
    except ValueError:
        raise _bad("Could not convert string to DateTime: %s." % value,
                   path, locate)


def _list(value, path, locate):
    """A list of objects; members of them named id or ..._id are integers."""
    if not isinstance(value, list):
        raise _bad("Cannot deserialize the current JSON value because the "
                   "type requires a JSON array.", path, locate)
    items = []
    for number, item in enumerate(value):
        here = path + [number]
        if not isinstance(item, dict):
            raise _bad("Error converting value to an object.", here, locate)
        bound = {}
        for name, member in item.items():
            if member is None:
                continue
            if name != "keyfield_id" and (name == "id" or name.endswith("_id")):
                member = _int(member, here + [name], locate)
            bound[name] = member
        items.append(bound)
    return items


CONVERTERS = {"int": _int, "float": _float, "bool": _bool, "text": _text,
              "date": _date, "list": _list, "any": lambda v, p, l: v}


# -- where a value stands ----------------------------------------------------

def _place(text, path):
    """(line, position) of the end of the value at a path."""
    try:
        begin = _step(text, SPACE.match(text).end(), path)
        _, end = DECODER.raw_decode(text, begin)
    except (ValueError, IndexError, KeyError):
        return 1, 0
    line = text.count("\n", 0, end) + 1
    return line, end - (text.rfind("\n", 0, end) + 1)


def _step(text, at, path):
    """Where the value at a path begins; ``at`` is the begin of the outer."""
    if not path:
        return at
    wanted, count, found = path[0], 0, None
    at = SPACE.match(text, at + 1).end()
    while text[at] not in "]}":
        key = count
        if isinstance(wanted, str):
            key, at = DECODER.raw_decode(text, at)
            at = SPACE.match(text, at).end() + 1        # the colon
            at = SPACE.match(text, at).end()
        if key == wanted:
            found = at                                  # the last one counts
        _, at = DECODER.raw_decode(text, at)
        at = SPACE.match(text, at).end()
        if text[at] == ",":
            at = SPACE.match(text, at + 1).end()
        count += 1
    if found is None:
        raise KeyError(wanted)
    return _step(text, found, path[1:])
