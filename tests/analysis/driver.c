/* driver FILE: reads samples of every model in turn, runs them, compares. Prints the number of inferences. */
#include "driver.h"

enum { FILLS = 4 };

extern const struct model *const models[];

static void *checked(void *memory)
{
    if (memory == NULL) {
        abort();
    }
    return memory;
}

static void take(FILE *file, void *to, size_t size)
{
    if (size != 0 && fread(to, size, 1, file) != 1) {
        fprintf(stderr, "samples end too early\n");
        exit(2);
    }
}

/* 0x00, 0xAA, 0xFF, and noise. */
static void fill(int8_t *memory, size_t size, int kind)
{
    static const int values[] = {0x00, 0xAA, 0xFF};
    static uint32_t noise = 1;

    for (size_t i = 0; i < size; ++i) {
        noise = noise * 1664525u + 1013904223u;
        memory[i] = (int8_t)(kind < 3 ? values[kind] : (int)(noise >> 24));
    }
}

static int run(const struct model *m, int8_t *arena)
{
    for (unsigned step = 0; step < m->steps; ++step) {
        ASAN_POISON_MEMORY_REGION(arena, m->arena);
        for (size_t i = 0; i < m->area_count; ++i) {
            if (m->areas[i].step == step) {
                ASAN_UNPOISON_MEMORY_REGION(arena + m->areas[i].offset, m->areas[i].size);
            }
        }
        if (m->run_step(step) != 0) {
            return 0;
        }
    }
    ASAN_UNPOISON_MEMORY_REGION(arena, m->arena);
    return 1;
}

/* One inference on an arena that held something else. */
static int right(const struct model *m, int8_t *arena, int8_t *const *data, int kind)
{
    fill(arena, m->arena, kind);
    for (unsigned i = 0; i < m->inputs; ++i) {
        memcpy(m->input((int)i), data[i], m->sizes[i]);
    }
    if (!run(m, arena)) {
        return 0;
    }
    for (unsigned i = 0; i < m->outputs; ++i) {
        if (memcmp(m->output((int)i), data[m->inputs + i], m->sizes[m->inputs + i]) != 0) {
            return 0;
        }
    }
    return 1;
}

static unsigned all_samples(const struct model *m, FILE *file)
{
    unsigned total = m->inputs + m->outputs;
    int8_t **data = checked(malloc(total * sizeof *data));
    int8_t *arena = checked(malloc(m->arena)); /* of exactly this size: red zones on both sides */
    uint32_t count = 0;

    if (m->start(arena) != 0 || m->check_weights() != 0) {
        fprintf(stderr, "%s does not start\n", m->name);
        exit(1);
    }
    for (unsigned i = 0; i < total; ++i) {
        data[i] = checked(malloc(m->sizes[i] + 1));
    }
    take(file, &count, sizeof count);
    for (uint32_t sample = 0; sample < count; ++sample) {
        for (unsigned i = 0; i < total; ++i) {
            take(file, data[i], m->sizes[i]);
        }
        for (int kind = 0; kind < FILLS; ++kind) {
            if (!right(m, arena, data, kind)) {
                fprintf(stderr, "%s: sample %u is wrong\n", m->name, (unsigned)sample);
                exit(1);
            }
        }
    }
    for (unsigned i = 0; i < total; ++i) {
        free(data[i]);
    }
    free(arena);
    free(data);
    return count * FILLS;
}

int main(int argc, char **argv)
{
    FILE *file = argc == 2 ? fopen(argv[1], "rb") : NULL;
    unsigned inferences = 0;

    if (file == NULL) {
        return 2;
    }
    for (const struct model *const *m = models; *m != NULL; ++m) {
        inferences += all_samples(*m, file);
    }
    fclose(file);
    printf("%u\n", inferences);
    return 0;
}
