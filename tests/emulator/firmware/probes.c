/* Functions that measure, and functions that go wrong. */
#include <stddef.h>
#include <stdint.h>

uint32_t probe_sum(uint32_t a, uint32_t b, uint32_t c, uint32_t d);
uint32_t probe_loop(uint32_t n);
uint32_t probe_stack(uint32_t n);
uint32_t probe_write(volatile uint32_t *at);
uint32_t probe_read(const volatile uint32_t *at);
void probe_jump(void (*to)(void));
void probe_undefined(void);
void probe_endless(void);
void probe_float(void);
int32_t probe_divide(int32_t n, int32_t d);
void probe_sleep(void);
void probe_breakpoint(void);
uint32_t probe_recurse(uint32_t depth);
uint32_t probe_many(uint32_t n);
void probe_spoil(void);
uint32_t probe_it(uint32_t n);
void keep_probes(void);

static const uint32_t constant = 7;

uint32_t probe_sum(uint32_t a, uint32_t b, uint32_t c, uint32_t d)
{
    return a + 2u * b + 3u * c + 4u * d;
}

/* 2 + 2 n + 1 instructions, the same on all cores: no IT block, known cycles. */
__asm__(".syntax unified\n"
        ".section .text.probe_loop, \"ax\"\n"
        ".thumb_func\n"
        ".global probe_loop\n"
        ".type probe_loop, %function\n"
        "probe_loop:\n"
        "    movs r1, #0\n"
        "    mov r2, r0\n"
        "1:  subs r2, r2, #1\n"
        "    bne 1b\n"
        "    bx lr\n"
        ".size probe_loop, . - probe_loop\n"
        ".text\n");

uint32_t probe_stack(uint32_t n)
{
    volatile uint8_t bytes[512];
    uint32_t sum = 0;

    for (uint32_t i = 0; i < sizeof bytes; ++i) {
        bytes[i] = (uint8_t)(i * n);
    }
    for (uint32_t i = 0; i < sizeof bytes; ++i) {
        sum += bytes[i];
    }
    return sum;
}

uint32_t probe_write(volatile uint32_t *at)
{
    *at = 1;
    return constant;
}

uint32_t probe_read(const volatile uint32_t *at)
{
    return *at;
}

void probe_jump(void (*to)(void))
{
    to();
    __asm__ volatile("" ::: "memory");
}

void probe_undefined(void)
{
    __asm__ volatile(".short 0xde00");
}

int32_t probe_divide(int32_t n, int32_t d)
{
    return n / d;
}

/* vmov.f32 s0, s0 */
void probe_float(void)
{
    __asm__ volatile(".short 0xeeb0, 0x0a40");
}

void probe_endless(void)
{
    for (;;) {
        __asm__ volatile("" ::: "memory");
    }
}

void probe_sleep(void)
{
    __asm__ volatile("wfi");
}

void probe_breakpoint(void)
{
    __asm__ volatile("bkpt #0");
}

uint32_t probe_recurse(uint32_t depth)
{
    volatile uint32_t kept[16];

    kept[0] = depth;
    return depth == 0u ? 0u : probe_recurse(depth - 1u) + kept[0];
}

/* More blocks than the counter's first table holds, and blocks longer than Unicorn's. */
#define IF(i) \
    if ((n & (1u << ((i) & 15))) != 0u) { \
        sum = sum * 3u + (i); \
        __asm__ volatile("nop"); \
    }
#define IF8(i) IF(i) IF((i) + 1u) IF((i) + 2u) IF((i) + 3u) IF((i) + 4u) IF((i) + 5u) IF((i) + 6u) IF((i) + 7u)
#define IF64(i) IF8(i) IF8((i) + 8u) IF8((i) + 16u) IF8((i) + 24u) IF8((i) + 32u) IF8((i) + 40u) IF8((i) + 48u) IF8((i) + 56u)
uint32_t probe_many(uint32_t n)
{
    uint32_t sum = 0;

    IF64(0u) IF64(64u) IF64(128u) IF64(192u) IF64(256u) IF64(320u) IF64(384u) IF64(448u)
    return sum;
}

/* Against the calling convention: r4 is the caller's. */
__asm__(".section .text.probe_spoil, \"ax\"\n"
        ".thumb_func\n"
        ".global probe_spoil\n"
        ".type probe_spoil, %function\n"
        "probe_spoil:\n"
        "    adds r4, r4, #1\n"
        "    bx lr\n"
        ".size probe_spoil, . - probe_spoil\n"
        ".text\n");

/* Five instructions, one of which is skipped: a 16-bit or a 32-bit one. */
#if __ARM_ARCH_ISA_THUMB >= 2
__asm__(".section .text.probe_it, \"ax\"\n"
        ".thumb_func\n"
        ".global probe_it\n"
        ".type probe_it, %function\n"
        "probe_it:\n"
        "    cmp r0, #1\n"
        "    ite eq\n"
        "    addeq r0, #5\n"
        "    subne.w r0, r0, #300\n"
        "    bx lr\n"
        ".size probe_it, . - probe_it\n"
        ".text\n");
#else
uint32_t probe_it(uint32_t n)
{
    return n;
}
#endif

/* Named by the linker script; holds all others. */
void keep_probes(void)
{
    static void *volatile kept;

    kept = (void *)(uintptr_t)probe_sum;
    kept = (void *)(uintptr_t)probe_loop;
    kept = (void *)(uintptr_t)probe_stack;
    kept = (void *)(uintptr_t)probe_write;
    kept = (void *)(uintptr_t)probe_read;
    kept = (void *)(uintptr_t)probe_jump;
    kept = (void *)(uintptr_t)probe_undefined;
    kept = (void *)(uintptr_t)probe_endless;
    kept = (void *)(uintptr_t)probe_float;
    kept = (void *)(uintptr_t)probe_divide;
    kept = (void *)(uintptr_t)probe_sleep;
    kept = (void *)(uintptr_t)probe_spoil;
    kept = (void *)(uintptr_t)probe_breakpoint;
    kept = (void *)(uintptr_t)probe_recurse;
    kept = (void *)(uintptr_t)probe_many;
    kept = (void *)(uintptr_t)probe_it;
    (void)kept;
}
