/* Watches a run: every access against what memory allows, alignment, divisions, and what a flash behind
 * caches has to read. Hooks for Unicorn; monitor.py is the other side. Stops the engine at the first violation. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { READ = 16, WRITE = 17 }; /* uc_mem_type */
enum { DEFINED = 1, ALLOWED = 2 }; /* of a byte of RAM */
enum { REGIONS = 8, NEAR = 512, AREAS = 64, IT_STATE = 0x0600FC00 };

/* monitor.py names them by these numbers. */
enum violation {
    NONE,
    STALE_READ,
    FORBIDDEN_READ,
    FORBIDDEN_WRITE,
    UNALIGNED_ACCESS,
    DIVISION_BY_ZERO,
    STACK_OVERFLOW,
    OUT_OF_MEMORY,
    WRONG_BYTE,
    STRAY_WRITE
};

typedef int (*reg_read_t)(void *engine, int id, void *value);
typedef int (*reg_write_t)(void *engine, int id, const void *value);
typedef int (*mem_read_t)(void *engine, uint64_t address, void *bytes, uint64_t size);
typedef int (*stop_t)(void *engine);

struct ram {
    uint64_t base;
    uint64_t size;
    uint8_t *state;
};

/* What a block caused; divide: cycles of its divisions. */
struct events {
    uint64_t address;
    uint64_t used; /* 0: a free slot */
    uint64_t fetch_random;
    uint64_t fetch_sequential;
    uint64_t data;
    uint64_t unaligned;
    uint64_t divisions;
    uint64_t divide_cycles;
};

/* Lines of sectors, fully associative, least recently used goes first. No lines: every access misses. */
struct cache {
    uint32_t lines;
    uint32_t used;
    int32_t *place;  /* of a line of the flash: its slot, or -1 */
    uint32_t *line;  /* of a slot */
    uint64_t *stamp; /* of a slot */
    uint64_t *valid; /* of a slot: one bit per sector */
    uint64_t clock;
};

struct flash {
    uint64_t base;
    uint64_t size;
    uint32_t sector; /* bytes that one read of the array gives; 0: not modelled */
    uint32_t line;
};

/* A part of the arena that the step may access: what lies there. */
struct area {
    uint64_t start; /* offset in the arena */
    uint64_t size;
    uint32_t number; /* who it is; 0 is nobody */
    uint32_t writes; /* the step writes it, and may read what it wrote; else it reads it */
};

/* What every byte of the arena holds: number of an area << 32 | byte of it; 0: nothing. */
struct shadow {
    uint64_t base;
    uint64_t size;
    uint64_t *tags;
    struct area areas[AREAS]; /* of the step */
    int count;                /* 0: no step runs, nothing is checked */
    uint64_t expected;        /* of a violation */
    uint64_t found;
};

struct monitor {
    void *engine;
    reg_read_t reg_read;
    reg_write_t reg_write;
    mem_read_t mem_read;
    stop_t stop;
    int sp;
    int pc;
    int r0;
    int epsr;
    int strict; /* the core faults on any unaligned access */
    uint64_t stack_limit;
    struct ram ram[REGIONS];
    int regions;
    struct shadow shadow;
    struct flash flash;
    struct cache fetch;
    struct cache data;
    uint64_t last_fetch;
    uint64_t last_data;
    uint64_t block_end;
    struct events *table;
    size_t capacity;
    size_t used;
    struct events *current;
    enum violation violation;
    uint64_t address;
    uint64_t size;
    uint32_t where;
};

static void violate(struct monitor *m, enum violation what, uint64_t address, uint64_t size)
{
    if (m->violation == NONE) {
        m->violation = what;
        m->address = address;
        m->size = size;
        m->where = 0;
        m->reg_read(m->engine, m->pc, &m->where);
        m->stop(m->engine);
    }
}

/* ---- events, by block ---- */

static struct events *slot(struct events *table, size_t capacity, uint64_t address)
{
    size_t i = (size_t)((address >> 1) * 0x9E3779B97F4A7C15u >> 20);

    for (;; ++i) {
        struct events *e = &table[i & (capacity - 1)];
        if (!e->used || e->address == address) {
            return e;
        }
    }
}

