/* A model by hand: y[i] = (x[i] + x[i + 4]) / 3 in two steps, through the arena. */
#ifndef KWS_H
#define KWS_H

#include <stddef.h>
#include <stdint.h>

#define KWS_ARENA_SIZE 64u
#define KWS_ARENA_ALIGN 16u

typedef enum {
    KWS_OK = 0,
    KWS_ERR_NULL = -1,
    KWS_ERR_STEP = -4
} kws_status_t;

typedef struct {
    int8_t *arena;
} kws_ctx_t;

kws_status_t kws_init(kws_ctx_t *ctx, void *arena, size_t arena_size);
int8_t *kws_input(kws_ctx_t *ctx, int i);
const int8_t *kws_output(const kws_ctx_t *ctx, int i);
kws_status_t kws_run(kws_ctx_t *ctx);
kws_status_t kws_run_step(kws_ctx_t *ctx, unsigned step);

#endif
