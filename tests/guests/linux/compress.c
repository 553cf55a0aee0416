/*
 * compress: a Linux program that computes, and prints how long that took.  See ../README.md.
 *
 *      compress COUNT  COUNT times packs SIZE bytes of text and unpacks them; prints `compress: N cycles`, by
 *                      RDTSC; status 0, or 1 if the unpacked text differs from the original, or the packed text
 *                      does not have the known checksum
 *
 * The work is divided into short pieces. The cycles are the sum of each piece's minimum over COUNT times: a piece is
 * so short that it runs undisturbed at least once.
 *
 * Packing works as in gzip: repetitions in a window of 32 KiB are found through chains of equal hashes, and the
 * result is coded by Huffman, block by block. The format is specific to this program.
 *
 * It contains its own C library, so it builds without libc.a.
 */

#include "huffman.h"

#define SIZE       (2 << 20)

/* A checksum of the packed bytes; the same wherever this program runs. */
#define PACKED_SUM 0xce9eac73u

#define SYS_WRITE  1
#define SYS_EXIT   60

static long system_call(long number, long a, long b, long c)
{
        long result;
        __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
        return result;
}

static u64 cycles(void)
{
        u32 low, high;
        __asm__ volatile("lfence; rdtsc" : "=a"(low), "=d"(high) : : "memory");
        return (u64)high << 32 | low;
}

static u8 text[SIZE], unpacked[SIZE], packed[SIZE + SIZE / 2];

/* ---- Time. ---------------------------------------------------------------------------------------- */

/* Bytes packed or unpacked; more of them if a repetition continues. */
#define PIECE      4096

static u64 least[2 * SIZE / PIECE], began;
static u32 piece, piece_end;

static void begin_pieces(void)
{
        piece_end = PIECE;
        began = cycles();
}

/* A piece ends where `at` has come to its end; when all is done, in any case. */
static void end_piece(u32 at)
{
        u64 took;

        if (at < piece_end && at < SIZE)
                return;
        took = cycles() - began;
        if (!least[piece] || took < least[piece])
                least[piece] = took;
        piece++;
        piece_end += PIECE;
        began = cycles();
}

/* ---- The text: words that are as often as those of a language, some of them in capitals. --------- */

static u32 seed;

static u32 random(u32 below)
{
        seed = seed * 1664525 + 1013904223;
        return (u32)((u64)seed * below >> 32);
}

static void make_text(void)
{
        static u8 words[1024][12];
        static u8 lengths[1024];

        seed = 2007;
        for (u32 w = 0; w < 1024; w++) {
                lengths[w] = (u8)(2 + random(4) + random(6));
                for (u32 i = 0; i < lengths[w]; i++)
                        words[w][i] = (u8)('a' + random(1 + random(26)));
        }
        for (u32 at = 0; at < SIZE;) {
                u32 w = random(1 + random(1 + random(1024)));
                u32 capital = random(16) == 0 ? 'a' - 'A' : 0;

                for (u32 i = 0; i < lengths[w] && at < SIZE; i++)
                        text[at++] = (u8)(words[w][i] - (i == 0 ? capital : 0));
                if (at < SIZE)
                        text[at++] = random(12) ? ' ' : random(3) ? ',' : '\n';
        }
}

/* ---- Packing. ------------------------------------------------------------------------------------- */

/* 0..255 are bytes, then lengths of repetitions; then distances, by their number of bits. */
#define LENGTH_MIN 4
#define LENGTH_MAX 67
#define SYMBOLS    (256 + LENGTH_MAX - LENGTH_MIN + 1)
#define DISTANCES  16

#define WINDOW     (1u << 15)
#define HASHES     (1u << 14)
#define CHAIN_MAX  32
#define BLOCK      16384                /* tokens */

struct token {
        u16 symbol;
        u16 distance;                   /* of a repetition */
};

static struct codes literals, distances;
static struct token tokens[BLOCK];
static u32 heads[HASHES], chains[WINDOW];       /* positions, plus 1 */

static u32 bits_of(u32 number)
{
        return number ? 32 - (u32)__builtin_clz(number) : 0;
}

static u32 hash(const u8 *at)
{
        u32 four = at[0] | (u32)at[1] << 8 | (u32)at[2] << 16 | (u32)at[3] << 24;
        return four * 2654435761u >> 18;
}

/* The longest repetition at `at` of what was before, if one is LENGTH_MIN or longer. */
static u32 longest(u32 at, u32 *distance)
{
        u32 limit = SIZE - at < LENGTH_MAX ? SIZE - at : LENGTH_MAX, best = 0, tries = CHAIN_MAX;

        for (u32 head = heads[hash(text + at)]; head && at - (head - 1) < WINDOW && tries; tries--) {
                u32 from = head - 1, length = 0;

                while (length < limit && text[from + length] == text[at + length])
                        length++;
                if (length > best) {
                        best = length;
                        *distance = at - from;
                }
                head = chains[from % WINDOW];
        }
        return best >= LENGTH_MIN ? best : 0;
}

static void remember(u32 at)
{
        u32 h;

        if (at + 4 > SIZE)
                return;
        h = hash(text + at);
        chains[at % WINDOW] = heads[h];
        heads[h] = at + 1;
}

