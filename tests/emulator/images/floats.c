/* Floating-point registers live through a supervisor call whose handler uses them. */
#include "machine.h"

uint32_t kept(uint32_t x);

/* vmov s0, r0; vmov r0, s0; vmov s0, r1: spelled out, for compilers told of no floating-point unit. */
__asm__(".syntax unified\n"
        ".section .text.SVC_Handler, \"ax\"\n"
        ".thumb_func\n"
        ".global SVC_Handler\n"
        "SVC_Handler:\n"
        "    movs r1, #99\n"
        "    .inst.w 0xee001a10\n"
        "    mov r0, lr\n"
        "    push {r4, lr}\n"
        "    bl note\n"
        "    pop {r4, pc}\n"
        ".thumb_func\n"
        ".global kept\n"
        "kept:\n"
        "    .inst.w 0xee000a10\n"
        "    svc 1\n"
        "    .inst.w 0xee100a10\n"
        "    bx lr\n");

void image_main(void)
{
#if ENABLE_FLOATS
    CPACR |= 0xFu << 20;
    BARRIER();
#endif
    note(kept(0x3F800000u));
}
