/* One mistake, chosen by config.h. */
#include "machine.h"

#if MISTAKE == 4
void IRQ2_Handler(void)
{
    __asm__ volatile("svc 1"); /* an interrupt of the same priority may not */
}
#endif

void image_main(void)
{
#if MISTAKE == 0
    WORD(0x3FFF0000u) = 1;
#elif MISTAKE == 1
    __asm__ volatile("bkpt 1");
#elif MISTAKE == 2
    __asm__ volatile("udf #1");
#elif MISTAKE == 3
    ((void (*)(void))0xFFFFFFF9u)(); /* a return from no exception */
#elif MISTAKE == 4
    NVIC_ISER = 4;
    NVIC_ISPR = 4;
    BARRIER();
#elif MISTAKE == 5
    __asm__ volatile("wfe\n\tudf #1");
#endif
}
