/* SysTick by interrupt, by COUNTFLAG and asleep; the cycle counter around a loop of known length. */
#include "machine.h"

static volatile uint32_t ticks;

uint32_t loop(uint32_t n);

/* Two instructions per turn. */
__asm__(".syntax unified\n"
        ".section .text.loop, \"ax\"\n"
        ".thumb_func\n"
        ".global loop\n"
        "loop:\n"
        "1:  subs r0, #1\n"
        "    bne 1b\n"
        "    bx lr\n");

void SysTick_Handler(void)
{
    ticks = ticks + 1u;
    if (ticks <= 5u) {
        note(DWT_CYCCNT);
    }
}

void image_main(void)
{
    uint32_t before;

    ticks = 0;
    DEMCR |= 1u << 24;
    DWT_CYCCNT = 0;
    DWT_CTRL |= 1u;

    before = DWT_CYCCNT;
    (void)loop(1000);
    note(DWT_CYCCNT - before);

    SYST_RVR = 999;
    SYST_CVR = 0;
    SYST_CSR = 5; /* no interrupt */
    while ((SYST_CSR >> 16 & 1u) == 0u) {
    }
    note(SYST_CVR);

    SYST_CVR = 0;
    SYST_CSR = 7;
    while (ticks < 5u) {
    }
    SYST_CSR = 0;
    SYST_RVR = 999999;
    SYST_CVR = 0;
    SYST_CSR = 7;
    while (ticks < 105u) {
        WFI();
    }
    SYST_CSR = 0;
    note(ticks);
}