static int grow(struct monitor *m, size_t capacity)
{
    struct events *table = calloc(capacity, sizeof *table);

    if (table == NULL) {
        return 0;
    }
    for (size_t i = 0; i < m->capacity; ++i) {
        if (m->table[i].used) {
            *slot(table, capacity, m->table[i].address) = m->table[i];
        }
    }
    free(m->table);
    m->table = table;
    m->capacity = capacity;
    return 1;
}

static int enter(struct monitor *m, uint64_t address)
{
    if (m->used * 2 >= m->capacity && !grow(m, m->capacity * 2)) {
        return 0;
    }
    m->current = slot(m->table, m->capacity, address);
    if (!m->current->used) {
        m->current->used = 1;
        m->current->address = address;
        ++m->used;
    }
    return 1;
}

/* ---- flash ---- */

static int cache_ready(struct cache *c, uint32_t lines, const struct flash *flash)
{
    size_t all = (size_t)(flash->size / flash->line + 1);

    c->lines = lines;
    if (lines == 0) {
        return 1;
    }
    c->place = malloc(all * sizeof *c->place);
    c->line = calloc(lines, sizeof *c->line);
    c->stamp = calloc(lines, sizeof *c->stamp);
    c->valid = calloc(lines, sizeof *c->valid);
    if (c->place == NULL || c->line == NULL || c->stamp == NULL || c->valid == NULL) {
        return 0;
    }
    memset(c->place, 0xFF, all * sizeof *c->place);
    return 1;
}

static void cache_free(struct cache *c)
{
    free(c->place);
    free(c->line);
    free(c->stamp);
    free(c->valid);
}

/* Whether the sector at an offset in flash was there; it is afterwards. */
static int cache_hit(struct cache *c, const struct flash *flash, uint64_t offset)
{
    uint32_t line = (uint32_t)(offset / flash->line);
    uint64_t bit = (uint64_t)1 << (offset % flash->line / flash->sector);
    uint32_t at;

    if (c->lines == 0) {
        return 0;
    }
    ++c->clock;
    if (c->place[line] >= 0) {
        int hit;
        at = (uint32_t)c->place[line];
        hit = (c->valid[at] & bit) != 0;
        c->valid[at] |= bit;
        c->stamp[at] = c->clock;
        return hit;
    }
    if (c->used < c->lines) {
        at = c->used++;
    } else {
        at = 0;
        for (uint32_t i = 1; i < c->lines; ++i) {
            at = c->stamp[i] < c->stamp[at] ? i : at;
        }
        c->place[c->line[at]] = -1;
    }
    c->place[line] = (int32_t)at;
    c->line[at] = line;
    c->stamp[at] = c->clock;
    c->valid[at] = bit;
    return 0;
}

static int in_flash(const struct monitor *m, uint64_t address)
{
    return m->flash.sector != 0 && address - m->flash.base < m->flash.size;
}

static void fetch(struct monitor *m, uint64_t address, uint64_t size, int jumped)
{
    uint64_t first = (address - m->flash.base) / m->flash.sector;
    uint64_t last = (address - m->flash.base + size - 1) / m->flash.sector;

    for (uint64_t sector = first; sector <= last; ++sector) {
        if (sector != m->last_fetch
            && !cache_hit(&m->fetch, &m->flash, sector * m->flash.sector)) {
            if (sector == m->last_fetch + 1 && !(jumped && sector == first)) {
                ++m->current->fetch_sequential;
            } else {
                ++m->current->fetch_random;
            }
        }
        m->last_fetch = sector;
    }
}

static void read_flash(struct monitor *m, uint64_t address)
{
    uint64_t sector = (address - m->flash.base) / m->flash.sector;

    /* Without a cache every read goes to the array; with one, the sector just read is at hand. */
    if (!cache_hit(&m->data, &m->flash, sector * m->flash.sector)
        && (m->data.lines == 0 || sector != m->last_data)) {
        ++m->current->data;
    }
    m->last_data = sector;
}

/* ---- checks ---- */

static struct ram *ram_of(struct monitor *m, uint64_t address)
{
    for (int i = 0; i < m->regions; ++i) {
        if (address - m->ram[i].base < m->ram[i].size) {
            return &m->ram[i];
        }
    }
    return NULL;
}

