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
void probe_sleep(void);
void probe_spoil(void);
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
    kept = (void *)(uintptr_t)probe_sleep;
    kept = (void *)(uintptr_t)probe_spoil;
    (void)kept;
}
