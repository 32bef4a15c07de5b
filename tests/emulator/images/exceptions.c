/* Supervisor calls, nested interrupts, PendSV, masks, a second stack, and stack alignment. */
#include "machine.h"

uint32_t on_svc(uint32_t *frame, uint32_t exc_return);
uint32_t call_five(uint32_t x);
uint32_t call_misaligned(uint32_t x);
uint32_t on_second_stack(uint32_t x, uint32_t *stack_top);

/* r0: the frame, on the stack that EXC_RETURN names; r1: EXC_RETURN. */
__asm__(".syntax unified\n"
        ".section .text.SVC_Handler, \"ax\"\n"
        ".thumb_func\n"
        ".global SVC_Handler\n"
        "SVC_Handler:\n"
        "    mov r1, lr\n"
        "    movs r0, #4\n"
        "    tst r0, r1\n"
        "    beq 1f\n"
        "    mrs r0, psp\n"
        "    b 2f\n"
        "1:  mrs r0, msp\n"
        "2:  push {r4, lr}\n"
        "    bl on_svc\n"
        "    pop {r4, pc}\n"
        ".thumb_func\n"
        ".global call_five\n"
        "call_five:\n"
        "    svc 5\n"
        "    bx lr\n"
        ".thumb_func\n"
        ".global call_misaligned\n"
        "call_misaligned:\n"
        "    sub sp, #4\n"
        "    svc 6\n"
        "    add sp, #4\n"
        "    bx lr\n"
        ".thumb_func\n"
        ".global on_second_stack\n"
        "on_second_stack:\n"
        "    push {r4, lr}\n"
        "    msr psp, r1\n"
        "    movs r2, #2\n"
        "    msr control, r2\n"
        "    isb\n"
        "    svc 7\n"
        "    mrs r4, psp\n"
        "    subs r1, r1, r4\n" /* 0: the frame is gone */
        "    adds r0, r0, r1\n"
        "    movs r2, #0\n"
        "    msr control, r2\n"
        "    isb\n"
        "    pop {r4, pc}\n");

/* Adds the call's immediate to r0, and notes whether the frame is aligned and was padded. */
uint32_t on_svc(uint32_t *frame, uint32_t exc_return)
{
    const uint8_t *next = (const uint8_t *)(uintptr_t)frame[6];

    frame[0] += next[-2];
    note(exc_return);
    note(((uint32_t)(uintptr_t)frame & 7u) | (frame[7] >> 9 & 1u) << 8);
    return 0;
}

void IRQ2_Handler(void)
{
    note(0x10);
    ICSR = PENDSVSET;
    BARRIER(); /* PendSV is less urgent: not now */
    note(0x11);
    NVIC_ISPR = 8u;
    BARRIER(); /* interrupt 3 is more urgent: now */
    note(0x12);
}

void IRQ3_Handler(void)
{
    uint32_t number;

    __asm__ volatile("mrs %0, ipsr" : "=r"(number));
    note(0x20u + number);
}

void PendSV_Handler(void)
{
    note(0x30);
}

static uint32_t second_stack[64] __attribute__((aligned(8)));

void image_main(void)
{
    note(call_five(20));
    note(call_misaligned(30));
    note(on_second_stack(40, &second_stack[64]));

    SHPR3 = 0xC0u << 16; /* PendSV */
    NVIC_IPR0 = 0x40800000u; /* interrupt 3: 0x40, interrupt 2: 0x80 */
    NVIC_ISER = 0xCu;
    NVIC_ISPR = 4u;
    BARRIER();
    note(0x13);

    __asm__ volatile("cpsid i" ::: "memory");
    NVIC_ISPR = 8u;
    BARRIER();
    note(0x40);
    __asm__ volatile("cpsie i\n\tisb" ::: "memory");
    note(0x41);
    __asm__ volatile("cpsid i" ::: "memory");
    NVIC_ISPR = 8u;
    WFI(); /* wakes although the handler must wait */
    note(0x42);
    __asm__ volatile("cpsie i\n\tisb" ::: "memory");
    note(0x43);
}