static void put_block(u32 count)
{
        measure_codes(&literals);
        measure_codes(&distances);
        assign_codes(&literals);
        assign_codes(&distances);
        put(count, 16);
        for (u32 s = 0; s < SYMBOLS; s++)
                put(literals.bits[s], 5);
        for (u32 s = 0; s < DISTANCES; s++)
                put(distances.bits[s], 5);
        for (u32 t = 0; t < count; t++) {
                u32 symbol = tokens[t].symbol, distance = tokens[t].distance, bits = bits_of(distance);

                put(literals.codes[symbol], literals.bits[symbol]);
                if (symbol < 256)
                        continue;
                put(distances.codes[bits], distances.bits[bits]);
                put(distance - (1u << (bits - 1)), bits - 1);
        }
}

static void forget_counts(void)
{
        literals.symbols = SYMBOLS;
        distances.symbols = DISTANCES;
        for (u32 s = 0; s < SYMBOLS; s++)
                literals.counts[s] = 0;
        for (u32 s = 0; s < DISTANCES; s++)
                distances.counts[s] = 0;
}

static u64 pack(void)
{
        u32 count = 0;

        for (u32 h = 0; h < HASHES; h++)
                heads[h] = 0;
        held_bits = 0;
        stream = packed;
        forget_counts();
        begin_pieces();
        for (u32 at = 0; at < SIZE;) {
                u32 distance = 0, length = at + 4 <= SIZE ? longest(at, &distance) : 0;
                struct token token = { (u16)(length ? 256 + length - LENGTH_MIN : text[at]), (u16)distance };

                tokens[count++] = token;
                literals.counts[token.symbol]++;
                if (length)
                        distances.counts[bits_of(distance)]++;
                for (u32 end = at + (length ? length : 1); at < end; at++)
                        remember(at);
                if (count == BLOCK || at == SIZE) {
                        put_block(count);
                        count = 0;
                        forget_counts();
                }
                end_piece(at);
        }
        put(0, 7);
        return (u64)(stream - packed);
}

/* ---- Unpacking. ----------------------------------------------------------------------------------- */

static void unpack(void)
{
        static struct decoder literal, distance;
        u32 at = 0;

        held_bits = 0;
        stream = packed;
        begin_pieces();
        while (at < SIZE) {
                u32 count = get(16);

                for (u32 s = 0; s < SYMBOLS; s++)
                        literals.bits[s] = (u8)get(5);
                for (u32 s = 0; s < DISTANCES; s++)
                        distances.bits[s] = (u8)get(5);
                make_decoder(&literal, &literals);
                make_decoder(&distance, &distances);
                while (count-- && at < SIZE) {
                        u32 symbol = get_symbol(&literal), bits, back;

                        if (symbol < 256) {
                                unpacked[at++] = (u8)symbol;
                        } else {
                                bits = get_symbol(&distance);
                                back = 1u << (bits - 1) | get(bits - 1);
                                for (u32 end = at + symbol - 256 + LENGTH_MIN; at < end && at < SIZE; at++)
                                        unpacked[at] = back <= at ? unpacked[at - back] : 0;
                        }
                        end_piece(at);
                }
        }
}

/* ---- What is said. -------------------------------------------------------------------------------- */

/* FNV-1a. */
static u32 sum(const u8 *bytes, u64 count)
{
        u32 sum = 2166136261u;

        while (count--)
                sum = (sum ^ *bytes++) * 16777619u;
        return sum;
}

static void say(const char *before, u64 number, const char *after)
{
        char line[80], digits[20];
        u32 length = 0, count = 0;

        while (*before)
                line[length++] = *before++;
        do
                digits[count++] = (char)('0' + number % 10);
        while (number /= 10);
        while (count)
                line[length++] = digits[--count];
        while (*after)
                line[length++] = *after++;
        system_call(SYS_WRITE, 1, (long)line, length);
}

static int same(void)
{
        for (u32 at = 0; at < SIZE; at++)
                if (text[at] != unpacked[at])
                        return 0;
        return 1;
}

static long once(void)
{
        u64 size;

        piece = 0;
        size = pack();
        unpack();
        if (sum(packed, size) == PACKED_SUM && same())
                return 0;
        say("compress: wrong: the sum is ", sum(packed, size), "\n");
        return 1;
}

/* The stack at the entry (System V ABI for x86-64, 3.4.1): the count of arguments comes first. */
__attribute__((used)) void program(const long *stack)
{
        const char *digit = stack[0] > 1 ? (const char *)stack[2] : "1";
        long count = 0, status = 0;
        u64 took = 0;

        while (*digit >= '0' && *digit <= '9')
                count = 10 * count + *digit++ - '0';
        make_text();
        while (count-- && !status)
                status = once();
        for (u32 i = 0; i < piece; i++)
                took += least[i];
        if (!status)
                say("compress: ", took, " cycles\n");
        system_call(SYS_EXIT, status, 0, 0);
}

__asm__(".globl _start\n"
        "_start: xor %ebp, %ebp\n"
        "        mov %rsp, %rdi\n"
        "        and $-16, %rsp\n"
        "        call program\n");
