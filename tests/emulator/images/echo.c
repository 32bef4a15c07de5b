/* Echoes its console, each byte plus one, by interrupt; greets by polling. */
#include "machine.h"

#if UART_V1
#define STATUS WORD(UART_BASE + 0x00u)
#define INPUT WORD(UART_BASE + 0x04u)
#define OUTPUT WORD(UART_BASE + 0x04u)
#define CONTROL WORD(UART_BASE + 0x0Cu)
#define ENABLE 0x202Cu
#elif UART_V2
#define STATUS WORD(UART_BASE + 0x1Cu)
#define INPUT WORD(UART_BASE + 0x24u)
#define OUTPUT WORD(UART_BASE + 0x28u)
#define CONTROL WORD(UART_BASE + 0x00u)
#define ENABLE 0x002Du
#else
#define INPUT WORD(UART_BASE + 0x00u)
#define OUTPUT WORD(UART_BASE + 0x00u)
#define CONTROL WORD(UART_BASE + 0x08u)
#define ENABLE 0x000Bu
#endif

static void put(uint32_t byte)
{
#if UART_V1 || UART_V2
    while ((STATUS & 0x80u) == 0u) {
    }
#else
    while ((WORD(UART_BASE + 4u) & 1u) != 0u) {
    }
#endif
    OUTPUT = byte;
}

void uart_handler(void)
{
    uint32_t byte = INPUT & 0xFFu;

    put(byte + 1u);
    if (byte == 'R') {
        AIRCR = 0x05FA0004u;
        BARRIER();
    }
}

void image_main(void)
{
    CONTROL = ENABLE;
    WORD(0xE000E100u + 4u * (UART_IRQ / 32u)) = 1u << (UART_IRQ % 32u);
    put('h');
    put('i');
    put('\n');
}
