/* A clock that advances by the price of each block executed, and stops Unicorn at a deadline. clock.py has the same
   in Python. */
#include <stdint.h>
#include <stdlib.h>

/* Prices a block: cycles of one execution in the low word, of leaving it by a jump in the high one. */
typedef uint64_t (*price_t)(uint64_t address, uint32_t size);
typedef int (*stop_t)(void *uc);
typedef int (*register_t)(void *uc, int id, void *value);

struct block {
    uint64_t address;
    uint32_t size; /* 0: a free slot */
    uint32_t cost;
    uint32_t leaving;
};

/* The first part is shared with clock.py. */
struct clock {
    uint64_t cycles;
    uint64_t deadline; /* the first block that would start at or after it is not executed */
    uint64_t end;      /* the address behind the last block; 1 before there is one */
    uint32_t leaving;  /* cycles if the last block does not end there */
    uint32_t stopped;
    int32_t masks[2];    /* ids of registers to watch; 0: none */
    uint32_t watched[2]; /* stop as soon as one of them is not this */

    price_t price;
    stop_t stop;
    register_t read_register;
    struct block *table; /* open addressing; capacity is a power of two */
    size_t capacity;
    size_t used;
};

static struct block *slot(const struct clock *c, uint64_t address, uint32_t size)
{
    size_t i = (size_t)((address >> 1) * 0x9E3779B97F4A7C15u >> 20);

    for (;; ++i) {
        struct block *b = &c->table[i & (c->capacity - 1)];
        if (b->size == 0 || (b->address == address && b->size == size)) {
            return b;
        }
    }
}

static int grow(struct clock *c, size_t capacity)
{
    struct clock bigger = *c;

    bigger.capacity = capacity;
    bigger.table = calloc(capacity, sizeof(struct block));
    if (bigger.table == NULL) {
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

void clock_free(struct clock *c)
{
    if (c != NULL) {
        free(c->table);
        free(c);
    }
}

struct clock *clock_new(price_t price, stop_t stop, register_t read_register)
{
    struct clock *c = calloc(1, sizeof *c);

    if (c == NULL || !grow(c, 1024)) {
        clock_free(c);
        return NULL;
    }
    c->deadline = UINT64_MAX;
    c->end = 1;
    c->price = price;
    c->stop = stop;
    c->read_register = read_register;
    return c;
}

static int unmasked(const struct clock *c, void *uc)
{
    for (int i = 0; i < 2; ++i) {
        uint32_t value = 0;
        if (c->masks[i] != 0 && c->read_register(uc, c->masks[i], &value) == 0
            && value != c->watched[i]) {
            return 1;
        }
    }
    return 0;
}

/* Execution goes on at an address: the last block's exit is known only now. */
void clock_arrive(struct clock *c, uint64_t address)
{
    if (c->end != 1 && address != c->end) {
        c->cycles += c->leaving;
    }
    c->end = 1;
}

static struct block priced(const struct clock *c, uint64_t address, uint32_t size)
{
    uint64_t price = c->price(address, size);
    struct block b = {address, size, (uint32_t)price, (uint32_t)(price >> 32)};
    return b;
}

/* The hook: uc_cb_hookcode_t. Unicorn does not execute a block in whose hook it is stopped, and calls
   the hook again when it is resumed there: such a block is not counted now, but then. */
void clock_block(void *uc, uint64_t address, uint32_t size, void *user)
{
    struct clock *c = user;
    struct block b;

    if (c->cycles >= c->deadline || unmasked(c, uc)) {
        c->stopped = 1;
        (void)c->stop(uc);
        return;
    }
    clock_arrive(c, address);
    if (c->used * 2 < c->capacity || grow(c, c->capacity * 2)) {
        struct block *known = slot(c, address, size);
        if (known->size == 0) {
            *known = priced(c, address, size);
            ++c->used;
        }
        b = *known;
    } else {
        b = priced(c, address, size); /* no memory to keep it */
    }
    c->cycles += b.cost;
    c->end = address + size;
    c->leaving = b.leaving;
}
