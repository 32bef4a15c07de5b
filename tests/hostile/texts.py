"""Two hundred texts that would do harm in C, scripts, markup or a terminal, were they left as they are."""

from __future__ import annotations

COMMENTS = (
    "*/ int evil; /*", "*/", "/*", "/**/", "//", '// x\nint evil;', '*\\\n/ int evil; /\\\n*',
    "x */ #error evil", "\\", '\\\n', "end\\", "??/", '??/\nint evil;', '*??/\n/ int evil;',
    "??)", "%:%:", "<:", "/ *", "*/*/", "/*/",
)  # fmt: skip
LITERALS = (
    '"', "'", '"; int evil; "', "'; int evil; '", "%n", "%s%s%s%s", "%99999d", "\\x41", "\\u202e",
    "\\0", '\\"', 'R"(x)"', 'u8"x"', "`", "``` evil", "'''", '"""', "\\N{BULLET}", "{0}", "{x!r}",
)  # fmt: skip
PREPROCESSOR = (
    "#define main evil", '\n#define main evil\n', '\n#include </etc/passwd>',
    "#pragma GCC poison int", '_Pragma("GCC poison x")', "__FILE__",
    "__attribute__((constructor))", '\n#error evil', "defined(x)", '\n#if 0', '__asm__("bkpt")',
    '\r#define x', '\x0c#define x', '\x0b#define x', '# 1 "evil.c"',
)  # fmt: skip
SCRIPTS = (
    ".global evil", '\n.global evil\nevil:', "@ comment", "; bkpt #0",
    '\n\t.incbin "/etc/passwd"', ".section .evil", "evil: .word 0", "} > FLASH",
    "PROVIDE(evil = 1);", "ENTRY(evil)", "INCLUDE evil.ld", "$(shell touch evil)",
    "$$(touch evil)", "`touch evil`", '\nevil:\n\ttouch evil', "include evil.mk", "#", "$@",
    "${ENV{HOME}}", "]==]", "[[x]]", "execute_process(COMMAND touch evil)", "; touch evil",
    "| touch evil", "& touch evil", "$IFS", "~", "*", "?", "-o evil",
)  # fmt: skip
MARKUP = (
    "<script>alert(1)</script>", "</script><script>", "</svg><script>", "]]>", "<!--", "-->",
    "&lt;", "&#x41;", "&evil;", "<!DOCTYPE x [<!ENTITY e SYSTEM 'file:///etc/passwd'>]>",
    "<?xml?>", '" onload="alert(1)', "javascript:alert(1)", "</title>", "<a href=x>",
    "{{ 7 * 7 }}", "{% raw %}", "{# x #}", "{{ config }}", "<% x %>", "@everyone",
    "[x](http://x)", "![x](http://x)", "|", "=cmd|' /C calc'!A0",
)  # fmt: skip
DATA = (
    '", "evil": "', "}", "]", "null", "true", "1e999", '\u2028', '"\n[layers.x]\nkernel = "y',
    "a.b", "a_b", "a b", '\nforce = true', "# toml", "x = 1", "__proto__", "constructor",
    "weights: [1]", "!!python/object:os.system", "'; DROP TABLE x; --", "c0",
)  # fmt: skip
PATHS = (
    "../../etc/passwd", "/etc/passwd", "..", ".", "C:\\evil", "\\\\host\\share", "con", "nul.txt",
    "a/b", "%2e%2e%2f", "file:///etc/passwd", "x:Zone", ".git/config", "a\\b", "~root",
)  # fmt: skip
WORDS = (
    "int", "while", "return", "static", "restrict", "_Bool", "class", "template", "and", "asm",
    "main", "memcpy", "memset", "malloc", "printf", "errno", "NULL", "EOF", "INT8_MAX", "int8_t",
    "size_t", "assert", "abs", "__bss", "_start", "Reset_Handler", "kernels", "startup", "app",
    "app_ctx", "model_run", "step0", "step0_w", "arena", "thumbnet",
)  # fmt: skip
UNSEEN = (
    '\x01', '\x07', '\x08', '\t', '\n', '\r', '\x1b[31mred', '\x1b]0;title\x07', '\x7f', '\x85',
    '\x9b31m', 'nul\x00byte', '\u200b', '\u202e\u2066', '\ufeff', '\ufffd', '\U000e0041',
    '\u0430\u0441', 'e\u0301\u0301\u0301',
)  # fmt: skip
LONG = ("a" * 100_000,)

TEXTS: tuple[str, ...] = (
    *COMMENTS,
    *LITERALS,
    *PREPROCESSOR,
    *SCRIPTS,
    *MARKUP,
    *DATA,
    *PATHS,
    *WORDS,
    *UNSEEN,
    *LONG,
)
