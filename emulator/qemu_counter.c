/* Counts the blocks that QEMU executes: a TCG plugin. Its table is a file that the host maps as well, and reads
 * while the core stands still; qemu_counter.py is the other side. */
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* What is used of the plugin interface, as QEMU documents it; the same in all its versions so far. */
struct qemu_plugin_tb;
struct qemu_plugin_insn;
typedef uint64_t plugin_id;
enum { CB_NO_REGS = 0 };
void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id id, void (*translated)(plugin_id, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb, void (*executed)(unsigned, void *), int flags,
                                          void *user);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t index);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *insn);
void *qemu_plugin_insn_haddr(const struct qemu_plugin_insn *insn); /* where it lies in this process */

#define EXPORT __attribute__((visibility("default")))
#ifndef PLUGIN_API
#define PLUGIN_API 1
#endif
EXPORT extern int qemu_plugin_version;
EXPORT int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv);
int qemu_plugin_version = PLUGIN_API;

struct block {
    uint64_t address;
    uint64_t size;
    uint64_t instructions; /* as QEMU decodes them */
    uint64_t executions;
    uint64_t taken; /* times that the next block was not the one behind it in memory */
};

struct table {
    uint64_t capacity; /* set by the host */
    uint64_t used;
    uint64_t last;      /* 1 + index of the block executed last; 0: none */
    uint64_t forgotten; /* blocks that found no room */
    struct block blocks[];
};

static struct table *table;

static void executed(unsigned cpu, void *user)
{
    struct block *b = user;

    (void)cpu;
    if (table->last != 0) {
        struct block *before = &table->blocks[table->last - 1];
        before->taken += before->address + before->size != b->address;
    }
    ++b->executions;
    table->last = (uint64_t)(b - table->blocks) + 1;
}

/* A block is translated again when QEMU empties its cache. */
static struct block *find(uint64_t address, uint64_t size)
{
    struct block *b = table->blocks;

    for (uint64_t i = 0; i < table->used; ++i, ++b) {
        if (b->address == address && b->size == size) {
            return b;
        }
    }
    if (table->used == table->capacity) {
        ++table->forgotten;
        return NULL;
    }
    ++table->used;
    b->address = address;
    b->size = size;
    return b;
}

/* Not QEMU's own size: QEMU 7.2 adds what it peeked at beyond a page's last instruction. */
static uint64_t thumb_size(const struct qemu_plugin_insn *insn)
{
    const uint8_t *code = qemu_plugin_insn_haddr(insn);

    return code != NULL && code[1] >> 3 >= 0x1D ? 4 : 2;
}

static void translated(plugin_id id, struct qemu_plugin_tb *tb)
{
    size_t instructions = qemu_plugin_tb_n_insns(tb);
    const struct qemu_plugin_insn *last = qemu_plugin_tb_get_insn(tb, instructions - 1);
    uint64_t address = qemu_plugin_tb_vaddr(tb);
    uint64_t end = qemu_plugin_insn_vaddr(last) + thumb_size(last);
    struct block *b = find(address, end - address);

    (void)id;
    if (b != NULL) {
        b->instructions = instructions;
        qemu_plugin_register_vcpu_tb_exec_cb(tb, executed, CB_NO_REGS, b);
    }
}

/* The one argument: table=PATH. */
int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv)
{
    static const char name[] = "table=";
    struct stat status;
    int file;

    (void)info;
    if (argc != 1 || strncmp(argv[0], name, sizeof name - 1) != 0) {
        return -1;
    }
    file = open(argv[0] + sizeof name - 1, O_RDWR);
    if (file < 0) {
        return -1;
    }
    if (fstat(file, &status) == 0) {
        table = mmap(NULL, (size_t)status.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    }
    close(file);
    if (table == NULL || table == MAP_FAILED) {
        return -1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    return 0;
}