/* Whether a write below the stack's limit is the stack's: the stack pointer is near. */
static int pushes(const struct monitor *m, uint64_t address)
{
    uint32_t sp = 0;

    m->reg_read(m->engine, m->sp, &sp);
    return address < m->stack_limit && (uint64_t)sp - address < NEAR;
}

static void check_ram(struct monitor *m, struct ram *ram, int type, uint64_t address, uint64_t size)
{
    uint64_t offset = address - ram->base;
    uint8_t *state = ram->state + offset;
    uint8_t common = DEFINED | ALLOWED;

    if (size > ram->size - offset) {
        size = ram->size - offset; /* the rest faults in the engine */
    }
    for (uint64_t i = 0; i < size; ++i) {
        common &= state[i];
        if (type == WRITE) {
            state[i] |= DEFINED;
        }
    }
    if (!(common & ALLOWED)) {
        violate(m, type != WRITE ? FORBIDDEN_READ : pushes(m, address) ? STACK_OVERFLOW : FORBIDDEN_WRITE,
                address, size);
    } else if (type == READ && !(common & DEFINED)) {
        violate(m, STALE_READ, address, size);
    }
}

static uint64_t tag(const struct area *area, uint64_t offset)
{
    return (uint64_t)area->number << 32 | (offset - area->start);
}

/* The area that an access of a byte is meant for; NULL: none. */
static const struct area *area_of(const struct shadow *s, uint64_t offset, uint32_t writes)
{
    for (int i = 0; i < s->count; ++i) {
        const struct area *area = &s->areas[i];
        if (area->writes == writes && offset - area->start < area->size) {
            return area;
        }
    }
    return NULL;
}

/* Whether a byte holds what the step may read there. Where an input lies, only the input's byte will do,
 * even if the output lies there too; elsewhere what the step wrote itself. */
static int holds(const struct shadow *s, uint64_t offset)
{
    uint64_t found = s->tags[offset];

    for (uint32_t writes = 0; writes < 2; ++writes) {
        int meant = 0;
        for (int i = 0; i < s->count; ++i) {
            const struct area *area = &s->areas[i];
            if (area->writes == writes && offset - area->start < area->size) {
                if (found == tag(area, offset)) {
                    return 1;
                }
                meant = 1;
            }
        }
        if (meant) {
            return 0;
        }
    }
    return 0;
}

static void check_shadow(struct monitor *m, int type, uint64_t address, uint64_t size)
{
    struct shadow *s = &m->shadow;

    if (s->count == 0 || address - s->base >= s->size) {
        return;
    }
    for (uint64_t at = address - s->base; size != 0 && at < s->size; ++at, --size) {
        const struct area *area = area_of(s, at, type == WRITE);
        if (type == WRITE ? area != NULL : holds(s, at)) {
            if (type == WRITE) {
                s->tags[at] = tag(area, at);
            }
        } else if (m->violation == NONE) {
            if (area == NULL) {
                area = area_of(s, at, type != WRITE);
            }
            s->expected = area == NULL ? 0 : tag(area, at);
            s->found = s->tags[at];
            violate(m, type == WRITE ? STRAY_WRITE : WRONG_BYTE, s->base + at, 1);
        }
    }
}

/* Unaligned words and halfwords are for single loads and stores only, and for those not on every core. */
static int may_be_unaligned(struct monitor *m)
{
    uint32_t pc = 0;
    uint8_t code[2];
    unsigned high;

    m->reg_read(m->engine, m->pc, &pc);
    if (m->strict || m->mem_read(m->engine, pc & ~1u, code, sizeof code) != 0) {
        return 0;
    }
    high = code[1];
    /* LDM and STM; PUSH and POP; LDM, LDRD, exclusives; VLDR, VLDM and their stores. */
    return !(high >> 4 == 0xC || (high & 0xF6) == 0xB4 || high == 0xE8 || high == 0xE9 || high == 0xEC
             || high == 0xED);
}

/* Unicorn sets the state of IT before it calls a hook of an access, and leaves it set: outside of the IT
 * block the code that comes next would run on its condition. Translated code knows the state by itself. */
