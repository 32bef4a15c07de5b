/* Readies golden and waits. A host calls its functions on app_ctx by name from here on;
 * an application of your own replaces this file. */
#include "golden.h"

golden_ctx_t app_ctx;
int app_status; /* of golden_init; not of the enum's type, whose size is the compiler's choice */
__attribute__((aligned(GOLDEN_ARENA_ALIGN))) uint8_t app_arena[GOLDEN_ARENA_SIZE];
int8_t app_row[GOLDEN_ROW_SIZE]; /* the row that is pushed next */

void app_idle(void);

/* A place to stop at: neither inlined nor dropped. */
__attribute__((noinline)) void app_idle(void)
{
    __asm__ volatile("" ::: "memory");
}

int main(void)
{
    app_status = golden_init(&app_ctx, app_arena, sizeof app_arena);
    for (;;) {
        app_idle();
    }
}
