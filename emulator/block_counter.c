/* Counts the basic blocks that Unicorn executes: a block hook and its table. blocks.py has the same in Python. */
#include <stdint.h>
#include <stdlib.h>

struct block {
    uint64_t address;
    uint64_t size; /* 0: a free slot */
    uint64_t executions;
    uint64_t taken; /* times that the next block was not the one behind it in memory */
};

typedef int (*stop_t)(void *engine);

struct counter {
    struct block *table; /* open addressing; capacity is a power of two */
    size_t capacity;
    size_t used;
    struct block *last;
    int out_of_memory;
    uint64_t left; /* bytes of code that may still start */
    stop_t stop;   /* NULL: no limit */
    int exhausted;
};

static struct block *slot(const struct counter *c, uint64_t address, uint64_t size)
{
    size_t i = (size_t)((address >> 1) * 0x9E3779B97F4A7C15u >> 20);

    for (;; ++i) {
        struct block *b = &c->table[i & (c->capacity - 1)];
        if (b->size == 0 || (b->address == address && b->size == size)) {
            return b;
        }
    }
}

static int grow(struct counter *c, size_t capacity)
{
    struct counter bigger = *c;

    bigger.table = calloc(capacity, sizeof(struct block));
    bigger.capacity = capacity;
    bigger.last = NULL;
    if (bigger.table == NULL) {
        c->out_of_memory = 1;
        return 0;
    }
    for (size_t i = 0; i < c->capacity; ++i) {
        const struct block *b = &c->table[i];
        if (b->size != 0) {
            *slot(&bigger, b->address, b->size) = *b;
        }
    }
    free(c->table);
    *c = bigger;
    return 1;
}

void counter_free(struct counter *c)
{
    if (c != NULL) {
        free(c->table);
        free(c);
    }
}

struct counter *counter_new(void)
{
    struct counter *c = calloc(1, sizeof *c);

    if (c != NULL && !grow(c, 1024)) {
        counter_free(c);
        return NULL;
    }
    return c;
}

/* Ends a run at an address: the last block's exit is known only now. */
void counter_finish(struct counter *c, uint64_t address)
{
    if (c->last != NULL && address != c->last->address + c->last->size) {
        ++c->last->taken;
    }
    c->last = NULL;
}

/* The hook: uc_cb_hookcode_t. */
void counter_block(void *uc, uint64_t address, uint32_t size, void *user)
{
    struct counter *c = user;
    struct block *b;

    counter_finish(c, address);
    if (c->stop != NULL) {
        if (c->left < size) {
            c->exhausted = 1;
            c->stop(uc); /* the block is not executed */
            return;
        }
        c->left -= size;
    }
    if (c->used * 2 >= c->capacity && !grow(c, c->capacity * 2)) {
        return;
    }
    b = slot(c, address, size);
    if (b->size == 0) {
        b->address = address;
        b->size = size;
        ++c->used;
    }
    ++b->executions;
    c->last = b;
}

/* Stops the engine when it is about to have executed more than these bytes of code. */
void counter_limit(struct counter *c, uint64_t bytes, stop_t stop)
{
    c->left = bytes;
    c->stop = stop;
    c->exhausted = 0;
}

int counter_exhausted(const struct counter *c)
{
    return c->exhausted;
}

/* Moves the blocks counted out, in no order, and starts anew. Room for counter_used() of them. */
size_t counter_used(const struct counter *c)
{
    return c->used;
}

int counter_take(struct counter *c, struct block *to)
{
    int complete = !c->out_of_memory;

    for (size_t i = 0; i < c->capacity; ++i) {
        if (c->table[i].size != 0) {
            *to++ = c->table[i];
            c->table[i] = (struct block){0, 0, 0, 0};
        }
    }
    c->used = 0;
    c->last = NULL;
    c->out_of_memory = 0;
    return complete;
}
