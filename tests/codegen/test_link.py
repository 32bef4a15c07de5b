"""Emitted kernels as units of text, and what several models share of them."""

from __future__ import annotations

import pytest

from codegen import link, units
from targets.errors import UsageError
from targets.target import load
from tests.golden.network import NAMES, files

HELPER = """\
/* Limits
 * a value; */
static inline int8_t saturate(int32_t value, int32_t low,
                              int32_t high)
{
    return (int8_t)(value < low ? low : (value > high ? high : value));
}"""


def kernels_h(*names: str) -> str:
    return "".join(f"void {name}(const int8_t *x, int8_t *y);\n" for name in names)


def kernels_c(*bodies: str) -> str:
    return '/* Kernels. */\n#include "kernels.h"\n\n' + "\n\n".join(bodies) + "\n"


def function(name: str, what: str = "*y = *x;") -> str:
    return f"void {name}(const int8_t *x, int8_t *y)\n{{\n    {what}\n}}"


def part(name: str, bodies: dict[str, str], arena: int = 16, helper: str = HELPER) -> link.Part:
    """A model whose kernels, by name, do what is given."""
    names = [f"{name}_{kernel}" for kernel in bodies]
    defined = [function(f"{name}_{kernel}", what) for kernel, what in bodies.items()]
    read = units.read(kernels_h(*names), kernels_c(helper, *defined))
    header = f"#define {name.upper()}_ARENA_SIZE {arena}u\nint {name}_run(void);\n"
    calls = "".join(f"    {kernel}(x, y);\n" for kernel in names)
    return link.Part(name, arena, header, f"int {name}_run(void)\n{{\n{calls}}}\n", read)


def linked(*parts: link.Part) -> link.Linked:
    return link.link(parts, load("generic-m4"))


def test_definitions_keep_their_comments_and_every_line() -> None:
    table = "static const int8_t table[2] = {\n    1, 2,\n};"
    line = "typedef uint32_t __attribute__((may_alias)) word_t;"
    bodies = (HELPER, table, line, function("m_a"))
    assert units.definitions(kernels_c(*bodies)) == bodies
    assert [units.defined_name(b) for b in bodies] == ["saturate", "table", "word_t", "m_a"]


@pytest.mark.parametrize("target", NAMES)
def test_emitted_kernels_are_read_whole(target: str) -> None:
    texts = files(target)
    (assembly,) = (name for name in texts if name.endswith(".S"))
    names = ("kernels.h", "kernels.c", assembly, "kernels_host.c")
    found = units.read(*(texts[name] for name in names))
    for name, parts in (
        ("kernels.c", [*found.helpers, *(k.c for k in found.functions if k.c)]),
        ("kernels_host.c", [*found.twin_helpers, *(k.twin for k in found.functions if k.twin)]),
        (assembly, [k.assembly for k in found.functions if k.assembly]),
    ):
        head, body = texts[name].split(parts[0], 1)
        assert body.startswith("\n") and "void" not in head
        assert texts[name] == head + "\n\n".join(parts) + "\n"


def test_a_kernel_keeps_static_functions_of_its_own() -> None:
    own = "static void m_a_row(const int8_t *x)\n{\n    (void)x;\n}"
    found = units.read(
        kernels_h("m_a", "m_a_down"), kernels_c(own, function("m_a"), function("m_a_down"))
    )
    assert found.helpers == ()
    assert found.functions[0].c == f"{own}\n\n{function('m_a')}"
    assert found.functions[1].c == function("m_a_down")


@pytest.mark.parametrize(
    ("header", "c", "why"),
    [
        (kernels_h("m_a"), kernels_c(HELPER), "m_a is not defined once"),
        (kernels_h("m_a"), kernels_c("void m_a(const int8_t *x, int8_t *y)\n{\n"), "the end of"),
        (kernels_h("m_a"), kernels_c("void m_a(const int8_t *x"), "the end of"),
    ],
)
def test_other_text_is_refused(header: str, c: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        units.read(header, c)


def test_equal_kernels_are_emitted_once_and_others_stay_apart() -> None:
    a = part("a", {"same": "*y = *x;", "mine": "*y = 1;", "like": "*y = 3;"}, arena=64)
    b = part("b", {"like": "*y = 2;", "same": "*y = *x;"}, arena=32)
    found = linked(a, b)
    texts = found.project.files
    assert found.shared == (link.Shared("app_same", ("a", "b")),)
    assert (found.kernels, found.separate_kernels, found.arena) == (4, 5, 64)
    assert found.renamed == {"a_same": "app_same", "b_same": "app_same"}
    assert texts["kernels.c"].count("void ") == 4
    assert texts["kernels.c"].count(HELPER) == 1
    assert "app_same(x, y);" in texts["a.c"] and "app_same(x, y);" in texts["b.c"]
    assert "a_like(x, y);" in texts["a.c"] and "b_like(x, y);" in texts["b.c"]
    assert "#define APP_ARENA_SIZE 64u" in texts["app.h"]
    assert linked(a, b).project.files == texts


def test_the_same_text_with_other_parameters_is_no_shared_kernel() -> None:
    a = part("a", {"k": "*y = *x;"})
    wider = units.Kernel("b_k", "const int16_t *x, int8_t *y", function("b_k"))
    b = link.Part("b", 16, "", "", units.Kernels((wider,), (), ()))
    assert linked(a, b).shared == ()


def test_equal_kernels_of_one_model_are_emitted_once_too() -> None:
    found = linked(part("a", {"k": "*y = 1;", "k_2": "*y = 1;"}), part("b", {"k": "*y = 2;"}))
    assert (found.kernels, found.shared, found.renamed) == (2, (), {"a_k_2": "a_k"})


def test_two_shared_kernels_of_one_name_get_two() -> None:
    a = part("a", {"k": "*y = 1;", "l": "*y = 2;"})
    b = part("b", {"l": "*y = 1;", "k": "*y = 2;"})
    c = part("c", {"k": "*y = 3;"})
    d = part("d", {"k": "*y = 3;"})
    names = [one.name for one in linked(a, b, c, d).shared]
    assert names == ["app_k", "app_l", "app_k_2"]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ((part("a", {"k": ""}), part("a", {"k": ""})), "two models are called 'a'"),
        ((part("a", {"k": ""}), part("app_x", {"k": ""})), "model 'app_x'"),
        ((part("a", {"k": ""}), part("kernels_host", {"k": ""})), "model 'kernels_host'"),
        ((part("a", {"k_run": ""}), part("a_k", {"l": ""})), "both define a_k_run"),
        (
            (part("a", {"k": ""}), part("b", {"k": ""}, helper=function("saturate"))),
            "different helpers",
        ),
    ],
)
def test_clashes_are_named(parts: tuple[link.Part, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        linked(*parts)
    assert caught.value.hint


def test_a_kernel_of_another_prefix_is_refused() -> None:
    stranger = units.read(kernels_h("main"), kernels_c(function("main")))
    with pytest.raises(UsageError, match="main is none of its kernels"):
        linked(part("a", {"k": ""}), link.Part("b", 16, "", "", stranger))