static void leave_it(struct monitor *m)
{
    uint32_t epsr = 0;

    m->reg_read(m->engine, m->epsr, &epsr);
    if ((epsr & IT_STATE) != 0) {
        epsr &= ~(uint32_t)IT_STATE;
        m->reg_write(m->engine, m->epsr, &epsr);
    }
}

void monitor_access(void *uc, int type, uint64_t address, int size, int64_t value, void *user)
{
    struct monitor *m = user;
    struct ram *ram;

    (void)uc;
    (void)value;
    leave_it(m);
    if (m->current == NULL) {
        return;
    }
    /* Two words at once, as VPUSH of a double register stores them, lie at any word. */
    if ((address & (size > 4 ? 3u : (uint64_t)size - 1)) != 0) {
        if (m->regions != 0 && !may_be_unaligned(m)) {
            violate(m, UNALIGNED_ACCESS, address, (uint64_t)size);
            return;
        }
        m->current->unaligned += 1;
    }
    ram = ram_of(m, address);
    if (ram != NULL) {
        check_ram(m, ram, type, address, (uint64_t)size);
        check_shadow(m, type, address, (uint64_t)size);
    } else if (type == READ && in_flash(m, address)) {
        read_flash(m, address);
    }
}

void monitor_block(void *uc, uint64_t address, uint32_t size, void *user)
{
    struct monitor *m = user;
    uint32_t sp = 0;

    (void)uc;
    if (!enter(m, address)) {
        violate(m, OUT_OF_MEMORY, address, size);
        return;
    }
    if (in_flash(m, address)) {
        fetch(m, address, size, address != m->block_end);
    }
    m->block_end = address + size;
    m->reg_read(m->engine, m->sp, &sp);
    if (sp < m->stack_limit) {
        violate(m, STACK_OVERFLOW, sp, 0);
    }
}

static int bits(uint32_t value)
{
    int count = 0;

    for (; value != 0; value >>= 1) {
        ++count;
    }
    return count;
}

/* At SDIV and UDIV: cycles fall with the quotient's length, 2 to 12 (Cortex-M3 and M4 TRM). */
void monitor_divide(void *uc, uint64_t address, uint32_t size, void *user)
{
    struct monitor *m = user;
    uint8_t code[4];
    uint32_t n = 0, d = 0;
    int quotient;

    (void)uc;
    (void)size;
    if (m->current == NULL || m->mem_read(m->engine, address, code, sizeof code) != 0) {
        return;
    }
    m->reg_read(m->engine, m->r0 + (code[0] & 15), &n);
    m->reg_read(m->engine, m->r0 + (code[2] & 15), &d);
    if (d == 0) {
        violate(m, DIVISION_BY_ZERO, address, 0);
        return;
    }
    if (!(code[0] & 0x20)) { /* signed */
        n = n >> 31 ? 0u - n : n;
        d = d >> 31 ? 0u - d : d;
    }
    quotient = bits(n) - bits(d) + 1;
    ++m->current->divisions;
    m->current->divide_cycles += quotient <= 0 ? 2u : (unsigned)(4 + (quotient + 3) / 4);
}

/* ---- the other side ---- */

void monitor_free(struct monitor *m)
{
    if (m != NULL) {
        for (int i = 0; i < m->regions; ++i) {
            free(m->ram[i].state);
        }
        cache_free(&m->fetch);
        cache_free(&m->data);
        free(m->shadow.tags);
        free(m->table);
        free(m);
    }
}

/* ids: of sp, pc, r0, epsr. */
struct monitor *monitor_new(
    void *engine, reg_read_t reg_read, reg_write_t reg_write, mem_read_t mem_read, stop_t stop,
    const int ids[4], int strict)
{
    struct monitor *m = calloc(1, sizeof *m);

    if (m == NULL || !grow(m, 1024)) {
        monitor_free(m);
        return NULL;
    }
    m->engine = engine;
    m->reg_read = reg_read;
    m->reg_write = reg_write;
    m->mem_read = mem_read;
    m->stop = stop;
    m->sp = ids[0];
    m->pc = ids[1];
    m->r0 = ids[2];
    m->epsr = ids[3];
    m->strict = strict;
    m->last_fetch = m->last_data = UINT64_MAX - 1;
    return m;
}

