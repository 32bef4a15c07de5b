/* What the test images share: registers, a log that the test reads, and vectors. There is no .data; .bss is not
   cleared: Reset_Handler clears the log. */
#include <stddef.h>
#include <stdint.h>

#include "config.h"

#define WORD(address) (*(volatile uint32_t *)(uintptr_t)(address))
#define SYST_CSR WORD(0xE000E010u)
#define SYST_RVR WORD(0xE000E014u)
#define SYST_CVR WORD(0xE000E018u)
#define NVIC_ISER WORD(0xE000E100u)
#define NVIC_ISPR WORD(0xE000E200u)
#define NVIC_IPR0 WORD(0xE000E400u)
#define ICSR WORD(0xE000ED04u)
#define AIRCR WORD(0xE000ED0Cu)
#define SHPR3 WORD(0xE000ED20u)
#define CPACR WORD(0xE000ED88u)
#define DEMCR WORD(0xE000EDFCu)
#define DWT_CTRL WORD(0xE0001000u)
#define DWT_CYCCNT WORD(0xE0001004u)
#define PENDSVSET (1u << 28)
#define BARRIER() __asm__ volatile("dsb\n\tisb" ::: "memory")
#define WFI() __asm__ volatile("wfi" ::: "memory")

extern volatile uint32_t results[64];
extern volatile uint32_t result_count;

void Reset_Handler(void);
void image_main(void);
void note(uint32_t value);
void SVC_Handler(void);
void PendSV_Handler(void);
void SysTick_Handler(void);
void IRQ2_Handler(void);
void IRQ3_Handler(void);
void uart_handler(void);
uint32_t semihost(uint32_t request, uint32_t argument);
