/*
 * A stream of Huffman codes, for compress.c: computes the lengths of codes from the frequencies of symbols, assigns
 * the codes, and decodes them.  It does not depend on the meaning of the symbols.
 */

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;

#define CODES_MAX 512

/* ---- Huffman codes. ------------------------------------------------------------------------------- */

struct codes {
        u32 symbols;
        u32 counts[CODES_MAX];
        u8 bits[CODES_MAX];             /* 0: does not occur */
        u32 codes[CODES_MAX];
};

/* The lengths of the codes of the symbols that occur, by joining the two rarest over and over. */
static void measure_codes(struct codes *c)
{
        static u32 weights[2 * CODES_MAX];
        static u16 parents[2 * CODES_MAX], alive[CODES_MAX], leaves[CODES_MAX];
        u32 count = 0, occurring, nodes;

        for (u32 s = 0; s < c->symbols; s++) {
                c->bits[s] = 0;
                if (c->counts[s]) {
                        weights[count] = c->counts[s];
                        leaves[count] = (u16)s;
                        alive[count] = (u16)count;
                        count++;
                }
        }
        occurring = nodes = count;
        while (count > 1) {
                for (u32 time = 0; time < 2; time++) {
                        u32 least = 0;

                        for (u32 i = 1; i < count; i++)
                                if (weights[alive[i]] < weights[alive[least]])
                                        least = i;
                        parents[alive[least]] = (u16)nodes;
                        weights[nodes] = (time ? weights[nodes] : 0) + weights[alive[least]];
                        alive[least] = alive[--count];
                }
                alive[count++] = (u16)nodes++;
        }
        for (u32 i = 0; i < occurring; i++) {
                u32 bits = 0;

                for (u32 node = i; node != nodes - 1; node = parents[node])
                        bits++;
                c->bits[leaves[i]] = (u8)(bits ? bits : 1);
        }
}

#define BITS_MAX 32

/* The codes themselves, in the order of their lengths, as RFC 1951 has them. */
static void assign_codes(struct codes *c)
{
        u32 code = 0;

        for (u32 bits = 1; bits < BITS_MAX; bits++) {
                for (u32 s = 0; s < c->symbols; s++)
                        if (c->bits[s] == bits)
                                c->codes[s] = code++;
                code <<= 1;
        }
}

/* ---- A stream of bits, the first in the highest place. -------------------------------------------- */

static u64 held;
static u32 held_bits;
static u8 *stream;

static void put(u32 value, u32 bits)
{
        held = held << bits | value;
        held_bits += bits;
        while (held_bits >= 8) {
                held_bits -= 8;
                *stream++ = (u8)(held >> held_bits);
        }
}

static u32 get(u32 bits)
{
        while (held_bits < bits) {
                held = held << 8 | *stream++;
                held_bits += 8;
        }
        held_bits -= bits;
        return (u32)(held >> held_bits & ((1ul << bits) - 1));
}

/* ---- Reading codes. ------------------------------------------------------------------------------- */

/* For each length of codes its first code, and which symbols have it. */
struct decoder {
        u32 first[BITS_MAX], counts[BITS_MAX], offsets[BITS_MAX];
        u16 symbols[CODES_MAX];
};

static void make_decoder(struct decoder *d, const struct codes *c)
{
        u32 code = 0, offset = 0;

        for (u32 bits = 1; bits < BITS_MAX; bits++) {
                d->first[bits] = code;
                d->offsets[bits] = offset;
                for (u32 s = 0; s < c->symbols; s++)
                        if (c->bits[s] == bits)
                                d->symbols[offset++] = (u16)s;
                d->counts[bits] = offset - d->offsets[bits];
                code = (code + d->counts[bits]) << 1;
        }
}

static u32 get_symbol(const struct decoder *d)
{
        u32 code = 0;

        for (u32 bits = 1; bits < BITS_MAX; bits++) {
                code = code << 1 | get(1);
                if (code - d->first[bits] < d->counts[bits])
                        return d->symbols[d->offsets[bits] + code - d->first[bits]];
        }
        return 0;
}
