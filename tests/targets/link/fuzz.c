/* Sends frames over a line that damages them, and holds what the receiver accepts against what was sent.
 *
 * usage: fuzz SEED COUNT [STREAM]: prints "accepted N crc X"; STREAM takes the bytes of the line. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app_frames.h"

#define WIRE 4096
#define KEPT 64 /* frames that may still be on the line: one without its end waits for the next that is not lost */

struct sent {
    uint8_t type;
    uint16_t sequence;
    size_t size;
    uint8_t payload[FRAME_PAYLOAD];
};

static uint64_t state;
static uint8_t wire[WIRE];
static size_t length;
static struct sent sent[KEPT];
static frame_parser_t parser;
static FILE *stream;
static unsigned long accepted;
static uint32_t crc;
static int seen_last; /* whether the newest frame was accepted since it was made */

static uint32_t draw(uint32_t below)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)((state >> 16) % below);
}

static void put(uint8_t byte)
{
    wire[length++] = byte;
}

static void fail(const char *what)
{
    fprintf(stderr, "%s after %lu frames\n", what, accepted);
    exit(1);
}

static int is(const struct sent *one)
{
    return one->type == parser.type && one->sequence == parser.sequence && one->size == parser.length &&
           memcmp(one->payload, parser.payload, one->size) == 0;
}

static void accept(const struct sent *newest)
{
    uint8_t head[5] = {parser.type, (uint8_t)parser.sequence, (uint8_t)(parser.sequence >> 8), (uint8_t)parser.length,
                       (uint8_t)(parser.length >> 8)};
    int known = 0;

    for (int i = 0; i < KEPT; ++i) {
        known |= is(&sent[i]);
    }
    if (!known) {
        fail("a frame was accepted that nobody sent");
    }
    seen_last |= is(newest);
    ++accepted;
    crc = frame_crc32(crc, head, sizeof head);
    crc = frame_crc32(crc, parser.payload, parser.length);
}

static void deliver(const uint8_t *data, size_t size, const struct sent *newest)
{
    if (stream != NULL && fwrite(data, 1, size, stream) != size) {
        fail("cannot write");
    }
    for (size_t i = 0; i < size; ++i) {
        if (frame_take(&parser, data[i]) == FRAME_GOOD) {
            accept(newest);
        }
    }
}

static void make(struct sent *one, unsigned long i)
{
    uint32_t kind = draw(16);

    one->type = (uint8_t)draw(256);
    one->sequence = (uint16_t)i;
    one->size = kind == 0 ? draw(FRAME_PAYLOAD + 1) : draw(64);
    for (size_t k = 0; k < one->size; ++k) {
        one->payload[k] = (uint8_t)(kind < 4 ? draw(2) : kind < 6 ? draw(255) + 1 : draw(256));
    }
    length = 0;
    frame_send(one->type, one->sequence, one->payload, one->size, put);
}

/* Damages the frame in wire[]. */
static void damage(uint32_t kind)
{
    uint32_t times = 1 + draw(4);
    uint32_t at;

    if (kind == 0) { /* truncated */
        length = draw((uint32_t)length);
        return;
    }
    for (; times != 0 && length > 1; --times) {
        at = draw((uint32_t)length);
        if (kind == 1) {
            wire[at] = (uint8_t)draw(256);
        } else if (kind == 2) {
            wire[at] = (uint8_t)(wire[at] ^ 1u << draw(8));
        } else if (kind == 3) { /* a byte lost */
            memmove(wire + at, wire + at + 1, length - at - 1);
            --length;
        } else if (length + 1 < WIRE) { /* a byte too many */
            memmove(wire + at + 1, wire + at, length - at);
            wire[at] = (uint8_t)draw(256);
            ++length;
        }
    }
}

int main(int count, char **arguments)
{
    unsigned long frames = strtoul(arguments[2], NULL, 10);
    uint8_t held[WIRE];
    size_t held_length = 0;

    state = strtoull(arguments[1], NULL, 10) * 2654435761u + 88172645463325252u;
    stream = count > 3 ? fopen(arguments[3], "wb") : NULL;
    for (unsigned long i = 0; i < frames; ++i) {
        struct sent *one = &sent[i % KEPT];
        uint32_t fate = draw(12);

        make(one, i);
        seen_last = 0;
        if (fate < 5) { /* damaged in one of five ways */
            damage(fate);
            deliver(wire, length, one);
        } else if (fate == 5 && held_length == 0) { /* overtaken by the next one */
            memcpy(held, wire, length);
            held_length = length;
            continue;
        } else if (fate != 6) { /* 6: dropped; 7: twice; all others: as it is */
            deliver(wire, length, one);
            if (fate == 7) {
                deliver(wire, length, one);
            }
            if (!seen_last) {
                fail("a whole frame was not accepted");
            }
        }
        deliver(held, held_length, one);
        held_length = 0;
    }
    printf("accepted %lu crc %08x\n", accepted, crc);
    return stream != NULL && fclose(stream) != 0;
}
