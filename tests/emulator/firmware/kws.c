#include "kws.h"

void *memcpy(void *to, const void *from, size_t size);

/* Start-up must copy the first and clear the second. */
int32_t kws_divisor = 3;
int32_t kws_runs;
static const int8_t offsets[4] = {1, -1, 2, -2};

kws_status_t kws_init(kws_ctx_t *ctx, void *arena, size_t arena_size)
{
    if (ctx == NULL || arena == NULL || arena_size < KWS_ARENA_SIZE) {
        return KWS_ERR_NULL;
    }
    ctx->arena = (int8_t *)arena;
    return KWS_OK;
}

int8_t *kws_input(kws_ctx_t *ctx, int i)
{
    return i == 0 ? ctx->arena : NULL;
}

const int8_t *kws_output(const kws_ctx_t *ctx, int i)
{
    return i == 0 ? ctx->arena + 16 : NULL;
}

static void add(const int8_t *x, int32_t *y)
{
    int8_t copy[8];

    memcpy(copy, x, sizeof copy);
    for (int i = 0; i < 4; ++i) {
        y[i] = copy[i] + copy[i + 4] + offsets[i];
    }
}

static void divide(const int32_t *x, int8_t *y)
{
    for (int i = 0; i < 4; ++i) {
        y[i] = (int8_t)(x[i] / kws_divisor);
    }
    ++kws_runs;
}

kws_status_t kws_run_step(kws_ctx_t *ctx, unsigned step)
{
    int32_t *sums = (int32_t *)(void *)(ctx->arena + 32);

    switch (step) {
    case 0:
        add(ctx->arena, sums);
        return KWS_OK;
    case 1:
        divide(sums, ctx->arena + 16);
        return KWS_OK;
    default:
        return KWS_ERR_STEP;
    }
}

kws_status_t kws_run(kws_ctx_t *ctx)
{
    kws_status_t status = kws_run_step(ctx, 0);

    return status == KWS_OK ? kws_run_step(ctx, 1) : status;
}