/* A bank of RAM, all of it allowed, none of it defined. */
int monitor_add_ram(struct monitor *m, uint64_t base, uint64_t size)
{
    struct ram *ram = &m->ram[m->regions];

    if (m->regions == REGIONS) {
        return 0;
    }
    ram->base = base;
    ram->size = size;
    ram->state = malloc((size_t)size);
    if (ram->state == NULL) {
        return 0;
    }
    memset(ram->state, ALLOWED, (size_t)size);
    ++m->regions;
    return 1;
}

int monitor_set_flash(
    struct monitor *m, uint64_t base, uint64_t size, uint32_t sector, uint32_t line, uint32_t fetch_lines,
    uint32_t data_lines)
{
    m->flash.base = base;
    m->flash.size = size;
    m->flash.sector = sector;
    m->flash.line = line;
    return cache_ready(&m->fetch, fetch_lines, &m->flash)
           && cache_ready(&m->data, data_lines, &m->flash);
}

void monitor_set_stack(struct monitor *m, uint64_t limit)
{
    m->stack_limit = limit;
}

/* Sets and clears DEFINED and ALLOWED of a range of RAM. */
void monitor_mark(struct monitor *m, uint64_t address, uint64_t size, int set, int clear)
{
    struct ram *ram = ram_of(m, address);

    if (ram == NULL) {
        return;
    }
    for (uint64_t at = address - ram->base; size != 0 && at < ram->size; ++at, --size) {
        ram->state[at] = (uint8_t)((ram->state[at] | set) & ~clear);
    }
}

/* An arena whose bytes are to carry tags from here on; all of them hold nothing. */
int monitor_set_shadow(struct monitor *m, uint64_t base, uint64_t size)
{
    free(m->shadow.tags);
    m->shadow.tags = calloc((size_t)size, sizeof *m->shadow.tags);
    m->shadow.base = base;
    m->shadow.size = m->shadow.tags == NULL ? 0 : size;
    m->shadow.count = 0;
    return m->shadow.tags != NULL; /* calloc: all of them are 0 */
}

/* What a step may access; none: no step runs. */
int monitor_set_areas(struct monitor *m, const struct area *areas, int count)
{
    if (count > AREAS) {
        return 0;
    }
    memcpy(m->shadow.areas, areas, (size_t)count * sizeof *areas);
    m->shadow.count = count;
    return 1;
}

/* Bytes of the arena hold an area as a whole. */
void monitor_paint(struct monitor *m, const struct area *area)
{
    for (uint64_t at = area->start; at - area->start < area->size && at < m->shadow.size; ++at) {
        m->shadow.tags[at] = tag(area, at);
    }
}

/* Offset of the first byte that does not hold its part of an area; the arena's size: all do. */
uint64_t monitor_first_wrong(struct monitor *m, const struct area *area)
{
    for (uint64_t at = area->start; at - area->start < area->size && at < m->shadow.size; ++at) {
        if (m->shadow.tags[at] != tag(area, at)) {
            m->shadow.expected = tag(area, at);
            m->shadow.found = m->shadow.tags[at];
            return at;
        }
    }
    return m->shadow.size;
}

/* What the byte of a violation, or of monitor_first_wrong, was to hold, and what it held. */
void monitor_tags(const struct monitor *m, uint64_t *to)
{
    to[0] = m->shadow.expected;
    to[1] = m->shadow.found;
}

size_t monitor_used(const struct monitor *m)
{
    return m->used;
}

/* Moves the events out, in no order, and starts anew. Room for monitor_used() of them. */
void monitor_take(struct monitor *m, struct events *to)
{
    for (size_t i = 0; i < m->capacity; ++i) {
        if (m->table[i].used) {
            *to++ = m->table[i];
            m->table[i].used = 0;
            memset(&m->table[i], 0, sizeof m->table[i]);
        }
    }
    m->used = 0;
    m->current = NULL;
}

/* The violation and its address, size and instruction; they are forgotten. */
int monitor_violation(struct monitor *m, uint64_t *to)
{
    int found = m->violation;

    to[0] = m->address;
    to[1] = m->size;
    to[2] = m->where;
    m->violation = NONE;
    return found;
}
