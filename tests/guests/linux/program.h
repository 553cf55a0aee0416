/*
 * The start of a small program for Linux that has no C library: system calls, output, and port I/O.
 *
 * The file that includes it has `int program(void)`, whose result is the exit status.
 */

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;

#define SYS_WRITE  1
#define SYS_EXIT   60
#define SYS_IOPERM 173

static long system_call(long number, long a, long b, long c)
{
        long result;
        __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
        return result;
}

static inline void print(const char *text)
{
        long length = 0;
        while (text[length])
                length++;
        system_call(SYS_WRITE, 1, (long)text, length);
}

/* Asks the kernel for ports.  Returns 0 if it refuses. */
static inline int may_use_ports(u16 first, u16 count)
{
        return system_call(SYS_IOPERM, first, count, 1) == 0;
}

static inline void outb(u8 value, u16 port) { __asm__ volatile("outb %0, %1" : : "a"(value), "d"(port)); }

static inline u8 inb(u16 port)
{
        u8 value;
        __asm__ volatile("inb %1, %0" : "=a"(value) : "d"(port));
        return value;
}

static int program(void);

__attribute__((force_align_arg_pointer, noreturn)) void _start(void)
{
        system_call(SYS_EXIT, program(), 0, 0);
        __builtin_unreachable();
}
