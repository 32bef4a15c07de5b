/* Runs one model on many inputs and compares its outputs; the arena has red zones, and holes in it. */
#ifndef DRIVER_H
#define DRIVER_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#endif

struct area { /* of the arena: what a step may access */
    unsigned step;
    size_t offset;
    size_t size;
};

struct model {
    const char *name;
    size_t arena;
    unsigned steps;
    unsigned inputs;
    unsigned outputs;
    const size_t *sizes; /* of the inputs, then of the outputs */
    const struct area *areas;
    size_t area_count;
    int (*start)(void *arena);
    int8_t *(*input)(int i);
    const int8_t *(*output)(int i);
    int (*run_step)(unsigned step);
    int (*check_weights)(void);
};

#endif
