/* Brings generic-m4 (cortex-m4) from reset to main(). */
#include <stddef.h>
#include <stdint.h>

/* Words that may overlay any type; the barrier keeps compilers from turning a loop into a call. */
typedef uint32_t __attribute__((may_alias)) word_t;
#define BARRIER() __asm__ volatile("" ::: "memory")

typedef void (*handler_t)(void);

struct vectors {
    uint32_t *stack_top;
    handler_t handlers[15];
};

/* From link.ld. */
extern uint32_t app_stack_top[];
extern uint32_t app_data_start[];
extern uint32_t app_data_end[];
extern const uint32_t app_data_load[];
extern uint32_t app_bss_start[];
extern uint32_t app_bss_end[];

int main(void);
void Reset_Handler(void);
void Fault_Handler(void);
void *memcpy(void *to, const void *from, size_t size);
void *memset(void *to, int value, size_t size);

__attribute__((section(".vectors"), used)) const struct vectors app_vectors = {
    app_stack_top,
    {
        Reset_Handler,
        Fault_Handler, /* NMI */
        Fault_Handler, /* HardFault */
        Fault_Handler, /* MemManage */
        Fault_Handler, /* BusFault */
        Fault_Handler, /* UsageFault */
        0,
        0,
        0,
        0,
        Fault_Handler, /* SVCall */
        Fault_Handler, /* DebugMonitor */
        0,
        Fault_Handler, /* PendSV */
        Fault_Handler, /* SysTick */
    },
};

void Reset_Handler(void)
{
    const uint32_t *from = app_data_load;

    /* CPACR: full access to the floating-point unit. */
    *(volatile uint32_t *)0xE000ED88u |= 0xFu << 20;
    __asm__ volatile("dsb\n\tisb" ::: "memory");

    for (uint32_t *to = app_data_start; to < app_data_end; ++to) {
        *to = *from;
        ++from;
        BARRIER();
    }
    for (uint32_t *to = app_bss_start; to < app_bss_end; ++to) {
        *to = 0;
        BARRIER();
    }
    (void)main();
    Fault_Handler();
}

/* A debugger that stops here finds the cause in the stacked registers. */
void Fault_Handler(void)
{
    for (;;) {
        BARRIER();
    }
}

/* These two count as the model's: they are linked only when its code needs them. */
__attribute__((section(".runtime.memcpy"))) void *memcpy(void *to, const void *from, size_t size)
{
    uint8_t *y = (uint8_t *)to;
    const uint8_t *x = (const uint8_t *)from;

    if ((((uintptr_t)y | (uintptr_t)x) & 3u) == 0u) {
        for (; size >= 4u; size -= 4u) {
            *(word_t *)(void *)y = *(const word_t *)(const void *)x;
            y += 4;
            x += 4;
            BARRIER();
        }
    }
    for (; size != 0u; --size) {
        *y++ = *x++;
        BARRIER();
    }
    return to;
}

__attribute__((section(".runtime.memset"))) void *memset(void *to, int value, size_t size)
{
    uint8_t *y = (uint8_t *)to;
    uint32_t word = (uint8_t)value * 0x01010101u;

    for (; size != 0u && ((uintptr_t)y & 3u) != 0u; --size) {
        *y++ = (uint8_t)value;
        BARRIER();
    }
    for (; size >= 4u; size -= 4u) {
        *(word_t *)(void *)y = word;
        y += 4;
        BARRIER();
    }
    for (; size != 0u; --size) {
        *y++ = (uint8_t)value;
        BARRIER();
    }
    return to;
}
