"""Check the pickle in a checkpoint before torch reads it: a few bytes of it could fill the memory, or never end.

``torch.load(weights_only=True)`` runs no code of the file, but it calls ``bytearray`` with any length, and it hashes
the keys of dicts: a tuple that holds another tuple twice, which holds another one twice, takes exponential time.
"""

from __future__ import annotations

import pickletools
import re
from typing import Any

MIN_WEIGHT = 100_000  # values that the tuples of every checkpoint may have in total

# What the pickle of a checkpoint may name: tensors, plain containers, and the types of torch that stand for a value.
_PLAIN = re.compile(
    r"collections (OrderedDict|Counter|defaultdict)|(builtins|__builtin__) (set|complex)|_codecs encode"
    r"|torch\._utils _rebuild_(tensor_v2|parameter)|torch\.nn\.parameter Parameter"
    r"|torch (\w+Storage|Size|device|(b?float|u?int|complex)\d+|bool)"
)


def fault(pickled: bytes) -> str:
    """Return what a pickle holds besides plain data, or how it would grow when it is read; empty for a good one.

    Each opcode is followed as in ``pickletools``, on a stack of weights: of a tuple, the number of values that it has
    with all the tuples in it; 1 of anything else. A damaged pickle has no fault here; torch says what is wrong with it.
    """
    most = max(len(pickled), MIN_WEIGHT)
    stack, marks, memo = list[int](), list[int](), dict[Any, int]()
    try:
        for opcode, argument, _ in pickletools.genops(pickled):
            name = opcode.name
            if name == "MARK":
                marks.append(len(stack))
            elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
                memo[argument] = stack[-1]
            elif name in ("GET", "BINGET", "LONG_BINGET"):
                stack.append(memo[argument])
            elif name == "GLOBAL" and not _PLAIN.fullmatch(str(argument)):
                named = str(argument).replace(" ", ".")
                return f"{named} and other objects besides tensors and plain data; it could run code"
            else:
                before = opcode.stack_before
                marked = before.index(pickletools.markobject) if pickletools.markobject in before else None
                start = len(stack) - len(before) if marked is None else marks.pop()
                weight = 1 + sum(stack[start:]) if name.startswith("TUPLE") else 1
                if weight > most:
                    return "tuples that are larger than the file, which no checkpoint of a run does"
                del stack[start - (marked or 0) :]
                stack += [weight] * len(opcode.stack_after)
    except (ValueError, IndexError, KeyError):
        return ""
    return ""
