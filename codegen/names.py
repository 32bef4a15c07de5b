"""Text from models, made harmless: identifiers and comments of the generated C.

No byte of a model's strings reaches C but through the first two functions; `printable` is for text that is
escaped afterwards, or shown on a terminal.
"""

from __future__ import annotations

import json
import re

MAX_LENGTH = 64
# Keywords of C and C++, and names that the generated files or their headers define.
RESERVED = frozenset(
    """
    alignas alignof and and_eq asm auto bitand bitor bool break case catch char class compl const
    constexpr const_cast continue decltype default delete do double dynamic_cast else enum explicit
    export extern false float for friend goto if inline int long main mutable namespace new noexcept not
    not_eq nullptr operator or or_eq private protected public register reinterpret_cast requires restrict
    return short signed sizeof static static_assert static_cast struct switch template this thread_local
    throw true try typedef typeid typename union unsigned using virtual void volatile wchar_t while xor
    xor_eq kernels startup app memcpy memset thumbnet
    """.split()
)


def identifier(text: str) -> str:
    """A lower-case C identifier made of `text`: ASCII letters, digits and underscores only.

    Never empty, a keyword, longer than 64 characters, or starting with a digit or an underscore
    (those are the implementation's).
    """
    name = re.sub(r"[^a-z0-9_]+", "_", text.lower(), flags=re.ASCII)[:MAX_LENGTH].strip("_")
    name = re.sub(r"__+", "_", name)
    if not name or name[0].isdigit() or name in RESERVED:
        name = f"model_{name}".rstrip("_")
    return name


def comment(text: str) -> str:
    """`text` quoted for a C comment: JSON in ASCII without the characters that could end or alter one."""
    shown = text if len(text) <= MAX_LENGTH else text[:MAX_LENGTH] + "..."
    quoted = json.dumps(shown, ensure_ascii=True)
    return re.sub(r"[*\\?]", "", quoted).replace("//", "/")


def printable(text: str) -> str:
    """`text` without control characters and lone surrogates, at most 64 characters and an ellipsis."""
    shown = text if len(text) <= MAX_LENGTH else text[:MAX_LENGTH] + "..."
    return "".join(c if c.isprintable() else "?" for c in shown)
