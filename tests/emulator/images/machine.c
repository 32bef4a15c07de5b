/* Vectors, reset and the log. */
#include "machine.h"

volatile uint32_t results[64];
volatile uint32_t result_count;

typedef void (*handler_t)(void);

__attribute__((weak)) void SVC_Handler(void) {}
__attribute__((weak)) void PendSV_Handler(void) {}
__attribute__((weak)) void SysTick_Handler(void) {}
__attribute__((weak)) void IRQ2_Handler(void) {}
__attribute__((weak)) void IRQ3_Handler(void) {}
__attribute__((weak)) void uart_handler(void) {}

struct vectors {
    uintptr_t stack_top;
    handler_t handlers[15];
    handler_t interrupts[96];
};

__attribute__((section(".vectors"), used)) const struct vectors image_vectors = {
    RAM_END,
    {Reset_Handler, 0, 0, 0, 0, 0, 0, 0, 0, 0, SVC_Handler, 0, 0, PendSV_Handler, SysTick_Handler},
    {[2] = IRQ2_Handler, [3] = IRQ3_Handler, [UART_IRQ] = uart_handler},
};

void note(uint32_t value)
{
    results[result_count] = value;
    result_count = result_count + 1u;
}

uint32_t semihost(uint32_t request, uint32_t argument)
{
    register uint32_t r0 __asm__("r0") = request;
    register uint32_t r1 __asm__("r1") = argument;

    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

#if REPORT
/* Prints the log by semihosting, a line of hexadecimal digits each, and exits. */
static void report(void)
{
    static const char digits[] = "0123456789abcdef\n";
    volatile uint32_t block[2] = {0x20026, 0};

    for (uint32_t i = 0; i < result_count; ++i) {
        for (uint32_t shift = 32; shift != 0u; shift -= 4u) {
            (void)semihost(0x03, (uint32_t)(uintptr_t)&digits[results[i] >> (shift - 4u) & 15u]);
        }
        (void)semihost(0x03, (uint32_t)(uintptr_t)&digits[16]);
    }
    (void)semihost(0x20, (uint32_t)(uintptr_t)block);
}
#endif

void Reset_Handler(void)
{
    result_count = 0;
    image_main();
#if REPORT
    report();
#endif
    for (;;) {
        WFI();
    }
}
