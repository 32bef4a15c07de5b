/* Semihosting: three ways to print, the clock, a file that must not open, and exit. */
#include "machine.h"

static const char text[] = "two\n";
static const char name[] = "secret.txt";
static const char letter[] = "1";

void image_main(void)
{
    volatile uint32_t block[3];
    uint32_t elapsed[2];

    (void)semihost(0x03, (uint32_t)(uintptr_t)letter);
    (void)semihost(0x04, (uint32_t)(uintptr_t)text);
    block[0] = 1;
    block[1] = (uint32_t)(uintptr_t)text;
    block[2] = 3;
    note(semihost(0x05, (uint32_t)(uintptr_t)block));
    block[0] = (uint32_t)(uintptr_t)name;
    block[1] = 4;
    block[2] = 10;
    note(semihost(0x01, (uint32_t)(uintptr_t)block));
    note(semihost(0x10, 0));
    note(semihost(0x31, 0));
    note(semihost(0x30, (uint32_t)(uintptr_t)elapsed));
    note(elapsed[0]);
    block[0] = 0x20026;
    block[1] = 7;
    (void)semihost(0x20, (uint32_t)(uintptr_t)block);
    note(0xBAD);
}
